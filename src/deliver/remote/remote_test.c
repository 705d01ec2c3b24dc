/*
 * deliver/remote: forms of a next hop, the loop check, and conversations with a scripted server on loopback.
 *
 * A script's lines: "S: text" the server says; "C: text" the client must say exactly this; "P" what the
 * client says next must have come in the same write; "E" the client must close; "T" the server falls silent
 * until the client leaves; "X" the server closes.
 */
#include "clock.h"
#include "log.h"
#include "mem.h"
#include "remote.h"

#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

static void *ctx;
static struct conf *conf;

static void no_line(const char *line, void *arg)
{
}

static int setup(void **state)
{
    struct conf_faults faults = {0};

    ctx = faults.ctx = talloc_named_const(NULL, 0, "test");
    co_init(2);
    log_capture(no_line, NULL);
    conf = conf_read(ctx, NULL, &faults);
    conf_set(conf, "myhostname", "me.example", "test", 1);
    return 0;
}

static int teardown(void **state)
{
    talloc_free(ctx);
    co_deinit();
    log_capture(NULL, NULL);
    return 0;
}

/* ---- pure ---- */

static void test_targets(void **state)
{
    static const struct {
        const char *text, *host, *service;
        bool wants_mx;
    } cases[] = {
        {"example.com", "example.com", "25", true},
        {"example.com:587", "example.com", "587", true},
        {"[mail.example.com]", "mail.example.com", "25", false},
        {"[127.0.0.1]:2525", "127.0.0.1", "2525", false},
        {"[2001:db8::1]:smtp", "2001:db8::1", "smtp", false},
        {"[IPv6:2001:db8::1]", "2001:db8::1", "25", false},
        {" [::1] ", "::1", "25", false},
        {"", NULL},
        {":25", NULL},
        {"host:", NULL},
        {"2001:db8::1", NULL},
        {"[]", NULL},
        {"[host", NULL},
        {"[host]:", NULL},
        {"[host]x", NULL},
        {"[host]:notaport", NULL},
        {"host:notaport", NULL},
        {"[host]:0", NULL},
        {"[host]:65536", NULL},
    };
    size_t i;

    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct remote_target t;
        bool is_good = remote_target_parse(ctx, cases[i].text, &t);

        if (is_good != (cases[i].host != NULL))
            fail_msg("\"%s\" is %s", cases[i].text, is_good ? "taken" : "refused");
        if (!is_good)
            continue;
        assert_string_equal(t.host, cases[i].host);
        assert_string_equal(t.service, cases[i].service);
        assert_int_equal(t.wants_mx, cases[i].wants_mx);
    }
}

static void test_own_host_cuts_the_list(void **state)
{
    static const struct {
        unsigned preferences[4];
        size_t n;
        int me;
        size_t left;
    } cases[] = {{{10, 20, 30}, 3, -1, 3}, {{10, 20, 30}, 3, 1, 1}, {{10, 10, 20}, 3, 1, 0},
                 {{10, 20, 20}, 3, 2, 1},  {{10}, 1, 0, 0},         {{10, 20, 30}, 3, 0, 0}};
    size_t i, j;

    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct remote_host at[4] = {0};
        struct remote_hosts hosts = {at, cases[i].n};
        bool is_me[4] = {false};

        for (j = 0; j < cases[i].n; j++)
            at[j].preference = cases[i].preferences[j];
        if (cases[i].me >= 0)
            is_me[cases[i].me] = true;
        assert_int_equal(remote_hosts_cut_loop(&hosts, is_me), cases[i].left > 0);
        assert_int_equal(hosts.n, cases[i].left);
    }
}

/* ---- the scripted server ---- */

struct server {
    const char *script;
    int fd;
    unsigned port;
};

static void wrong(const char *what, struct bytes have, struct bytes want)
{
    fprintf(stderr, "%s: \"%.*s\" instead of \"%.*s\"\n", what, BYTES_FMT(have), BYTES_FMT(want));
    abort();
}

