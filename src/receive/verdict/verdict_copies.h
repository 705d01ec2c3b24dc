/*
 * What the workers of a host tell each other of messages in hand: for each worker a row that it alone writes,
 * with how many copies it has for each hint, since when the oldest of those exists whose client has left, and
 * how far the worker's loop is; also, whether it is at work on the database just now. In anonymous memory: it
 * is written at each message.
 */
#ifndef VERDICT_VERDICT_COPIES_H
#define VERDICT_VERDICT_COPIES_H

#include "co.h"
#include "verdict_store.h"

enum { VERDICT_WORKERS = 256, VERDICT_SLOTS = 4096 };

struct verdict_row {
    _Alignas(64) struct co_progress progress;
    atomic_uint in_hand[VERDICT_SLOTS];
    atomic_uint_fast64_t left_us[VERDICT_SLOTS]; /* MAIL of the oldest copy without its client; 0: none */
    struct verdict_touch touch;
};

struct verdict_copies {
    atomic_uint workers;   /* ids in use are below */
    int bell;              /* an eventfd that all loops hear */
    atomic_uint suspected; /* deaths of workers that were at work on the database, */
    atomic_uint proven;    /* as many as had happened when it was proven last */
    struct verdict_row rows[VERDICT_WORKERS];
};

/* Before the fork. Ends the process when there is no memory. Lives as long as the process. */
struct verdict_copies *verdict_copies_new(void);
/* The row of this process, from now on; its loop tells in it how far it is. */
void verdict_copies_enter(struct verdict_copies *all, unsigned worker);
/* All that a dead worker left; what it may have died of is suspected. */
void verdict_copies_forget(struct verdict_copies *all, unsigned worker);

#endif
