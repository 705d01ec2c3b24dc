/*
 * Writing a message: the promise behind every 250.
 *
 * All system calls are made on the thread pool, in one job. What the thread needs (descriptors, buffers,
 * names) hangs on the job and not on the writer, because a writer whose deadline passed or whose session was
 * cancelled goes on its way while the thread still works. Then it must be certain that the message is not
 * queued: the thread, done but still holding the lock on the file, and the writer decide by one atomic
 * exchange who is first.
 *
 * Order: content and envelope, mode, fsync of the file, (rename into place,) fsync of the directory,
 * acknowledgement.
 */
#include "queue_private.h"

#include "clock.h"
#include "mem.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/uio.h>
#include <unistd.h>

enum { PIECE_TIMEOUT_MS = 60000, CREATE_TRIES = 100 };

enum decision { OPEN, DURABLE, ABANDONED };

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
};

struct queue_writer {
    struct queue *q;
    struct queue_job *job; /* NULL after a job was left behind, and after commit */
    uint64_t size;
    int code; /* the first failure */
    char *step;
};

static int free_job(struct queue_job *job)
{
    if (job->tmp[0] != '\0')
        unlinkat(job->incoming, job->tmp, 0);
    if (job->fd >= 0)
        close(job->fd);
    buf_deinit(&job->head);
    buf_deinit(&job->content);
    return 0;
}

struct queue_writer *queue_writer_new(const void *ctx, struct queue *q)
{
    struct queue_writer *w = mem_new(ctx, struct queue_writer);

