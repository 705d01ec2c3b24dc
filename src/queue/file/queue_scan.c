/*
 * Walking through the queue's directories: for the scheduler's scans, and for the repair at start-up.
 * Start-up must always succeed: what it cannot repair it names in the log and leaves alone.
 */
#include "queue_journal.h"

#include "log.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <unistd.h>

/* One entry that is no directory: its name within `dir`, an open directory. False: stop. */
struct walk {
    bool (*entry)(struct walk *walk, int dir, const char *prefix, const char *name, const struct stat *st);
    struct queue *q;
    enum queue_place place;
    bool (*found)(void *arg, const char *id, time_t mtime, uint64_t size);
    void *arg;
    bool is_stopped;
};

/* Subdirectories made for any hash_queue_depth are entered: their names are one character. */
static struct error *walk_dir(struct walk *walk, int dir_fd, const char *path, unsigned depth)
{
    int fd = openat(dir_fd, path[0] ? path : ".", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    struct error *e = NULL;
    struct dirent *at;
    struct stat st;

    if (dir == NULL) {
        e = error_errno(errno, "scan queue directory %s/%s", queue_place_name(walk->place), path);
        if (fd >= 0)
            close(fd);
        return e;
    }
    while (!walk->is_stopped && e == NULL && (at = readdir(dir)) != NULL) {
        char below[QUEUE_PATH_SIZE];

        if (at->d_name[0] == '.' || fstatat(fd, at->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0)
            continue;
        if (!S_ISDIR(st.st_mode)) {
            queue_seen_note(bytes_of(at->d_name));
            walk->is_stopped = !walk->entry(walk, fd, path, at->d_name, &st);
        } else if (at->d_name[1] == '\0' && depth < QUEUE_HASH_DEPTH_LIMIT) {
            snprintf(below, sizeof(below), "%s%s%c", path, path[0] ? "/" : "", at->d_name[0]);
            e = walk_dir(walk, dir_fd, below, depth + 1);
        }
    }
    closedir(dir);
    return e;
}

static struct error *walk_place(struct walk *walk, enum queue_place place)
{
    walk->place = place;
    return walk_dir(walk, walk->q->place[place], "", 0);
}

/* ---- scan ---- */

static bool scan_entry(struct walk *walk, int dir, const char *prefix, const char *name,
                       const struct stat *st)
{
    if (!mail_id_is_valid(bytes_of(name)) || (walk->place != QUEUE_CORRUPT && !queue_is_complete(st)))
        return true;
    return walk->found(walk->arg, name, st->st_mtime, (uint64_t)st->st_size);
}

struct error *queue_scan(struct queue *q, enum queue_place place,
                         bool (*found)(void *arg, const char *id, time_t mtime, uint64_t size), void *arg)
{
    struct walk walk = {.entry = scan_entry, .q = q, .found = found, .arg = arg};

    return walk_place(&walk, place);
}

/* ---- repair ---- */

/* A writer that lives holds the lock; one that has just created the file and not locked it yet notices that
 * it has lost its name (queue_writer.c). */
static void remove_incomplete(int dir, const char *name, bool is_tmp)
{
    int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    struct stat st;

    if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) &&
        st.st_nlink > 0 && (is_tmp || !queue_is_complete(&st))) {
        if (unlinkat(dir, name, 0) == 0)
            log_info("%s: removed (incomplete, never acknowledged)", name);
        else
            log_warn("%s: cannot remove incomplete queue file: %s", name, strerror(errno));
    }
    if (fd >= 0)
        close(fd);
}

/* Two names of one file: a move by link and unlink (queue_rename) was cut in the middle. */
static bool is_same_file(int dir, const char *name, const struct stat *st)
{
    struct stat other;

    return fstatat(dir, name, &other, AT_SYMLINK_NOFOLLOW) == 0 && other.st_dev == st->st_dev &&
           other.st_ino == st->st_ino;
}

/* Drops the name at hand when another place has the file too: of two names one is enough. */
static bool drop_second_name(struct walk *walk, int dir, const char *name, const struct stat *st)
{
    char path[QUEUE_PATH_SIZE];

    if (st->st_nlink < 2)
        return false;
    for (int i = 0; i < QUEUE_PLACES; i++)
        if (i != (int)walk->place && queue_path(walk->q, i, name, path) &&
            is_same_file(walk->q->place[i], path, st)) {
            log_info("%s: is in %s and %s: the former is dropped", name, queue_place_name(walk->place),
                     queue_place_name(i));
            return unlinkat(dir, name, 0) == 0;
        }
    return false;
}

