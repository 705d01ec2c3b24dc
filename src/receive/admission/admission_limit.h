/*
 * How many scans a filter is given at once. Fixed, or found by trial: more at once is kept only when more
 * gets done, less at once when as much gets done. Pure.
 *
 * While messages wait, what was done is measured at the present limit (after those that began under another
 * one have ended); then a step up or down is tried and measured in its turn. A step up stays when it brought
 * at least half of what its size promised, a step down when it cost less than half of that; else it is taken
 * back, and the next trial waits longer. From the start the limit doubles until that no longer helps. A
 * filter that is not kept busy teaches nothing: the limit stays.
 */
#ifndef ADMISSION_ADMISSION_LIMIT_H
#define ADMISSION_ADMISSION_LIMIT_H

#include <stdbool.h>
#include <stdint.h>

enum { ADMISSION_MOST_SLOTS = 10000 };

/* Set with admission_limit_set; zeroed before the first time. */
struct admission_limit {
    uint32_t least, most, now; /* `now` is in force; never above most */
    uint32_t is_adaptive;
    uint32_t base;        /* what a trial is compared with, and falls back to */
    uint32_t direction;   /* enum in admission_limit.c */
    uint32_t has_started; /* the doubling is over */
    uint32_t settle;      /* scans to let pass before measuring */
    uint32_t done, busy;  /* scans measured; of them, that ended while messages waited */
    uint32_t pause, rest; /* measurements between trials; left of them */
    uint32_t next_down;   /* the next trial goes down */
    uint64_t since;       /* the measurement's beginning */
    double base_rate;     /* scans a second at base */
};

/* New bounds (1 <= least <= most); what was found stays as far as they allow. */
void admission_limit_set(struct admission_limit *l, bool is_adaptive, uint32_t least, uint32_t most,
                         uint64_t now);
/* A scan has ended; is_busy: every slot was taken and a message waited. */
void admission_limit_done(struct admission_limit *l, bool is_busy, uint64_t now);
bool admission_limit_is_sane(const struct admission_limit *l);

#endif
