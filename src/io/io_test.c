/* io: streams cut at every byte, sockets, deadlines, endpoints, spool, attributes. */
#include "clock.h"
#include "co_fd.h"
#include "io.h"
#include "io_attr.h"
#include "io_spool.h"
#include "mem.h"

#include <linux/tcp.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

enum { SOON_MS = 10000 };

static int done;

static uint64_t in_ms(uint64_t ms)
{
    return clock_ms() + ms;
}

static void run(void (*fn)(void *arg), void *arg)
{
    done = 0;
    co_init(2);
    co_spawn(fn, arg, "test");
    co_run();
    co_deinit();
    assert_int_equal(done, 1);
}

static void memory_stream(void *arg)
{
    static const char text[] = "one\r\ntwo\r\n";

    for (size_t step = 0; step < sizeof(text); step++) {
        struct io_stream *s = io_memory_new(NULL, BYTES(text), step);
        enum io_end end;

        while ((end = io_fill(s, in_ms(SOON_MS))) == IO_OK)
            ;
        assert_int_equal(end, IO_CLOSED);
        assert_true(bytes_eq(io_buffered(s), BYTES(text)));
        io_consume(s, 5);
        assert_true(bytes_eq(io_buffered(s), BYTES("two\r\n")));
        io_write(s, BYTES("a"), in_ms(SOON_MS));
        assert_true(io_has_unsent(s));
        io_writef(s, in_ms(SOON_MS), "%d", 12);
        io_flush(s, in_ms(SOON_MS));
        assert_true(bytes_eq(io_memory_written(s), BYTES("a12")));
        io_stream_close(&s);
    }
    done = 1;
}

static void test_memory_stream_cut_at_every_byte(void **state)
{
    run(memory_stream, NULL);
}

/* 1 MB each way through a socket pair, echoed by another coroutine: partial writes and growing buffers. */
enum { MEGABYTE = 1 << 20 };

static void echo(void *arg)
{
    struct io_stream *s = io_stream_new(NULL, *(int *)arg);

    while (io_fill(s, in_ms(SOON_MS)) == IO_OK) {
        struct bytes got = io_buffered(s);

        assert_int_equal(io_write(s, got, in_ms(SOON_MS)), IO_OK);
        io_consume(s, got.n);
        assert_int_equal(io_flush(s, in_ms(SOON_MS)), IO_OK);
    }
    io_stream_close(&s);
}

static void send_megabyte(void *arg)
{
    struct io_stream *s = arg;
    char *block = calloc(1, MEGABYTE);

    for (int i = 0; i < MEGABYTE; i++)
        block[i] = (char)(i * 7 + i / 251);
    assert_int_equal(io_write(s, bytes(block, MEGABYTE), in_ms(SOON_MS)), IO_OK);
    assert_int_equal(io_flush(s, in_ms(SOON_MS)), IO_OK);
    free(block);
}

static void through_sockets(void *arg)
{
    int fds[2];
    struct io_stream *s;
    size_t got = 0;

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
    s = io_stream_new(NULL, fds[0]);
    co_spawn(echo, &fds[1], "echo");
    co_spawn(send_megabyte, s, "sender");
    while (got < MEGABYTE) {
        struct bytes piece;

        assert_int_equal(io_fill(s, in_ms(SOON_MS)), IO_OK);
        piece = io_buffered(s);
        for (size_t i = 0; i < piece.n; i++)
            assert_int_equal(piece.p[i], (char)((got + i) * 7 + (got + i) / 251));
        got += piece.n;
        io_consume(s, piece.n);
    }
    assert_int_equal(got, MEGABYTE);
    assert_int_equal(io_fill(s, in_ms(5)), IO_TIMEOUT);
    io_stream_close(&s);
    done = 1;
}

static void test_a_megabyte_through_sockets(void **state)
{
    run(through_sockets, NULL);
}

/* ---- a peer that sends a byte now and then ---- */

static bool is_in_slow_lane(const struct io_stream *s)
{
    char path[64], line[128], wanted[32];
    bool found = false;
    FILE *f;

    snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", co_epoll_slow());
    snprintf(wanted, sizeof(wanted), "tfd: %8d ", io_stream_fd(s));
    f = fopen(path, "r");
    while (fgets(line, sizeof(line), f) != NULL)
        found |= strncmp(line, wanted, strlen(wanted)) == 0;
    fclose(f);
    return found;
}

