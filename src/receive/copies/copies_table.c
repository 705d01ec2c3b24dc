/* The shared memory behind the sink. See copies_table.h. */
#include "copies_table.h"

#include "clock.h"
#include "format.h"
#include "shared.h"

#include <string.h>

enum { BUCKETS = COPIES_ENTRIES, PROBES = 64, NOBODY = -1, ORPHAN_MS = 600000 };

enum state {
    FREE,
    RECEIVING,
    REPLACED,   /* still being received, but a later copy has come */
    COMMITTING, /* on its way into the queue */
    ORPHANED,   /* its worker died on that way */
    QUEUED,
};

struct copies_entry {
    struct copies_key key;
    char id[MAIL_ID_SIZE];
    uint64_t until; /* ORPHANED, QUEUED: it is remembered */
    int32_t next;   /* in its bucket; NOBODY ends it */
    uint16_t retry; /* its own, or of the last copy that was answered for it */
    uint8_t worker;
    uint8_t state;
};

struct copies_table {
    struct shared_lock lock;
    uint32_t used; /* entries that were ever in use: the first ones */
    uint32_t hand; /* where the oldest are */
    int32_t bucket[BUCKETS];
    struct copies_entry entries[COPIES_ENTRIES];
};

struct copies_table *copies_table_new(void)
{
    struct copies_table *t = shared_map(sizeof(*t), "what was queued lately");

    shared_lock_init(&t->lock);
    memset(t->bucket, 0xff, sizeof(t->bucket));
    return t;
}

/* ---- buckets ---- */

/* FNV-1a over the id; the parties are a hash already. */
static int32_t *bucket_of(struct copies_table *t, const struct copies_key *key)
{
    uint64_t hash = key->parties ^ 14695981039346656037u;

    for (const char *p = key->ident; *p != '\0'; p++)
        hash = (hash ^ (unsigned char)*p) * 1099511628211u;
    return &t->bucket[(hash >> 32) % BUCKETS];
}

static void link_entry(struct copies_table *t, struct copies_entry *e)
{
    int32_t *bucket = bucket_of(t, &e->key);

    e->next = *bucket;
    *bucket = (int32_t)(e - t->entries);
}

static void unlink_entry(struct copies_table *t, struct copies_entry *e)
{
    int32_t *at = bucket_of(t, &e->key);
    int32_t index = (int32_t)(e - t->entries);

    while (*at != NOBODY && *at != index)
        at = &t->entries[*at].next;
    if (*at == index)
        *at = e->next;
    e->state = FREE;
}

/* Of a worker that was killed while it held the lock, at most one entry is half changed. Its state,
 * which is written last, tells whether it counts. */
static void mend(struct copies_table *t)
{
    memset(t->bucket, 0xff, sizeof(t->bucket));
    for (uint32_t i = 0; i < t->used; i++)
        if (t->entries[i].state != FREE)
            link_entry(t, &t->entries[i]);
}

static void lock(struct copies_table *t)
{
    if (shared_lock(&t->lock))
        mend(t);
}

static void unlock(struct copies_table *t)
{
    shared_unlock(&t->lock);
}

/* ---- room ---- */

/* Nobody is at work with it any more. */
static bool is_memory(const struct copies_entry *e)
{
    return e->state == QUEUED || e->state == ORPHANED;
}

static bool is_over(const struct copies_entry *e, uint64_t now)
{
    return e->state == FREE || (is_memory(e) && now >= e->until);
}

/* The hand goes round, and waits at the first that is still remembered as long as there is fresh room. */
static struct copies_entry *find_room(struct copies_table *t, uint64_t now)
{
    for (int probe = 0; probe < PROBES && t->used > 0; probe++) {
        struct copies_entry *e = &t->entries[t->hand % t->used];

        if (is_memory(e) && !is_over(e, now) && t->used < COPIES_ENTRIES)
            break;
        t->hand = (t->hand + 1) % t->used;
        if (is_memory(e))
            unlink_entry(t, e);
        if (e->state == FREE)
            return e;
    }
    return t->used < COPIES_ENTRIES ? &t->entries[t->used++] : NULL;
}

void copies_table_open(struct copies_table *t, struct copies_place *place, unsigned worker, const char *id)
{
    uint64_t now = clock_ms();
    struct copies_entry *e;

    lock(t);
    e = find_room(t, now);
    if (e != NULL) {
        e->key = place->key;
        format_print(e->id, sizeof(e->id), "%s", id);
        e->retry = (uint16_t)place->retry;
        e->worker = (uint8_t)worker;
        link_entry(t, e);
        e->state = RECEIVING;
    }
    place->entry = e;
    unlock(t);
}

