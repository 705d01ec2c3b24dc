/*
 * Commits in batches. While the disk is busy with some messages, those that become ready meanwhile gather;
 * they go to a thread together, and share one hand-over, one wake-up and one sync of the journal (or, without
 * it, of the directory). A message that comes alone waits for nobody.
 */
#include "queue_job.h"

#include "mem.h"

#include <utlist.h>

enum { BATCHES = 1 };

struct batch {
    struct queue *q;
    struct queue_job *jobs[QUEUE_BATCH_SIZE];
    size_t n;
    struct queue_journal_slot journal;
};

static void start_batches(struct queue *q);

static void on_thread(void *arg)
{
    struct batch *b = arg;

    queue_job_commit(b->jobs, b->n, &b->journal);
}

/* A job whose writer gave up goes with the batch. */
static co_fn void run_batch(void *arg)
{
    struct batch *b = arg;

    queue_journal_begin(b->q, b->jobs, b->n, &b->journal);
    co_work(on_thread, b, CO_NEVER, "the disk");
    queue_journal_end(b->q, &b->journal);
    for (size_t i = 0; i < b->n; i++) {
        struct queue_job *job = b->jobs[i];

        job->is_done = true;
        if (job->waiter == NULL)
            continue;
        talloc_steal(NULL, job);
        co_wake(job->waiter);
    }
    b->q->batches--;
    start_batches(b->q);
    talloc_free(b);
}

static void start_batches(struct queue *q)
{
    while (q->waiting != NULL && q->batches < BATCHES) {
        struct batch *b = mem_new(NULL, struct batch);

        b->q = q;
        while (q->waiting != NULL && b->n < QUEUE_BATCH_SIZE) {
            struct queue_job *job = q->waiting;

            DL_DELETE(q->waiting, job);
            b->jobs[b->n++] = talloc_steal(b, job);
            job->next = job->prev = NULL;
        }
        q->batches++;
        co_spawn(run_batch, b, "queue commit");
    }
}

/* Given up before a thread had it, or while one has it: then both agree by one exchange who was first. */
static bool give_up(struct queue *q, struct queue_job *job)
{
    int open = QUEUE_OPEN;
    bool is_durable = !atomic_compare_exchange_strong(&job->decision, &open, QUEUE_ABANDONED);

    job->waiter = NULL;
    if (job->prev != NULL) { /* utlist: the first one's prev is the last */
        DL_DELETE(q->waiting, job);
        talloc_free(job);
    }
    return is_durable;
}

co_fn bool queue_commit(struct queue *q, struct queue_job *job, uint64_t deadline, enum co_end *end_r,
                        bool *was_durable_r)
{
    void *owner = talloc_parent(job);

    job->waiter = co_self();
    talloc_steal(NULL, job);
    DL_APPEND(q->waiting, job);
    start_batches(q);
    *end_r = CO_OK;
    while (!job->is_done && *end_r == CO_OK)
        *end_r = co_park(deadline, "commit queue file");
    if (!job->is_done) {
        *was_durable_r = give_up(q, job);
        return false;
    }
    talloc_steal(owner, job);
    return true;
}
