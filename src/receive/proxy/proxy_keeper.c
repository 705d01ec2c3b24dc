/*
 * What goes on in the background of a pool: endpoints are asked whether they are there
 * (smtpd_proxy_health_interval), idle connections are closed. One coroutine, as long as one of these is to be
 * done.
 */
#include "proxy_pool.h"

#include "clock.h"
#include "mem.h"

struct proxy_keeper {
    struct proxy *proxy; /* NULL: the pool is gone */
    struct co *co;
    uint64_t due; /* when it looks again */
    uint64_t health_due;
    bool is_waiting;
};

static uint64_t sooner(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* One worker of the host asks for all; not of those that are ejected, which have times of their own. */
static bool take_check(struct proxy *p, struct proxy_entry *e, uint64_t now)
{
    if (now < e->trial_until || now < e->ejected_until || now < e->checked_at + p->health_ms)
        return false;
    e->checked_at = now;
    e->trial_until = now + proxy_probe_ms(&p->rules);
    e->trial_worker = proxy_shared_worker();
    return true;
}

static void check_all(struct proxy *p, uint64_t now)
{
    for (size_t i = 0; i < p->target_count; i++) {
        bool is_ours;

        proxy_shared_lock();
        is_ours = take_check(p, p->entries[i], now);
        proxy_shared_unlock();
        if (is_ours)
            proxy_probe_start(p, p->targets[i]);
    }
}

static uint64_t check_health(struct proxy_keeper *k)
{
    uint64_t now = clock_ms();

    if (k->proxy->health_ms == 0)
        return CO_NEVER;
    if (now >= k->health_due) {
        check_all(k->proxy, now);
        k->health_due = now + k->proxy->health_ms;
    }
    return k->health_due;
}

static co_fn bool wait_until_due(struct proxy_keeper *k)
{
    enum co_end end;

    if (k->proxy == NULL || k->due == CO_NEVER)
        return false;
    k->is_waiting = true;
    end = co_park(k->due, "the next look at the filters");
    k->is_waiting = false;
    return k->proxy != NULL && end != CO_CANCELLED;
}

static co_fn void keep(void *arg)
{
    struct proxy_keeper *k = arg;

    while (k->proxy != NULL) {
        k->due = CO_NEVER; /* what is asked for from here on is added */
        k->due = sooner(k->due, check_health(k));
        proxy_kept_expire(k->proxy, clock_ms());
        if (k->proxy != NULL)
            k->due = sooner(k->due, proxy_kept_due(k->proxy));
        if (!wait_until_due(k))
            break;
    }
    if (k->proxy != NULL)
        k->proxy->keeper = NULL;
    talloc_free(k);
}

void proxy_keeper_need(struct proxy *p, uint64_t at)
{
    struct proxy_keeper *k = p->keeper;

    if (k == NULL) {
        k = p->keeper = mem_new(NULL, struct proxy_keeper);
        k->proxy = p;
        k->due = at;
        k->co = co_spawn(keep, k, "proxy keeper");
    } else if (at < k->due) {
        k->due = at;
        if (k->is_waiting)
            co_wake(k->co);
    }
}

void proxy_keeper_stop(struct proxy *p)
{
    struct proxy_keeper *k = p->keeper;

    if (k == NULL)
        return;
    p->keeper = NULL;
    k->proxy = NULL;
    co_cancel(k->co);
}
