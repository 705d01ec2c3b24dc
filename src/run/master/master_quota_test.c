/* Session places: the limit over several processes, places of the dead, waiting for a place. */
#include "clock.h"
#include "log.h"
#include "master_quota.h"
#include "mem.h"

#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static void test_limit(void **state)
{
    struct master_quota *q = master_quota_new(NULL, "inet test");

    master_quota_set_limit(q, 3);
    assert_true(master_quota_try(q, 0));
    assert_true(master_quota_try(q, 1));
    assert_true(master_quota_try(q, 255));
    assert_false(master_quota_try(q, 0));
    assert_int_equal(master_quota_used(q), 3);
    master_quota_give(q, 1);
    assert_true(master_quota_try(q, 0));
    assert_int_equal(master_quota_used_by(q, 0), 2);
    master_quota_set_limit(q, 0);
    for (size_t i = 0; i < 1000; i++)
        assert_true(master_quota_try(q, 7));
    talloc_free(q);
}

static void test_dead_worker(void **state)
{
    struct master_quota *q = master_quota_new(NULL, "inet test");
    pid_t pid;

    master_quota_set_limit(q, 2);
    pid = fork();
    if (pid == 0) {
        master_quota_try(q, 9);
        master_quota_try(q, 9);
        _exit(0);
    }
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    assert_false(master_quota_try(q, 1));
    master_quota_forget(q, 9);
    assert_int_equal(master_quota_used(q), 0);
    assert_true(master_quota_try(q, 1));
    talloc_free(q);
}

struct seen {
    atomic_uint now, most, taken;
};

static void take_and_give(struct master_quota *q, struct seen *seen, unsigned worker)
{
    for (size_t i = 0; i < 20000; i++) {
        unsigned now, most;

        if (!master_quota_try(q, worker))
            continue;
        now = atomic_fetch_add(&seen->now, 1) + 1;
        most = atomic_load(&seen->most);
        while (now > most && !atomic_compare_exchange_weak(&seen->most, &most, now))
            ;
        atomic_fetch_add(&seen->taken, 1);
        if (i % 7 == 0)
            sched_yield();
        atomic_fetch_sub(&seen->now, 1);
        master_quota_give(q, worker);
    }
}

