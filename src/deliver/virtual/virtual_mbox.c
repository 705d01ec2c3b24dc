/*
 * A message at the end of a mbox file, under the locks that virtual_mailbox_lock names. A failure cuts the
 * file back to where it was.
 *
 * The fcntl lock is of the open file description kind: it keeps out other programs' fcntl locks as well as
 * our own other threads, which a lock of the process would not.
 */
#include "bytes.h"
#include "clock.h"
#include "mem.h"
#include "virtual_mailbox.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static bool is_contended(int code)
{
    return code == EAGAIN || code == EACCES || code == EWOULDBLOCK;
}

static bool locked_out(struct virtual_job *job, const char *step)
{
    if (is_contended(errno))
        job->end = VIRTUAL_LOCKED;
    else
        virtual_job_fail(job, step);
    return false;
}

static bool lock_file(struct virtual_job *job, int fd)
{
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

    if ((job->locks & VIRTUAL_LOCK_FCNTL) && fcntl(fd, F_OFD_SETLK, &whole) != 0)
        return locked_out(job, "fcntl lock");
    if ((job->locks & VIRTUAL_LOCK_FLOCK) && flock(fd, LOCK_EX | LOCK_NB) != 0)
        return locked_out(job, "flock");
    return true;
}

/* A lock file whose owner died is nobody's. */
static void remove_stale(const struct virtual_job *job, const char *lock)
{
    struct stat st;
    uint64_t now = clock_real_us() / 1000000;

    if (lstat(lock, &st) == 0 && (uint64_t)st.st_mtime + job->stale_us / 1000000 < now)
        unlink(lock);
}

static bool make_dotlock(struct virtual_job *job, const char *lock)
{
    int flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
    int fd = open(lock, flags, 0600);

    if (fd < 0 && errno == EEXIST) {
        remove_stale(job, lock);
        fd = open(lock, flags, 0600);
    }
    if (fd >= 0) {
        close(fd);
        return true;
    }
    if (errno == EEXIST)
        job->end = VIRTUAL_LOCKED;
    else
        virtual_job_fail(job, "make the lock file");
    return false;
}

static int open_mbox(struct virtual_job *job)
{
    int flags = O_RDWR | O_CREAT | O_APPEND | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC;
    int fd = open(job->path, flags, 0600);

    if (fd < 0 && errno == ENOENT && virtual_make_parents(job->path))
        fd = open(job->path, flags, 0600);
    if (fd < 0)
        virtual_job_fail(job, "open");
    return fd;
}

/* The file is still the one under its name, a plain file with one name, and the owner's. */
static bool check_file(struct virtual_job *job, int fd, struct stat *st_r)
{
    struct stat named;

    if (fstat(fd, st_r) != 0)
        return virtual_job_fail(job, "fstat");
    if (!S_ISREG(st_r->st_mode) || st_r->st_nlink > 1 || (job->checks_owner && st_r->st_uid != job->uid)) {
        job->end = VIRTUAL_NOT_OURS;
        return false;
    }
    if (lstat(job->path, &named) != 0 || named.st_ino != st_r->st_ino || named.st_dev != st_r->st_dev) {
        job->end = VIRTUAL_LOCKED; /* replaced while we waited for the lock */
        return false;
    }
    if (job->limit != 0 && (uint64_t)st_r->st_size + virtual_copy_size(job) > job->limit) {
        job->end = VIRTUAL_FULL;
        return false;
    }
    return true;
}

/* What a crash left without a line end must not swallow our From_ line. */
static bool end_last_line(struct virtual_job *job, int fd, off_t size)
{
    char last;

    if (size == 0 || (pread(fd, &last, 1, size - 1) == 1 && last == '\n'))
        return true;
    return write(fd, "\n\n", 2) == 2 || virtual_job_fail(job, "write");
}

static void append(struct virtual_job *job, int fd)
{
    struct stat st;

    if (!check_file(job, fd, &st))
        return;
    if (end_last_line(job, fd, st.st_size) && virtual_copy(job, fd, true)) {
        if (fsync(fd) == 0)
            job->end = VIRTUAL_DELIVERED;
        else
            virtual_job_fail(job, "fsync");
    }
    if (job->end != VIRTUAL_DELIVERED && ftruncate(fd, st.st_size) != 0)
        job->step = "truncate back after a failure to write";
}

static void append_locked(struct virtual_job *job)
{
    int fd = open_mbox(job);

    if (fd < 0)
        return;
    if (lock_file(job, fd))
        append(job, fd);
    close(fd);
}

void virtual_mbox_deliver(struct virtual_job *job)
{
    char *lock = mem_printf(job, "%s.lock", job->path);

    if ((job->locks & VIRTUAL_LOCK_DOTLOCK) == 0) {
        append_locked(job);
        return;
    }
    if (!virtual_make_parents(job->path)) {
        virtual_job_fail(job, "make the folders");
        return;
    }
    if (!make_dotlock(job, lock))
        return;
    append_locked(job);
    unlink(lock);
}
