/* co: order, waking, deadlines, cancellation, mutex, work on threads, the guard below each stack. */
#include "clock.h"
#include "co.h"
#include "co_fd.h"
#include "co_loop.h"
#include "log.h"
#include "mem.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static char order[64];

static void note(const char *text)
{
    strcat(order, text);
}

static uint64_t in_ms(uint64_t ms)
{
    return clock_ms() + ms;
}

static int start(void **state)
{
    order[0] = '\0';
    co_init(2);
    return 0;
}

static int end(void **state)
{
    co_deinit();
    return 0;
}

static void yielder(void *arg)
{
    for (int i = 0; i < 3; i++) {
        note(arg);
        co_yield ();
    }
}

static void test_ready_run_in_order(void **state)
{
    co_spawn(yielder, (char[]){"a"}, "a");
    co_spawn(yielder, (char[]){"b"}, "b");
    co_spawn(yielder, (char[]){"c"}, "c");
    co_run();
    assert_string_equal(order, "abcabcabc");
    assert_int_equal(co_count(), 0);
}

struct sleep {
    uint64_t until;
    const char *name;
};

static void sleeper(void *arg)
{
    const struct sleep *s = arg;

    assert_int_equal(co_sleep(s->until, "sleep"), CO_OK);
    assert_true(clock_ms() >= s->until);
    note(s->name);
}

/* One clock reading for all, and time enough that all wait before the first is over. */
static void test_deadlines_end_in_time_order(void **state)
{
    uint64_t begin = in_ms(200);
    struct sleep sleeps[] = {{begin + 60, "c"}, {begin + 20, "a"}, {begin + 40, "b"}};

    for (int i = 0; i < 3; i++)
        co_spawn(sleeper, &sleeps[i], "sleeper");
    co_run();
    assert_string_equal(order, "abc");
}

static enum co_end park_end;

static void parker(void *arg)
{
    park_end = co_park(in_ms(*(uint64_t *)arg), "a wake");
}

static void waker(void *arg)
{
    co_wake(*(struct co **)arg);
}

static void canceller(void *arg)
{
    co_cancel(*(struct co **)arg);
}

static void test_park_ends(void **state)
{
    uint64_t long_wait = 5000, short_wait = 5;
    struct co *co;

    co = co_spawn(parker, &long_wait, "p");
    co_spawn(waker, &co, "w");
    co_run();
    assert_int_equal(park_end, CO_OK);
    co = co_spawn(parker, &long_wait, "p");
    co_spawn(canceller, &co, "c");
    co_run();
    assert_int_equal(park_end, CO_CANCELLED);
    co_spawn(parker, &short_wait, "p");
    co_run();
    assert_int_equal(park_end, CO_TIMEOUT);
}

static void early_parker(void *arg)
{
    co_yield (); /* the wake comes while we are ready, before we park */
    park_end = co_park(in_ms(5000), "a wake that came before");
}

static void test_wake_before_park_is_kept_once(void **state)
{
    uint64_t before = clock_ms();
    struct co *co = co_spawn(early_parker, NULL, "p");

    co_wake(co);
    co_run();
    assert_int_equal(park_end, CO_OK);
    assert_true(clock_ms() - before < 4000);
}

/* A long wait after a short one, and a short one after a long one: the lazily armed timer ends each in time.
 */
static void mixed_waits(void *arg)
{
    uint64_t before = clock_ms();

    assert_int_equal(co_park(in_ms(10), "short"), CO_TIMEOUT);
    assert_int_equal(co_park(in_ms(40), "long"), CO_TIMEOUT);
    co_wake(co_self());
    assert_int_equal(co_park(in_ms(100000), "very long"), CO_OK);
    assert_int_equal(co_park(in_ms(10), "short again"), CO_TIMEOUT);
    assert_true(clock_ms() - before >= 60);
    assert_true(clock_ms() - before < 10000);
    note("done");
}

static void test_timer_is_rearmed(void **state)
{
    co_spawn(mixed_waits, NULL, "mixed");
    co_run();
    assert_string_equal(order, "done");
}

static uint64_t first_beat;
static unsigned on_it;

