/*
 * This process's journal, as the loop sees it: which half takes records, when it is checkpointed, and what
 * happens when it cannot be used. One batch and one checkpoint may be on threads at the same time, never in
 * the same half. See queue_journal.h.
 */
#include "queue_journal.h"

#include "clock.h"
#include "co.h"
#include "log.h"
#include "mem.h"

#include <errno.h>
#include <unistd.h>

enum {
    DELAY_MS = 10000, /* from a half's first record to its checkpoint */
    RETRY_MS = 10000, /* until a journal that could not be had is asked for again */
};

enum state { UNASKED, PREPARING, READY, STOPPED };

struct queue_journal {
    struct queue *q;
    uint64_t half_size, delay_ms;
    enum state state;
    uint64_t retry_ms;
    bool is_warned;
    struct queue_journal_file file;
    uint64_t used[2], since_ms[2]; /* since: the first record */
    unsigned at;                   /* the half that takes records */
    bool is_writing[2];            /* a batch is on its way there */
    bool is_kept;                  /* what the halves hold is left to start-up */
    struct co *keeper;             /* checkpoints; lives while there are records */
};

static int close_file(struct queue_journal *j)
{
    if (j->file.fd >= 0)
        close(j->file.fd);
    return 0;
}

struct queue_journal *queue_journal_new(struct queue *q, const struct queue_conf *conf)
{
    struct queue_journal *j = mem_new(q, struct queue_journal);
    uint64_t half = conf->journal_size / 2 / QUEUE_JOURNAL_BLOCK * QUEUE_JOURNAL_BLOCK;

    if (half < QUEUE_JOURNAL_HALF_LEAST)
        half = QUEUE_JOURNAL_HALF_LEAST;
    j->half_size = half < QUEUE_JOURNAL_HALF_LIMIT ? half : QUEUE_JOURNAL_HALF_LIMIT;
    j->delay_ms = conf->journal_delay_ms != 0 ? conf->journal_delay_ms : DELAY_MS;
    j->q = q;
    j->file.fd = -1;
    talloc_set_destructor(j, close_file);
    return j;
}

bool queue_journal_is_ready(const struct queue *q)
{
    return q->journal != NULL && q->journal->state == READY;
}

/* ---- making it ready ---- */

struct taking {
    struct queue_journal_file file;
    int journal_dir;
    const char *boot_id;
    uint64_t half_size;
    bool is_taken;
};

static void take(void *arg)
{
    struct taking *t = arg;

    t->is_taken = queue_journal_take(&t->file, t->journal_dir, t->boot_id, t->half_size);
}

/* EAGAIN: start-up repair will see to it. */
static void note_refusal(struct queue_journal *j, const struct queue_journal_file *f)
{
    j->state = UNASKED;
    j->retry_ms = clock_ms() + RETRY_MS;
    if (f->code != EAGAIN && !j->is_warned) {
        log_warn("queue journal: cannot %s: %s; queue files are synced one by one", f->step,
                 strerror(f->code));
        j->is_warned = true;
    }
}

static co_fn void make_ready(void *arg)
{
    struct queue_journal *j = arg;
    struct taking *t = mem_new(NULL, struct taking);

    *t = (struct taking){.file = {.fd = -1, .queue_dir = j->q->place[QUEUE_INCOMING]},
                         .journal_dir = j->q->journals,
                         .boot_id = j->q->boot_id,
                         .half_size = j->half_size};
    co_work(take, t, CO_NEVER, "the queue's journal");
    if (t->is_taken) {
        j->file = t->file;
        j->used[0] = j->used[1] = QUEUE_JOURNAL_BLOCK;
        j->state = READY;
    } else {
        note_refusal(j, &t->file);
    }
    talloc_free(t);
}

static void stop(struct queue_journal *j, int code, const char *step)
{
    if (j->state != STOPPED)
        log_warn("queue journal: cannot %s: %s; queue files are synced one by one from now on", step,
                 strerror(code));
    j->state = STOPPED;
}

/* ---- checkpoints ---- */

static bool has_records(const struct queue_journal *j, unsigned half)
{
    return j->used[half] > QUEUE_JOURNAL_BLOCK;
}

