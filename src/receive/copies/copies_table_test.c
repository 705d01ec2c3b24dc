/* The table of copies: whose turn it is, what dies with a worker, and that old messages make room. */
#include "copies_table.h"

#include "clock.h"
#include "format.h"
#include "mem.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { KEEP_MS = 100000, KILLS = 100 };

static struct copies_table *t;
static char first[MAIL_ID_SIZE];

static int setup(void **state)
{
    t = copies_table_new();
    first[0] = '\0';
    return 0;
}

static struct copies_place open_as(unsigned worker, const char *ident, unsigned retry, const char *id)
{
    struct copies_place place = {.key.parties = 7, .retry = retry};

    format_print(place.key.ident, MAIL_ID_SIZE, "%s", ident);
    copies_table_open(t, &place, worker, id);
    assert_non_null(place.entry);
    return place;
}

static struct copies_place place_of(const char *ident, unsigned retry, const char *id)
{
    return open_as(1, ident, retry, id);
}

static enum copies_turn turn(struct copies_place *place)
{
    return copies_table_turn(t, place, first);
}

static void close_as(struct copies_place *place, bool is_queued)
{
    copies_table_close(t, place, is_queued, KEEP_MS);
    assert_null(place->entry);
}

static void queue_one(const char *ident, unsigned retry, const char *id)
{
    struct copies_place place = place_of(ident, retry, id);

    assert_int_equal(turn(&place), COPIES_GO);
    close_as(&place, true);
}

static void assert_queued_before(const char *ident, unsigned retry, const char *id)
{
    struct copies_place place = place_of(ident, retry, "COPY01");

    assert_int_equal(turn(&place), COPIES_QUEUED);
    assert_string_equal(first, id);
    assert_null(place.entry);
}

/* ---- one after the other ---- */

static void test_copy_of_a_queued_message(void **state)
{
    queue_one("IDENT1", 0, "QUEUE1");
    assert_queued_before("IDENT1", 1, "QUEUE1");
    assert_queued_before("IDENT1", 2, "QUEUE1");
}

static void test_other_messages_are_others(void **state)
{
    struct copies_place parts;

    queue_one("IDENT1", 0, "QUEUE1");
    queue_one("IDENT2", 1, "QUEUE2");
    parts = place_of("IDENT1", 1, "QUEUE3");
    parts.key.parties++;
    assert_int_equal(turn(&parts), COPIES_GO);
}

static void test_what_is_no_copy_is_never_answered(void **state)
{
    queue_one("IDENT1", 0, "QUEUE1");
    queue_one("IDENT1", 0, "QUEUE2");
}

static void test_parts_that_agree_are_answered_once_each(void **state)
{
    queue_one("IDENT1", 0, "QUEUE1");
    queue_one("IDENT1", 0, "QUEUE2");
    assert_queued_before("IDENT1", 1, "QUEUE1");
    assert_queued_before("IDENT1", 1, "QUEUE2");
    queue_one("IDENT1", 1, "QUEUE3");
    assert_queued_before("IDENT1", 2, "QUEUE1");
    assert_queued_before("IDENT1", 2, "QUEUE2");
    assert_queued_before("IDENT1", 2, "QUEUE3");
    queue_one("IDENT1", 2, "QUEUE4");
}

static void test_refused_message_may_come_again(void **state)
{
    struct copies_place refused = place_of("IDENT1", 0, "QUEUE1");

    assert_int_equal(turn(&refused), COPIES_GO);
    close_as(&refused, false);
    queue_one("IDENT1", 1, "QUEUE2");
    assert_queued_before("IDENT1", 2, "QUEUE2");
}

/* ---- at the same time ---- */

static void test_copy_replaces_what_is_still_received(void **state)
{
    struct copies_place slow = place_of("IDENT1", 0, "QUEUE1");
    struct copies_place copy = place_of("IDENT1", 1, "QUEUE2");

    assert_int_equal(turn(&copy), COPIES_GO);
    assert_int_equal(turn(&slow), COPIES_REPLACED);
    close_as(&copy, false);
    assert_int_equal(turn(&slow), COPIES_REPLACED); /* for good */
    close_as(&slow, false);
    queue_one("IDENT1", 2, "QUEUE3");
}

