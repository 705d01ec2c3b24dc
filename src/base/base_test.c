/* base: bytes, buffers, errors, the log's masking. */
#include "buf.h"
#include "bytes.h"
#include "clock.h"
#include "error.h"
#include "format.h"
#include "log.h"
#include "mem.h"

#include <errno.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static void test_bytes_cut_and_word(void **state)
{
    struct bytes rest = BYTES("a,bc,,d");
    struct bytes words = BYTES("  one\ttwo  ");

    assert_true(bytes_eq(bytes_cut(&rest, ','), BYTES("a")));
    assert_true(bytes_eq(bytes_cut(&rest, ','), BYTES("bc")));
    assert_true(bytes_eq(bytes_cut(&rest, ','), BYTES("")));
    assert_true(bytes_eq(bytes_cut(&rest, ','), BYTES("d")));
    assert_int_equal(rest.n, 0);
    assert_true(bytes_eq(bytes_word(&words, " \t"), BYTES("one")));
    assert_true(bytes_eq(bytes_word(&words, " \t"), BYTES("two")));
    assert_int_equal(bytes_word(&words, " \t").n, 0);
}

static void test_bytes_to_u64(void **state)
{
    static const struct {
        const char *text;
        uint64_t max;
        bool good;
        uint64_t value;
    } cases[] = {
        {"0", 10, true, 0},
        {"10", 10, true, 10},
        {"11", 10, false, 0},
        {"", 10, false, 0},
        {"-1", 10, false, 0},
        {"1x", 10, false, 0},
        {"18446744073709551615", UINT64_MAX, true, UINT64_MAX},
        {"18446744073709551616", UINT64_MAX, false, 0},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint64_t value = 0;

        assert_int_equal(bytes_to_u64(bytes_of(cases[i].text), cases[i].max, &value), cases[i].good);
        assert_true(value == cases[i].value);
    }
}

