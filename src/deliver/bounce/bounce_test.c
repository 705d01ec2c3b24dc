/* deliver/bounce: the report as Python's email package reads it, folding, who is told, and what happens when
 * the queue does not take the report. */
#include "bounce_agent.h"
#include "bounce_report.h"
#include "log.h"
#include "mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

static void *ctx;
static struct conf *conf;
static struct buf log_text;

static void take_line(const char *line, void *arg)
{
    buf_addf(&log_text, "%s\n", line);
}

/* ---- a sink that remembers ---- */

static struct {
    struct buf content;
    char sender[100], rcpt[100], id[MAIL_ID_SIZE];
    unsigned notify, begun, committed, aborted;
    enum mail_body body;
    int fail_code;
    const char *fail_at;
} sink_saw;

static struct mail_reply answer(const char *step, int good)
{
    if (sink_saw.fail_code != 0 && strcmp(sink_saw.fail_at, step) == 0)
        return mail_reply(sink_saw.fail_code, sink_saw.fail_code / 100 == 5 ? "5.3.0" : "4.3.0", "no %s",
                          step);
    return mail_reply_fixed(good, "2.0.0", "Ok");
}

static struct mail_reply sink_begin(struct mail_sink *s, const struct mail_client *client,
                                    const struct mail_envelope *envelope)
{
    sink_saw.begun++;
    snprintf(sink_saw.sender, sizeof(sink_saw.sender), "<%s>", envelope->sender);
    snprintf(sink_saw.id, sizeof(sink_saw.id), "%s", envelope->id);
    sink_saw.body = envelope->body;
    return answer("begin", 250);
}

static struct mail_reply sink_recipient(struct mail_sink *s, const struct mail_rcpt *rcpt)
{
    snprintf(sink_saw.rcpt, sizeof(sink_saw.rcpt), "%s", rcpt->addr);
    sink_saw.notify = rcpt->notify;
    return answer("recipient", 250);
}

static struct mail_reply sink_content_begin(struct mail_sink *s)
{
    return answer("content_begin", 354);
}

static void sink_content(struct mail_sink *s, struct bytes piece)
{
    buf_add(&sink_saw.content, piece);
}

static struct mail_reply sink_commit(struct mail_sink *s)
{
    struct mail_reply reply = answer("commit", 250);

    if (mail_reply_is_ok(&reply))
        sink_saw.committed++;
    return reply;
}

static void sink_abort(struct mail_sink *s)
{
    sink_saw.aborted++;
}

static const struct mail_sink_ops sink_ops = {
    "test", sink_begin, sink_recipient, sink_content_begin, sink_content, sink_commit, sink_abort,
};

static struct mail_sink *make_sink(const void *c, void *arg)
{
    struct mail_sink *s = mem_new(c, struct mail_sink);

    s->ops = &sink_ops;
    return s;
}

static int setup(void **state)
{
    struct conf_faults faults = {0};

    ctx = faults.ctx = talloc_named_const(NULL, 0, "test");
    co_init(1);
    mail_id_setup(1, false);
    log_capture(take_line, NULL);
    conf = conf_read(ctx, NULL, &faults);
    conf_set(conf, "myhostname", "mx.example", "test", 1);
    memset(&sink_saw, 0, sizeof(sink_saw));
    return 0;
}

static int teardown(void **state)
{
    talloc_free(ctx);
    co_deinit();
    log_capture(NULL, NULL);
    buf_deinit(&log_text);
    buf_deinit(&sink_saw.content);
    return 0;
}

/* ---- one report ---- */

static struct queue_envelope env;
static struct queue_rcpt rcpt_at[2];
static struct deliver_result reasons[2], results[2];
static struct bytes content;

