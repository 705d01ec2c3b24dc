/* queue/file: what is written is read back; damage is recognised; moves; repair; a full disk; giving up half
 * way. */
#include "clock.h"
#include "log.h"
#include "mem.h"
#include "queue_private.h"

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
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

static struct queue *q;
static char dir[64];

static void no_line(const char *line, void *arg)
{
}

static void open_queue(unsigned depth)
{
    const struct queue_conf conf = {.directory = dir, .hash_depth = depth};
    struct error *e = queue_open(NULL, &conf, &q);

    if (e != NULL)
        fail_msg("%s", e->text);
}

static int setup(void **state)
{
    snprintf(dir, sizeof(dir), "/tmp/queue_test.XXXXXX");
    if (mkdtemp(dir) == NULL)
        return -1;
    co_init(2);
    log_capture(no_line, NULL);
    open_queue(1);
    return 0;
}

static int teardown(void **state)
{
    char command[128];

    TALLOC_FREE(q);
    co_deinit();
    log_capture(NULL, NULL);
    snprintf(command, sizeof(command), "rm -rf %s", dir);
    return system(command);
}

/* ---- writing, in a coroutine; judged outside it ---- */

struct put {
    struct queue_envelope *env;
    struct bytes content;
    size_t piece;
    enum queue_place place;
    uint64_t deadline;
    struct error *error;
    struct queue_writer *writer;
};

static void put_message(void *arg)
{
    struct put *put = arg;
    struct bytes rest = put->content;

    put->writer = queue_writer_new(NULL, q);
    while (rest.n > 0 && put->error == NULL) {
        size_t n = put->piece != 0 && put->piece < rest.n ? put->piece : rest.n;

        put->error = queue_writer_content(put->writer, bytes(rest.p, n));
        rest = bytes_skip(rest, n);
    }
    if (put->error == NULL)
        put->error = queue_writer_commit(put->writer, put->env, put->place, put->deadline);
    queue_writer_free(&put->writer);
}

static struct error *put(struct queue_envelope *env, struct bytes content, size_t piece,
                         enum queue_place place)
{
    struct put p = {
        .env = env, .content = content, .piece = piece, .place = place, .deadline = clock_ms() + 20000};

    co_spawn(put_message, &p, "put");
    co_run();
    return p.error;
}

static struct queue_rcpt two_rcpts[] = {
    {.addr = "a b\t@example.com",
     .orig = "%41\n",
     .notify = MAIL_NOTIFY_NEVER,
     .orcpt = "rfc822;x",
     .state = 'R'},
    {.addr = "gr\xc3\xbc\xc3\x9f@example.net", .state = 'R'},
};

static struct queue_envelope envelope(const char *id)
{
    struct queue_envelope env = {
        .arrived_us = 1763665127123456,
        .sender = "x\x7f\x01%\nS spoof",
        .envid = "",
        .ret = MAIL_RET_HDRS,
        .is_8bit = true,
        .filter = "smtp:[127.0.0.1]:10025",
        .log_client_name = "client.example",
        .log_helo = "\r\nR spoof\t0\t\t",
        .rcpts = two_rcpts,
        .rcpt_count = 2,
    };

    snprintf(env.id, sizeof(env.id), "%s", id);
    return env;
}

static void must_put(const char *id, enum queue_place place)
{
    struct queue_envelope env = envelope(id);
    struct error *e = put(&env, BYTES("Subject: x\r\n\r\nbody\r\n"), 0, place);

    if (e != NULL)
        fail_msg("%s", e->text);
}

static int must_open(enum queue_place place, const char *id, bool lock)
{
    int fd = -1;
    struct error *e = queue_message_open(q, place, id, lock, &fd);

    if (e != NULL)
        fail_msg("%s", e->text);
    return fd;
}

/* The code of the error, which is freed; -1 for no error. */
static int code_of(struct error *e)
{
    int code = e ? e->code : -1;

    error_free(&e);
    return code;
}

static int open_code(enum queue_place place, const char *id, bool lock)
{
    int fd = -1;
    struct error *e = queue_message_open(q, place, id, lock, &fd);

    if (e == NULL)
        close(fd);
    return code_of(e);
}