static void step(struct io_stream *s, struct bytes line)
{
    uint64_t deadline = clock_ms() + 10000;
    struct bytes have = {0};
    bool bare;

    switch (line.p[0]) {
    case 'S':
        line = bytes_skip(line, 3);
        io_writef(s, deadline, "%.*s\r\n", BYTES_FMT(line));
        io_flush(s, deadline);
        break;
    case 'C':
        line = bytes_skip(line, 3);
        if (smtp_read_line(s, 4096, deadline, &have, &bare) != IO_OK || !bytes_eq(have, line) || bare)
            wrong("the client said", have, line);
        break;
    case 'P':
        if (io_buffered(s).n == 0)
            wrong("not pipelined", have, line);
        break;
    case 'E':
    case 'T':
        if (io_fill(s, deadline) == IO_OK || io_buffered(s).n > 0)
            wrong("the client went on", io_buffered(s), line);
        break;
    default:
        break;
    }
}

static void serve(void *arg)
{
    struct server *v = arg;
    struct io_listener *l = io_listener_new(ctx, v->fd);
    struct io_address peer;
    struct io_stream *s;
    struct bytes rest = bytes_of(v->script);
    int fd, code;

    if (io_accept(l, clock_ms() + 10000, &fd, &peer, &code) != IO_OK)
        abort();
    s = io_stream_new(ctx, fd);
    while (rest.n > 0)
        step(s, bytes_cut(&rest, '\n'));
    io_stream_close(&s);
    io_listener_close(&l);
    close(v->fd);
}

static void open_server(struct server *v)
{
    struct io_address a;
    socklen_t length = sizeof(a.sa);
    struct error *e;

    assert_true(io_address_parse("127.0.0.1", 0, &a));
    v->fd = io_listen(&a, 10, &e);
    assert_null(e);
    assert_int_equal(getsockname(v->fd, (struct sockaddr *)&a.sa, &length), 0);
    v->port = ntohs(((struct sockaddr_in *)&a.sa)->sin_port);
    if (v->script != NULL)
        co_spawn(serve, v, "server");
    else
        close(v->fd); /* a port where nobody listens */
}

/* ---- deliveries ---- */

static struct queue_rcpt rcpt_at[2];
static struct queue_envelope env;
static struct deliver_result results[2];
static struct bytes content;
static char *nexthop;

static void run_delivery(void *arg)
{
    struct queue_rcpt *rcpts[2] = {&rcpt_at[0], &rcpt_at[1]};
    struct deliver_request request = {.envelope = &env,
                                      .transport = "smtp",
                                      .nexthop = nexthop,
                                      .rcpts = rcpts,
                                      .rcpt_count = env.rcpt_count};
    struct deliver_agent *agent;
    FILE *file = tmpfile();

    assert_null(remote_agent_ops.open(ctx, "smtp", conf, &agent));
    env.content_offset = 3;
    env.content_size = content.n;
    fwrite("xxx", 1, 3, file);
    fwrite(content.p, 1, content.n, file);
    fflush(file);
    request.fd = fileno(file);
    agent->ops->deliver(agent, ctx, &request, results);
    fclose(file);
}

static void begin(void)
{
    memset(rcpt_at, 0, sizeof(rcpt_at));
    memset(results, 0, sizeof(results));
    rcpt_at[0].addr = (char *)"a@x.example";
    rcpt_at[1].addr = (char *)"b c@x.example";
    env = (struct queue_envelope){
        .id = "ABCDEF123456", .sender = (char *)"me@y.example", .rcpts = rcpt_at, .rcpt_count = 2};
    content = BYTES("Subject: x\r\n\r\n.dot\r\nend\r\n");
}

static unsigned deliver_to(const char *script)
{
    static struct server v;

    v = (struct server){.script = script};
    open_server(&v);
    nexthop = mem_printf(ctx, "[127.0.0.1]:%u", v.port);
    co_spawn(run_delivery, NULL, "delivery");
    co_run();
    return v.port;
}

static void expect(size_t i, enum deliver_status status, const char *dsn, const char *text)
{
    struct deliver_result *r = &results[i];

    if (r->status != status || strcmp(r->dsn, dsn) != 0 || strcmp(r->text, text) != 0)
        fail_msg("recipient %zu: %d %s \"%s\" instead of %d %s \"%s\"", i, r->status, r->dsn, r->text, status,
                 dsn, text);
}

