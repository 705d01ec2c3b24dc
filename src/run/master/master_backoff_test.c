/* Throttle arithmetic. */
#include "master_backoff.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

enum { THROTTLE = 60000 };

static void test_row_of_failures(void **state)
{
    static const uint64_t waits[] = {0, 1000, 2000, 4000, 8000, 16000, 32000, 60000, 60000};
    struct master_backoff b = {0};

    for (size_t i = 0; i < sizeof(waits) / sizeof(waits[0]); i++) {
        assert_int_equal(master_backoff_failed(&b, 100, 0, false, THROTTLE), waits[i]);
        assert_int_equal(b.not_before, 100 + waits[i]);
    }
    for (size_t i = 0; i < 1000; i++)
        assert_int_equal(master_backoff_failed(&b, 100, 0, false, THROTTLE), THROTTLE);
}

static void test_long_life_begins_anew(void **state)
{
    struct master_backoff b = {0};

    for (size_t i = 0; i < 5; i++)
        master_backoff_failed(&b, 0, MASTER_HEALTHY_MS - 1, false, THROTTLE);
    assert_int_equal(b.failures, 5);
    assert_int_equal(master_backoff_failed(&b, 20000, MASTER_HEALTHY_MS, false, THROTTLE), 0);
    assert_int_equal(b.not_before, 20000);
    assert_int_equal(master_backoff_failed(&b, 20000, 10, false, THROTTLE), 1000);
}

static void test_killed_from_outside_waits_a_second_at_most(void **state)
{
    struct master_backoff b = {0};

    assert_int_equal(master_backoff_failed(&b, 0, 1, true, THROTTLE), 0);
    for (size_t i = 0; i < 100; i++)
        assert_int_equal(master_backoff_failed(&b, 0, 1, true, THROTTLE), 1000);
}

static void test_throttle_time_is_the_limit(void **state)
{
    struct master_backoff b = {0};

    master_backoff_failed(&b, 0, 0, false, 1500);
    assert_int_equal(master_backoff_failed(&b, 0, 0, false, 1500), 1000);
    assert_int_equal(master_backoff_failed(&b, 0, 0, false, 1500), 1500);
}

static void test_two_deaths_at_once_keep_the_later_time(void **state)
{
    struct master_backoff b = {0};

    for (size_t i = 0; i < 4; i++)
        master_backoff_failed(&b, 1000, 0, false, THROTTLE);
    assert_int_equal(b.not_before, 5000);
    master_backoff_failed(&b, 1001, MASTER_HEALTHY_MS, false, THROTTLE);
    assert_int_equal(b.not_before, 5000);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_row_of_failures),
        cmocka_unit_test(test_long_life_begins_anew),
        cmocka_unit_test(test_killed_from_outside_waits_a_second_at_most),
        cmocka_unit_test(test_throttle_time_is_the_limit),
        cmocka_unit_test(test_two_deaths_at_once_keep_the_later_time),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
