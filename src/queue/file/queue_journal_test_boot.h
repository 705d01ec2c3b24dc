/*
 * What the tests of the journal share: loss of power imitated. A child process commits messages as one boot
 * and dies; files are removed, cut or overwritten with zeros, as a file system may leave them; start-up as
 * another boot must bring back, byte by byte, all that was acknowledged. Here: the process that commits.
 */
#ifndef QUEUE_FILE_QUEUE_JOURNAL_TEST_BOOT_H
#define QUEUE_FILE_QUEUE_JOURNAL_TEST_BOOT_H

#include "clock.h"
#include "log.h"
#include "mem.h"
#include "queue_job.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

enum { SIZE = 256 * 1024, HALF = SIZE / 2, WAIT_MS = 10000 };

static char dir[64];
static char last_line[512];
static uint64_t delay_ms; /* to a checkpoint; 0: as in life */

/* ---- the disk's part, in our hands: these stand before the C library's ---- */

static atomic_int syncfs_code, fdatasync_code; /* errno; 0: the real thing */
static atomic_bool syncfs_waits, fdatasync_waits;
static atomic_int fsyncs, fdatasyncs;

static inline int as_told(atomic_bool *waits, int code, long call, int fd)
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

static inline void keep_line(const char *line, void *arg)
{
    snprintf(last_line, sizeof(last_line), "%s", line);
}

static inline struct queue *queue_of(const char *boot, uint64_t size)
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

static inline int setup(void **state)
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

static inline int teardown(void **state)
{
    char command[128];

    log_capture(NULL, NULL);
    snprintf(command, sizeof(command), "rm -rf %s", dir);
    return system(command);
}

static inline const char *path_of(const char *below)
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
static inline size_t content_of(const char *id, size_t size, char *out)
{
    for (size_t i = 0; i < size; i++)
        out[i] = (char)(id[i % 10] + (char)(i / 10 % 7));
    return size;
}

static inline co_fn struct error *commit(const char *id, size_t size, enum queue_place place,
                                         uint64_t deadline)
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

static inline co_fn void must_commit(const char *id, size_t size, enum queue_place place)
{
    struct error *e = commit(id, size, place, clock_ms() + WAIT_MS);

    MUST(e == NULL);
}

static inline co_fn void wait_until_ready(void)
{
    uint64_t end = clock_ms() + WAIT_MS;

    must_commit("FIRST00000", 10, QUEUE_INCOMING); /* asks for the journal */
    while (!queue_journal_is_ready(q)) {
        MUST(clock_ms() < end);
        co_sleep(clock_ms() + 1, "the journal");
    }
}

/* Runs story in a process that then dies without any care. */
static inline void in_process(const char *boot, uint64_t size, void (*story)(void *arg), void *arg)
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

static inline const char *id_of(int i)
{
    static char id[MAIL_ID_SIZE];

    snprintf(id, sizeof(id), "ABCDEF%04d", i);
    return id;
}

static inline void commit_some(void *arg)
{
    int n = *(int *)arg;

    wait_until_ready();
    for (int i = 0; i < n; i++)
        must_commit(id_of(i), 1000 + (size_t)i, i % 4 == 3 ? QUEUE_HOLD : QUEUE_INCOMING);
    _exit(0);
}

static inline void commit_three(void *arg)
{
    wait_until_ready();
    for (int i = 10; i < 13; i++)
        must_commit(id_of(i), 1000, QUEUE_INCOMING);
    _exit(0);
}

#endif