static void test_never_more_than_the_limit(void **state)
{
    enum { CHILDREN = 4, LIMIT = 2 };
    struct master_quota *q = master_quota_new(NULL, "inet test");
    struct seen *seen = mmap(NULL, sizeof(*seen), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    master_quota_set_limit(q, LIMIT);
    for (unsigned i = 0; i < CHILDREN; i++)
        if (fork() == 0) {
            take_and_give(q, seen, i);
            _exit(0);
        }
    for (size_t i = 0; i < CHILDREN; i++)
        assert_true(wait(NULL) > 0);
    assert_true(seen->taken > 0);
    assert_in_range(seen->most, 1, LIMIT);
    assert_int_equal(master_quota_used(q), 0);
    munmap(seen, sizeof(*seen));
    talloc_free(q);
}

static void wait_for_place(void *arg)
{
    struct master_quota *q = arg;

    while (!master_quota_try(q, 1))
        assert_int_equal(master_quota_wait(q, clock_ms() + 5000), CO_OK);
}

static void give_place(void *arg)
{
    co_yield ();
    master_quota_give(arg, 0);
}

static void test_wait_ends_when_a_place_is_free(void **state)
{
    struct master_quota *q = master_quota_new(NULL, "inet test");

    master_quota_set_limit(q, 1);
    assert_true(master_quota_try(q, 0));
    co_init(1);
    co_spawn(wait_for_place, q, "waiter");
    co_spawn(give_place, q, "giver");
    co_run();
    assert_int_equal(master_quota_used_by(q, 1), 1);
    co_deinit();
    talloc_free(q);
}

static void wait_in_vain(void *arg)
{
    uint64_t deadline = clock_ms() + 50;

    assert_int_equal(master_quota_wait(arg, deadline), CO_TIMEOUT);
    assert_true(clock_ms() >= deadline);
}

static void test_wait_has_a_deadline(void **state)
{
    struct master_quota *q = master_quota_new(NULL, "inet test");

    co_init(1);
    co_spawn(wait_in_vain, q, "waiter");
    co_run();
    co_deinit();
    talloc_free(q);
}

static void test_warns_rarely(void **state)
{
    struct master_quota *q = master_quota_new(NULL, "inet test");

    assert_true(master_quota_may_warn(q));
    assert_false(master_quota_may_warn(q));
    clock_skip_ms(MASTER_QUOTA_WARN_MS - 1000);
    assert_false(master_quota_may_warn(q));
    clock_skip_ms(2000);
    assert_true(master_quota_may_warn(q));
    talloc_free(q);
}

static void count_line(const char *line, void *arg)
{
    if (strstr(line, "under stress") != NULL)
        (*(size_t *)arg)++;
}

static void test_stress(void **state)
{
    enum { STRESS_MS = 100000 };
    struct master_quota *q = master_quota_new(NULL, "inet test");
    size_t lines = 0;

    log_capture(count_line, &lines);
    master_quota_set_limit(q, 2);
    assert_true(master_quota_try(q, 0));
    assert_true(master_quota_try(q, 1));
    assert_int_equal(master_quota_stressed_until(q), 0); /* it has none */
    master_quota_give(q, 1);
    master_quota_set_stress(q, STRESS_MS);
    assert_int_equal(master_quota_stressed_until(q), 0);
    assert_true(master_quota_try(q, 1)); /* the last place */
    assert_in_range(master_quota_stressed_until(q), clock_ms() + 1, clock_ms() + STRESS_MS);
    clock_skip_ms(STRESS_MS / 10 * 9);
    assert_false(master_quota_try(q, 1)); /* who waits prolongs it */
    master_quota_give(q, 1);
    clock_skip_ms(STRESS_MS / 10 * 9);
    assert_true(master_quota_stressed_until(q) != 0);
    assert_int_equal(lines, 1);
    clock_skip_ms(STRESS_MS / 10 + 1);
    assert_int_equal(master_quota_stressed_until(q), 0);
    assert_int_equal(lines, 2);
    assert_true(master_quota_try(q, 1));
    assert_int_equal(lines, 3);
    master_quota_set_stress(q, 0); /* by a reload */
    assert_int_equal(master_quota_stressed_until(q), 0);
    assert_int_equal(lines, 4);
    log_capture(NULL, NULL);
    talloc_free(q);
}

static void test_snapshot(void **state)
{
    char dir[] = "/tmp/sp-quota-XXXXXX", *file = mem_printf(NULL, "%s/sessions", mkdtemp(dir));
    struct master_sessions *seen = mem_array(NULL, struct master_sessions, MASTER_SERVICES);
    struct master_quota *q, *gone;
    struct error *e = master_quota_snapshot(dir, seen);
    FILE *short_file;

    assert_non_null(e);
    error_free(&e);
    master_quota_prepare(dir);
    q = master_quota_new(NULL, "inet one");
    gone = master_quota_new(NULL, "inet two");
    master_quota_set_limit(q, 5);
    assert_true(master_quota_try(q, 3));
    assert_true(master_quota_try(q, 4));
    master_quota_give(q, 3);
    talloc_free(gone);
    assert_null(master_quota_snapshot(dir, seen));
    assert_string_equal(seen[0].service, "inet one");
    assert_int_equal(seen[0].limit, 5);
    assert_int_equal(seen[0].used, 1);
    assert_int_equal(seen[0].taken, 2);
    assert_false(seen[0].is_stressed);
    assert_string_equal(seen[1].service, "");
    unlink(file); /* the counters stay mapped; now another file has the name, too short */
    short_file = fopen(file, "w");
    assert_int_equal(fprintf(short_file, "%0100d", 0), 100);
    fclose(short_file);
    e = master_quota_snapshot(dir, seen);
    assert_non_null(e);
    error_free(&e);
    unlink(file);
    rmdir(dir);
    talloc_free(q);
    talloc_free(seen);
    talloc_free(file);
}

/* ---- whose are the connections ---- */

static struct master_quota *two_that_take(void)
{
    struct master_quota *q = master_quota_new(NULL, "inet test");

    master_quota_set_busy_share(q, 100);
    master_quota_takes(q, 3, true);
    master_quota_takes(q, 5, true);
    return q;
}

static void test_the_first_takes_connections(void **state)
{
    struct master_quota *q = two_that_take();

    assert_false(master_quota_is_spare(q, 3));
    assert_true(master_quota_is_spare(q, 5));
    clock_skip_ms(1000); /* it hangs, say */
    assert_false(master_quota_is_spare(q, 5));
    master_quota_takes(q, 3, true);
    assert_true(master_quota_is_spare(q, 5));
    master_quota_takes(q, 3, false);
    assert_false(master_quota_is_spare(q, 5));
    master_quota_takes(q, 5, true);
    master_quota_takes(q, 3, true);
    assert_true(master_quota_is_spare(q, 3)); /* its place was free */
    master_quota_forget(q, 5);
    assert_false(master_quota_is_spare(q, 3));
    talloc_free(q);
}

static void test_a_busy_worker_has_no_time(void **state)
{
    struct master_quota *q = two_that_take();
    uint64_t until = clock_ms() + 200;

    while (clock_ms() < until)
        continue;
    master_quota_set_busy_share(q, 1);
    master_quota_takes(q, 3, true);
    assert_false(master_quota_is_spare(q, 5));
    clock_skip_ms(100000); /* and then it slept */
    master_quota_takes(q, 3, true);
    assert_true(master_quota_is_spare(q, 5));
    clock_skip_ms(1000);
    master_quota_set_busy_share(q, 0);
    master_quota_takes(q, 3, true);
    assert_false(master_quota_is_spare(q, 5));
    talloc_free(q);
}

static void test_who_is_far_ahead_gives_its_place(void **state)
{
    struct master_quota *q = two_that_take();

    for (size_t i = 1; i < MASTER_QUOTA_AHEAD; i++)
        assert_true(master_quota_try(q, 3));
    master_quota_takes(q, 3, true);
    assert_true(master_quota_is_spare(q, 5));
    assert_true(master_quota_try(q, 3));
    master_quota_takes(q, 3, true);
    assert_false(master_quota_is_spare(q, 5));
    assert_true(master_quota_is_spare(q, 3));
    for (size_t i = 0; i < MASTER_QUOTA_AHEAD; i++)
        assert_true(master_quota_try(q, 5));
    master_quota_takes(q, 5, true); /* level: the place stays where it is */
    assert_true(master_quota_is_spare(q, 3));
    talloc_free(q);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_snapshot), /* first: it says where the counters are */
        cmocka_unit_test(test_limit),
        cmocka_unit_test(test_dead_worker),
        cmocka_unit_test(test_never_more_than_the_limit),
        cmocka_unit_test(test_wait_ends_when_a_place_is_free),
        cmocka_unit_test(test_wait_has_a_deadline),
        cmocka_unit_test(test_warns_rarely),
        cmocka_unit_test(test_stress),
        cmocka_unit_test(test_the_first_takes_connections),
        cmocka_unit_test(test_a_busy_worker_has_no_time),
        cmocka_unit_test(test_who_is_far_ahead_gives_its_place),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