static int count_files(const char *sub)
{
    char path[256];
    int n = 0;
    DIR *d;
    struct dirent *at;

    snprintf(path, sizeof(path), "%s/%s", dir, sub);
    d = opendir(path);
    assert_non_null(d);
    while ((at = readdir(d)) != NULL)
        n += at->d_name[0] != '.';
    closedir(d);
    return n;
}

/* ---- cases ---- */

static void assert_same_text(const char *a, const char *b)
{
    if (a == NULL || b == NULL)
        assert_ptr_equal(a, b);
    else
        assert_string_equal(a, b);
}

static void assert_same_envelope(const struct queue_envelope *a, const struct queue_envelope *b)
{
    assert_string_equal(a->id, b->id);
    assert_int_equal(a->arrived_us, b->arrived_us);
    assert_same_text(a->sender, b->sender);
    assert_same_text(a->envid, b->envid);
    assert_int_equal(a->ret, b->ret);
    assert_int_equal(a->smtputf8, b->smtputf8);
    assert_int_equal(a->is_8bit, b->is_8bit);
    assert_same_text(a->filter, b->filter);
    assert_same_text(a->log_client_name, b->log_client_name);
    assert_same_text(a->log_client_addr, b->log_client_addr);
    assert_same_text(a->log_helo, b->log_helo);
    assert_int_equal(a->rcpt_count, b->rcpt_count);
    for (size_t i = 0; i < a->rcpt_count; i++) {
        assert_same_text(a->rcpts[i].addr, b->rcpts[i].addr);
        assert_same_text(a->rcpts[i].orig, b->rcpts[i].orig);
        assert_same_text(a->rcpts[i].orcpt, b->rcpts[i].orcpt);
        assert_int_equal(a->rcpts[i].notify, b->rcpts[i].notify);
        assert_int_equal(a->rcpts[i].state, b->rcpts[i].state);
    }
}

static void test_what_is_written_is_read_back(void **state)
{
    static const struct {
        size_t size, piece;
    } cases[] = {
        {0, 0},
        {1, 0},
        {4000, 77},
        {QUEUE_MEMORY_LIMIT - 1, 5000},
        {QUEUE_MEMORY_LIMIT, 0},
        {QUEUE_MEMORY_LIMIT + 1, 0},
        {3 * QUEUE_MEMORY_LIMIT, 0},
        {3 * QUEUE_MEMORY_LIMIT + 5, 60001},
    };
    char *content = mem_malloc(4 * QUEUE_MEMORY_LIMIT), *back = mem_malloc(4 * QUEUE_MEMORY_LIMIT);

    for (size_t i = 0; i < 4 * QUEUE_MEMORY_LIMIT; i++)
        content[i] = (char)(i * 31 + i / 253);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct queue_envelope env = envelope("ABCDEF0123"), *read;
        struct error *e = put(&env, bytes(content, cases[i].size), cases[i].piece, QUEUE_INCOMING);
        int fd;

        assert_null(e);
        fd = must_open(QUEUE_INCOMING, env.id, true);
        assert_null(queue_message_read(NULL, fd, &read));
        assert_same_envelope(&env, read);
        assert_int_equal(read->content_size, cases[i].size);
        assert_int_equal(pread(fd, back, cases[i].size, (off_t)read->content_offset), cases[i].size);
        assert_memory_equal(content, back, cases[i].size);
        talloc_free(read);
        close(fd);
        assert_int_equal(count_files("incoming"), 1);
        assert_null(queue_message_remove(q, QUEUE_INCOMING, env.id));
    }
    free(content);
    free(back);
}

static void test_commit_refuses_what_it_cannot_keep(void **state)
{
    struct queue_envelope env = envelope("../../../x");
    struct queue_rcpt none = {.addr = "", .state = 'R'};

    assert_int_equal(code_of(put(&env, BYTES(""), 0, QUEUE_INCOMING)), 0);
    env = envelope("ABCDEF0123");
    env.rcpt_count = 0;
    assert_int_equal(code_of(put(&env, BYTES(""), 0, QUEUE_INCOMING)), 0);
    env.rcpts = &none;
    env.rcpt_count = 1;
    assert_int_equal(code_of(put(&env, BYTES(""), 0, QUEUE_INCOMING)), 0);
    assert_int_equal(count_files("incoming"), 0);
}

