/* header_checks and body_checks on content as it passes, cut at each byte. */
#include "buf.h"
#include "daemon_checks.h"
#include "log.h"
#include "mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

static const char rules[] =
    "{/^Subject: bad/ REJECT 5.7.2 not here} {/^Subject: park/ HOLD a look} {/^Subject: away/ DISCARD}"
    " {/^Subject: turn/ REDIRECT other@example.test} {/^X-Old: (.*)/ REPLACE X-New: $$1} {/^X-Gone:/ IGNORE}"
    " {/^X-Top:/ PREPEND X-Above: yes}";
static const char body_rules[] = "{/secret/ REPLACE public} {/^drop/ IGNORE} {/virus/ REJECT no}";

static const struct {
    const char *name, *in, *out;
    int code;   /* 0: accepted */
    int action; /* -1: none */
} cases[] = {
    {"untouched", "A: 1\r\nB: 2\r\n\r\nbody\r\n", "A: 1\r\nB: 2\r\n\r\nbody\r\n", 0, -1},
    {"empty", "", "", 0, -1},
    {"header alone", "A: 1\r\n", "A: 1\r\n", 0, -1},
    {"no line end", "A: 1\r\n\r\nsecret", "A: 1\r\n\r\npublic", 0, -1},
    {"replaced, removed, prepended", "X-Old: a\r\nX-Gone: b\r\n folded\r\nX-Top: c\r\nZ: 1\r\n\r\nx\r\n",
     "X-New: a\r\nX-Above: yes\r\nX-Top: c\r\nZ: 1\r\n\r\nx\r\n", 0, -1},
    {"last field", "A: 1\r\nX-Gone: b\r\n\r\nx\r\n", "A: 1\r\n\r\nx\r\n", 0, -1},
    {"body lines", "A: 1\r\n\r\none\r\nmy secret\r\ndrop me\r\n\r\nend\r\n",
     "A: 1\r\n\r\none\r\npublic\r\n\r\nend\r\n", 0, -1},
    {"part of a multipart",
     "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nX-Gone: 1\r\n\r\nsecret\r\n--b--\r\n",
     "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\npublic\r\n--b--\r\n", 0, -1},
    {"refused by header", "A: 1\r\nSubject: bad\r\n\r\nx\r\n", NULL, 550, -1},
    {"refused by body", "A: 1\r\n\r\nx\r\na virus\r\n", NULL, 550, -1},
    {"held", "Subject: park\r\n\r\nx\r\n", "Subject: park\r\n\r\nx\r\n", 0, MAIL_HOLD},
    {"discarded", "Subject: away\r\n\r\nx\r\n", NULL, 0, MAIL_DISCARD},
    {"redirected", "Subject: turn\r\n\r\nx\r\n", "Subject: turn\r\n\r\nx\r\n", 0, MAIL_REDIRECT},
};

static struct cleanup_inspect *inspect;

static void gather(void *arg, struct bytes piece)
{
    buf_add(arg, piece);
}

static void ignore_log(const char *line, void *arg)
{
}

/* The content in two pieces, and what comes of it. */
static void pass(size_t number, size_t cut)
{
    void *ctx = talloc_new(NULL);
    const struct mail_client client = {.name = "localhost", .addr = "127.0.0.1", .proto = "ESMTP"};
    struct mail_envelope envelope = {.id = "ABCDEF0123", .sender = "a@example.test"};
    struct cleanup_verdict verdict = {0};
    struct buf out = {0};
    const char *in = cases[number].in;
    void *state = inspect->ops->begin(inspect, ctx, &client, &envelope, gather, &out);

    inspect->ops->content(inspect, state, bytes(in, cut));
    inspect->ops->content(inspect, state, bytes(in + cut, strlen(in) - cut));
    inspect->ops->finish(inspect, state, &verdict);
    if (verdict.reply.code != cases[number].code)
        fail_msg("%s, cut at %zu: code %d", cases[number].name, cut, verdict.reply.code);
    if (cases[number].out != NULL && strcmp(buf_text(&out), cases[number].out) != 0)
        fail_msg("%s, cut at %zu: %s", cases[number].name, cut, buf_text(&out));
    if ((verdict.actions ? (int)verdict.actions->kind : -1) != cases[number].action)
        fail_msg("%s, cut at %zu: action", cases[number].name, cut);
    mail_reply_deinit(&verdict.reply);
    buf_deinit(&out);
    talloc_free(ctx);
}

static void pass_all(void *arg)
{
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        for (size_t cut = 0; cut <= strlen(cases[i].in); cut++)
            pass(i, cut);
}

/* A header field without end is given up at a limit. */
static void pass_endless_field(void *arg)
{
    void *ctx = talloc_new(NULL);
    const struct mail_client client = {.name = "localhost", .addr = "127.0.0.1", .proto = "ESMTP"};
    struct mail_envelope envelope = {.id = "ABCDEF0123", .sender = "a@example.test"};
    struct cleanup_verdict verdict = {0};
    struct buf out = {0};
    void *state = inspect->ops->begin(inspect, ctx, &client, &envelope, gather, &out);

    inspect->ops->content(inspect, state, BYTES("A: 1\r\n"));
    for (size_t i = 0; i < 400000; i++)
        inspect->ops->content(inspect, state, BYTES(" and so on, and\r\n"));
    inspect->ops->finish(inspect, state, &verdict);
    assert_int_equal(verdict.reply.code, 552);
    assert_int_equal(out.n, 0);
    mail_reply_deinit(&verdict.reply);
    buf_deinit(&out);
    talloc_free(ctx);
}

static void run(void (*fn)(void *arg))
{
    struct conf_faults faults = {.ctx = talloc_new(NULL)};
    struct conf *conf = conf_read(faults.ctx, NULL, &faults);
    struct error *e;

    conf_set(conf, "header_checks", mem_printf(conf, "regexp:{%s}", rules), "test", 1);
    conf_set(conf, "body_checks", mem_printf(conf, "regexp:{%s}", body_rules), "test", 2);
    log_capture(ignore_log, NULL);
    e = daemon_checks_open(conf, conf, &inspect);
    if (e != NULL)
        fail_msg("%s", e->text);
    assert_non_null(inspect);
    co_init(1);
    co_spawn(fn, NULL, "test");
    co_run();
    co_deinit();
    log_capture(NULL, NULL);
    talloc_free(faults.ctx);
}

static void test_content_cut_anywhere(void **state)
{
    run(pass_all);
}

static void test_endless_field(void **state)
{
    run(pass_endless_field);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_content_cut_anywhere),
        cmocka_unit_test(test_endless_field),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