/* A byte, and then nothing for longer than it takes to be judged. */
static void trickle(struct io_stream *s, int peer)
{
    assert_int_equal(write(peer, "x", 1), 1);
    assert_int_equal(io_fill(s, in_ms(SOON_MS)), IO_OK);
    assert_int_equal(io_fill(s, in_ms(1050)), IO_TIMEOUT);
    assert_int_equal(io_fill(s, in_ms(1)), IO_TIMEOUT);
}

static void answer(struct io_stream *s)
{
    assert_int_equal(io_write(s, BYTES("250 Ok\r\n"), in_ms(SOON_MS)), IO_OK);
    assert_int_equal(io_flush(s, in_ms(SOON_MS)), IO_OK);
}

static void trickling(void *arg)
{
    static const char piece[1024];
    uint64_t since;
    int fds[2];
    struct io_stream *s;

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
    s = io_stream_new(NULL, fds[0]);
    trickle(s, fds[1]);
    assert_false(is_in_slow_lane(s)); /* nobody expects it */
    io_expect_trickle(s, true);
    answer(s);
    assert_int_equal(io_fill(s, in_ms(1050)), IO_TIMEOUT);
    assert_int_equal(io_fill(s, in_ms(1)), IO_TIMEOUT);
    assert_false(is_in_slow_lane(s)); /* it has said nothing yet */
    trickle(s, fds[1]);
    assert_true(is_in_slow_lane(s));
    assert_int_equal(write(fds[1], "\n", 1), 1); /* is found, though nobody is woken by it */
    since = clock_ms();
    assert_int_equal(io_fill(s, in_ms(SOON_MS)), IO_OK);
    assert_true(clock_ms() - since < 1000);
    assert_true(is_in_slow_lane(s));
    answer(s); /* that was all it had to say */
    assert_false(is_in_slow_lane(s));
    trickle(s, fds[1]);
    assert_true(is_in_slow_lane(s));
    for (int i = 0; i < 20; i++) { /* it hurries */
        assert_int_equal(write(fds[1], piece, sizeof(piece)), sizeof(piece));

        assert_int_equal(io_fill(s, in_ms(SOON_MS)), IO_OK);
    }
    assert_int_equal(io_fill(s, in_ms(1)), IO_TIMEOUT);
    assert_false(is_in_slow_lane(s));
    answer(s);
    trickle(s, fds[1]);
    assert_true(is_in_slow_lane(s));
    close(fds[1]); /* it leaves: nobody is told until somebody asks */
    io_peer_left(s);
    assert_false(is_in_slow_lane(s));
    co_sleep(in_ms(1), "the loop to look");
    assert_true(io_peer_left(s));
    io_stream_close(&s);
    done = 1;
}

static void test_a_trickling_peer_wakes_nobody(void **state)
{
    run(trickling, NULL);
}

static int option(int fd, int level, int name)
{
    socklen_t size = sizeof(int);
    int value = -1;

    assert_int_equal(getsockopt(fd, level, name, &value, &size), 0);
    return value;
}

/* Two ends of a TCP connection: the second as it came from the kernel. */
static struct io_stream *connected(int *peer)
{
    struct io_address a;
    struct error *e = NULL;
    struct io_stream *s;
    socklen_t size = sizeof(a.sa);
    int fd;

    assert_true(io_address_parse("127.0.0.1", 0, &a));
    fd = io_listen(&a, 10, &e);
    assert_null(e);
    getsockname(fd, (struct sockaddr *)&a.sa, &size);
    assert_null(io_connect(NULL, &a, in_ms(SOON_MS), &s));
    *peer = accept(fd, NULL, NULL);
    assert_true(*peer >= 0);
    close(fd);
    return s;
}

static int bytes_to_tell_of(const struct io_stream *s)
{
    return option(io_stream_fd(s), SOL_SOCKET, SO_RCVLOWAT);
}

static void says(int peer, const char *text)
{
    assert_int_equal(write(peer, text, strlen(text)), strlen(text));
}

/* A byte, and none for five seconds. */
static void crawl(struct io_stream *s, int peer)
{
    says(peer, "x");
    assert_int_equal(io_fill(s, in_ms(SOON_MS)), IO_OK);
    assert_int_equal(io_fill(s, in_ms(1)), IO_TIMEOUT);
    assert_int_equal(bytes_to_tell_of(s), 1);
    clock_skip_ms(5000);
    assert_int_equal(io_fill(s, in_ms(1)), IO_TIMEOUT);
    assert_int_equal(bytes_to_tell_of(s), 8);
    assert_true(is_in_slow_lane(s));
}

