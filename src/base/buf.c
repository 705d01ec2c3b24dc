/* A growing run of bytes. See buf.h. */
#include "buf.h"

#include "format.h"
#include "mem.h"

#include <assert.h>
#include <stdlib.h>

enum { FIRST_ROOM = 256 }; /* a line or a reply: most buffers never grow */

void buf_grow(struct buf *b, size_t more)
{
    size_t room = b->room ? b->room : FIRST_ROOM;

    while (room - b->n <= more)
        room *= 2;
    b->p = mem_realloc(b->p, room);
    b->room = room;
}

void buf_addu(struct buf *b, uint64_t number)
{
    char text[20], *end = text + sizeof(text), *p = end; /* the digits of 2^64 */

    do
        *--p = (char)('0' + number % 10);
    while ((number /= 10) > 0);
    buf_add(b, bytes(p, (size_t)(end - p)));
}

void buf_addv(struct buf *b, const char *fmt, va_list args)
{
    va_list again;
    int n;

    va_copy(again, args);
    buf_reserve(b, 0);
    n = format_text(b->p + b->n, b->room - b->n, fmt, args);
    assert(n >= 0);
    if ((size_t)n >= b->room - b->n) {
        buf_reserve(b, (size_t)n);
        format_text(b->p + b->n, b->room - b->n, fmt, again);
    }
    b->n += (size_t)n;
    va_end(again);
}

void buf_addf(struct buf *b, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    buf_addv(b, fmt, args);
    va_end(args);
}

void buf_cut(struct buf *b, size_t n)
{
    if (n >= b->n)
        return;
    b->n = n;
    b->p[n] = '\0';
}

void buf_drop(struct buf *b, size_t n)
{
    if (n > b->n)
        n = b->n;
    if (n == 0)
        return;
    memmove(b->p, b->p + n, b->n - n + 1);
    b->n -= n;
}

void buf_deinit(struct buf *b)
{
    free(b->p);
    *b = (struct buf){0};
}