static void begin(void)
{
    memset(rcpt_at, 0, sizeof(rcpt_at));
    memset(reasons, 0, sizeof(reasons));
    memset(results, 0, sizeof(results));
    rcpt_at[0].addr = (char *)"gone@x.example";
    rcpt_at[0].orig = (char *)"list@x.example";
    rcpt_at[0].orcpt = (char *)"rfc822;List@x.example";
    rcpt_at[1].addr = (char *)"full@x.example";
    reasons[0] =
        (struct deliver_result){.status = DELIVER_BOUNCED,
                                .dsn = "5.1.1",
                                .remote = (char *)"mx.x.example",
                                .text = (char *)"host mx.x.example[192.0.2.1] said: 550 5.1.1 no such user "
                                                "(in reply to RCPT TO command)"};
    reasons[1] = (struct deliver_result){
        .status = DELIVER_DEFERRED, .dsn = "4.2.2", .text = (char *)"mailbox is full"};
    env = (struct queue_envelope){.id = "ABCDEF123456",
                                  .sender = (char *)"me@y.example",
                                  .rcpts = rcpt_at,
                                  .rcpt_count = 2,
                                  .arrived_us = 1700000000000000,
                                  .envid = (char *)"envelope 1"};
    content = BYTES("Subject: hello\r\nX: y\r\n\r\nthe text\r\n");
}

static void run_report(void *arg)
{
    struct queue_rcpt *rcpts[2] = {&rcpt_at[0], &rcpt_at[1]};
    struct deliver_request request = {.envelope = &env,
                                      .transport = "bounce",
                                      .nexthop = "",
                                      .rcpts = rcpts,
                                      .rcpt_count = 2,
                                      .reasons = reasons};
    struct deliver_agent *agent;
    FILE *file = tmpfile();

    assert_null(bounce_agent_ops.open(ctx, "bounce", conf, &agent));
    bounce_agent_set_sink(agent, make_sink, NULL);
    env.content_offset = 4;
    env.content_size = content.n;
    fwrite("head", 1, 4, file);
    fwrite(content.p, 1, content.n, file);
    fwrite("tail", 1, 4, file);
    fflush(file);
    request.fd = fileno(file);
    agent->ops->deliver(agent, ctx, &request, results);
    fclose(file);
}

static void report(void)
{
    co_spawn(run_report, NULL, "report");
    co_run();
}

/* Every line ends in CR LF and is at most 998 long. */
static void check_lines(void)
{
    struct bytes rest = buf_bytes(&sink_saw.content), line;

    assert_true(bytes_has_isuffix(rest, BYTES("\r\n")));
    while (rest.n > 0) {
        line = bytes_cut(&rest, '\n');
        assert_true(line.n > 0 && line.n <= 999);
        assert_int_equal(line.p[line.n - 1], '\r');
        assert_int_equal(bytes_chr(bytes(line.p, line.n - 1), '\r'), SIZE_MAX);
    }
}

/* Python's email package must find in the report what `checks` says; `m` is the message, `parts` its three
 * parts. */
static void check_with_python(const char *checks)
{
    static const char head[] =
        "import sys, email, email.policy\n"
        "m = email.message_from_bytes(sys.stdin.buffer.read(), policy=email.policy.SMTP)\n"
        "parts = m.get_payload()\n"
        "def is_(a, b):\n"
        "    if a != b: print(repr(a), '!=', repr(b)); sys.exit(1)\n";
    char *command = mem_printf(ctx, "/usr/bin/python3 -c \"%s%s\"", head, checks);
    FILE *python;

    check_lines();
    if (access("/usr/bin/python3", X_OK) != 0)
        return;
    python = popen(command, "w");
    assert_non_null(python);
    fwrite(sink_saw.content.p, 1, sink_saw.content.n, python);
    assert_int_equal(pclose(python), 0);
}

