/*
 * The decisions, on the shared memory and a time that the caller gives. Pure: no lock, no clock, no wake-up;
 * what the caller must do afterwards is in struct admission_news.
 */
#ifndef ADMISSION_ADMISSION_CORE_H
#define ADMISSION_ADMISSION_CORE_H

#include "admission_layout.h"

struct admission_time {
    uint64_t ms;     /* clock_ms() */
    uint32_t real_s; /* seconds of the time of day */
};

enum { ADMISSION_NEWS = ADMISSION_CLASSES };
struct admission_change {
    uint8_t pool, class, from, to; /* steps */
    uint32_t pressure;
};
/* Gathered over calls; begins zeroed. */
struct admission_news {
    uint64_t told[ADMISSION_BITS]; /* workers whose mailbox must be announced: a bit each */
    unsigned changes;
    struct admission_change change[ADMISSION_NEWS];
};
bool admission_news_tells(const struct admission_news *news, unsigned worker);

void admission_core_init(struct admission_shared *s, uint64_t real_us);
/* The pool of this name for the worker, made if need be; ADMISSION_POOLS when all are in use. */
unsigned admission_core_pool(struct admission_shared *s, const char *name, uint64_t hash, unsigned worker,
                             const struct admission_settings *set, uint64_t now);

struct admission_answer admission_core_judge(struct admission_shared *s, unsigned pool, unsigned worker,
                                             const struct admission_client *who, uint64_t bytes,
                                             struct admission_time now, struct admission_ticket *t,
                                             struct admission_news *news);
/* The message is complete. GRANTED: it has its slot. LATE: it waits, until t->deadline at most to be
 * answered, *until_r at most for a slot; its worker will find it in its mailbox. FULL_UP: neither. */
enum admission_end admission_core_take(struct admission_shared *s, unsigned pool, unsigned worker,
                                       uint64_t bytes, uint64_t deadline, struct admission_time now,
                                       struct admission_ticket *t, uint64_t *until_r,
                                       struct admission_news *news);
void admission_core_give(struct admission_shared *s, struct admission_ticket *t,
                         enum admission_outcome outcome, uint32_t service_ms, uint64_t bytes,
                         struct admission_time now, struct admission_news *news);
/* The message ends as it is; what it held is free. `end` is LATE or LEFT for one that waited. */
void admission_core_release(struct admission_shared *s, struct admission_ticket *t, enum admission_end end,
                            struct admission_time now, struct admission_news *news);
/* Everything of this worker ends. */
void admission_core_forget(struct admission_shared *s, unsigned worker, struct admission_time now,
                           struct admission_news *news);
/* Whether the worker (ADMISSION_WORKERS: any) has opened a pool. */
bool admission_core_is_used(const struct admission_shared *s, unsigned worker);
/* Slots that are free go to those who wait. */
void admission_core_grant(struct admission_shared *s, unsigned pool, uint64_t now,
                          struct admission_news *news);

/* Lets classes come down from their steps that may; true: some still stand on another one than full. */
bool admission_core_ease(struct admission_shared *s, uint64_t now, struct admission_news *news);

/* Makes lists, heaps and sums anew, and ends what makes no sense. For a lock whose holder died. */
void admission_core_repair(struct admission_shared *s);

#endif
