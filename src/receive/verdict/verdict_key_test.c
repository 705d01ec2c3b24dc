/* verdict: what a message is known by, and the records of the database. */
#include "mem.h"
#include "verdict_private.h"

#include "verdict_record.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <openssl/evp.h>

static struct verdict memory = {.filter = (char[]){"127.0.0.1:10025"}};

static int setup(void **state)
{
    memory.sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
    return memory.sha256 != NULL ? 0 : -1;
}

static int teardown(void **state)
{
    EVP_MD_free(memory.sha256);
    return 0;
}

/* ---- keys ---- */

struct message {
    const char *mail;   /* what follows MAIL FROM: */
    const char *sender; /* NULL: "a@b.example" */
    struct {
        const char *rcpt, *addr;
    } rcpts[3];
    const char *content;
};

static struct verdict_key key_in_pieces(const struct message *msg, size_t piece)
{
    char *mail = mem_printf(NULL, "MAIL FROM:%s", msg->mail);
    struct mail_rcpt rcpts[3], *places[3];
    struct mail_envelope e = {
        .command = bytes_of(mail), .sender = msg->sender ? msg->sender : "a@b.example", .rcpts = places};
    struct bytes left = bytes_of(msg->content);
    struct verdict_digest *d;
    struct verdict_key key;
    uint32_t hint;

    for (; e.rcpt_count < 3 && msg->rcpts[e.rcpt_count].rcpt != NULL; e.rcpt_count++) {
        size_t i = e.rcpt_count;

        rcpts[i] = (struct mail_rcpt){.command = bytes_of(msg->rcpts[i].rcpt), .addr = msg->rcpts[i].addr};
        places[i] = &rcpts[i];
    }
    d = verdict_key_begin(NULL, &memory, &e);
    hint = verdict_hint(memory.filter, &e, strlen(msg->content));
    e = (struct mail_envelope){0}; /* the digest may outlive it */
    while (left.n > 0) {
        verdict_key_add(d, bytes(left.p, left.n < piece ? left.n : piece));
        left = bytes_skip(left, piece);
    }
    key = verdict_key_end(&d);
    assert_int_equal(key.hint, hint);
    talloc_free(mail);
    return key;
}

static bool is_same(const struct message *a, const struct message *b)
{
    struct verdict_key x = key_in_pieces(a, SIZE_MAX), y = key_in_pieces(b, SIZE_MAX);

    return memcmp(x.hash, y.hash, sizeof(x.hash)) == 0;
}

#define ONE_RCPT                                                                                             \
    {                                                                                                        \
        {                                                                                                    \
            "RCPT TO:<c@d.example>", "c@d.example"                                                           \
        }                                                                                                    \
    }
#define CONTENT "From: a\r\nTo: c\r\n\r\nhello\r\n"

static const struct message plain = {"<a@b.example>", NULL, ONE_RCPT, CONTENT};

static void test_what_does_not_matter(void **state)
{
    static const struct message same[] = {
        {"<a@b.example>", NULL, ONE_RCPT, CONTENT},
        {" <a@b.example>", NULL, ONE_RCPT, CONTENT},
        {"<a@b.example> SIZE=1000", NULL, ONE_RCPT, CONTENT},
        {"<a@b.example>  size=7 ", NULL, ONE_RCPT, CONTENT},
        {"<a@b.example>", NULL, {{"rcpt to: <c@d.example>", "c@d.example"}}, CONTENT},
    };
    static const struct message one = {"<a@b.example> body=8BITMIME", NULL, ONE_RCPT, CONTENT};
    static const struct message two = {"<a@b.example> SIZE=1 BODY=8BITMIME", NULL, ONE_RCPT, CONTENT};

    for (size_t i = 0; i < sizeof(same) / sizeof(same[0]); i++)
        if (!is_same(&plain, &same[i]))
            fail_msg("case %zu differs", i);
    assert_true(is_same(&one, &two));
}

