/* The journal after loss of power: what was acknowledged comes back, whatever the files and the journal look
 * like. */
#include "queue_journal_test_crash.h"

#include <signal.h>
#include <sys/resource.h>

static void test_crc(void **state)
{
    char text[100] = {0}; /* vectors of RFC 3720 B.4 */

    assert_int_equal(queue_crc(0, bytes(text, 32)), 0x8a9136aa);
    memset(text, 0xff, 32);
    assert_int_equal(queue_crc(0, bytes(text, 32)), 0x62a8ab43);
    for (int i = 0; i < 32; i++)
        text[i] = (char)i;
    assert_int_equal(queue_crc(0, bytes(text, 32)), 0x46dd794e);
    for (size_t cut = 0; cut <= 32; cut++)
        assert_int_equal(queue_crc(queue_crc(0, bytes(text, cut)), bytes(text + cut, 32 - cut)), 0x46dd794e);
    assert_int_equal(queue_crc(0, BYTES("123456789")), 0xe3069283);
    for (size_t n = 0; n <= sizeof(text); n++)
        assert_int_equal(queue_crc(7, bytes(text, n)), queue_crc_by_table(7, bytes(text, n)));
}

/* ---- damaged messages ---- */

/* Each way a file may look after loss of power, and a message in each place that it may have been moved to.
 */
static void test_what_was_acknowledged_comes_back(void **state)
{
    static const char ways[] = "reczmb";
    enum { COUNT = 24 };
    int n = COUNT;

    in_process("boot-1", SIZE, commit_some, &n);
    for (int i = 0; i < n; i++) {
        char below[64];

        snprintf(below, sizeof(below), "%s/%s", i % 4 == 3 ? "hold" : "incoming", id_of(i));
        if (i >= 20) /* untouched */
            continue;
        damage(path_of(below), ways[i % 6]);
    }
    recover("boot-2");
    assert_last_line("24 messages looked for after the machine went down, 20 brought back, 0 not");
    for (int i = 0; i < n; i++)
        assert_whole(i % 4 == 3 ? QUEUE_HOLD : QUEUE_INCOMING, id_of(i), 1000 + (size_t)i);
    assert_int_equal(count_files("corrupt"), 9); /* cut, zeros, one byte; not the empty and incomplete ones */
    recover("boot-3");
    assert_string_equal(last_line, ""); /* the journal is empty */
}

static void move(const char *id, enum queue_place from, enum queue_place to)
{
    struct queue *other = queue_of("x", 0);

    assert_null(queue_message_move(other, id, from, to, 1000000));
    talloc_free(other);
}

static void mark(enum queue_place place, const char *id)
{
    struct queue *other = queue_of("x", 0);
    struct queue_envelope *env;
    int fd;

    assert_null(queue_message_open(other, place, id, true, &fd));
    assert_null(queue_message_read(other, fd, &env));
    assert_null(queue_message_mark(fd, &env->rcpts[1], QUEUE_RCPT_DONE));
    close(fd);
    talloc_free(other);
}

static void test_messages_that_moved_are_found(void **state)
{
    int n = 3;

    in_process("boot-1", SIZE, commit_some, &n);
    mark(QUEUE_INCOMING, id_of(0));
    move(id_of(0), QUEUE_INCOMING, QUEUE_ACTIVE);
    mark(QUEUE_INCOMING, id_of(1));
    move(id_of(1), QUEUE_INCOMING, QUEUE_DEFERRED);
    move(id_of(2), QUEUE_INCOMING, QUEUE_DEFERRED);
    damage(path_of("deferred/A/ABCDEF0002"), 'z');
    recover("boot-2");
    assert_last_line("ABCDEF0000: returned from active to incoming");
    assert_whole(QUEUE_INCOMING, id_of(0), 1000);
    assert_whole(QUEUE_DEFERRED, id_of(1), 1001);
    assert_whole(QUEUE_INCOMING, id_of(2), 1002);
    assert_false(is_there(QUEUE_DEFERRED, id_of(2)));
    assert_int_equal(count_files("corrupt"), 1);
}

static void commit_another(void *arg)
{
    must_commit(id_of(0), 777, QUEUE_INCOMING);
    _exit(0);
}

static void test_a_later_message_of_the_same_id_stays(void **state)
{
    int n = 1;

    in_process("boot-1", SIZE, commit_some, &n);
    damage(path_of("incoming/ABCDEF0000"), 'r');
    in_process("boot-1", 0, commit_another, NULL);
    recover("boot-2");
    assert_last_line("1 messages looked for after the machine went down, 0 brought back, 0 not");
    assert_whole(QUEUE_INCOMING, id_of(0), 777);
    assert_int_equal(count_files("corrupt"), 0);
}

/* ---- damaged journals ---- */

