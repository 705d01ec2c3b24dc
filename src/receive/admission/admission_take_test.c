/* Taking a slot in coroutines and over processes: one place decides, and the dead hold nothing. */
#include "admission_shared.h"
#include "clock.h"
#include "mem.h"

#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { SLOTS = 2, SOON_MS = 10000 };

static char dir[] = "/tmp/admission-test-XXXXXX";

static struct admission *open_as(unsigned worker, const char *filter)
{
    struct conf_faults faults = {0};
    struct conf *conf = conf_read(NULL, NULL, &faults);
    struct admission *a;

    admission_forget(worker);
    conf_set(conf, "mynetworks", "127.0.0.0/8", "test", 1);
    conf_set(conf, "smtpd_proxy_concurrency_limit", "2", "test", 2);
    conf_set(conf, "smtpd_proxy_stranger_patience", "20s", "test", 3);
    assert_null(admission_open(conf, conf, filter, worker, &a));
    assert_non_null(a);
    return a;
}

static const struct mail_client stranger = {.name = "unknown", .addr = "192.0.2.1", .family = AF_INET};

static struct admission_answer judge(struct admission *a, struct admission_ticket *t)
{
    struct admission_client who;

    admission_know(a, &stranger, false, &who);
    return admission_judge(a, &who, 4096, t);
}

static struct admission_pool_numbers numbers(const char *filter)
{
    struct admission_snapshot all;

    assert_null(admission_snapshot(dir, &all));
    for (int i = 0; i < ADMISSION_POOLS; i++)
        if (strcmp(all.pools[i].name, filter) == 0)
            return all.pools[i];
    fail_msg("no filter %s", filter);
    return all.pools[0];
}

static void run(void (*fn)(void *), void *arg)
{
    co_init(1);
    co_spawn(fn, arg, "test");
    co_run();
    co_deinit();
}

/* ---- one process ---- */

static struct admission *pool;
static int turns[4], turn_count;

static void take_one(void *arg)
{
    struct admission_ticket t;

    assert_true(judge(pool, &t).is_admitted);
    assert_int_equal(admission_take(pool, &t, 4096, clock_ms() + SOON_MS), ADMISSION_GRANTED);
    turns[turn_count++] = (int)(intptr_t)arg;
    co_sleep(clock_ms() + 20, "a scan");
    admission_give(pool, &t, ADMISSION_OK, 20, 4096);
    assert_int_equal(t.place, 0);
}

static void take_four(void *arg)
{
    for (intptr_t i = 0; i < 4; i++)
        co_spawn(take_one, (void *)i, "client");
}

static void test_turns(void **state)
{
    struct admission_pool_numbers n;

    pool = open_as(0, "turns");
    turn_count = 0;
    run(take_four, NULL);
    assert_int_equal(turn_count, 4);
    for (int i = 0; i < 4; i++)
        assert_int_equal(turns[i], i);
    n = numbers("turns");
    assert_int_equal(n.used, 0);
    assert_int_equal(n.most, SLOTS);
    assert_int_equal(n.outcomes[ADMISSION_OK], 4);
    assert_int_equal(n.classes[ADMISSION_STRANGER].granted, 4);
    assert_int_equal(n.classes[ADMISSION_STRANGER].waiting, 0);
    assert_int_equal(n.classes[ADMISSION_STRANGER].running, 0);
    assert_int_equal(n.classes[ADMISSION_STRANGER].coming, 0);
}

static struct admission_ticket held[SLOTS], waiting;
static enum admission_end waited;

static void hold_all(void)
{
    for (int i = 0; i < SLOTS; i++) {
        assert_true(judge(pool, &held[i]).is_admitted);
        assert_int_equal(admission_take(pool, &held[i], 4096, clock_ms() + SOON_MS), ADMISSION_GRANTED);
    }
}

static void give_all(void)
{
    for (int i = 0; i < SLOTS; i++)
        admission_give(pool, &held[i], ADMISSION_OK, 10, 4096);
}