struct checkpoint {
    struct queue_journal *j;
    bool which[2];
    bool is_done;
};

static void checkpoint_on_thread(void *arg)
{
    struct checkpoint *c = arg;

    c->is_done = queue_journal_checkpoint(&c->j->file, c->which, c->j->q->boot_id);
}

static co_fn bool checkpoint(struct queue_journal *j, unsigned half)
{
    struct checkpoint *c = mem_new(NULL, struct checkpoint);
    bool is_done;

    c->j = j;
    c->which[half] = true;
    co_work(checkpoint_on_thread, c, CO_NEVER, "a checkpoint of the journal");
    is_done = c->is_done;
    talloc_free(c);
    if (is_done)
        j->used[half] = QUEUE_JOURNAL_BLOCK;
    else
        stop(j, j->file.code, j->file.step);
    return is_done;
}

/* A half takes no more records, and no batch is on its way there, before it is checkpointed. */
static co_fn void keep(void *arg)
{
    struct queue_journal *j = arg;

    while (!j->is_kept && (has_records(j, 0) || has_records(j, 1))) {
        unsigned half = has_records(j, !j->at) ? !j->at : j->at;

        if (half == j->at && clock_ms() < j->since_ms[half] + j->delay_ms) {
            co_park(j->since_ms[half] + j->delay_ms, "the journal's checkpoint");
            continue;
        }
        j->at = !half;
        if (j->is_writing[half]) {
            co_park(CO_NEVER, "a batch in the journal");
            continue;
        }
        j->is_kept = !checkpoint(j, half);
    }
    j->keeper = NULL;
}

void queue_settle(struct queue *q)
{
    struct queue_journal *j = q->journal;
    bool which[2];

    if (j == NULL || j->is_kept || j->file.fd < 0)
        return;
    for (unsigned i = 0; i < 2; i++)
        which[i] = has_records(j, i);
    if ((which[0] || which[1]) && !queue_journal_checkpoint(&j->file, which, q->boot_id))
        stop(j, j->file.code, j->file.step);
}

/* ---- batches ---- */

/* True: `need` bytes fit into the half that takes records now. */
static bool find_half(struct queue_journal *j, uint64_t need)
{
    if (j->used[j->at] + need <= j->half_size)
        return true;
    if (has_records(j, !j->at) || need > j->half_size - QUEUE_JOURNAL_BLOCK)
        return false;
    j->at = !j->at;
    if (j->keeper != NULL)
        co_wake(j->keeper);
    return true;
}

void queue_journal_begin(struct queue *q, struct queue_job **jobs, size_t n,
                         struct queue_journal_slot *slot_r)
{
    struct queue_journal *j = q->journal;
    const struct queue_journal_header *header;
    uint64_t need;

    *slot_r = (struct queue_journal_slot){.fd = -1};
    if (j == NULL)
        return;
    if (j->state == UNASKED && clock_ms() >= j->retry_ms) {
        j->state = PREPARING;
        co_spawn(make_ready, j, "queue journal");
    }
    need = j->state == READY ? queue_journal_need(j->half_size, jobs, n) : 0;
    if (need == 0 || !find_half(j, need))
        return;
    header = &j->file.half[j->at];
    *slot_r = (struct queue_journal_slot){.fd = j->file.fd,
                                          .half = j->at,
                                          .half_size = j->half_size,
                                          .used = j->used[j->at],
                                          .generation = header->generation,
                                          .salt = header->salt};
    if (!has_records(j, j->at))
        j->since_ms[j->at] = clock_ms();
    j->is_writing[j->at] = true;
}

void queue_journal_end(struct queue *q, const struct queue_journal_slot *slot)
{
    struct queue_journal *j = q->journal;

    if (slot->fd < 0)
        return;
    j->is_writing[slot->half] = false;
    j->used[slot->half] = slot->used;
    if (slot->code != 0)
        stop(j, slot->code, slot->step);
    if (j->keeper == NULL)
        j->keeper = co_spawn(keep, j, "queue journal");
    else if (slot->half != j->at)
        co_wake(j->keeper);
}
