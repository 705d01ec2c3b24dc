/*
 * The database of kept verdicts: LMDB, two tables in one file. "verdicts" holds records by hash, "times"
 * holds (time kept, hash) in order, so that the oldest are found first.
 *
 * Reading is in place and takes no lock. A write transaction carries many changes and ends with one
 * fdatasync; it also drops what has expired or is too much, and keeps account of it in the shared memory:
 * kept_hints and VERDICT_ENTRIES are right as long as `accounted` is the number of the database's last
 * transaction. Any other number (a worker was killed half way, a former master's worker has written) makes
 * the next writer count anew.
 */
#ifndef VERDICT_VERDICT_STORE_H
#define VERDICT_VERDICT_STORE_H

#include "verdict_record.h"
#include "verdict_shared.h"

/* Set while the map is touched: a process that ends meanwhile may have died of what is in the file. */
struct verdict_touch {
    atomic_bool by_loop, by_thread;
};

struct verdict_store_conf {
    const char *directory; /* $data_directory */
    struct verdict_shared *shared;
    struct verdict_touch *touch; /* NULL: nobody wants to know */
    uint64_t lifetime_us;
    size_t limit; /* entries */
};

struct verdict_store;

/* 0, or LMDB's code. Only a new database waits for its writer, who may have a disk that hangs. conf's texts
 * must outlive the store. Owned by ctx; freeing it closes. */
int verdict_store_open(const void *ctx, const struct verdict_store_conf *conf,
                       struct verdict_store **store_r);

/* No other worker has moved this database aside. */
bool verdict_store_is_current(const struct verdict_store *s);
/* The shared numbers stand for what is in it. */
bool verdict_store_is_accounted(const struct verdict_store *s);

/* The reply kept under the key, and key->kept_us; false: none, or one past its lifetime. */
bool verdict_store_get(struct verdict_store *s, struct verdict_key *key, struct mail_reply *reply_r);

enum verdict_op_kind {
    VERDICT_PUT, /* a 5xx does not replace a 2xx */
    VERDICT_DROP /* unless it was kept after at_us */,
    VERDICT_SWEEP,
};

struct verdict_op {
    enum verdict_op_kind kind;
    struct verdict_key key;
    uint64_t at_us;
    int code;
    unsigned char *record; /* VERDICT_PUT */
    size_t record_size;
    struct verdict_op *next;
};

/* All of them in one transaction; any thread, one at a time. 0, or LMDB's code: then nothing was changed. */
int verdict_store_write(struct verdict_store *s, const struct verdict_op *ops);
/* The code means that the file is not what LMDB wrote. */
bool verdict_store_is_damage(int code);
const char *verdict_store_text(int code);

/* Moves the database aside, to verdicts.bad, in place of one that is there. False with errno. */
bool verdict_store_move_aside(const char *directory);
/* The same for a worker: once for all workers, one at a time. The store must be closed. */
bool verdict_store_give_up(const struct verdict_store_conf *conf, unsigned generation);
unsigned verdict_store_generation(const struct verdict_store *s);

/* Reads all of the database, in a process that may die of it: 0, or LMDB's code. Waits for no writer. */
int verdict_store_walk(const char *directory);
/* Makes the shared numbers stand for what is in it. */
int verdict_store_account(const char *directory, struct verdict_shared *shared);

#endif
