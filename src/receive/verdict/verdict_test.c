/* verdict: retries answered once, and those that wait for the scan of another worker. */
#include "verdict_test_host.h"

#include "clock.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>

#include <cmocka.h>

/* ---- one worker ---- */

static co_fn void live(struct verdict *m, void *arg)
{
    struct verdict_snapshot n;

    CHECK(verdict_is_empty(m) && !may_know(m, 1) && start(m, 1) == VERDICT_FRESH);
    abandon(m, 1);
    CHECK(!verdict_is_empty(m) && may_know(m, 1));
    CHECK(start(m, 1) == VERDICT_RUNNING && start(m, 2) == VERDICT_FRESH);
    keep(m, 1);
    CHECK(!verdict_is_empty(m) && may_know(m, 1));
    CHECK(start(m, 1) == VERDICT_REMEMBERED && start(m, 1) == VERDICT_REMEMBERED);
    n = numbers();
    CHECK(n.entries == 1 && n.running == 0 && n.kept == 1 && n.hits == 2 && n.heard == 0);
    heard(m, 1);
    CHECK(start(m, 1) == VERDICT_FRESH);
    CHECK(wait_for(m, 1, 0) == VERDICT_REMEMBERED); /* who waits came before it was heard */
    verdict_flush(m, clock_ms() + 30000);
    CHECK(start(m, 1) == VERDICT_FRESH && verdict_is_empty(m) && !may_know(m, 1));
    n = numbers();
    CHECK(n.entries == 0 && n.heard == 1);
}

static void one_worker(void *arg)
{
    work(1, live, NULL);
}

static void test_a_retry_is_answered_until_heard(void **state)
{
    assert_int_equal(host(one_worker, NULL), 0);
}

static co_fn void judge(struct verdict *m, void *arg)
{
    abandon(m, 1);
    end_scan(m, 1, 451, false);
    CHECK(verdict_is_empty(m) && start(m, 1) == VERDICT_FRESH);
    abandon(m, 2);
    end_scan(m, 2, 250, true);
    CHECK(verdict_is_empty(m) && start(m, 2) == VERDICT_FRESH);
    keep(m, 3);
    end_scan(m, 3, 550, false); /* the copy that was queued counts */
    CHECK(start(m, 3) == VERDICT_REMEMBERED);
    end_scan(m, 4, 550, false);
    end_scan(m, 4, 250, false);
    CHECK(start(m, 4) == VERDICT_REMEMBERED);
    CHECK(numbers().entries == 2);
    end_scan(m, 4, 250, true); /* another copy was scanned and heard of */
    CHECK(start(m, 4) == VERDICT_FRESH && start(m, 3) == VERDICT_REMEMBERED);
}

static void one_judge(void *arg)
{
    work(1, judge, NULL);
}

static void test_only_what_ends_a_message_is_kept(void **state)
{
    assert_int_equal(host(one_judge, NULL), 0);
}

static co_fn void is_off(struct verdict *m, void *arg)
{
    abandon(m, 1);
    CHECK(verdict_is_empty(m) && start(m, 1) == VERDICT_FRESH);
    keep(m, 1);
    CHECK(verdict_is_empty(m) && !may_know(m, 1) && start(m, 1) == VERDICT_FRESH);
    CHECK(wait_for(m, 1, 1000) == VERDICT_FRESH);
    heard(m, 1);
}

static void one_off(void *arg)
{
    conf_set(conf, "smtpd_proxy_verdict_memory", "no", "test", 1);
    work(1, is_off, NULL);
}

static void test_off_by_one_parameter(void **state)
{
    assert_int_equal(host(one_off, NULL), 0);
}

static co_fn void hear_early(struct verdict *m, void *arg)
{
    keep_later(m, 1);
    heard(m, 1);
    CHECK(start(m, 1) != VERDICT_REMEMBERED);
    keep_later(m, 2);
    end_scan(m, 2, 250, true);
    verdict_flush(m, clock_ms() + 30000);
    CHECK(start(m, 1) == VERDICT_FRESH && start(m, 2) == VERDICT_FRESH && verdict_is_empty(m));
}

static void one_early(void *arg)
{
    work(1, hear_early, NULL);
}

static void test_what_is_heard_before_it_is_written_is_forgotten(void **state)
{
    assert_int_equal(host(one_early, NULL), 0);
}

static co_fn void set_the_clock_back(struct verdict *m, void *arg)
{
    keep(m, 1);
    clock_skip_ms((uint64_t)-5000);
    CHECK(start_and_hear(m, 1) == VERDICT_REMEMBERED);
    verdict_flush(m, clock_ms() + 30000);
    CHECK(start(m, 1) == VERDICT_FRESH && verdict_is_empty(m));
}

static void one_with_a_clock(void *arg)
{
    work(1, set_the_clock_back, NULL);
}

static void test_a_clock_that_was_set_back_saves_no_verdict(void **state)
{
    assert_int_equal(host(one_with_a_clock, NULL), 0);
}

/* ---- waiting ---- */

