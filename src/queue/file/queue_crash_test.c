/*
 * The promise behind every 250, tried: a writer is killed at random moments, and what it acknowledged must be
 * there, whole; and under strace, the syncs of file and directory, or of the journal, must come before the
 * acknowledgement.
 *
 * The program runs itself as the writer: queue_crash_test write DIR COUNT JOURNAL_SIZE.
 */
#include "buf.h"
#include "clock.h"
#include "log.h"
#include "mem.h"
#include "queue_journal.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { RUNS = 50, WRITERS = 4, LARGE = QUEUE_MEMORY_LIMIT + 12345, TRACED = 2 };
#define JOURNAL "262144"

static char self[PATH_MAX];
static char dir[64];

/* ---- the writer: ids go to standard output once they are committed ---- */

static struct queue *queue_of(const char *path, uint64_t journal_size)
{
    const struct queue_conf conf = {
        .directory = path, .hash_depth = 1, .journal_size = journal_size, .journal_delay_ms = 20};
    struct queue *q = NULL;
    struct error *e = queue_open(NULL, &conf, &q);

    if (e != NULL)
        log_fatal("%s", e->text);
    return q;
}

/* Every eighth message is a large one, which goes by without the journal. */
static bool is_large(const char *id)
{
    return id[4] % 8 == 0;
}

/* Content that tells the id it belongs to. */
static size_t content_of(const char *id, char out[LARGE])
{
    size_t size = is_large(id) ? LARGE : 1000 + (size_t)id[3];

    for (size_t i = 0; i < size; i++)
        out[i] = (char)(id[i % 10] + (char)(i / 10 % 7));
    return size;
}

static struct queue *writing_q;
static long left;
static bool waits_for_journal;

static void write_messages(void *arg)
{
    static char content[WRITERS][LARGE];
    char *own = content[(uintptr_t)arg];

    while (left-- > 0) {
        struct queue_rcpt rcpt = {.addr = "a@example.com", .state = QUEUE_RCPT_TODO};
        struct queue_envelope env = {.sender = "", .rcpts = &rcpt, .rcpt_count = 1};
        struct queue_writer *w = queue_writer_new(NULL, writing_q);
        struct error *e;

        do
            mail_id_new(env.id);
        while (waits_for_journal && is_large(env.id));
        e = queue_writer_content(w, bytes(own, content_of(env.id, own)));
        if (e == NULL)
            e = queue_writer_commit(w, &env, QUEUE_INCOMING, clock_ms() + 20000);
        if (e != NULL)
            log_fatal("%s", e->text);
        if (dprintf(STDOUT_FILENO, "%s\n", env.id) < 0)
            exit(1);
        queue_writer_free(&w);
        while (waits_for_journal && !queue_journal_is_ready(writing_q))
            co_sleep(clock_ms() + 1, "the journal");
    }
    if (waits_for_journal)
        exit(0);
}

static int write_main(const char *path, long count, long journal_size)
{
    co_init(2);
    writing_q = queue_of(path, (uint64_t)journal_size);
    left = count;
    waits_for_journal = journal_size > 0 && count == TRACED;
    for (uintptr_t i = 0; i < (count > TRACED ? WRITERS : 1); i++)
        co_spawn(write_messages, (void *)i, "writer");
    co_run();
    return 0;
}

/* ---- killing ---- */

/* Starts the writer with its standard output on *out_r. */
static pid_t start_writer(const char *count, const char *journal_size, int *out_r)
{
    int fds[2];
    pid_t pid;

    assert_int_equal(pipe(fds), 0);
    pid = fork();
    if (pid == 0) {
        dup2(fds[1], STDOUT_FILENO);
        execl(self, self, "write", dir, count, journal_size, (char *)NULL);
        _exit(127);
    }
    close(fds[1]);
    *out_r = fds[0];
    return pid;
}

/* Everything until the end of the pipe; whole lines only. */
static void read_all(int fd, struct buf *out)
{
    char part[4096];
    ssize_t n;

    while ((n = read(fd, part, sizeof(part))) > 0)
        buf_add(out, bytes(part, (size_t)n));
    assert_true(out->n == 0 || out->p[out->n - 1] == '\n');
}