static void wait_long(void *arg)
{
    judge(pool, &waiting);
    waited = admission_take(pool, &waiting, 4096, clock_ms() + SOON_MS);
}

static void leave_early(void *arg)
{
    hold_all();
    co_spawn(wait_long, NULL, "waits");
    while (waiting.wait == NULL)
        co_yield ();
    admission_leave(&waiting);
    while (waiting.wait != NULL)
        co_yield ();
    give_all();
}

static void test_client_leaves(void **state)
{
    pool = open_as(0, "leaves");
    memset(&waiting, 0, sizeof(waiting));
    run(leave_early, NULL);
    assert_int_equal(waited, ADMISSION_LEFT);
    assert_int_equal(waiting.place, 0);
    assert_int_equal(numbers("leaves").used, 0);
    assert_int_equal(numbers("leaves").classes[ADMISSION_STRANGER].left, 1);
    admission_leave(&waiting);
}

static void cancel_it(void *arg)
{
    struct co *co;

    hold_all();
    co = co_spawn(wait_long, NULL, "waits");
    while (waiting.wait == NULL)
        co_yield ();
    co_cancel(co);
    while (waiting.wait != NULL)
        co_yield ();
    give_all();
}

static void test_cancelled(void **state)
{
    pool = open_as(0, "cancelled");
    memset(&waiting, 0, sizeof(waiting));
    run(cancel_it, NULL);
    assert_int_equal(waited, ADMISSION_CANCELLED);
    assert_int_equal(numbers("cancelled").used, 0);
    assert_int_equal(numbers("cancelled").classes[ADMISSION_STRANGER].waiting, 0);
}

static void wait_in_vain(void *arg)
{
    struct admission_ticket t = {0};
    uint64_t begin = clock_ms();

    hold_all();
    judge(pool, &t);
    assert_int_equal(admission_take(pool, &t, 4096, clock_ms() + 60), ADMISSION_LATE);
    assert_true(clock_ms() - begin >= 30);
    assert_true(clock_ms() < t.deadline + 1000);
    assert_int_equal(admission_take(pool, &t, 4096, clock_ms()), ADMISSION_LATE);
    give_all();
    assert_int_equal(admission_take(pool, &t, 4096, clock_ms()), ADMISSION_GRANTED);
    admission_give(pool, &t, ADMISSION_LOST, 0, 0);
}

static void test_too_late(void **state)
{
    pool = open_as(0, "late");
    run(wait_in_vain, NULL);
    assert_int_equal(numbers("late").classes[ADMISSION_STRANGER].late, 2);
    assert_int_equal(numbers("late").used, 0);
}

static void test_release_is_harmless(void **state)
{
    struct admission_ticket t = {0};

    pool = open_as(0, "release");
    admission_release(pool, &t);
    judge(pool, &t);
    assert_int_equal(numbers("release").classes[ADMISSION_STRANGER].coming, 1);
    admission_release(pool, &t);
    admission_release(pool, &t);
    assert_int_equal(numbers("release").classes[ADMISSION_STRANGER].coming, 0);
    admission_give(pool, &t, ADMISSION_OK, 1, 1);
    assert_int_equal(numbers("release").outcomes[ADMISSION_OK], 0);
}

static void test_classes_of_clients(void **state)
{
    const struct mail_client own = {.name = "unknown", .addr = "127.0.0.1", .family = AF_INET};
    const struct mail_client local = {.name = "localhost", .addr = "", .family = AF_UNIX};
    const struct mail_client six = {.name = "unknown", .addr = "2001:db8::1", .family = AF_INET6};
    const struct mail_client near = {.name = "unknown", .addr = "2001:db8::2", .family = AF_INET6};
    struct admission_client a, b;

    pool = open_as(0, "classes");
    admission_know(pool, &own, false, &a);
    assert_true(a.is_own);
    admission_know(pool, &local, false, &a);
    assert_true(a.is_own);
    admission_know(pool, &six, true, &a);
    admission_know(pool, &near, false, &b);
    assert_false(a.is_own);
    assert_true(a.is_authenticated);
    assert_memory_equal(&a.key, &b.key, sizeof(a.key));
}