static void crawling(void *arg)
{
    uint64_t soon;
    int peer;
    struct io_stream *s = connected(&peer);

    io_expect_trickle(s, true);
    crawl(s, peer);
    says(peer, "y"); /* wakes nobody, and is found at the end */
    soon = in_ms(300);
    assert_int_equal(io_fill(s, soon), IO_OK);
    assert_true(clock_ms() >= soon);
    crawl(s, peer);
    says(peer, "y");
    clock_skip_ms(20000); /* the time of four bytes: a look */
    assert_int_equal(io_fill(s, in_ms(SOON_MS)), IO_OK);
    assert_true(bytes_eq(io_buffered(s), BYTES("xyxy")));
    assert_int_equal(io_fill(s, in_ms(1)), IO_TIMEOUT);
    assert_int_equal(bytes_to_tell_of(s), 8);
    says(peer, "in haste"); /* is found by the slow lane's next look */
    assert_int_equal(io_fill(s, in_ms(SOON_MS)), IO_OK);
    assert_int_equal(io_fill(s, in_ms(1)), IO_TIMEOUT);
    assert_int_equal(bytes_to_tell_of(s), 1);
    answer(s);
    crawl(s, peer);
    says(peer, "z");
    answer(s); /* what comes now is told at once, and what has come */
    assert_int_equal(bytes_to_tell_of(s), 1);
    assert_int_equal(io_fill(s, in_ms(SOON_MS)), IO_OK);
    crawl(s, peer);
    says(peer, "z");
    io_expect_trickle(s, false);
    assert_false(is_in_slow_lane(s));
    assert_int_equal(io_fill(s, in_ms(SOON_MS)), IO_OK);
    io_expect_trickle(s, true);
    crawl(s, peer);
    shutdown(peer, SHUT_WR); /* its leaving is no byte */
    assert_int_equal(io_fill(s, in_ms(SOON_MS)), IO_CLOSED);
    io_stream_close(&s);
    close(peer);
    done = 1;
}

static void test_a_crawling_peer_is_looked_at_rarely(void **state)
{
    run(crawling, NULL);
}

static unsigned segments_out(const struct io_stream *s)
{
    struct tcp_info info;
    socklen_t size = sizeof(info);

    assert_int_equal(getsockopt(io_stream_fd(s), IPPROTO_TCP, TCP_INFO, &info, &size), 0);
    return info.tcpi_segs_out;
}

/* The last word and the end of our side are one segment, although something of the peer's is unread; the
 * peer's side goes on. */
static void last_word(struct io_stream *s, struct io_stream *t)
{
    unsigned segments;

    assert_int_equal(io_write(t, BYTES("unread"), in_ms(SOON_MS)), IO_OK);
    assert_int_equal(io_flush(t, in_ms(SOON_MS)), IO_OK);
    assert_int_equal(io_write(s, BYTES("bye"), in_ms(SOON_MS)), IO_OK);
    segments = segments_out(s);
    assert_int_equal(io_flush_end(s, in_ms(SOON_MS)), IO_OK);
    assert_int_equal(segments_out(s) - segments, 1);
    assert_int_equal(io_fill(t, in_ms(SOON_MS)), IO_OK);
    assert_true(bytes_eq(io_buffered(t), BYTES("bye")));
    assert_int_equal(io_fill(t, in_ms(SOON_MS)), IO_CLOSED);
    assert_int_equal(io_fill(s, in_ms(SOON_MS)), IO_OK);
}

static void notices_a_peer_that_vanished(int fd)
{
    assert_int_equal(option(fd, SOL_SOCKET, SO_KEEPALIVE), 1);
    assert_in_range(option(fd, IPPROTO_TCP, TCP_KEEPIDLE), 60, 120);
    assert_in_range(option(fd, IPPROTO_TCP, TCP_KEEPINTVL), 1, 30);
    assert_in_range(option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT), 90000, 180000);
}

