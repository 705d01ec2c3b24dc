/* verdict: copies in hand: whom a retry waits for, and for how long. */
#include "verdict_private.h"
#include "verdict_test_host.h"

#include "clock.h"
#include "co_fd.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <talloc.h>

#include <cmocka.h>

static struct verdict_copy *begin(struct verdict *m, const char *sender)
{
    struct mail_envelope e = {.sender = sender, .began_us = clock_us()};

    return verdict_copy_new(NULL, m, &e);
}

/* ---- one worker ---- */

/* The loop looks, and what began before this call began before the look: at least a microsecond lies between.
 */
static co_fn void let_the_loop_look(const struct verdict *m)
{
    const struct co_progress *progress = &m->copies->rows[m->worker].progress;
    uint64_t now = clock_us();

    while (atomic_load(&progress->seen_us) <= now)
        co_sleep(clock_ms() + 2, "the loop");
}

static void note(void *arg)
{
    ++*(int *)arg;
}

/* Whether it passed without waiting: nobody else had a turn. */
static co_fn bool passes(const struct verdict_copy *c)
{
    static int turns;

    turns = 0;
    co_spawn(note, &turns, "a turn");
    return verdict_copy_wait(c, clock_ms() + 20) && turns == 0;
}

static co_fn void live(struct verdict *m, void *arg)
{
    struct verdict_copy *first = begin(m, "a@example.com"), *second, *third, *other;

    CHECK(passes(first));
    let_the_loop_look(m);
    second = begin(m, "a@example.com");
    let_the_loop_look(m);
    CHECK(passes(second)); /* the first client is there */
    verdict_copy_left(second);
    verdict_copy_left(second);
    CHECK(passes(first) && passes(second)); /* one that began later, or itself, is no first copy */
    third = begin(m, "a@example.com");
    other = begin(m, "b@example.com");
    let_the_loop_look(m);
    CHECK(!verdict_copy_wait(third, clock_ms() + 20));
    CHECK(passes(other));
    verdict_copy_left(first);
    talloc_free(first);
    CHECK(!verdict_copy_wait(third, clock_ms() + 20));
    talloc_free(second);
    CHECK(passes(third));
    talloc_free(third);
    talloc_free(other);
}

static void one_worker(void *arg)
{
    work(1, live, NULL);
}

static void test_a_retry_waits_until_what_its_client_left_is_known(void **state)
{
    assert_int_equal(host(one_worker, NULL), 0);
}

/* Two of one client in one turn: the loop has not looked since. */
static co_fn void in_one_turn(struct verdict *m, void *arg)
{
    struct verdict_copy *first = begin(m, "a@example.com"), *second = begin(m, "a@example.com");

    CHECK(!passes(second));
    CHECK(passes(second));
    talloc_free(first);
    talloc_free(second);
}

static void one_quick_worker(void *arg)
{
    work(1, in_one_turn, NULL);
}

static void test_a_worker_looks_itself_before_it_trusts_its_own_copies(void **state)
{
    assert_int_equal(host(one_quick_worker, NULL), 0);
}

static co_fn void is_off(struct verdict *m, void *arg)
{
    struct verdict_copy *c = begin(m, "a@example.com");

    CHECK(c == NULL && passes(c));
    verdict_copy_left(c);
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

/* ---- another worker: has message 1 from a client at the end of a line ---- */

static int line[2];

struct held {
    struct verdict *m;
    struct verdict_copy *copy;
};

static void left(void *arg)
{
    struct held *h = arg;

    verdict_copy_left(h->copy);
    abandon(h->m, 1);
    talloc_free(h->copy);
    h->copy = NULL;
}

static void closed(struct co_fd *w)
{
}

/* Until its client writes. One that only leaves finds the scan still going. */
static co_fn void have_client(struct verdict *m, void *arg)
{
    static struct co_fd w;
    struct held h = {m, begin(m, "a@example.com")};

    co_fd_open(&w, line[0], false);
    w.on_left = left;
    w.on_left_arg = &h;
    tell(steps.seen[1]);
    co_fd_wait(&w, CO_READABLE, CO_NEVER, "the client");
    while (w.peer_left)
        co_sleep(clock_ms() + 1000, "the filter");
    co_fd_close(&w, closed);
    talloc_free(h.copy);
}

static void other_worker(void *arg)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* it may be stopped when a check fails */
    close(line[1]);
    work(1, have_client, NULL);
}

static void stop(pid_t pid)
{
    int status;

    kill(pid, SIGSTOP);
    CHECK(waitpid(pid, &status, WUNTRACED) == pid && WIFSTOPPED(status));
}

/* fn is this host's worker 2; *arg the pid of worker 1. */
static void two_workers(co_fn void (*fn)(struct verdict *m, void *arg))
{
    pid_t pid;

    CHECK(pipe(steps.seen) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, line) == 0);
    verdict_prepare(conf);
    pid = spawn(other_worker, NULL);
    close(line[0]);
    hear(steps.seen[0]);
    work(2, fn, &pid);
    kill(pid, SIGKILL);
}

