/* What threads do with a journal's file as a whole: take and prepare it, empty its halves. See
 * queue_journal.h. */
#include "queue_journal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <unistd.h>

enum { ROOM_SHARE = 8, FIRST = QUEUE_JOURNAL_BLOCK + sizeof(struct queue_journal_record) };

static char zeros[16 * QUEUE_JOURNAL_BLOCK]; /* never written to */

static bool failed(struct queue_journal_file *f, int code, const char *step)
{
    f->code = code;
    f->step = step;
    return false;
}

static struct iovec part_of(const void *p, size_t n)
{
    return (struct iovec){.iov_base = (void *)(uintptr_t)p, .iov_len = n};
}

static int write_at(int fd, const void *p, size_t n, uint64_t offset)
{
    struct iovec part = part_of(p, n);

    return queue_write_parts(fd, &part, 1, offset);
}

/* ---- looking ---- */

static enum queue_journal_state look_at(int fd, uint64_t offset, const char *boot_id,
                                        struct queue_journal_header *header_r, const char **why_r)
{
    char first[FIRST];
    ssize_t n = pread(fd, first, sizeof(first), (off_t)offset);

    if (n < 0) {
        *why_r = "journal cannot be read";
        return QUEUE_JOURNAL_STRANGE;
    }
    return queue_journal_judge(bytes(first, (size_t)n), boot_id, header_r, why_r);
}

void queue_journal_look(int fd, const char *boot_id, struct queue_journal_header header_r[2],
                        enum queue_journal_state state_r[2], uint64_t *half_size_r, const char **why_r)
{
    struct stat st;

    memset(header_r, 0, 2 * sizeof(*header_r));
    state_r[0] = look_at(fd, 0, boot_id, &header_r[0], why_r);
    *half_size_r = header_r[0].half_size;
    if (state_r[0] == QUEUE_JOURNAL_FRESH || state_r[0] == QUEUE_JOURNAL_STRANGE)
        *half_size_r = fstat(fd, &st) == 0 ? (uint64_t)st.st_size / 2 : 0;
    state_r[1] = QUEUE_JOURNAL_FRESH;
    if (*half_size_r < QUEUE_JOURNAL_HALF_LEAST)
        return;
    state_r[1] = look_at(fd, *half_size_r, boot_id, &header_r[1], why_r);
    if (state_r[1] != QUEUE_JOURNAL_FRESH && state_r[1] != QUEUE_JOURNAL_STRANGE &&
        header_r[1].half_size != *half_size_r) {
        state_r[1] = QUEUE_JOURNAL_STRANGE;
        *why_r = "the halves of the journal disagree";
    }
}

/* ---- marking ---- */

static bool write_header(struct queue_journal_file *f, unsigned half)
{
    static const char step[] = "write journal header";
    char block[QUEUE_JOURNAL_BLOCK] = {0};
    int code;

    memcpy(block, &f->half[half], sizeof(f->half[half]));
    code = write_at(f->fd, block, sizeof(block), half * f->half[half].half_size);
    return code == 0 || failed(f, code, step);
}

static bool sync_file(struct queue_journal_file *f)
{
    return fdatasync(f->fd) == 0 || failed(f, errno, "sync journal");
}

static bool mark_empty(struct queue_journal_file *f, const bool which[2], const char *boot_id)
{
    for (unsigned i = 0; i < 2; i++)
        if (which[i]) {
            queue_journal_renew(&f->half[i], boot_id, f->half[i].half_size);
            if (!write_header(f, i))
                return false;
        }
    return sync_file(f);
}

/* What was not written to the disk may be gone from the page cache too, but it is in the journal. */
static void mark_owed(struct queue_journal_file *f, const bool which[2])
{
    for (unsigned i = 0; i < 2; i++)
        if (which[i]) {
            memset(f->half[i].boot_id, 0, sizeof(f->half[i].boot_id));
            queue_journal_format_header(&f->half[i]);
            pwrite(f->fd, &f->half[i], sizeof(f->half[i]), (off_t)(i * f->half[i].half_size));
        }
    fdatasync(f->fd);
}

bool queue_journal_checkpoint(struct queue_journal_file *f, const bool which[2], const char *boot_id)
{
    int code = syncfs(f->queue_dir) != 0 ? errno : 0;

    if (code == 0)
        return mark_empty(f, which, boot_id);
    mark_owed(f, which);
    return failed(f, code, "sync file system of the queue");
}

