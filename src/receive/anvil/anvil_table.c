/* The shared memory behind the hook. See anvil_table.h. */
#include "anvil_table.h"

#include "clock.h"
#include "shared.h"

#include <string.h>

enum { BUCKETS = ANVIL_CLIENTS * 2, PROBES = 64, NOBODY = -1 };

struct holder {
    uint16_t worker;
    uint16_t n;
};

struct entry {
    struct anvil_key key;
    uint64_t unit_since, unit_ms;
    uint32_t rate[ANVIL_EVENTS];
    struct holder holders[ANVIL_HOLDERS];
    int32_t next; /* in its bucket; NOBODY ends it */
    bool is_used;
};

struct anvil_table {
    struct shared_lock lock;
    uint32_t hand; /* where the search for a free entry goes on */
    int32_t bucket[BUCKETS];
    struct entry entries[ANVIL_CLIENTS];
};

struct anvil_table *anvil_table_new(void)
{
    struct anvil_table *t = shared_map(sizeof(*t), "client counts");

    shared_lock_init(&t->lock);
    memset(t->bucket, 0xff, sizeof(t->bucket));
    return t;
}

/* Nothing to mend: a worker that is killed while it holds the lock leaves counts that are at most one event
 * off. */
static void lock(struct anvil_table *t)
{
    shared_lock(&t->lock);
}

static void unlock(struct anvil_table *t)
{
    shared_unlock(&t->lock);
}

/* FNV-1a. */
static uint32_t bucket_of(const struct anvil_key *key)
{
    const unsigned char *p = (const unsigned char *)key;
    uint64_t hash = 14695981039346656037u;

    for (size_t i = 0; i < sizeof(*key); i++)
        hash = (hash ^ p[i]) * 1099511628211u;
    return (uint32_t)((hash >> 32) % BUCKETS);
}

static struct entry *find(struct anvil_table *t, const struct anvil_key *key)
{
    int32_t at = t->bucket[bucket_of(key)];

    for (int steps = 0; at != NOBODY && steps < ANVIL_CLIENTS; steps++) {
        struct entry *e = &t->entries[at];

        if (memcmp(&e->key, key, sizeof(*key)) == 0)
            return e;
        at = e->next;
    }
    return NULL;
}

static unsigned connections(const struct entry *e)
{
    unsigned n = 0;

    for (int i = 0; i < ANVIL_HOLDERS; i++)
        n += e->holders[i].n;
    return n;
}

static bool is_idle(const struct entry *e, uint64_t now)
{
    return !e->is_used || (connections(e) == 0 && now - e->unit_since >= e->unit_ms);
}

static void unlink_entry(struct anvil_table *t, struct entry *e)
{
    int32_t *place = &t->bucket[bucket_of(&e->key)];
    int32_t index = (int32_t)(e - t->entries);

    for (int steps = 0; *place != NOBODY && *place != index && steps < ANVIL_CLIENTS; steps++)
        place = &t->entries[*place].next;
    if (*place == index)
        *place = e->next;
}

/* The clock hand goes round and takes the first entry that nobody needs. */
static struct entry *make(struct anvil_table *t, const struct anvil_key *key, uint64_t now)
{
    for (int probe = 0; probe < PROBES; probe++) {
        struct entry *e = &t->entries[t->hand++ % ANVIL_CLIENTS];
        int32_t *bucket = &t->bucket[bucket_of(key)];

        if (!is_idle(e, now))
            continue;
        if (e->is_used)
            unlink_entry(t, e);
        *e = (struct entry){.key = *key, .next = *bucket, .is_used = true};
        *bucket = (int32_t)(e - t->entries);
        return e;
    }
    return NULL;
}

/* The place of this worker; when there are more workers than places, the last one serves all that are left.
 */
static struct holder *holder_of(struct entry *e, unsigned worker)
{
    for (int i = 0; i < ANVIL_HOLDERS; i++) {
        struct holder *h = &e->holders[i];

        if (h->n == 0)
            h->worker = (uint16_t)worker;
        if (h->worker == worker || i == ANVIL_HOLDERS - 1)
            return h;
    }
    return NULL;
}

bool anvil_table_count(struct anvil_table *t, const struct anvil_key *key, unsigned worker,
                       enum anvil_event event, uint64_t unit_ms, struct anvil_counts *counts_r)
{
    uint64_t now = clock_ms();
    struct entry *e;

    lock(t);
    e = find(t, key);
    if (e == NULL)
        e = make(t, key, now);
    if (e != NULL) {
        if (now - e->unit_since >= unit_ms || e->unit_since == 0) {
            memset(e->rate, 0, sizeof(e->rate));
            e->unit_since = now;
        }
        e->unit_ms = unit_ms;
        e->rate[event]++;
        if (event == ANVIL_CONNECTION)
            holder_of(e, worker)->n++;
        counts_r->connections = connections(e);
        for (int i = 0; i < ANVIL_EVENTS; i++)
            counts_r->rate[i] = e->rate[i];
    }
    unlock(t);
    return e != NULL;
}

void anvil_table_leave(struct anvil_table *t, const struct anvil_key *key, unsigned worker)
{
    struct entry *e;

    lock(t);
    e = find(t, key);
    for (int i = 0; e != NULL && i < ANVIL_HOLDERS; i++) {
        struct holder *h = &e->holders[i];

        if (h->n > 0 && (h->worker == worker || i == ANVIL_HOLDERS - 1)) {
            h->n--;
            break;
        }
    }
    unlock(t);
}

void anvil_table_forget(struct anvil_table *t, unsigned worker)
{
    lock(t);
    for (int at = 0; at < ANVIL_CLIENTS; at++) {
        struct entry *e = &t->entries[at];

        for (int i = 0; e->is_used && i < ANVIL_HOLDERS; i++)
            if (e->holders[i].worker == worker)
                e->holders[i].n = 0;
    }
    unlock(t);
}
