/*
 * A filter under load with a simulated clock: the decisions as they are, clients that try, wait, give up and
 * come back, and what came of it. Chance is the same in every run.
 */
#ifndef ADMISSION_ADMISSION_SIM_H
#define ADMISSION_ADMISSION_SIM_H

#include "admission_core.h"

struct load {
    double factor;
    uint32_t think_ms;                /* between a message's end and the next one, on average */
    uint32_t pause_ms, pause_most_ms; /* before the first retry; doubled up to the most */
    uint32_t body_ms;
    bool scans_differ;
    uint32_t bots;           /* clients that never come back, for each that does */
    uint32_t own;            /* clients in $mynetworks */
    uint32_t scan_ms, slots; /* 0: as usual */
    uint32_t down_ms;        /* in the measured time the filter answers nothing for so long */
};
struct sim {
    const struct load *load;
    struct admission_shared *s;
    struct client *clients;
    uint32_t n, bots, slots, scan_ms;
    uint32_t *client_of; /* place of a message -> client */
    struct event *heap;
    size_t events, room;
    uint64_t now, measured_from, until;
    uint64_t random;
    /* in the measured time: */
    uint64_t busy_ms, done, refused, late, thrown, lost;
    uint64_t own_done, own_refused, own_longest;
    uint64_t queue_sum, queue_samples, queue_most;
};

/* Long enough for each client to have its turn eight times. Freed with talloc_free. */
struct sim *sim_run(const struct load *load);
/* The part of the time that the filter's slots were used, as long as it was up; how the least served client
 * did against the average. */
double sim_useful(const struct sim *sim);
double sim_fairness(const struct sim *sim);
void sim_report(const struct sim *sim);

#endif