static void listening(void *arg)
{
    struct io_address a, peer;
    struct error *e = NULL;
    struct io_listener *l;
    struct io_stream *s, *t;
    int fd, got, code, bound;
    char text[46];
    socklen_t size = sizeof(a.sa);

    assert_true(io_address_parse("127.0.0.1", 0, &a));
    fd = io_listen(&a, 10, &e);
    assert_null(e);
    getsockname(fd, (struct sockaddr *)&a.sa, &size);
    bound = (int)io_address_port(&a);
    assert_true(bound > 0);
    l = io_listener_new(NULL, fd);
    assert_null(io_connect(NULL, &a, in_ms(SOON_MS), &s));
    assert_int_equal(io_accept(l, in_ms(SOON_MS), &got, &peer, &code), IO_OK);
    assert_string_equal(io_address_host(&peer, text), "127.0.0.1");
    notices_a_peer_that_vanished(got);
    t = io_stream_new(NULL, got);
    io_write(s, BYTES("hello"), in_ms(SOON_MS));
    io_flush(s, in_ms(SOON_MS));
    assert_int_equal(io_fill(t, in_ms(SOON_MS)), IO_OK);
    assert_true(bytes_eq(io_buffered(t), BYTES("hello")));
    assert_false(io_peer_left(t));
    io_consume(t, 5);
    last_word(t, s);
    io_stream_close(&s);
    for (int i = 0; i < SOON_MS && !io_peer_left(t); i++)
        co_sleep(in_ms(1), "the peer to leave");
    assert_true(io_peer_left(t));
    io_stream_close(&t);
    io_listener_close(&l);
    close(fd);
    e = io_connect(NULL, &a, in_ms(SOON_MS), &s);
    assert_non_null(e);
    assert_string_equal(e->text, "Connection refused");
    error_free(&e);
    done = 1;
}

static void test_listen_connect_accept(void **state)
{
    run(listening, NULL);
}

/* As many connections as a unix socket's backlog holds wait there; the next one waits for room. */
static co_fn void make_room(void *arg)
{
    struct io_listener *l = arg;
    struct io_address peer;
    int fd, code;

    co_sleep(in_ms(30), "the other to wait");
    assert_int_equal(io_accept(l, in_ms(SOON_MS), &fd, &peer, &code), IO_OK);
    close(fd);
}

static void full_backlog(void *arg)
{
    struct io_stream *first, *second, *third;
    struct io_listener *l;
    struct io_address a;
    struct error *e;
    char path[64];
    int fd;

    snprintf(path, sizeof(path), "/tmp/io-test-backlog-%d", (int)getpid());
    assert_null(io_address_unix(path, &a));
    fd = io_listen(&a, 0, &e);
    assert_true(fd >= 0);
    l = io_listener_new(NULL, fd);
    assert_null(io_connect(NULL, &a, in_ms(SOON_MS), &first));
    e = io_connect(NULL, &a, in_ms(20), &second);
    assert_non_null(e);
    assert_string_equal(e->text, "Connection timed out");
    assert_false(io_connect_had_no_means(e));
    error_free(&e);
    co_spawn(make_room, l, "room");
    assert_null(io_connect(NULL, &a, in_ms(SOON_MS), &third));
    io_stream_close(&first);
    io_stream_close(&third);
    io_listener_close(&l);
    close(fd);
    unlink(path);
    done = 1;
}

static void test_full_backlog(void **state)
{
    run(full_backlog, NULL);
}

