/*
 * A growing run of bytes in the caller's memory: struct buf b = {0}; ... buf_deinit(&b).
 *
 * p[n] is always a NUL when p is set, so that p is a C string as long as no NUL was added. The caller bounds
 * n: a buffer grows with what is added to it, so nothing from the wire is added before its length was
 * checked.
 */
#ifndef BASE_BUF_H
#define BASE_BUF_H

#include "bytes.h"

#include <stdarg.h>

struct buf {
    char *p;
    size_t n;
    size_t room;
};

void buf_grow(struct buf *b, size_t more); /* for buf_reserve() */

/* Room for `more` bytes after n. */
static inline void buf_reserve(struct buf *b, size_t more)
{
    if (b->room - b->n <= more) /* one byte is kept for the NUL */
        buf_grow(b, more);
}

static inline void buf_add(struct buf *b, struct bytes text)
{
    buf_reserve(b, text.n);
    if (text.n > 0)
        memcpy(b->p + b->n, text.p, text.n);
    b->n += text.n;
    b->p[b->n] = '\0';
}

static inline void buf_addc(struct buf *b, char c)
{
    buf_reserve(b, 1);
    b->p[b->n++] = c;
    b->p[b->n] = '\0';
}

static inline void buf_adds(struct buf *b, const char *text)
{
    buf_add(b, bytes_of(text));
}

void buf_addu(struct buf *b, uint64_t number); /* decimal */
void buf_addf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void buf_addv(struct buf *b, const char *fmt, va_list args) __attribute__((format(printf, 2, 0)));
void buf_cut(struct buf *b, size_t n);  /* keep the first n bytes */
void buf_drop(struct buf *b, size_t n); /* forget the first n bytes */
void buf_deinit(struct buf *b);

static inline struct bytes buf_bytes(const struct buf *b)
{
    return bytes(b->p, b->n);
}

/* The content as a C string, "" when nothing was added; borrowed until the next change. */
static inline const char *buf_text(const struct buf *b)
{
    return b->p ? b->p : "";
}

#endif
