/* A batch in the journal: one write, one sync, on a thread. See queue_journal.h. */
#include "queue_journal.h"

#include "clock.h"
#include "format.h"
#include "queue_job.h"

#include <errno.h>
#include <sys/uio.h>
#include <unistd.h>

enum { PARTS = 4 }; /* of a record: head, and the three of a small queue file */
_Static_assert(QUEUE_BATCH_SIZE * sizeof(struct queue_journal_record) <= QUEUE_JOURNAL_BLOCK,
               "a block takes back a whole batch");

struct writing { /* large: only what is in use is ever cleared */
    struct queue_journal_record record[QUEUE_BATCH_SIZE];
    struct iovec part[QUEUE_BATCH_SIZE * PARTS + 1];
    int parts;
    size_t n;
    uint64_t size;
};

static bool failed(struct queue_journal_slot *slot, int code, const char *step)
{
    slot->code = code;
    slot->step = step;
    return false;
}

static uint64_t to_block(uint64_t n)
{
    return (n + QUEUE_JOURNAL_BLOCK - 1) / QUEUE_JOURNAL_BLOCK * QUEUE_JOURNAL_BLOCK;
}

static bool is_taken(uint64_t half_size, const struct queue_job *job)
{
    return !job->is_large && queue_job_size(job) <= half_size / QUEUE_JOURNAL_SHARE;
}

uint64_t queue_journal_need(uint64_t half_size, struct queue_job **jobs, size_t n)
{
    uint64_t need = 0;

    for (size_t i = 0; i < n; i++)
        if (is_taken(half_size, jobs[i]))
            need += sizeof(struct queue_journal_record) + queue_job_size(jobs[i]);
    return need == 0 ? 0 : to_block(need) + QUEUE_JOURNAL_BLOCK; /* the last: to take back what is given up */
}

static void add_part(struct writing *w, const void *p, size_t n)
{
    w->part[w->parts++] = (struct iovec){.iov_base = (void *)(uintptr_t)p, .iov_len = n};
    w->size += n;
}

static struct queue_journal_record *add_record(struct writing *w, const struct queue_journal_slot *slot,
                                               const struct queue_job *job)
{
    struct queue_journal_record *record = &w->record[w->n++];

    *record = (struct queue_journal_record){
        .generation = slot->generation, .salt = slot->salt, .written_us = clock_real_us()};
    format_print(record->id, sizeof(record->id), "%s", job->name);
    add_part(w, record, sizeof(*record));
    return record;
}

static void add_message(struct writing *w, const struct queue_journal_slot *slot, const struct queue_job *job)
{
    struct queue_journal_record *record = add_record(w, slot, job);
    struct iovec parts[QUEUE_JOB_PARTS];

    queue_job_parts(job, parts);
    record->kind = job->place == QUEUE_HOLD ? QUEUE_JOURNAL_HOLD : QUEUE_JOURNAL_INCOMING;
    record->length = (uint32_t)queue_job_size(job);
    for (int i = 0; i < QUEUE_JOB_PARTS; i++) {
        record->crc = queue_crc(record->crc, bytes(parts[i].iov_base, parts[i].iov_len));
        add_part(w, parts[i].iov_base, parts[i].iov_len);
    }
}

/* Completes the heads, now that it is known which is the last, and writes all. */
static bool write_records(struct writing *w, struct queue_journal_slot *slot)
{
    static const char zeros[QUEUE_JOURNAL_BLOCK];
    uint64_t offset = slot->half * slot->half_size + slot->used;
    size_t padding = to_block(w->size) - w->size;
    int code;

    w->record[w->n - 1].padding = (uint32_t)padding;
    for (size_t i = 0; i < w->n; i++)
        queue_journal_format_record(&w->record[i]);
    add_part(w, zeros, padding);
    slot->used += w->size;
    code = queue_write_parts(slot->fd, w->part, w->parts, offset);
    if (code != 0)
        return failed(slot, code, "write journal");
    return fdatasync(slot->fd) == 0 || failed(slot, errno, "sync journal");
}

void queue_journal_write(struct queue_journal_slot *slot, struct queue_job **jobs, size_t n)
{
    uint64_t start = slot->used, at[QUEUE_BATCH_SIZE] = {0};
    struct writing w;

    w.parts = 0;
    w.n = 0;
    w.size = 0;
    for (size_t i = 0; i < n; i++)
        if (jobs[i]->code == 0 && is_taken(slot->half_size, jobs[i])) {
            at[i] = start + w.size;
            add_message(&w, slot, jobs[i]);
        }
    if (w.n == 0 || !write_records(&w, slot))
        return;
    for (size_t i = 0; i < n; i++)
        jobs[i]->recorded_at = at[i];
}

void queue_journal_void(struct queue_journal_slot *slot, struct queue_job **jobs, size_t n)
{
    struct writing w;

    w.parts = 0;
    w.n = 0;
    w.size = 0;
    for (size_t i = 0; i < n; i++)
        if (jobs[i]->recorded_at != 0 && jobs[i]->code != 0) {
            struct queue_journal_record *record = add_record(&w, slot, jobs[i]);

            record->kind = QUEUE_JOURNAL_VOID;
            record->voided = jobs[i]->recorded_at;
        }
    if (w.n > 0)
        write_records(&w, slot);
}
