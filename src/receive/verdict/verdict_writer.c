/*
 * Writes to the database: gathered while one is under way, done together on a thread, by one coroutine that
 * lives as long as there is something to write. A worker has at most one thread waiting for this disk.
 *
 * A verdict that cannot be written is not remembered. One that was heard has to go, or the next message like
 * it would be lost: its tombstone stands until the disk is good again, and it goes with the next write.
 */
#include "verdict_private.h"

#include "clock.h"
#include "log.h"
#include "mem.h"

enum {
    BATCH = 256,
    QUEUE_LIMIT = 8192, /* a disk that hangs: what comes on top is not remembered */
    UNDONE_LIMIT = 4096,
    REOPEN_MS = 10 * 1000,
};

struct job {
    struct verdict_store *store;
    struct verdict_ops ops;
    size_t retried; /* of them, the first ones */
    int code;
    bool is_done;
};

/* ---- lists ---- */

static void append(struct verdict_ops *list, struct verdict_op *op)
{
    op->next = NULL;
    if (list->first == NULL)
        list->last = &list->first;
    *list->last = op;
    list->last = &op->next;
    list->n++;
}

static struct verdict_op *take_first(struct verdict_ops *list)
{
    struct verdict_op *op = list->first;

    list->first = op->next;
    list->n--;
    return op;
}

/* ---- the database ---- */

static void warn_once(struct verdict *m, int code)
{
    if (!m->is_warned)
        log_warn("%s/verdicts: %s: verdicts are not remembered", m->store_conf.directory,
                 verdict_store_text(code));
    m->is_warned = true;
}

void verdict_writer_give_up(struct verdict *m, unsigned generation)
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
        verdict_writer_give_up(m, generation);
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

    job->code = verdict_store_write(job->store, job->ops.first);
}

static struct job *take_batch(struct verdict *m)
{
    struct job *job = mem_new(m, struct job);

    job->retried = m->undone.n;
    while (m->undone.n > 0)
        append(&job->ops, talloc_steal(job, take_first(&m->undone)));
    for (int n = 0; n < BATCH && m->queued.n > 0; n++)
        append(&job->ops, talloc_steal(job, take_first(&m->queued)));
    return job;
}

/* What waited for the write may go on: copies find the verdict, or none. */
static void settle(struct verdict *m, const struct verdict_op *op)
{
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
        verdict_writer_give_up(m, generation);
}

/* A second time when the database had to be made anew. */
static co_fn void run_batch(struct verdict *m, struct job *job)
{
    for (int i = 0; i < 2; i++) {
        job->store = refresh(m);
        if (job->store == NULL)
            return;
        co_work(write_batch, job, CO_NEVER, "verdict memory");
        job->is_done = job->code == 0;
        if (job->is_done) {
            m->is_warned = false;
            return;
        }
        mend(m, job->code);
        if (!verdict_store_is_damage(job->code))
            return;
    }
}

static void end_batch(struct verdict *m, struct job *job)
{
    m->done += job->ops.n - job->retried;
    while (job->ops.n > 0) {
        struct verdict_op *op = take_first(&job->ops);

        if (!job->is_done && op->kind == VERDICT_DROP && m->undone.n < UNDONE_LIMIT)
            append(&m->undone, talloc_steal(m, op));
        else
            settle(m, op);
    }
    if (m->undone.n > 0)
        m->retry_ms = clock_ms() + REOPEN_MS;
}

static co_fn void write_all(void *arg)
{
    struct verdict *m = arg;

    co_shield(true);
    while (m->queued.n > 0) {
        struct job *job = take_batch(m);

        run_batch(m, job);
        end_batch(m, job);
        talloc_free(job);
        verdict_wake(m);
    }
    m->is_writing = false;
}

/* ---- the queue ---- */

static struct verdict_op *queue(struct verdict *m, enum verdict_op_kind kind, const struct verdict_key *key)
{
    struct verdict_op *op = mem_new(m, struct verdict_op);

    op->kind = kind;
    op->at_us = clock_real_us();
    if (key != NULL)
        op->key = *key;
    append(&m->queued, op);
    m->asked++;
    if (!m->is_writing) {
        m->is_writing = true;
        co_spawn(write_all, m, "verdict memory");
    }
    return op;
}

static bool has_room(struct verdict *m)
{
    return m->queued.n < QUEUE_LIMIT && verdict_writer_store(m) != NULL;
}

bool verdict_writer_put(struct verdict *m, struct verdict_key *key, const struct mail_reply *reply)
{
    unsigned char record[VERDICT_RECORD_LIMIT];
    struct verdict_op *op;

    if (!has_room(m))
        return false;
    op = queue(m, VERDICT_PUT, key);
    key->kept_us = op->at_us;
    op->code = reply->code;
    op->record_size = verdict_record_format(key, reply, op->at_us, record);
    op->record = talloc_memdup(op, record, op->record_size);
    return true;
}

/* A clock that was set back since the verdict was kept must not save it. */
bool verdict_writer_drop(struct verdict *m, const struct verdict_key *key)
{
    struct verdict_op *op;

    if (m->queued.n >= QUEUE_LIMIT + UNDONE_LIMIT)
        return false;
    op = queue(m, VERDICT_DROP, key);
    if (op->at_us < key->kept_us)
        op->at_us = key->kept_us;
    return true;
}

void verdict_writer_sweep(struct verdict *m)
{
    if (has_room(m))
        queue(m, VERDICT_SWEEP, NULL);
}

bool verdict_writer_is_due(const struct verdict *m)
{
    return m->undone.n > 0 && clock_ms() >= m->retry_ms;
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
