/*
 * The sessions of one service, counted over all its workers in shared memory.
 *
 * Each worker owns one counter, and the sum of all is compared with the limit; so nothing is lost when a
 * worker dies between two instructions: master clears its counter, and there is no other state to repair. Two
 * workers that take the last place in the same instant may both be told to wait; they try again within
 * MASTER_QUOTA_RETRY_MS.
 */
#ifndef RUN_MASTER_MASTER_QUOTA_H
#define RUN_MASTER_MASTER_QUOTA_H

#include "co.h"
#include "error.h"

#include <stdbool.h>
#include <stdint.h>

enum {
    MASTER_SERVICES = 128,
    MASTER_WORKERS = 256,
    MASTER_QUOTA_RETRY_MS = 200,
    MASTER_QUOTA_WARN_MS = 1000000
};

struct master_quota;

/* From now on the counters are in DIR/sessions (mode 0640), where `sallyport top` reads them; a file that is
 * there is replaced. Before the first master_quota_new; without it, or when it fails (logged), nobody else
 * sees them. */
void master_quota_prepare(const char *data_directory);
/* Of a service ("inet smtp"), MASTER_SERVICES at most. Before any fork. Freed with talloc_free. */
struct master_quota *master_quota_new(const void *ctx, const char *service);
void master_quota_set_limit(struct master_quota *q, unsigned limit); /* 0: none */
unsigned master_quota_limit(const struct master_quota *q);
unsigned master_quota_used(const struct master_quota *q);
unsigned master_quota_used_by(const struct master_quota *q, unsigned worker);

/* A place for one more session of this worker; false: the limit is reached. Never waits. */
bool master_quota_try(struct master_quota *q, unsigned worker);
void master_quota_give(struct master_quota *q, unsigned worker);
/* After false: until a place may have become free, at most until the deadline. */
co_fn enum co_end master_quota_wait(struct master_quota *q, uint64_t deadline);
/* A dead worker's places are free again. */
void master_quota_forget(struct master_quota *q, unsigned worker);

/*
 * Stress, as Postfix has it: begins when a session takes the last place or waits for one, and ends when that
 * was not so for `ms`; 0: never begins. Both are logged once.
 */
void master_quota_set_stress(struct master_quota *q, uint64_t ms);
/* When it ends unless it is prolonged, clock_ms(); 0: there is none. */
uint64_t master_quota_stressed_until(struct master_quota *q);

/*
 * Which worker takes the connections. A message costs less when its loop has others in hand in the same turn,
 * so few workers do what few can do: the first as long as it has time to spare, then the next one, too. One
 * has time when its loop used less than this share of a processor lately; one that hangs, or is gone, has
 * none soon. Sessions stay where they are when that gets busy, so the first one with MASTER_QUOTA_AHEAD more
 * of them than another gives its place to that.
 */
enum { MASTER_QUOTA_AHEAD = 128 };
void master_quota_set_busy_share(struct master_quota *q, unsigned percent); /* 0: none ever has time */
/* This worker, in its loop's thread: it takes connections, or has stopped. At each connection, and when that
 * changes. */
void master_quota_takes(struct master_quota *q, unsigned worker, bool takes);
/* Whether a worker before this one takes connections and has time. */
bool master_quota_is_spare(const struct master_quota *q, unsigned worker);

/* True for one caller of all workers, at most once in MASTER_QUOTA_WARN_MS. */
bool master_quota_may_warn(struct master_quota *q);

/* Closes the descriptor in a child that belongs to another service. */
void master_quota_close(struct master_quota *q);

/* What the counters say now. Services that are gone have no name. */
struct master_sessions {
    char service[64];
    unsigned limit; /* 0: none */
    unsigned used;
    bool is_stressed;
    unsigned long long taken; /* places given out since master started */
};
struct error *master_quota_snapshot(const char *data_directory,
                                    struct master_sessions out_r[MASTER_SERVICES]);

#endif
