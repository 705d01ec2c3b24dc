/*
 * The attribute protocol between our daemons: a request is lines "name=value" LF, ended by an empty line; so
 * is the answer. A value has its bytes below 33, above 126, '%' and '=' as %XX, so any text passes. At most
 * 1000 attributes of at most 64 KB in all; more, or a malformed line, is IO_RESET.
 */
#ifndef IO_IO_ATTR_H
#define IO_IO_ATTR_H

#include "buf.h"
#include "io.h"

struct io_attr {
    char *name;
    char *value;
};
struct io_attrs {
    struct io_attr *at;
    size_t n;
};

/* Builds a request in memory; names may repeat (a list). */
void io_attr_add(struct buf *out, const char *name, const char *value);
void io_attr_addf(struct buf *out, const char *name, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
void io_attr_end(struct buf *out);

/* Reads one request or answer; owned by ctx. IO_CLOSED before the first byte: the other side is done. */
co_fn enum io_end io_attr_read(const void *ctx, struct io_stream *s, uint64_t deadline,
                               struct io_attrs *out_r);
/* The first value of a name, or NULL. */
const char *io_attr_get(const struct io_attrs *a, const char *name);

#endif
