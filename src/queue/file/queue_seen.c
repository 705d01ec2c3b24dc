/*
 * Ids that queue files got lately, or have that were moved, or found by a scan; and those of messages that
 * the scheduler took lately. See queue_private.h and queue_file.h.
 *
 * A set of buckets without a lock. Each place holds an id's second and 32 bits of its hash, so it is changed
 * by one store. A full bucket forgets its oldest, and from then on the horizon tells that nothing is known of
 * ids up to that second. Before the servers were started nothing is known either; what a clock that was fast
 * then has named for a later second, the repair at start-up finds. Of what was taken that does not matter:
 * only what is there is asked for.
 */
#include "queue_private.h"

#include "clock.h"
#include "shared.h"

#include <stdatomic.h>

enum { BUCKETS = 8192, WAYS = 16, AHEAD = 1 /* seconds by which another host's clock may be fast */ };

struct seen {
    _Atomic uint64_t horizon;                           /* seconds of Unix time */
    _Alignas(64) _Atomic uint64_t place[BUCKETS][WAYS]; /* 0: free */
};

static struct seen *seen, *taken;

static uint64_t now(void)
{
    return clock_real_us() / 1000000;
}

void queue_prepare(void)
{
    seen = shared_map(sizeof(*seen), "the ids of queue files");
    taken = shared_map(sizeof(*taken), "the ids of messages that were taken");
    atomic_store(&seen->horizon, now() + AHEAD);
}

/* FNV-1a. */
static uint64_t hash_of(struct bytes id)
{
    uint64_t hash = 14695981039346656037u;

    for (size_t i = 0; i < id.n; i++)
        hash = (hash ^ (unsigned char)id.p[i]) * 1099511628211u;
    return hash;
}

static _Atomic uint64_t *bucket_of(struct seen *set, uint64_t hash)
{
    return set->place[(hash >> 32) % BUCKETS];
}

static uint64_t mark_of(uint64_t time, uint64_t hash)
{
    return time << 32 | (uint32_t)hash;
}

/* Its place, or the one that it may take: free, or of the oldest. */
static _Atomic uint64_t *place_for(_Atomic uint64_t bucket[WAYS], uint64_t mark, uint64_t *old_r)
{
    _Atomic uint64_t *best = bucket;

    *old_r = UINT64_MAX;
    for (int i = 0; i < WAYS; i++) {
        uint64_t found = atomic_load(&bucket[i]);

        if (found == mark || found < *old_r) {
            best = &bucket[i];
            *old_r = found;
        }
        if (found == mark)
            break;
    }
    return best;
}

static void raise_horizon(struct seen *set, uint64_t time)
{
    uint64_t horizon = atomic_load(&set->horizon);

    while (horizon < time && !atomic_compare_exchange_weak(&set->horizon, &horizon, time))
        ;
}

/* The horizon rises before something is forgotten, so that nobody takes it for unseen in between. */
static void note(struct seen *set, struct bytes id)
{
    uint64_t time = mail_id_time(id), hash = hash_of(id), mark = mark_of(time, hash), old;
    _Atomic uint64_t *place;

    if (set == NULL || time > UINT32_MAX)
        return;
    while (time > atomic_load(&set->horizon)) {
        place = place_for(bucket_of(set, hash), mark, &old);
        if (old == mark)
            return;
        raise_horizon(set, old >> 32 < time ? old >> 32 : time);
        if (old >> 32 >= time || atomic_compare_exchange_strong(place, &old, mark))
            return;
    }
}

static bool is_noted(struct seen *set, uint64_t time, uint64_t hash)
{
    uint64_t found;

    place_for(bucket_of(set, hash), mark_of(time, hash), &found);
    return found == mark_of(time, hash);
}

void queue_seen_note(struct bytes id)
{
    note(seen, id);
}

bool queue_seen_is_new(struct bytes id)
{
    uint64_t time = mail_id_time(id), hash = hash_of(id);

    if (seen == NULL || time == 0 || time > now() + AHEAD)
        return false;
    return !is_noted(seen, time, hash) && time > atomic_load(&seen->horizon);
}

/* ---- what was taken ---- */

void queue_taken_note(struct bytes id)
{
    note(taken, id);
}

bool queue_was_taken(const char *id)
{
    struct bytes text = bytes_of(id);
    uint64_t time = mail_id_time(text);

    return taken != NULL && time != 0 && time <= UINT32_MAX && is_noted(taken, time, hash_of(text));
}
