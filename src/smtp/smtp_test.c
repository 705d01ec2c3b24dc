/* smtp: grammar of MAIL and RCPT, replies both ways, XFORWARD, lines with limits, features. */
#include "clock.h"
#include "mem.h"
#include "smtp.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static bool done;

static uint64_t soon(void)
{
    return clock_ms() + 1000;
}

static void run(void (*fn)(void *arg))
{
    done = false;
    co_init(1);
    co_spawn(fn, NULL, "test");
    co_run();
    co_deinit();
    assert_true(done);
}

enum { ALL = SMTP_SIZE | SMTP_8BITMIME | SMTP_DSN | SMTP_SMTPUTF8 };

static void test_mail(void **state)
{
    static const struct {
        const char *line;
        unsigned features;
        const char *sender, *refused;
    } cases[] = {
        {"MAIL FROM:<a@b>", ALL, "a@b", NULL},
        {"mail from: <a@b>", ALL, "a@b", NULL},
        {"MAIL FROM:<> BODY=7bit", ALL, "", NULL},
        {"MAIL FROM:<a@b> SIZE=1000 BODY=8BITMIME RET=HDRS ENVID=x+2By", ALL, "a@b", NULL},
        {"MAIL FROM:<a@b> SIZE=1001", ALL, NULL, "552 5.3.4 Message size exceeds fixed limit"},
        {"MAIL FROM:<a@b> SIZE=x", ALL, NULL, "501 5.5.4 Bad message size syntax"},
        {"MAIL FROM:<a@b> SIZE=99999999999999999999", ALL, NULL, "501 5.5.4 Bad message size syntax"},
        {"MAIL FROM:<a@b> SIZE=1", 0, NULL, "555 5.5.4 Unsupported option: SIZE=1"},
        {"MAIL FROM:<a@b> BODY=BINARYMIME", ALL, NULL, "555 5.5.4 Unsupported option: BODY=BINARYMIME"},
        {"MAIL FROM:<a@b> XYZ", ALL, NULL, "555 5.5.4 Unsupported option: XYZ"},
        {"MAIL FROM:<a@b> RET=FULL RET=FULL", ALL, NULL, "501 5.5.4 Bad RET parameter syntax"},
        {"MAIL FROM:<a@b> ENVID=a ENVID=b", ALL, NULL, "501 5.5.4 Bad ENVID parameter syntax"},
        {"MAIL FROM:<a@b> RET=SOME", ALL, NULL, "501 5.5.4 Bad RET parameter syntax"},
        {"MAIL FROM:<a@b> RET=FULL", ALL & ~SMTP_DSN, NULL, "501 5.7.1 DSN support is disabled"},
        {"MAIL FROM:<a@b> ENVID=+0G", ALL, NULL, "501 5.5.4 Bad ENVID parameter syntax"},
        {"MAIL FROM:<a@b> ENVID=a+0D+0Ab", ALL, NULL, "501 5.5.4 Bad ENVID parameter syntax"},
        {"MAIL FROM:<a@b> AUTH=<>", ALL, "a@b", NULL},
        {"MAIL FROM:<a@b> AUTH", ALL, NULL, "555 5.5.4 Unsupported option: AUTH"},
        {"MAIL TO:<a@b>", ALL, NULL, "501 5.5.4 Syntax: MAIL FROM:<address>"},
        {"MAIL", ALL, NULL, "501 5.5.4 Syntax: MAIL FROM:<address>"},
        {"MAIL FROM:", ALL, NULL, "501 5.5.4 Syntax: MAIL FROM:<address>"},
        {"MAIL FROM:<a@b", ALL, NULL, "501 5.1.7 Bad sender address syntax"},
        {"MAIL FROM:<\xc3\xbc@b>", ALL, NULL, "553 5.6.7 Must declare SMTPUTF8 to send unicode address"},
        {"MAIL FROM:<\xc3\xbc@b> SMTPUTF8", ALL, "\xc3\xbc@b", NULL},
        {"MAIL FROM:<\xc3\xbc@b>", ALL & ~SMTP_SMTPUTF8, NULL, "501 5.1.7 Bad sender address syntax"},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        void *ctx = talloc_new(NULL);
        struct smtp_parse_rules rules = {.features = cases[i].features, .size_limit = 1000};
        struct smtp_line line = smtp_line_parse(bytes_of(cases[i].line));
        struct mail_envelope env = {0};
        struct mail_reply why = {0};
        bool good = smtp_parse_mail(ctx, &line, &rules, &env, &why);

        if (cases[i].refused != NULL)
            assert_string_equal(mail_reply_log(ctx, &why), cases[i].refused);
        assert_int_equal(good, cases[i].refused == NULL);
        if (good) {
            assert_string_equal(env.sender, cases[i].sender);
            assert_true(bytes_eq(env.command, bytes_of(cases[i].line)));
        }
        mail_reply_deinit(&why);
        talloc_free(ctx);
    }
}

