/* The parts that know nothing of messages: prediction, limit, ladder. */
#include "admission_ladder.h"
#include "admission_limit.h"
#include "admission_predict.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

/* ---- prediction ---- */

static void test_prediction_learns_a_line(void **state)
{
    struct admission_predict p = {0};

    assert_int_equal(admission_predict_ms(&p, 4096), ADMISSION_FIRST_GUESS_MS);
    for (uint32_t i = 0; i < 400; i++)
        admission_predict_add(&p, (1 + i % 100) * 1024, 200 + 3 * (1 + i % 100));
    assert_in_range(admission_predict_ms(&p, 10 * 1024), 228, 232);
    assert_in_range(admission_predict_ms(&p, 1000 * 1024), 3190, 3210);
    assert_in_range(admission_predict_ms(&p, 0), 330, 400);
    assert_in_range(admission_predict_error_ms(&p), 0, 20);
    assert_true(admission_predict_is_sane(&p));
}

static void test_prediction_bears_anything(void **state)
{
    struct admission_predict p = {0};

    for (int i = 0; i < 300; i++)
        admission_predict_add(&p, 4096, 500);
    assert_int_equal(admission_predict_ms(&p, 4096), 500);
    assert_int_equal(admission_predict_ms(&p, UINT64_MAX), 500); /* sizes have not mattered */
    admission_predict_add(&p, UINT64_MAX, UINT32_MAX);
    assert_in_range(admission_predict_ms(&p, UINT64_MAX), 1, ADMISSION_LONGEST_MS);
    assert_in_range(admission_predict_ms(&p, 1), 1, ADMISSION_LONGEST_MS);
    for (uint32_t i = 0; i < 1000; i++)
        admission_predict_add(&p, (100 - i % 100) * 10240, i % 100); /* larger is faster: not believed */
    assert_in_range(admission_predict_ms(&p, 1 << 30), 1, 60);
    p.xx = -1;
    assert_false(admission_predict_is_sane(&p));
}

static void test_prediction_follows_change(void **state)
{
    struct admission_predict p = {0};

    for (int i = 0; i < 1000; i++)
        admission_predict_add(&p, 4096, 100);
    for (int i = 0; i < 300; i++)
        admission_predict_add(&p, 4096, 1000);
    assert_in_range(admission_predict_ms(&p, 4096), 900, 1000);
}

/* ---- limit ---- */

/* A filter that does `capacity` scans at once at full speed; more share it. Each scan's time varies. */
static uint32_t settle(struct admission_limit *l, double capacity, uint32_t scans, uint64_t *now)
{
    uint64_t random = 7, sum = 0;
    double time = (double)*now;

    for (uint32_t i = 0; i < scans; i++) {
        double rate = (l->now < capacity ? l->now : capacity) / 500.0; /* a millisecond */

        random = random * 6364136223846793005u + 1442695040888963407u;
        time += (0.5 + (double)(random >> 40) / (1 << 24)) / rate;
        admission_limit_done(l, true, (uint64_t)time);
        assert_in_range(l->now, l->least, l->most);
        if (i >= scans / 2)
            sum += l->now;
    }
    *now = (uint64_t)time;
    return (uint32_t)(sum / (scans - scans / 2));
}

static void test_limit_is_found(void **state)
{
    static const double capacities[] = {2, 8, 20, 60};

    for (size_t i = 0; i < 4; i++) {
        struct admission_limit l = {0};
        uint64_t now = 1000;

        admission_limit_set(&l, true, 1, 100, now);
        assert_int_equal(l.now, 1);
        assert_in_range(settle(&l, capacities[i], 40000, &now), (uint32_t)(capacities[i] * 0.8),
                        (uint32_t)(capacities[i] * 1.5) + 1);
        assert_true(admission_limit_is_sane(&l));
    }
}

static void test_limit_follows_change(void **state)
{
    struct admission_limit l = {0};
    uint64_t now = 1000;

    admission_limit_set(&l, true, 2, 100, now);
    settle(&l, 40, 40000, &now);
    assert_in_range(settle(&l, 10, 60000, &now), 8, 16);
    assert_in_range(settle(&l, 40, 60000, &now), 30, 60);
}

static void test_limit_never_beyond_bounds(void **state)
{
    struct admission_limit l = {0};
    uint64_t now = 1000;

    admission_limit_set(&l, true, 4, 10, now);
    assert_in_range(settle(&l, 1000, 20000, &now), 9, 10);
    assert_in_range(settle(&l, 1, 20000, &now), 4, 6);
    admission_limit_set(&l, true, 1, 3, now);
    assert_int_equal(l.now, 3);
    admission_limit_set(&l, false, 1, 7, now);
    settle(&l, 1, 1000, &now);
    assert_int_equal(l.now, 7);
}

static void test_limit_learns_nothing_from_leisure(void **state)
{
    struct admission_limit l = {0};

    admission_limit_set(&l, true, 5, 50, 1000);
    for (uint64_t i = 0; i < 10000; i++)
        admission_limit_done(&l, false, 1000 + i * 10);
    assert_int_equal(l.now, 5);
}