static void test_a_taken_id_is_never_overwritten(void **state)
{
    struct queue_envelope env = envelope("ABCDEF0123");
    struct bytes big = bytes(mem_bytes(q, QUEUE_MEMORY_LIMIT + 1), QUEUE_MEMORY_LIMIT + 1);

    memset((char *)(uintptr_t)big.p, 'x', big.n);
    must_put(env.id, QUEUE_INCOMING);
    assert_int_equal(code_of(put(&env, BYTES("other"), 0, QUEUE_INCOMING)), EEXIST);
    assert_int_equal(code_of(put(&env, big, 0, QUEUE_INCOMING)), EEXIST);
    assert_int_equal(open_code(QUEUE_INCOMING, env.id, false), -1);
    assert_int_equal(count_files("incoming"), 1);
    for (enum queue_place from = QUEUE_INCOMING; from < QUEUE_CORRUPT; from++) { /* wherever it is */
        assert_int_equal(code_of(put(&env, BYTES("other"), 0, QUEUE_INCOMING)), EEXIST);
        assert_int_equal(code_of(put(&env, big, 0, QUEUE_HOLD)), EEXIST);
        assert_null(queue_message_move(q, env.id, from, from + 1, 0));
    }
    assert_int_equal(count_files("incoming") + count_files("hold"), 0);
}

static void test_mark_in_place(void **state)
{
    struct queue_envelope *read;
    int fd;

    must_put("ABCDEF0123", QUEUE_INCOMING);
    fd = must_open(QUEUE_INCOMING, "ABCDEF0123", true);
    assert_null(queue_message_read(NULL, fd, &read));
    assert_null(queue_message_mark(fd, &read->rcpts[1], QUEUE_RCPT_DONE));
    read->rcpts[0].offset++;
    assert_int_equal(code_of(queue_message_mark(fd, &read->rcpts[0], QUEUE_RCPT_DONE)), EBADMSG);
    talloc_free(read);
    assert_null(queue_message_read(NULL, fd, &read));
    assert_int_equal(read->rcpts[0].state, QUEUE_RCPT_TODO);
    assert_int_equal(read->rcpts[1].state, QUEUE_RCPT_DONE);
    talloc_free(read);
    close(fd);
}

static void test_lock_is_exclusive(void **state)
{
    int fd;

    must_put("ABCDEF0123", QUEUE_INCOMING);
    fd = must_open(QUEUE_INCOMING, "ABCDEF0123", true);
    assert_int_equal(open_code(QUEUE_INCOMING, "ABCDEF0123", true), EWOULDBLOCK);
    assert_int_equal(open_code(QUEUE_INCOMING, "ABCDEF0123", false), -1);
    close(fd);
    assert_int_equal(open_code(QUEUE_INCOMING, "ABCDEF0123", true), -1);
}

static bool note_found(void *arg, const char *id, time_t mtime, uint64_t size)
{
    struct buf *out = arg;

    buf_addf(out, "%s %ld;", id, (long)mtime);
    return true;
}

static void assert_scan(enum queue_place place, const char *want)
{
    struct buf found = {0};

    assert_null(queue_scan(q, place, note_found, &found));
    assert_string_equal(buf_text(&found), want);
    buf_deinit(&found);
}

