/* The memory of verdicts that nobody heard. See verdict.h. */
#include "verdict_private.h"

#include "clock.h"
#include "log.h"
#include "mem.h"

#include <openssl/evp.h>

enum { SWEEP_MS = 60 * 1000, RECOUNT_MS = 1000 };

static struct verdict_shared *shared; /* of this host */
static struct verdict_copies *copies;

/* ---- master ---- */

void verdict_prepare(const struct conf *conf)
{
    const char *directory = conf_text(conf, "data_directory");

    if (shared != NULL)
        return;
    shared = verdict_shared_new(directory);
    copies = verdict_copies_new();
    verdict_check(directory, shared);
}

void verdict_forget(unsigned worker)
{
    if (shared == NULL)
        return;
    verdict_shared_forget(shared, worker);
    verdict_copies_forget(copies, worker);
}

/* ---- open ---- */

static int destroy(struct verdict *m)
{
    EVP_MD_free(m->sha256);
    return 0;
}

/* A worker ended while it was at work on the database: perhaps of what it found there. */
static void prove_again(struct verdict *m)
{
    unsigned suspected = atomic_load(&copies->suspected), generation = atomic_load(&shared->generation);

    if (suspected == atomic_load(&copies->proven))
        return;
    if (verdict_check_finds_damage(m->store_conf.directory))
        verdict_writer_give_up(m, generation);
    atomic_store(&copies->proven, suspected);
}

struct verdict *verdict_open(const void *ctx, const struct conf *conf, const char *filter, unsigned worker)
{
    struct verdict *m = mem_new(ctx, struct verdict);

    m->filter = mem_strdup(m, filter);
    m->worker = worker;
    m->sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
    if (m->sha256 == NULL)
        log_fatal("no SHA-256 from libcrypto");
    talloc_set_destructor(m, destroy);
    if (!conf_bool(conf, "smtpd_proxy_verdict_memory"))
        return m;
    verdict_prepare(conf);
    verdict_shared_forget(shared, worker);
    verdict_copies_enter(copies, worker);
    m->shared = shared;
    m->copies = copies;
    m->store_conf.directory = mem_strdup(m, conf_text(conf, "data_directory"));
    m->store_conf.shared = shared;
    m->store_conf.touch = &copies->rows[worker].touch;
    m->store_conf.lifetime_us = conf_time_ms(conf, "smtpd_proxy_verdict_lifetime") * 1000;
    m->store_conf.limit = (size_t)conf_int(conf, "smtpd_proxy_verdict_memory_limit");
    prove_again(m);
    verdict_writer_store(m);
    return m;
}

/* A copy whose client has left is on its way into the memory: its content is being hashed. */
static co_fn void wait_for_copies(struct verdict *m, uint64_t deadline)
{
    struct verdict_waiter w;

    verdict_waiter_begin(m, &w);
    while (m->left != NULL && co_park(deadline, "messages without their clients") == CO_OK)
        continue;
    verdict_waiter_end(m, &w);
}

co_fn void verdict_flush(struct verdict *m, uint64_t deadline)
{
    wait_for_copies(m, deadline);
    if (m->undone.n > 0)
        verdict_writer_sweep(m);
    verdict_writer_wait(m, deadline);
}

/* ---- is anything known? ---- */

/* Where there is no database nothing is known, until it is time to look for one again. */
static bool is_accounted(const struct verdict *m)
{
    return m->store == NULL ? clock_ms() < m->reopen_ms : verdict_store_is_accounted(m->store);
}

/* Runs first: the verdict of a run is counted as kept before the run is gone. */
bool verdict_is_empty(const struct verdict *m)
{
    return m->shared == NULL || (verdict_shared_get(m->shared, VERDICT_RUNS) == 0 &&
                                 verdict_shared_get(m->shared, VERDICT_ENTRIES) == 0 && is_accounted(m));
}

/* One worker of the host, now and then: for what has expired, and sooner when the account is not right. */
static void sweep_now_and_then(struct verdict *m)
{
    uint64_t now = clock_ms(), last = atomic_load(&m->shared->swept_ms);

    if (verdict_writer_is_due(m) && !m->is_writing)
        verdict_writer_sweep(m);
    if (last != 0 && now - last < (is_accounted(m) ? SWEEP_MS : RECOUNT_MS))
        return;
    if (atomic_compare_exchange_strong(&m->shared->swept_ms, &last, now))
        verdict_writer_sweep(m);
}