static void test_mail_values(void **state)
{
    void *ctx = talloc_new(NULL);
    struct smtp_parse_rules rules = {.features = ALL};
    struct smtp_line line =
        smtp_line_parse(BYTES("MAIL FROM:<a@b> SIZE=77 BODY=8bitmime RET=FULL ENVID=x+2By SMTPUTF8"));
    struct mail_envelope env = {0};
    struct mail_reply why;

    assert_true(smtp_parse_mail(ctx, &line, &rules, &env, &why));
    assert_int_equal(env.size, 77);
    assert_int_equal(env.body, MAIL_BODY_8BITMIME);
    assert_int_equal(env.ret, MAIL_RET_FULL);
    assert_string_equal(env.envid, "x+y");
    assert_true(env.smtputf8);
    talloc_free(ctx);
}

static void test_rcpt(void **state)
{
    static const struct {
        const char *line;
        unsigned notify;
        const char *orcpt, *refused;
    } cases[] = {
        {"RCPT TO:<a@b>", 0, NULL, NULL},
        {"rcpt to: a@b", 0, NULL, NULL},
        {"RCPT TO:<a@b> NOTIFY=NEVER", MAIL_NOTIFY_NEVER, NULL, NULL},
        {"RCPT TO:<a@b> NOTIFY=SUCCESS,delay,FAILURE", 14, NULL, NULL},
        {"RCPT TO:<a@b> ORCPT=rfc822;x+2By@z", 0, "rfc822;x+y@z", NULL},
        {"RCPT TO:<a@b> NOTIFY=NEVER,DELAY", 0, NULL, "501 5.5.4 Error: Bad NOTIFY parameter syntax"},
        {"RCPT TO:<a@b> NOTIFY=NEVER NOTIFY=NEVER", 0, NULL, "501 5.5.4 Error: Bad NOTIFY parameter syntax"},
        {"RCPT TO:<a@b> NOTIFY=", 0, NULL, "501 5.5.4 Error: Bad NOTIFY parameter syntax"},
        {"RCPT TO:<a@b> NOTIFY=SUCCESS,", 0, NULL, "501 5.5.4 Error: Bad NOTIFY parameter syntax"},
        {"RCPT TO:<a@b> ORCPT=rfc822", 0, NULL, "501 5.5.4 Error: Bad ORCPT parameter syntax"},
        {"RCPT TO:<a@b> SIZE=1", 0, NULL, "555 5.5.4 Unsupported option: SIZE=1"},
        {"RCPT TO:<>", 0, NULL, "501 5.1.3 Bad recipient address syntax"},
        {"RCPT FROM:<a>", 0, NULL, "501 5.5.4 Syntax: RCPT TO:<address>"},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        void *ctx = talloc_new(NULL);
        struct smtp_parse_rules rules = {.features = ALL};
        struct smtp_line line = smtp_line_parse(bytes_of(cases[i].line));
        struct mail_rcpt rcpt = {0};
        struct mail_reply why = {0};
        bool good = smtp_parse_rcpt(ctx, &line, &rules, false, &rcpt, &why);

        if (cases[i].refused != NULL)
            assert_string_equal(mail_reply_log(ctx, &why), cases[i].refused);
        assert_int_equal(good, cases[i].refused == NULL);
        if (good) {
            assert_string_equal(rcpt.addr, "a@b");
            assert_int_equal(rcpt.notify, cases[i].notify);
            if (cases[i].orcpt != NULL)
                assert_string_equal(rcpt.orcpt, cases[i].orcpt);
        }
        mail_reply_deinit(&why);
        talloc_free(ctx);
    }
}

static void test_xtext(void **state)
{
    struct buf out = {0};
    char *text;

    smtp_xtext_encode(&out, BYTES("a+b =c\x01\xff"));
    assert_string_equal(buf_text(&out), "a+2Bb+20+3Dc+01+FF");
    text = smtp_xtext_decode(NULL, buf_bytes(&out));
    assert_string_equal(text, "a+b =c\x01\xff");
    talloc_free(text);
    assert_null(smtp_xtext_decode(NULL, BYTES("a+")));
    assert_null(smtp_xtext_decode(NULL, BYTES("a+2")));
    assert_null(smtp_xtext_decode(NULL, BYTES("a+00")));
    assert_null(smtp_xtext_decode(NULL, BYTES("a+G0")));
    buf_deinit(&out);
}

