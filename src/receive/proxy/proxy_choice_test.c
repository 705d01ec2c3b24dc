/* The choice of an endpoint, with a clock of its own. */
#include "proxy_choice.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { KB = 1024, MB = 1024 * 1024, ENDPOINTS = 3 };

static const struct proxy_rules rules = {
    .ejection_ms = 1000, .ejection_limit_ms = 60000, .slow_start_ms = 5000};

struct world {
    struct proxy_entry *at[ENDPOINTS];
    uint64_t now, turn;
};

static int open_world(void **state)
{
    struct world *w = calloc(1, sizeof(*w));

    for (size_t i = 0; i < ENDPOINTS; i++)
        w->at[i] = calloc(1, sizeof(*w->at[i]));
    w->now = 1000000;
    *state = w;
    return 0;
}

static int close_world(void **state)
{
    struct world *w = *state;

    for (size_t i = 0; i < ENDPOINTS; i++)
        free(w->at[i]);
    free(w);
    return 0;
}

static size_t choose(struct world *w, const struct proxy_rules *by, uint64_t bytes, bool is_patient)
{
    return proxy_choose(by, w->at, ENDPOINTS, &(struct proxy_wish){.bytes = bytes, .is_patient = is_patient},
                        w->now);
}

static void give(struct world *w, size_t i, uint64_t bytes)
{
    w->at[i]->messages++;
    w->at[i]->bytes += bytes;
    w->at[i]->turn = ++w->turn;
}

static void test_idle_endpoints_take_turns(void **state)
{
    struct world *w = *state;

    for (size_t i = 0; i < 9; i++) {
        size_t chosen = choose(w, &rules, KB, true);

        assert_int_equal(chosen, i % ENDPOINTS);
        w->at[chosen]->turn = ++w->turn;
    }
}

static void test_least_work_by_bytes(void **state)
{
    struct world *w = *state;

    give(w, 0, 10 * MB);
    give(w, 1, KB);
    give(w, 1, KB);
    give(w, 2, KB);
    assert_int_equal(choose(w, &rules, KB, true), 2);
    give(w, 2, 200 * KB);
    assert_int_equal(choose(w, &rules, KB, true), 1);
    for (int i = 0; i < 2000; i++) /* small messages are work too */
        give(w, 1, 0);
    assert_int_equal(choose(w, &rules, KB, true), 2);
}

static void test_no_more_than_its_concurrency(void **state)
{
    struct world *w = *state;
    struct proxy_rules by = rules;

    by.concurrency = 2;
    for (size_t i = 0; i < 2 * (size_t)ENDPOINTS; i++)
        give(w, choose(w, &by, KB, true), KB);
    assert_true(choose(w, &by, KB, true) == PROXY_NO_CHOICE);
    assert_true(choose(w, &by, KB, false) == PROXY_NO_CHOICE);
    w->at[1]->messages--;
    assert_int_equal(choose(w, &by, KB, true), 1);
}

static void test_ejection_doubles_up_to_its_limit(void **state)
{
    static const uint64_t waits[] = {1000, 2000, 4000, 8000, 16000, 32000, 60000, 60000};
    struct world *w = *state;
    struct proxy_entry *e = w->at[0];

    for (size_t i = 0; i < sizeof(waits) / sizeof(waits[0]); i++) {
        assert_int_equal(proxy_entry_failed(e, &rules, w->now), i == 0);
        assert_int_equal(e->ejected_until - w->now, waits[i]);
        assert_false(proxy_wants_probe(e, e->ejected_until - 1));
        w->now = e->ejected_until;
        assert_true(proxy_wants_probe(e, w->now));
    }
    assert_int_equal(e->ejections, 1);
    e->fails = UINT32_MAX - 1;
    proxy_entry_failed(e, &rules, w->now);
    assert_int_equal(e->ejected_until - w->now, 60000);
}

static void test_many_at_once_are_one_failure(void **state)
{
    struct world *w = *state;

    assert_true(proxy_entry_failed(w->at[0], &rules, w->now));
    for (int i = 0; i < 100; i++)
        assert_false(proxy_entry_failed(w->at[0], &rules, ++w->now));
    assert_int_equal(w->at[0]->fails, 1);
}

/* Back, and gone again before it answered anything: the next ejection is longer. */
static void test_greeting_alone_forgets_no_failure(void **state)
{
    struct world *w = *state;
    struct proxy_entry *e = w->at[0];

    proxy_entry_failed(e, &rules, w->now);
    assert_true(proxy_entry_greeted(e, w->now += 1000));
    assert_false(proxy_entry_greeted(e, w->now));
    assert_int_equal(proxy_entry_state(e, rules.slow_start_ms, w->now), PROXY_STARTING);
    assert_true(proxy_entry_failed(e, &rules, w->now));
    assert_int_equal(e->ejected_until - w->now, 2000);
}

