/*
 * The whole of the decisions under load, with a simulated clock: 20 slots of half a second, clients that wait
 * 30 s after end of data and try again after a pause, from as much as the filter can do to 25 times of it.
 * The filter keeps its full throughput, nobody is answered late, nobody starves.
 */
#include "admission_sim.h"
#include "mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void expect(const struct load *load, double least_useful)
{
    struct sim *sim = sim_run(load);

    sim_report(sim);
    assert_true(sim_useful(sim) >= least_useful);
    assert_int_equal(sim->late, 0);
    assert_int_equal(sim->thrown, 0);
    assert_true(sim_fairness(sim) >= 0.5);
    talloc_free(sim);
}

static void test_overload(void **state)
{
    static const double factors[] = {1.5, 2, 5, 10, 25};

    for (size_t i = 0; i < sizeof(factors) / sizeof(factors[0]); i++) {
        struct load l = {
            .factor = factors[i], .think_ms = 5000, .pause_ms = 3000, .pause_most_ms = 3000, .body_ms = 200};

        expect(&l, 0.95);
        l.pause_ms = 1000;
        l.pause_most_ms = 30000;
        l.scans_differ = true;
        expect(&l, 0.95);
    }
}

/* As many clients again that try once and never come back. */
static void test_bots(void **state)
{
    struct load l = {
        .factor = 5, .think_ms = 5000, .pause_ms = 1000, .pause_most_ms = 30000, .body_ms = 2000, .bots = 4};

    expect(&l, 0.95);
}

/* Bodies that take as long as patience itself. */
static void test_slow_bodies(void **state)
{
    struct load l = {
        .factor = 10, .think_ms = 5000, .pause_ms = 2000, .pause_most_ms = 10000, .body_ms = 20000};

    expect(&l, 0.95);
}

/* Clients that come back after minutes, as mail servers do: nobody who was called is here in time. */
static void test_long_pauses(void **state)
{
    struct load l = {
        .factor = 25, .think_ms = 5000, .pause_ms = 120000, .pause_most_ms = 120000, .body_ms = 200};

    expect(&l, 0.95);
}

/* Few slots, long scans. */
static void test_small_filter(void **state)
{
    struct load l = {.factor = 10,
                     .think_ms = 10000,
                     .pause_ms = 2000,
                     .pause_most_ms = 10000,
                     .body_ms = 200,
                     .scans_differ = true,
                     .slots = 2,
                     .scan_ms = 3000};

    expect(&l, 0.95);
}

/* Own clients that ask for less than their share are neither refused nor slowed down by a flood of others. */
static void test_own_clients_in_a_flood(void **state)
{
    struct load l = {
        .factor = 10, .think_ms = 5000, .pause_ms = 2000, .pause_most_ms = 10000, .body_ms = 200, .own = 40};
    struct sim *sim = sim_run(&l);

    sim_report(sim);
    print_message("      own: done %llu, refused %llu, longest %llu ms\n", (unsigned long long)sim->own_done,
                  (unsigned long long)sim->own_refused, (unsigned long long)sim->own_longest);
    assert_true(sim->own_done > 1000);
    assert_int_equal(sim->own_refused, 0);
    assert_true(sim->own_longest < 3000);
    assert_true(sim_useful(sim) >= 0.95);
    assert_int_equal(sim->late + sim->thrown, 0);
    talloc_free(sim);
}

/* Ten minutes without an answer. Of those who have sent their body in vain there are no more than what waited
 * when it began, and as many as there are slots each time that patience ends; and it goes on at once. */
static void test_filter_that_is_down(void **state)
{
    static const double factors[] = {5, 25};

    for (size_t i = 0; i < sizeof(factors) / sizeof(factors[0]); i++) {
        struct load l = {.factor = factors[i],
                         .think_ms = 5000,
                         .pause_ms = 1000,
                         .pause_most_ms = 30000,
                         .body_ms = 200,
                         .down_ms = 600000};
        struct sim *sim = sim_run(&l);

        sim_report(sim);
        assert_true(sim->lost + sim->thrown < 20 * 40);
        assert_true(sim_useful(sim) >= 0.95);
        talloc_free(sim);
    }
}

/* As much as the filter can do, with the time that a message takes counted in. */
static void test_full_load_without_refusals(void **state)
{
    struct load l = {
        .factor = 1.15, .think_ms = 5000, .pause_ms = 3000, .pause_most_ms = 3000, .body_ms = 200};
    struct sim *sim = sim_run(&l);

    sim_report(sim);
    assert_true(sim_useful(sim) >= 0.95);
    assert_int_equal(sim->refused, 0);
    assert_int_equal(sim->late + sim->thrown, 0);
    talloc_free(sim);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_full_load_without_refusals),
        cmocka_unit_test(test_overload),
        cmocka_unit_test(test_bots),
        cmocka_unit_test(test_slow_bodies),
        cmocka_unit_test(test_long_pauses),
        cmocka_unit_test(test_small_filter),
        cmocka_unit_test(test_own_clients_in_a_flood),
        cmocka_unit_test(test_filter_that_is_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