static void assert_whole(struct queue *q, const char *id)
{
    static char want[LARGE], have[LARGE];
    struct queue_envelope *env = NULL;
    struct error *e;
    size_t size = content_of(id, want);
    int fd = -1;

    e = queue_message_open(q, QUEUE_INCOMING, id, true, &fd);
    if (e == NULL)
        e = queue_message_read(NULL, fd, &env);
    if (e != NULL)
        fail_msg("%s: %s", id, e->text);
    assert_string_equal(env->id, id);
    assert_int_equal(env->content_size, size);
    assert_int_equal(pread(fd, have, size, (off_t)env->content_offset), size);
    assert_memory_equal(want, have, size);
    close(fd);
    talloc_free(env);
}

struct count {
    struct queue *q;
    size_t n;
};

static bool check_found(void *arg, const char *id, time_t mtime, uint64_t size)
{
    struct count *count = arg;

    assert_whole(count->q, id);
    count->n++;
    assert_null(queue_message_remove(count->q, QUEUE_INCOMING, id));
    return true;
}

static void no_line(const char *line, void *arg)
{
}

/* Each acknowledged id is there; besides these, at most one a writer that was durable and not acknowledged
 * yet. */
static size_t check_after_kill(struct bytes acknowledged)
{
    struct queue *q = queue_of(dir, 0);
    struct count count = {.q = q};
    size_t n = 0;
    char command[128];

    assert_null(queue_recover(q));
    while (acknowledged.n > 0) {
        char *id = bytes_dup(q, bytes_cut(&acknowledged, '\n'));

        assert_whole(q, id);
        n++;
    }
    assert_null(queue_scan(q, QUEUE_INCOMING, check_found, &count));
    assert_in_range(count.n, n, n + WRITERS);
    snprintf(command, sizeof(command), "test -z \"$(ls -A %s/incoming)\"",
             dir); /* nothing that repair left over */
    assert_int_equal(system(command), 0);
    talloc_free(q);
    return n;
}

static void test_kill_at_any_instant(void **state)
{
    size_t total = 0;

    log_capture(no_line, NULL);
    srandom((unsigned)getpid());
    for (int i = 0; i < RUNS; i++) {
        struct buf acknowledged = {0};
        const struct timespec moment = {.tv_nsec = 1000000 + random() % 30000000};
        int out, status;
        pid_t pid = start_writer("1000000", i / 2 % 2 ? JOURNAL : "0", &out);

        if (i % 2) /* at work for certain; else perhaps before the first message */
            assert_int_equal(poll(&(struct pollfd){.fd = out, .events = POLLIN}, 1, 10000), 1);
        nanosleep(&moment, NULL);
        kill(pid, SIGKILL);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status));
        read_all(out, &acknowledged);
        close(out);
        total += check_after_kill(buf_bytes(&acknowledged));
        buf_deinit(&acknowledged);
    }
    log_capture(NULL, NULL);
    print_message("%zu messages acknowledged in %d runs\n", total, RUNS);
    assert_true(total >= RUNS / 2); /* each that was waited for wrote one */
}

/* Start-up of a scheduler beside writers that are at work: what they acknowledge stays. */
static void test_repair_beside_writers(void **state)
{
    struct buf acknowledged = {0};
    int out, status;
    pid_t pid;
    struct queue *q;

    log_capture(no_line, NULL);
    q = queue_of(dir, 0);
    pid = start_writer("1000", JOURNAL, &out); /* the pipe holds all their ids */
    while (waitpid(pid, &status, WNOHANG) == 0)
        assert_null(queue_recover(q));
    read_all(out, &acknowledged);
    close(out);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    assert_int_equal(check_after_kill(buf_bytes(&acknowledged)), 1000);
    buf_deinit(&acknowledged);
    talloc_free(q);
    log_capture(NULL, NULL);
}

/* ---- the order of system calls ---- */

/* Where the needle ends after `from`; fails when it is not there. */
static size_t find_after(struct bytes text, size_t from, const char *needle)
{
    size_t at = bytes_find(bytes_skip(text, from), bytes_of(needle));

    if (at == SIZE_MAX)
        fail_msg("no %s after %zu in the trace:\n%.*s", needle, from, BYTES_FMT(text));
    return from + at + strlen(needle);
}

