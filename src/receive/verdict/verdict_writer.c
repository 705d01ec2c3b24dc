/*
 * Writes to the database: gathered while one is under way, done together on a thread, by one coroutine that
 * lives as long as there is something to write. A worker has at most one thread waiting for this disk.
 */
#include "verdict_private.h"

#include "clock.h"
#include "log.h"
#include "mem.h"

enum {
    BATCH = 256,
    QUEUE_LIMIT = 8192, /* a disk that hangs: what comes on top is not remembered */
    REOPEN_MS = 10 * 1000,
};

struct job {
    struct verdict_store *store;
    struct verdict_op *ops;
    int code;
};

/* ---- the database ---- */

static void warn_once(struct verdict *m, int code)
{
    if (!m->is_warned)
        log_warn("%s/verdicts: %s: verdicts are not remembered", m->store_conf.directory,
                 verdict_store_text(code));
    m->is_warned = true;
}

static void give_up(struct verdict *m, unsigned generation)
{
    if (verdict_store_give_up(&m->store_conf, generation))
        log_warn("%s/verdicts is damaged: moved to verdicts.bad; what it remembered is lost",
                 m->store_conf.directory);
    else
        log_warn("%s/verdicts is damaged and cannot be moved to verdicts.bad", m->store_conf.directory);
}

static int open_store(struct verdict *m)
{
    unsigned generation = atomic_load(&m->shared->generation);
    int code = verdict_store_open(m, &m->store_conf, &m->store);

    if (verdict_store_is_damage(code)) {
        give_up(m, generation);
        code = verdict_store_open(m, &m->store_conf, &m->store);
    }
    return code;
}

static struct verdict_store *refresh(struct verdict *m)
{
    int code;

    if (m->store != NULL && verdict_store_is_current(m->store))
        return m->store;
    TALLOC_FREE(m->store);
    if (clock_ms() < m->reopen_ms)
        return NULL;
    code = open_store(m);
    if (code != 0) {
        warn_once(m, code);
        m->reopen_ms = clock_ms() + REOPEN_MS;
    }
    return m->store;
}

struct verdict_store *verdict_writer_store(struct verdict *m)
{
    return m->is_writing ? m->store : refresh(m);
}

/* ---- one batch ---- */

static void write_batch(void *arg)
{
    struct job *job = arg;

    job->code = verdict_store_write(job->store, job->ops);
}

static struct verdict_op *take_batch(struct verdict *m, const void *owner)
{
    struct verdict_op *first = m->first, *last = first;

    talloc_steal(owner, first);
    for (int n = 1; n < BATCH && last->next != NULL; n++)
        last = talloc_steal(owner, last->next);
    m->first = last->next;
    if (m->first == NULL)
        m->last = &m->first;
    last->next = NULL;
    return first;
}

/* What waited for the write may go on: copies find the verdict, or none. */
static void settle(struct verdict *m, const struct verdict_op *op)
{
    m->done++;
    if (op->kind == VERDICT_PUT)
        verdict_shared_remove(m->shared, &op->key, m->worker, VERDICT_SCANNED);
    else if (op->kind == VERDICT_DROP)
        verdict_shared_remove(m->shared, &op->key, m->worker, VERDICT_GONE);
}

/* LMDB's handle is of no use after some failures, so it is closed after each. No thread has it now. */
static void mend(struct verdict *m, int code)
{
    unsigned generation = verdict_store_generation(m->store);

    warn_once(m, code);
    TALLOC_FREE(m->store);
    if (verdict_store_is_damage(code))
        give_up(m, generation);
}

/* A second time when the database had to be made anew. */
static co_fn void run_batch(struct verdict *m, struct job *job)
{
    for (int i = 0; i < 2; i++) {
        job->store = refresh(m);
        if (job->store == NULL)
            return;
        co_work(write_batch, job, CO_NEVER, "verdict memory");
        if (job->code == 0) {
            m->is_warned = false;
            return;
        }
        mend(m, job->code);
        if (!verdict_store_is_damage(job->code))
            return;
    }
}

static co_fn void write_all(void *arg)
{
    struct verdict *m = arg;

    co_shield(true);
    while (m->first != NULL) {
        struct job *job = mem_new(m, struct job);

        job->ops = take_batch(m, job);
        run_batch(m, job);
        for (const struct verdict_op *op = job->ops; op != NULL; op = op->next)
            settle(m, op);
        talloc_free(job);
        verdict_wake(m);
    }
    m->is_writing = false;
}

/* ---- the queue ---- */

static struct verdict_op *queue(struct verdict *m, enum verdict_op_kind kind, const struct verdict_key *key)
{
    struct verdict_op *op;

    if (m->asked - m->done >= QUEUE_LIMIT || verdict_writer_store(m) == NULL)
        return NULL;
    op = mem_new(m, struct verdict_op);
    op->kind = kind;
    op->at_us = clock_real_us();
    if (key != NULL)
        op->key = *key;
    if (m->last == NULL)
        m->last = &m->first;
    *m->last = op;
    m->last = &op->next;
    m->asked++;
    if (!m->is_writing) {
        m->is_writing = true;
        co_spawn(write_all, m, "verdict memory");
    }
    return op;
}

bool verdict_writer_put(struct verdict *m, const struct verdict_key *key, const struct mail_reply *reply)
{
    struct verdict_op *op = queue(m, VERDICT_PUT, key);
    unsigned char record[VERDICT_RECORD_LIMIT];

    if (op == NULL)
        return false;
    op->code = reply->code;
    op->record_size = verdict_record_format(key, reply, op->at_us, record);
    op->record = talloc_memdup(op, record, op->record_size);
    return true;
}

bool verdict_writer_drop(struct verdict *m, const struct verdict_key *key)
{
    return queue(m, VERDICT_DROP, key) != NULL;
}

void verdict_writer_sweep(struct verdict *m)
{
    queue(m, VERDICT_SWEEP, NULL);
}

co_fn enum co_end verdict_writer_wait(struct verdict *m, uint64_t deadline)
{
    struct verdict_waiter w;
    uint64_t all = m->asked;
    enum co_end end = CO_OK;

    verdict_waiter_begin(m, &w);
    while (m->done < all && end == CO_OK)
        end = co_park(deadline, "verdict to be kept");
    verdict_waiter_end(m, &w);
    return end;
}