bool verdict_may_know(struct verdict *m, const struct mail_envelope *envelope, uint64_t content_size)
{
    size_t slot;

    if (verdict_is_empty(m))
        return false;
    sweep_now_and_then(m);
    if (!is_accounted(m))
        return true;
    slot = verdict_shared_slot(verdict_hint(m->filter, envelope, content_size));
    return atomic_load(&m->shared->run_hints[slot]) != 0 || atomic_load(&m->shared->kept_hints[slot]) != 0;
}

/* ---- a message ---- */

bool verdict_recall(struct verdict *m, struct verdict_key *key, struct mail_reply *reply_r)
{
    struct verdict_store *store = verdict_writer_store(m);

    if (store == NULL || !verdict_store_get(store, key, reply_r))
        return false;
    verdict_shared_count(m->shared, VERDICT_HITS);
    return true;
}

/* Runs first here too: at every moment a message is running, or kept, or both. */
enum verdict_found verdict_start(struct verdict *m, struct verdict_key *key, struct mail_reply *reply_r)
{
    if (m->shared == NULL)
        return VERDICT_FRESH;
    switch (verdict_shared_find(m->shared, key)) {
    case VERDICT_SCANNED:
        return VERDICT_RUNNING;
    case VERDICT_GONE:
        return VERDICT_FRESH;
    case VERDICT_NONE:
        break;
    }
    return verdict_recall(m, key, reply_r) ? VERDICT_REMEMBERED : VERDICT_FRESH;
}

bool verdict_abandon(struct verdict *m, const struct verdict_key *key)
{
    return m->shared == NULL || verdict_shared_add(m->shared, key, m->worker, VERDICT_SCANNED);
}

/* Until the verdict is on disk copies wait for it as for a running scan. */
static co_fn void keep(struct verdict *m, struct verdict_key *key, const struct mail_reply *reply,
                       uint64_t deadline)
{
    if (!verdict_shared_has(m->shared, key, m->worker))
        verdict_abandon(m, key);
    if (verdict_writer_put(m, key, reply))
        verdict_writer_wait(m, deadline);
    else
        verdict_shared_remove(m->shared, key, m->worker, VERDICT_SCANNED);
}

/* Sure only when this worker has nothing to write that the account does not know of yet. */
static bool is_kept_surely_not(const struct verdict *m, const struct verdict_key *key)
{
    return m->asked == m->done && m->store != NULL && is_accounted(m) &&
           atomic_load(&m->shared->kept_hints[verdict_shared_slot(key->hint)]) == 0;
}

/* The tombstone stands until the database has let go of the verdict. */
static void forget(struct verdict *m, const struct verdict_key *key)
{
    bool has_tombstone;

    if (is_kept_surely_not(m, key))
        return;
    has_tombstone = verdict_shared_add(m->shared, key, m->worker, VERDICT_GONE);
    if (!verdict_writer_drop(m, key) && has_tombstone)
        verdict_shared_remove(m->shared, key, m->worker, VERDICT_GONE);
}

co_fn void verdict_end(struct verdict *m, struct verdict_key *key, const struct mail_reply *reply, bool heard,
                       uint64_t deadline)
{
    if (m->shared == NULL)
        return;
    if (!heard && verdict_record_is_worth(reply)) {
        keep(m, key, reply, deadline);
        return;
    }
    if (heard)
        forget(m, key);
    verdict_shared_remove(m->shared, key, m->worker, VERDICT_SCANNED);
    verdict_wake(m);
}

void verdict_heard(struct verdict *m, const struct verdict_key *key)
{
    if (m->shared == NULL)
        return;
    verdict_shared_count(m->shared, VERDICT_HEARD);
    forget(m, key);
}

/* ---- numbers ---- */

bool verdict_snapshot(const struct conf *conf, struct verdict_snapshot *out_r)
{
    uint64_t n[VERDICT_COUNTERS];

    if (!verdict_shared_read(conf_text(conf, "data_directory"), n))
        return false;
    *out_r = (struct verdict_snapshot){.entries = n[VERDICT_ENTRIES],
                                       .running = n[VERDICT_RUNS],
                                       .kept = n[VERDICT_KEPT],
                                       .hits = n[VERDICT_HITS],
                                       .heard = n[VERDICT_HEARD],
                                       .expired = n[VERDICT_EXPIRED],
                                       .evicted = n[VERDICT_EVICTED],
                                       .waits = n[VERDICT_WAITS]};
    return true;
}
