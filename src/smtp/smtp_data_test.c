/* The DATA and BDAT codec: each case with its input cut at every byte, and every smuggling variant of the
 * dot. */
#include "clock.h"
#include "mem.h"
#include "smtp.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Longer than a block of the codec. */
#define LINE "12345678901234567890123456789012345678901234567890123456789012345678901234567890"
#define LONG LINE LINE

static const struct {
    const char *name, *wire, *content;
    const char *left; /* after the end; NULL: the end was not reached */
    bool bare_lf, bare_cr;
} cases[] = {
    {"plain", "a\r\nb\r\n.\r\nQUIT\r\n", "a\r\nb\r\n", "QUIT\r\n", false, false},
    {"empty", ".\r\n", "", "", false, false},
    {"dots", "..\r\n...a\r\n.b\r\n.\r\n", ".\r\n..a\r\nb\r\n", "", false, false},
    {"no end", "a\r\n.", "a\r\n", NULL, false, false},
    {"lf ends a line", "a\nb\r\n.\r\n", "a\r\nb\r\n", "", true, false},
    {"LF . LF", "a\n.\nb\r\n.\r\n", "a\r\n.\r\nb\r\n", "", true, false},
    {"LF . CRLF", "a\n.\r\nb\r\n.\r\n", "a\r\n.\r\nb\r\n", "", true, false},
    {"CRLF . LF", "a\r\n.\nb\r\n.\r\n", "a\r\n.\r\nb\r\n", "", true, false},
    {"CR . CR", "a\r.\rb\r\n.\r\n", "a . b\r\n", "", false, true},
    {"CR . CRLF", "a\r.\r\nb\r\n.\r\n", "a .\r\nb\r\n", "", false, true},
    {"CRLF . CR", "a\r\n.\rb\r\n.\r\n", "a\r\n b\r\n", "", false, true},
    {"CRLF . CR CR LF", "a\r\n.\r\r\nb\r\n.\r\n", "a\r\n \r\nb\r\n", "", false, true},
    {"CR CR LF", "a\r\r\n.\r\n", "a \r\n", "", false, true},
    {"LF CR . CR LF", "a\n\r.\r\n.\r\n", "a\r\n .\r\n", "", true, true},
    {"starts with LF . LF", "\n.\n\r\n.\r\n", "\r\n.\r\n\r\n", "", true, false},
    {"LF before a long line", "\n" LONG "\r\n.\r\n", "\r\n" LONG "\r\n", "", true, false},
    {"LF behind CRLF", "a\r\n\n" LONG "\r\n.\r\n", "a\r\n\r\n" LONG "\r\n", "", true, false},
    {"CR before a long line", "a\r" LONG "\r\n.\r\n", "a " LONG "\r\n", "", false, true},
    {"stuffed dot before a long line", ".." LONG "\r\n.\r\n", "." LONG "\r\n", "", false, false},
    {"stuffed dot behind LF", "a\n..b\r\n.\r\n", "a\r\n.b\r\n", "", true, false},
};

static void decode(const char *wire, size_t n, size_t cut, struct buf *out, struct smtp_data_decoder *d,
                   struct bytes *left_r)
{
    struct bytes in = bytes(wire, n);

    while (in.n > 0 && !d->is_end) {
        struct bytes piece = bytes(in.p, cut && cut < in.n ? cut : in.n);
        size_t before = out->n;
        size_t used = smtp_data_decode(d, piece, out);

        assert_true(out->n - before <= piece.n + 4);
        assert_true(d->is_end || used == piece.n);
        in = bytes_skip(in, used);
    }
    *left_r = in;
}