/* Turns a byte of journal/0 over. */
static void patch(uint64_t offset)
{
    int fd = open(path_of("journal/0"), O_RDWR);
    char byte;

    assert_int_equal(pread(fd, &byte, 1, (off_t)offset), 1);
    byte = (char)~byte;
    assert_int_equal(pwrite(fd, &byte, 1, (off_t)offset), 1);
    close(fd);
}

/* Three records of one block each; what follows one that is torn was never acknowledged. */
static void test_a_torn_record_ends_the_journal(void **state)
{
    static const struct {
        int block, at, left;
    } cases[] = {{3, 500, 2}, {3, 0, 2}, {2, 500, 1}, {1, 60, 0}, {3, 1000, 2}};

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char want[64];
        int n = 3;

        in_process("boot-1", SIZE, commit_some, &n);
        remove_all(3);
        patch((uint64_t)cases[i].block * QUEUE_JOURNAL_BLOCK + (uint64_t)cases[i].at);
        recover("boot-2");
        snprintf(want, sizeof(want), "%d messages looked for", cases[i].left);
        if (cases[i].left > 0)
            assert_last_line(want);
        for (int k = 0; k < 3; k++)
            assert_int_equal(is_there(QUEUE_INCOMING, id_of(k)), k < cases[i].left);
        teardown(NULL);
        setup(NULL);
    }
}

/* What is not understood may be somebody's mail: it is named in the log, kept as it is, and not used. */
static void test_a_strange_journal_is_left_alone(void **state)
{
    static const struct {
        size_t at;
        const char *why;
    } cases[] = {
        {0, "not a journal"},           {8, "another version"}, {12, "another byte order"},
        {20, "journal header damaged"}, {64, "header damaged"}, {84, "header damaged"},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char before[2 * QUEUE_JOURNAL_BLOCK], after[2 * QUEUE_JOURNAL_BLOCK];
        struct held held;
        int n = 1, fd;

        in_process("boot-1", SIZE, commit_some, &n);
        remove_all(1);
        damage(path_of("incoming/FIRST00000"), 'r');
        patch(cases[i].at);
        fd = open(path_of("journal/0"), O_RDONLY);
        assert_int_equal(pread(fd, before, sizeof(before), 0), sizeof(before));
        recover("boot-2");
        assert_last_line(cases[i].why);
        assert_false(is_there(QUEUE_INCOMING, id_of(0)));
        in_process("boot-2", SIZE, commit_three, NULL);
        assert_int_equal(pread(fd, after, sizeof(after), 0), sizeof(after));
        assert_memory_equal(before, after, sizeof(before));
        close(fd);
        look_into("1", "boot-2", &held);
        assert_int_equal(held.n, 3);
        teardown(NULL);
        setup(NULL);
    }
}

static void test_a_journal_cut_short(void **state)
{
    int n = 3;

    in_process("boot-1", SIZE, commit_some, &n);
    remove_all(3);
    assert_int_equal(truncate(path_of("journal/0"), 3 * QUEUE_JOURNAL_BLOCK - 1), 0);
    recover("boot-2");
    assert_last_line("2 messages looked for after the machine went down, 2 brought back");
    assert_whole(QUEUE_INCOMING, id_of(1), 1001);
    damage(path_of("incoming/FIRST00000"), 'r');
    in_process("boot-2", SIZE, commit_three, NULL); /* and is made anew */
    remove_all(2);
    recover("boot-3");
    assert_last_line("3 messages looked for");
}

/* ---- no room ---- */

/* What cannot be brought back for want of room is kept for the next start. */
static void test_no_room_to_bring_back(void **state)
{
    struct rlimit old, small = {.rlim_cur = 500};
    int n = 2;

    in_process("boot-1", SIZE, commit_some, &n);
    remove_all(2);
    getrlimit(RLIMIT_FSIZE, &old);
    small.rlim_max = old.rlim_max;
    setrlimit(RLIMIT_FSIZE, &small);
    recover("boot-2");
    setrlimit(RLIMIT_FSIZE, &old);
    assert_last_line("2 messages looked for after the machine went down, 0 brought back, 2 not");
    assert_int_equal(count_files("incoming"), 1); /* the one before the journal */
    recover("boot-2");
    assert_last_line("2 messages looked for after the machine went down, 2 brought back, 0 not");
    assert_whole(QUEUE_INCOMING, id_of(1), 1001);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_crc),
        CASE(test_what_was_acknowledged_comes_back),
        CASE(test_messages_that_moved_are_found),
        CASE(test_a_later_message_of_the_same_id_stays),
        CASE(test_a_torn_record_ends_the_journal),
        CASE(test_a_strange_journal_is_left_alone),
        CASE(test_a_journal_cut_short),
        CASE(test_no_room_to_bring_back),
    };

    signal(SIGXFSZ, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
