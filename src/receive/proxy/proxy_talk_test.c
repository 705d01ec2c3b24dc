/* The end of a conversation, at a server of the test's own on the other end of a socket pair. */
#include "proxy_talk.h"

#include "log.h"
#include "mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <cmocka.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

enum { LONG_MS = 60000 };

static struct conf *conf;

/* Reads until a command, or content, has come that ends so; then says its answer, and reads on. */
struct server {
    struct io_stream *stream;
    const char *end, *answer;
    struct buf read;
};

static co_fn void serve(void *arg)
{
    struct server *s = arg;
    bool has_answered = false;

    while (io_fill(s->stream, clock_ms() + LONG_MS) == IO_OK) {
        buf_add(&s->read, io_buffered(s->stream));
        io_consume(s->stream, io_buffered(s->stream).n);
        if (has_answered || strstr(buf_text(&s->read), s->end) == NULL)
            continue;
        has_answered = true;
        io_write(s->stream, bytes_of(s->answer), clock_ms() + LONG_MS);
        io_flush(s->stream, clock_ms() + LONG_MS);
    }
    io_stream_close(&s->stream);
}

static struct mail_rcpt rcpt = {.command = {"RCPT TO:<b@example.org>", 23}, .addr = "b@example.org"};
static struct mail_rcpt *rcpts[] = {&rcpt};
static const struct mail_envelope envelope = {
    .id = "1A", .command = {"MAIL FROM:<>", 12}, .sender = "", .rcpts = rcpts, .rcpt_count = 1};

/* A conversation with it, at the end of the content. */
static void meet(struct proxy_talk *t, struct server *s)
{
    struct proxy *p;
    int fds[2];

    assert_null(proxy_open(NULL, conf, "127.0.0.1:1", true, &p));
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
    s->stream = io_stream_new(NULL, fds[1]);
    *t = (struct proxy_talk){.proxy = p, .envelope = &envelope, .pipelines = true, .is_in_content = true};
    t->target = p->targets[0];
    t->server = smtp_client_new(NULL, io_stream_new(NULL, fds[0]), "the test's");
    co_spawn(serve, s, "server");
}

static co_fn void part(struct proxy_talk *t, struct server *s)
{
    struct proxy *p = t->proxy;

    t->target = NULL;
    proxy_talk_deinit(t);
    talloc_free(p);
    while (co_count() > 1)
        co_yield ();
    buf_deinit(&s->read);
}

static void run(void (*fn)(void *arg))
{
    co_init(2);
    co_spawn(fn, NULL, "test");
    co_run();
    co_deinit();
}

/* ---- what comes behind the verdict, when QUIT went with the dot ---- */

static co_fn void behind_the_verdict(void *arg)
{
    static const struct {
        const char *answer;
        int code;
    } cases[] = {
        {"250 2.0.0 ok\r\n", 250},
        {"250 2.0.0 ok\r\n221 bye\r\n", 250},
        {"250 2.0.0 ok\r\n2", 250},
        {"250 2.0.0 ok\r\n22", 250},
        {"250 2.0.0 ok\r\n421 closing\r\n", 250},
        {"550 5.7.1 no\r\n221-bye\r\n221 bye\r\n", 550},
        {"250 2.1.5 a ok\r\n550 5.7.1 b no\r\n", 451},
        {"250 2.1.5 a ok\r\n5", 451},
        {"250 2.0.0 ok\r\n250 ok\r\n", 451},
        {"250 2.0.0 ok\r\n\r\n", 451},
        {"421 4.3.2 closing\r\n250 2.0.0 ok\r\n", 451},
    };

    for (size_t i = 0; i < COUNT(cases); i++) {
        struct server s = {.end = ".\r\n", .answer = cases[i].answer};
        struct proxy_talk t;
        struct mail_reply r;

        meet(&t, &s);
        r = proxy_talk_end(&t);
        if (r.code != cases[i].code)
            fail_msg("case %zu: %d", i, r.code);
        assert_int_equal(t.is_dot_answered, r.code != 451);
        if (r.code == 451)
            assert_int_equal(t.fault, cases[i].answer[0] == '4' ? PROXY_UNREACHED : PROXY_SENSELESS);
        mail_reply_deinit(&r);
        part(&t, &s);
    }
}

static void test_behind_the_verdict(void **state)
{
    run(behind_the_verdict);
}

/* ---- the deadline ---- */

static co_fn void too_late_for_the_dot(void *arg)
{
    struct server s = {.end = ".\r\n", .answer = "250 2.0.0 ok\r\n"};
    struct proxy_talk t;
    struct mail_reply r;

    meet(&t, &s);
    t.deadline = clock_ms();
    r = proxy_talk_end(&t);
    assert_int_equal(r.code, 451);
    assert_int_equal(t.fault, PROXY_LOST);
    assert_false(t.is_dot_sent);
    mail_reply_deinit(&r);
    assert_int_equal(s.read.n, 0);
    part(&t, &s);
}

static void test_too_late_for_the_dot(void **state)
{
    run(too_late_for_the_dot);
}

