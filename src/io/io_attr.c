/* The attribute protocol between our daemons. See io_attr.h. */
#include "io_attr.h"

#include "mem.h"

#include <stdarg.h>

enum { ATTR_LIMIT = 1000, BYTES_LIMIT = 65536 };

static void add_escaped(struct buf *out, const char *text)
{
    static const char hex[] = "0123456789ABCDEF";

    for (const unsigned char *p = (const unsigned char *)text; *p; p++) {
        if (*p < 33 || *p > 126 || *p == '%' || *p == '=') {
            buf_addc(out, '%');
            buf_addc(out, hex[*p >> 4]);
            buf_addc(out, hex[*p & 15]);
        } else {
            buf_addc(out, (char)*p);
        }
    }
}

void io_attr_add(struct buf *out, const char *name, const char *value)
{
    buf_adds(out, name);
    buf_addc(out, '=');
    add_escaped(out, value);
    buf_addc(out, '\n');
}

void io_attr_addf(struct buf *out, const char *name, const char *fmt, ...)
{
    va_list args;
    char *text;

    va_start(args, fmt);
    text = mem_vprintf(NULL, fmt, args);
    va_end(args);
    io_attr_add(out, name, text);
    talloc_free(text);
}

void io_attr_end(struct buf *out)
{
    buf_addc(out, '\n');
}

static int hex_value(char c)
{
    if (ascii_is_digit(c))
        return c - '0';
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

static char *unescape(const void *ctx, struct bytes text)
{
    char *out = mem_bytes(ctx, text.n + 1);
    size_t n = 0;

    for (size_t i = 0; i < text.n; i++) {
        int high, low;

        if (text.p[i] != '%') {
            out[n++] = text.p[i];
            continue;
        }
        if (i + 2 >= text.n || (high = hex_value(text.p[i + 1])) < 0 ||
            (low = hex_value(text.p[i + 2])) < 0 || high + low == 0) {
            talloc_free(out);
            return NULL;
        }
        out[n++] = (char)(high << 4 | low);
        i += 2;
    }
    out[n] = '\0';
    return out;
}

static bool add_line(const void *ctx, struct bytes line, struct io_attrs *out)
{
    struct bytes name = bytes_cut(&line, '=');
    char *value;

    if (name.n == 0 || out->n == ATTR_LIMIT || name.p + name.n == line.p)
        return false; /* no '=' */
    value = unescape(ctx, line);
    if (value == NULL)
        return false;
    out->at = mem_grow(ctx, out->at, out->n + 1);
    out->at[out->n++] = (struct io_attr){bytes_dup(ctx, name), value};
    return true;
}

co_fn enum io_end io_attr_read(const void *ctx, struct io_stream *s, uint64_t deadline,
                               struct io_attrs *out_r)
{
    size_t total = 0;

    *out_r = (struct io_attrs){0};
    for (;;) {
        struct bytes seen = io_buffered(s);
        size_t at = bytes_chr(seen, '\n');
        enum io_end end;

        if (at == SIZE_MAX) {
            end = io_fill(s, deadline);
            if (end == IO_OK)
                continue;
            return end == IO_CLOSED && total + seen.n > 0 ? IO_RESET : end == IO_FULL ? IO_RESET : end;
        }
        total += at + 1;
        if (total > BYTES_LIMIT)
            return IO_RESET;
        if (at == 0) {
            io_consume(s, 1);
            return IO_OK;
        }
        if (!add_line(ctx, bytes(seen.p, at), out_r))
            return IO_RESET;
        io_consume(s, at + 1);
    }
}

const char *io_attr_get(const struct io_attrs *a, const char *name)
{
    for (size_t i = 0; i < a->n; i++)
        if (strcmp(a->at[i].name, name) == 0)
            return a->at[i].value;
    return NULL;
}