static void distant_parker(void *arg)
{
    uint64_t deadline = first_beat - 99 + (uint64_t)(uintptr_t)arg;

    assert_int_equal(co_park(deadline, "a distant deadline"), CO_TIMEOUT);
    assert_true(clock_ms() >= deadline);
    on_it += co_has_ready() == (on_it < 19); /* the others are ready when the first one is */
}

/* Twenty waits with a deadline each end in one turn. */
static void test_distant_deadlines_share_a_beat(void **state)
{
    first_beat = co_beat_at(in_ms(6000));
    assert_int_equal(co_beat_at(first_beat - 99), first_beat);
    assert_int_equal(co_beat_at(first_beat + 1), first_beat + 100);
    on_it = 0;
    for (uintptr_t i = 0; i < 20; i++)
        co_spawn(distant_parker, (void *)(i * 5), "distant");
    co_run();
    assert_int_equal(on_it, 20);
}

/* Leaves its timer to the next one on its stack. */
static void leaver(void *arg)
{
    assert_int_equal(co_park(in_ms(20), "a wake"), CO_OK);
}

static void heir(void *arg)
{
    uint64_t before = clock_ms();

    assert_int_equal(co_park(in_ms(60), "its own deadline"), CO_TIMEOUT);
    assert_true(clock_ms() - before >= 60);
    note("heir");
}

static void leave_and_inherit(void *arg)
{
    struct co *co = co_spawn(leaver, NULL, "leaver");

    co_yield (); /* now it waits */
    co_wake(co);
    co_yield (); /* now it has gone */
    co_spawn(heir, NULL, "heir");
}

static void test_a_timer_left_behind_ends_no_wait(void **state)
{
    co_spawn(leave_and_inherit, NULL, "both");
    co_run();
    assert_string_equal(order, "heir");
}

/* A timer that is to fire anyway also ends a wait whose deadline has passed already. */
static void late_parker(void *arg)
{
    uint64_t soon = in_ms(10);

    assert_int_equal(co_park(soon, "a wake"), CO_OK);
    while (clock_ms() <= soon)
        usleep(1000);
    assert_int_equal(co_park(soon, "too late"), CO_TIMEOUT);
    note("late");
}

static void test_deadline_that_has_passed(void **state)
{
    struct co *co = co_spawn(late_parker, NULL, "late");

    co_spawn(waker, &co, "w");
    co_run();
    assert_string_equal(order, "late");
}

static void free_watch(struct co_fd *w)
{
    free(w);
}

/* Has an event in each turn. */
static void busy(void *arg)
{
    uint64_t give_up = in_ms(5000), n = 1;
    struct co_fd *w = malloc(sizeof(*w));
    int fd = eventfd(0, EFD_NONBLOCK);

    co_fd_open(w, fd, false);
    while (order[0] == '\0' && clock_ms() < give_up) {
        assert_int_equal(write(fd, &n, sizeof(n)), sizeof(n));
        assert_int_equal(co_fd_wait(w, CO_READABLE, give_up, "itself"), CO_OK);
        assert_int_equal(read(fd, &n, sizeof(n)), sizeof(n));
        co_fd_drained(w);
    }
    co_fd_close(w, free_watch);
    close(fd);
    note("busy");
}

static void test_timers_do_not_wait_for_a_quiet_turn(void **state)
{
    struct sleep sleep = {in_ms(20), "slept "};

    co_spawn(sleeper, &sleep, "sleeper");
    co_spawn(busy, NULL, "busy");
    co_run();
    assert_string_equal(order, "slept busy");
}

static void shielded(void *arg)
{
    co_shield(true);
    assert_int_equal(co_sleep(in_ms(20), "clean-up"), CO_OK);
    co_shield(false);
    assert_true(co_is_cancelled());
    assert_int_equal(co_sleep(in_ms(5000), "after"), CO_CANCELLED);
    note("unwound");
}

static void test_shield_lets_cleanup_wait(void **state)
{
    struct co *co = co_spawn(shielded, NULL, "shielded");

    co_spawn(canceller, &co, "c");
    co_run();
    assert_string_equal(order, "unwound");
}

static struct co_mutex mutex;