static void test_what_matters(void **state)
{
    static const struct message different[] = {
        {"<a@b.example>", "a@c.example", ONE_RCPT, CONTENT},
        {"<>", "", ONE_RCPT, CONTENT},
        {"<a@b.example> BODY=8BITMIME", NULL, ONE_RCPT, CONTENT},
        {"<a@b.example> BODY=8bitmime", NULL, ONE_RCPT, CONTENT},
        {"<a@b.example> BODY=7BIT", NULL, ONE_RCPT, CONTENT},
        {"<a@b.example> SMTPUTF8", NULL, ONE_RCPT, CONTENT},
        {"<a@b.example> RET=HDRS", NULL, ONE_RCPT, CONTENT},
        {"<a@b.example> RET=FULL", NULL, ONE_RCPT, CONTENT},
        {"<a@b.example> ENVID=1", NULL, ONE_RCPT, CONTENT},
        {"<a@b.example> ENVID=1 RET=FULL", NULL, ONE_RCPT, CONTENT},
        {"<a@b.example> ENVID=1RET=FULL", NULL, ONE_RCPT, CONTENT},
        {"<a@b.example> REQUIRETLS", NULL, ONE_RCPT, CONTENT},
        {"<a@b.example> AUTH=<>", NULL, ONE_RCPT, CONTENT},
        {"<a@b.example>", NULL, {{"RCPT TO:<c@d.example> NOTIFY=NEVER", "c@d.example"}}, CONTENT},
        {"<a@b.example>", NULL, {{"RCPT TO:<e@d.example>", "e@d.example"}}, CONTENT},
        {"<a@b.example>",
         NULL,
         {{"RCPT TO:<c@d.example>", "c@d.example"}, {"RCPT TO:<e@d.example>", "e@d.example"}},
         CONTENT},
        {"<a@b.example>",
         NULL,
         {{"RCPT TO:<e@d.example>", "e@d.example"}, {"RCPT TO:<c@d.example>", "c@d.example"}},
         CONTENT},
        {"<a@b.example>",
         NULL,
         {{"RCPT TO:<c@d.example>", "c@d.example"}, {"RCPT TO:<c@d.example>", "c@d.example"}},
         CONTENT},
        {"<a@b.example>", NULL, ONE_RCPT, "To: c\r\nFrom: a\r\n\r\nhello\r\n"},
        {"<a@b.example>", NULL, ONE_RCPT, "From: a\r\nTo: c\r\n\r\nhello\r\n\r\n"},
        {"<a@b.example>", NULL, ONE_RCPT, "From: a\r\nTo: c\r\n\r\nHello\r\n"},
        {"<a@b.example>", NULL, ONE_RCPT, ""},
        {"<a@b.example>", NULL, {{NULL, NULL}}, CONTENT},
    };
    enum { N = sizeof(different) / sizeof(different[0]) };

    for (size_t i = 0; i < N; i++) {
        if (is_same(&plain, &different[i]))
            fail_msg("case %zu is the same", i);
        for (size_t j = 0; j < i; j++)
            if (is_same(&different[i], &different[j]))
                fail_msg("cases %zu and %zu are the same", i, j);
    }
}

/* The same bytes in one row, cut into fields at another place. */
static void test_fields_cannot_be_shifted(void **state)
{
    static const struct message a = {"<x>", "ab", {{"RCPT TO:<c>", "c"}}, "content"};
    static const struct message shifted[] = {
        {"<x>", "a", {{"RCPT TO:<c>", "bc"}}, "content"},  {"<x>", "abc", {{"RCPT TO:<c>", ""}}, "content"},
        {"<x>", "ab", {{"RCPT TO:<c>", "cc"}}, "ontent"},  {"<x>", "ab", {{"RCPT TO:<c> c", "c"}}, "ontent"},
        {"<x> c", "ab", {{"RCPT TO:<c>", ""}}, "content"},
    };

    for (size_t i = 0; i < sizeof(shifted) / sizeof(shifted[0]); i++)
        if (is_same(&a, &shifted[i]))
            fail_msg("case %zu is the same", i);
}

static void test_pieces_and_filters(void **state)
{
    struct verdict_key whole = key_in_pieces(&plain, SIZE_MAX);

    for (size_t piece = 1; piece < strlen(CONTENT); piece++) {
        struct verdict_key key = key_in_pieces(&plain, piece);

        assert_memory_equal(key.hash, whole.hash, sizeof(key.hash));
        assert_int_equal(key.hint, whole.hint);
    }
    memory.filter[0] = '2';
    assert_memory_not_equal(key_in_pieces(&plain, SIZE_MAX).hash, whole.hash, sizeof(whole.hash));
    memory.filter[0] = '1';
}

/* Verdicts are found again after a restart, by whatever version. */
static void test_value_stays(void **state)
{
    static const struct message message = {
        "<a@b.example> SIZE=9 body=8bitMIME",
        NULL,
        {{"RCPT TO:<c@d.example>", "c@d.example"}, {"RCPT TO:<e@f.example> notify=NEVER", "e@f.example"}},
        CONTENT};
    static const unsigned char value[32] = {0xd0, 0x78, 0x28, 0x29, 0x74, 0x69, 0xa1, 0x75, 0x29, 0xe7, 0x64,
                                            0xae, 0x40, 0xbf, 0x3b, 0x41, 0xcc, 0x6c, 0x94, 0x1a, 0x5c, 0x2f,
                                            0x2f, 0x39, 0x33, 0x10, 0xfc, 0x81, 0x7f, 0x34, 0x9f, 0x60};
    struct verdict_key key = key_in_pieces(&message, SIZE_MAX);

    assert_memory_equal(key.hash, value, sizeof(value));
}

