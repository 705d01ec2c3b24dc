/* verdict: restarts, time, room, and kill -9 at any instant. */
#include "verdict_test_host.h"

#include "clock.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>

#include <cmocka.h>

/* ---- restarts, time, room ---- */

static co_fn void recall_two(struct verdict *m, void *arg)
{
    CHECK(!verdict_is_empty(m) && may_know(m, 1));
    CHECK(start(m, 1) == VERDICT_REMEMBERED && start(m, 2) == VERDICT_REMEMBERED);
    CHECK(numbers().entries == 2 && numbers().kept == 0);
    heard(m, 1);
}

static co_fn void recall_second(struct verdict *m, void *arg)
{
    CHECK(start(m, 1) == VERDICT_FRESH && start(m, 2) == VERDICT_REMEMBERED);
}

static void recaller(void *arg)
{
    work(1, recall_two, NULL);
}

static void second_recaller(void *arg)
{
    work(7, recall_second, NULL);
}

static void test_verdicts_outlive_the_server(void **state)
{
    assert_int_equal(host(keeper, NULL), 0);
    assert_int_equal(host(recaller, NULL), 0);
    assert_int_equal(host(second_recaller, NULL), 0);
}

/* A worker of a master that was killed goes on while the next master's workers are there. */
static co_fn void keep_when_told(struct verdict *m, void *arg)
{
    tell(steps.seen[1]); /* it was there first, so the numbers shown are the next one's */
    hear(steps.go[0]);
    keep(m, 1);
    tell(steps.seen[1]);
}

static void old_worker(void *arg)
{
    work(1, keep_when_told, NULL);
}

static co_fn void hear_of_the_old(struct verdict *m, void *arg)
{
    CHECK(verdict_is_empty(m));
    tell(steps.go[1]);
    hear(steps.seen[0]);
    CHECK(!verdict_is_empty(m) && may_know(m, 1) && start(m, 1) == VERDICT_REMEMBERED);
    verdict_flush(m, clock_ms() + 30000);
    CHECK(may_know(m, 1) && numbers().entries == 1);
}

static void new_worker(void *arg)
{
    work(1, hear_of_the_old, NULL);
}

static void test_what_a_former_masters_worker_keeps_is_known(void **state)
{
    pid_t old;

    assert_int_equal(pipe(steps.go), 0);
    assert_int_equal(pipe(steps.seen), 0);
    old = spawn(old_worker, NULL);
    hear(steps.seen[0]);
    assert_int_equal(host(new_worker, NULL), 0);
    assert_int_equal(end_of(old), 0);
}

static co_fn void grow_old(struct verdict *m, void *arg)
{
    const uint64_t day = 24 * 3600 * 1000;

    keep(m, 1);
    clock_skip_ms(3 * day);
    keep(m, 2);
    CHECK(start(m, 1) == VERDICT_REMEMBERED);
    clock_skip_ms(day);
    CHECK(start(m, 1) == VERDICT_FRESH && start(m, 2) == VERDICT_REMEMBERED);
    may_know(m, 1);
    verdict_flush(m, clock_ms() + 30000);
    CHECK(numbers().entries == 1 && numbers().expired == 1);
    clock_skip_ms(3 * day);
    may_know(m, 2);
    verdict_flush(m, clock_ms() + 30000);
    CHECK(verdict_is_empty(m) && start(m, 2) == VERDICT_FRESH && numbers().expired == 2);
}

static void aging(void *arg)
{
    work(1, grow_old, NULL);
}

static void test_verdicts_expire(void **state)
{
    assert_int_equal(host(aging, NULL), 0);
}

static co_fn void overflow(struct verdict *m, void *arg)
{
    for (unsigned i = 1; i <= 5; i++)
        keep(m, i);
    for (unsigned i = 1; i <= 5; i++)
        CHECK(start(m, i) == (i <= 2 ? VERDICT_FRESH : VERDICT_REMEMBERED));
    CHECK(numbers().entries == 3 && numbers().evicted == 2);
}

