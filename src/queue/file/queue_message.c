/*
 * Messages that are in the queue: opening, reading the envelope, marking recipients, moving, removing. See
 * queue_file.h.
 */
#include "queue_private.h"

#include "mem.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

enum { FIRST_READ = 4096 }; /* header and a usual envelope at once */

static struct error *bad_id(void)
{
    return error_new(ERROR_PERM, "not a queue id");
}

static struct error *damaged(const char *why)
{
    struct error *e = error_new(ERROR_PERM, "%s", why);

    e->code = EBADMSG;
    return e;
}

/* All n bytes, or an error; a file that ends early is damage. */
static struct error *read_at(int fd, char *out, size_t n, uint64_t offset)
{
    size_t done = 0;

    while (done < n) {
        ssize_t got = pread(fd, out + done, n - done, (off_t)(offset + done));

        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return error_errno(errno, "read");
        if (got == 0)
            return damaged("file cut short");
        done += (size_t)got;
    }
    return NULL;
}

/* Header and end mark. `first` holds the first n bytes of the file. */
static struct error *read_layout(int fd, uint64_t file_size, struct bytes first,
                                 struct queue_layout *layout_r)
{
    char end[QUEUE_END_SIZE];
    const char *why;
    struct error *e;

    if (first.n < QUEUE_HEADER_SIZE)
        return damaged("file cut short");
    why = queue_parse_header(bytes(first.p, QUEUE_HEADER_SIZE), file_size, layout_r);
    if (why != NULL)
        return damaged(why);
    e = read_at(fd, end, sizeof(end), file_size - QUEUE_END_SIZE);
    if (e == NULL && memcmp(end, QUEUE_END, QUEUE_END_SIZE) != 0)
        e = damaged("end mark missing");
    return e;
}

/* What of the file's first bytes there is, at most `room`. */
static struct error *read_first(int fd, char *out, size_t room, uint64_t *file_size_r, size_t *n_r)
{
    struct stat st;

    *file_size_r = 0;
    *n_r = 0;
    if (fstat(fd, &st) != 0)
        return error_errno(errno, "stat");
    *file_size_r = st.st_size > 0 ? (uint64_t)st.st_size : 0;
    *n_r = *file_size_r < room ? (size_t)*file_size_r : room;
    return read_at(fd, out, *n_r, 0);
}

static struct error *check_open(const struct queue *q, enum queue_place place, int fd, bool lock)
{
    struct stat st, dir;
    struct queue_layout layout;
    char first[QUEUE_HEADER_SIZE];
    uint64_t size;
    size_t n;
    struct error *e;

    if (fstat(fd, &st) != 0 || fstat(q->place[place], &dir) != 0)
        return error_errno(errno, "stat");
    if (!S_ISREG(st.st_mode) || (st.st_uid != geteuid() && st.st_uid != dir.st_uid))
        return damaged("not a file of ours");
    if (!queue_is_complete(&st))
        return error_new(ERROR_TEMP, "not complete");
    if (lock && flock(fd, LOCK_EX | LOCK_NB) != 0)
        return error_errno(errno, "lock");
    e = read_first(fd, first, sizeof(first), &size, &n);
    return e ? e : read_layout(fd, size, bytes(first, n), &layout);
}

struct error *queue_message_open(struct queue *q, enum queue_place place, const char *id, bool lock,
                                 int *fd_r)
{
    char path[QUEUE_PATH_SIZE];
    struct error *e;
    int fd;

    if (!queue_path(q, place, id, path))
        return bad_id();
    fd = openat(q->place[place], path, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd < 0) {
        e = errno == ELOOP || errno == ENXIO ? damaged("not a file of ours") : error_errno(errno, "open");
        return error_prepend(e, "queue file %s/%s", queue_place_name(place), id);
    }
    e = check_open(q, place, fd, lock);
    if (e != NULL)
        close(fd);
    else
        *fd_r = fd;
    return error_prepend(e, "queue file %s/%s", queue_place_name(place), id);
}