static void test_report(void **state)
{
    begin();
    report();
    assert_int_equal(results[0].status, DELIVER_SENT);
    assert_int_equal(results[1].status, DELIVER_SENT);
    assert_int_equal(sink_saw.committed, 1);
    assert_string_equal(sink_saw.sender, "<>");
    assert_string_equal(sink_saw.rcpt, "me@y.example");
    assert_int_equal(sink_saw.notify, MAIL_NOTIFY_NEVER);
    assert_string_equal(log_text.p,
                        mem_printf(ctx, "ABCDEF123456: sender non-delivery notification: %s\n", sink_saw.id));
    check_with_python(
        "is_(m.get_content_type(), 'multipart/report')\n"
        "is_(m.get_param('report-type'), 'delivery-status')\n"
        "is_(m['From'], 'Mail Delivery System <MAILER-DAEMON@mx.example>')\n"
        "is_(m['To'], 'me@y.example')\n"
        "is_(m['Subject'], 'Undelivered Mail Returned to Sender')\n"
        "is_(m['Auto-Submitted'], 'auto-replied')\n"
        "is_(len(m.defects), 0)\n"
        "is_([p.get_content_type() for p in parts],"
        " ['text/plain', 'message/delivery-status', 'message/rfc822'])\n"
        "note = ' '.join(parts[0].get_content().split())\n"
        "is_('<gone@x.example> (expanded from <list@x.example>): host mx.x.example[192.0.2.1] said: "
        "550 5.1.1 no such user (in reply to RCPT TO command)' in note, True)\n"
        "is_('<full@x.example>: mailbox is full' in note, True)\n"
        "s = parts[1].get_payload()\n"
        "is_(len(s), 3)\n"
        "is_(s[0].items(), [('Reporting-MTA', 'dns; mx.example'),"
        " ('Original-Envelope-Id', 'envelope 1'), ('X-Postfix-Queue-ID', 'ABCDEF123456'),"
        " ('X-Postfix-Sender', 'rfc822; me@y.example'), ('Arrival-Date', s[0]['Arrival-Date'])])\n"
        "is_(s[1].items(), [('Final-Recipient', 'rfc822; gone@x.example'),"
        " ('Original-Recipient', 'rfc822;List@x.example'), ('Action', 'failed'), ('Status', '5.1.1'),"
        " ('Remote-MTA', 'dns; mx.x.example'), ('Diagnostic-Code', 'smtp; 550 5.1.1 no such user')])\n"
        "is_(s[2].items(), [('Final-Recipient', 'rfc822; full@x.example'),"
        " ('Original-Recipient', 'rfc822; full@x.example'), ('Action', 'failed'), ('Status', '4.2.2'),"
        " ('Diagnostic-Code', 'X-Postfix; mailbox is full')])\n"
        "o = parts[2].get_payload(0)\n"
        "is_(o.items(), [('Return-Path', '<me@y.example>'), ('Subject', 'hello'), ('X', 'y')])\n"
        "is_(o.get_payload(), 'the text\\r\\n')\n");
}

static void test_headers_only(void **state)
{
    struct buf large = {0};

    begin();
    buf_adds(&large, "Subject: hello\r\n\r\n");
    while (large.n < 60000)
        buf_adds(&large, "the text\r\n");
    content = buf_bytes(&large);
    report();
    assert_true(sink_saw.content.n < 3000);
    check_with_python(
        "is_(parts[2].get_content_type(), 'text/rfc822-headers')\n"
        "is_(parts[2].get_payload().split(), ['Return-Path:', '<me@y.example>', 'Subject:', 'hello'])\n");
    buf_cut(&sink_saw.content, 0);
    begin();
    env.ret = MAIL_RET_HDRS;
    report();
    check_with_python("is_(parts[2].get_content_type(), 'text/rfc822-headers')\n");
    buf_deinit(&large);
}

static void test_8bit_content_is_announced(void **state)
{
    begin();
    content = BYTES("Subject: hello\r\n\r\n\xc3\xa4\r\n");
    report();
    assert_int_equal(sink_saw.body, MAIL_BODY_8BITMIME);
    check_with_python("is_(m['Content-Transfer-Encoding'], '8bit')\n"
                      "is_(parts[2]['Content-Transfer-Encoding'], '8bit')\n");
}

/* What a remote server said cannot become a header or a line of ours. */
static void test_hostile_words(void **state)
{
    struct buf words = {0};

    begin();
    buf_adds(&words, "host h said: 550 x\r\nAction: delivered\r\n\r\n--boundary\x01\xff ");
    while (words.n < 2500)
        buf_addc(&words, 'y');
    reasons[0].text = words.p;
    report();
    check_with_python("is_(parts[1].get_payload()[1]['Action'], 'failed')\n"
                      "is_(len(parts), 3)\n"
                      "is_('550 x Action: delivered --boundary?? yyy' in "
                      "' '.join(parts[1].get_payload()[1]['Diagnostic-Code'].split()), True)\n");
    buf_deinit(&words);
}