static void test_pipelined_with_everything(void **state)
{
    unsigned port;

    conf_set(conf, "smtp_send_xforward_command", "yes", "test", 1);
    begin();
    rcpt_at[0].notify = MAIL_NOTIFY_FAILURE | MAIL_NOTIFY_DELAY;
    rcpt_at[0].orcpt = (char *)"rfc822;a+b@x.example";
    env.ret = MAIL_RET_HDRS;
    env.envid = (char *)"id+1";
    env.is_8bit = true;
    env.log_client_name = (char *)"client.example";
    env.log_client_addr = (char *)"192.0.2.1";
    port = deliver_to("S: 220 hello\n"
                      "C: EHLO me.example\n"
                      "S: 250-hello\nS: 250-PIPELINING\nS: 250-SIZE 1000\nS: 250-8BITMIME\nS: 250-DSN\n"
                      "S: 250 XFORWARD NAME ADDR IDENT\n"
                      "C: XFORWARD NAME=client.example ADDR=192.0.2.1 IDENT=ABCDEF123456\n"
                      "S: 250 2.0.0 Ok\n"
                      "C: MAIL FROM:<me@y.example> SIZE=25 BODY=8BITMIME RET=HDRS ENVID=id+2B1\n"
                      "P\n"
                      "C: RCPT TO:<a@x.example> NOTIFY=FAILURE,DELAY ORCPT=rfc822;a+2Bb@x.example\n"
                      "P\n"
                      "C: RCPT TO:<\"b c\"@x.example>\n"
                      "P\n"
                      "C: DATA\n"
                      "S: 250 2.1.0 Ok\nS: 250 2.1.5 Ok\nS: 550-5.1.1 no\nS: 550 5.1.1 such user\nS: 354 go\n"
                      "C: Subject: x\nC: \nC: ..dot\nC: end\nC: .\n"
                      "S: 250 2.0.0 Ok: queued as 4711\n"
                      "C: QUIT\n");
    expect(0, DELIVER_SENT, "2.0.0", "250 2.0.0 Ok: queued as 4711");
    expect(1, DELIVER_BOUNCED, "5.1.1",
           "host 127.0.0.1[127.0.0.1] said: 550-5.1.1 no 550 5.1.1 such user (in reply to RCPT TO command)");
    assert_string_equal(results[0].relay, mem_printf(ctx, "127.0.0.1[127.0.0.1]:%u", port));
    assert_string_equal(results[1].remote, "127.0.0.1");
}

static void test_helo_and_step_by_step(void **state)
{
    begin();
    deliver_to("S: 220 hello\nC: EHLO me.example\nS: 502 what\nC: HELO me.example\nS: 250 ok\n"
               "C: MAIL FROM:<me@y.example>\nS: 250 ok\nC: RCPT TO:<a@x.example>\nS: 451 4.2.0 later\n"
               "C: RCPT TO:<\"b c\"@x.example>\nS: 250 ok\nC: DATA\nS: 354 go\n"
               "C: Subject: x\nC: \nC: ..dot\nC: end\nC: .\nS: 250 done\nC: QUIT\n");
    expect(0, DELIVER_DEFERRED, "4.2.0",
           "host 127.0.0.1[127.0.0.1] said: 451 4.2.0 later (in reply to RCPT TO command)");
    expect(1, DELIVER_SENT, "2.0.0", "250 done");
}