static void no_descriptors(void *arg)
{
    struct rlimit before, none;
    struct io_stream *s;
    struct io_address a;
    struct error *e;

    assert_true(io_address_parse("127.0.0.1", 1, &a));
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    none = (struct rlimit){0, before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    e = io_connect(NULL, &a, in_ms(SOON_MS), &s);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_non_null(e);
    assert_true(io_connect_had_no_means(e));
    error_free(&e);
    e = io_connect(NULL, &a, in_ms(SOON_MS), &s);
    assert_non_null(e);
    assert_false(io_connect_had_no_means(e));
    error_free(&e);
    done = 1;
}

static void test_no_descriptors(void **state)
{
    run(no_descriptors, NULL);
}

static void test_endpoints(void **state)
{
    static const struct {
        const char *text, *host, *service, *path;
    } cases[] = {
        {"127.0.0.1:10025", "127.0.0.1", "10025", NULL},
        {"inet:127.0.0.1:10025", "127.0.0.1", "10025", NULL},
        {"INET:mail.example.com:smtp", "mail.example.com", "smtp", NULL},
        {"10025", "localhost", "10025", NULL},
        {":10025", "localhost", "10025", NULL},
        {"[::1]:10025", "::1", "10025", NULL},
        {"inet:[IPv6:::1]:25", "::1", "25", NULL},
        {"unix:/run/filter", NULL, NULL, "/run/filter"},
        {"Unix:private/filter", NULL, NULL, "/q/private/filter"},
        {"[::1]", NULL, NULL, NULL},
        {"host:", NULL, NULL, NULL},
        {"", NULL, NULL, NULL},
        {"unix:", NULL, NULL, NULL},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct io_endpoint got;
        void *ctx = talloc_new(NULL);
        struct error *e = io_endpoint_parse(ctx, cases[i].text, "/q", &got);

        assert_int_equal(e == NULL, cases[i].service != NULL || cases[i].path != NULL);
        if (e == NULL && cases[i].path != NULL) {
            assert_string_equal(got.path, cases[i].path);
        } else if (e == NULL) {
            assert_string_equal(got.host, cases[i].host);
            assert_string_equal(got.service, cases[i].service);
        }
        error_free(&e);
        talloc_free(ctx);
    }
}

/* The same content below and above the memory limit, read in pieces from every offset of some. */
static void spooling(void *arg)
{
    struct io_spool_conf conf = {.dir = "/tmp", .memory_limit = *(size_t *)arg};
    struct io_spool *s = io_spool_new(NULL, &conf);
    uint64_t at = 0;

    for (int round = 0; round < 2; round++) {
        struct bytes piece;
        char line[64];

        for (int i = 0; i < 20000; i++) {
            snprintf(line, sizeof(line), "line %06d of the message\r\n", i);
            assert_null(io_spool_write(s, bytes_of(line)));
        }
        assert_int_equal(io_spool_size(s), 20000 * 28);
        for (at = 0; at < io_spool_size(s);) {
            assert_null(io_spool_read(s, at, &piece));
            assert_true(piece.n > 0);
            for (size_t i = 0; i < piece.n; i += 28) {
                uint64_t which = (at + i) / 28;

                snprintf(line, sizeof(line), "line %06d of the message\r\n", (int)which);
                if ((at + i) % 28 == 0 && piece.n - i >= 28)
                    assert_memory_equal(piece.p + i, line, 28);
            }
            at += piece.n;
        }
        assert_null(io_spool_read(s, at, &piece));
        assert_int_equal(piece.n, 0);
        assert_null(io_spool_read(s, 28 * 777, &piece));
        assert_memory_equal(piece.p, "line 000777", 11);
        io_spool_reset(s);
        assert_int_equal(io_spool_size(s), 0);
    }
    talloc_free(s);
    done = 1;
}

static void test_spool_in_memory_and_in_a_file(void **state)
{
    size_t limits[] = {1 << 20, 1000, 200000};

    for (size_t i = 0; i < 3; i++)
        run(spooling, &limits[i]);
}

/* More spools than the budget has room for: each may keep a little, none what it would keep alone. */
static void spools_beyond_the_budget(void *arg)
{
    enum { SPOOLS = 64, PIECES = 300, PIECE = 100, BUDGET = 65536, EACH = 8192 };
    struct io_spool_conf conf = {.dir = "/tmp", .memory_limit = 1 << 20};
    struct io_spool *spools[SPOOLS];
    char text[PIECE];
    struct bytes piece;

    io_spool_set_budget(BUDGET);
    for (int i = 0; i < SPOOLS; i++)
        spools[i] = io_spool_new(NULL, &conf);
    for (int n = 0; n < PIECES; n++) {
        memset(text, 'a' + n % 26, sizeof(text));
        for (int i = 0; i < SPOOLS; i++)
            assert_null(io_spool_write(spools[i], bytes(text, sizeof(text))));
        assert_true(io_spool_memory() <= BUDGET + SPOOLS * EACH);
    }
    for (int i = 0; i < SPOOLS; i++) {
        assert_false(io_spool_is_in_memory(spools[i]));
        assert_int_equal(io_spool_size(spools[i]), PIECES * PIECE);
        assert_null(io_spool_read(spools[i], 270 * PIECE, &piece)); /* n % 26 == 10 */
        assert_memory_equal(piece.p, "kkkk", 4);
        talloc_free(spools[i]);
    }
    assert_int_equal(io_spool_memory(), 0);
    io_spool_set_budget(64 << 20);
    done = 1;
}

static void test_spools_share_a_budget(void **state)
{
    run(spools_beyond_the_budget, NULL);
}

static void spool_trouble(void *arg)
{
    struct io_spool_conf conf = {.dir = "/nonexistent", .memory_limit = 10};
    struct io_spool *s = io_spool_new(NULL, &conf);
    struct bytes piece;
    struct error *e = io_spool_write(s, BYTES("more than ten bytes"));

    assert_non_null(e);
    assert_non_null(strstr(e->text, "No such file or directory"));
    error_free(&e);
    e = io_spool_read(s, 0, &piece);
    assert_non_null(e);
    error_free(&e);
    talloc_free(s);
    done = 1;
}

static void test_spool_tells_trouble_and_stays_told(void **state)
{
    run(spool_trouble, NULL);
}

static void attributes(void *arg)
{
    struct buf out = {0};

    io_attr_add(&out, "sender", "a b%=\n\xc3\xbc");
    io_attr_addf(&out, "count", "%d", 3);
    io_attr_add(&out, "empty", "");
    io_attr_end(&out);
    for (size_t step = 0; step <= out.n; step++) {
        struct io_stream *s = io_memory_new(NULL, buf_bytes(&out), step);
        struct io_attrs got;

        assert_int_equal(io_attr_read(s, s, in_ms(SOON_MS), &got), IO_OK);
        assert_int_equal(got.n, 3);
        assert_string_equal(io_attr_get(&got, "sender"), "a b%=\n\xc3\xbc");
        assert_string_equal(io_attr_get(&got, "count"), "3");
        assert_string_equal(io_attr_get(&got, "empty"), "");
        assert_null(io_attr_get(&got, "absent"));
        assert_int_equal(io_attr_read(s, s, in_ms(SOON_MS), &got), IO_CLOSED);
        io_stream_close(&s);
    }
    buf_deinit(&out);
    done = 1;
}

static void test_attributes_cut_at_every_byte(void **state)
{
    run(attributes, NULL);
}

static void bad_attributes(void *arg)
{
    static const char *const bad[] = {"no equals sign\n\n", "=value\n\n", "a=%\n\n",
                                      "a=%G0\n\n",          "a=%00\n\n",  "a=b\n"};

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct io_stream *s = io_memory_new(NULL, bytes_of(bad[i]), 0);
        struct io_attrs got;

        assert_int_equal(io_attr_read(s, s, in_ms(SOON_MS), &got), IO_RESET);
        io_stream_close(&s);
    }
    done = 1;
}