static bool repair_written(struct walk *walk, int dir, const char *prefix, const char *name,
                           const struct stat *st)
{
    bool is_tmp = bytes_has_prefix(bytes_of(name), BYTES(QUEUE_TMP_PREFIX));

    if (!S_ISREG(st->st_mode))
        log_warn("%s/%s in the queue is not a regular file", queue_place_name(walk->place), name);
    else if (is_tmp || !queue_is_complete(st))
        remove_incomplete(dir, name, is_tmp);
    else
        drop_second_name(walk, dir, name, st);
    return true;
}

static bool repair_active(struct walk *walk, int dir, const char *prefix, const char *name,
                          const struct stat *st)
{
    int incoming = walk->q->place[QUEUE_INCOMING];
    int code;

    if (!mail_id_is_valid(bytes_of(name)) || !S_ISREG(st->st_mode)) {
        log_warn("active/%s in the queue is not ours", name);
        return true;
    }
    if (drop_second_name(walk, dir, name, st))
        return true;
    code = queue_rename(dir, name, incoming, name);
    if (code == 0)
        log_info("%s: returned from active to incoming", name);
    else
        log_warn("%s: cannot return from active to incoming: %s", name, strerror(code));
    return true;
}

/* hash_queue_depth was changed: the file goes where its id is looked for. */
static bool repair_deferred(struct walk *walk, int dir, const char *prefix, const char *name,
                            const struct stat *st)
{
    int top = walk->q->place[QUEUE_DEFERRED];
    char want[QUEUE_PATH_SIZE], have[QUEUE_PATH_SIZE + MAIL_ID_SIZE];
    int code;

    if (!queue_path(walk->q, QUEUE_DEFERRED, name, want) || !S_ISREG(st->st_mode)) {
        log_warn("deferred/%s in the queue is not ours", name);
        return true;
    }
    snprintf(have, sizeof(have), "%s%s%s", prefix, prefix[0] ? "/" : "", name);
    if (strcmp(have, want) == 0) {
        drop_second_name(walk, dir, name, st);
        return true;
    }
    code = queue_make_parents(top, want);
    if (code == 0)
        code = queue_rename(top, have, top, want);
    if (code == EEXIST && is_same_file(top, want, st))
        code = unlinkat(top, have, 0) == 0 ? 0 : errno;
    if (code != 0)
        log_warn("%s: cannot move from deferred/%s to deferred/%s: %s", name, have, want, strerror(code));
    return true;
}

/* Reasons of mail that is gone, or half written, are of no use; the others follow hash_queue_depth. */
static bool repair_reasons(struct walk *walk, int dir, const char *prefix, const char *name,
                           const struct stat *st)
{
    int top = walk->q->defer;
    char want[QUEUE_PATH_SIZE], have[QUEUE_PATH_SIZE + MAIL_ID_SIZE];
    enum queue_place place;
    bool is_tmp = bytes_has_prefix(bytes_of(name), BYTES(QUEUE_TMP_PREFIX));

    if (!S_ISREG(st->st_mode) || (!is_tmp && !queue_reason_path(walk->q, name, want))) {
        log_warn("defer/%s in the queue is not ours", name);
        return true;
    }
    snprintf(have, sizeof(have), "%s%s%s", prefix, prefix[0] ? "/" : "", name);
    if (is_tmp || !queue_message_find(walk->q, name, &place))
        unlinkat(top, have, 0);
    else if (strcmp(have, want) != 0 && queue_make_parents(top, want) == 0)
        queue_rename(top, have, top, want);
    return true;
}

struct error *queue_recover(struct queue *q)
{
    static const struct {
        enum queue_place place;
        bool (*entry)(struct walk *walk, int dir, const char *prefix, const char *name,
                      const struct stat *st);
    } steps[] = {
        {QUEUE_DEFERRED, repair_deferred}, /* first: then its files are where queue_replay() looks for them */
        {QUEUE_HOLD, repair_written},
        {QUEUE_INCOMING, repair_written},
        {QUEUE_ACTIVE, repair_active},
    };
    struct error *e = NULL;

    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]) && e == NULL; i++) {
        struct walk walk = {.entry = steps[i].entry, .q = q};

        e = walk_place(&walk, steps[i].place);
        if (e == NULL && steps[i].place == QUEUE_DEFERRED)
            queue_replay(q);
    }
    if (e == NULL) {
        struct walk walk = {.entry = repair_reasons, .q = q, .place = QUEUE_DEFERRED};

        e = walk_dir(&walk, q->defer, "", 0);
    }
    return e;
}