static void overflowing(void *arg)
{
    conf_set(conf, "smtpd_proxy_verdict_memory_limit", "3", "test", 1);
    work(1, overflow, NULL);
}

static void test_the_oldest_go_first(void **state)
{
    assert_int_equal(host(overflowing, NULL), 0);
}

static co_fn void abandon_many(struct verdict *m, void *arg)
{
    enum { MANY = 20000 };

    for (unsigned i = 0; i < MANY; i++)
        abandon(m, i);
    CHECK(numbers().running > 4000 && numbers().running < MANY);
    keep(m, MANY - 1); /* had no place, perhaps; is kept all the same */
    CHECK(start(m, MANY - 1) == VERDICT_REMEMBERED);
    clock_skip_ms(3600 * 1000);
    CHECK(start(m, 1) == VERDICT_FRESH); /* nobody ended it for an hour */
    verdict_forget(1);
    CHECK(numbers().running == 0);
}

static void abandoning(void *arg)
{
    work(1, abandon_many, NULL);
}

static void test_running_scans_are_bounded(void **state)
{
    assert_int_equal(host(abandoning, NULL), 0);
}

/* ---- kill -9 at any instant ---- */

/* Tells, after the fact, each verdict that is on disk. */
static co_fn void keep_for_ever(struct verdict *m, void *arg)
{
    unsigned *n = arg;

    for (;; ++*n) {
        abandon(m, *n);
        keep(m, *n);
        CHECK(write(steps.seen[1], n, sizeof(*n)) == sizeof(*n));
        if (*n % 3 == 0) {
            heard(m, *n);
            co_yield ();
        }
    }
}

static void killed_keeper(void *arg)
{
    work(1, keep_for_ever, arg);
}

enum { TOLD = 4096 };
static bool told[TOLD]; /* on disk, and not heard */

static co_fn void recall_told(struct verdict *m, void *arg)
{
    for (unsigned i = 0; i < TOLD; i++)
        if (told[i])
            CHECK(may_know(m, i) && start(m, i) == VERDICT_REMEMBERED);
}

static void recalling(void *arg)
{
    work(2, recall_told, NULL);
}

static unsigned take_told(void)
{
    unsigned n, last = 0;

    while (read(steps.seen[0], &n, sizeof(n)) == sizeof(n) && n < TOLD) {
        told[n] = n % 3 != 0;
        last = n;
    }
    return last;
}

static void kill_host(void *arg)
{
    unsigned next = 1;

    CHECK(pipe(steps.seen) == 0);
    CHECK(fcntl(steps.seen[0], F_SETFL, O_NONBLOCK) == 0);
    verdict_prepare(conf);
    for (unsigned round = 0; round < 25; round++) {
        unsigned enough = next + round % 4, n;
        pid_t pid = spawn(killed_keeper, &next);

        while (take_told() < enough)
            usleep(100);
        usleep(round * 61 % 700);
        kill(pid, SIGKILL);
        end_of(pid);
        n = take_told();
        verdict_forget(1);
        CHECK(end_of(spawn(recalling, NULL)) == 0);
        next = (n > enough ? n : enough) + 100; /* the one after the last told may be on disk or not */
    }
    CHECK(numbers().running == 0);
}

static void test_a_kill_loses_nothing_that_was_kept(void **state)
{
    assert_int_equal(host(kill_host, NULL), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_verdicts_outlive_the_server, setup, teardown),
        cmocka_unit_test_setup_teardown(test_what_a_former_masters_worker_keeps_is_known, setup, teardown),
        cmocka_unit_test_setup_teardown(test_verdicts_expire, setup, teardown),
        cmocka_unit_test_setup_teardown(test_the_oldest_go_first, setup, teardown),
        cmocka_unit_test_setup_teardown(test_running_scans_are_bounded, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_kill_loses_nothing_that_was_kept, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