/* ---- several processes ---- */

/* A page that parent and child both see. */
static volatile int *shared_page(void)
{
    void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    assert_true(page != MAP_FAILED);
    return page;
}

static void wait_until(volatile const int *place, int value)
{
    uint64_t until = clock_ms() + SOON_MS;

    while (*place != value) {
        assert_true(clock_ms() < until);
        poll(NULL, 0, 1);
    }
}

static void end_of(pid_t pid, int signal)
{
    int status;

    if (signal != 0)
        kill(pid, signal);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (signal == 0)
        assert_int_equal(status, 0);
}

static void hold_and_say(void *arg)
{
    volatile int *said = arg;

    hold_all();
    *said = 1;
    for (;;)
        co_sleep(clock_ms() + 1000, "being killed");
}

static void wait_and_say(void *arg)
{
    volatile int *said = arg;

    co_spawn(wait_long, NULL, "waits");
    while (waiting.wait == NULL)
        co_yield ();
    *said = 2;
    while (waiting.wait != NULL)
        co_sleep(clock_ms() + 1, "its turn");
    *said = waited == ADMISSION_GRANTED ? 3 : 4;
    admission_give(pool, &waiting, ADMISSION_OK, 5, 4096);
}

static pid_t start_child(unsigned worker, const char *filter, void (*fn)(void *), volatile int *said)
{
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid > 0)
        return pid;
    pool = open_as(worker, filter);
    memset(&waiting, 0, sizeof(waiting));
    run(fn, (void *)said);
    _exit(0);
}

static void test_killed_owner_of_slots(void **state)
{
    volatile int *said = shared_page();
    pid_t holder, waiter;

    holder = start_child(1, "killed", hold_and_say, said);
    wait_until(said, 1);
    waiter = start_child(2, "killed", wait_and_say, said);
    wait_until(said, 2);
    assert_int_equal(numbers("killed").used, SLOTS);
    end_of(holder, SIGKILL);
    assert_int_equal(*said, 2);
    admission_forget(1);
    wait_until(said, 3);
    end_of(waiter, 0);
    assert_int_equal(numbers("killed").used, 0);
}

static void test_killed_waiter(void **state)
{
    volatile int *said = shared_page();
    pid_t holder, waiter;

    holder = start_child(1, "waiter", hold_and_say, said);
    wait_until(said, 1);
    waiter = start_child(2, "waiter", wait_and_say, said);
    wait_until(said, 2);
    end_of(waiter, SIGKILL);
    admission_forget(2);
    assert_int_equal(numbers("waiter").classes[ADMISSION_STRANGER].waiting, 0);
    assert_int_equal(numbers("waiter").used, SLOTS);
    end_of(holder, SIGKILL);
    admission_forget(1);
    assert_int_equal(numbers("waiter").used, 0);
}

/* The lock is taken, and what it guards is in pieces. */
static void die_with_lock(void)
{
    struct admission_shared *s = admission_lock();

    for (int i = 0; i < ADMISSION_POOLS; i++) {
        s->pools[i].n.used = 77;
        memset(&s->pools[i].queues[ADMISSION_STRANGER].heap, 0xff, 64);
        s->pools[i].coming.first = 12345;
        s->pools[i].queues[ADMISSION_STRANGER].waiting_ms = UINT64_MAX;
    }
    memset(s->buckets, 0xff, sizeof(s->buckets));
    s->free = 4242424;
    s->stale.first = 7;
    _exit(0);
}

