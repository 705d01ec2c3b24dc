/* Text from the wire: comparing, cutting, copying. See bytes.h. */
#include "bytes.h"

#include "mem.h"

#include <assert.h>

bool bytes_same_letters(const char *a, const char *b, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (a[i] != b[i] && ascii_lower((unsigned char)a[i]) != ascii_lower((unsigned char)b[i]))
            return false;
    return true;
}

bool bytes_has_prefix(struct bytes b, struct bytes prefix)
{
    return b.n >= prefix.n && bytes_eq(bytes(b.p, prefix.n), prefix);
}

bool bytes_has_iprefix(struct bytes b, struct bytes prefix)
{
    return b.n >= prefix.n && bytes_ieq(bytes(b.p, prefix.n), prefix);
}

bool bytes_has_isuffix(struct bytes b, struct bytes suffix)
{
    return b.n >= suffix.n && bytes_ieq(bytes_skip(b, b.n - suffix.n), suffix);
}

size_t bytes_rchr(struct bytes b, char c)
{
    const char *found = b.n ? memrchr(b.p, c, b.n) : NULL;

    return found ? (size_t)(found - b.p) : SIZE_MAX;
}

size_t bytes_find(struct bytes b, struct bytes needle)
{
    const char *found = b.n ? memmem(b.p, b.n, needle.p, needle.n) : NULL;

    return found ? (size_t)(found - b.p) : SIZE_MAX;
}

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

struct bytes bytes_trim(struct bytes b)
{
    while (b.n > 0 && is_space(b.p[0]))
        b = bytes_skip(b, 1);
    while (b.n > 0 && is_space(b.p[b.n - 1]))
        b.n--;
    return b;
}

struct bytes bytes_cut(struct bytes *rest, char separator)
{
    size_t at = bytes_chr(*rest, separator);
    struct bytes head = *rest;

    if (at == SIZE_MAX) {
        *rest = bytes_skip(*rest, rest->n);
        return head;
    }
    head.n = at;
    *rest = bytes_skip(*rest, at + 1);
    return head;
}

enum { SET_LIMIT = 64 };

/* A bit for each character; none of them is a letter. */
static inline uint64_t set_of(const char *members)
{
    uint64_t bits = 0;

    for (; *members != '\0'; members++) {
        assert((unsigned char)*members < SET_LIMIT);
        bits |= (uint64_t)1 << *members;
    }
    return bits;
}

static inline bool is_in(char c, uint64_t bits)
{
    return (unsigned char)c < SET_LIMIT && bits >> c & 1;
}

struct bytes bytes_word(struct bytes *rest, const char *blanks)
{
    uint64_t separators = set_of(blanks);
    struct bytes word;
    size_t start = 0;

    while (start < rest->n && is_in(rest->p[start], separators))
        start++;
    *rest = bytes_skip(*rest, start);
    word = bytes(rest->p, 0);
    while (word.n < rest->n && !is_in(rest->p[word.n], separators))
        word.n++;
    *rest = bytes_skip(*rest, word.n);
    return word;
}

bool bytes_to_u64(struct bytes b, uint64_t max, uint64_t *out_r)
{
    uint64_t value = 0;

    if (b.n == 0)
        return false;
    for (size_t i = 0; i < b.n; i++) {
        if (!ascii_is_digit((unsigned char)b.p[i]))
            return false;
        if (__builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, (uint64_t)(b.p[i] - '0'), &value) || value > max)
            return false;
    }
    *out_r = value;
    return true;
}

size_t bytes_utf8_length(struct bytes b)
{
    const unsigned char *p = (const unsigned char *)b.p;
    size_t need;

    if (b.n == 0)
        return 0;
    if (p[0] < 128)
        return 1;
    need = p[0] < 0xc2 ? 0 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : p[0] < 0xf5 ? 4 : 0;
    if (need > b.n)
        return 0;
    for (size_t i = 1; i < need; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) || (p[0] == 0xf0 && p[1] < 0x90) ||
        (p[0] == 0xf4 && p[1] > 0x8f)) /* overlong forms, surrogates, beyond U+10FFFF */
        return 0;
    return need;
}

/* For words of eight bytes. */
static const uint64_t top_bits = 0x8080808080808080u;
static const uint64_t ones = 0x0101010101010101u;
static const uint64_t spaces = 0x2020202020202020u;

static size_t ascii_run(struct bytes b)
{
    size_t n = 0;
    uint64_t word;

    for (; n + sizeof(word) <= b.n; n += sizeof(word)) {
        memcpy(&word, b.p + n, sizeof(word));
        if (word & top_bits)
            break;
    }
    while (n < b.n && !(b.p[n] & 0x80))
        n++;
    return n;
}

/* A byte's top bit tells: it is above 127, or 127 (128 with 1 more), or below 32 (negative with 32 less).
 * Only a byte that tells carries into the next one, so for a word as a whole this is exact. */
size_t bytes_print_run(struct bytes b)
{
    size_t n = 0;
    uint64_t word;

    for (; n + sizeof(word) <= b.n; n += sizeof(word)) {
        memcpy(&word, b.p + n, sizeof(word));
        if ((word | (word + ones) | (word - spaces)) & top_bits)
            break;
    }
    while (n < b.n && ascii_is_print((unsigned char)b.p[n]))
        n++;
    return n;
}

bool bytes_is_utf8(struct bytes b)
{
    while ((b = bytes_skip(b, ascii_run(b))).n > 0) {
        size_t length = bytes_utf8_length(b);

        if (length == 0)
            return false;
        b = bytes_skip(b, length);
    }
    return true;
}

char *bytes_dup(const void *ctx, struct bytes b)
{
    char *copy = mem_bytes(ctx, b.n + 1);

    if (b.n > 0)
        memcpy(copy, b.p, b.n);
    copy[b.n] = '\0';
    return copy;
}

char *bytes_dup_lower(const void *ctx, struct bytes b)
{
    char *copy = bytes_dup(ctx, b);

    for (size_t i = 0; i < b.n; i++)
        copy[i] = (char)ascii_lower((unsigned char)copy[i]);
    return copy;
}
