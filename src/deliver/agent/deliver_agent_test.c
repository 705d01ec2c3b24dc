/* deliver/agent: codes and log lines, the wire between scheduler and agent, marks in the queue file, error,
 * discard. */
#include "clock.h"
#include "deliver_wire.h"
#include "log.h"
#include "mem.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

static struct queue *q;
static void *ctx;
static char dir[64], last_line[4096];
static struct buf log_text;

static void take_line(const char *line, void *arg)
{
    snprintf(last_line, sizeof(last_line), "%s", line);
    buf_addf(&log_text, "%s\n", line);
}

static int setup(void **state)
{
    struct queue_conf conf = {.directory = dir, .hash_depth = 1};
    struct error *e;

    snprintf(dir, sizeof(dir), "/tmp/deliver_test.XXXXXX");
    if (mkdtemp(dir) == NULL)
        return -1;
    ctx = talloc_named_const(NULL, 0, "test");
    co_init(2);
    mail_id_setup(1, false);
    log_capture(take_line, NULL);
    e = queue_open(ctx, &conf, &q);
    return e == NULL ? 0 : -1;
}

static int teardown(void **state)
{
    char command[128];

    talloc_free(ctx);
    co_deinit();
    log_capture(NULL, NULL);
    buf_deinit(&log_text);
    snprintf(command, sizeof(command), "rm -rf %s", dir);
    return system(command);
}

static void test_dsn_split(void **state)
{
    static const struct {
        const char *text, *dsn, *rest;
    } cases[] = {
        {"5.1.1 no such user", "5.1.1", "no such user"},
        {"4.123.456  later", "4.123.456", "later"},
        {"5.1.1", "5.1.1", ""},
        {"5.1 no", NULL, NULL},
        {"3.1.1 no", NULL, NULL},
        {"5.1.1x no", NULL, NULL},
        {"", NULL, NULL},
        {"5.1.1234 no", NULL, NULL},
        {"no 5.1.1", NULL, NULL},
    };
    size_t i;

    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char dsn[12] = "";
        const char *rest = NULL;

        assert_int_equal(deliver_dsn_split(cases[i].text, dsn, &rest), cases[i].dsn != NULL);
        if (cases[i].dsn != NULL) {
            assert_string_equal(dsn, cases[i].dsn);
            assert_string_equal(rest, cases[i].rest);
        }
    }
}

static void test_log_line_and_delays(void **state)
{
    static const struct {
        uint64_t age_us;
        const char *delay;
    } cases[] = {{1000, "0"},      {51000, "0.05"}, {501000, "0.5"},  {132000, "0.13"},  {992000, "0.99"},
                 {1210000, "1.2"}, {2001000, "2"},  {12400000, "12"}, {123456789, "123"}};
    struct queue_rcpt rcpt = {.addr = (char *)"a b@example.com", .orig = (char *)"list@example.com"};
    struct deliver_result result = {
        .status = DELIVER_DEFERRED, .dsn = "4.4.1", .text = (char *)"no", .relay = (char *)"h[1.2.3.4]:25"};
    struct queue_envelope env = {.id = "ABCDEF123456"};
    struct deliver_request request = {.envelope = &env};
    char want[300];
    size_t i;

    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint64_t now;

        do { /* with the clock where it is: a pause of the machine would be counted */
            now = clock_real_us();
            env.arrived_us = request.active_us = now - cases[i].age_us;
            deliver_log(&request, &rcpt, &result, now - cases[i].age_us);
        } while (clock_real_us() - now > 1000);
        snprintf(want, sizeof(want),
                 "ABCDEF123456: to=<\"a b\"@example.com>, orig_to=<list@example.com>, relay=h[1.2.3.4]:25, "
                 "delay=%s, delays=0/0/0/%s, dsn=4.4.1, status=deferred (no)",
                 cases[i].delay, cases[i].delay);
        assert_string_equal(last_line, want);
    }
}

/* ---- the wire ---- */

struct wire_case {
    struct buf wire;
    size_t step;
};

static void read_result_back(void *arg)
{
    struct wire_case *c = arg;
    struct io_stream *s = io_memory_new(ctx, buf_bytes(&c->wire), c->step);
    struct io_attrs attrs;
    struct deliver_result r;
    uint64_t offset;

    assert_int_equal(io_attr_read(ctx, s, clock_ms() + 1000, &attrs), IO_OK);
    assert_true(deliver_wire_get_result(ctx, &attrs, &offset, &r));
    assert_int_equal(offset, 4711);
    assert_int_equal(r.status, DELIVER_BOUNCED);
    assert_string_equal(r.text, "host said: 550 \"no\"=100%\nline \xc3\xa4");
    assert_string_equal(r.remote, "mx.example");
    assert_true(r.is_site);
}

