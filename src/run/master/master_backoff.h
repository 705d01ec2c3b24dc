/*
 * When a service whose worker ended badly may start another: at once after the first time, then after 1, 2, 4
 * ... s up to service_throttle_time. A worker that was ready and lived MASTER_HEALTHY_MS begins the row anew,
 * so that a crash that a stranger can provoke costs the sessions of one worker and never the service. One
 * that was killed from outside (SIGKILL, SIGTERM) is not at fault: it never makes the wait longer than a
 * second.
 */
#ifndef RUN_MASTER_MASTER_BACKOFF_H
#define RUN_MASTER_MASTER_BACKOFF_H

#include <stdbool.h>
#include <stdint.h>

enum { MASTER_HEALTHY_MS = 2000 };

struct master_backoff {
    unsigned failures;   /* in a row */
    uint64_t not_before; /* clock_ms() */
};

/* Notes the end of a worker and returns the wait in ms until the next may start. lived_ms 0: it never was
 * ready. */
uint64_t master_backoff_failed(struct master_backoff *b, uint64_t now, uint64_t lived_ms, bool is_killed,
                               uint64_t throttle_ms);

#endif