static void test_moves(void **state)
{
    enum queue_place place;
    char path[128];

    assert_true(queue_id_is_free(q, "ABCDEF0123"));
    assert_false(queue_id_is_free(q, "../etc/x"));
    must_put("ABCDEF0123", QUEUE_INCOMING);
    assert_false(queue_id_is_free(q, "ABCDEF0123"));
    assert_null(queue_message_move(q, "ABCDEF0123", QUEUE_INCOMING, QUEUE_ACTIVE, 0));
    assert_true(queue_message_find(q, "ABCDEF0123", &place));
    assert_int_equal(place, QUEUE_ACTIVE);
    assert_null(queue_message_move(q, "ABCDEF0123", QUEUE_ACTIVE, QUEUE_DEFERRED, 4000000000));
    snprintf(path, sizeof(path), "%s/deferred/A/ABCDEF0123", dir);
    assert_int_equal(access(path, R_OK), 0);
    assert_scan(QUEUE_DEFERRED, "ABCDEF0123 4000000000;");
    assert_scan(QUEUE_ACTIVE, "");
    assert_false(queue_id_is_free(q, "ABCDEF0123"));
    assert_int_equal(code_of(queue_message_move(q, "ABCDEF0123", QUEUE_ACTIVE, QUEUE_DEFERRED, 1)), ENOENT);
    assert_int_equal(code_of(queue_message_move(q, "ABCDEF9999", QUEUE_HOLD, QUEUE_INCOMING, 1)), ENOENT);
    assert_null(queue_message_move(q, "ABCDEF0123", QUEUE_DEFERRED, QUEUE_CORRUPT, 0));
    assert_null(queue_message_remove(q, QUEUE_CORRUPT, "ABCDEF0123"));
    assert_int_equal(code_of(queue_message_remove(q, QUEUE_CORRUPT, "ABCDEF0123")), ENOENT);
    assert_false(queue_message_find(q, "ABCDEF0123", &place));
}

static void test_long_ids_are_spread_by_microseconds(void **state)
{
    char path[QUEUE_PATH_SIZE];

    q->hash_depth = 2;
    assert_true(queue_path(q, QUEUE_DEFERRED, "4fTbZq2VDcz1B", path));
    assert_string_equal(path, "c/D/4fTbZq2VDcz1B");
    assert_true(queue_path(q, QUEUE_DEFERRED, "4F1C065F3A1C201", path));
    assert_string_equal(path, "4/F/4F1C065F3A1C201");
}

/* Each case changes one byte or the length of a good file. */
static void test_damage_is_recognised(void **state)
{
    static const struct {
        long at;    /* from the start; negative: from the end */
        int change; /* xor; 0: cut here */
    } cases[] = {
        {0, 1},  {10, 1}, {70, 1}, {90, 1}, {99, 1}, {101, 1}, {110, 1}, {200, 1},
        {-1, 1}, {-4, 4}, {-1, 0}, {-5, 0}, {99, 0}, {1, 0},   {0, 0},
    };
    char path[128];

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct queue_envelope *read = NULL;
        struct error *e;
        off_t at;
        char byte;
        int fd;

        must_put("ABCDEF0123", QUEUE_INCOMING);
        snprintf(path, sizeof(path), "%s/incoming/ABCDEF0123", dir);
        fd = open(path, O_RDWR);
        at = cases[i].at >= 0 ? cases[i].at : lseek(fd, 0, SEEK_END) + cases[i].at;
        assert_int_equal(pread(fd, &byte, 1, at), 1);
        byte ^= (char)cases[i].change;
        if (cases[i].change != 0)
            assert_int_equal(pwrite(fd, &byte, 1, at), 1);
        else
            assert_int_equal(ftruncate(fd, at), 0);
        e = queue_message_read(NULL, fd, &read);
        assert_non_null(e);
        assert_int_equal(e->kind, ERROR_PERM);
        assert_int_equal(code_of(e), EBADMSG);
        close(fd);
        unlink(path);
    }
}

static void test_only_our_files_are_opened(void **state)
{
    char path[128], other[128];

    snprintf(path, sizeof(path), "%s/incoming/ABCDEF0123", dir);
    snprintf(other, sizeof(other), "%s/incoming/ABCDEF9999", dir);
    must_put("ABCDEF9999", QUEUE_INCOMING);
    assert_int_equal(symlink(other, path), 0);
    assert_int_equal(open_code(QUEUE_INCOMING, "ABCDEF0123", false), EBADMSG);
    unlink(path);
    assert_int_equal(mkfifo(path, 0700), 0);
    assert_int_equal(open_code(QUEUE_INCOMING, "ABCDEF0123", false), EBADMSG);
    unlink(path);
    assert_int_equal(open_code(QUEUE_INCOMING, "ABCDEF0123", false), ENOENT);
    assert_int_equal(open_code(QUEUE_INCOMING, "../hold/x", false), 0);
    chmod(other, 0600);
    assert_int_equal(open_code(QUEUE_INCOMING, "ABCDEF9999", false), 0); /* temporary: not complete */
}

