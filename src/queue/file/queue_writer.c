/* Writing a message: content gathers in memory or goes to a file in pieces; the commit is queue_commit.c's.
 */
#include "queue_job.h"

#include "clock.h"
#include "format.h"
#include "mem.h"

#include <assert.h>
#include <errno.h>

enum {
    PIECE_TIMEOUT_MS = 60000,
    FIRST_ROOM = 8191, /* a small message is not moved as it grows */
};

struct queue_writer {
    struct queue *q;
    struct queue_job *job; /* NULL after a job was left behind, and after commit */
    uint64_t size;
    int code; /* the first failure */
    char *step;
};

struct queue_writer *queue_writer_new(const void *ctx, struct queue *q)
{
    struct queue_writer *w = mem_new(ctx, struct queue_writer);

    w->q = q;
    w->job = queue_job_new(w, q->place[QUEUE_INCOMING]);
    return w;
}

void queue_writer_free(struct queue_writer **w)
{
    TALLOC_FREE(*w);
}

uint64_t queue_writer_size(const struct queue_writer *w)
{
    return w->size;
}

static struct error *failure(const struct queue_writer *w)
{
    if (w->code == 0)
        return NULL;
    return error_errno(w->code, "queue file: %s", w->step);
}

/* Keeps the first failure and forgets the content. */
static struct error *fail(struct queue_writer *w, int code, const char *step)
{
    if (w->code == 0) {
        w->code = code;
        w->step = mem_strdup(w, step);
    }
    if (w->job != NULL)
        TALLOC_FREE(w->job);
    return failure(w);
}

static void note_end(struct queue_writer *w, enum co_end end, const char *label)
{
    w->job = NULL; /* left to the thread */
    w->code = end == CO_TIMEOUT ? ETIMEDOUT : ECANCELED;
    w->step = mem_strdup(w, label);
}

static co_fn struct error *flush(struct queue_writer *w)
{
    enum co_end end =
        co_work(queue_job_write_piece, w->job, clock_ms() + PIECE_TIMEOUT_MS, "write queue file");

    if (end != CO_OK) {
        note_end(w, end, "write queue file");
        return failure(w);
    }
    if (w->job->code != 0)
        return fail(w, w->job->code, w->job->step);
    buf_cut(&w->job->content, 0);
    w->job->is_large = true;
    return NULL;
}

co_fn struct error *queue_writer_content(struct queue_writer *w, struct bytes piece)
{
    if (w->code != 0)
        return failure(w);
    w->size += piece.n;
    if (w->job->content.room == 0)
        buf_reserve(&w->job->content, FIRST_ROOM);
    while (piece.n > 0) {
        struct buf *content = &w->job->content;
        size_t room = QUEUE_MEMORY_LIMIT - content->n, n = piece.n < room ? piece.n : room;
        struct error *e;

        if (room == 0) {
            e = flush(w);
            if (e != NULL)
                return e;
            continue;
        }
        buf_add(content, bytes(piece.p, n));
        piece = bytes_skip(piece, n);
    }
    return NULL;
}

/* Header and envelope as text in the job. */
static const char *format(struct queue_writer *w, const struct queue_envelope *env)
{
    struct queue_job *job = w->job;
    size_t start = job->is_large ? 0 : QUEUE_HEADER_SIZE;
    struct queue_layout layout = {.content_size = w->size, .rcpt_count = env->rcpt_count};
    const char *why;

    buf_reserve(&job->head, start + 256 + env->rcpt_count * 32);
    job->head.n = start;
    why = queue_format_envelope(&job->head, env);
    if (why != NULL)
        return why;
    layout.envelope_size = job->head.n - start;
    layout.content_offset = QUEUE_HEADER_SIZE + (job->is_large ? 0 : layout.envelope_size);
    layout.envelope_offset = QUEUE_HEADER_SIZE + (job->is_large ? w->size : 0);
    queue_format_header(job->header, &layout, bytes(job->head.p + start, layout.envelope_size));
    if (!job->is_large)
        memcpy(job->head.p, job->header, QUEUE_HEADER_SIZE);
    return NULL;
}

co_fn struct error *queue_writer_commit(struct queue_writer *w, const struct queue_envelope *env,
                                        enum queue_place place, uint64_t deadline)
{
    const char *why;
    struct error *e = NULL;
    enum co_end end;
    bool was_durable;

    if (w->code != 0)
        return failure(w);
    assert(w->job != NULL); /* once a writer */
    if (!mail_id_is_valid(bytes_of(env->id)))
        return error_new(ERROR_PERM, "queue file: not a queue id");
    why = format(w, env);
    if (why != NULL)
        return error_new(ERROR_PERM, "queue file %s: %s", env->id, why);
    format_print(w->job->name, sizeof(w->job->name), "%s", env->id);
    w->job->place = place;
    w->job->dir = w->q->place[place];
    if (!queue_id_is_free(w->q, env->id))
        return error_prepend(fail(w, EEXIST, "create"), "%s", env->id);
    queue_seen_note(bytes_of(env->id));
    if (!queue_commit(w->q, w->job, deadline, &end, &was_durable)) {
        note_end(w, end, "commit queue file");
        w->code = was_durable ? 0 : w->code;
        e = failure(w);
    } else if (w->job->code != 0)
        e = fail(w, w->job->code, w->job->step);
    else
        TALLOC_FREE(w->job);
    return error_prepend(e, "%s", env->id);
}
