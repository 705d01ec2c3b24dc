/* The memory when it begins, and its pools. See admission_core.h. */
#include "admission_core.h"
#include "admission_line.h"
#include "admission_message.h"

#include <stdio.h>
#include <string.h>

/* Zeroed memory becomes the shared memory; what is not touched costs nothing. The lock is the
 * caller's. */
void admission_core_init(struct admission_shared *s, uint64_t real_us)
{
    s->since_us = real_us;
    s->free = ADMISSION_NOBODY;
    admission_list_init(&s->stale);
    for (unsigned i = 0; i <= ADMISSION_WORKERS; i++)
        s->workers[i].first = ADMISSION_NOBODY;
}

static bool has_users(const struct admission_pool *p)
{
    for (unsigned i = 0; i < ADMISSION_BITS; i++)
        if (p->users[i] != 0)
            return true;
    return false;
}

bool admission_core_is_used(const struct admission_shared *s, unsigned worker)
{
    for (unsigned i = 0; i < ADMISSION_POOLS; i++) {
        const struct admission_pool *p = &s->pools[i];

        if (worker == ADMISSION_WORKERS ? has_users(p) : (p->users[worker / 64] >> (worker % 64) & 1) != 0)
            return true;
    }
    return false;
}

static bool has_messages(const struct admission_shared *s, unsigned pool)
{
    for (uint32_t at = 0; at < s->untouched; at++)
        if (s->messages[at].state != ADMISSION_FREE && s->messages[at].pool == pool)
            return true;
    return false;
}

static void send_home(struct admission_shared *s, unsigned pool)
{
    for (uint32_t at = 0; at < ADMISSION_CLIENTS; at++)
        if (s->records[at].standing != ADMISSION_NO_LINE && s->records[at].pool == pool)
            s->records[at].standing = ADMISSION_NO_LINE;
}

/* Two that begin alike would be one in what is shown of them. */
static void name_pool(char to[ADMISSION_NAME], const char *name, uint64_t hash)
{
    if (strlen(name) < ADMISSION_NAME)
        strcpy(to, name);
    else
        snprintf(to, ADMISSION_NAME, "%.*s~%08x", ADMISSION_NAME - 10, name, (unsigned)hash);
}

static void make_pool(struct admission_shared *s, unsigned pool, const char *name, uint64_t hash)
{
    struct admission_pool *p = &s->pools[pool];

    if (p->n.name[0] != '\0')
        send_home(s, pool);
    memset(p, 0, sizeof(*p));
    p->hash = hash;
    admission_list_init(&p->coming);
    for (unsigned i = 0; i < ADMISSION_CLASSES; i++)
        admission_line_init(&p->queues[i].line);
    name_pool(p->n.name, name, hash);
}

static unsigned find_pool(struct admission_shared *s, const char *name, uint64_t hash)
{
    for (unsigned i = 0; i < ADMISSION_POOLS; i++)
        if (s->pools[i].hash == hash && s->pools[i].n.name[0] != '\0')
            return i;
    for (unsigned i = 0; i < ADMISSION_POOLS; i++)
        if (s->pools[i].n.name[0] == '\0' || (!has_users(&s->pools[i]) && !has_messages(s, i))) {
            make_pool(s, i, name, hash);
            return i;
        }
    return ADMISSION_POOLS;
}

unsigned admission_core_pool(struct admission_shared *s, const char *name, uint64_t hash, unsigned worker,
                             const struct admission_settings *set, uint64_t now)
{
    unsigned pool = find_pool(s, name, hash);
    struct admission_pool *p = &s->pools[pool];

    if (pool == ADMISSION_POOLS)
        return pool;
    p->users[worker / 64] |= 1ull << (worker % 64);
    if (memcmp(&p->set, set, sizeof(*set)) != 0) {
        p->set = *set;
        admission_limit_set(&p->limit, set->is_adaptive, set->least, set->most, now);
    }
    p->n.limit = p->limit.now;
    p->n.most = set->most;
    return pool;
}