static co_fn void scan_slowly(struct verdict *m, void *arg)
{
    abandon(m, 1);
    tell(steps.seen[1]);
    hear(steps.go[0]);
    if (arg != NULL)
        keep(m, 1);
    else
        end_scan(m, 1, 451, false);
}

static void scanner(void *arg)
{
    work(1, scan_slowly, arg);
}

struct two {
    struct verdict *m;
    int n;
};

static co_fn void second_waiter(void *arg)
{
    struct two *t = arg;

    CHECK(wait_for(t->m, 1, 30000) == VERDICT_REMEMBERED);
    t->n++;
}

static co_fn void wait_both(struct verdict *m, void *arg)
{
    struct two t = {m, 0};

    CHECK(start(m, 1) == VERDICT_RUNNING);
    CHECK(wait_for(m, 1, 20) == VERDICT_RUNNING); /* the deadline */
    co_spawn(second_waiter, &t, "second");
    co_yield ();
    tell(steps.go[1]);
    CHECK(wait_for(m, 1, 30000) == VERDICT_REMEMBERED);
    heard(m, 1); /* the other retry, which came before, hears it all the same */
    while (t.n == 0)
        co_sleep(clock_ms() + 1, "second");
    CHECK(start(m, 1) == VERDICT_FRESH);
    verdict_flush(m, clock_ms() + 30000); /* for the next host */
}

static co_fn void wait_in_vain(struct verdict *m, void *arg)
{
    tell(steps.go[1]);
    CHECK(wait_for(m, 1, 30000) == VERDICT_FRESH);
}

static void wait_host(void *arg)
{
    pid_t pid;

    CHECK(pipe(steps.go) == 0 && pipe(steps.seen) == 0);
    verdict_prepare(conf);
    pid = spawn(scanner, arg);
    hear(steps.seen[0]);
    work(2, arg != NULL ? wait_both : wait_in_vain, NULL);
    CHECK(end_of(pid) == 0);
    CHECK(numbers().running == 0);
}

static void test_a_retry_waits_for_the_scan_of_another_worker(void **state)
{
    assert_int_equal(host(wait_host, &steps), 0); /* ends with a verdict */
    assert_int_equal(host(wait_host, NULL), 0);
}

static co_fn void end_between(void *arg)
{
    end_elsewhere(arg, 1);
}

/* It has looked, and nobody watches for it yet. */
static co_fn void wait_while_it_ends(struct verdict *m, void *arg)
{
    abandon(m, 1);
    co_spawn(end_between, m, "another worker");
    CHECK(wait_for(m, 1, 20000) == VERDICT_FRESH);
}

static void one_that_waits(void *arg)
{
    work(1, wait_while_it_ends, NULL);
}

static void test_a_scan_that_ends_before_it_is_watched(void **state)
{
    assert_int_equal(host(one_that_waits, NULL), 0);
}

static co_fn void wait_for_the_dead(struct verdict *m, void *arg)
{
    pid_t *pid = arg;

    CHECK(start(m, 1) == VERDICT_RUNNING);
    kill(*pid, SIGKILL);
    end_of(*pid);
    CHECK(wait_for(m, 1, 50) == VERDICT_RUNNING);
    verdict_forget(1);
    CHECK(wait_for(m, 1, 30000) == VERDICT_FRESH);
    CHECK(verdict_is_empty(m));
}

static void killed_scanner(void *arg)
{
    pid_t pid;

    CHECK(pipe(steps.go) == 0 && pipe(steps.seen) == 0);
    verdict_prepare(conf);
    pid = spawn(scanner, arg);
    hear(steps.seen[0]);
    work(2, wait_for_the_dead, &pid);
}

static void test_the_scan_of_a_dead_worker_is_forgotten(void **state)
{
    assert_int_equal(host(killed_scanner, NULL), 0);
}

static co_fn void leave_behind(struct verdict *m, void *arg)
{
    abandon(m, 1);
}

static co_fn void find_nothing(struct verdict *m, void *arg)
{
    CHECK(verdict_is_empty(m) && start(m, 1) == VERDICT_FRESH);
}

static void leaver(void *arg)
{
    work(3, leave_behind, NULL);
}

static void successor(void *arg)
{
    verdict_prepare(conf);
    CHECK(end_of(spawn(leaver, NULL)) == 0);
    CHECK(numbers().running == 1);
    work(3, find_nothing, NULL);
}

static void test_a_successor_begins_without_running_scans(void **state)
{
    assert_int_equal(host(successor, NULL), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_retry_is_answered_until_heard, setup, teardown),
        cmocka_unit_test_setup_teardown(test_only_what_ends_a_message_is_kept, setup, teardown),
        cmocka_unit_test_setup_teardown(test_off_by_one_parameter, setup, teardown),
        cmocka_unit_test_setup_teardown(test_what_is_heard_before_it_is_written_is_forgotten, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_a_clock_that_was_set_back_saves_no_verdict, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_retry_waits_for_the_scan_of_another_worker, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_scan_that_ends_before_it_is_watched, setup, teardown),
        cmocka_unit_test_setup_teardown(test_the_scan_of_a_dead_worker_is_forgotten, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_successor_begins_without_running_scans, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