/* ---- whose turn it is ---- */

static bool is_same(const struct copies_key *a, const struct copies_key *b)
{
    return a->parties == b->parties && strcmp(a->ident, b->ident) == 0;
}

static struct copies_entry *next_same(struct copies_table *t, const struct copies_key *key, int32_t at)
{
    while (at != NOBODY && !is_same(&t->entries[at].key, key))
        at = t->entries[at].next;
    return at != NOBODY ? &t->entries[at] : NULL;
}

/* What there is of the same message. */
struct others {
    bool has_later;
    struct copies_entry *queued; /* the oldest of the earlier ones, */
    struct copies_entry *underway;
};

/* A later copy tells that nobody waits for the earlier one: it may not be queued any more. */
static struct others look_at_others(struct copies_table *t, const struct copies_place *place, uint64_t now)
{
    struct others o = {0};
    struct copies_entry *e = next_same(t, &place->key, *bucket_of(t, &place->key));

    for (; e != NULL; e = next_same(t, &place->key, e->next)) {
        if (e == place->entry || is_over(e, now) || e->retry == place->retry)
            continue;
        if (e->retry > place->retry)
            o.has_later = true;
        else if (e->state == RECEIVING)
            e->state = REPLACED;
        else if (e->state == QUEUED)
            o.queued = e;
        else if (e->state != REPLACED)
            o.underway = e;
    }
    return o;
}

static void leave(struct copies_table *t, struct copies_place *place)
{
    if (place->entry != NULL)
        unlink_entry(t, place->entry);
    place->entry = NULL;
}

static enum copies_turn turn_of(struct copies_table *t, struct copies_place *place, char id_r[MAIL_ID_SIZE])
{
    struct others o = look_at_others(t, place, clock_ms());
    struct copies_entry *first = o.queued != NULL ? o.queued : o.underway;

    if (o.has_later || (place->entry != NULL && place->entry->state == REPLACED))
        return COPIES_REPLACED;
    if (first != NULL)
        memcpy(id_r, first->id, MAIL_ID_SIZE);
    if (o.queued != NULL) {
        o.queued->retry = (uint16_t)place->retry;
        leave(t, place);
        return COPIES_QUEUED;
    }
    if (o.underway != NULL)
        return o.underway->state == ORPHANED ? COPIES_ORPHAN : COPIES_WAIT;
    if (place->entry != NULL)
        place->entry->state = COMMITTING;
    return COPIES_GO;
}

enum copies_turn copies_table_turn(struct copies_table *t, struct copies_place *place,
                                   char id_r[MAIL_ID_SIZE])
{
    enum copies_turn turn;

    lock(t);
    turn = turn_of(t, place, id_r);
    unlock(t);
    return turn;
}

/* ---- how it ended ---- */

static void settle(struct copies_table *t, struct copies_entry *e, bool is_queued, uint64_t keep_ms)
{
    if (!is_queued) {
        unlink_entry(t, e);
        return;
    }
    e->until = clock_ms() + keep_ms;
    e->state = QUEUED;
}

void copies_table_decide(struct copies_table *t, const struct copies_key *key, const char *id, bool is_queued,
                         uint64_t keep_ms)
{
    struct copies_entry *e;

    lock(t);
    e = next_same(t, key, *bucket_of(t, key));
    while (e != NULL && (e->state != ORPHANED || strcmp(e->id, id) != 0))
        e = next_same(t, key, e->next);
    if (e != NULL)
        settle(t, e, is_queued, keep_ms);
    unlock(t);
}

void copies_table_close(struct copies_table *t, struct copies_place *place, bool is_queued, uint64_t keep_ms)
{
    if (place->entry == NULL)
        return;
    lock(t);
    settle(t, place->entry, is_queued, keep_ms);
    place->entry = NULL;
    unlock(t);
}

static void orphan(struct copies_entry *e)
{
    e->until = clock_ms() + ORPHAN_MS;
    e->state = ORPHANED;
}

void copies_table_forget(struct copies_table *t, unsigned worker)
{
    lock(t);
    for (uint32_t i = 0; i < t->used; i++) {
        struct copies_entry *e = &t->entries[i];

        if (e->worker != worker)
            continue;
        if (e->state == RECEIVING || e->state == REPLACED)
            unlink_entry(t, e);
        else if (e->state == COMMITTING)
            orphan(e);
    }
    unlock(t);
}
