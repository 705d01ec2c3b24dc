/* Writing messages on a thread: the promise behind every 250. See queue_job.h. */
#include "queue_job.h"

#include "mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/uio.h>
#include <unistd.h>

enum { CREATE_TRIES = 100, DIRECTORIES = 2 };

static int destroy(struct queue_job *job)
{
    if (job->tmp[0] != '\0')
        unlinkat(job->incoming, job->tmp, 0);
    if (job->fd >= 0)
        close(job->fd);
    buf_deinit(&job->head);
    buf_deinit(&job->content);
    return 0;
}

struct queue_job *queue_job_new(const void *ctx, int incoming)
{
    struct queue_job *job = mem_new(ctx, struct queue_job);

    job->fd = -1;
    job->incoming = incoming;
    talloc_set_destructor(job, destroy);
    return job;
}

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

int queue_write_parts(int fd, struct iovec *part, int n, uint64_t offset)
{
    while (n > 0) {
        ssize_t done = pwritev(fd, part, n, (off_t)offset);

        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return done < 0 ? errno : EIO;
        offset += (uint64_t)done;
        for (; n > 0 && (size_t)done >= part->iov_len; part++, n--)
            done -= (ssize_t)part->iov_len;
        if (n > 0) {
            part->iov_base = (char *)part->iov_base + done;
            part->iov_len -= (size_t)done;
        }
    }
    return 0;
}

static bool write_parts(struct queue_job *job, struct iovec *part, int n, uint64_t offset)
{
    int code = queue_write_parts(job->fd, part, n, offset);

    return code == 0 || failed(job, code, "write");
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

void queue_job_write_piece(void *arg)
{
    struct queue_job *job = arg;
    struct iovec part = part_of(job->content.p, job->content.n);

    if (job->fd < 0 && !create_large(job))
        return;
    if (write_parts(job, &part, 1, QUEUE_HEADER_SIZE + job->written))
        job->written += job->content.n;
}

void queue_job_parts(const struct queue_job *job, struct iovec parts[QUEUE_JOB_PARTS])
{
    parts[0] = part_of(job->head.p, job->head.n);
    parts[1] = part_of(job->content.p, job->content.n);
    parts[2] = part_of(QUEUE_END, QUEUE_END_SIZE);
}

uint64_t queue_job_size(const struct queue_job *job)
{
    return job->head.n + job->content.n + QUEUE_END_SIZE;
}

static bool write_small(struct queue_job *job)
{
    struct iovec parts[QUEUE_JOB_PARTS];

    if (!create(job, job->dir, job->name))
        return false;
    job->is_named = true;
    queue_job_parts(job, parts);
    return write_parts(job, parts, QUEUE_JOB_PARTS, 0);
}

/* The header comes last: until then the file is not one of ours. */
static bool write_large(struct queue_job *job)
{
    struct iovec parts[3] = {part_of(job->content.p, job->content.n), part_of(job->head.p, job->head.n),
                             part_of(QUEUE_END, QUEUE_END_SIZE)};
    struct iovec header = part_of(job->header, QUEUE_HEADER_SIZE);

    return write_parts(job, parts, 3, QUEUE_HEADER_SIZE + job->written) && write_parts(job, &header, 1, 0);
}

/* Complete, for whoever finds it. All messages of a batch come so far before the first is synced: their
 * inodes share a block of the disk, which then is written once. */
static void complete(struct queue_job *job)
{
    bool is_written = job->is_large ? write_large(job) : write_small(job);

    if (is_written && fchmod(job->fd, 0700) != 0)
        failed(job, errno, "set mode");
}

static bool sync_file(struct queue_job *job)
{
    return fsync(job->fd) == 0 || failed(job, errno, "sync");
}

static bool put_in_place(struct queue_job *job)
{
    int code;

    if (!job->is_large)
        return true;
    code = queue_rename(job->incoming, job->tmp, job->dir, job->name);
    if (code != 0)
        return failed(job, code, "rename");
    job->is_named = true;
    job->tmp[0] = '\0';
    return true;
}

/* ---- many at once ---- */

/* A directory is synced when the first message in it asks; the others share the answer. */
struct synced {
    int dir[DIRECTORIES], code[DIRECTORIES];
    size_t n;
};

static int sync_directory(struct synced *s, int dir)
{
    size_t i = 0;

    while (i < s->n && s->dir[i] != dir)
        i++;
    if (i == s->n) {
        s->dir[i] = dir;
        s->code[i] = fsync(dir) != 0 ? errno : 0;
        s->n++;
    }
    return s->code[i];
}

/* All that the journal did not make durable. */
static void sync_one_by_one(struct queue_job **jobs, size_t n)
{
    struct synced synced = {.n = 0};

    for (size_t i = 0; i < n; i++)
        if (jobs[i]->recorded_at == 0 && jobs[i]->code == 0 && sync_file(jobs[i]))
            put_in_place(jobs[i]);
    for (size_t i = 0; i < n; i++)
        if (jobs[i]->recorded_at == 0 && jobs[i]->code == 0) {
            int code = sync_directory(&synced, jobs[i]->dir);

            if (code != 0)
                failed(jobs[i], code, "sync directory");
        }
}

static void decide(struct queue_job *job)
{
    int open = QUEUE_OPEN;

    if (!atomic_compare_exchange_strong(&job->decision, &open, QUEUE_DURABLE))
        failed(job, ECANCELED, "commit");
}

static void finish(struct queue_job *job)
{
    if (job->code != 0 && job->is_named) {
        fchmod(job->fd, 0600); /* if the name cannot be removed, start-up does */
        unlinkat(job->dir, job->name, 0);
    }
    if (job->fd >= 0)
        close(job->fd); /* and unlocks */
    job->fd = -1;
}

void queue_job_commit(struct queue_job **jobs, size_t n, struct queue_journal_slot *journal)
{
    for (size_t i = 0; i < n; i++) {
        jobs[i]->code = 0;
        complete(jobs[i]);
    }
    if (journal->fd >= 0)
        queue_journal_write(journal, jobs, n);
    sync_one_by_one(jobs, n);
    for (size_t i = 0; i < n; i++) {
        if (jobs[i]->code == 0)
            decide(jobs[i]);
        finish(jobs[i]);
    }
    if (journal->fd >= 0 && journal->code == 0)
        queue_journal_void(journal, jobs, n);
}

int queue_job_restore(struct queue_job *job)
{
    complete(job);
    finish(job);
    return job->code;
}
