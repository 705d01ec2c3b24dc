/*
 * What the workers of a host share: running scans whose client has left, tombstones of verdicts that were
 * heard and are still on disk, counters, and how many kept verdicts there are for each hint.
 *
 * The mapping is a file, $data_directory/verdicts.state, so that a tool can read the counters; when the file
 * cannot be made it is anonymous memory. It begins anew with each master. A robust lock guards the runs; who
 * dies inside leaves counts that the next one makes right.
 */
#ifndef VERDICT_VERDICT_SHARED_H
#define VERDICT_VERDICT_SHARED_H

#include "shared.h"
#include "verdict.h"

#include <stdatomic.h>

/* A key has one set of places, given by its first bytes: nothing is linked, so nothing can be left half
 * linked. */
enum { VERDICT_SETS = 512, VERDICT_WAYS = 16, VERDICT_HINTS = 1 << 16, VERDICT_RUN_LIMIT_MS = 3600 * 1000 };

enum verdict_counter {
    VERDICT_ENTRIES,
    VERDICT_RUNS,
    VERDICT_KEPT,
    VERDICT_HITS,
    VERDICT_HEARD,
    VERDICT_EXPIRED,
    VERDICT_EVICTED,
    VERDICT_WAITS,
    VERDICT_COUNTERS
};

enum verdict_state {
    VERDICT_NONE,    /* a free place */
    VERDICT_SCANNED, /* its client has left */
    VERDICT_GONE,    /* was heard; the database does not know yet */
};

struct verdict_run {
    unsigned char hash[32];
    uint64_t since_ms;
    uint32_t hint;
    uint16_t worker;
    uint16_t state;
};

struct verdict_shared {
    struct shared_head head;
    atomic_uint_fast64_t counters[VERDICT_COUNTERS];
    /* ---- up to here read by tools ---- */
    atomic_uint_fast64_t changes; /* runs that ended: who waits looks again */
    atomic_uint_fast64_t
        accounted; /* the database's transaction that kept_hints and VERDICT_ENTRIES stand for */
    atomic_uint_fast64_t swept_ms;         /* when expired verdicts were looked for last; 0: never */
    atomic_uint generation;                /* databases that were moved aside */
    struct shared_lock lock;               /* runs; never held while a disk works */
    struct shared_lock moving;             /* of the database, aside */
    atomic_uint run_hints[VERDICT_HINTS];  /* running scans; changed under the lock */
    atomic_uint kept_hints[VERDICT_HINTS]; /* kept verdicts; changed in a write transaction */
    struct verdict_run runs[VERDICT_SETS][VERDICT_WAYS];
};

/* directory: $data_directory. Ends the process when there is no memory. Lives as long as the process. */
struct verdict_shared *verdict_shared_new(const char *directory);
/* The counters of the file in the directory. */
bool verdict_shared_read(const char *directory, uint64_t counters_r[VERDICT_COUNTERS]);

void verdict_shared_lock(struct verdict_shared *s);
void verdict_shared_unlock(struct verdict_shared *s);

/* Puts a run or a tombstone of the worker there; false: its places are full. */
bool verdict_shared_add(struct verdict_shared *s, const struct verdict_key *key, unsigned worker,
                        enum verdict_state state);
/* Takes one away, if it is there, and tells those who wait. */
void verdict_shared_remove(struct verdict_shared *s, const struct verdict_key *key, unsigned worker,
                           enum verdict_state state);
/* A run if there is one, else a tombstone, else VERDICT_NONE. */
enum verdict_state verdict_shared_find(struct verdict_shared *s, const struct verdict_key *key);
/* Whether this worker has a run of the key. */
bool verdict_shared_has(struct verdict_shared *s, const struct verdict_key *key, unsigned worker);
/* All that a dead worker left. */
void verdict_shared_forget(struct verdict_shared *s, unsigned worker);

static inline uint64_t verdict_shared_get(const struct verdict_shared *s, enum verdict_counter which)
{
    return atomic_load(&s->counters[which]);
}

static inline void verdict_shared_count(struct verdict_shared *s, enum verdict_counter which)
{
    atomic_fetch_add_explicit(&s->counters[which], 1, memory_order_relaxed);
}

static inline size_t verdict_shared_slot(uint32_t hint)
{
    return hint % VERDICT_HINTS;
}

#endif
