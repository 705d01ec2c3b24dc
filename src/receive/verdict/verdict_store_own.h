/* Inside the database of kept verdicts: what verdict_store.c and verdict_store_write.c share. */
#ifndef VERDICT_VERDICT_STORE_OWN_H
#define VERDICT_VERDICT_STORE_OWN_H

#include "verdict_store.h"

#include <lmdb.h>

enum {
    VERDICT_HASH_SIZE = 32,
    VERDICT_TIME_SIZE = 8,
    VERDICT_TIME_KEY_SIZE = VERDICT_TIME_SIZE + VERDICT_HASH_SIZE
};

struct verdict_store {
    struct verdict_store_conf conf;
    unsigned generation;
    MDB_env *env;
    MDB_txn *reader; /* reset between lookups */
    MDB_dbi verdicts, times;
};

static inline MDB_val verdict_store_value(const void *p, size_t n)
{
    return (MDB_val){.mv_size = n, .mv_data = (void *)(uintptr_t)p};
}

static inline void verdict_store_touch(atomic_bool *by, bool begins)
{
    atomic_signal_fence(memory_order_seq_cst);
    atomic_store_explicit(by, begins, memory_order_relaxed);
    atomic_signal_fence(memory_order_seq_cst);
}

/* The record of the hash, good and whole; its text is borrowed from the transaction. */
bool verdict_store_find(MDB_txn *txn, const struct verdict_store *s,
                        const unsigned char hash[VERDICT_HASH_SIZE], struct verdict_record *r);
bool verdict_store_is_expired(const struct verdict_store *s, uint64_t kept_us);

#endif