/* Conversations in which both recipients fare alike. */
static void test_failures(void **state)
{
    static const char hello[] = "S: 220 hello\nC: EHLO me.example\nS: 250 hello\n";
    static const char pipe[] = "S: 220 hello\nC: EHLO me.example\nS: 250-hello\nS: 250 PIPELINING\n"
                               "C: MAIL FROM:<me@y.example>\nC: RCPT TO:<a@x.example>\n"
                               "C: RCPT TO:<\"b c\"@x.example>\nC: DATA\n";
    static const char envelope[] =
        "C: MAIL FROM:<me@y.example>\nS: 250 ok\nC: RCPT TO:<a@x.example>\nS: 250 ok\n"
        "C: RCPT TO:<\"b c\"@x.example>\nS: 250 ok\nC: DATA\n";
    static const char data[] = "S: 354 go\nC: Subject: x\nC: \nC: ..dot\nC: end\nC: .\n";
#define H "127.0.0.1[127.0.0.1]"
    static const struct {
        const char *start, *more, *last;
        enum deliver_status status;
        const char *dsn, *text;
        bool is_site;
    } cases[] = {
        {"", "", "S: 554 5.7.1 go away\nE", DELIVER_DEFERRED, "4.7.1",
         "host " H " refused to talk to me: 554 5.7.1 go away", true},
        {"", "", "S: rubbish\nS: 421 x\nE", DELIVER_DEFERRED, "4.0.0",
         "host " H " refused to talk to me: protocol error: \"rubbish\"", true},
        {"", "", "X", DELIVER_DEFERRED, "4.4.2",
         "lost connection with " H " while receiving the initial server greeting", true},
        {"", "", "T", DELIVER_DEFERRED, "4.4.2",
         "conversation with " H " timed out while receiving the initial server greeting", true},
        {"S: 220 hello\nC: EHLO me.example\n", "", "S: 421 4.3.2 busy\nE", DELIVER_DEFERRED, "4.3.2",
         "host " H " refused to talk to me: 421 4.3.2 busy", true},
        {hello, "", "C: MAIL FROM:<me@y.example>\nS: 553 5.1.8 bad\nC: QUIT", DELIVER_BOUNCED, "5.1.8",
         "host " H " said: 553 5.1.8 bad (in reply to MAIL FROM command)", false},
        {hello, envelope, "S: 452 4.3.1 full\nC: QUIT", DELIVER_DEFERRED, "4.3.1",
         "host " H " said: 452 4.3.1 full (in reply to DATA command)", false},
        {hello, envelope, "S: 354 go\nX", DELIVER_DEFERRED, "4.4.2",
         "lost connection with " H " while sending end of data -- message may be sent more than once", true},
        {pipe, "", "S: 250 ok\nS: 550 no\nS: 550 no\nS: 554 none\nC: QUIT", DELIVER_BOUNCED, "5.0.0",
         "host " H " said: 550 no (in reply to RCPT TO command)", false},
        {pipe, "", "S: 250 ok\nS: 550 no\nS: 550 no\nS: 354 go\nE", DELIVER_BOUNCED, "5.0.0",
         "host " H " said: 550 no (in reply to RCPT TO command)", false},
        {pipe, "", "S: 451 4.1.8 wait\nS: 503 no\nS: 503 no\nS: 503 no\nC: QUIT", DELIVER_DEFERRED, "4.1.8",
         "host " H " said: 451 4.1.8 wait (in reply to MAIL FROM command)", false},
        {pipe, "", "X", DELIVER_DEFERRED, "4.4.2", "lost connection with " H " while sending MAIL FROM",
         true},
        {pipe, "", "S: 250 ok\nX", DELIVER_DEFERRED, "4.4.2",
         "lost connection with " H " while sending RCPT TO", true},
        {"S: 220 hello\nC: EHLO me.example\nS: 451 later\n", "", "C: HELO me.example\nS: 450 4.3.2 no\nE",
         DELIVER_DEFERRED, "4.3.2", "host " H " refused to talk to me: 450 4.3.2 no", true},
        {hello, envelope, "S: 250 2.1.5 ok\nC: QUIT", DELIVER_DEFERRED, "4.5.0",
         "host " H " said: 250 2.1.5 ok (in reply to DATA command)", false},
        {hello, envelope, "DS: 554 5.6.0 spam\nC: QUIT", DELIVER_BOUNCED, "5.6.0",
         "host " H " said: 554 5.6.0 spam (in reply to end of DATA command)", false},
        {"S: 220 hello\nC: EHLO me.example\nS: 250-hello\nS: 250 SIZE 10\n", "", "C: QUIT", DELIVER_BOUNCED,
         "5.3.4", "message size 25 exceeds size limit 10 of server " H, false},
    };
    size_t i, j;

    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        bool has_data = cases[i].last[0] == 'D', is_silent = cases[i].last[0] == 'T';

        conf_set(conf, "smtp_helo_timeout", is_silent ? "1s" : "300s", "test", 1);
        begin();
        deliver_to(mem_printf(ctx, "%s%s%s%s\n", cases[i].start, cases[i].more, has_data ? data : "",
                              cases[i].last + has_data));
        for (j = 0; j < 2; j++) {
            expect(j, cases[i].status, cases[i].dsn, cases[i].text);
            assert_int_equal(results[j].is_site, cases[i].is_site);
        }
    }
}