static void test_utf8(void **state)
{
    static const struct {
        const char *text;
        bool good;
    } cases[] = {
        {"", true},
        {"plain", true},
        {"gr\xc3\xbc\xc3\x9f", true},
        {"\xe2\x82\xac", true},
        {"\xf0\x9f\x93\xa7", true},
        {"\xc3", false},
        {"\xc0\xaf", false},
        {"\xe0\x80\xaf", false},
        {"\xed\xa0\x80", false},
        {"\xf4\x90\x80\x80", false},
        {"\xf5\x80\x80\x80", false},
        {"\x80", false},
        {"eight by", true},
        {"eight by\xc3\xbc", true},
        {"eight b\xc3\xbc eight by", true},
        {"eight by eight b\x80", false},
        {"\xc3\xbc eight by eight\xc3", false},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_int_equal(bytes_is_utf8(bytes_of(cases[i].text)), cases[i].good);
}

/* Every byte value at every place of a word. */
static void test_print_run(void **state)
{
    char text[24];

    for (int c = 0; c < 256; c++)
        for (size_t at = 0; at < sizeof(text); at++) {
            size_t expected = c >= 32 && c < 127 ? sizeof(text) : at;

            memset(text, '~', sizeof(text));
            text[at] = (char)c;
            assert_int_equal(bytes_print_run(bytes(text, sizeof(text))), expected);
            memset(text, ' ', sizeof(text));
            text[at] = (char)c;
            assert_int_equal(bytes_print_run(bytes(text, sizeof(text))), expected);
        }
    assert_int_equal(bytes_print_run(bytes(NULL, 0)), 0);
}

static void test_buf_grows_and_stays_terminated(void **state)
{
    struct buf b = {0};

    for (int i = 0; i < 1000; i++)
        buf_addf(&b, "%d,", i);
    assert_int_equal(strlen(b.p), b.n);
    assert_int_equal(b.n, 10 * 2 + 90 * 3 + 900 * 4);
    buf_drop(&b, 2);
    assert_memory_equal(b.p, "1,2,", 4);
    buf_cut(&b, 3);
    assert_string_equal(buf_text(&b), "1,2");
    buf_deinit(&b);
    assert_string_equal(buf_text(&b), "");
}

static void test_buf_adds_numbers(void **state)
{
    struct buf b = {0};

    buf_addu(&b, 0);
    buf_addc(&b, ' ');
    buf_addu(&b, 1090);
    buf_addc(&b, ' ');
    buf_addu(&b, UINT64_MAX);
    assert_string_equal(buf_text(&b), "0 1090 18446744073709551615");
    buf_deinit(&b);
}

/* The same text and length as the C library's, whole and cut off at every place. */
#define SAME(...)                                                                                            \
    do {                                                                                                     \
        char expected[128], got[128];                                                                        \
        int n = snprintf(expected, sizeof(expected), __VA_ARGS__);                                           \
                                                                                                             \
        assert_int_equal(format_print(got, sizeof(got), __VA_ARGS__), n);                                    \
        assert_string_equal(got, expected);                                                                  \
        for (size_t room = 1; room <= (size_t)n; room++) {                                                   \
            memset(got, '#', sizeof(got));                                                                   \
            assert_int_equal(format_print(got, room, __VA_ARGS__), n);                                       \
            assert_memory_equal(got, expected, room - 1);                                                    \
            assert_int_equal(got[room - 1], '\0');                                                           \
            assert_int_equal(got[room], '#');                                                                \
        }                                                                                                    \
    } while (0)

static void test_format_is_the_c_librarys(void **state)
{
    SAME("nothing to convert");
    SAME("%s[%s]: 100%%", "mx.example", "192.0.2.1");
    SAME("%.*s|%.*s|%.*s", 3, "abcdef", 9, "abc", 0, "abc");
    SAME("%d %d %d %u", 0, INT_MAX, INT_MIN, UINT_MAX);
    SAME("%ld %ld %lu", LONG_MAX, LONG_MIN, ULONG_MAX);
    SAME("%lld %lld %llu", LLONG_MAX, LLONG_MIN, ULLONG_MAX);
    SAME("%zu %zd", (size_t)-1, (ssize_t)-7);
    SAME("%c%c", 'a', 'b');
    SAME("%02d:%02d %04d %03d %05X %08x %016llx %015llu", 3, 12, 12345, -7, 0xBEu, 0xbeefu, 0xdeadbeefULL,
         42ULL);
    /* the C library's part */
    SAME("%5s|%-5s|%.2s|%5d|%+d|%#x|%.3f", "ab", "cd", "xyz", 42, 7, 255u, 1.5);
    SAME("%s then %8u then %s", "before", 9u, "after");
    assert_int_equal(format_print(NULL, 0, "%s", "counted"), 7);
}

static void test_printed_text_of_any_length(void **state)
{
    for (int n = 250; n < 262; n++) {
        char *text = mem_printf(NULL, "%0*d", n, 7), *again = mem_printf(NULL, "<%s>", text);

        assert_int_equal(strlen(text), n);
        assert_int_equal(strlen(again), n + 2);
        assert_memory_equal(again + 1, text, (size_t)n);
        talloc_free(text);
        talloc_free(again);
    }
}

static void test_error_context_is_prepended(void **state)
{
    struct error *e = error_prepend(error_errno(ENOSPC, "write"), "queue file %s", "X");

    assert_string_equal(e->text, "queue file X: write: No space left on device");
    assert_int_equal(e->kind, ERROR_TEMP);
    assert_int_equal(e->code, ENOSPC);
    error_free(&e);
    assert_null(error_prepend(NULL, "nothing"));
}

static char last_line[4096];

static void take(const char *line, void *arg)
{
    snprintf(last_line, sizeof(last_line), "%s", line);
}

static void test_log_masks_what_could_start_a_line(void **state)
{
    static const struct {
        const char *in, *out;
    } cases[] = {
        {"a\r\nb", "a??b"},
        {"tab\there", "tab?here"},
        {"\x1b[31m", "?[31m"},
        {"gr\xc3\xbc\xc3\x9f", "gr\xc3\xbc\xc3\x9f"},
        {"\xff\xfe", "??"},
        {"\xc3", "?"},
        {"\xc2\x9b"
         "1m",
         "??1m"},
        {"\xed\xa0\x80", "???"},
    };

    log_capture(take, NULL);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        log_info("%s", cases[i].in);
        assert_string_equal(last_line, cases[i].out);
    }
    log_warn("disk %d", 1);
    assert_string_equal(last_line, "warning: disk 1");
    log_capture(NULL, NULL);
}

static void test_mail_date(void **state)
{
    setenv("TZ", "UTC", 1);
    tzset();
    assert_string_equal(clock_mail_date(951782400), "Tue, 29 Feb 2000 00:00:00 +0000 (UTC)");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bytes_cut_and_word),
        cmocka_unit_test(test_bytes_to_u64),
        cmocka_unit_test(test_utf8),
        cmocka_unit_test(test_print_run),
        cmocka_unit_test(test_buf_grows_and_stays_terminated),
        cmocka_unit_test(test_buf_adds_numbers),
        cmocka_unit_test(test_format_is_the_c_librarys),
        cmocka_unit_test(test_printed_text_of_any_length),
        cmocka_unit_test(test_error_context_is_prepended),
        cmocka_unit_test(test_log_masks_what_could_start_a_line),
        cmocka_unit_test(test_mail_date),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
