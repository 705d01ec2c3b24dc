/*
 * The journal, with loss of power imitated: a child process commits messages as one boot and dies; files are
 * removed, cut or overwritten with zeros, as a file system may leave them; start-up as another boot must
 * bring back, byte by byte, all that was acknowledged.
 */
#include "clock.h"
#include "log.h"
#include "mem.h"
#include "queue_job.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { SIZE = 256 * 1024, HALF = SIZE / 2, WAIT_MS = 10000, DELAY_MS = 11000 };

static char dir[64];
static char last_line[512];
static uint64_t delay_ms; /* to a checkpoint; 0: as in life */

/* ---- the disk's part, in our hands: these stand before the C library's ---- */

static atomic_int syncfs_code, fdatasync_code; /* errno; 0: the real thing */
static atomic_bool syncfs_waits, fdatasync_waits;
static atomic_int fsyncs, fdatasyncs;

static int as_told(atomic_bool *waits, int code, long call, int fd)
{
    while (atomic_load(waits))
        usleep(1000);
    errno = code;
    return code != 0 ? -1 : (int)syscall(call, fd);
}

int syncfs(int fd)
{
    return as_told(&syncfs_waits, syncfs_code, SYS_syncfs, fd);
}

int fdatasync(int fd)
{
    int result = as_told(&fdatasync_waits, fdatasync_code, SYS_fdatasync, fd);

    fdatasyncs++;
    return result;
}

int fsync(int fd)
{
    fsyncs++;
    return (int)syscall(SYS_fsync, fd);
}

static void keep_line(const char *line, void *arg)
{
    snprintf(last_line, sizeof(last_line), "%s", line);
}

static struct queue *queue_of(const char *boot, uint64_t size)
{
    const struct queue_conf conf = {.directory = dir,
                                    .hash_depth = 1,
                                    .journal_size = size,
                                    .boot_id = boot,
                                    .journal_delay_ms = delay_ms};
    struct queue *q = NULL;
    struct error *e = queue_open(NULL, &conf, &q);

    if (e != NULL)
        log_fatal("%s", e->text);
    return q;
}

static int setup(void **state)
{
    snprintf(dir, sizeof(dir), "/tmp/queue_journal.XXXXXX");
    if (mkdtemp(dir) == NULL)
        return -1;
    last_line[0] = '\0';
    delay_ms = 0;
    log_capture(keep_line, NULL);
    talloc_free(queue_of("", 0));
    return 0;
}

static int teardown(void **state)
{
    char command[128];

    log_capture(NULL, NULL);
    snprintf(command, sizeof(command), "rm -rf %s", dir);
    return system(command);
}

static const char *path_of(const char *below)
{
    static char path[256];

    snprintf(path, sizeof(path), "%s/%s", dir, below);
    return path;
}

/* ---- a process that commits; what goes wrong in it ends it with a message ---- */

#define MUST(condition)                                                                                      \
    do {                                                                                                     \
        if (!(condition)) {                                                                                  \
            fprintf(stderr, "%s:%d: not so: %s (last line: %s)\n", __FILE__, __LINE__, #condition,           \
                    last_line);                                                                              \
            _exit(1);                                                                                        \
        }                                                                                                    \
    } while (0)

static struct queue *q;

/* Content that tells the id it belongs to. */
static size_t content_of(const char *id, size_t size, char *out)
{
    for (size_t i = 0; i < size; i++)
        out[i] = (char)(id[i % 10] + (char)(i / 10 % 7));
    return size;
}

static co_fn struct error *commit(const char *id, size_t size, enum queue_place place, uint64_t deadline)
{
    struct queue_rcpt rcpts[2] = {{.addr = "a@example.com", .state = 'R'},
                                  {.addr = "b@example.com", .state = 'R'}};
    struct queue_envelope env = {
        .sender = "", .arrived_us = clock_real_us(), .rcpts = rcpts, .rcpt_count = 2};
    struct queue_writer *w = queue_writer_new(NULL, q);
    char *content = mem_malloc(size + 1);
    struct error *e;

    snprintf(env.id, sizeof(env.id), "%s", id);
    e = queue_writer_content(w, bytes(content, content_of(id, size, content)));
    if (e == NULL)
        e = queue_writer_commit(w, &env, place, deadline);
    free(content);
    queue_writer_free(&w);
    return e;
}

static co_fn void must_commit(const char *id, size_t size, enum queue_place place)
{
    struct error *e = commit(id, size, place, clock_ms() + WAIT_MS);

    MUST(e == NULL);
}

