/* A message's content in memory, then in an unlinked file. See io_spool.h. */
#include "io_spool.h"

#include "buf.h"
#include "clock.h"
#include "mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

enum { PIECE_SIZE = 131072, SPARE_SIZE = 4096, IO_TIME_LIMIT_MS = 60000, BUDGET = 64 << 20 };

struct io_spool {
    const struct io_spool_conf *conf;
    struct buf tail; /* what is not in the file yet: everything, as long as there is no file */
    size_t counted;  /* bytes of ours in `memory_used` */
    int fd;          /* -1: no file */
    uint64_t in_file;
    int broken;            /* errno of the first failure */
    struct buf read_ahead; /* piece of the file, from read_at on */
    uint64_t read_at;
};

static size_t memory_used, memory_budget = BUDGET;

void io_spool_set_budget(size_t bytes_)
{
    memory_budget = bytes_;
}

size_t io_spool_memory(void)
{
    return memory_used;
}

static void count_memory(struct io_spool *s)
{
    size_t now = s->tail.room + s->read_ahead.room;

    memory_used += now - s->counted;
    s->counted = now;
}

void io_spool_reset(struct io_spool *s)
{
    if (s->fd >= 0)
        close(s->fd);
    buf_deinit(&s->tail);
    buf_deinit(&s->read_ahead);
    count_memory(s);
    s->fd = -1;
    s->in_file = s->read_at = 0;
    s->broken = 0;
}

static int destroy(struct io_spool *s)
{
    io_spool_reset(s);
    return 0;
}

struct io_spool *io_spool_new(const void *ctx, const struct io_spool_conf *conf)
{
    struct io_spool *s = mem_new(ctx, struct io_spool);

    s->conf = conf;
    s->fd = -1;
    talloc_set_destructor(s, destroy);
    return s;
}

uint64_t io_spool_size(const struct io_spool *s)
{
    return s->in_file + s->tail.n;
}

bool io_spool_is_in_memory(const struct io_spool *s)
{
    return s->in_file == 0;
}

struct io_spool *io_spool_clone(const void *ctx, const struct io_spool *s)
{
    struct io_spool *clone = io_spool_new(ctx, s->conf);

    clone->in_file = s->in_file;
    clone->broken = s->broken;
    buf_add(&clone->tail, buf_bytes(&s->tail));
    count_memory(clone);
    if (s->fd >= 0 && (clone->fd = fcntl(s->fd, F_DUPFD_CLOEXEC, 0)) < 0)
        TALLOC_FREE(clone);
    return clone;
}

/* ---- the file, on the thread pool ---- */

struct file_job {
    const char *dir;
    int fd; /* opened by the job when it is -1; the job's when nobody waits any more */
    bool owns_fd;
    uint64_t at;
    struct buf data; /* to write, or room for what is read */
    size_t want;     /* reading: bytes; 0: writing */
    int failure;
};

static int free_file_job(struct file_job *job)
{
    buf_deinit(&job->data);
    if (job->owns_fd && job->fd >= 0)
        close(job->fd);
    return 0;
}

static int open_unlinked(const char *dir)
{
    char path[4096];
    int fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

    if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL))
        return fd;
    if ((size_t)snprintf(path, sizeof(path), "%s/.spool-XXXXXX", dir) >= sizeof(path)) {
        errno = ENAMETOOLONG;
        return -1;
    }
    fd = mkostemp(path, O_CLOEXEC);
    if (fd >= 0)
        unlink(path);
    return fd;
}

static void write_job(void *arg)
{
    struct file_job *job = arg;
    size_t done = 0;

    if (job->fd < 0 && (job->fd = open_unlinked(job->dir)) < 0) {
        job->failure = errno;
        return;
    }
    while (done < job->data.n) {
        ssize_t n = pwrite(job->fd, job->data.p + done, job->data.n - done, (off_t)(job->at + done));

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            job->failure = n < 0 ? errno : ENOSPC;
            return;
        }
        done += (size_t)n;
    }
}

static void read_job(void *arg)
{
    struct file_job *job = arg;

    buf_reserve(&job->data, job->want);
    while (job->data.n < job->want) {
        ssize_t n = pread(job->fd, job->data.p + job->data.n, job->want - job->data.n,
                          (off_t)(job->at + job->data.n));

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            job->failure = n < 0 ? errno : EIO;
            return;
        }
        job->data.n += (size_t)n;
    }
}

static struct error *trouble(struct io_spool *s)
{
    return error_errno(s->broken, "message spool in %s", s->conf->dir);
}

/* Runs the job; on CO_TIMEOUT or cancellation the thread keeps the file, and we forget it. */
static co_fn bool run_job(struct io_spool *s, struct file_job *job, void (*fn)(void *arg))
{
    talloc_set_destructor(job, free_file_job);
    job->dir = s->conf->dir;
    job->fd = s->fd;
    job->owns_fd = true;
    s->fd = -1;
    if (co_work(fn, job, clock_ms() + IO_TIME_LIMIT_MS, "the message spool") != CO_OK) {
        s->broken = ETIMEDOUT;
        return false;
    }
    s->fd = job->fd;
    job->owns_fd = false;
    if (job->failure != 0)
        s->broken = job->failure;
    return job->failure == 0;
}

static co_fn void flush_tail(struct io_spool *s)
{
    struct file_job *job = mem_new(s, struct file_job);
    size_t n = s->tail.n;

    job->at = s->in_file;
    job->data = s->tail; /* counted until it is written */
    s->tail = (struct buf){0};
    co_shield(true); /* a write that is under way is finished, also for a session that is being ended */
    if (run_job(s, job, write_job)) {
        s->in_file += n;
        talloc_free(job);
    }
    count_memory(s);
    co_shield(false);
}

/* Beyond the budget, which belongs to all, a spool keeps what is not worth a write and no more. */
static bool is_full(const struct io_spool *s)
{
    if (memory_used > memory_budget && s->tail.n >= SPARE_SIZE)
        return true;
    return s->in_file > 0 ? s->tail.n >= PIECE_SIZE : s->tail.n > s->conf->memory_limit;
}

co_fn struct error *io_spool_write(struct io_spool *s, struct bytes text)
{
    if (s->broken)
        return trouble(s);
    buf_add(&s->tail, text);
    count_memory(s);
    if (is_full(s))
        flush_tail(s);
    return s->broken ? trouble(s) : NULL;
}

static co_fn void read_piece(struct io_spool *s, uint64_t offset)
{
    struct file_job *job = mem_new(s, struct file_job);
    uint64_t left = s->in_file - offset;

    job->at = offset;
    job->want = left < PIECE_SIZE ? (size_t)left : PIECE_SIZE;
    buf_deinit(&s->read_ahead);
    if (!run_job(s, job, read_job))
        return;
    s->read_ahead = job->data;
    s->read_at = offset;
    count_memory(s);
    job->data = (struct buf){0};
    talloc_free(job);
}

co_fn struct error *io_spool_read(struct io_spool *s, uint64_t offset, struct bytes *piece_r)
{
    *piece_r = bytes(NULL, 0);
    if (s->broken)
        return trouble(s);
    if (offset >= s->in_file) {
        *piece_r = bytes_skip(buf_bytes(&s->tail), (size_t)(offset - s->in_file));
        return NULL;
    }
    if (s->read_ahead.n == 0 || offset < s->read_at || offset >= s->read_at + s->read_ahead.n)
        read_piece(s, offset);
    if (s->broken)
        return trouble(s);
    *piece_r = bytes_skip(buf_bytes(&s->read_ahead), (size_t)(offset - s->read_at));
    return NULL;
}
