/* The journal while it is written: batches, checkpoints, and a disk that refuses or takes its time. */
#include "queue_journal_test_crash.h"

/* ---- checkpoints ---- */

static void test_delivered_mail_stays_away_after_a_checkpoint(void **state)
{
    delay_ms = 200;
    in_process("boot-1", SIZE, commit_and_checkpoint, NULL);
    remove_all(2);
    recover("boot-2");
    assert_false(is_there(QUEUE_INCOMING, id_of(0)));
    assert_whole(QUEUE_INCOMING, id_of(1), 5000);
}

static void commit_and_settle(void *arg)
{
    wait_until_ready();
    must_commit(id_of(0), 5000, QUEUE_INCOMING);
    queue_settle(q);
    _exit(0);
}

static void test_an_orderly_end_leaves_nothing(void **state)
{
    struct held held;

    in_process("boot-1", SIZE, commit_and_settle, NULL);
    look_into("0", "boot-2", &held);
    assert_int_equal(held.state[0], QUEUE_JOURNAL_EMPTY);
    assert_int_equal(held.state[1], QUEUE_JOURNAL_EMPTY);
    recover("boot-2");
    assert_string_equal(last_line, "");
    assert_whole(QUEUE_INCOMING, id_of(0), 5000);
}

enum { MANY = 60, MANY_SIZE = 8000 }; /* more than both halves hold */

static void commit_many(void *arg)
{
    uint64_t end = clock_ms() + WAIT_MS;
    struct held held;

    wait_until_ready();
    for (int i = 0; i < MANY; i++)
        must_commit(id_of(i), MANY_SIZE, QUEUE_INCOMING);
    do {
        MUST(clock_ms() < end);
        co_sleep(clock_ms() + 1, "the checkpoint");
        look_into("0", "boot-1", &held);
    } while (held.generation[0] + held.generation[1] < 3); /* 1 and 1 when they were made */
    must_commit(id_of(MANY), MANY_SIZE, QUEUE_INCOMING);
    _exit(0);
}

static void test_a_full_half_is_switched(void **state)
{
    struct held held;

    in_process("boot-1", SIZE, commit_many, NULL);
    look_into("0", "boot-2", &held);
    assert_in_range(held.n, 1, 2 * HALF / MANY_SIZE);
    for (int i = 0; i < held.n; i++) {
        char below[64];

        snprintf(below, sizeof(below), "incoming/%s", held.ids[i]);
        damage(path_of(below), 'z');
    }
    recover("boot-2");
    for (int i = 0; i <= MANY; i++)
        assert_whole(QUEUE_INCOMING, id_of(i), MANY_SIZE);
    assert_int_equal(count_files("corrupt"), held.n);
}

/* The first half's checkpoint does not end; the second half is filled, then files are synced. */
static void fill_both_halves(void *arg)
{
    wait_until_ready();
    syncfs_waits = true;
    fsyncs = 0;
    for (int i = 0; i < MANY; i++)
        must_commit(id_of(i), MANY_SIZE, QUEUE_INCOMING);
    MUST(fsyncs > 0 && fsyncs < 2 * MANY);
    fsyncs = 0;
    must_commit(id_of(MANY), MANY_SIZE, QUEUE_INCOMING);
    MUST(fsyncs == 2);
    syncfs_waits = false;
    wait_until_empty();
    must_commit(id_of(MANY + 1), MANY_SIZE, QUEUE_INCOMING);
    MUST(fsyncs == 2);
    _exit(0);
}

static void test_both_halves_full(void **state)
{
    delay_ms = 50;
    in_process("boot-1", SIZE, fill_both_halves, NULL);
    recover("boot-2");
    for (int i = 0; i < MANY + 2; i++)
        assert_whole(QUEUE_INCOMING, id_of(i), MANY_SIZE);
}

static void fail_to_checkpoint(void *arg)
{
    uint64_t end = clock_ms() + WAIT_MS;

    wait_until_ready();
    syncfs_code = EIO;
    must_commit(id_of(0), 5000, QUEUE_INCOMING);
    while (queue_journal_is_ready(q)) {
        MUST(clock_ms() < end);
        co_sleep(clock_ms() + 1, "the checkpoint");
    }
    MUST(strstr(last_line, "cannot sync file system of the queue: Input/output error") != NULL);
    fsyncs = 0;
    must_commit(id_of(1), 5000, QUEUE_INCOMING);
    MUST(fsyncs == 2);
    queue_settle(q);
    _exit(0);
}

/* What the disk did not take is in the journal, and the next start writes it again, in the same boot too. */
static void test_a_failed_checkpoint_keeps_the_journal(void **state)
{
    delay_ms = 50;
    in_process("boot-1", SIZE, fail_to_checkpoint, NULL);
    damage(path_of("incoming/ABCDEF0000"), 'e');
    recover("boot-1");
    assert_last_line("1 messages looked for after the machine went down, 1 brought back, 0 not");
    assert_whole(QUEUE_INCOMING, id_of(0), 5000);
    assert_whole(QUEUE_INCOMING, id_of(1), 5000);
}