static co_fn void too_late_for_the_group(void *arg)
{
    struct server s = {.end = "text\r\n", .answer = "250 ok\r\n250 2.1.5 ok\r\n250 2.0.0 ok\r\n"};
    struct proxy_talk t;
    struct mail_reply r;

    meet(&t, &s);
    t.is_in_content = false;
    t.chunks = PROXY_CHUNKS_TAKEN;
    t.deadline = clock_ms();
    r = proxy_chunk(&t, BYTES("text\r\n"));
    assert_int_equal(r.code, 451);
    assert_int_equal(t.fault, PROXY_LOST);
    assert_false(t.is_dot_sent);
    mail_reply_deinit(&r);
    assert_int_equal(s.read.n, 0);
    part(&t, &s);
}

static void test_too_late_for_the_group(void **state)
{
    run(too_late_for_the_group);
}

/* ---- the question for chunks ---- */

static co_fn void question(bool ignores, uint64_t left_ms, unsigned asked)
{
    struct server s = {.end = ".\r\n", .answer = "250 2.0.0 ok\r\n"};
    struct proxy_talk t;
    struct mail_reply r;

    meet(&t, &s);
    t.proxy->chunks = t.proxy->reuses = t.tells_rcpt = t.has_heard = true;
    t.server->features = SMTP_CHUNKING;
    t.target->memo.ignores_chunks = ignores;
    t.deadline = clock_ms() + left_ms;
    r = proxy_talk_end(&t);
    assert_int_equal(r.code, 250);
    mail_reply_deinit(&r);
    assert_int_equal(strstr(buf_text(&s.read), "BDAT 0 LAST") != NULL, asked);
    assert_int_equal(t.target->memo.ignores_chunks, ignores || asked);
    assert_int_equal(t.target->kept != NULL, !asked);
    part(&t, &s);
}

/* A server that says nothing to it is asked once, and no message waits for that beyond its time. */
static co_fn void silent_server(void *arg)
{
    question(false, LONG_MS, 1);
    question(true, LONG_MS, 0);
    question(false, 1000, 0);
}

static void test_silent_server_is_asked_for_chunks_once(void **state)
{
    run(silent_server);
}

/* ---- what says nothing of the server ---- */

static co_fn void without_descriptors(void *arg)
{
    struct server s = {.end = ".\r\n", .answer = ""};
    struct rlimit before, none;
    struct proxy_talk t;
    struct mail_reply r;

    meet(&t, &s);
    smtp_client_close(&t.server);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    none = (struct rlimit){0, before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    r = proxy_talk_open(&t);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_int_equal(r.code, 451);
    assert_int_equal(t.fault, PROXY_BLAMELESS);
    mail_reply_deinit(&r);
    r = proxy_talk_open(&t);
    assert_int_equal(t.fault, PROXY_UNREACHED); /* nobody listens there */
    mail_reply_deinit(&r);
    part(&t, &s);
}

static void test_without_descriptors(void **state)
{
    run(without_descriptors);
}

/* ---- through a gate that has no time left ---- */

static void begin(struct proxy_gate *g, struct proxy_passage *p)
{
}

static co_fn bool enter(struct proxy_gate *g, struct proxy_passage *p, struct mail_reply *reply_r)
{
    p->deadline = clock_ms() - 1;
    return true;
}

static co_fn void leave(struct proxy_gate *g, struct proxy_passage *p, const struct mail_reply *reply,
                        bool is_verdict)
{
    assert_int_equal(reply->code, 451);
    assert_false(is_verdict);
}

static struct mail_receipt *receipt(struct proxy_gate *g, struct proxy_passage *p)
{
    return NULL;
}

static const struct proxy_gate_ops ops = {begin, enter, leave, receipt};

static void count_tries(const char *line, void *arg)
{
    *(unsigned *)arg += strstr(line, "connect to proxy filter 127.0.0.1:1: ") != NULL;
}

static co_fn void no_time_left(void *arg)
{
    struct mail_client client = {.name = "unknown", .addr = "192.0.2.1", .proto = "ESMTP"};
    struct proxy_gate gate = {&ops};
    struct mail_sink *sink;
    struct mail_reply r;
    unsigned tries = 0;
    struct proxy *p;

    assert_null(proxy_open(NULL, conf, "127.0.0.1:1", true, &p));
    proxy_set_gate(p, &gate);
    sink = proxy_sink(NULL, p);
    sink->ops->begin(sink, &client, &envelope);
    sink->ops->content_begin(sink);
    sink->ops->content(sink, BYTES("text\r\n"));
    log_capture(count_tries, &tries);
    r = sink->ops->commit(sink);
    log_capture(NULL, NULL);
    assert_int_equal(r.code, 451);
    assert_int_equal(tries, 1); /* nothing is refused without a try */
    mail_reply_deinit(&r);
    talloc_free(sink);
    talloc_free(p);
}

static void test_no_time_left(void **state)
{
    run(no_time_left);
}

static int prepare(void **state)
{
    struct conf_faults faults = {.ctx = talloc_new(NULL)};

    conf = conf_read(faults.ctx, NULL, &faults);
    log_capture(NULL, NULL);
    proxy_enter(0);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_behind_the_verdict),
        cmocka_unit_test(test_too_late_for_the_dot),
        cmocka_unit_test(test_too_late_for_the_group),
        cmocka_unit_test(test_silent_server_is_asked_for_chunks_once),
        cmocka_unit_test(test_without_descriptors),
        cmocka_unit_test(test_no_time_left),
    };

    return cmocka_run_group_tests(tests, prepare, NULL);
}
