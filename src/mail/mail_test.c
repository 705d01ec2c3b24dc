/* mail: ids, replies, addresses, header walking, the Received line. */
#include "mail.h"
#include "mail_address.h"
#include "mail_header.h"
#include "mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

static void test_ids_are_new_and_valid(void **state)
{
    char one[MAIL_ID_SIZE], two[MAIL_ID_SIZE];

    for (int is_long = 0; is_long < 2; is_long++) {
        mail_id_setup(7, is_long);
        for (int i = 0; i < 1000; i++) {
            mail_id_new(one);
            mail_id_new(two);
            assert_string_not_equal(one, two);
            assert_true(mail_id_is_valid(bytes_of(one)));
            assert_int_equal(strlen(one), is_long ? 12 : 15);
        }
    }
    assert_int_equal(one[10], 'z');
    assert_in_range(mail_id_time(bytes_of(one)), time(NULL) - 5, time(NULL) + 1);
    assert_int_equal(mail_id_time(BYTES("0ABCD6B01DC0E03")), 0x6B01DC0E);
    assert_int_equal(mail_id_time(BYTES("0ABCD6B01DC0e03")), 0);
    assert_int_equal(mail_id_time(BYTES("ABCDEF0123")), 0);
    assert_int_equal(mail_id_time(BYTES("")), 0);
    assert_false(mail_id_is_valid(BYTES("../../etc")));
    assert_false(mail_id_is_valid(BYTES("ABC")));
    assert_false(mail_id_is_valid(BYTES("ABCDEF\0GH")));
    assert_false(mail_id_is_valid(BYTES("ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFGH")));
}

static void test_replies(void **state)
{
    struct mail_reply r = mail_reply(550, "5.1.1", "<%s>: unknown\nsecond line", "a@b");
    struct mail_reply copy = mail_reply_copy(&r);
    char *text = mail_reply_log(NULL, &r);

    assert_string_equal(text, "550 5.1.1 <a@b>: unknown\?\?550 second line");
    talloc_free(text);
    assert_false(mail_reply_is_ok(&r));
    mail_reply_deinit(&r);
    assert_string_equal(copy.text, "<a@b>: unknown\nsecond line");
    mail_reply_deinit(&copy);
}

static void test_paths(void **state)
{
    static const struct {
        const char *text;
        bool strict, good;
        const char *internal, *rest;
    } cases[] = {
        {"<a@example.com>", true, true, "a@example.com", ""},
        {"<a@example.com> SIZE=1", true, true, "a@example.com", " SIZE=1"},
        {"<>", true, true, "", ""},
        {"a@example.com", false, true, "a@example.com", ""},
        {"a@example.com", true, false, NULL, NULL},
        {"<\"a b\"@example.com>", true, true, "a b@example.com", ""},
        {"<\"a\\\"b\"@example.com>", true, true, "a\"b@example.com", ""},
        {"<@one,@two:a@example.com>", true, true, "a@example.com", ""},
        {"<postmaster>", true, true, "postmaster", ""},
        {"<a@[192.0.2.1]>", true, true, "a@[192.0.2.1]", ""},
        {"<a@[IPv6:2001:db8::1]>", true, true, "a@[IPv6:2001:db8::1]", ""},
        {"<a@[300.0.2.1]>", true, false, NULL, NULL},
        {"<a.@example.com>", true, true, "a.@example.com", ""},
        {"<a@>", true, false, NULL, NULL},
        {"<@example.com>", true, false, NULL, NULL},
        {"<a@b@c>", true, false, NULL, NULL},
        {"<a@example..com>", true, false, NULL, NULL},
        {"<a b@example.com>", true, false, NULL, NULL},
        {"<a@example.com", true, false, NULL, NULL},
        {"<a@example.com>x", true, false, NULL, NULL},
        {"<a\x01@example.com>", true, false, NULL, NULL},
        {"<gr\xc3\xbc@example.com>", true, false, NULL, NULL},
        {"", false, false, NULL, NULL},
        {"<\"a@example.net\">", true, false, NULL, NULL},
        {"<\"unclosed@example.com>", true, false, NULL, NULL},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        void *ctx = talloc_new(NULL);
        char *internal;
        struct bytes rest;
        bool good =
            mail_address_parse_path(ctx, bytes_of(cases[i].text), false, cases[i].strict, &internal, &rest);

        assert_int_equal(good, cases[i].good);
        if (good) {
            assert_string_equal(internal, cases[i].internal);
            assert_true(bytes_eq(rest, bytes_of(cases[i].rest)));
        }
        talloc_free(ctx);
    }
}

static void test_paths_with_utf8_and_nul(void **state)
{
    void *ctx = talloc_new(NULL);
    char *internal;
    struct bytes rest;

    assert_true(
        mail_address_parse_path(ctx, BYTES("<gr\xc3\xbc@ex\xc3\xa4mple.com>"), true, true, &internal, &rest));
    assert_string_equal(internal, "gr\xc3\xbc@ex\xc3\xa4mple.com");
    assert_false(mail_address_parse_path(ctx, BYTES("<a\0b@example.com>"), true, true, &internal, &rest));
    talloc_free(ctx);
}