static void test_malformed_attributes(void **state)
{
    run(bad_attributes, NULL);
}

static void resolving(void *arg)
{
    struct io_address *found;
    struct error *e;
    size_t n;
    char text[46];

    assert_null(io_resolve(NULL, "192.0.2.7", "25", AF_UNSPEC, in_ms(SOON_MS), &found, &n));
    assert_int_equal(n, 1);
    assert_string_equal(io_address_host(found, text), "192.0.2.7");
    talloc_free(found);
    assert_null(io_resolve(NULL, "localhost", "25", AF_INET, in_ms(10000), &found, &n));
    assert_true(n >= 1);
    assert_string_equal(io_address_host(found, text), "127.0.0.1");
    talloc_free(found);
    e = io_resolve(NULL, "192.0.2.7.invalid", "no such service", AF_UNSPEC, in_ms(20000), &found, &n);
    assert_non_null(e);
    error_free(&e);
    done = 1;
}

static void test_resolve(void **state)
{
    run(resolving, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_memory_stream_cut_at_every_byte),
        cmocka_unit_test(test_a_megabyte_through_sockets),
        cmocka_unit_test(test_a_trickling_peer_wakes_nobody),
        cmocka_unit_test(test_a_crawling_peer_is_looked_at_rarely),
        cmocka_unit_test(test_listen_connect_accept),
        cmocka_unit_test(test_full_backlog),
        cmocka_unit_test(test_no_descriptors),
        cmocka_unit_test(test_endpoints),
        cmocka_unit_test(test_spool_in_memory_and_in_a_file),
        cmocka_unit_test(test_spools_share_a_budget),
        cmocka_unit_test(test_spool_tells_trouble_and_stays_told),
        cmocka_unit_test(test_attributes_cut_at_every_byte),
        cmocka_unit_test(test_malformed_attributes),
        cmocka_unit_test(test_resolve),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
