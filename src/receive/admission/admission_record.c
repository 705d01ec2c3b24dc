/* Clients on record. See admission_record.h. */
#include "admission_record.h"

#include <string.h>

enum { PROBES = 64, COUNT_LIMIT = 1u << 30, CLOCK_SLACK = 86400 };

/* FNV-1a. */
static uint32_t bucket_of(const struct admission_key *key)
{
    const unsigned char *p = (const unsigned char *)key;
    uint64_t hash = 14695981039346656037u;

    for (size_t i = 0; i < sizeof(*key); i++)
        hash = (hash ^ p[i]) * 1099511628211u;
    return (uint32_t)((hash >> 32) % ADMISSION_CLIENTS);
}

uint32_t admission_record_find(const struct admission_shared *s, const struct admission_key *key)
{
    uint32_t at = s->buckets[bucket_of(key)];

    for (uint32_t steps = 0; at != 0 && steps < ADMISSION_CLIENTS; steps++) {
        const struct admission_record *r = &s->records[at - 1];

        if (memcmp(&r->key, key, sizeof(*key)) == 0)
            return at - 1;
        at = r->next;
    }
    return ADMISSION_NOBODY;
}

/* ---- room ---- */

static void chain(struct admission_shared *s, uint32_t at)
{
    uint32_t *bucket = &s->buckets[bucket_of(&s->records[at].key)];

    s->records[at].next = *bucket;
    *bucket = at + 1;
}

static void unchain(struct admission_shared *s, uint32_t at)
{
    uint32_t *place = &s->buckets[bucket_of(&s->records[at].key)];

    for (uint32_t steps = 0; *place != 0 && *place != at + 1 && steps < ADMISSION_CLIENTS; steps++)
        place = &s->records[*place - 1].next;
    if (*place == at + 1)
        *place = s->records[at].next;
}

static bool may_go(const struct admission_record *r)
{
    return !r->is_used ||
           (r->held == 0 && r->standing != ADMISSION_IN_LINE && r->standing != ADMISSION_CALLED);
}

/* Of two that may go, which one is missed less. */
static bool is_lesser(const struct admission_record *a, const struct admission_record *b)
{
    if (!a->is_used || !b->is_used)
        return !a->is_used && b->is_used;
    if ((a->accepted == 0) != (b->accepted == 0))
        return a->accepted == 0;
    return a->last_seen < b->last_seen;
}

/* The hand goes round; of those it passes in one search the least is taken. */
static uint32_t find_room(struct admission_shared *s)
{
    uint32_t best = ADMISSION_NOBODY;

    for (int probe = 0; probe < PROBES; probe++) {
        uint32_t at = s->hand++ % ADMISSION_CLIENTS;

        if (!may_go(&s->records[at]))
            continue;
        if (!s->records[at].is_used)
            return at;
        if (best == ADMISSION_NOBODY || is_lesser(&s->records[at], &s->records[best]))
            best = at;
    }
    return best;
}

static uint32_t make(struct admission_shared *s, const struct admission_key *key)
{
    uint32_t at = find_room(s);

    if (at == ADMISSION_NOBODY)
        return at;
    if (s->records[at].is_used)
        unchain(s, at);
    else
        s->clients++;
    s->records[at] = (struct admission_record){
        .key = *key, .prev = ADMISSION_NOBODY, .behind = ADMISSION_NOBODY, .is_used = true};
    chain(s, at);
    return at;
}

uint32_t admission_record_need(struct admission_shared *s, const struct admission_key *key, uint32_t real_s)
{
    uint32_t at = admission_record_find(s, key);

    if (at == ADMISSION_NOBODY) {
        at = make(s, key);
        if (at == ADMISSION_NOBODY)
            return at;
        s->records[at].first_seen = real_s;
    }
    s->records[at].last_seen = real_s;
    return at;
}

/* ---- good and bad ---- */

static void age(struct admission_record *r, const struct admission_settings *set, uint32_t real_s)
{
    uint32_t now = real_s / set->half_life;
    uint32_t halves = now > r->aged ? now - r->aged : 0;

    r->aged = now;
    r->accepted = halves < 32 ? r->accepted >> halves : 0;
    r->rejected = halves < 32 ? r->rejected >> halves : 0;
}

void admission_record_count(struct admission_record *r, const struct admission_settings *set,
                            enum admission_outcome outcome, uint32_t real_s)
{
    age(r, set, real_s);
    if (outcome == ADMISSION_OK && r->accepted < COUNT_LIMIT)
        r->accepted++;
    if (outcome == ADMISSION_REJECT && r->rejected < COUNT_LIMIT)
        r->rejected++;
}

bool admission_record_is_good(struct admission_record *r, const struct admission_settings *set,
                              uint32_t real_s)
{
    uint64_t all;

    age(r, set, real_s);
    all = (uint64_t)r->accepted + r->rejected;
    return r->accepted >= set->good_messages && real_s >= r->first_seen &&
           real_s - r->first_seen >= set->good_age &&
           (uint64_t)r->rejected * 100 <= all * set->good_reject_percent;
}

/* ---- a file's, and after an accident ---- */

bool admission_record_restore(struct admission_shared *s, const struct admission_record *from,
                              uint32_t real_s)
{
    uint32_t at;

    if (from->is_used != 1 || from->first_seen > from->last_seen ||
        from->last_seen > real_s + (uint64_t)CLOCK_SLACK || from->accepted > COUNT_LIMIT ||
        from->rejected > COUNT_LIMIT || from->accepted + from->rejected == 0)
        return false;
    at = admission_record_find(s, &from->key);
    if (at == ADMISSION_NOBODY)
        at = make(s, &from->key);
    if (at == ADMISSION_NOBODY)
        return false;
    s->records[at].first_seen = from->first_seen;
    s->records[at].last_seen = from->last_seen;
    s->records[at].accepted = from->accepted;
    s->records[at].rejected = from->rejected;
    s->records[at].aged = from->aged;
    return true;
}

void admission_record_rechain(struct admission_shared *s)
{
    memset(s->buckets, 0, sizeof(s->buckets));
    s->clients = 0;
    for (uint32_t at = 0; at < ADMISSION_CLIENTS; at++) {
        if (!s->records[at].is_used)
            continue;
        s->clients++;
        chain(s, at);
    }
}
