/* One place decides over all processes, and the dead hold nothing: slots, places, or the lock. */
#include "admission_live.h"
#include "clock.h"

#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* A page that parent and child both see. */
static volatile int *shared_page(void)
{
    void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    assert_true(page != MAP_FAILED);
    return page;
}

static void wait_until(volatile const int *place, int value)
{
    uint64_t until = clock_ms() + LIVE_SOON_MS;

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

    live_hold_all();
    *said = 1;
    for (;;)
        co_sleep(clock_ms() + 1000, "being killed");
}

static void wait_and_say(void *arg)
{
    volatile int *said = arg;

    co_spawn(live_wait, NULL, "waits");
    while (live_ticket.wait == NULL)
        co_yield ();
    *said = 2;
    while (live_ticket.wait != NULL)
        co_sleep(clock_ms() + 1, "its turn");
    *said = live_end_of_wait == ADMISSION_GRANTED ? 3 : 4;
    admission_give(live_pool, &live_ticket, ADMISSION_OK, 5, 4096);
}

static pid_t start_child(unsigned worker, const char *filter, void (*fn)(void *), volatile int *said)
{
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid > 0)
        return pid;
    live_pool = live_open(worker, filter);
    memset(&live_ticket, 0, sizeof(live_ticket));
    live_run(fn, (void *)said);
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
    assert_int_equal(live_numbers("killed").used, LIVE_SLOTS);
    end_of(holder, SIGKILL);
    assert_int_equal(*said, 2);
    admission_forget(1);
    wait_until(said, 3);
    end_of(waiter, 0);
    assert_int_equal(live_numbers("killed").used, 0);
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
    assert_int_equal(live_numbers("waiter").classes[ADMISSION_STRANGER].waiting, 0);
    assert_int_equal(live_numbers("waiter").used, LIVE_SLOTS);
    end_of(holder, SIGKILL);
    admission_forget(1);
    assert_int_equal(live_numbers("waiter").used, 0);
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

    live_hold_all();
    co_spawn(live_wait, NULL, "waits");
    while (live_ticket.wait == NULL)
        co_yield ();
    pid = fork();
    if (pid == 0)
        die_with_lock();
    end_of(pid, 0);
    live_judge(live_pool, &t);
    admission_release(live_pool, &t);
    assert_int_equal(live_numbers("mutex").used, LIVE_SLOTS);
    assert_int_equal(live_numbers("mutex").classes[ADMISSION_STRANGER].waiting, 1);
    live_give_all();
    while (live_ticket.wait != NULL)
        co_yield ();
    assert_int_equal(live_end_of_wait, ADMISSION_GRANTED);
    admission_give(live_pool, &live_ticket, ADMISSION_OK, 5, 4096);
}

static void test_killed_holder_of_the_lock(void **state)
{
    live_pool = live_open(0, "mutex");
    memset(&live_ticket, 0, sizeof(live_ticket));
    live_run(go_on_after, NULL);
    assert_int_equal(live_numbers("mutex").used, 0);
    assert_int_equal(live_snapshot().repairs, 1);
}

static void keep_the_lock(volatile int *said, volatile uint64_t *until)
{
    admission_lock();
    *said = 1;
    poll(NULL, 0, 50);
    *until = clock_ms();
    admission_unlock();
    _exit(0);
}

/* Who waited for the lock decides with a time that is not before what was stored meanwhile. */
static void test_time_is_asked_for_under_the_lock(void **state)
{
    volatile int *said = shared_page();
    volatile uint64_t *until = (volatile uint64_t *)(said + 2);
    struct admission_ticket t;
    pid_t pid;

    live_pool = live_open(0, "time");
    pid = fork();
    if (pid == 0)
        keep_the_lock(said, until);
    wait_until(said, 1);
    live_judge(live_pool, &t);
    end_of(pid, 0);
    assert_true(admission_shared()->messages[t.place - 1].since >= *until);
    admission_release(live_pool, &t);
}

/* Workers that take and give as fast as they can, some of them killed at any instant. */
static volatile int *at_once, *most_at_once;

static void note_most(int n)
{
    int most = *most_at_once;

    while (n > most &&
           !__atomic_compare_exchange_n(most_at_once, &most, n, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
        ;
}

/* At least until all slots were taken at once, which on a busy machine may be late. */
static void be_busy(void *arg)
{
    volatile int *begun = arg;
    uint64_t until = clock_ms() + LIVE_SOON_MS;

    for (int i = 0; i < 20000 || (*most_at_once < LIVE_SLOTS && clock_ms() < until); i++) {
        struct admission_ticket t;
        int n;

        if (!live_judge(live_pool, &t).is_admitted)
            continue;
        if (admission_take(live_pool, &t, 4096, clock_ms() + LIVE_SOON_MS) != ADMISSION_GRANTED)
            continue;
        *begun = 1;
        n = __atomic_add_fetch(at_once, 1, __ATOMIC_SEQ_CST);
        note_most(n);
        co_yield ();
        __atomic_sub_fetch(at_once, 1, __ATOMIC_SEQ_CST);
        admission_give(live_pool, &t, ADMISSION_OK, 1, 4096);
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
    assert_int_equal(live_numbers("instant").used, 0);
    assert_int_equal(live_numbers("instant").classes[ADMISSION_STRANGER].waiting, 0);
    assert_int_equal(live_numbers("instant").classes[ADMISSION_STRANGER].coming, 0);
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
    assert_int_equal(*most_at_once, LIVE_SLOTS);
    assert_int_equal(live_numbers("most").used, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_killed_owner_of_slots),
        cmocka_unit_test(test_killed_waiter),
        cmocka_unit_test(test_killed_holder_of_the_lock),
        cmocka_unit_test(test_time_is_asked_for_under_the_lock),
        cmocka_unit_test(test_killed_at_any_instant),
        cmocka_unit_test(test_never_more_than_slots),
    };
    int failed;

    live_begin();
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    live_end();
    return failed;
}
