/* The memory that workers share. See verdict_shared.h. */
#include "verdict_shared.h"

#include "clock.h"
#include "mem.h"

static const struct shared_head head = {0x56444354, 3, sizeof(struct verdict_shared)}; /* "VDCT" */

/* ---- the mapping ---- */

static char *name_in(const char *directory)
{
    return mem_printf(NULL, "%s/verdicts.state", directory);
}

struct verdict_shared *verdict_shared_new(const char *directory)
{
    char *path = name_in(directory);
    struct verdict_shared *s = shared_map_file(path, &head, "running scans");

    shared_lock_init(&s->lock);
    shared_lock_init(&s->moving);
    talloc_free(path);
    return s;
}

bool verdict_shared_read(const char *directory, uint64_t counters_r[VERDICT_COUNTERS])
{
    char *path = name_in(directory);
    struct {
        struct shared_head head;
        uint64_t counters[VERDICT_COUNTERS];
    } there;
    struct error *e = shared_file_read(path, &head, &there, sizeof(there));
    bool is_good = e == NULL;

    if (is_good)
        memcpy(counters_r, there.counters, sizeof(there.counters));
    error_free(&e);
    talloc_free(path);
    return is_good;
}

/* ---- the lock ---- */

/* After a death inside: what the counts say is made what the places say. No count passes through zero on the
 * way. */
static void recount(struct verdict_shared *s)
{
    unsigned *hints = mem_array(NULL, unsigned, VERDICT_HINTS);
    uint64_t n = 0;

    for (size_t i = 0; i < VERDICT_SETS * VERDICT_WAYS; i++) {
        const struct verdict_run *run = &s->runs[i / VERDICT_WAYS][i % VERDICT_WAYS];

        if (run->state != VERDICT_SCANNED)
            continue;
        hints[verdict_shared_slot(run->hint)]++;
        n++;
    }
    for (size_t i = 0; i < VERDICT_HINTS; i++)
        if (atomic_load(&s->run_hints[i]) != hints[i])
            atomic_store(&s->run_hints[i], hints[i]);
    atomic_store(&s->counters[VERDICT_RUNS], n);
    talloc_free(hints);
}

void verdict_shared_lock(struct verdict_shared *s)
{
    if (shared_lock(&s->lock))
        recount(s);
}

void verdict_shared_unlock(struct verdict_shared *s)
{
    shared_unlock(&s->lock);
}

/* ---- runs ---- */

static struct verdict_run *set_of(struct verdict_shared *s, const struct verdict_key *key)
{
    return s->runs[(key->hash[0] << 8 | key->hash[1]) % VERDICT_SETS];
}

static void clear(struct verdict_shared *s, struct verdict_run *run)
{
    if (run->state == VERDICT_SCANNED) {
        atomic_fetch_sub(&s->run_hints[verdict_shared_slot(run->hint)], 1);
        atomic_fetch_sub(&s->counters[VERDICT_RUNS], 1);
    }
    run->state = VERDICT_NONE;
    atomic_fetch_add(&s->changes, 1);
}

static bool is_key(const struct verdict_run *run, const struct verdict_key *key)
{
    return run->state != VERDICT_NONE && memcmp(run->hash, key->hash, sizeof(run->hash)) == 0;
}

/* So old that nobody will end it. A tombstone is as good as its worker, whatever the disk lets that wait. */
static bool is_given_up(const struct verdict_run *run, uint64_t now)
{
    return run->state == VERDICT_SCANNED && now - run->since_ms >= VERDICT_RUN_LIMIT_MS;
}

/* Free, or given up. */
static struct verdict_run *free_place(struct verdict_shared *s, const struct verdict_key *key, uint64_t now)
{
    struct verdict_run *set = set_of(s, key);

    for (int i = 0; i < VERDICT_WAYS; i++) {
        if (is_given_up(&set[i], now))
            clear(s, &set[i]);
        if (set[i].state == VERDICT_NONE)
            return &set[i];
    }
    return NULL;
}

bool verdict_shared_add(struct verdict_shared *s, const struct verdict_key *key, unsigned worker,
                        enum verdict_state state)
{
    uint64_t now = clock_ms();
    struct verdict_run *run;

    verdict_shared_lock(s);
    run = free_place(s, key, now);
    if (run != NULL) {
        memcpy(run->hash, key->hash, sizeof(run->hash));
        run->since_ms = now;
        run->hint = key->hint;
        run->worker = (uint16_t)worker;
        run->state = (uint16_t)state; /* last: a death before leaves the place free */
        if (state == VERDICT_SCANNED) {
            atomic_fetch_add(&s->run_hints[verdict_shared_slot(key->hint)], 1);
            atomic_fetch_add(&s->counters[VERDICT_RUNS], 1);
        }
    }
    verdict_shared_unlock(s);
    return run != NULL;
}

static struct verdict_run *find_own(struct verdict_shared *s, const struct verdict_key *key, unsigned worker,
                                    enum verdict_state state)
{
    struct verdict_run *set = set_of(s, key);

    for (int i = 0; i < VERDICT_WAYS; i++)
        if (set[i].worker == worker && set[i].state == state && is_key(&set[i], key))
            return &set[i];
    return NULL;
}

void verdict_shared_remove(struct verdict_shared *s, const struct verdict_key *key, unsigned worker,
                           enum verdict_state state)
{
    struct verdict_run *run;

    verdict_shared_lock(s);
    run = find_own(s, key, worker, state);
    if (run != NULL)
        clear(s, run);
    verdict_shared_unlock(s);
}

bool verdict_shared_has(struct verdict_shared *s, const struct verdict_key *key, unsigned worker)
{
    bool has;

    verdict_shared_lock(s);
    has = find_own(s, key, worker, VERDICT_SCANNED) != NULL;
    verdict_shared_unlock(s);
    return has;
}

enum verdict_state verdict_shared_find(struct verdict_shared *s, const struct verdict_key *key)
{
    struct verdict_run *set = set_of(s, key);
    enum verdict_state state = VERDICT_NONE;
    uint64_t now = clock_ms();

    verdict_shared_lock(s);
    for (int i = 0; i < VERDICT_WAYS && state != VERDICT_SCANNED; i++)
        if (is_key(&set[i], key) && !is_given_up(&set[i], now))
            state = set[i].state;
    verdict_shared_unlock(s);
    return state;
}

void verdict_shared_forget(struct verdict_shared *s, unsigned worker)
{
    verdict_shared_lock(s);
    for (size_t i = 0; i < VERDICT_SETS * VERDICT_WAYS; i++) {
        struct verdict_run *run = &s->runs[i / VERDICT_WAYS][i % VERDICT_WAYS];

        if (run->state != VERDICT_NONE && run->worker == worker)
            clear(s, run);
    }
    verdict_shared_unlock(s);
}