static void test_xforward(void **state)
{
    void *ctx = talloc_new(NULL);
    struct mail_forward f = {0};
    struct mail_reply why = {0};
    struct buf out = {0};
    static const struct {
        const char *args, *refused;
    } bad[] = {
        {"", "501 5.5.4 Syntax: XFORWARD attribute=value..."},
        {"NAME", "501 5.5.4 Error: attribute=value expected"},
        {"FOO=bar", "501 5.5.4 Bad XFORWARD attribute name: FOO"},
        {"ADDR=1.2.3", "501 5.5.4 Bad ADDR syntax: 1.2.3"},
        {"PORT=123456", "501 5.5.4 Bad PORT syntax: 123456"},
        {"SOURCE=MOON", "501 5.5.4 Bad SOURCE syntax: MOON"},
        {"RETRY=", "501 5.5.4 Bad RETRY syntax: "},
        {"RETRY=-1", "501 5.5.4 Bad RETRY syntax: -1"},
        {"RETRY=10000", "501 5.5.4 Bad RETRY syntax: 10000"},
        {"RETRY=00001", "501 5.5.4 Bad RETRY syntax: 00001"},
        {"HELO=a+0Ab", "501 5.5.4 Bad HELO syntax: a+0Ab"},
    };

    assert_true(smtp_xforward_parse(ctx,
                                    BYTES("NAME=localhost ADDR=IPv6:2001:db8::1 PORT=46558 HELO=c+20t=x "
                                          "IDENT=[UNAVAILABLE] PROTO=ESMTP SOURCE=LOCAL"),
                                    &f, &why));
    assert_string_equal(f.name, "localhost");
    assert_string_equal(f.addr, "2001:db8::1");
    assert_string_equal(f.helo, "c t=x");
    assert_null(f.ident);
    smtp_xforward_format(&out, &f, 0xff);
    assert_string_equal(buf_text(&out),
                        "XFORWARD NAME=localhost ADDR=IPv6:2001:db8::1 PORT=46558 HELO=c+20t=x "
                        "IDENT=[UNAVAILABLE] PROTO=ESMTP SOURCE=LOCAL\r\n");
    buf_cut(&out, 0);
    smtp_xforward_format(&out, &f, smtp_xforward_parse_names(BYTES("name FOO Proto")));
    assert_string_equal(buf_text(&out), "XFORWARD NAME=localhost PROTO=ESMTP\r\n");
    buf_cut(&out, 0);
    assert_int_equal(mail_forward_retry(&f), 0);
    assert_true(smtp_xforward_parse(ctx, BYTES("RETRY=12"), &f, &why));
    assert_int_equal(mail_forward_retry(&f), 12);
    smtp_xforward_format(&out, &f, smtp_xforward_parse_names(BYTES("proto retry")));
    assert_string_equal(buf_text(&out), "XFORWARD PROTO=ESMTP RETRY=12\r\n");
    assert_true(smtp_xforward_parse(ctx, BYTES("RETRY=[UNAVAILABLE]"), &f, &why));
    assert_int_equal(mail_forward_retry(&f), 0);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_false(smtp_xforward_parse(ctx, bytes_of(bad[i].args), &f, &why));
        assert_string_equal(mail_reply_log(ctx, &why), bad[i].refused);
        mail_reply_deinit(&why);
    }
    buf_deinit(&out);
    talloc_free(ctx);
}

static void test_xforward_splits_long_payloads(void **state)
{
    char helo[250], ident[250], name[250];
    struct mail_forward f = {.name = name, .helo = helo, .ident = ident};
    struct buf out = {0};
    struct bytes rest;

    memset(helo, 'h', sizeof(helo));
    memset(ident, 'i', sizeof(ident));
    memset(name, 'n', sizeof(name));
    helo[249] = ident[249] = name[249] = '\0';
    smtp_xforward_format(&out, &f, 0xff);
    rest = buf_bytes(&out);
    for (int lines = 0; rest.n > 0; lines++) {
        assert_true(bytes_cut(&rest, '\n').n <= 512);
        assert_true(lines < 3);
    }
    buf_deinit(&out);
}