static void test_dot_after_a_copy_has_begun(void **state)
{
    struct copies_place slow = place_of("IDENT1", 0, "QUEUE1");
    struct copies_place copy = place_of("IDENT1", 1, "QUEUE2");

    assert_int_equal(turn(&slow), COPIES_REPLACED);
    assert_int_equal(turn(&copy), COPIES_GO);
}

static void test_copy_waits_for_the_queue(void **state)
{
    struct copies_place slow = place_of("IDENT1", 0, "QUEUE1"), copy;

    assert_int_equal(turn(&slow), COPIES_GO);
    copy = place_of("IDENT1", 1, "QUEUE2");
    assert_int_equal(turn(&copy), COPIES_WAIT);
    close_as(&slow, true);
    assert_int_equal(turn(&copy), COPIES_QUEUED);
    assert_string_equal(first, "QUEUE1");
}

static void test_copy_waits_for_a_refusal(void **state)
{
    struct copies_place slow = place_of("IDENT1", 0, "QUEUE1"), copy;

    assert_int_equal(turn(&slow), COPIES_GO);
    copy = place_of("IDENT1", 1, "QUEUE2");
    assert_int_equal(turn(&copy), COPIES_WAIT);
    close_as(&slow, false);
    assert_int_equal(turn(&copy), COPIES_GO);
}

/* The later of two copies that wait has the answer; the earlier must not think that it is a new message. */
static void test_two_copies_wait(void **state)
{
    struct copies_place slow = place_of("IDENT1", 0, "QUEUE1"), one, two;

    assert_int_equal(turn(&slow), COPIES_GO);
    one = place_of("IDENT1", 1, "QUEUE2");
    assert_int_equal(turn(&one), COPIES_WAIT);
    two = place_of("IDENT1", 2, "QUEUE3");
    assert_int_equal(turn(&two), COPIES_WAIT);
    close_as(&slow, true);
    assert_int_equal(turn(&two), COPIES_QUEUED);
    assert_int_equal(turn(&one), COPIES_REPLACED);
}

/* ---- workers that die ---- */

