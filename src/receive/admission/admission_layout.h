/*
 * The shared memory, from end to end: fixed sizes, indexes in place of pointers, so that it means the same in
 * every process. NOBODY ends a list. What one message or record says about itself is the truth; lists, heaps
 * and sums are made from it again when a process died in the middle of a change (admission_repair.c). Numbers
 * and records go to a file as they are here (admission_file.c).
 */
#ifndef ADMISSION_ADMISSION_LAYOUT_H
#define ADMISSION_ADMISSION_LAYOUT_H

#include "admission.h"
#include "admission_ladder.h"
#include "admission_limit.h"
#include "admission_predict.h"
#include "shared.h"

#include <stdatomic.h>

#define ADMISSION_NOBODY UINT32_MAX

enum { ADMISSION_CLIENTS = 65536, ADMISSION_BITS = (ADMISSION_WORKERS + 64) / 64 };

/* ---- clients ---- */

enum admission_standing {
    ADMISSION_NO_LINE,
    ADMISSION_REFUSED, /* once: may be one that never comes back */
    ADMISSION_IN_LINE,
    ADMISSION_CALLED,
    ADMISSION_WELCOME, /* called or to be called and not come in time, or let in and got no verdict */
};
struct admission_record {
    struct admission_key key;
    uint32_t first_seen, last_seen; /* seconds of the time of day */
    uint32_t accepted, rejected;    /* halved every half-life */
    uint32_t aged;                  /* half-lives since 1970 when they were last halved */
    uint32_t is_used;
    /* While running only: */
    uint32_t next;         /* in its bucket, index + 1; 0 ends */
    uint32_t prev, behind; /* in line or among the called */
    uint16_t held;         /* messages that refer to it */
    uint8_t standing;      /* enum admission_standing */
    uint8_t pool, class;   /* whose line */
    uint64_t refused_ms, tried_ms, called_ms;
};

/* ---- messages ---- */

enum admission_state {
    ADMISSION_FREE,
    ADMISSION_COMING,  /* let in, body on its way; its work is counted until `due` */
    ADMISSION_STALE,   /* the same, not counted any more */
    ADMISSION_WAITING, /* complete */
    ADMISSION_RUNNING, /* has a slot */
};
struct admission_message {
    uint32_t generation;
    uint8_t state; /* enum admission_state */
    uint8_t pool, class;
    uint8_t is_told; /* RUNNING: its worker knows */
    uint8_t was_called;
    uint16_t worker;
    uint16_t heap_at;    /* WAITING: place in the heap */
    uint32_t client;     /* record, or NOBODY */
    uint32_t prev, next; /* in the free list, the list of the coming or stale, or its worker's mailbox */
    uint32_t work_ms;
    uint64_t since; /* when it came into this state */
    uint64_t due;   /* COMING: see above; WAITING: the latest start for an answer in time */
};
struct admission_list {
    uint32_t first, last;
};

/* ---- pools ---- */

/* Least `due` first. */
struct admission_heap {
    uint32_t n;
    uint16_t at[ADMISSION_MESSAGES];
};
/* Refused clients, by their first refusal; called ones, by their call. */
struct admission_line {
    uint32_t first, last;
    uint32_t called_first, called_last;
    double return_ms; /* how long a called client takes to come back, on average */
    double returns;   /* which part of them does */
};
struct admission_queue {
    struct admission_heap heap;
    struct admission_line line;
    uint64_t waiting_ms, coming_ms, running_ms; /* sums of work_ms */
    double elsewhere_ms;   /* work that went by cheap or hold within about the patience */
    uint64_t elsewhere_at; /* of that moment */
    uint64_t step_since;
    double turn; /* virtual time of its next turn */
};
struct admission_settings {
    uint32_t most, least; /* slots */
    uint32_t is_adaptive;
    uint32_t reserve_ms;
    uint32_t good_messages, good_reject_percent, good_age, half_life; /* the last two in seconds */
    uint32_t patience_ms[ADMISSION_CLASSES], share[ADMISSION_CLASSES];
    struct admission_ladder ladder[ADMISSION_CLASSES];
};
struct admission_pool {
    uint64_t hash;                  /* of its name */
    uint64_t users[ADMISSION_BITS]; /* workers that have opened it, a bit each */
    struct admission_settings set;
    struct admission_limit limit;
    struct admission_predict predict;
    struct admission_list coming;
    uint64_t busy_since; /* the last time that the filter answered, or something began on an idle one */
    uint32_t is_silent;  /* it has not answered while the last that was lost waited for it, nor since */
    double turn;         /* virtual time of the last turn */
    double body_ms;      /* from MAIL to end of data, on average */
    struct admission_pool_numbers n;
    struct admission_queue queues[ADMISSION_CLASSES];
};

/* ---- all of it ---- */

struct admission_mailbox {
    uint32_t first;      /* RUNNING messages whose worker does not know yet */
    uint32_t is_pending; /* its eventfd was written and not yet read */
};
/* How far the file is behind (admission_save.c). Not under the lock. */
struct admission_saving {
    atomic_bool is_behind;
    atomic_uint_fast64_t taken_until; /* until then a worker sees to it; 0: none does. clock_ms() */
    atomic_uint_fast64_t records_ms;  /* when it got the records last */
};
struct admission_shared {
    struct shared_lock lock;
    struct admission_saving saving;
    uint64_t since_us;
    uint32_t clients, repairs;
    uint32_t hand; /* where the search for an old record goes on */
    uint32_t free; /* list of messages; those from `untouched` on were never used */
    uint32_t untouched;
    struct admission_list stale;
    struct admission_mailbox workers[ADMISSION_WORKERS + 1];
    struct admission_pool pools[ADMISSION_POOLS];
    struct admission_message messages[ADMISSION_MESSAGES];
    uint32_t buckets[ADMISSION_CLIENTS]; /* index + 1; 0: empty */
    struct admission_record records[ADMISSION_CLIENTS];
};

#endif