static void touch(const char *name, mode_t mode)
{
    char path[128];
    int fd;

    snprintf(path, sizeof(path), "%s/%s", dir, name);
    fd = open(path, O_CREAT | O_EXCL | O_WRONLY, mode);
    assert_true(fd >= 0);
    close(fd);
}

static void test_a_move_overwrites_nothing(void **state)
{
    must_put("ABCDEF0123", QUEUE_INCOMING);
    touch("hold/ABCDEF0123", 0700);
    assert_int_equal(code_of(queue_message_move(q, "ABCDEF0123", QUEUE_HOLD, QUEUE_INCOMING, 0)), EEXIST);
    assert_int_equal(code_of(queue_message_move(q, "ABCDEF0123", QUEUE_INCOMING, QUEUE_HOLD, 0)), EEXIST);
    assert_int_equal(open_code(QUEUE_INCOMING, "ABCDEF0123", false), -1);
    assert_int_equal(count_files("hold"), 1);
}

static void test_repair_at_start(void **state)
{
    char path[128], second[128];
    enum queue_place place;
    struct queue_reason *reasons;
    size_t n;
    int locked;

    must_put("ABCDEF0001", QUEUE_INCOMING);
    must_put("ABCDEF0002", QUEUE_INCOMING);
    must_put("ABCDEF0003", QUEUE_INCOMING);
    must_put("ABCDEF0004", QUEUE_INCOMING);
    must_put("ABCDEF0005", QUEUE_INCOMING);
    assert_null(queue_message_move(q, "ABCDEF0001", QUEUE_INCOMING, QUEUE_ACTIVE, 0));
    assert_null(queue_message_move(q, "ABCDEF0002", QUEUE_INCOMING, QUEUE_DEFERRED, 1000000));
    assert_null(queue_message_move(q, "ABCDEF0003", QUEUE_INCOMING, QUEUE_HOLD, 0));
    assert_null(queue_reasons_write(q, "ABCDEF0002", &(struct queue_reason){"a", "4.0.0", "why"}, 1));
    assert_null(queue_reasons_write(q, "ABCDEF7777", &(struct queue_reason){"a", "4.0.0", "gone"}, 1));
    touch("defer/tmp.ABCDEF0002", 0600);
    touch("incoming/DEAD000001", 0600);
    touch("hold/DEAD000002", 0600);
    touch("incoming/tmp.1.1", 0700);
    touch("incoming/FEED000001", 0600);
    snprintf(path, sizeof(path), "%s/incoming/FEED000001", dir);
    locked = open(path, O_RDONLY);
    flock(locked, LOCK_EX);
    /* a move by link and unlink, cut in the middle: incoming to active, active to deferred */
    snprintf(path, sizeof(path), "%s/incoming/ABCDEF0004", dir);
    snprintf(second, sizeof(second), "%s/active/ABCDEF0004", dir);
    assert_int_equal(link(path, second), 0);
    snprintf(path, sizeof(path), "%s/incoming/ABCDEF0005", dir);
    snprintf(second, sizeof(second), "%s/active/ABCDEF0005", dir);
    assert_int_equal(rename(path, second), 0);
    snprintf(path, sizeof(path), "%s/deferred/A/ABCDEF0005", dir);
    assert_int_equal(link(second, path), 0);
    TALLOC_FREE(q);
    open_queue(2);
    assert_null(queue_recover(q));
    assert_int_equal(open_code(QUEUE_INCOMING, "ABCDEF0001", true), -1);
    assert_int_equal(open_code(QUEUE_DEFERRED, "ABCDEF0002", true), -1);
    assert_int_equal(open_code(QUEUE_HOLD, "ABCDEF0003", true), -1);
    assert_true(queue_message_find(q, "ABCDEF0004", &place));
    assert_true(queue_message_find(q, "ABCDEF0005", &place));
    assert_int_equal(place, QUEUE_DEFERRED);
    assert_int_equal(count_files("active"), 0);
    assert_int_equal(count_files("incoming"), 3); /* 0001, 0004 and the one being written */
    assert_int_equal(count_files("hold"), 1);
    assert_null(queue_reasons_read(q, q, "ABCDEF0002", &reasons, &n));
    assert_int_equal(n, 1);
    assert_null(queue_reasons_read(q, q, "ABCDEF7777", &reasons, &n));
    assert_int_equal(n, 0);
    assert_int_equal(count_files("defer"), 1);
    assert_int_equal(count_files("defer/A"), 1);
    assert_null(queue_recover(q));
    assert_int_equal(count_files("incoming"), 3);
    close(locked);
}