static void test_result_survives_the_wire_cut_anywhere(void **state)
{
    struct deliver_result r = {.status = DELIVER_BOUNCED,
                               .dsn = "5.1.1",
                               .relay = (char *)"mx[1.2.3.4]:25",
                               .text = (char *)"host said: 550 \"no\"=100%\nline \xc3\xa4",
                               .remote = (char *)"mx.example",
                               .is_site = true};
    struct wire_case c = {0};

    deliver_wire_put_result(&c.wire, 4711, &r);
    for (c.step = 0; c.step < 5; c.step++) {
        co_spawn(read_result_back, &c, "wire");
        co_run();
    }
    buf_deinit(&c.wire);
}

static void test_malformed_requests(void **state)
{
    static const char *const good[][2] = {{"place", "active"},   {"id", "ABCDEF123456"},
                                          {"transport", "smtp"}, {"nexthop", ""},
                                          {"active", "5"},       {"recipients", "10 20"}};
    static const char *const bad[][2] = {{"place", "../x"},  {"id", "../../etc/passwd"}, {"active", "-1"},
                                         {"recipients", ""}, {"recipients", "1 x"},      {"id", ""}};
    struct deliver_wire_request r;
    size_t i, j;

    for (i = 0; i <= sizeof(bad) / sizeof(bad[0]); i++) {
        struct io_attr at[6];
        struct io_attrs attrs = {at, 6};

        for (j = 0; j < 6; j++) {
            bool is_bad = i < 6 && strcmp(good[j][0], bad[i][0]) == 0;

            at[j] = (struct io_attr){(char *)good[j][0], (char *)(is_bad ? bad[i][1] : good[j][1])};
        }
        assert_int_equal(deliver_wire_get_request(ctx, &attrs, &r), i == 6);
    }
    assert_int_equal(r.n, 2);
    assert_int_equal(r.offsets[1], 20);
}

/* ---- serving ---- */

static unsigned asked;

static void fake_deliver(struct deliver_agent *a, const void *c, const struct deliver_request *request,
                         struct deliver_result *results)
{
    size_t i;

    asked += request->rcpt_count;
    for (i = 0; i < request->rcpt_count; i++) {
        char first = request->rcpts[i]->addr[0];

        if (first == 's')
            deliver_result_set(c, &results[i], DELIVER_SENT, "2.0.0", "fake", "ok");
        else if (first == 'd')
            deliver_result_set(c, &results[i], DELIVER_DEFERRED, "4.0.0", "fake", "later");
        else
            deliver_result_set(c, &results[i], DELIVER_BOUNCED, "5.0.0", "fake", "never");
    }
}

static const struct deliver_agent_ops fake_ops = {.command = "fake", .deliver = fake_deliver};
static struct deliver_agent fake = {&fake_ops};

static void serve(void *arg)
{
    struct io_stream *s = io_stream_new(ctx, *(int *)arg);

    deliver_serve(&fake, q, "fake", s);
    io_stream_close(&s);
}

static void write_message(const char *id, struct queue_envelope **env_r)
{
    struct queue_rcpt rcpts[3] = {{.addr = (char *)"sent@x", .state = QUEUE_RCPT_TODO},
                                  {.addr = (char *)"deferred@x", .state = QUEUE_RCPT_TODO},
                                  {.addr = (char *)"bounced@x", .state = QUEUE_RCPT_TODO}};
    struct queue_envelope env = {
        .sender = (char *)"me@x", .rcpts = rcpts, .rcpt_count = 3, .arrived_us = clock_real_us()};
    struct queue_writer *w = queue_writer_new(ctx, q);
    struct error *e;
    int fd;

    snprintf(env.id, sizeof(env.id), "%s", id);
    e = queue_writer_content(w, BYTES("Subject: x\r\n\r\nbody\r\n"));
    assert_null(e);
    e = queue_writer_commit(w, &env, QUEUE_INCOMING, clock_ms() + 10000);
    assert_null(e);
    assert_null(queue_message_move(q, id, QUEUE_INCOMING, QUEUE_ACTIVE, 0));
    assert_null(queue_message_open(q, QUEUE_ACTIVE, id, false, &fd));
    assert_null(queue_message_read(ctx, fd, env_r));
    close(fd);
}

static struct error *ask(struct io_stream *s, struct queue_envelope *env, bool soft,
                         struct deliver_result *results)
{
    struct queue_rcpt *rcpts[3] = {&env->rcpts[0], &env->rcpts[1], &env->rcpts[2]};
    struct deliver_request request = {.envelope = env,
                                      .fd = -1,
                                      .transport = "fake",
                                      .nexthop = "x",
                                      .rcpts = rcpts,
                                      .rcpt_count = 3,
                                      .active_us = env->arrived_us,
                                      .soft_bounce = soft};

    return deliver_ask(ctx, s, &request, QUEUE_ACTIVE, clock_ms() + 10000, results);
}

static void expect_code(struct error *e, int code)
{
    assert_non_null(e);
    assert_int_equal(e->code, code);
    error_free(&e);
}