/* "t" has little time, and the first holds it for as long as that. */
static void locker(void *arg)
{
    if (co_lock(&mutex, in_ms(strcmp(arg, "t") == 0 ? 5 : 5000), "mutex") != CO_OK) {
        note("-");
        note(arg);
        return;
    }
    note(arg);
    while (strchr(order, 't') == NULL)
        co_sleep(in_ms(1), "holding");
    co_unlock(&mutex);
}

static void test_mutex_is_given_in_order(void **state)
{
    memset(&mutex, 0, sizeof(mutex));
    co_spawn(locker, (char[]){"a"}, "a");
    co_spawn(locker, (char[]){"t"}, "t");
    co_spawn(locker, (char[]){"b"}, "b");
    co_spawn(locker, (char[]){"c"}, "c");
    co_run();
    assert_string_equal(order, "a-tbc");
    assert_null(mutex.owner);
}

struct sum {
    int value;
    const atomic_bool *may_end; /* NULL: at once */
};
static int freed;

static int count_free(struct sum *s)
{
    freed++;
    return 0;
}

static void add(void *arg)
{
    struct sum *s = arg;

    while (s->may_end != NULL && !*s->may_end)
        usleep(1000);
    s->value++;
}

static void worker(void *arg)
{
    struct sum *s = mem_new(NULL, struct sum);

    for (int i = 0; i < 10; i++)
        assert_int_equal(co_work(add, s, in_ms(5000), "work"), CO_OK);
    assert_int_equal(s->value, 10);
    talloc_free(s);
    note("w");
}

static void late_worker(void *arg)
{
    static atomic_bool may_end;
    void *ctx = talloc_new(NULL);
    struct sum *s = mem_new(ctx, struct sum);

    s->may_end = &may_end;
    talloc_set_destructor(s, count_free);
    assert_int_equal(co_work(add, s, in_ms(10), "work"), CO_TIMEOUT);
    talloc_free(ctx); /* the job still owns s */
    assert_int_equal(freed, 0);
    may_end = true;
    for (int i = 0; i < 5000 && freed == 0; i++)
        co_sleep(in_ms(1), "the job's end");
    assert_int_equal(freed, 1);
    note("l");
}

static void test_work_on_threads(void **state)
{
    freed = 0;
    co_spawn(worker, NULL, "worker");
    co_run();
    co_spawn(late_worker, NULL, "late");
    co_run();
    assert_string_equal(order, "wl");
}

static atomic_bool slow_may_end;

static struct sum *slow_job(void)
{
    struct sum *s = mem_new(NULL, struct sum);

    s->may_end = &slow_may_end;
    talloc_set_destructor(s, count_free);
    return s;
}

static void slow_worker(void *arg)
{
    struct sum *s = slow_job();

    assert_int_equal(co_work_slow(add, s, in_ms(10000), "slow work"), CO_OK);
    assert_int_equal(s->value, 1);
    note(arg);
    talloc_free(s);
}

static void slow_worker_without_turn(void *arg)
{
    assert_int_equal(co_work_slow(add, slow_job(), in_ms(10), "slow work"), CO_TIMEOUT);
    assert_int_equal(freed, 1); /* not begun, so nobody else has it */
}

static void quick_worker(void *arg)
{
    struct sum *s = mem_new(NULL, struct sum);

    assert_int_equal(co_work(add, s, in_ms(10000), "work"), CO_OK);
    note("q");
    talloc_free(s);
    for (int i = 0; i < 10000 && freed == 0; i++)
        co_sleep(in_ms(1), "the end of who has no turn");
    slow_may_end = true;
}

/* Of two threads slow work has one. */
static void test_slow_work_leaves_threads_free(void **state)
{
    freed = 0;
    slow_may_end = false;
    co_spawn(slow_worker, (char[]){"a"}, "a");
    co_spawn(slow_worker_without_turn, NULL, "without");
    co_spawn(slow_worker, (char[]){"b"}, "b");
    co_spawn(quick_worker, NULL, "quick");
    co_run();
    assert_string_equal(order, "qab");
    assert_int_equal(freed, 3);
}

struct pipe_end {
    int fds[2];
    struct co_fd watch;
};

static void on_watch_closed(struct co_fd *w)
{
    note("x");
}

