/* Taking a slot in coroutines of one process: turns, and every way in which waiting ends. */
#include "admission_live.h"
#include "admission_own.h"
#include "clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static int turns[4], turn_count;

static void take_one(void *arg)
{
    struct admission_ticket t;

    assert_true(live_judge(live_pool, &t).is_admitted);
    assert_int_equal(admission_take(live_pool, &t, 4096, clock_ms() + LIVE_SOON_MS), ADMISSION_GRANTED);
    turns[turn_count++] = (int)(intptr_t)arg;
    co_sleep(clock_ms() + 20, "a scan");
    admission_give(live_pool, &t, ADMISSION_OK, 20, 4096);
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

    live_pool = live_open(0, "turns");
    turn_count = 0;
    live_run(take_four, NULL);
    assert_int_equal(turn_count, 4);
    for (int i = 0; i < 4; i++)
        assert_int_equal(turns[i], i);
    n = live_numbers("turns");
    assert_int_equal(n.used, 0);
    assert_int_equal(n.most, LIVE_SLOTS);
    assert_int_equal(n.outcomes[ADMISSION_OK], 4);
    assert_int_equal(n.classes[ADMISSION_STRANGER].granted, 4);
    assert_int_equal(n.classes[ADMISSION_STRANGER].waiting, 0);
    assert_int_equal(n.classes[ADMISSION_STRANGER].running, 0);
    assert_int_equal(n.classes[ADMISSION_STRANGER].coming, 0);
}

static void take_and_give(void *arg)
{
    uint64_t rings;

    for (int i = 0; i < 100; i++) {
        struct admission_ticket t;

        assert_true(live_judge(live_pool, &t).is_admitted);
        assert_int_equal(admission_take(live_pool, &t, 4096, clock_ms() + LIVE_SOON_MS), ADMISSION_GRANTED);
        admission_give(live_pool, &t, ADMISSION_OK, 1, 4096);
    }
    assert_int_equal(co_count(), 2); /* another writes the file; nobody listens when nobody waits */
    assert_int_equal(read(admission_bell(0), &rings, sizeof(rings)), -1);
}

static void test_nobody_is_woken_for_nothing(void **state)
{
    live_pool = live_open(0, "quiet");
    live_run(take_and_give, NULL);
    assert_int_equal(live_numbers("quiet").classes[ADMISSION_STRANGER].granted, 100);
}

static void leave_early(void *arg)
{
    live_hold_all();
    co_spawn(live_wait, NULL, "waits");
    while (live_ticket.wait == NULL)
        co_yield ();
    admission_leave(&live_ticket);
    while (live_ticket.wait != NULL)
        co_yield ();
    live_give_all();
}

static void test_client_leaves(void **state)
{
    live_pool = live_open(0, "leaves");
    memset(&live_ticket, 0, sizeof(live_ticket));
    live_run(leave_early, NULL);
    assert_int_equal(live_end_of_wait, ADMISSION_LEFT);
    assert_int_equal(live_ticket.place, 0);
    assert_int_equal(live_numbers("leaves").used, 0);
    assert_int_equal(live_numbers("leaves").classes[ADMISSION_STRANGER].left, 1);
    admission_leave(&live_ticket);
}

static void cancel_it(void *arg)
{
    struct co *co;

    live_hold_all();
    co = co_spawn(live_wait, NULL, "waits");
    while (live_ticket.wait == NULL)
        co_yield ();
    co_cancel(co);
    while (live_ticket.wait != NULL)
        co_yield ();
    live_give_all();
}

static void test_cancelled(void **state)
{
    live_pool = live_open(0, "cancelled");
    memset(&live_ticket, 0, sizeof(live_ticket));
    live_run(cancel_it, NULL);
    assert_int_equal(live_end_of_wait, ADMISSION_CANCELLED);
    assert_int_equal(live_numbers("cancelled").used, 0);
    assert_int_equal(live_numbers("cancelled").classes[ADMISSION_STRANGER].waiting, 0);
}

static void wait_in_vain(void *arg)
{
    struct admission_ticket t = {0};
    uint64_t begin = clock_ms();

    live_hold_all();
    live_judge(live_pool, &t);
    assert_int_equal(admission_take(live_pool, &t, 4096, clock_ms() + 60), ADMISSION_LATE);
    assert_true(clock_ms() - begin >= 30);
    assert_true(clock_ms() < t.deadline + LIVE_SOON_MS);
    assert_int_equal(admission_take(live_pool, &t, 4096, clock_ms()), ADMISSION_LEFT);
    live_give_all();
    assert_int_equal(admission_take(live_pool, &t, 4096, clock_ms()), ADMISSION_GRANTED);
    admission_give(live_pool, &t, ADMISSION_LOST, 0, 0);
}

static void test_too_late(void **state)
{
    live_pool = live_open(0, "late");
    live_run(wait_in_vain, NULL);
    assert_int_equal(live_numbers("late").classes[ADMISSION_STRANGER].late, 1);
    assert_int_equal(live_numbers("late").classes[ADMISSION_STRANGER].left, 1); /* who does not wait */
    assert_int_equal(live_numbers("late").used, 0);
}