static void test_reply_format(void **state)
{
    struct buf out = {0};
    struct mail_reply r = mail_reply_fixed(250, "2.1.0", "one\ntwo\r\x1b");

    smtp_reply_format(&out, &r);
    assert_string_equal(buf_text(&out), "250-2.1.0 one\r\n250 2.1.0 two\?\?\r\n");
    buf_deinit(&out);
}

static void reading_lines(void *arg)
{
    static const char text[] = "one\r\ntwo\nthis line is far too long\r\n\r\nfour";
    static const struct {
        enum io_end end;
        const char *line;
        bool bare;
    } want[] = {{IO_OK, "one", false},
                {IO_OK, "two", true},
                {IO_FULL, NULL, false},
                {IO_OK, "", false},
                {IO_CLOSED, NULL, false}};

    for (size_t step = 0; step < sizeof(text); step++) {
        struct io_stream *s = io_memory_new(NULL, BYTES(text), step);

        for (size_t i = 0; i < 5; i++) {
            struct bytes line;
            bool bare;

            assert_int_equal(smtp_read_line(s, 10, soon(), &line, &bare), want[i].end);
            if (want[i].line != NULL) {
                assert_true(bytes_eq(line, bytes_of(want[i].line)));
                assert_int_equal(bare, want[i].bare);
            }
        }
        io_stream_close(&s);
    }
    done = true;
}

static void test_lines_cut_at_every_byte(void **state)
{
    run(reading_lines);
}

static void endless_line(void *arg)
{
    char *text = malloc(200000);
    struct io_stream *s;
    struct bytes line;
    bool bare;

    memset(text, 'x', 200000);
    s = io_memory_new(NULL, bytes(text, 200000), 0);
    assert_int_equal(smtp_read_line(s, 2048, soon(), &line, &bare), IO_RESET);
    io_stream_close(&s);
    free(text);
    done = true;
}

static void test_an_endless_line_ends_the_session(void **state)
{
    run(endless_line);
}

