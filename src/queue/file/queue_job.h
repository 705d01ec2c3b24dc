/*
 * What the thread pool does for messages that are being written. A job holds all that the thread needs
 * (descriptors, buffers, names): a writer whose deadline passed or whose session was cancelled goes on its
 * way while the thread still works.
 */
#ifndef QUEUE_FILE_QUEUE_JOB_H
#define QUEUE_FILE_QUEUE_JOB_H

#include "queue_private.h"

#include <stdatomic.h>

/* Who is first: the thread that made the message durable, or the writer that gave it up. */
enum queue_decision { QUEUE_OPEN, QUEUE_DURABLE, QUEUE_ABANDONED };

struct queue_job {
    int incoming, dir; /* of the queue: where large files grow, and where the message goes */
    int fd;            /* large messages before commit, and inside the jobs; else -1 */
    bool is_large;
    bool is_named; /* dir/name is ours */
    char name[MAIL_ID_SIZE];
    char tmp[QUEUE_TMP_SIZE]; /* incoming/tmp, while large and not renamed; else "" */
    struct buf head;          /* small: header and envelope; large: envelope */
    struct buf content;       /* all of it, or what is not written yet */
    char header[QUEUE_HEADER_SIZE];
    uint64_t written; /* bytes of content in the file */
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
/*
 * On a thread: makes each message durable, or nothing of it is left. Order for each: content and envelope,
 * mode, fsync of the file, (rename into place,) fsync of the directory, the decision. A directory is synced
 * once for all.
 */
void queue_job_commit(struct queue_job **jobs, size_t n);

/* queue_commit.c: waits until the message is durable or has failed (true: the job is the caller's again), or
 * the wait ends otherwise (false: the job is gone, *end_r tells, *was_durable_r whether it was committed all
 * the same). */
co_fn bool queue_commit(struct queue *q, struct queue_job *job, uint64_t deadline, enum co_end *end_r,
                        bool *was_durable_r);

#endif