    w->q = q;
    w->job = mem_new(w, struct queue_job);
    w->job->fd = -1;
    w->job->incoming = q->place[QUEUE_INCOMING];
    talloc_set_destructor(w->job, free_job);
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

/* ---- on the thread ---- */

static bool failed(struct queue_job *job, int code, const char *step)
{
    job->code = code;
    job->step = step;
    return false;
}

/*
 * Creates dir/name and locks it. Start-up repair in another process may see the file between the two and
 * remove it as one without a writer: a file that has lost its name is not used.
 */
static bool create(struct queue_job *job, int dir, const char *name)
{
    struct stat st;

    for (int i = 0; i < CREATE_TRIES; i++) {
        job->fd = openat(dir, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (job->fd < 0)
            return failed(job, errno, "create");
        if (flock(job->fd, LOCK_EX) != 0 || fstat(job->fd, &st) != 0) {
            failed(job, errno, "lock");
            unlinkat(dir, name, 0);
            return false;
        }
        if (st.st_nlink > 0) {
            job->code = 0;
            return true;
        }
        close(job->fd);
        job->fd = -1;
    }
    return failed(job, EAGAIN, "create");
}

static bool write_parts(struct queue_job *job, struct iovec *part, int n, uint64_t offset)
{
    while (n > 0) {
        ssize_t done = pwritev(job->fd, part, n, (off_t)offset);

        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return failed(job, done < 0 ? errno : EIO, "write");
        offset += (uint64_t)done;
        for (; n > 0 && (size_t)done >= part->iov_len; part++, n--)
            done -= (ssize_t)part->iov_len;
        if (n > 0) {
            part->iov_base = (char *)part->iov_base + done;
            part->iov_len -= (size_t)done;
        }
    }
    return true;
}

static struct iovec part_of(const void *p, size_t n)
{
    return (struct iovec){.iov_base = (void *)(uintptr_t)p, .iov_len = n};
}

/* Names only have to differ among live processes: what a dead one left behind is another try. */
static bool create_large(struct queue_job *job)
{
    static atomic_uint counter;

    for (int i = 0; i < CREATE_TRIES; i++) {
        char name[QUEUE_TMP_SIZE];

        snprintf(name, sizeof(name), QUEUE_TMP_PREFIX "%d.%u", (int)getpid(), atomic_fetch_add(&counter, 1));
        if (create(job, job->incoming, name)) {
            memcpy(job->tmp, name, sizeof(name));
            return true;
        }
        if (job->code != EEXIST)
            return false;
    }
    return false;
}

/* A job of its own: one piece of a large message. */
static void write_piece(void *arg)
{
    struct queue_job *job = arg;
    struct iovec part = part_of(job->content.p, job->content.n);

    if (job->fd < 0 && !create_large(job))
        return;
    if (write_parts(job, &part, 1, QUEUE_HEADER_SIZE + job->written))
        job->written += job->content.n;
}

static bool write_small(struct queue_job *job)
{
    struct iovec parts[3] = {part_of(job->head.p, job->head.n), part_of(job->content.p, job->content.n),
                             part_of(QUEUE_END, QUEUE_END_SIZE)};

    if (!create(job, job->dir, job->name))
        return false;
    job->is_named = true;
    return write_parts(job, parts, 3, 0);
}

/* The header comes last: until then the file is not one of ours. */
static bool write_large(struct queue_job *job)
{
    struct iovec parts[3] = {part_of(job->content.p, job->content.n), part_of(job->head.p, job->head.n),
                             part_of(QUEUE_END, QUEUE_END_SIZE)};
    struct iovec header = part_of(job->header, QUEUE_HEADER_SIZE);

    return write_parts(job, parts, 3, QUEUE_HEADER_SIZE + job->written) && write_parts(job, &header, 1, 0);
}

static bool sync_file(struct queue_job *job)
{
    if (fchmod(job->fd, 0700) != 0)
        return failed(job, errno, "set mode");
    if (fsync(job->fd) != 0)
        return failed(job, errno, "sync");
    return true;
}

static bool sync_name(struct queue_job *job)
{
    if (job->is_large) {
        int code = queue_rename(job->incoming, job->tmp, job->dir, job->name);

        if (code != 0)
            return failed(job, code, "rename");
        job->is_named = true;
        job->tmp[0] = '\0';
    }
    if (fsync(job->dir) != 0)
        return failed(job, errno, "sync directory");
    return true;
}

static bool decide(struct queue_job *job)
{
    int open = OPEN;

    if (atomic_compare_exchange_strong(&job->decision, &open, DURABLE))
        return true;
    return failed(job, ECANCELED, "commit");
}

static void commit(void *arg)
{
    struct queue_job *job = arg;
    bool done = (job->is_large ? write_large(job) : write_small(job)) && sync_file(job) && sync_name(job) &&
                decide(job);

    if (!done && job->is_named) {
        fchmod(job->fd, 0600); /* if the name cannot be removed, start-up does */
        unlinkat(job->dir, job->name, 0);
    }
    if (job->fd >= 0)
        close(job->fd); /* and unlocks */
    job->fd = -1;
}

/* ---- in the coroutine ---- */

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

/* The job as it came back; or NULL, left behind. */
static co_fn bool run(struct queue_writer *w, void (*fn)(void *arg), uint64_t deadline, const char *label)
{
    enum co_end end = co_work(fn, w->job, deadline, label);

    if (end == CO_OK)
        return true;
    w->code = end == CO_TIMEOUT ? ETIMEDOUT : ECANCELED;
    w->step = mem_strdup(w, label);
    return false;
}

static co_fn struct error *flush(struct queue_writer *w)
{
    if (!run(w, write_piece, clock_ms() + PIECE_TIMEOUT_MS, "write queue file")) {
        w->job = NULL;
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

/* The thread was left behind, perhaps after it was done. It frees the job in this thread, on a later turn of
 * the loop, so the job may be looked at here. */
static struct error *leave(struct queue_writer *w)
{
    int open = OPEN;
    bool is_durable = !atomic_compare_exchange_strong(&w->job->decision, &open, ABANDONED);

    w->job = NULL;
    if (!is_durable)
        return failure(w);
    w->code = 0;
    return NULL;
}

co_fn struct error *queue_writer_commit(struct queue_writer *w, const struct queue_envelope *env,
                                        enum queue_place place, uint64_t deadline)
{
    const char *why;
    struct error *e = NULL;

    if (w->code != 0)
        return failure(w);
    assert(w->job != NULL); /* once a writer */
    if (!mail_id_is_valid(bytes_of(env->id)))
        return error_new(ERROR_PERM, "queue file: not a queue id");
    why = format(w, env);
    if (why != NULL)
        return error_new(ERROR_PERM, "queue file %s: %s", env->id, why);
    snprintf(w->job->name, sizeof(w->job->name), "%s", env->id);
    w->job->dir = w->q->place[place];
    if (!run(w, commit, deadline, "commit queue file"))
        e = leave(w);
    else if (w->job->code != 0)
        e = fail(w, w->job->code, w->job->step);
    else
        TALLOC_FREE(w->job);
    return error_prepend(e, "%s", env->id);
}