static void client_replies(void *arg)
{
    static const struct {
        const char *wire;
        enum io_end end;
        int code;
        const char *text;
    } cases[] = {
        {"220 hello\r\n", IO_OK, 220, "hello"},
        {"250-a\r\n250-b\r\n250 c\r\n", IO_OK, 250, "a\nb\nc"},
        {"250\r\n", IO_OK, 250, ""},
        {"550 5.1.1 no\tsuch \xc3\xbcser\r\n", IO_OK, 550, "5.1.1 no?such ??ser"},
        {"rubbish\r\n250 ok\r\n", IO_OK, 0, "rubbish\nok"},
        {"150 early\r\n250 ok\r\n", IO_OK, 0, "150 early\nok"},
        {"250-a\r\n550 b\r\n", IO_OK, 0, "a\nb"},
        {"25\r\n250 ok\r\n", IO_OK, 0, "25\nok"},
        {"25x ok\r\n250 ok\r\n", IO_OK, 0, "25x ok\nok"},
        {"250x\r\n250 ok\r\n", IO_OK, 0, "250x\nok"},
        {"600 late\r\n250-\r\n250 \r\n", IO_OK, 0, "600 late\n\n"},
        {"599 last\r\n", IO_OK, 599, "last"},
        {"250-a\r\n", IO_CLOSED, 0, NULL},
        {"", IO_CLOSED, 0, NULL},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        for (size_t step = 0; step <= strlen(cases[i].wire); step++) {
            struct smtp_client *c =
                smtp_client_new(NULL, io_memory_new(NULL, bytes_of(cases[i].wire), step), "test");

            assert_int_equal(smtp_client_read_reply(c, soon()), cases[i].end);
            assert_int_equal(c->reply.code, cases[i].code);
            if (cases[i].text != NULL)
                assert_string_equal(c->reply.text, cases[i].text);
            smtp_client_close(&c);
        }
    done = true;
}

static void test_client_replies_cut_at_every_byte(void **state)
{
    run(client_replies);
}

/* The start of an overlong line is the line; the next reply is the next command's. */
static void client_overlong_reply(void *arg)
{
    for (size_t n = SMTP_REPLY_LINE_LIMIT - 2; n < SMTP_REPLY_LINE_LIMIT + 3; n++)
        for (size_t step = 0; step < 4000; step += 1999) {
            char *wire = mem_printf(NULL, "250 %0*d\r\n550 no\r\n", (int)n - 4, 0);
            struct smtp_client *c = smtp_client_new(NULL, io_memory_new(NULL, bytes_of(wire), step), "test");

            assert_int_equal(smtp_client_read_reply(c, soon()), IO_OK);
            assert_int_equal(c->reply.code, 250);
            assert_int_equal(strlen(c->reply.text),
                             (n < SMTP_REPLY_LINE_LIMIT ? n : SMTP_REPLY_LINE_LIMIT) - 4);
            assert_int_equal(smtp_client_read_reply(c, soon()), IO_OK);
            assert_int_equal(c->reply.code, 550);
            smtp_client_close(&c);
            talloc_free(wire);
        }
    done = true;
}

static void test_overlong_reply_is_cut(void **state)
{
    run(client_overlong_reply);
}

static void client_second_reply(void *arg)
{
    struct bytes wire = BYTES("250-one\r\n250 two\r\n550\r\n354 x");
    struct smtp_client *c = smtp_client_new(NULL, io_memory_new(NULL, wire, 0), "test");

    assert_int_equal(smtp_client_read_reply(c, soon()), IO_OK);
    assert_string_equal(c->reply.text, "one\ntwo");
    assert_int_equal(smtp_client_read_reply(c, soon()), IO_OK);
    assert_int_equal(c->reply.code, 550);
    assert_string_equal(c->reply.text, "");
    assert_int_equal(smtp_client_read_reply(c, soon()), IO_CLOSED);
    assert_int_equal(c->reply.code, 0);
    assert_null(c->reply.text);
    smtp_client_close(&c);
    done = true;
}

static void test_client_reply_takes_the_place_of_the_last(void **state)
{
    run(client_second_reply);
}

static void client_features(void *arg)
{
    static const char wire[] =
        "250-host\r\n250-PIPELINING\r\n250-size 1000\r\n250-XFORWARD NAME ADDR\r\n250 8BITMIME\r\n"
        "250 host\r\n";
    struct smtp_client *c = smtp_client_new(NULL, io_memory_new(NULL, BYTES(wire), 0), "test");

    assert_int_equal(smtp_client_ehlo(c, "me", soon()), IO_OK);
    assert_int_equal(c->features, SMTP_PIPELINING | SMTP_SIZE | SMTP_XFORWARD | SMTP_8BITMIME);
    assert_int_equal(c->size_limit, 1000);
    assert_int_equal(c->xforward, 3);
    assert_true(bytes_eq(io_memory_written(c->stream), BYTES("EHLO me\r\n")));
    assert_int_equal(smtp_client_helo(c, "me", soon()), IO_OK);
    assert_int_equal(c->features, 0);
    smtp_client_close(&c);
    done = true;
}

static void test_client_features(void **state)
{
    run(client_features);
}

static void endless_reply(void *arg)
{
    struct buf wire = {0};
    struct smtp_client *c;

    for (int i = 0; i < 100000; i++)
        buf_adds(&wire, "250-x\r\n");
    c = smtp_client_new(NULL, io_memory_new(NULL, buf_bytes(&wire), 0), "test");
    assert_int_equal(smtp_client_read_reply(c, soon()), IO_FULL);
    smtp_client_close(&c);
    buf_deinit(&wire);
    done = true;
}

static void test_an_endless_reply_is_cut(void **state)
{
    run(endless_reply);
}

static void test_features_parse(void **state)
{
    struct bytes unknown;

    assert_int_equal(smtp_features_parse(BYTES("8bitmime, dsn silent-discard"), &unknown),
                     SMTP_8BITMIME | SMTP_DSN | SMTP_SILENT_DISCARD);
    assert_int_equal(unknown.n, 0);
    assert_int_equal(smtp_features_parse(BYTES("dsn foo"), &unknown), SMTP_DSN);
    assert_true(bytes_eq(unknown, BYTES("foo")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mail),
        cmocka_unit_test(test_mail_values),
        cmocka_unit_test(test_rcpt),
        cmocka_unit_test(test_xtext),
        cmocka_unit_test(test_xforward),
        cmocka_unit_test(test_xforward_splits_long_payloads),
        cmocka_unit_test(test_reply_format),
        cmocka_unit_test(test_lines_cut_at_every_byte),
        cmocka_unit_test(test_an_endless_line_ends_the_session),
        cmocka_unit_test(test_client_replies_cut_at_every_byte),
        cmocka_unit_test(test_overlong_reply_is_cut),
        cmocka_unit_test(test_client_reply_takes_the_place_of_the_last),
        cmocka_unit_test(test_client_features),
        cmocka_unit_test(test_an_endless_reply_is_cut),
        cmocka_unit_test(test_features_parse),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