/* ---- taking ---- */

static bool has_room(int fd, uint64_t size)
{
    struct statvfs st;

    return fstatvfs(fd, &st) == 0 && (uint64_t)st.f_bavail * st.f_frsize / ROOM_SHARE >= size;
}

/* Allocated and written once, so that a later sync has nothing to write but the data. */
static bool fill(struct queue_journal_file *f, uint64_t size)
{
    int code;

    if (fallocate(f->fd, 0, 0, (off_t)size) != 0 && errno != EOPNOTSUPP)
        return failed(f, errno, "allocate journal");
    for (uint64_t at = 0; at < size; at += sizeof(zeros)) {
        code = write_at(f->fd, zeros, size - at < sizeof(zeros) ? size - at : sizeof(zeros), at);
        if (code != 0)
            return failed(f, code, "write journal");
    }
    return fsync(f->fd) == 0 || failed(f, errno, "sync journal");
}

static bool prepare(struct queue_journal_file *f, int journal_dir, uint64_t half_size)
{
    if (ftruncate(f->fd, 0) != 0)
        return failed(f, errno, "cut journal");
    if (!has_room(f->fd, 2 * half_size))
        return failed(f, ENOSPC, "make journal");
    if (!fill(f, 2 * half_size)) {
        if (ftruncate(f->fd, 0) != 0)
            f->step = "allocate journal, and give back its room";
        return false;
    }
    for (unsigned i = 0; i < 2; i++)
        f->half[i].half_size = half_size;
    return fsync(journal_dir) == 0 || failed(f, errno, "sync directory of journals");
}

static bool is_prepared(const struct queue_journal_file *f, uint64_t half_size)
{
    struct stat st;

    return f->half[0].half_size == half_size && f->half[1].half_size == half_size && fstat(f->fd, &st) == 0 &&
           (uint64_t)st.st_size == 2 * half_size;
}

enum taken { TAKEN, NOT_THIS_ONE, NONE };

/* The file is locked. */
static enum taken make_ready(struct queue_journal_file *f, int journal_dir, const char *boot_id,
                             uint64_t half_size)
{
    enum queue_journal_state state[2];
    uint64_t found_size;
    const char *why;
    bool is_dirty[2];

    queue_journal_look(f->fd, boot_id, f->half, state, &found_size, &why);
    if (state[0] == QUEUE_JOURNAL_STRANGE || state[1] == QUEUE_JOURNAL_STRANGE)
        return NOT_THIS_ONE;
    if (state[0] == QUEUE_JOURNAL_OWED || state[1] == QUEUE_JOURNAL_OWED) {
        failed(f, EAGAIN, "wait for journals to be replayed");
        return NONE;
    }
    for (int i = 0; i < 2; i++)
        is_dirty[i] = state[i] == QUEUE_JOURNAL_DIRTY;
    if ((is_dirty[0] || is_dirty[1]) && !queue_journal_checkpoint(f, is_dirty, boot_id))
        return NONE;
    if (!is_prepared(f, half_size) && !prepare(f, journal_dir, half_size))
        return NONE;
    return mark_empty(f, (bool[2]){true, true}, boot_id) ? TAKEN : NONE;
}

static enum taken take_one(struct queue_journal_file *f, int number, int journal_dir, const char *boot_id,
                           uint64_t half_size)
{
    enum taken taken = NOT_THIS_ONE;
    char name[16];

    snprintf(name, sizeof(name), "%d", number);
    f->fd = openat(journal_dir, name, O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600);
    if (f->fd < 0) {
        failed(f, errno, "open journal");
        return NONE;
    }
    if (flock(f->fd, LOCK_EX | LOCK_NB) == 0)
        taken = make_ready(f, journal_dir, boot_id, half_size);
    if (taken != TAKEN) {
        close(f->fd);
        f->fd = -1;
    }
    return taken;
}

bool queue_journal_take(struct queue_journal_file *f, int journal_dir, const char *boot_id,
                        uint64_t half_size)
{
    enum taken taken = NOT_THIS_ONE;

    for (int i = 0; i < QUEUE_JOURNAL_FILES && taken == NOT_THIS_ONE; i++)
        taken = take_one(f, i, journal_dir, boot_id, half_size);
    if (taken == NOT_THIS_ONE)
        failed(f, EBUSY, "find a journal that nobody has");
    return taken == TAKEN;
}