static co_fn void wait_until_ready(void)
{
    uint64_t end = clock_ms() + WAIT_MS;

    must_commit("FIRST00000", 10, QUEUE_INCOMING); /* asks for the journal */
    while (!queue_journal_is_ready(q)) {
        MUST(clock_ms() < end);
        co_sleep(clock_ms() + 1, "the journal");
    }
}

/* Runs story in a process that then dies without any care. */
static void in_process(const char *boot, uint64_t size, void (*story)(void *arg), void *arg)
{
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        co_init(4);
        q = queue_of(boot, size);
        co_spawn(story, arg, "story");
        co_run();
        _exit(1);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

static const char *id_of(int i)
{
    static char id[MAIL_ID_SIZE];

    snprintf(id, sizeof(id), "ABCDEF%04d", i);
    return id;
}

static void commit_some(void *arg)
{
    int n = *(int *)arg;

    wait_until_ready();
    for (int i = 0; i < n; i++)
        must_commit(id_of(i), 1000 + (size_t)i, i % 4 == 3 ? QUEUE_HOLD : QUEUE_INCOMING);
    _exit(0);
}

static void commit_another(void *arg)
{
    must_commit(id_of(0), 777, QUEUE_INCOMING);
    _exit(0);
}

/* ---- a crash, and start-up ---- */

static void damage(const char *path, char how)
{
    static const char zeros[64 * 1024];
    struct stat st;
    int fd;

    if (how == 'r') {
        assert_int_equal(unlink(path), 0);
        return;
    }
    fd = open(path, O_RDWR);
    assert_true(fd >= 0 && fstat(fd, &st) == 0);
    if (how == 'e')
        assert_int_equal(ftruncate(fd, 0), 0);
    else if (how == 'c')
        assert_int_equal(ftruncate(fd, st.st_size / 2), 0);
    else if (how == 'z')
        assert_int_equal(pwrite(fd, zeros, (size_t)st.st_size, 0), st.st_size);
    else if (how == 'm')
        assert_int_equal(fchmod(fd, 0600), 0);
    else if (how == 'b')
        assert_int_equal(pwrite(fd, "#", 1, st.st_size - 10), 1);
    close(fd);
}

static void recover(const char *boot)
{
    struct queue *other = queue_of(boot, 0);

    last_line[0] = '\0';
    assert_null(queue_recover(other));
    talloc_free(other);
}

static bool is_there(enum queue_place place, const char *id)
{
    struct queue *other = queue_of("x", 0);
    int fd = -1;
    struct error *e = queue_message_open(other, place, id, false, &fd);
    bool is_it = e == NULL;

    if (is_it)
        close(fd);
    error_free(&e);
    talloc_free(other);
    return is_it;
}

static void assert_whole(enum queue_place place, const char *id, size_t size)
{
    char *want = mem_malloc(size + 1), *have = mem_malloc(size + 1);
    struct queue *other = queue_of("x", 0);
    struct queue_envelope *env = NULL;
    int fd = -1;
    struct error *e = queue_message_open(other, place, id, true, &fd);

    if (e == NULL)
        e = queue_message_read(NULL, fd, &env);
    if (e != NULL)
        fail_msg("%s: %s", id, e->text);
    assert_string_equal(env->id, id);
    assert_int_equal(env->rcpt_count, 2);
    assert_int_equal(env->content_size, content_of(id, size, want));
    assert_int_equal(pread(fd, have, size, (off_t)env->content_offset), size);
    assert_memory_equal(want, have, size);
    close(fd);
    talloc_free(env);
    talloc_free(other);
    free(want);
    free(have);
}

static void assert_last_line(const char *want)
{
    if (strstr(last_line, want) == NULL)
        fail_msg("no \"%s\" in \"%s\"", want, last_line);
}

static int count_files(const char *sub)
{
    DIR *d = opendir(path_of(sub));
    struct dirent *at;
    int n = 0;

    assert_non_null(d);
    while ((at = readdir(d)) != NULL)
        n += at->d_name[0] != '.';
    closedir(d);
    return n;
}

/* ---- cases ---- */

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

/* ---- looking into a journal ---- */

struct held {
    int n;
    char ids[200][MAIL_ID_SIZE];
    enum queue_journal_state state[2];
    uint64_t generation[2];
};

/* The messages of journal/NAME, as `boot` sees them. */
static void look_into(const char *name, const char *boot, struct held *held)
{
    static char half[HALF];
    struct queue_journal_header header[2];
    struct queue_journal_record record;
    struct bytes image;
    const char *why;
    uint64_t size;
    char below[32];
    int fd;

    snprintf(below, sizeof(below), "journal/%s", name);
    fd = open(path_of(below), O_RDONLY);
    held->n = 0;
    queue_journal_look(fd, boot, header, held->state, &size, &why);
    for (unsigned i = 0; i < 2; i++) {
        ssize_t n = pread(fd, half, sizeof(half), (off_t)(i * size));
        size_t at = QUEUE_JOURNAL_BLOCK;

        held->generation[i] = header[i].generation;
        while (n > 0 && queue_journal_next(bytes(half, (size_t)n), &header[i], &at, &record, &image))
            snprintf(held->ids[held->n++], MAIL_ID_SIZE, "%s", record.id);
    }
    close(fd);
}

static co_fn void wait_until_empty(void)
{
    uint64_t end = clock_ms() + WAIT_MS;
    struct held held;

    do {
        MUST(clock_ms() < end);
        co_sleep(clock_ms() + 1, "the checkpoint");
        look_into("0", "boot-1", &held);
    } while (held.state[0] != QUEUE_JOURNAL_EMPTY || held.state[1] != QUEUE_JOURNAL_EMPTY);
}

/* ---- checkpoints ---- */

static void commit_and_checkpoint(void *arg)
{
    wait_until_ready();
    must_commit(id_of(0), 5000, QUEUE_INCOMING);
    must_commit(id_of(1), 5000, QUEUE_INCOMING);
    wait_until_empty();
    must_commit(id_of(2), 5000, QUEUE_INCOMING); /* the other half */
    _exit(0);
}

static void test_delivered_mail_stays_away_after_a_checkpoint(void **state)
{
    delay_ms = 200;
    in_process("boot-1", SIZE, commit_and_checkpoint, NULL);
    for (int i = 0; i < 3; i++) {
        char below[64];

        snprintf(below, sizeof(below), "incoming/%s", id_of(i));
        damage(path_of(below), 'r');
    }
    recover("boot-2");
    assert_false(is_there(QUEUE_INCOMING, id_of(0)));
    assert_false(is_there(QUEUE_INCOMING, id_of(1)));
    assert_whole(QUEUE_INCOMING, id_of(2), 5000);
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
    e = commit(id_of(1), 1000, QUEUE_INCOMING, clock_ms() + 20);
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

static void remove_all(int n)
{
    for (int i = 0; i < n; i++) {
        char below[64];

        snprintf(below, sizeof(below), "incoming/%s", id_of(i));
        damage(path_of(below), 'r');
    }
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

static void commit_three(void *arg)
{
    wait_until_ready();
    for (int i = 10; i < 13; i++)
        must_commit(id_of(i), 1000, QUEUE_INCOMING);
    _exit(0);
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
    clock_skip_ms(DELAY_MS);
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
    remove_all(3);
    in_process("boot-2", SIZE, commit_without, NULL);
    recover("boot-2");
    assert_last_line("1 messages looked for after the machine went down, 1 brought back, 0 not");
    assert_whole(QUEUE_INCOMING, id_of(2), 5000);
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
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_crc),
        CASE(test_what_was_acknowledged_comes_back),
        CASE(test_messages_that_moved_are_found),
        CASE(test_a_later_message_of_the_same_id_stays),
        CASE(test_delivered_mail_stays_away_after_a_checkpoint),
        CASE(test_an_orderly_end_leaves_nothing),
        CASE(test_a_full_half_is_switched),
        CASE(test_both_halves_full),
        CASE(test_a_failed_checkpoint_keeps_the_journal),
        CASE(test_batches),
        CASE(test_a_batch_falls_back_when_the_journal_fails),
        CASE(test_what_was_given_up_stays_away),
        CASE(test_a_torn_record_ends_the_journal),
        CASE(test_a_strange_journal_is_left_alone),
        CASE(test_a_journal_cut_short),
        CASE(test_journal_off),
        CASE(test_no_room_for_a_journal),
        CASE(test_small_disk),
        CASE(test_no_room_to_bring_back),
        CASE(test_each_process_has_its_own),
        CASE(test_a_dead_owner),
        CASE(test_writers_wait_for_the_replay),
        CASE(test_writers_wait_for_either_half),
        CASE(test_another_size),
    };

    signal(SIGXFSZ, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