static void test_decode_cut_at_every_byte(void **state)
{
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        size_t n = strlen(cases[i].wire);

        for (size_t cut = 0; cut <= n; cut++) {
            struct smtp_data_decoder d = {0};
            struct buf out = {0};
            struct bytes left;

            decode(cases[i].wire, n, cut, &out, &d, &left);
            assert_string_equal(buf_text(&out), cases[i].content);
            assert_int_equal(d.is_end, cases[i].left != NULL);
            if (cases[i].left != NULL)
                assert_true(bytes_eq(left, bytes_of(cases[i].left)));
            assert_int_equal(d.has_bare_lf, cases[i].bare_lf);
            assert_int_equal(d.has_bare_cr, cases[i].bare_cr);
            buf_deinit(&out);
        }
    }
}

/* Clean lines that move what follows over the codec's blocks. */
static void add_padding(struct buf *out, size_t n)
{
    for (; n > 80; n -= 78)
        buf_addf(out, "%076d\r\n", 1);
    for (; n > 2; n--)
        buf_addc(out, 'x');
    buf_adds(out, "\r\n");
}

/* Behind the end of data more follows, so that the block with the end is looked at as a whole. */
static void test_decode_at_every_place_of_a_block(void **state)
{
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        for (size_t pad = 2; pad < 200 && cases[i].left != NULL; pad++) {
            struct smtp_data_decoder d = {0};
            struct buf wire = {0}, content = {0}, out = {0};
            struct bytes left;

            add_padding(&wire, pad);
            add_padding(&content, pad);
            buf_adds(&wire, cases[i].wire);
            buf_adds(&content, cases[i].content);
            add_padding(&wire, 100);
            decode(wire.p, wire.n, 0, &out, &d, &left);
            assert_string_equal(buf_text(&out), buf_text(&content));
            assert_int_equal(left.n, strlen(cases[i].left) + 100);
            assert_int_equal(d.has_bare_lf, cases[i].bare_lf);
            assert_int_equal(d.has_bare_cr, cases[i].bare_cr);
            buf_deinit(&wire);
            buf_deinit(&content);
            buf_deinit(&out);
        }
}

static void test_nul_and_8bit_pass(void **state)
{
    static const char wire[] = "a\0b\xff\r\n.\r\n";
    struct smtp_data_decoder d = {0};
    struct buf out = {0};
    struct bytes left;

    decode(wire, sizeof(wire) - 1, 0, &out, &d, &left);
    assert_true(bytes_eq(buf_bytes(&out), BYTES("a\0b\xff\r\n")));
    buf_deinit(&out);
}

static const struct {
    const char *wire, *content;
} bdat_cases[] = {
    {"a\r\nb\r\n", "a\r\nb\r\n"},
    {"a\nb", "a\r\nb\r\n"},
    {".\r\n", ".\r\n"},
    {"", ""},
    {"a\r", "a\r\n"},
    {"a\rb\r\n", "a b\r\n"},
    {"\n", "\r\n"},
    {"a\r\n.\r\nb", "a\r\n.\r\nb\r\n"},
};

static void test_bdat_cut_at_every_byte(void **state)
{
    for (size_t i = 0; i < sizeof(bdat_cases) / sizeof(bdat_cases[0]); i++) {
        size_t n = strlen(bdat_cases[i].wire);

        for (size_t cut = 0; cut <= n; cut++) {
            struct smtp_data_decoder d = {0};
            struct buf out = {0};

            smtp_bdat_decode(&d, bytes(bdat_cases[i].wire, cut), false, &out);
            smtp_bdat_decode(&d, bytes(bdat_cases[i].wire + cut, n - cut), true, &out);
            assert_string_equal(buf_text(&out), bdat_cases[i].content);
            buf_deinit(&out);
        }
    }
}