static void scheduler(void *arg)
{
    struct io_stream *s = io_stream_new(ctx, *(int *)arg);
    struct deliver_result r[3];
    struct queue_envelope *env, *after;
    int fd;

    write_message("ABCDEF123456", &env);
    assert_null(ask(s, env, false, r));
    assert_int_equal(r[0].status, DELIVER_SENT);
    assert_int_equal(r[1].status, DELIVER_DEFERRED);
    assert_int_equal(r[2].status, DELIVER_BOUNCED);
    assert_string_equal(r[2].text, "never");
    assert_int_equal(asked, 3);
    assert_non_null(strstr(log_text.p, "ABCDEF123456: to=<sent@x>, relay=fake, delay="));
    assert_non_null(strstr(log_text.p, "dsn=2.0.0, status=sent (ok)\n"));
    assert_non_null(strstr(log_text.p, "dsn=5.0.0, status=bounced (never)\n"));

    /* only what was sent is marked */
    assert_null(queue_message_open(q, QUEUE_ACTIVE, env->id, false, &fd));
    assert_null(queue_message_read(ctx, fd, &after));
    assert_int_equal(after->rcpts[0].state, QUEUE_RCPT_DONE);
    assert_int_equal(after->rcpts[1].state, QUEUE_RCPT_TODO);
    assert_int_equal(after->rcpts[2].state, QUEUE_RCPT_TODO);

    /* asked again: nobody twice; soft_bounce defers */
    assert_null(ask(s, env, true, r));
    assert_int_equal(asked, 5);
    assert_int_equal(r[0].status, DELIVER_SENT);
    assert_int_equal(r[2].status, DELIVER_DEFERRED);
    assert_string_equal(r[2].dsn, "4.0.0");
    assert_non_null(strstr(log_text.p, "status=SOFTBOUNCE (never)\n"));

    assert_int_equal(flock(fd, LOCK_EX | LOCK_NB), 0);
    expect_code(ask(s, env, false, r), EWOULDBLOCK);
    assert_int_equal(ftruncate(fd, 50), 0);
    close(fd);
    expect_code(ask(s, env, false, r), EBADMSG);
    assert_null(queue_message_remove(q, QUEUE_ACTIVE, env->id));
    expect_code(ask(s, env, false, r), ENOENT);
    assert_int_equal(asked, 5);
    io_stream_close(&s);
}

static void test_serve_marks_logs_answers(void **state)
{
    int fds[2];

    asked = 0;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    co_spawn(serve, &fds[0], "agent");
    co_spawn(scheduler, &fds[1], "scheduler");
    co_run();
}

static void test_error_and_discard(void **state)
{
    static const struct {
        const struct deliver_agent_ops *ops;
        const char *service, *nexthop;
        enum deliver_status status;
        const char *dsn, *text;
    } cases[] = {
        {&deliver_error_ops, "error", "5.1.1 unknown user", DELIVER_BOUNCED, "5.1.1", "unknown user"},
        {&deliver_error_ops, "error", "4.2.0 later", DELIVER_DEFERRED, "4.2.0", "later"},
        {&deliver_error_ops, "error", "no code", DELIVER_BOUNCED, "5.0.0", "no code"},
        {&deliver_error_ops, "error", "", DELIVER_BOUNCED, "5.0.0", "mail is not deliverable"},
        {&deliver_error_ops, "error", "2.0.0 fine", DELIVER_BOUNCED, "5.0.0", "fine"},
        {&deliver_error_ops, "retry", "5.1.1 no", DELIVER_DEFERRED, "4.1.1", "no"},
        {&deliver_error_ops, "retry", "no code", DELIVER_DEFERRED, "4.0.0", "no code"},
        {&deliver_discard_ops, "discard", "nobody wants it", DELIVER_SENT, "2.0.0", "nobody wants it"},
        {&deliver_discard_ops, "discard", "", DELIVER_SENT, "2.0.0", "discarded"},
    };
    struct queue_rcpt rcpt = {.addr = (char *)"a@b"}, *rcpts[] = {&rcpt};
    size_t i;

    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct deliver_request request = {.nexthop = cases[i].nexthop, .rcpts = rcpts, .rcpt_count = 1};
        struct deliver_result result = {0};
        struct deliver_agent *a;

        assert_null(cases[i].ops->open(ctx, cases[i].service, NULL, &a));
        a->ops->deliver(a, ctx, &request, &result);
        assert_int_equal(result.status, cases[i].status);
        assert_string_equal(result.dsn, cases[i].dsn);
        assert_string_equal(result.text, cases[i].text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_dsn_split, setup, teardown),
        cmocka_unit_test_setup_teardown(test_log_line_and_delays, setup, teardown),
        cmocka_unit_test_setup_teardown(test_result_survives_the_wire_cut_anywhere, setup, teardown),
        cmocka_unit_test_setup_teardown(test_malformed_requests, setup, teardown),
        cmocka_unit_test_setup_teardown(test_serve_marks_logs_answers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_error_and_discard, setup, teardown),
    };

    setenv("CMOCKA_TEST_ABORT", "1", 1); /* a failed check must not jump out of a coroutine */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