static void test_who_is_told(void **state)
{
    static const struct {
        const char *sender;
        unsigned notify[2];
        unsigned reports;
        bool first_named;
    } cases[] = {
        {"", {0, 0}, 0, false},
        {"me@y.example", {MAIL_NOTIFY_NEVER, MAIL_NOTIFY_NEVER}, 0, false},
        {"me@y.example", {MAIL_NOTIFY_SUCCESS, MAIL_NOTIFY_DELAY}, 0, false},
        {"me@y.example", {MAIL_NOTIFY_NEVER, MAIL_NOTIFY_FAILURE}, 1, false},
        {"me@y.example", {MAIL_NOTIFY_FAILURE | MAIL_NOTIFY_SUCCESS, MAIL_NOTIFY_NEVER}, 1, true},
    };
    size_t i;

    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        sink_saw.committed = 0;
        buf_cut(&sink_saw.content, 0);
        begin();
        env.sender = (char *)cases[i].sender;
        rcpt_at[0].notify = cases[i].notify[0];
        rcpt_at[1].notify = cases[i].notify[1];
        report();
        assert_int_equal(sink_saw.committed, cases[i].reports);
        assert_int_equal(results[0].status, DELIVER_SENT);
        assert_int_equal(results[1].status, DELIVER_SENT);
        assert_int_equal(strstr(buf_text(&sink_saw.content), "gone@") != NULL, cases[i].first_named);
    }
}

static void test_queue_that_does_not_take_it(void **state)
{
    static const struct {
        const char *at;
        int code;
        unsigned aborted;
        enum deliver_status status;
    } cases[] = {
        {"begin", 451, 0, DELIVER_DEFERRED},         {"recipient", 451, 1, DELIVER_DEFERRED},
        {"content_begin", 452, 1, DELIVER_DEFERRED}, {"commit", 451, 0, DELIVER_DEFERRED},
        {"recipient", 550, 1, DELIVER_SENT},         {"commit", 554, 0, DELIVER_SENT},
    };
    size_t i;

    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        sink_saw.committed = sink_saw.aborted = 0;
        sink_saw.fail_at = cases[i].at;
        sink_saw.fail_code = cases[i].code;
        begin();
        report();
        assert_int_equal(sink_saw.committed, 0);
        assert_int_equal(sink_saw.aborted, cases[i].aborted);
        assert_int_equal(results[0].status, cases[i].status);
        assert_int_equal(results[1].status, cases[i].status);
    }
    assert_non_null(
        strstr(log_text.p, "ABCDEF123456: sender notification failed to me@y.example: 451 4.3.0 no begin"));
}

static void test_fold(void **state)
{
    static const struct {
        const char *start, *text, *want;
    } cases[] = {
        {"X: ", "a b", "X: a b\r\n"},
        {"X: ", "", "X:\r\n"},
        {"X: ", "  a \r\n b\tc ", "X: a b c\r\n"},
        {"X: ", "123456789 123456789 123456789 123456789 123456789 123456789 123456789 123456789 end",
         "X: 123456789 123456789 123456789 123456789 123456789 123456789 123456789\r\n    123456789 end\r\n"},
        {"X: ",
         "a\x01"
         "b\xc3\xa4",
         "X: a?b??\r\n"},
    };
    size_t i;

    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct buf out = {0};

        buf_adds(&out, cases[i].start);
        bounce_report_fold(&out, cases[i].text, "    ", false);
        assert_string_equal(out.p, cases[i].want);
        buf_deinit(&out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_report, setup, teardown),
        cmocka_unit_test_setup_teardown(test_headers_only, setup, teardown),
        cmocka_unit_test_setup_teardown(test_8bit_content_is_announced, setup, teardown),
        cmocka_unit_test_setup_teardown(test_hostile_words, setup, teardown),
        cmocka_unit_test_setup_teardown(test_who_is_told, setup, teardown),
        cmocka_unit_test_setup_teardown(test_queue_that_does_not_take_it, setup, teardown),
        cmocka_unit_test_setup_teardown(test_fold, setup, teardown),
    };

    setenv("CMOCKA_TEST_ABORT", "1", 1); /* a failed check must not jump out of a coroutine */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