static void test_reasons(void **state)
{
    struct queue_reason at[] = {
        {"a@b", "4.4.1", "connect to x: refused\n\tand more"},
        {"c d@e", "4.2.0", ""},
    };
    struct queue_reason *back;
    size_t n = 7;

    assert_null(queue_reasons_read(NULL, q, "ABCDEF0123", &back, &n));
    assert_int_equal(n, 0);
    assert_null(queue_reasons_write(q, "ABCDEF0123", at, 1));
    assert_null(queue_reasons_write(q, "ABCDEF0123", at, 2));
    assert_null(queue_reasons_read(NULL, q, "ABCDEF0123", &back, &n));
    assert_int_equal(n, 2);
    for (size_t i = 0; i < n; i++) {
        assert_string_equal(back[i].rcpt, at[i].rcpt);
        assert_string_equal(back[i].dsn, at[i].dsn);
        assert_string_equal(back[i].text, at[i].text);
    }
    talloc_free(back);
    must_put("ABCDEF0123", QUEUE_INCOMING);
    assert_null(queue_message_remove(q, QUEUE_INCOMING, "ABCDEF0123"));
    assert_null(queue_reasons_read(NULL, q, "ABCDEF0123", &back, &n));
    assert_int_equal(n, 0);
}

static void test_notify_never_waits(void **state)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
    char what = 0;

    queue_notify(q, 'W'); /* nobody listens */
    snprintf(at.sun_path, sizeof(at.sun_path), "%s/public/qmgr", dir);
    assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof(at)), 0);
    for (int i = 0; i < 2000; i++) /* more than a socket holds */
        queue_notify(q, 'F');
    assert_int_equal(recv(fd, &what, 1, 0), 1);
    assert_int_equal(what, 'F');
    close(fd);
}

/* RLIMIT_FSIZE stands for a disk without room: the error is told, nothing is left, and later mail is taken
 * again. */
static void test_no_room(void **state)
{
    static const size_t sizes[] = {50000, QUEUE_MEMORY_LIMIT + 50000};
    struct rlimit old, small = {.rlim_cur = 20000};
    char *content = mem_bytes(q, sizes[1]);

    memset(content, 'x', sizes[1]);
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &old);
    small.rlim_max = old.rlim_max;
    for (size_t i = 0; i < 2; i++) {
        struct queue_envelope env = envelope("ABCDEF0123");

        setrlimit(RLIMIT_FSIZE, &small);
        assert_int_equal(code_of(put(&env, bytes(content, sizes[i]), 3000, QUEUE_INCOMING)), EFBIG);
        setrlimit(RLIMIT_FSIZE, &old);
        assert_int_equal(count_files("incoming"), 0);
        assert_int_equal(code_of(put(&env, bytes(content, sizes[i]), 3000, QUEUE_INCOMING)), -1);
        assert_null(queue_message_remove(q, QUEUE_INCOMING, env.id));
    }
}

