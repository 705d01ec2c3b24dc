/* Text from the wire: comparing, cutting, copying. See bytes.h. */
#include "bytes.h"

#include "mem.h"

bool bytes_eq(struct bytes a, struct bytes b)
{
    return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

bool bytes_ieq(struct bytes a, struct bytes b)
{
    if (a.n != b.n)
        return false;
    for (size_t i = 0; i < a.n; i++)
        if (ascii_lower((unsigned char)a.p[i]) != ascii_lower((unsigned char)b.p[i]))
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

size_t bytes_chr(struct bytes b, char c)
{
    const char *found = b.n ? memchr(b.p, c, b.n) : NULL;

    return found ? (size_t)(found - b.p) : SIZE_MAX;
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

struct bytes bytes_skip(struct bytes b, size_t n)
{
    if (b.p == NULL)
        return b;
    if (n > b.n)
        n = b.n;
    return bytes(b.p + n, b.n - n);
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

static bool is_in(char c, const char *set)
{
    return c != '\0' && strchr(set, c) != NULL;
}

struct bytes bytes_word(struct bytes *rest, const char *blanks)
{
    struct bytes word;

    while (rest->n > 0 && is_in(rest->p[0], blanks))
        *rest = bytes_skip(*rest, 1);
    word = bytes(rest->p, 0);
    while (rest->n > 0 && !is_in(rest->p[0], blanks)) {
        word.n++;
        *rest = bytes_skip(*rest, 1);
    }
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

bool bytes_is_utf8(struct bytes b)
{
    while (b.n > 0) {
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
