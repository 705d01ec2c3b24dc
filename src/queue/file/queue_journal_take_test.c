/* How a process comes to a journal of its own, or does without. */
#include "queue_journal_test_crash.h"

#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>

enum { AGAIN_MS = 11000 }; /* until a journal is asked for again */

/* ---- no journal ---- */

static void commit_without(void *arg)
{
    uint64_t end = clock_ms() + WAIT_MS;

    fsyncs = 0;
    must_commit(id_of(0), 1000, QUEUE_INCOMING);
    MUST(fsyncs >= 2);
    while (arg != NULL && strstr(last_line, arg) == NULL) {
        MUST(clock_ms() < end);
        co_sleep(clock_ms() + 1, "the refusal");
    }
    last_line[0] = '\0';
    fsyncs = 0;
    clock_skip_ms(AGAIN_MS);
    must_commit(id_of(1), 1000, QUEUE_INCOMING);
    MUST(fsyncs == 2 && !queue_journal_is_ready(q));
    for (int i = 0; i < 50; i++) /* asked for again, and not complained of again */
        co_yield ();
    MUST(last_line[0] == '\0');
    _exit(0);
}

static void test_journal_off(void **state)
{
    in_process("boot-1", 0, commit_without, NULL);
    assert_int_equal(count_files("journal"), 0);
    assert_whole(QUEUE_INCOMING, id_of(0), 1000);
}

static void commit_without_room(void *arg)
{
    struct rlimit small = {.rlim_cur = 20000, .rlim_max = RLIM_INFINITY};
    char why[] = "cannot allocate journal: File too large; queue files are synced one by one";

    setrlimit(RLIMIT_FSIZE, &small);
    commit_without(why);
}

static void test_no_room_for_a_journal(void **state)
{
    struct stat st;

    in_process("boot-1", SIZE, commit_without_room, NULL);
    assert_int_equal(stat(path_of("journal/0"), &st), 0);
    assert_int_equal(st.st_size, 0);
    assert_whole(QUEUE_INCOMING, id_of(1), 1000);
}

/* A journal takes a small part of the free room at most, where a small disk can be had. */
static void test_small_disk(void **state)
{
    char no_room[] = "cannot make journal: No space left on device; queue files are synced one by one";

    if (geteuid() != 0 || mount("none", dir, "tmpfs", 0, "size=1m,mode=0700") != 0)
        skip();
    in_process("boot-1", SIZE, commit_without, no_room);
    assert_whole(QUEUE_INCOMING, id_of(1), 1000);
    assert_int_equal(umount(dir), 0);
}

/* ---- several processes ---- */

static void commit_and_stay(void *arg)
{
    const int *fds = arg;
    char go;

    wait_until_ready();
    must_commit(id_of(0), 1000, QUEUE_INCOMING);
    MUST(write(fds[1], "x", 1) == 1);
    MUST(read(fds[2], &go, 1) == 1);
    _exit(0);
}

static void test_each_process_has_its_own(void **state)
{
    int fds[4], status;
    struct held held;
    char go;
    pid_t pid;

    assert_int_equal(pipe(fds), 0);
    assert_int_equal(pipe(fds + 2), 0);
    pid = fork();
    if (pid == 0)
        in_process("boot-1", SIZE, commit_and_stay, fds), _exit(0);
    assert_int_equal(read(fds[0], &go, 1), 1);
    damage(path_of("incoming/FIRST00000"), 'r');
    in_process("boot-1", SIZE, commit_three, NULL);
    assert_int_equal(count_files("journal"), 2);
    recover("boot-1"); /* the first is its owner's, the second a dead process's */
    assert_string_equal(last_line, "");
    look_into("0", "boot-1", &held);
    assert_int_equal(held.n, 1);
    look_into("1", "boot-1", &held);
    assert_int_equal(held.n, 0);
    assert_int_equal(write(fds[3], "x", 1), 1);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    damage(path_of("incoming/ABCDEF0000"), 'c');
    recover("boot-2");
    assert_last_line("1 messages looked for after the machine went down, 1 brought back, 0 not");
    assert_whole(QUEUE_INCOMING, id_of(0), 1000);
    for (int i = 0; i < 4; i++)
        close(fds[i]);
}

/* Whoever takes a dead process's journal in the same boot makes its mail durable first. */
static void test_a_dead_owner(void **state)
{
    struct held held;
    int n = 2;

    in_process("boot-1", SIZE, commit_some, &n);
    remove_all(1); /* delivered */
    damage(path_of("incoming/FIRST00000"), 'r');
    in_process("boot-1", SIZE, commit_three, NULL);
    assert_int_equal(count_files("journal"), 1);
    look_into("0", "boot-1", &held);
    assert_int_equal(held.n, 3);
    recover("boot-2");
    assert_last_line("3 messages looked for after the machine went down, 0 brought back, 0 not");
    assert_false(is_there(QUEUE_INCOMING, id_of(0)));
    assert_whole(QUEUE_INCOMING, id_of(1), 1001);
}

static void test_writers_wait_for_the_replay(void **state)
{
    int n = 2;

    in_process("boot-1", SIZE, commit_some, &n);
    remove_all(2);
    in_process("boot-2", SIZE, commit_without, NULL);
    assert_int_equal(count_files("journal"), 1);
    remove_all(2);
    recover("boot-2");
    assert_last_line("2 messages looked for after the machine went down, 2 brought back, 0 not");
    damage(path_of("incoming/FIRST00000"), 'r');
    in_process("boot-2", SIZE, commit_three, NULL);
}

static void test_writers_wait_for_either_half(void **state)
{
    struct held held;

    delay_ms = 200;
    in_process("boot-1", SIZE, commit_and_checkpoint, NULL);
    look_into("0", "boot-2", &held);
    assert_int_equal(held.state[0], QUEUE_JOURNAL_EMPTY);
    assert_int_equal(held.state[1], QUEUE_JOURNAL_OWED);
    remove_all(2);
    in_process("boot-2", SIZE, commit_without, NULL);
    remove_all(2);
    recover("boot-2");
    assert_last_line("1 messages looked for after the machine went down, 1 brought back, 0 not");
    assert_whole(QUEUE_INCOMING, id_of(1), 5000);
}

static void test_another_size(void **state)
{
    struct stat st;
    int n = 2;

    in_process("boot-1", SIZE, commit_some, &n);
    recover("boot-2");
    damage(path_of("incoming/FIRST00000"), 'r');
    in_process("boot-2", 2 * SIZE, commit_three, NULL);
    assert_int_equal(stat(path_of("journal/0"), &st), 0);
    assert_int_equal(st.st_size, 2 * SIZE);
    damage(path_of("incoming/ABCDEF0012"), 'r');
    recover("boot-3");
    assert_whole(QUEUE_INCOMING, id_of(12), 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_journal_off),
        CASE(test_no_room_for_a_journal),
        CASE(test_small_disk),
        CASE(test_each_process_has_its_own),
        CASE(test_a_dead_owner),
        CASE(test_writers_wait_for_the_replay),
        CASE(test_writers_wait_for_either_half),
        CASE(test_another_size),
    };

    signal(SIGXFSZ, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
