/* Inside receive/verdict: the memory as one worker has it. */
#ifndef VERDICT_VERDICT_PRIVATE_H
#define VERDICT_VERDICT_PRIVATE_H

#include "verdict.h"
#include "verdict_copies.h"
#include "verdict_shared.h"
#include "verdict_store.h"

#include <openssl/types.h>

/* A coroutine that looks again when something may have changed; on its own stack. */
struct verdict_waiter {
    struct co *co;
    struct verdict_waiter *prev, *next;
};

/* Writes in the order in which they were asked for. */
struct verdict_ops {
    struct verdict_op *first, **last;
    size_t n;
};

struct verdict {
    struct verdict_shared *shared; /* NULL: smtpd_proxy_verdict_memory is off */
    struct verdict_copies *copies; /* NULL likewise */
    struct verdict_copy *left;     /* of this worker, without their clients */
    char *filter;
    unsigned worker;
    EVP_MD *sha256;
    struct verdict_store_conf store_conf;
    struct verdict_store *store; /* NULL: no database for now */
    uint64_t reopen_ms;          /* when it is tried again */
    bool is_warned;              /* the present trouble was logged */

    /* ---- verdict_writer.c ---- */
    struct verdict_ops queued;
    struct verdict_ops undone; /* what must be forgotten, and could not be written so far */
    uint64_t retry_ms;         /* when that is tried again, if nothing else is written before */
    uint64_t asked, done;      /* writes, ever; done is what was tried, too */
    bool is_writing;

    /* ---- verdict_wait.c ---- */
    struct verdict_waiter *waiters;
    bool is_watching;

    /* ---- verdict_copy.c ---- */
    struct verdict_waiter *steps; /* for the next step of time */
    bool is_stepping;
};

/* verdict_key.c */
uint32_t verdict_hint(const char *filter, const struct mail_envelope *e, uint64_t content_size);

/* ---- verdict_check.c ---- */

/* For master: proves the database in the directory and counts it, and moves a damaged one aside. */
void verdict_check(const char *directory, struct verdict_shared *shared);
/* For a worker: proves it, and leaves it where it is. */
bool verdict_check_finds_damage(const char *directory);

/* ---- verdict_writer.c ---- */

/* The database, opened anew when another worker has moved it aside, or when it is time to try again; NULL. */
struct verdict_store *verdict_writer_store(struct verdict *m);

/* Moves it aside for all workers, unless that was done since it had this generation. */
void verdict_writer_give_up(struct verdict *m, unsigned generation);

/* Queues a write; false: too many are queued, or there is no database. The run of the key that this worker
 * has is removed when the write is done, or has failed. */
bool verdict_writer_put(struct verdict *m, struct verdict_key *key, const struct mail_reply *reply);
/* Queues one that is tried again until it is done; then the tombstone is removed. False: too many are queued.
 */
bool verdict_writer_drop(struct verdict *m, const struct verdict_key *key);
/* Looks for expired verdicts, and counts anew when somebody else has written. */
void verdict_writer_sweep(struct verdict *m);
/* Time to try again what failed. */
bool verdict_writer_is_due(const struct verdict *m);
/* Until everything queued so far was tried. */
co_fn enum co_end verdict_writer_wait(struct verdict *m, uint64_t deadline);

/* ---- verdict_wait.c ---- */

void verdict_waiter_begin(struct verdict *m, struct verdict_waiter *w);
void verdict_waiter_end(struct verdict *m, struct verdict_waiter *w);
void verdict_wake(struct verdict *m); /* all of this worker */

/* ---- verdict.c ---- */

/* The reply kept under the key. */
bool verdict_recall(struct verdict *m, struct verdict_key *key, struct mail_reply *reply_r);

#endif