static void test_ejected_ones_get_nothing_while_another_is_up(void **state)
{
    struct world *w = *state;

    proxy_entry_failed(w->at[0], &rules, w->now);
    proxy_entry_failed(w->at[1], &rules, w->now);
    give(w, 2, 100 * MB);
    for (int i = 0; i < 10; i++)
        assert_int_equal(choose(w, &rules, KB, i % 2), 2);
    w->now += 100000; /* nor when their time is over: a probe brings them back */
    assert_int_equal(choose(w, &rules, KB, true), 2);
}

static void test_all_ejected_the_least_recent_is_tried(void **state)
{
    struct world *w = *state;

    proxy_entry_failed(w->at[1], &rules, w->now++);
    proxy_entry_failed(w->at[2], &rules, w->now++);
    proxy_entry_failed(w->at[0], &rules, w->now++);
    assert_int_equal(choose(w, &rules, KB, true), 1);
    assert_int_equal(choose(w, &rules, KB, true), 2); /* patient ones do not all try the same */
    assert_int_equal(choose(w, &rules, KB, true), 0);
    assert_true(choose(w, &rules, KB, true) == PROXY_NO_CHOICE);
    assert_int_equal(choose(w, &rules, KB, false), 1); /* one that cannot wait does */
    w->now += PROXY_TRIAL_STEP_MS;
    assert_int_equal(choose(w, &rules, KB, true), 1);
}

static void test_the_one_that_just_failed_is_avoided(void **state)
{
    struct world *w = *state;
    struct proxy_wish wish = {.avoid = w->at[0], .is_patient = true};

    give(w, 1, MB);
    give(w, 2, MB);
    assert_int_equal(proxy_choose(&rules, w->at, ENDPOINTS, &wish, w->now), 1);
    assert_true(proxy_choose(&rules, w->at, 1, &wish, w->now) == PROXY_NO_CHOICE);
}

/* Under a steady load with one place to spare, the share of the one that came back grows. */
static void test_slow_start(void **state)
{
    struct world *w = *state;
    unsigned got[2] = {0};

    proxy_entry_failed(w->at[0], &rules, w->now);
    proxy_entry_greeted(w->at[0], w->now += 1000);
    for (unsigned half = 0; half < 2; half++) {
        for (size_t i = 0; i < ENDPOINTS; i++)
            w->at[i]->messages = 0, w->at[i]->bytes = 0;
        w->now += half * rules.slow_start_ms;
        for (unsigned i = 0; i < 90; i++)
            give(w, choose(w, &rules, KB, true), KB);
        got[half] = w->at[0]->messages;
    }
    assert_in_range(got[0], 2, 8);
    assert_int_equal(got[1], 30);
    assert_int_equal(proxy_entry_state(w->at[0], rules.slow_start_ms, w->now), PROXY_UP);
}

/* Three filters, one ten times as fast as another: each gets what it can do. A simulation of 60 s. */
static void test_unequal_speeds(void **state)
{
    static const uint64_t service_ms[ENDPOINTS] = {10, 30, 100};
    struct world *w = *state;
    uint64_t free_at[ENDPOINTS] = {0};
    unsigned done[ENDPOINTS] = {0};

    for (uint64_t ms = 0; ms < 60000; ms++) {
        for (size_t i = 0; i < ENDPOINTS; i++)
            if (w->at[i]->messages > 0 && ms >= free_at[i]) {
                w->at[i]->messages--;
                w->at[i]->bytes -= KB;
                done[i]++;
                free_at[i] = ms + service_ms[i];
            }
        for (int n = 0; n < 1 && w->at[0]->messages + w->at[1]->messages + w->at[2]->messages < 30; n++) {
            size_t i = choose(w, &rules, KB, true);

            if (w->at[i]->messages == 0)
                free_at[i] = ms + service_ms[i];
            give(w, i, KB);
        }
    }
    assert_in_range(done[0], 5700, 6000);
    assert_in_range(done[1], 1900, 2000);
    assert_in_range(done[2], 560, 600);
}

#define WORLD_TEST(name) cmocka_unit_test_setup_teardown(name, open_world, close_world)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WORLD_TEST(test_idle_endpoints_take_turns),
        WORLD_TEST(test_least_work_by_bytes),
        WORLD_TEST(test_no_more_than_its_concurrency),
        WORLD_TEST(test_ejection_doubles_up_to_its_limit),
        WORLD_TEST(test_many_at_once_are_one_failure),
        WORLD_TEST(test_greeting_alone_forgets_no_failure),
        WORLD_TEST(test_ejected_ones_get_nothing_while_another_is_up),
        WORLD_TEST(test_all_ejected_the_least_recent_is_tried),
        WORLD_TEST(test_the_one_that_just_failed_is_avoided),
        WORLD_TEST(test_slow_start),
        WORLD_TEST(test_unequal_speeds),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
