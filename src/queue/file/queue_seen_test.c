/* Ids that queue files got lately: who is certain to be new, and when nothing is known. */
#include "queue_private.h"

#include "clock.h"
#include "format.h"
#include "mem.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static uint64_t seconds(void)
{
    return clock_real_us() / 1000000;
}

/* Short: the nth id of a second. */
static struct bytes id_of(uint64_t second, unsigned n)
{
    static char id[MAIL_ID_SIZE];

    format_print(id, sizeof(id), "%05X%08X01", n, (unsigned)second);
    return bytes_of(id);
}

static void test_nothing_is_known_without_memory(void **state)
{
    queue_seen_note(id_of(seconds(), 1));
    assert_false(queue_seen_is_new(id_of(seconds(), 2)));
    assert_false(queue_was_taken(id_of(seconds(), 1).p));
}

static int start(void **state)
{
    queue_prepare();
    return 0;
}

static void test_what_is_older_than_the_memory_is_not_known(void **state)
{
    uint64_t began = seconds();

    assert_false(queue_seen_is_new(id_of(began, 1)));
    assert_false(queue_seen_is_new(id_of(began - 1000, 1)));
    clock_skip_ms(5000);
    assert_false(queue_seen_is_new(id_of(began, 1)));
    assert_true(queue_seen_is_new(id_of(began + 4, 1)));
}

static void test_seen_once_is_not_new(void **state)
{
    char id[MAIL_ID_SIZE];

    clock_skip_ms(5000);
    for (int is_long = 0; is_long < 2; is_long++) {
        mail_id_setup(7, is_long);
        mail_id_new(id);
        assert_true(queue_seen_is_new(bytes_of(id)));
        queue_seen_note(bytes_of(id));
        assert_false(queue_seen_is_new(bytes_of(id)));
        queue_seen_note(bytes_of(id));
        mail_id_new(id);
        assert_true(queue_seen_is_new(bytes_of(id)));
    }
}

static void test_other_processes_know(void **state)
{
    char id[MAIL_ID_SIZE];
    int status;
    pid_t pid;

    clock_skip_ms(5000);
    mail_id_new(id);
    pid = fork();
    if (pid == 0) {
        queue_seen_note(bytes_of(id));
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_false(queue_seen_is_new(bytes_of(id)));
}

static void test_what_no_clock_of_ours_gave_is_not_known(void **state)
{
    clock_skip_ms(5000);
    assert_false(queue_seen_is_new(id_of(seconds() + 60, 1)));
    assert_false(queue_seen_is_new(BYTES("ABCDEF0123")));
    assert_false(queue_seen_is_new(BYTES("GGGGGGGGGGGGGGG")));
    assert_false(queue_seen_is_new(BYTES("")));
}

/* More than there is room for: what is forgotten is not called new, and what has just come is remembered. */
static void test_what_is_forgotten_is_not_known(void **state)
{
    enum { PER_SECOND = 20000, SECONDS = 30 };
    uint64_t first, known = 0;

    clock_skip_ms(5000);
    first = seconds();
    assert_true(queue_seen_is_new(id_of(first, 0)));
    for (unsigned s = 0; s < SECONDS; s++)
        for (unsigned n = 0; n < PER_SECOND; n++)
            queue_seen_note(id_of(first + s, n));
    clock_skip_ms(1000 * SECONDS);
    for (unsigned s = 0; s < SECONDS; s++) {
        for (unsigned n = 0; n < PER_SECOND; n += 7)
            assert_false(queue_seen_is_new(id_of(first + s, n)));
        known += queue_seen_is_new(id_of(first + s, PER_SECOND));
    }
    assert_false(queue_seen_is_new(id_of(first, PER_SECOND)));
    assert_in_range(known, 1, SECONDS - 1);
    assert_true(queue_seen_is_new(id_of(first + SECONDS - 1, PER_SECOND)));
}

static void make_file(const char *dir, const char *place, const char *id)
{
    char path[128];
    int fd;

    format_print(path, sizeof(path), "%s/%s/%s", dir, place, id);
    fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0700);
    assert_true(fd >= 0);
    close(fd);
}

