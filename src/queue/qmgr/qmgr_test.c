/* qmgr: back-off, windows and grouping as tables of cases. */
#include "mem.h"
#include "qmgr_group.h"
#include "qmgr_time.h"
#include "qmgr_window.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static void test_backoff(void **state)
{
    static const struct {
        uint64_t arrived, now, wait;
    } cases[] = {
        {1000, 1000, 300},  {1000, 1299, 300},  {1000, 1300, 300}, {1000, 1301, 301},     {1000, 3000, 2000},
        {1000, 5000, 4000}, {1000, 5001, 4000}, {1000, 900, 300},  {0, UINT64_MAX, 4000},
    };
    size_t i;

    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_int_equal(qmgr_backoff(cases[i].arrived, cases[i].now, 300, 4000), cases[i].wait);
    assert_int_equal(qmgr_backoff(0, 100, 500, 50), 500); /* contradictory limits: the lower one wins */
}

static void test_expiry(void **state)
{
    static const struct {
        uint64_t arrived, now, lifetime;
        bool is_expired;
    } cases[] = {
        {1000, 1000, 0, true},
        {1000, 1099, 100, false},
        {1000, 1100, 100, true},
        {1000, 900, 100, false},
    };
    size_t i;

    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_int_equal(qmgr_is_expired(cases[i].arrived, cases[i].now, cases[i].lifetime),
                         cases[i].is_expired);
}

static void test_feedback(void **state)
{
    static const struct {
        const char *text;
        bool is_good;
        double base;
        enum qmgr_feedback_by by;
    } cases[] = {
        {"1", true, 1, QMGR_FEEDBACK_FIXED},
        {"0.5", true, 0.5, QMGR_FEEDBACK_FIXED},
        {"1/concurrency", true, 1, QMGR_FEEDBACK_CONCURRENCY},
        {"1 / sqrt_concurrency", true, 1, QMGR_FEEDBACK_SQRT},
        {"", false},
        {"2", false},
        {"-1", false},
        {"nan", false},
        {"1 concurrency", false},
        {"1/x", false},
    };
    struct qmgr_feedback f;
    size_t i;

    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(qmgr_feedback_parse(cases[i].text, &f), cases[i].is_good);
        if (cases[i].is_good) {
            assert_true(f.base == cases[i].base);
            assert_int_equal(f.by, cases[i].by);
        }
    }
}

/* A story of successes (+), failures (-) and what the window is after it. */
static void test_window(void **state)
{
    static const struct {
        const char *story, *positive, *negative;
        long limit, busy, size;
        bool is_dead;
    } cases[] = {
        {"", "1", "1", 20, 5, 5, false},
        {"+", "1", "1", 20, 5, 6, false},
        {"+++++++++++++++++++", "1", "1", 20, 20, 20, false},
        {"+++++++++", "1", "1", 7, 20, 7, false},
        {"+++++++++", "1", "1", 0, 20, 14, false},
        {"+++++++++", "1", "1", 20, 1, 6, false}, /* not beyond what is used */
        {"+++++", "1/concurrency", "1", 20, 5, 6, false},
        {"++++", "1/concurrency", "1", 20, 5, 5, false},
        {"-", "1", "1", 20, 5, 4, false},
        {"-+-", "1", "1", 20, 5, 4, false},
        {"--", "1", "0.5", 20, 5, 4, false},
        {"---", "1", "1", 20, 5, 5, true}, /* 1/5 + 1/4 + 1/3 + ... */
        {"----", "1", "1/concurrency", 20, 5, 5, false},
        {"-----", "1", "1/concurrency", 20, 5, 5, true},
        {"-", "1", "1", 1, 1, 1, true},
    };
    size_t i;

    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct qmgr_window_rules rules = {.initial = 5, .limit = cases[i].limit, .cohort_limit = 1};
        struct qmgr_window w;
        const char *p;
        bool is_dead = false;

        assert_true(qmgr_feedback_parse(cases[i].positive, &rules.positive));
        assert_true(qmgr_feedback_parse(cases[i].negative, &rules.negative));
        if (strcmp(cases[i].story, "---") == 0)
            rules.cohort_limit = 0.7;
        qmgr_window_reset(&w, &rules);
        for (p = cases[i].story; *p; p++) {
            if (*p == '+')
                qmgr_window_success(&w, &rules, cases[i].busy);
            else
                is_dead = qmgr_window_failure(&w, &rules);
        }
        if (w.size != cases[i].size || is_dead != cases[i].is_dead)
            fail_msg("case %zu: window %ld, dead %d", i, w.size, is_dead);
    }
}

static void test_groups(void **state)
{
    static const struct qmgr_route routes[] = {
        {"smtp", "b.example"}, {"virtual", "a.example"}, {"smtp", "B.example"}, {NULL, NULL, "5.1.3", "bad"},
        {"smtp", "a.example"}, {"virtual", "a.example"}, {"smtp", "b.example"},
    };
    static const struct {
        const char *transport, *nexthop;
        size_t n, at[3];
    } want[] = {{"smtp", "b.example", 3, {0, 2, 6}},
                {"virtual", "a.example", 2, {1, 5}},
                {"smtp", "a.example", 1, {4}}};
    void *ctx = talloc_named_const(NULL, 0, "test");
    struct qmgr_group_list list = qmgr_group(ctx, routes, 7);
    size_t i, j;

    assert_int_equal(list.n, 3);
    for (i = 0; i < 3; i++) {
        assert_string_equal(list.items[i].transport, want[i].transport);
        assert_string_equal(list.items[i].nexthop, want[i].nexthop);
        assert_int_equal(list.items[i].n, want[i].n);
        for (j = 0; j < want[i].n; j++)
            assert_int_equal(list.items[i].at[j], want[i].at[j]);
    }
    assert_int_equal(qmgr_group(ctx, routes, 0).n, 0);
    talloc_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_backoff), cmocka_unit_test(test_expiry), cmocka_unit_test(test_feedback),
        cmocka_unit_test(test_window),  cmocka_unit_test(test_groups),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