/* The trace of a writer of TRACED messages; a call that another thread's cut in two stands where it ended. */
static void run_traced(const char *journal_size, struct buf *trace)
{
    char command[PATH_MAX + 512];
    FILE *f;

    snprintf(command, sizeof(command),
             "ASAN_OPTIONS=detect_leaks=0 strace -f -y -e "
             "trace=openat,write,pwritev,pwrite64,writev,fchmod,fsync,fdatasync,close -o "
             "%s/trace %s "
             "write %s %d %s >%s/out",
             dir, self, dir, TRACED, journal_size, dir);
    assert_int_equal(system(command), 0);
    snprintf(command, sizeof(command),
             "awk '/<unfinished \\.\\.\\.>$/ {sub(/ *<unfinished \\.\\.\\.>$/, \"\"); held[$1] = $0; next} "
             "/ resumed>/ {pid = $1; sub(/^.* resumed>/, \"\"); print held[pid] $0; next} {print}' %s/trace",
             dir);
    f = popen(command, "r");
    read_all(fileno(f), trace);
    pclose(f);
}

static bool can_trace(void)
{
    return system("command -v strace >/dev/null && strace -o /dev/null true 2>/dev/null") == 0;
}

/* A call on this file, or one whose name begins so, that succeeded. */
static size_t find_call(const struct buf *trace, size_t from, const char *call, const char *below)
{
    char needle[128];
    size_t at = find_after(buf_bytes(trace), from, call);

    snprintf(needle, sizeof(needle), "<%s/%s", dir, below);
    at = find_after(buf_bytes(trace), at, needle);
    return find_after(buf_bytes(trace), at, "= 0");
}

static size_t find_acknowledgement(const struct buf *trace, size_t from)
{
    char needle[128];

    snprintf(needle, sizeof(needle), "write(1<%s/out>", dir);
    return find_after(buf_bytes(trace), from, needle);
}

static void test_sync_before_acknowledgement(void **state)
{
    struct buf trace = {0};
    size_t at;

    if (!can_trace())
        skip();
    run_traced("0", &trace);
    at = find_after(buf_bytes(&trace), 0, "O_EXCL");
    at = find_after(buf_bytes(&trace), at, "fchmod(");
    at = find_after(buf_bytes(&trace), at, ", 0700)");
    at = find_call(&trace, at, "fsync(", "incoming/");
    at = find_call(&trace, at, "fsync(", "incoming>");
    assert_true(find_acknowledgement(&trace, 0) > at);
    buf_deinit(&trace);
}

/* The second message: its file is complete, then it is in the journal, then the journal is synced; its file
 * is not. */
static void test_journal_before_acknowledgement(void **state)
{
    struct buf trace = {0};
    size_t first, at, second;

    if (!can_trace())
        skip();
    run_traced(JOURNAL, &trace);
    first = find_acknowledgement(&trace, 0);
    second = find_acknowledgement(&trace, first);
    at = find_after(buf_bytes(&trace), first, "O_EXCL");
    at = find_after(buf_bytes(&trace), at, ", 0700)");
    at = find_after(buf_bytes(&trace), at, "pwritev(");
    at = find_call(&trace, at, "fdatasync(", "journal/0>");
    assert_true(second > at);
    assert_true(bytes_find(bytes(trace.p + at, second - at), BYTES(" fsync(")) == SIZE_MAX);
    buf_deinit(&trace);
}

static int setup(void **state)
{
    snprintf(dir, sizeof(dir), "/tmp/queue_crash.XXXXXX");
    return mkdtemp(dir) == NULL;
}

static int teardown(void **state)
{
    char command[128];

    snprintf(command, sizeof(command), "rm -rf %s", dir);
    return system(command);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_kill_at_any_instant, setup, teardown),
        cmocka_unit_test_setup_teardown(test_repair_beside_writers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_sync_before_acknowledgement, setup, teardown),
        cmocka_unit_test_setup_teardown(test_journal_before_acknowledgement, setup, teardown),
    };

    if (argc == 5 && strcmp(argv[1], "write") == 0)
        return write_main(argv[2], strtol(argv[3], NULL, 10), strtol(argv[4], NULL, 10));
    if (realpath("/proc/self/exe", self) == NULL)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