static const struct {
    const char *content, *wire;
} encode_cases[] = {
    {"a\r\nb\r\n", "a\r\nb\r\n.\r\n"},           {"", ".\r\n"},
    {".\r\n..a\r\n", "..\r\n...a\r\n.\r\n"},     {"no end", "no end\r\n.\r\n"},
    {"a\n.\nb\r\n", "a\r\n..\r\nb\r\n.\r\n"},    {"a\r.\r\n", "a .\r\n.\r\n"},
    {"a\r\r\n.\r\n", "a\r\n..\r\n.\r\n"},        {"a\r\n.\r", "a\r\n..\r\n.\r\n"},
    {"\n" LONG "\r\n", "\r\n" LONG "\r\n.\r\n"}, {"." LONG "\n", ".." LONG "\r\n.\r\n"},
    {"a\r" LONG "\r\n", "a " LONG "\r\n.\r\n"},
};

static void encoding(void *arg)
{
    for (size_t i = 0; i < sizeof(encode_cases) / sizeof(encode_cases[0]); i++) {
        struct bytes all = bytes_of(encode_cases[i].content);

        for (size_t cut = 0; cut <= all.n; cut++) {
            struct smtp_data_encoder e = {0};
            struct io_stream *s = io_memory_new(NULL, bytes("", 0), 0);
            char *got;

            smtp_data_encode(&e, s, bytes(all.p, cut), clock_ms() + 1000);
            smtp_data_encode(&e, s, bytes_skip(all, cut), clock_ms() + 1000);
            smtp_data_encode_end(&e, s, clock_ms() + 1000);
            io_flush(s, clock_ms() + 1000);
            got = bytes_dup(NULL, io_memory_written(s));
            /* "a \r\n" and "a\r\n" are both right where a CR stood before CR LF: blank or gone */
            if (strstr(encode_cases[i].content, "\r\r\n") == NULL)
                assert_string_equal(got, encode_cases[i].wire);
            talloc_free(got);
            io_stream_close(&s);
        }
    }
    *(bool *)arg = true;
}

/* The case between clean lines, in one piece. */
static void encode_padded(const char *content, const char *wire, size_t pad)
{
    struct smtp_data_encoder e = {0};
    struct io_stream *s = io_memory_new(NULL, bytes("", 0), 0);
    struct buf in = {0}, expected = {0};

    add_padding(&in, pad);
    add_padding(&expected, pad);
    buf_adds(&in, content);
    buf_add(&expected, bytes(wire, strlen(wire) - strlen(".\r\n")));
    add_padding(&in, 100);
    add_padding(&expected, 100);
    buf_adds(&expected, ".\r\n");
    smtp_data_encode(&e, s, buf_bytes(&in), clock_ms() + 1000);
    smtp_data_encode_end(&e, s, clock_ms() + 1000);
    io_flush(s, clock_ms() + 1000);
    assert_true(bytes_eq(io_memory_written(s), buf_bytes(&expected)));
    buf_deinit(&in);
    buf_deinit(&expected);
    io_stream_close(&s);
}

static void encoding_padded(void *arg)
{
    for (size_t i = 0; i < sizeof(encode_cases) / sizeof(encode_cases[0]); i++) {
        struct bytes content = bytes_of(encode_cases[i].content);

        if (content.n > 0 && content.p[content.n - 1] != '\n')
            continue; /* the padding would go on with its last line */
        for (size_t pad = 2; pad < 200; pad++)
            encode_padded(content.p, encode_cases[i].wire, pad);
    }
    *(bool *)arg = true;
}

static void in_coroutine(void (*fn)(void *arg))
{
    bool done = false;

    co_init(1);
    co_spawn(fn, &done, "encoding");
    co_run();
    co_deinit();
    assert_true(done);
}

static void test_encode_at_every_place_of_a_block(void **state)
{
    in_coroutine(encoding_padded);
}

static void test_encode_cut_at_every_byte(void **state)
{
    in_coroutine(encoding);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_decode_cut_at_every_byte),
        cmocka_unit_test(test_decode_at_every_place_of_a_block),
        cmocka_unit_test(test_nul_and_8bit_pass),
        cmocka_unit_test(test_bdat_cut_at_every_byte),
        cmocka_unit_test(test_encode_cut_at_every_byte),
        cmocka_unit_test(test_encode_at_every_place_of_a_block),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