/* The envelope's text, NUL-terminated, owned by ctx; from `first` as far as it is there. */
static struct error *read_envelope(const void *ctx, int fd, const struct queue_layout *layout,
                                   struct bytes first, char **text_r)
{
    size_t have = 0, size = (size_t)layout->envelope_size;
    char *text = mem_bytes(ctx, size + 1);

    if (layout->envelope_offset < first.n) {
        struct bytes part = bytes_skip(first, (size_t)layout->envelope_offset);

        have = part.n < size ? part.n : size;
        memcpy(text, part.p, have);
    }
    text[size] = '\0';
    *text_r = text;
    return read_at(fd, text + have, size - have, layout->envelope_offset + have);
}

struct error *queue_message_read(const void *ctx, int fd, struct queue_envelope **env_r)
{
    struct queue_envelope *env = mem_new(ctx, struct queue_envelope);
    struct queue_layout layout;
    char first[FIRST_READ], *text;
    const char *why = NULL;
    uint64_t size;
    size_t n;
    struct error *e = read_first(fd, first, sizeof(first), &size, &n);

    if (e == NULL)
        e = read_layout(fd, size, bytes(first, n), &layout);
    if (e == NULL)
        e = read_envelope(env, fd, &layout, bytes(first, n), &text);
    if (e == NULL)
        why = queue_parse_envelope(env, &layout, bytes(first, QUEUE_HEADER_SIZE), text);
    if (why != NULL)
        e = damaged(why);
    if (e != NULL)
        talloc_free(env);
    else
        *env_r = env;
    return e;
}

struct error *queue_message_mark(int fd, const struct queue_rcpt *rcpt, enum queue_rcpt_state state)
{
    char old[2], new = (char)state;
    struct error *e = read_at(fd, old, sizeof(old), rcpt->offset);
    ssize_t n;

    if (e != NULL)
        return error_prepend(e, "mark recipient");
    if ((old[0] != QUEUE_RCPT_TODO && old[0] != QUEUE_RCPT_DONE) || old[1] != ' ')
        return damaged("mark recipient: no recipient is there");
    do
        n = pwrite(fd, &new, 1, (off_t)rcpt->offset);
    while (n < 0 && errno == EINTR);
    return n == 1 ? NULL : error_errno(n < 0 ? errno : EIO, "mark recipient");
}

struct error *queue_message_move(struct queue *q, const char *id, enum queue_place from, enum queue_place to,
                                 time_t retry_at)
{
    const struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = retry_at}};
    char from_path[QUEUE_PATH_SIZE], to_path[QUEUE_PATH_SIZE];
    int code = 0;

    if (!queue_path(q, from, id, from_path) || !queue_path(q, to, id, to_path))
        return bad_id();
    queue_seen_note(bytes_of(id));
    if (from == QUEUE_INCOMING && to == QUEUE_ACTIVE)
        queue_taken_note(bytes_of(id));
    if (to == QUEUE_DEFERRED && utimensat(q->place[from], from_path, times, AT_SYMLINK_NOFOLLOW) != 0)
        code = errno;
    if (code == 0)
        code = queue_rename(q->place[from], from_path, q->place[to], to_path);
    if (code == ENOENT && to == QUEUE_DEFERRED) {
        code = queue_make_parents(q->place[to], to_path);
        if (code == 0)
            code = queue_rename(q->place[from], from_path, q->place[to], to_path);
    }
    if (code == 0)
        return NULL;
    return error_errno(code, "move queue file %s from %s to %s", id, queue_place_name(from),
                       queue_place_name(to));
}

struct error *queue_message_remove(struct queue *q, enum queue_place place, const char *id)
{
    char path[QUEUE_PATH_SIZE], reasons[QUEUE_PATH_SIZE];

    if (!queue_path(q, place, id, path) || !queue_reason_path(q, id, reasons))
        return bad_id();
    if (unlinkat(q->place[place], path, 0) != 0)
        return error_errno(errno, "remove queue file %s/%s", queue_place_name(place), id);
    unlinkat(q->defer, reasons, 0); /* there are none for most */
    return NULL;
}