/* A slot is given back, and whoever did that died before he told. */
static void wait_untold(void *arg)
{
    struct admission_news lost = {0};
    struct admission_ticket t[LIVE_SLOTS + 1] = {0};

    for (int i = 0; i < LIVE_SLOTS; i++)
        assert_int_equal(admission_take(live_pool, &t[i], 4096, clock_ms()), ADMISSION_GRANTED);
    co_spawn(live_wait, NULL, "waits");
    while (live_ticket.wait == NULL)
        co_yield ();
    admission_core_give(admission_lock(), &t[0], ADMISSION_OK, 1, 1, admission_now(), &lost);
    admission_unlock();
    clock_skip_ms(LIVE_SOON_MS + 1);
    while (live_ticket.wait != NULL)
        co_yield ();
    admission_give(live_pool, &t[1], ADMISSION_OK, 1, 1);
    admission_give(live_pool, &live_ticket, ADMISSION_OK, 1, 1);
}

static void test_slot_that_nobody_told_of(void **state)
{
    live_pool = live_open(0, "untold");
    memset(&live_ticket, 0, sizeof(live_ticket));
    live_run(wait_untold, NULL);
    assert_int_equal(live_end_of_wait, ADMISSION_GRANTED);
    assert_int_equal(live_numbers("untold").used, 0);
}

/* ---- steps ---- */

/* Somebody has moved the class, and is no more. */
static struct admission_class_numbers *step_of_nobody(void)
{
    struct admission_pool *p = &admission_lock()->pools[live_pool->pool];

    p->n.classes[ADMISSION_STRANGER].step = ADMISSION_451;
    p->queues[ADMISSION_STRANGER].step_since = clock_ms();
    admission_unlock();
    return &p->n.classes[ADMISSION_STRANGER];
}

static void wait_for_full(const struct admission_class_numbers *n)
{
    uint64_t until;

    clock_skip_ms(ADMISSION_STEP_MS);
    until = clock_ms() + LIVE_SOON_MS;
    while (n->step != ADMISSION_FULL) {
        assert_true(clock_ms() < until);
        co_sleep(clock_ms() + 10, "the step to be left");
    }
}

static void open_to_a_step(void *arg)
{
    struct admission_class_numbers *n;

    live_pool = live_open(0, "steps");
    n = step_of_nobody();
    live_pool = live_open(0, "steps");
    wait_for_full(n);
}

static void be_told_a_step(void *arg)
{
    struct admission_class_numbers *n = step_of_nobody();
    struct admission_ticket t;

    live_judge(live_pool, &t);
    admission_release(live_pool, &t);
    wait_for_full(n);
}

static void test_step_that_nobody_looks_after(void **state)
{
    live_run(open_to_a_step, NULL);
    live_run(be_told_a_step, NULL);
}

static void test_release_is_harmless(void **state)
{
    struct admission_ticket t = {0};

    live_pool = live_open(0, "release");
    admission_release(live_pool, &t);
    live_judge(live_pool, &t);
    assert_int_equal(live_numbers("release").classes[ADMISSION_STRANGER].coming, 1);
    admission_release(live_pool, &t);
    admission_release(live_pool, &t);
    assert_int_equal(live_numbers("release").classes[ADMISSION_STRANGER].coming, 0);
    admission_give(live_pool, &t, ADMISSION_OK, 1, 1);
    assert_int_equal(live_numbers("release").outcomes[ADMISSION_OK], 0);
}

static void test_classes_of_clients(void **state)
{
    const struct mail_client own = {.name = "unknown", .addr = "127.0.0.1", .family = AF_INET};
    const struct mail_client local = {.name = "localhost", .addr = "", .family = AF_UNIX};
    const struct mail_client six = {.name = "unknown", .addr = "2001:db8::1", .family = AF_INET6};
    const struct mail_client near = {.name = "unknown", .addr = "2001:db8::2", .family = AF_INET6};
    struct admission_client a, b;

    live_pool = live_open(0, "classes");
    admission_know(live_pool, &own, false, &a);
    assert_true(a.is_own);
    admission_know(live_pool, &local, false, &a);
    assert_true(a.is_own);
    admission_know(live_pool, &six, true, &a);
    admission_know(live_pool, &near, false, &b);
    assert_false(a.is_own);
    assert_true(a.is_authenticated);
    assert_memory_equal(&a.key, &b.key, sizeof(a.key));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_turns),
        cmocka_unit_test(test_nobody_is_woken_for_nothing),
        cmocka_unit_test(test_client_leaves),
        cmocka_unit_test(test_cancelled),
        cmocka_unit_test(test_too_late),
        cmocka_unit_test(test_slot_that_nobody_told_of),
        cmocka_unit_test(test_step_that_nobody_looks_after),
        cmocka_unit_test(test_release_is_harmless),
        cmocka_unit_test(test_classes_of_clients),
    };
    int failed;

    live_begin();
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    live_end();
    return failed;
}
