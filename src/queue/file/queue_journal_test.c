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
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { SIZE = 256 * 1024, HALF = SIZE / 2, WAIT_MS = 10000, DELAY_MS = 11000 };

static char dir[64];
static char last_line[512];

static void keep_line(const char *line, void *arg)
{
    snprintf(last_line, sizeof(last_line), "%s", line);
}

static struct queue *queue_of(const char *boot, uint64_t size)
{
    const struct queue_conf conf = {.directory = dir, .hash_depth = 1, .journal_size = size, .boot_id = boot};
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

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_crc),
        CASE(test_what_was_acknowledged_comes_back),
        CASE(test_messages_that_moved_are_found),
        CASE(test_a_later_message_of_the_same_id_stays),
    };

    signal(SIGXFSZ, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
