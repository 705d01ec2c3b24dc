/* When a service may start another worker. See master_backoff.h. */
#include "master_backoff.h"

enum { KILLED_LIMIT_MS = 1000, STEPS = 16 };

uint64_t master_backoff_failed(struct master_backoff *b, uint64_t now, uint64_t lived_ms, bool is_killed,
                               uint64_t throttle_ms)
{
    uint64_t wait;

    if (lived_ms >= MASTER_HEALTHY_MS)
        b->failures = 0;
    if (b->failures < STEPS)
        b->failures++;
    wait = b->failures == 1 ? 0 : 1000ull << (b->failures - 2);
    if (is_killed && wait > KILLED_LIMIT_MS)
        wait = KILLED_LIMIT_MS;
    if (wait > throttle_ms)
        wait = throttle_ms;
    if (b->not_before < now + wait)
        b->not_before = now + wait;
    return wait;
}
