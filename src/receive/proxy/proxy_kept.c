/* Connections that wait for another message. See proxy_pool.h. */
#include "proxy_pool.h"

#include "clock.h"
#include "mem.h"

/* A server that has closed, or said something nobody asked for, is no connection any more. */
static bool is_alive(const struct proxy_kept *k)
{
    return !io_peer_left(k->server->stream) && !io_has_input(k->server->stream);
}

struct proxy_kept *proxy_kept_take(struct proxy_target *t)
{
    struct proxy_kept *k;

    while ((k = t->kept) != NULL) {
        t->kept = k->next;
        if (is_alive(k))
            return k;
        talloc_free(k);
    }
    return NULL;
}

void proxy_kept_put(struct proxy *p, struct proxy_target *t, struct smtp_client **server, unsigned used,
                    bool is_dirty, enum proxy_chunks chunks)
{
    struct proxy_kept *k = mem_new(t, struct proxy_kept);

    k->server = talloc_steal(k, *server);
    k->until = clock_ms() + p->idle_ms;
    k->used = used;
    k->is_dirty = is_dirty;
    k->chunks = chunks;
    k->next = t->kept;
    t->kept = k;
    *server = NULL;
    proxy_keeper_need(p, k->until);
}

/* The first that has been idle for too long, taken off the list with all behind it, which have been longer.
 */
static struct proxy_kept *cut_expired(struct proxy_target *t, uint64_t now)
{
    struct proxy_kept **place = &t->kept, *expired;

    while (*place != NULL && (*place)->until > now)
        place = &(*place)->next;
    expired = *place;
    *place = NULL;
    return expired;
}

/* Taken from their pool first: QUIT may wait, and the pool change or end meanwhile. */
static co_fn void leave(struct proxy_kept *k)
{
    while (k != NULL) {
        struct proxy_kept *next = k->next;

        smtp_client_quit(&k->server);
        talloc_free(k);
        k = next;
    }
}

co_fn void proxy_kept_expire(struct proxy *p, uint64_t now)
{
    struct proxy_kept *expired = NULL;

    for (size_t i = 0; i < p->target_count; i++) {
        struct proxy_kept *cut = cut_expired(p->targets[i], now), *next;

        for (; cut != NULL; cut = next) {
            next = cut->next;
            cut->next = expired;
            expired = talloc_steal(NULL, cut);
        }
    }
    leave(expired);
}

uint64_t proxy_kept_due(const struct proxy *p)
{
    uint64_t due = CO_NEVER;

    for (size_t i = 0; i < p->target_count; i++)
        for (const struct proxy_kept *k = p->targets[i]->kept; k != NULL; k = k->next)
            if (k->until < due)
                due = k->until;
    return due;
}

void proxy_kept_close(struct proxy_target *t)
{
    struct proxy_kept *next;

    for (; t->kept != NULL; t->kept = next) {
        next = t->kept->next;
        talloc_free(t->kept);
    }
}