static void test_external_form(void **state)
{
    static const struct {
        const char *internal, *external;
    } cases[] = {
        {"", ""},
        {"a@b", "a@b"},
        {"a b@c", "\"a b\"@c"},
        {"a\"b\\@c", "\"a\\\"b\\\\\"@c"},
        {"a.@c", "\"a.\"@c"},
        {"a@b@c", "\"a@b\"@c"},
        {"postmaster", "postmaster"},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char *external = mail_address_external(NULL, cases[i].internal);

        assert_string_equal(external, cases[i].external);
        talloc_free(external);
    }
}

static void test_hostnames(void **state)
{
    static const struct {
        const char *name;
        bool good;
    } cases[] = {
        {"example.com", true}, {"localhost", true},  {"1.2.3.4", false}, {"[1.2.3.4]", true},
        {"a..b", false},       {"-a.b", false},      {"a-.b", false},    {"a_b.c", true},
        {"", false},           {"a b", false},       {"a.b.", false},    {"xn--a-b.example", true},
        {"a(b", false},        {"[IPv6:::1]", true}, {"[::1]", false},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_int_equal(mail_address_is_hostname(bytes_of(cases[i].name)), cases[i].good);
}

static void record(void *arg, struct bytes field, bool is_whole)
{
    struct buf *out = arg;

    buf_addf(out, "{%.*s%s}", BYTES_FMT(field), is_whole ? "" : "+");
}

static void walk(const char *text, size_t cut, struct buf *fields, struct buf *body, bool *has_end)
{
    struct mail_header_walk w = {.field = record, .arg = fields, .limit = 100};
    struct bytes in = bytes_of(text);

    while (in.n > 0) {
        struct bytes held, rest, piece = bytes(in.p, cut && cut < in.n ? cut : in.n);

        in = bytes_skip(in, piece.n);
        if (w.is_done) {
            buf_add(body, piece);
            continue;
        }
        rest = mail_header_walk(&w, piece, &held);
        buf_add(body, held);
        buf_add(body, rest);
    }
    mail_header_walk_end(&w);
    *has_end = w.has_end;
    mail_header_walk_deinit(&w);
}

static void test_header_walk_cut_at_every_byte(void **state)
{
    static const struct {
        const char *text, *fields, *body;
        bool has_end;
    } cases[] = {
        {"A: 1\r\nB: 2\r\n x\r\n\r\nbody\r\n", "{A: 1\r\n}{B: 2\r\n x\r\n}", "body\r\n", true},
        {"A: 1\r\nno header\r\n", "{A: 1\r\n}", "no header\r\n", false},
        {"\r\nbody\r\n", "", "body\r\n", true},
        {"A: 1\r\n", "{A: 1\r\n}", "", false},
        {"A : 1\r\n\r\n", "{A : 1\r\n}", "", true},
        {" leading blank\r\n", "", " leading blank\r\n", false},
        {"A: 1\r\n\r\n\r\n", "{A: 1\r\n}", "\r\n", true},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        for (size_t cut = 0; cut <= strlen(cases[i].text); cut++) {
            struct buf fields = {0}, body = {0};
            bool has_end;

            walk(cases[i].text, cut, &fields, &body, &has_end);
            assert_string_equal(buf_text(&fields), cases[i].fields);
            assert_string_equal(buf_text(&body), cases[i].body);
            assert_int_equal(has_end, cases[i].has_end);
            buf_deinit(&fields);
            buf_deinit(&body);
        }
}

static void test_received(void **state)
{
    struct mail_client client = {.name = "mx.example.org",
                                 .addr = "2001:db8::1",
                                 .port = "4711",
                                 .helo = "evil\r\nX: y",
                                 .proto = "ESMTP"};
    struct mail_forward forward = {
        .name = "orig.example", .addr = "192.0.2.9", .helo = "orig", .proto = "ESMTP"};
    struct mail_rcpt rcpt = {.addr = "a b@example.com"};
    struct mail_rcpt *rcpts[] = {&rcpt, &rcpt};
    struct mail_envelope envelope = {
        .id = "ABCDEF", .arrived_us = 951782400ull * 1000000, .rcpts = rcpts, .rcpt_count = 1};
    struct buf out = {0};

    setenv("TZ", "UTC", 1);
    tzset();
    mail_header_received(&out, "mail.example.com", "Postfix", &client, &envelope, false);
    assert_string_equal(buf_text(&out),
                        "Received: from evil\?\?X:?y (mx.example.org [IPv6:2001:db8::1])\r\n"
                        "\tby mail.example.com (Postfix) with ESMTP\r\n"
                        "\tfor <\"a b\"@example.com>; Tue, 29 Feb 2000 00:00:00 +0000 (UTC)\r\n");
    buf_cut(&out, 0);
    client.forward = &forward;
    envelope.rcpt_count = 2;
    mail_header_received(&out, "mail.example.com", "Postfix", &client, &envelope, true);
    assert_string_equal(buf_text(&out), "Received: from orig (orig.example [192.0.2.9])\r\n"
                                        "\tby mail.example.com (Postfix) with ESMTP id ABCDEF;\r\n"
                                        "\tTue, 29 Feb 2000 00:00:00 +0000 (UTC)\r\n");
    buf_deinit(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ids_are_new_and_valid),
        cmocka_unit_test(test_replies),
        cmocka_unit_test(test_paths),
        cmocka_unit_test(test_paths_with_utf8_and_nul),
        cmocka_unit_test(test_external_form),
        cmocka_unit_test(test_hostnames),
        cmocka_unit_test(test_header_walk_cut_at_every_byte),
        cmocka_unit_test(test_received),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