static void pipe_reader(void *arg)
{
    struct pipe_end *p = arg;
    char c;

    co_fd_open(&p->watch, p->fds[0], false);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(co_fd_wait(&p->watch, CO_READABLE, in_ms(5000), "a byte"), CO_OK);
        assert_int_equal(read(p->fds[0], &c, 1), 1);
        co_fd_drained(&p->watch);
        note("r");
    }
    assert_int_equal(co_fd_wait(&p->watch, CO_READABLE, in_ms(10), "nothing"), CO_TIMEOUT);
    co_fd_close(&p->watch, on_watch_closed);
    close(p->fds[0]);
    co_sleep(in_ms(1), "the close callback");
}

static void pipe_writer(void *arg)
{
    struct pipe_end *p = arg;

    for (int i = 0; i < 3; i++) {
        assert_int_equal(write(p->fds[1], "x", 1), 1);
        co_sleep(in_ms(2), "pause");
    }
}

static void test_descriptor_wait(void **state)
{
    struct pipe_end p;

    assert_int_equal(pipe(p.fds), 0);
    co_spawn(pipe_reader, &p, "reader");
    co_spawn(pipe_writer, &p, "writer");
    co_run();
    close(p.fds[1]);
    assert_string_equal(order, "rrrx");
}

static void on_main(void *arg)
{
    volatile char big[1024 * 1024];

    big[0] = 1;
    big[sizeof(big) - 1] = 2;
    *(int *)arg = big[0] + big[sizeof(big) - 1];
}

static void caller(void *arg)
{
    int result = 0;

    co_call_on_main(on_main, &result);
    assert_int_equal(result, 3);
    co_trim_stack();
    assert_int_equal(result, 3);
    note("ok");
}

static void test_call_on_main_stack(void **state)
{
    co_spawn(caller, NULL, "caller");
    co_run();
    assert_string_equal(order, "ok");
}

static void many(void *arg)
{
    co_sleep(in_ms(5), "all");
    ++*(int *)arg;
}

static void test_many_coroutines(void **state)
{
    int done = 0;

    for (int i = 0; i < 5000; i++)
        co_spawn(many, &done, "many");
    co_run();
    assert_int_equal(done, 5000);
}

/* Each frame looks into the one above, so that no compiler makes a loop of it. */
static int deep(int n, const volatile char *above)
{
    volatile char frame[1024];

    frame[0] = (char)(n + above[0]);
    return n == 0 ? frame[0] : deep(n - 1, frame) + frame[0];
}

static void digger(void *arg)
{
    deep(1000, "");
}

