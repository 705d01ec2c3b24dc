/*
 * What the thread pool does for messages that are being written. A job holds all that the thread needs
 * (descriptors, buffers, names): a writer whose deadline passed or whose session was cancelled goes on its
 * way while the thread still works.
 */
#ifndef QUEUE_FILE_QUEUE_JOB_H
#define QUEUE_FILE_QUEUE_JOB_H

#include "queue_journal.h"

#include <stdatomic.h>
#include <sys/uio.h>

enum { QUEUE_BATCH_SIZE = 32, QUEUE_JOB_PARTS = 3 };

/* Who is first: the thread that made the message durable, or the writer that gave it up. */
enum queue_decision { QUEUE_OPEN, QUEUE_DURABLE, QUEUE_ABANDONED };

struct queue_job {
    int incoming, dir; /* of the queue: where large files grow, and where the message goes */
    enum queue_place place;
    int fd; /* large messages before commit, and inside the jobs; else -1 */
    bool is_large;
    bool is_named; /* dir/name is ours */
    char name[MAIL_ID_SIZE];
    char tmp[QUEUE_TMP_SIZE]; /* incoming/tmp, while large and not renamed; else "" */
    struct buf head;          /* small: header and envelope; large: envelope */
    struct buf content;       /* all of it, or what is not written yet */
    char header[QUEUE_HEADER_SIZE];
    uint64_t written;     /* bytes of content in the file */
    uint64_t recorded_at; /* its place in the journal's half, which made it durable; 0: none */
    atomic_int decision;
    int code; /* how it ended: 0 or errno, and what was tried */
    const char *step;

    /* queue_commit.c */
    struct co *waiter; /* NULL: given up */
    bool is_done;
    struct queue_job *prev, *next; /* in the queue's list of those that wait for a batch */
};

/* talloc memory of ctx; freeing it removes a file that is not committed. */
struct queue_job *queue_job_new(const void *ctx, int incoming);

/* On a thread: writes what is in job->content to a large message's file. */
void queue_job_write_piece(void *job);
/* A small message's file, and its size. */
void queue_job_parts(const struct queue_job *job, struct iovec parts[QUEUE_JOB_PARTS]);
uint64_t queue_job_size(const struct queue_job *job);
/*
 * On a thread: makes each message durable, or nothing of it is left; at most QUEUE_BATCH_SIZE. Order for
 * each: content and envelope, mode, then what makes it durable, the decision. Durable makes one write and one
 * sync of the journal for all that it takes; for the others, and for all when the journal fails, fsync of the
 * file, (rename into place,) fsync of the directory. A directory is synced once for all.
 */
void queue_job_commit(struct queue_job **jobs, size_t n, struct queue_journal_slot *journal);
/* Blocking: writes a small message that is complete then, but not synced. 0 or errno. */
int queue_job_restore(struct queue_job *job);

/* queue_commit.c: waits until the message is durable or has failed (true: the job is the caller's again), or
 * the wait ends otherwise (false: the job is gone, *end_r tells, *was_durable_r whether it was committed all
 * the same). */
co_fn bool queue_commit(struct queue *q, struct queue_job *job, uint64_t deadline, enum co_end *end_r,
                        bool *was_durable_r);

#endif
