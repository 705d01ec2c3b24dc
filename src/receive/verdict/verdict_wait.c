/*
 * Waiting for a scan that another worker may run. A worker that has somebody waiting compares one number of
 * the shared memory every few milliseconds: it is rare that a retry meets the scan of its first copy, and so
 * no descriptor has to be shared among processes that come and go.
 */
#include "verdict_private.h"

#include "clock.h"

#include <utlist.h>

enum { LOOK_MS = 10 };

void verdict_waiter_begin(struct verdict *m, struct verdict_waiter *w)
{
    *w = (struct verdict_waiter){.co = co_self()};
    DL_APPEND(m->waiters, w);
}

void verdict_waiter_end(struct verdict *m, struct verdict_waiter *w)
{
    DL_DELETE(m->waiters, w);
}

void verdict_wake(struct verdict *m)
{
    for (struct verdict_waiter *w = m->waiters; w != NULL; w = w->next)
        co_wake(w->co);
}

static co_fn void watch(void *arg)
{
    struct verdict *m = arg;
    uint64_t seen = atomic_load(&m->shared->changes);

    co_shield(true);
    verdict_wake(m); /* it looked before that number was taken */
    while (m->waiters != NULL) {
        uint64_t now;

        co_sleep(clock_ms() + LOOK_MS, "running scans");
        now = atomic_load(&m->shared->changes);
        if (now != seen)
            verdict_wake(m);
        seen = now;
    }
    m->is_watching = false;
}

/* A tombstone does not count: who waited since before the verdict was heard may hear it too. */
static enum verdict_found look(struct verdict *m, struct verdict_key *key, struct mail_reply *reply_r)
{
    if (verdict_shared_find(m->shared, key) == VERDICT_SCANNED)
        return VERDICT_RUNNING;
    return verdict_recall(m, key, reply_r) ? VERDICT_REMEMBERED : VERDICT_FRESH;
}

co_fn enum verdict_found verdict_wait(struct verdict *m, struct verdict_key *key, uint64_t deadline,
                                      struct mail_reply *reply_r)
{
    enum verdict_found found;
    struct verdict_waiter w;

    if (m->shared == NULL)
        return VERDICT_FRESH;
    verdict_shared_count(m->shared, VERDICT_WAITS);
    verdict_waiter_begin(m, &w);
    if (!m->is_watching) {
        m->is_watching = true;
        co_spawn(watch, m, "verdict watch");
    }
    while ((found = look(m, key, reply_r)) == VERDICT_RUNNING)
        if (co_park(deadline, "verdict of a running scan") != CO_OK)
            break;
    verdict_waiter_end(m, &w);
    return found;
}