static co_fn uint64_t ms_of_wait(const struct verdict_copy *c)
{
    uint64_t since = clock_ms();

    CHECK(verdict_copy_wait(c, since + 30000));
    return clock_ms() - since;
}

static co_fn void ask_the_idle(struct verdict *m, void *arg)
{
    unsigned rung = 0;

    for (int i = 0; i < 20; i++) {
        struct verdict_copy *c = begin(m, "a@example.com");

        let_the_loop_look(m);
        rung += ms_of_wait(c) < 900;
        CHECK(start(m, 1) == VERDICT_FRESH);
        talloc_free(c);
    }
    CHECK(rung > 10); /* a busy machine may let it come late now and then */
}

static void idle_host(void *arg)
{
    two_workers(ask_the_idle);
}

static void test_a_worker_that_waits_for_events_is_rung(void **state)
{
    assert_int_equal(host(idle_host, NULL), 0);
}

static co_fn void wake_later(void *arg)
{
    co_sleep(clock_ms() + 100, "a stopped worker");
    kill(*(pid_t *)arg, SIGCONT);
}

static co_fn void ask_the_stopped(struct verdict *m, void *arg)
{
    struct verdict_copy *c, *other;

    stop(*(pid_t *)arg);
    close(line[1]); /* the first client leaves, then comes again */
    c = begin(m, "a@example.com");
    other = begin(m, "b@example.com");
    let_the_loop_look(m);
    CHECK(!may_know(m, 1) && passes(other));
    co_spawn(wake_later, arg, "waker");
    CHECK(ms_of_wait(c) >= 90);
    CHECK(may_know(m, 1) && start(m, 1) == VERDICT_RUNNING);
    talloc_free(c);
    talloc_free(other);
}

static void stopped_host(void *arg)
{
    two_workers(ask_the_stopped);
}

static void test_a_retry_waits_for_a_worker_that_does_not_know_yet(void **state)
{
    assert_int_equal(host(stopped_host, NULL), 0);
}

static co_fn void ask_the_hanging(struct verdict *m, void *arg)
{
    struct verdict_copy *c;
    uint64_t ms;

    stop(*(pid_t *)arg);
    c = begin(m, "a@example.com");
    let_the_loop_look(m);
    ms = ms_of_wait(c);
    CHECK(ms >= 900 && ms < 5000);
    talloc_free(c);
}

static void hanging_host(void *arg)
{
    two_workers(ask_the_hanging);
}

static void test_a_worker_that_hangs_is_not_waited_for_long(void **state)
{
    assert_int_equal(host(hanging_host, NULL), 0);
}

static co_fn void ask_the_dead(struct verdict *m, void *arg)
{
    pid_t *pid = arg;
    struct verdict_copy *c;

    kill(*pid, SIGKILL);
    end_of(*pid);
    c = begin(m, "a@example.com");
    let_the_loop_look(m);
    CHECK(!passes(c));
    verdict_forget(1);
    CHECK(passes(c));
    talloc_free(c);
}

static void dead_host(void *arg)
{
    two_workers(ask_the_dead);
}

static void test_what_a_dead_worker_had_is_forgotten(void **state)
{
    assert_int_equal(host(dead_host, NULL), 0);
}

/* ---- the end of a worker ---- */

struct leaving {
    struct verdict *m;
    struct verdict_copy *copy;
};

/* As a receipt does whose content is in a file. */
static co_fn void keep_slowly(void *arg)
{
    struct leaving *l = arg;

    co_sleep(clock_ms() + 50, "the key");
    abandon(l->m, 1);
    talloc_free(l->copy);
    keep(l->m, 1);
}

static co_fn void end_while_one_is_kept(struct verdict *m, void *arg)
{
    struct leaving l = {m, begin(m, "a@example.com")};
    struct verdict_copy *stays = begin(m, "b@example.com");

    verdict_copy_left(l.copy);
    co_spawn(keep_slowly, &l, "keeper");
    verdict_flush(m, clock_ms() + 30000);
    CHECK(numbers().entries == 1 && start(m, 1) == VERDICT_REMEMBERED);
    talloc_free(stays);
    l.copy = begin(m, "a@example.com");
    verdict_copy_left(l.copy);
    verdict_flush(m, clock_ms() + 20); /* not for ever */
    talloc_free(l.copy);
}

static void ending_worker(void *arg)
{
    work(1, end_while_one_is_kept, NULL);
}

static void test_the_end_waits_for_what_is_about_to_be_kept(void **state)
{
    assert_int_equal(host(ending_worker, NULL), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_retry_waits_until_what_its_client_left_is_known, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_a_worker_looks_itself_before_it_trusts_its_own_copies, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_off_by_one_parameter, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_worker_that_waits_for_events_is_rung, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_retry_waits_for_a_worker_that_does_not_know_yet, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_a_worker_that_hangs_is_not_waited_for_long, setup, teardown),
        cmocka_unit_test_setup_teardown(test_what_a_dead_worker_had_is_forgotten, setup, teardown),
        cmocka_unit_test_setup_teardown(test_the_end_waits_for_what_is_about_to_be_kept, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