/* Runs as the worker of this id, which is killed, and forgotten. */
static void die_as(unsigned worker, void (*fn)(unsigned worker))
{
    pid_t pid = fork();
    int status;

    if (pid == 0) {
        fn(worker);
        raise(SIGKILL);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    copies_table_forget(t, worker);
}

static void receive(unsigned worker)
{
    open_as(worker, "IDENT1", 0, "QUEUE1");
}

static void commit(unsigned worker)
{
    struct copies_place place = open_as(worker, "IDENT1", 0, "QUEUE1");

    turn(&place);
}

static void finish(unsigned worker)
{
    struct copies_place place = open_as(worker, "IDENT1", 0, "QUEUE1");

    turn(&place);
    close_as(&place, true);
}

static void test_worker_dies_while_it_receives(void **state)
{
    die_as(9, receive);
    queue_one("IDENT1", 1, "QUEUE2");
}

static void test_worker_dies_after_it_queued(void **state)
{
    die_as(9, finish);
    assert_queued_before("IDENT1", 1, "QUEUE1");
}

static void test_worker_dies_while_it_queues(void **state)
{
    for (int is_queued = 0; is_queued < 2; is_queued++) {
        struct copies_place copy;

        die_as(9, commit);
        copy = place_of("IDENT1", 1, "QUEUE2");
        assert_int_equal(turn(&copy), COPIES_ORPHAN);
        assert_string_equal(first, "QUEUE1");
        copies_table_decide(t, &copy.key, first, is_queued, KEEP_MS);
        assert_int_equal(turn(&copy), is_queued ? COPIES_QUEUED : COPIES_GO);
        close_as(&copy, false);
    }
}

static void test_other_workers_keep_theirs(void **state)
{
    struct copies_place copy, mine = place_of("IDENT1", 0, "QUEUE1");

    assert_int_equal(turn(&mine), COPIES_GO);
    copies_table_forget(t, 2);
    copy = place_of("IDENT1", 1, "QUEUE2");
    assert_int_equal(turn(&copy), COPIES_WAIT);
}

static void work_without_end(unsigned worker)
{
    for (unsigned n = 0;; n++) {
        char id[MAIL_ID_SIZE];
        struct copies_place place;

        format_print(id, sizeof(id), "LOAD%u", n % 1000);
        place = open_as(worker, id, n / 1000, id);
        turn(&place);
        close_as(&place, n % 3 != 0);
    }
}

/* Most of its time is spent inside the lock: what it leaves half done does not stop others. */
static void test_worker_is_killed_at_any_instant(void **state)
{
    srand(1);
    for (unsigned n = 0; n < KILLS; n++) {
        char id[MAIL_ID_SIZE];
        pid_t pid;

        format_print(id, sizeof(id), "SAFE%u", n);
        queue_one(id, 0, id);
        pid = fork();
        if (pid == 0)
            work_without_end(9);
        usleep((useconds_t)(rand() % 2000));
        kill(pid, SIGKILL);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        copies_table_forget(t, 9);
        assert_queued_before(id, 1, id);
        assert_queued_before("SAFE0", n + 2, "SAFE0");
    }
}

/* ---- time and room ---- */

static void test_what_was_queued_is_known_for_its_time(void **state)
{
    queue_one("IDENT1", 0, "QUEUE1");
    clock_skip_ms(KEEP_MS / 2);
    assert_queued_before("IDENT1", 1, "QUEUE1");
    clock_skip_ms(KEEP_MS / 2);
    queue_one("IDENT1", 2, "QUEUE2");
}

static void queue_many(unsigned from, unsigned n)
{
    for (unsigned i = from; i < from + n; i++) {
        char id[MAIL_ID_SIZE];

        format_print(id, sizeof(id), "MANY%u", i);
        queue_one(id, 0, id);
    }
}

static void test_oldest_makes_room(void **state)
{
    struct copies_place slow = place_of("IDENT1", 0, "QUEUE1"), copy;

    assert_int_equal(turn(&slow), COPIES_GO);
    queue_many(0, COPIES_ENTRIES + 10);
    assert_queued_before("MANY100", 1, "MANY100");
    assert_queued_before("MANY131081", 1, "MANY131081");
    queue_one("MANY3", 1, "QUEUE3");
    copy = place_of("IDENT1", 1, "QUEUE2");
    assert_int_equal(turn(&copy), COPIES_WAIT); /* what is at work keeps its place */
    close_as(&slow, true);
    assert_int_equal(turn(&copy), COPIES_QUEUED);
}

/* Memory that is not used yet is not touched while there is some that is used no more. */
static void test_old_room_is_used_again(void **state)
{
    struct copies_place one, again;

    one = place_of("IDENT1", 0, "QUEUE1");
    again = one;
    assert_int_equal(turn(&one), COPIES_GO);
    close_as(&one, true);
    queue_many(0, 1000);
    clock_skip_ms(KEEP_MS + 1);
    one = place_of("IDENT2", 0, "QUEUE2");
    assert_ptr_equal(one.entry, again.entry);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_copy_of_a_queued_message, setup),
        cmocka_unit_test_setup(test_other_messages_are_others, setup),
        cmocka_unit_test_setup(test_what_is_no_copy_is_never_answered, setup),
        cmocka_unit_test_setup(test_parts_that_agree_are_answered_once_each, setup),
        cmocka_unit_test_setup(test_refused_message_may_come_again, setup),
        cmocka_unit_test_setup(test_copy_replaces_what_is_still_received, setup),
        cmocka_unit_test_setup(test_dot_after_a_copy_has_begun, setup),
        cmocka_unit_test_setup(test_copy_waits_for_the_queue, setup),
        cmocka_unit_test_setup(test_copy_waits_for_a_refusal, setup),
        cmocka_unit_test_setup(test_two_copies_wait, setup),
        cmocka_unit_test_setup(test_worker_dies_while_it_receives, setup),
        cmocka_unit_test_setup(test_worker_dies_after_it_queued, setup),
        cmocka_unit_test_setup(test_worker_dies_while_it_queues, setup),
        cmocka_unit_test_setup(test_other_workers_keep_theirs, setup),
        cmocka_unit_test_setup(test_worker_is_killed_at_any_instant, setup),
        cmocka_unit_test_setup(test_what_was_queued_is_known_for_its_time, setup),
        cmocka_unit_test_setup(test_oldest_makes_room, setup),
        cmocka_unit_test_setup(test_old_room_is_used_again, setup),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
