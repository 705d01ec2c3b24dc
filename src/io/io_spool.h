/*
 * A message's content while it is in our hands: in memory up to a limit, then in an unlinked temporary file.
 *
 * Written front to back, read any number of times. The memory of all spools of the process together is
 * bounded by a budget; beyond it, each keeps 4 KB at most, and the rest of new content goes to files. These
 * are written and read on the thread pool, in pieces of 128 KB at most.
 */
#ifndef IO_IO_SPOOL_H
#define IO_IO_SPOOL_H

#include "io.h"

struct io_spool_conf {
    const char *dir;     /* where temporary files are made; on the disk of the queue */
    size_t memory_limit; /* bytes of one spool in memory */
};

struct io_spool;

/* Borrows *conf. Freed with talloc_free or with ctx. */
struct io_spool *io_spool_new(const void *ctx, const struct io_spool_conf *conf);
/* Appends. A disk that is full or broken: an error now and at every later call. */
co_fn struct error *io_spool_write(struct io_spool *s, struct bytes text);
uint64_t io_spool_size(const struct io_spool *s);
/* The bytes from `offset` on, as many as are at hand (at least one unless at the end: then *piece_r is
 * empty). Borrowed until the next call on this spool. */
co_fn struct error *io_spool_read(struct io_spool *s, uint64_t offset, struct bytes *piece_r);
/* True when all of it is in memory: then one coroutine's pieces do not disturb another's. */
bool io_spool_is_in_memory(const struct io_spool *s);
/* A second reader of what was written, on its own descriptor. Not while somebody reads or writes. NULL: no
 * descriptor. */
struct io_spool *io_spool_clone(const void *ctx, const struct io_spool *s);
/* Forgets the content, for a new message. */
void io_spool_reset(struct io_spool *s);

/* Bytes that all spools of this process may keep in memory together (default 64 MB). */
void io_spool_set_budget(size_t bytes);
/* Bytes that they keep now. */
size_t io_spool_memory(void);

#endif