/* The real thing, where a small disk can be had. */
static void test_full_disk(void **state)
{
    struct queue_envelope env = envelope("ABCDEF0123");
    char *content = mem_bytes(NULL, 20000);
    int n = 0;

    memset(content, 'x', 20000);
    TALLOC_FREE(q);
    if (geteuid() != 0 || mount("none", dir, "tmpfs", 0, "size=128k,mode=0700") != 0) {
        talloc_free(content);
        open_queue(1);
        skip();
    }
    open_queue(1);
    for (struct error *e = NULL; e == NULL && n < 100; n++) {
        snprintf(env.id, sizeof(env.id), "ABCDEF%04d", n);
        e = put(&env, bytes(content, 20000), 0, QUEUE_INCOMING);
        if (e != NULL)
            assert_int_equal(code_of(e), ENOSPC), n += 1000;
    }
    assert_in_range(n, 1003, 1010);
    assert_int_equal(count_files("incoming"), n - 1001);
    assert_null(queue_message_remove(q, QUEUE_INCOMING, "ABCDEF0000"));
    assert_int_equal(code_of(put(&env, bytes(content, 20000), 0, QUEUE_INCOMING)), -1);
    TALLOC_FREE(q);
    assert_int_equal(umount(dir), 0);
    talloc_free(content);
}

/* Until the thread that was left behind is done, at most 30 s. */
static void wait_until_empty(void *arg)
{
    for (int i = 0; i < 30000 && count_files("incoming") > 0; i++)
        co_sleep(clock_ms() + 1, "wait");
}

/* A writer whose time is up is told so, and then the message is not queued however far the thread was. */
static void test_giving_up_leaves_nothing(void **state)
{
    static const size_t sizes[] = {100, QUEUE_MEMORY_LIMIT + 100};
    char *content = mem_bytes(q, sizes[1]);

    memset(content, 'x', sizes[1]);
    for (int i = 0; i < 40; i++) {
        struct queue_envelope env = envelope("ABCDEF0123");
        struct put p = {
            .env = &env, .content = bytes(content, sizes[i % 2]), .deadline = clock_ms() + (uint64_t)(i / 8)};

        co_spawn(put_message, &p, "put");
        co_run();
        if (p.error == NULL) {
            assert_null(queue_message_remove(q, QUEUE_INCOMING, env.id));
        } else {
            assert_int_equal(p.error->code, ETIMEDOUT);
            co_spawn(wait_until_empty, NULL, "wait");
            co_run();
        }
        assert_int_equal(count_files("incoming"), 0);
        error_free(&p.error);
    }
}

static void cancel_other(void *arg)
{
    co_cancel(arg);
}

static void test_cancelled_writers_leave_nothing(void **state)
{
    struct queue_envelope env = envelope("ABCDEF0123");
    struct put p = {.env = &env, .content = BYTES("x"), .deadline = clock_ms() + 20000};
    struct co *co = co_spawn(put_message, &p, "put");

    co_spawn(cancel_other, co, "cancel");
    co_run();
    assert_non_null(p.error);
    assert_int_equal(code_of(p.error), ECANCELED);
    co_spawn(wait_until_empty, NULL, "wait");
    co_run();
    assert_int_equal(count_files("incoming"), 0);
}

static void test_odd_directories_are_refused(void **state)
{
    const struct queue_conf conf = {.directory = dir, .hash_depth = 1};
    struct queue *other = NULL;
    struct error *e;
    char path[128];

    snprintf(path, sizeof(path), "%s/hold", dir);
    assert_int_equal(chmod(path, 0777), 0);
    e = queue_open(NULL, &conf, &other);
    assert_non_null(e);
    assert_int_equal(e->kind, ERROR_CONF);
    error_free(&e);
    assert_int_equal(rmdir(path), 0);
    assert_int_equal(symlink("/tmp", path), 0);
    e = queue_open(NULL, &conf, &other);
    assert_non_null(e);
    error_free(&e);
    assert_null(other);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        CASE(test_what_is_written_is_read_back),
        CASE(test_commit_refuses_what_it_cannot_keep),
        CASE(test_a_taken_id_is_never_overwritten),
        CASE(test_a_move_overwrites_nothing),
        CASE(test_mark_in_place),
        CASE(test_lock_is_exclusive),
        CASE(test_moves),
        CASE(test_long_ids_are_spread_by_microseconds),
        CASE(test_damage_is_recognised),
        CASE(test_only_our_files_are_opened),
        CASE(test_repair_at_start),
        CASE(test_reasons),
        CASE(test_notify_never_waits),
        CASE(test_no_room),
        CASE(test_full_disk),
        CASE(test_giving_up_leaves_nothing),
        CASE(test_cancelled_writers_leave_nothing),
        CASE(test_odd_directories_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