/* The guard page turns an overflow into a signal instead of a neighbour's changed memory. */
static void test_overflow_hits_the_guard(void **state)
{
    pid_t pid = fork();
    int status;

    if (pid == 0) {
        struct rlimit none = {0, 0};

        setrlimit(RLIMIT_CORE, &none);
        signal(SIGSEGV, SIG_DFL);
        if (freopen("/dev/null", "w", stderr) == NULL)
            _exit(0);
        co_init_child(1);
        co_spawn(digger, NULL, "digger");
        co_run();
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_false(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static char dumped[512];

static void take(const char *line, void *arg)
{
    strncat(dumped, line, sizeof(dumped) - strlen(dumped) - 2);
    strcat(dumped, "\n");
}

static void dumper(void *arg)
{
    log_capture(take, NULL);
    co_dump();
    log_capture(NULL, NULL);
}

static void test_dump_names_what_each_waits_for(void **state)
{
    uint64_t wait = 50;

    co_spawn(parker, &wait, "patient");
    co_spawn(dumper, NULL, "dumper");
    co_run();
    assert_non_null(strstr(dumped, "2 coroutines"));
    assert_non_null(strstr(dumped, "patient: waits for a wake since"));
    assert_non_null(strstr(dumped, "dumper: running"));
}

/* ---- how far a loop is ---- */

static struct co_progress progress;
static int bell;

static void closed(struct co_fd *w)
{
}

static void note_left(void *arg)
{
    note("left.");
}

/* Another process, to which the loop is all it can see. */
static void look_from_a_thread(void *arg)
{
    uint64_t since, deadline = in_ms(5000);

    while (!progress.is_waiting && clock_ms() < deadline)
        usleep(100);
    since = clock_us();
    note(progress.is_waiting && progress.seen_us < since ? "waits." : "?");
    while (progress.seen_us <= since && clock_ms() < deadline) {
        assert_int_equal(write(bell, &(uint64_t){1}, sizeof(uint64_t)), sizeof(uint64_t));
        usleep(1000);
    }
    note(progress.seen_us > since ? "rung." : "?");
}

static void tell_progress(void *arg)
{
    static struct co_fd w;
    void *look = talloc_new(NULL);
    int ends[2];
    uint64_t since;

    bell = eventfd(0, EFD_NONBLOCK);
    co_tell_progress(&progress, bell);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    co_fd_open(&w, ends[0], false);
    w.on_left = note_left;
    close(ends[1]);
    since = clock_us();
    while (progress.seen_us <= since)
        co_yield ();
    note("seen.");
    co_fd_close(&w, closed);
    close(ends[0]);
    assert_int_equal(co_work(look_from_a_thread, look, in_ms(10000), "a look"), CO_OK);
    talloc_free(look);
}

static void test_others_see_how_far_a_loop_is(void **state)
{
    co_spawn(tell_progress, NULL, "teller");
    co_run();
    assert_string_equal(order, "left.seen.waits.rung.");
    close(bell);
}

/* ---- a loop that always has more to do than one look at the kernel tells it ---- */

enum { MANY = 300 };

static co_fn void be_busy(void *arg)
{
    static struct co_fd watches[MANY];
    uint64_t one = 1, since;

    bell = eventfd(0, EFD_NONBLOCK);
    co_tell_progress(&progress, bell);
    for (int i = 0; i < MANY; i++)
        co_fd_open(&watches[i], eventfd(0, EFD_NONBLOCK), false);
    since = clock_us();
    for (int turn = 0; turn < 40; turn++) {
        for (int i = 0; i < MANY; i++)
            assert_int_equal(write(watches[i].fd, &one, sizeof(one)), sizeof(one));
        co_yield ();
    }
    note(progress.seen_us > since ? "seen." : "?");
    for (int i = 0; i < MANY; i++) {
        co_fd_close(&watches[i], closed);
        close(watches[i].fd);
    }
}

static void test_others_see_how_far_a_busy_loop_is(void **state)
{
    co_spawn(be_busy, NULL, "busy");
    co_run();
    assert_string_equal(order, "seen.");
    close(bell);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_ready_run_in_order, start, end),
        cmocka_unit_test_setup_teardown(test_deadlines_end_in_time_order, start, end),
        cmocka_unit_test_setup_teardown(test_park_ends, start, end),
        cmocka_unit_test_setup_teardown(test_wake_before_park_is_kept_once, start, end),
        cmocka_unit_test_setup_teardown(test_timer_is_rearmed, start, end),
        cmocka_unit_test_setup_teardown(test_distant_deadlines_share_a_beat, start, end),
        cmocka_unit_test_setup_teardown(test_a_timer_left_behind_ends_no_wait, start, end),
        cmocka_unit_test_setup_teardown(test_deadline_that_has_passed, start, end),
        cmocka_unit_test_setup_teardown(test_timers_do_not_wait_for_a_quiet_turn, start, end),
        cmocka_unit_test_setup_teardown(test_shield_lets_cleanup_wait, start, end),
        cmocka_unit_test_setup_teardown(test_mutex_is_given_in_order, start, end),
        cmocka_unit_test_setup_teardown(test_work_on_threads, start, end),
        cmocka_unit_test_setup_teardown(test_slow_work_leaves_threads_free, start, end),
        cmocka_unit_test_setup_teardown(test_descriptor_wait, start, end),
        cmocka_unit_test_setup_teardown(test_call_on_main_stack, start, end),
        cmocka_unit_test_setup_teardown(test_many_coroutines, start, end),
        cmocka_unit_test_setup_teardown(test_dump_names_what_each_waits_for, start, end),
        cmocka_unit_test_setup_teardown(test_others_see_how_far_a_loop_is, start, end),
        cmocka_unit_test_setup_teardown(test_others_see_how_far_a_busy_loop_is, start, end),
        cmocka_unit_test(test_overflow_hits_the_guard),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