/* ---- records ---- */

static const struct verdict_key some_key = {.hash = {1, 2, 3}, .hint = 0x12345678};
static unsigned char record[VERDICT_RECORD_LIMIT];

static size_t format(int code, const char *dsn, const char *text)
{
    struct mail_reply reply = mail_reply_fixed(code, dsn, text);

    return verdict_record_format(&some_key, &reply, 1234567890123456, record);
}

static bool parse(size_t n, struct verdict_record *r)
{
    unsigned char *exact =
        (unsigned char *)mem_bytes(NULL, n); /* a byte too far is seen by AddressSanitizer */
    bool good;

    memcpy(exact, record, n);
    good = verdict_record_parse(bytes((const char *)exact, n), some_key.hash, r);
    if (good)
        r->text.p = (const char *)record + (r->text.p - (const char *)exact);
    talloc_free(exact);
    return good;
}

static void test_records_come_back(void **state)
{
    static const struct {
        int code;
        const char *dsn, *text;
    } cases[] = {{250, "2.0.0", "Ok: queued as 4F1C065F3A1C201"},
                 {250, "", ""},
                 {554, "5.7.1", "one\ntwo\nthree"},
                 {599, "5.123.456", "x"}};

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct verdict_record r;

        assert_true(parse(format(cases[i].code, cases[i].dsn, cases[i].text), &r));
        assert_int_equal(r.code, cases[i].code);
        assert_string_equal(r.dsn, cases[i].dsn);
        assert_true(bytes_eq(r.text, bytes_of(cases[i].text)));
        assert_int_equal(r.kept_us, 1234567890123456);
        assert_int_equal(r.hint, some_key.hint);
    }
}

static void test_changed_records_are_refused(void **state)
{
    size_t n = format(250, "2.0.0", "Ok");
    struct verdict_key other = {.hash = {1, 2, 4}};
    struct verdict_record r;

    for (size_t i = 0; i < n * 8; i++) {
        record[i / 8] ^= (unsigned char)(1 << i % 8);
        assert_false(parse(n, &r));
        record[i / 8] ^= (unsigned char)(1 << i % 8);
    }
    for (size_t cut = 0; cut < n; cut++)
        assert_false(parse(cut, &r));
    assert_false(parse(n + 1, &r));
    assert_false(verdict_record_parse(bytes((const char *)record, n), other.hash, &r));
    assert_true(parse(n, &r));
}

static void test_no_other_codes_and_bytes(void **state)
{
    static const int codes[] = {0, 199, 300, 354, 421, 450, 499, 600, 1250};
    struct verdict_record r;
    size_t n;

    for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
        assert_false(parse(format(codes[i], "", "x"), &r));
        assert_false(verdict_record_is_worth(&(struct mail_reply){.code = codes[i]}));
    }
    n = format(250, "", "a\r\tb\x7f\nc");
    assert_true(parse(n, &r));
    assert_true(bytes_eq(r.text, BYTES("a??b?\nc")));
    record[n - 1] = '\r';
    verdict_record_seal(record, n, some_key.hash);
    assert_false(parse(n, &r));
    assert_false(parse(format(250, "2.0\r0", "x"), &r));
}

static void test_long_text_is_cut(void **state)
{
    char *text = mem_bytes(NULL, VERDICT_TEXT_LIMIT + 2);
    struct verdict_record r;
    size_t n;

    memset(text, 'x', VERDICT_TEXT_LIMIT + 1);
    text[VERDICT_TEXT_LIMIT + 1] = '\0';
    n = format(250, "2.1.1234567", text);
    assert_true(n <= VERDICT_RECORD_LIMIT && parse(n, &r));
    assert_int_equal(r.text.n, VERDICT_TEXT_LIMIT);
    text[VERDICT_TEXT_LIMIT] = '\0';
    assert_true(parse(format(250, "", text), &r));
    assert_int_equal(r.text.n, VERDICT_TEXT_LIMIT);
    text[VERDICT_TEXT_LIMIT] = 'x';
    text[100] = '\n';
    assert_true(parse(format(250, "", text), &r));
    assert_int_equal(r.text.n, 100);
    talloc_free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_does_not_matter),
        cmocka_unit_test(test_what_matters),
        cmocka_unit_test(test_fields_cannot_be_shifted),
        cmocka_unit_test(test_pieces_and_filters),
        cmocka_unit_test(test_value_stays),
        cmocka_unit_test(test_records_come_back),
        cmocka_unit_test(test_changed_records_are_refused),
        cmocka_unit_test(test_no_other_codes_and_bytes),
        cmocka_unit_test(test_long_text_is_cut),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