/* Another program, or a worker of the master before, shares no memory with us; but no filter gets a message,
 * and hands its id back to us, before the scheduler has moved it. */
static void test_what_others_made_is_known_when_it_is_moved(void **state)
{
    char dir[] = "/tmp/queue_seen_test.XXXXXX", id[MAIL_ID_SIZE], command[64];
    const struct queue_conf conf = {.directory = dir, .hash_depth = 1};
    struct queue *q;

    assert_non_null(mkdtemp(dir));
    assert_null(queue_open(NULL, &conf, &q));
    clock_skip_ms(5000);
    mail_id_new(id);
    make_file(dir, "incoming", id);
    assert_true(queue_id_is_free(q, id));
    assert_null(queue_message_move(q, id, QUEUE_INCOMING, QUEUE_ACTIVE, 0));
    assert_false(queue_id_is_free(q, id));
    talloc_free(q);
    format_print(command, sizeof(command), "rm -rf %s", dir);
    assert_int_equal(system(command), 0);
}

/* The clock was fast, and was set back before the start. */
static void test_what_the_future_named_is_found_at_start(void **state)
{
    char dir[] = "/tmp/queue_seen_test.XXXXXX", command[64];
    const struct queue_conf conf = {.directory = dir, .hash_depth = 1};
    struct bytes id = id_of(seconds() + 60, 1);
    struct queue *q;

    assert_non_null(mkdtemp(dir));
    assert_null(queue_open(NULL, &conf, &q));
    make_file(dir, "hold", id.p);
    assert_null(queue_recover(q));
    clock_skip_ms(61000);
    assert_false(queue_id_is_free(q, id.p));
    assert_true(queue_id_is_free(q, id_of(seconds(), 2).p));
    talloc_free(q);
    format_print(command, sizeof(command), "rm -rf %s", dir);
    assert_int_equal(system(command), 0);
}

/* As a message whose writer died, and that was delivered before anybody asked. */
static void test_what_was_taken_is_known_when_it_is_gone(void **state)
{
    char dir[] = "/tmp/queue_seen_test.XXXXXX", id[MAIL_ID_SIZE], command[64];
    const struct queue_conf conf = {.directory = dir, .hash_depth = 1};
    struct queue *q;
    int status;
    pid_t pid;

    assert_non_null(mkdtemp(dir));
    assert_null(queue_open(NULL, &conf, &q));
    mail_id_new(id); /* in the second of the start */
    queue_seen_note(bytes_of(id));
    assert_false(queue_was_taken(id));
    make_file(dir, "incoming", id);
    pid = fork();
    if (pid == 0)
        _exit(queue_message_move(q, id, QUEUE_INCOMING, QUEUE_ACTIVE, 0) != NULL ||
              queue_message_remove(q, QUEUE_ACTIVE, id) != NULL);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_true(queue_was_taken(id));
    mail_id_new(id);
    assert_false(queue_was_taken(id));
    make_file(dir, "hold", id);
    assert_null(queue_message_move(q, id, QUEUE_HOLD, QUEUE_INCOMING, 0));
    assert_false(queue_was_taken(id));
    assert_false(queue_was_taken("../etc/passwd"));
    talloc_free(q);
    format_print(command, sizeof(command), "rm -rf %s", dir);
    assert_int_equal(system(command), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_is_known_without_memory),
        cmocka_unit_test_setup(test_what_is_older_than_the_memory_is_not_known, start),
        cmocka_unit_test_setup(test_seen_once_is_not_new, start),
        cmocka_unit_test_setup(test_other_processes_know, start),
        cmocka_unit_test_setup(test_what_no_clock_of_ours_gave_is_not_known, start),
        cmocka_unit_test_setup(test_what_is_forgotten_is_not_known, start),
        cmocka_unit_test_setup(test_what_others_made_is_known_when_it_is_moved, start),
        cmocka_unit_test_setup(test_what_the_future_named_is_found_at_start, start),
        cmocka_unit_test_setup(test_what_was_taken_is_known_when_it_is_gone, start),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