/* ---- batches ---- */

static int committed;

static void commit_beside(void *arg)
{
    int i = (int)(uintptr_t)arg;

    must_commit(id_of(i), i == 7 ? QUEUE_MEMORY_LIMIT + 100 : 100 * (size_t)i, QUEUE_INCOMING);
    committed++;
}

static void commit_at_once(void *arg)
{
    uint64_t end = clock_ms() + WAIT_MS;

    wait_until_ready();
    fdatasyncs = 0;
    for (uintptr_t i = 0; i < MANY; i++)
        co_spawn(commit_beside, (void *)i, "writer");
    while (committed < MANY) {
        MUST(clock_ms() < end);
        co_sleep(clock_ms() + 1, "writers");
    }
    MUST(fdatasyncs < 10);
    _exit(0);
}

static void test_batches(void **state)
{
    struct held held;

    in_process("boot-1", 2 * 1024 * 1024, commit_at_once, NULL);
    for (int i = 0; i < MANY; i++) {
        char below[64];

        snprintf(below, sizeof(below), "incoming/%s", id_of(i));
        if (i != 7)
            damage(path_of(below), "recz"[i % 4]);
    }
    recover("boot-2");
    assert_last_line("59 messages looked for after the machine went down, 59 brought back, 0 not");
    for (int i = 0; i < MANY; i++)
        assert_whole(QUEUE_INCOMING, id_of(i), i == 7 ? QUEUE_MEMORY_LIMIT + 100 : 100 * (size_t)i);
    look_into("0", "boot-2", &held);
    assert_int_equal(held.state[0], QUEUE_JOURNAL_EMPTY);
}

static void fail_to_write(void *arg)
{
    wait_until_ready();
    must_commit(id_of(0), 1000, QUEUE_INCOMING);
    fsyncs = 0;
    syncfs_waits = true;
    fdatasync_code = EIO;
    must_commit(id_of(1), 1000, QUEUE_INCOMING);
    MUST(strstr(last_line, "cannot sync journal: Input/output error") != NULL);
    MUST(fsyncs == 2);
    must_commit(id_of(2), 1000, QUEUE_INCOMING);
    MUST(fsyncs == 4);
    fdatasync_code = 0;
    syncfs_waits = false;
    wait_until_empty(); /* what was in it is made durable otherwise */
    _exit(0);
}

static void test_a_batch_falls_back_when_the_journal_fails(void **state)
{
    delay_ms = 50;
    in_process("boot-1", SIZE, fail_to_write, NULL);
    recover("boot-2");
    for (int i = 0; i < 3; i++)
        assert_whole(QUEUE_INCOMING, id_of(i), 1000);
}

static void give_up(void *arg)
{
    uint64_t end = clock_ms() + WAIT_MS;
    struct error *e;

    wait_until_ready();
    must_commit(id_of(0), 1000, QUEUE_INCOMING);
    fdatasync_waits = true;
    e = commit(id_of(1), 1000, QUEUE_INCOMING, clock_ms() + 300); /* enough to begin */
    MUST(e != NULL && e->code == ETIMEDOUT);
    MUST(access(path_of("incoming/ABCDEF0001"), F_OK) == 0);
    fdatasyncs = 0;
    fdatasync_waits = false;
    while (fdatasyncs < 2) { /* the record, and what takes it back */
        MUST(clock_ms() < end);
        co_sleep(clock_ms() + 1, "the thread");
    }
    MUST(access(path_of("incoming/ABCDEF0001"), F_OK) != 0);
    must_commit(id_of(2), 1000, QUEUE_INCOMING);
    _exit(0);
}

static void test_what_was_given_up_stays_away(void **state)
{
    in_process("boot-1", SIZE, give_up, NULL);
    damage(path_of("incoming/ABCDEF0000"), 'r');
    damage(path_of("incoming/ABCDEF0002"), 'r');
    recover("boot-2");
    assert_last_line("2 messages looked for after the machine went down, 2 brought back, 0 not");
    assert_false(is_there(QUEUE_INCOMING, id_of(1)));
    assert_whole(QUEUE_INCOMING, id_of(0), 1000);
    assert_whole(QUEUE_INCOMING, id_of(2), 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_delivered_mail_stays_away_after_a_checkpoint),
        CASE(test_an_orderly_end_leaves_nothing),
        CASE(test_a_full_half_is_switched),
        CASE(test_both_halves_full),
        CASE(test_a_failed_checkpoint_keeps_the_journal),
        CASE(test_batches),
        CASE(test_a_batch_falls_back_when_the_journal_fails),
        CASE(test_what_was_given_up_stays_away),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