static void go_on_after(void *arg)
{
    struct admission_ticket t;
    pid_t pid;

    hold_all();
    co_spawn(wait_long, NULL, "waits");
    while (waiting.wait == NULL)
        co_yield ();
    pid = fork();
    if (pid == 0)
        die_with_lock();
    end_of(pid, 0);
    judge(pool, &t);
    admission_release(pool, &t);
    assert_int_equal(numbers("mutex").used, SLOTS);
    assert_int_equal(numbers("mutex").classes[ADMISSION_STRANGER].waiting, 1);
    give_all();
    while (waiting.wait != NULL)
        co_yield ();
    assert_int_equal(waited, ADMISSION_GRANTED);
    admission_give(pool, &waiting, ADMISSION_OK, 5, 4096);
}

static void test_killed_holder_of_the_lock(void **state)
{
    struct admission_snapshot all;

    pool = open_as(0, "mutex");
    memset(&waiting, 0, sizeof(waiting));
    run(go_on_after, NULL);
    assert_int_equal(numbers("mutex").used, 0);
    assert_null(admission_snapshot(dir, &all));
    assert_int_equal(all.repairs, 1);
}

/* Workers that take and give as fast as they can, some of them killed at any instant. */
static volatile int *at_once, *most_at_once;

static void be_busy(void *arg)
{
    volatile int *begun = arg;

    for (int i = 0; i < 20000; i++) {
        struct admission_ticket t;
        int n;

        if (!judge(pool, &t).is_admitted)
            continue;
        if (admission_take(pool, &t, 4096, clock_ms() + SOON_MS) != ADMISSION_GRANTED)
            continue;
        *begun = 1;
        n = __atomic_add_fetch(at_once, 1, __ATOMIC_SEQ_CST);
        if (n > *most_at_once)
            *most_at_once = n;
        co_yield ();
        __atomic_sub_fetch(at_once, 1, __ATOMIC_SEQ_CST);
        admission_give(pool, &t, ADMISSION_OK, 1, 4096);
    }
}

static void test_killed_at_any_instant(void **state)
{
    volatile int *page = shared_page();

    at_once = page + 1;
    most_at_once = page + 2;
    for (int round = 0; round < 30; round++) {
        pid_t pids[4];

        *at_once = 0;
        for (unsigned i = 0; i < 4; i++) {
            page[10 + i] = 0;
            pids[i] = start_child(10 + i, "instant", be_busy, page + 10 + i);
        }
        for (unsigned i = 0; i < 4; i++)
            wait_until(page + 10 + i, 1);
        for (unsigned i = 0; i < 4; i++) {
            end_of(pids[i], SIGKILL);
            admission_forget(10 + i);
        }
    }
    assert_true(*most_at_once >= 1);
    assert_int_equal(numbers("instant").used, 0);
    assert_int_equal(numbers("instant").classes[ADMISSION_STRANGER].waiting, 0);
    assert_int_equal(numbers("instant").classes[ADMISSION_STRANGER].coming, 0);
}

static void test_never_more_than_slots(void **state)
{
    volatile int *page = shared_page();
    pid_t pids[4];

    at_once = page + 1;
    most_at_once = page + 2;
    for (unsigned i = 0; i < 4; i++)
        pids[i] = start_child(20 + i, "most", be_busy, page + 10 + i);
    for (unsigned i = 0; i < 4; i++)
        end_of(pids[i], 0);
    assert_int_equal(*most_at_once, SLOTS);
    assert_int_equal(numbers("most").used, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_turns),
        cmocka_unit_test(test_client_leaves),
        cmocka_unit_test(test_cancelled),
        cmocka_unit_test(test_too_late),
        cmocka_unit_test(test_release_is_harmless),
        cmocka_unit_test(test_classes_of_clients),
        cmocka_unit_test(test_killed_owner_of_slots),
        cmocka_unit_test(test_killed_waiter),
        cmocka_unit_test(test_killed_holder_of_the_lock),
        cmocka_unit_test(test_never_more_than_slots),
        cmocka_unit_test(test_killed_at_any_instant),
    };
    int failed;

    if (mkdtemp(dir) == NULL)
        return 1;
    admission_prepare(dir);
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(admission_file_name(NULL, dir));
    rmdir(dir);
    return failed;
}