static void test_utf8_needs_a_server_that_knows_it(void **state)
{
    begin();
    env.smtputf8 = true;
    env.rcpt_count = 1;
    rcpt_at[0].addr = (char *)"\xc3\xa4@x.example";
    deliver_to("S: 220 hello\nC: EHLO me.example\nS: 250 hello\nC: QUIT\n");
    expect(0, DELIVER_BOUNCED, "5.6.7", "SMTPUTF8 is required, but was not offered by host " H);
    rcpt_at[0].addr = (char *)"a@x.example"; /* asked for, but not needed */
    deliver_to(
        "S: 220 hello\nC: EHLO me.example\nS: 250 hello\nC: MAIL FROM:<me@y.example>\nS: 550 no\nC: QUIT\n");
    expect(0, DELIVER_BOUNCED, "5.0.0", "host " H " said: 550 no (in reply to MAIL FROM command)");
    content = BYTES("Subject: \xc3\xa4\r\n\r\nx\r\n");
    deliver_to("S: 220 hello\nC: EHLO me.example\nS: 250 SMTPUTF8\nC: QUIT\n");
    expect(0, DELIVER_BOUNCED, "5.6.7", "SMTPUTF8 is required, but was not offered by host " H);
}

static void test_long_lines_are_broken(void **state)
{
    begin();
    conf_set(conf, "smtp_line_length_limit", "10", "test", 1);
    env.rcpt_count = 1;
    content = BYTES("1234567890\r\n12345678901\r\n1234567890123456789\r\n12345678901234567890\r\n");
    deliver_to(
        "S: 220 hello\nC: EHLO me.example\nS: 250 hello\nC: MAIL FROM:<me@y.example>\nS: 250 ok\n"
        "C: RCPT TO:<a@x.example>\nS: 250 ok\nC: DATA\nS: 354 go\nC: 1234567890\nC: 1234567890\nC:  1\n"
        "C: 1234567890\nC:  123456789\nC: 1234567890\nC:  123456789\nC:  0\nC: .\nS: 250 ok\nC: QUIT\n");
    expect(0, DELIVER_SENT, "2.0.0", "250 ok");
}

static void run_two_targets(void *arg)
{
    run_delivery(arg);
    expect(0, DELIVER_BOUNCED, "5.0.0", "host " H " said: 550 no (in reply to MAIL FROM command)");
}

static void test_dead_server_then_the_next(void **state)
{
    static struct server dead, alive;

    begin();
    dead = (struct server){0};
    open_server(&dead);
    nexthop = mem_printf(ctx, "[127.0.0.1]:%u", dead.port);
    co_spawn(run_delivery, NULL, "delivery");
    co_run();
    expect(0, DELIVER_DEFERRED, "4.4.1",
           mem_printf(ctx, "connect to " H ":%u: Connection refused", dead.port));
    expect(1, DELIVER_DEFERRED, "4.4.1",
           mem_printf(ctx, "connect to " H ":%u: Connection refused", dead.port));
    assert_true(results[0].is_site);
    assert_string_equal(results[0].relay, "none");

    alive = (struct server){
        .script = "S: 220 hello\nC: EHLO me.example\nS: 250 hello\nC: MAIL FROM:<me@y.example>\n"
                  "S: 550 no\nC: QUIT\n"};
    open_server(&alive);
    nexthop = mem_printf(ctx, "[127.0.0.1]:%u, [127.0.0.1]:%u", dead.port, alive.port);
    co_spawn(run_two_targets, NULL, "delivery");
    co_run();
}

static void test_malformed_next_hop(void **state)
{
    begin();
    nexthop = (char *)"[x";
    co_spawn(run_delivery, NULL, "delivery");
    co_run();
    expect(0, DELIVER_DEFERRED, "4.3.5", "mail system configuration error");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_targets, setup, teardown),
        cmocka_unit_test_setup_teardown(test_own_host_cuts_the_list, setup, teardown),
        cmocka_unit_test_setup_teardown(test_pipelined_with_everything, setup, teardown),
        cmocka_unit_test_setup_teardown(test_helo_and_step_by_step, setup, teardown),
        cmocka_unit_test_setup_teardown(test_failures, setup, teardown),
        cmocka_unit_test_setup_teardown(test_utf8_needs_a_server_that_knows_it, setup, teardown),
        cmocka_unit_test_setup_teardown(test_long_lines_are_broken, setup, teardown),
        cmocka_unit_test_setup_teardown(test_dead_server_then_the_next, setup, teardown),
        cmocka_unit_test_setup_teardown(test_malformed_next_hop, setup, teardown),
    };

    setenv("CMOCKA_TEST_ABORT", "1", 1); /* a failed check must not jump out of a coroutine */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
