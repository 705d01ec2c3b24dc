/*
 * Text from the wire: a pointer and a length, never NUL-terminated, never owned.
 *
 * What a peer sends may hold NUL, so it is not a C string until one named function made it one (bytes_dup).
 * A struct bytes borrows: it lives as long as the buffer that it points into.
 */
#ifndef BASE_BYTES_H
#define BASE_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct bytes {
    const char *p;
    size_t n;
};

#define BYTES(literal) ((struct bytes){(literal), sizeof(literal) - 1})
#define BYTES_FMT(b)   (int)(b).n, (b).p /* for "%.*s" */

static inline struct bytes bytes(const char *p, size_t n)
{
    return (struct bytes){p, n};
}

static inline struct bytes bytes_of(const char *text)
{
    return (struct bytes){text, strlen(text)};
}

static inline bool bytes_eq(struct bytes a, struct bytes b)
{
    return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}
bool bytes_same_letters(const char *a, const char *b, size_t n); /* for bytes_ieq() */
/* ASCII letters without case. */
static inline bool bytes_ieq(struct bytes a, struct bytes b)
{
    return a.n == b.n && bytes_same_letters(a.p, b.p, a.n);
}
bool bytes_has_prefix(struct bytes b, struct bytes prefix);
bool bytes_has_iprefix(struct bytes b, struct bytes prefix);
bool bytes_has_isuffix(struct bytes b, struct bytes suffix);

/* First place of the character or the text; SIZE_MAX when absent. */
static inline size_t bytes_chr(struct bytes b, char c)
{
    const char *found = b.n ? (const char *)memchr(b.p, c, b.n) : NULL;

    return found ? (size_t)(found - b.p) : SIZE_MAX;
}
size_t bytes_rchr(struct bytes b, char c);
size_t bytes_find(struct bytes b, struct bytes needle);

/* What is left without the first n bytes (n is cut to the length). */
static inline struct bytes bytes_skip(struct bytes b, size_t n)
{
    if (b.p == NULL)
        return b;
    if (n > b.n)
        n = b.n;
    return bytes(b.p + n, b.n - n);
}
/* Without blanks, tabs, CR and LF at both ends. */
struct bytes bytes_trim(struct bytes b);
/* The text up to the separator, which is removed from *rest together with it; all of *rest when there is
 * none. */
struct bytes bytes_cut(struct bytes *rest, char separator);
/* The next run of characters that are not in `blanks` (which are below '@'); empty at the end of *rest. */
struct bytes bytes_word(struct bytes *rest, const char *blanks);

/* Only decimal digits, at least one, at most `max`: true and *out_r set; else false. */
bool bytes_to_u64(struct bytes b, uint64_t max, uint64_t *out_r);

/* Length of the UTF-8 sequence that the text begins with (RFC 3629; 1 for ASCII); 0 when it is none. */
size_t bytes_utf8_length(struct bytes b);
bool bytes_is_utf8(struct bytes b);
/* How many bytes at the beginning are printable ASCII. */
size_t bytes_print_run(struct bytes b);

/* A NUL-terminated copy owned by ctx. A NUL inside the text stays, and ends the C string early. */
char *bytes_dup(const void *ctx, struct bytes b);
/* The same in lower case (ASCII). */
char *bytes_dup_lower(const void *ctx, struct bytes b);

/* ASCII only, independent of the locale. */
static inline int ascii_lower(int c)
{
    return c >= 'A' && c <= 'Z' ? c + 32 : c;
}
static inline int ascii_upper(int c)
{
    return c >= 'a' && c <= 'z' ? c - 32 : c;
}
static inline bool ascii_is_digit(int c)
{
    return c >= '0' && c <= '9';
}
static inline bool ascii_is_alpha(int c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}
static inline bool ascii_is_blank(int c)
{
    return c == ' ' || c == '\t';
}
static inline bool ascii_is_print(int c)
{
    return c >= 32 && c < 127;
}

#endif