/* ---- ladder ---- */

static void test_ladder_text(void **state)
{
    static const struct {
        const char *text;
        uint32_t mark[ADMISSION_STEPS];
        const char *fault;
    } cases[] = {
        {"", {0}, NULL},
        {"full", {0}, NULL},
        {"full, 451 100", {[ADMISSION_451] = 100}, NULL},
        {"cheap 50%, HOLD 80%, 451 150, 421 400", {0, 50, 80, 150, 400}, NULL},
        {"full, soft 3", {0}, "unknown step \"soft\""},
        {"hold 80, cheap 90", {0}, "step \"cheap\" is out of order"},
        {"hold 80, hold 90", {0}, "step \"hold\" is out of order"},
        {"hold", {0}, "step \"hold\" needs a percentage above 0"},
        {"hold 0", {0}, "step \"hold\" needs a percentage above 0"},
        {"hold -5", {0}, "step \"hold\" needs a percentage above 0"},
        {"hold 100001", {0}, "step \"hold\" needs a percentage above 0"},
        {"hold 99999999999999999999", {0}, "step \"hold\" needs a percentage above 0"},
        {"hold 80, 451 80", {0}, "step \"451\" needs a percentage above 80"},
        {"hold 80, full", {0}, "step \"full\" is out of order"},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct admission_ladder l;
        struct error *e = admission_ladder_parse(cases[i].text, &l);

        if (cases[i].fault != NULL) {
            assert_non_null(e);
            assert_string_equal(e->text, cases[i].fault);
            error_free(&e);
            continue;
        }
        assert_null(e);
        assert_memory_equal(l.mark, cases[i].mark, sizeof(l.mark));
    }
}

static void test_ladder_beside(void **state)
{
    static const struct {
        const char *text;
        enum admission_step on, way;
    } cases[] = {
        {"full", ADMISSION_FULL, ADMISSION_FULL},
        {"full, 451 100", ADMISSION_FULL, ADMISSION_FULL},
        {"full, 421 100", ADMISSION_FULL, ADMISSION_FULL},
        {"full, hold 80, 451 150", ADMISSION_FULL, ADMISSION_HOLD},
        {"full, cheap 50, hold 80", ADMISSION_FULL, ADMISSION_CHEAP},
        {"full, cheap 50, hold 80", ADMISSION_HOLD, ADMISSION_HOLD},
        {"full, hold 80, 421 150", ADMISSION_421, ADMISSION_421},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct admission_ladder l;

        assert_null(admission_ladder_parse(cases[i].text, &l));
        assert_int_equal(admission_ladder_beside(&l, cases[i].on), cases[i].way);
    }
}

static void test_ladder_hysteresis(void **state)
{
    struct admission_ladder l;
    unsigned changes = 0;
    enum admission_step step = ADMISSION_FULL;
    uint64_t since = 0;

    assert_null(admission_ladder_parse("hold 80, 451 150, 421 400", &l));
    assert_int_equal(admission_ladder_step(&l, ADMISSION_FULL, 0, 79, 0), ADMISSION_FULL);
    assert_int_equal(admission_ladder_step(&l, ADMISSION_FULL, 0, 80, 0), ADMISSION_HOLD);
    assert_int_equal(admission_ladder_step(&l, ADMISSION_FULL, 0, 1000, 0), ADMISSION_421);
    assert_int_equal(admission_ladder_step(&l, ADMISSION_HOLD, 0, 60, ADMISSION_STEP_MS), ADMISSION_HOLD);
    assert_int_equal(admission_ladder_step(&l, ADMISSION_HOLD, 0, 59, ADMISSION_STEP_MS - 1), ADMISSION_HOLD);
    assert_int_equal(admission_ladder_step(&l, ADMISSION_HOLD, 0, 59, ADMISSION_STEP_MS), ADMISSION_FULL);
    assert_int_equal(admission_ladder_step(&l, ADMISSION_421, 0, 0, ADMISSION_STEP_MS), ADMISSION_451);
    assert_int_equal(admission_ladder_step(&l, ADMISSION_CHEAP, 0, 0, 0), ADMISSION_FULL); /* reload: gone */
    for (uint64_t now = 0; now < 60000; now += 10) {
        enum admission_step next = admission_ladder_step(&l, step, since, now % 20 ? 85 : 75, now);

        changes += next != step;
        since = next != step ? now : since;
        step = next;
    }
    assert_int_equal(changes, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_prediction_learns_a_line),
        cmocka_unit_test(test_prediction_bears_anything),
        cmocka_unit_test(test_prediction_follows_change),
        cmocka_unit_test(test_limit_is_found),
        cmocka_unit_test(test_limit_follows_change),
        cmocka_unit_test(test_limit_never_beyond_bounds),
        cmocka_unit_test(test_limit_learns_nothing_from_leisure),
        cmocka_unit_test(test_ladder_text),
        cmocka_unit_test(test_ladder_beside),
        cmocka_unit_test(test_ladder_hysteresis),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
