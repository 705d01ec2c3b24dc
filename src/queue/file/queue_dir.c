/*
 * The directories of a queue: opened once and kept, so that every later name is looked up below a descriptor
 * and no link put in the way can lead elsewhere (CVE-2008-2936 and its kin). Also what the directories alone
 * can tell: where an id is, how much room the disk has; and the scheduler's doorbell, public/qmgr.
 */
#include "queue_journal.h"

#include "clock.h"
#include "format.h"
#include "log.h"
#include "mem.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

static const char *const place_names[QUEUE_PLACES] = {"incoming", "active", "deferred", "hold", "corrupt"};

const char *queue_place_name(enum queue_place place)
{
    return place_names[place];
}

/* ---- opening ---- */

static int close_queue(struct queue *q)
{
    int fds[] = {q->root, q->defer, q->journals, q->notify};

    for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++)
        if (fds[i] >= 0)
            close(fds[i]);
    for (size_t i = 0; i < QUEUE_PLACES; i++)
        if (q->place[i] >= 0)
            close(q->place[i]);
    return 0;
}

static struct error *make_dir(struct queue *q, const struct queue_conf *conf, const char *name, mode_t mode)
{
    if (mkdirat(q->root, name, mode) != 0)
        return errno == EEXIST ? NULL : error_errno(errno, "make queue directory %s/%s", q->directory, name);
    if (geteuid() == 0 && (conf->owner != 0 || conf->group != 0) &&
        fchownat(q->root, name, conf->owner, conf->group, AT_SYMLINK_NOFOLLOW) != 0)
        return error_errno(errno, "give queue directory %s/%s to its owner", q->directory, name);
    if (fchmodat(q->root, name, mode, 0) != 0)
        return error_errno(errno, "set mode of queue directory %s/%s", q->directory, name);
    return NULL;
}

static struct error *open_dir(struct queue *q, const struct queue_conf *conf, const char *name, int *fd_r)
{
    struct error *e = make_dir(q, conf, name, 0700);
    struct stat st;

    if (e != NULL)
        return e;
    *fd_r = openat(q->root, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (*fd_r < 0 || fstat(*fd_r, &st) != 0)
        return error_errno(errno, "open queue directory %s/%s", q->directory, name);
    if (geteuid() != 0 && st.st_uid != geteuid())
        return error_new(ERROR_CONF, "queue directory %s/%s belongs to user %u, not to us (%u)", q->directory,
                         name, (unsigned)st.st_uid, (unsigned)geteuid());
    if (st.st_mode & (S_IWGRP | S_IWOTH))
        return error_new(ERROR_CONF, "queue directory %s/%s can be written by others", q->directory, name);
    return NULL;
}

static struct error *open_all(struct queue *q, const struct queue_conf *conf)
{
    struct error *e = NULL;

    q->root = open(q->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (q->root < 0)
        return error_errno(errno, "open queue directory %s", q->directory);
    for (int i = 0; i < QUEUE_PLACES && e == NULL; i++)
        e = open_dir(q, conf, place_names[i], &q->place[i]);
    if (e == NULL)
        e = open_dir(q, conf, "defer", &q->defer);
    if (e == NULL)
        e = open_dir(q, conf, "journal", &q->journals);
    if (e == NULL)
        e = make_dir(q, conf, "public", 0755);
    q->notify = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    return e;
}

/* Of this kernel; "" when it does not tell. */
static void read_boot_id(char id[QUEUE_BOOT_ID_SIZE])
{
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, id, QUEUE_BOOT_ID_SIZE - 1) : 0;

    if (fd >= 0)
        close(fd);
    id[n > 0 ? n : 0] = '\0';
    id[strcspn(id, "\n")] = '\0';
}

static void set_journal(struct queue *q, const struct queue_conf *conf)
{
    if (conf->boot_id != NULL)
        format_print(q->boot_id, sizeof(q->boot_id), "%s", conf->boot_id);
    else
        read_boot_id(q->boot_id);
    if (conf->journal_size > 0 && q->boot_id[0] != '\0')
        q->journal = queue_journal_new(q, conf);
    else if (conf->journal_size > 0)
        log_warn("queue journal: the kernel does not tell its boot id; queue files are synced one by one");
}

struct error *queue_open(const void *ctx, const struct queue_conf *conf, struct queue **queue_r)
{
    struct queue *q = mem_new(ctx, struct queue);
    struct error *e;

    q->directory = mem_strdup(q, conf->directory);
    q->hash_depth = conf->hash_depth < QUEUE_HASH_DEPTH_LIMIT ? conf->hash_depth : QUEUE_HASH_DEPTH_LIMIT;
    q->root = q->defer = q->journals = q->notify = -1;
    for (size_t i = 0; i < QUEUE_PLACES; i++)
        q->place[i] = -1;
    talloc_set_destructor(q, close_queue);
    e = open_all(q, conf);
    if (e != NULL) {
        talloc_free(q);
        return e;
    }
    set_journal(q, conf);
    *queue_r = q;
    return NULL;
}

const char *queue_directory(const struct queue *q)
{
    return q->directory;
}

/* ---- paths ---- */

/*
 * The characters that choose a subdirectory must differ from one message to the next. Short ids begin with
 * their microseconds; in long ones ("4fTbZq2VDcz1B") those are the four characters before the last 'z', the
 * fastest last.
 */
static void hashed(const struct queue *q, const char *id, char path[QUEUE_PATH_SIZE])
{
    const char *z = strrchr(id, 'z');
    size_t length = strlen(id), n = 0;

    for (unsigned i = 0; i < q->hash_depth; i++) {
        path[n++] = z != NULL && z - id >= 10 ? z[-1 - (int)i] : i < length ? id[i] : '_';
        path[n++] = '/';
    }
    format_print(path + n, QUEUE_PATH_SIZE - n, "%s", id);
}

bool queue_path(const struct queue *q, enum queue_place place, const char *id, char path[QUEUE_PATH_SIZE])
{
    if (!mail_id_is_valid(bytes_of(id)))
        return false;
    if (place == QUEUE_DEFERRED)
        hashed(q, id, path);
    else
        format_print(path, QUEUE_PATH_SIZE, "%s", id);
    return true;
}

bool queue_reason_path(const struct queue *q, const char *id, char path[QUEUE_PATH_SIZE])
{
    if (!mail_id_is_valid(bytes_of(id)))
        return false;
    hashed(q, id, path);
    return true;
}

int queue_make_parents(int dir, const char *path)
{
    struct stat st;
    char part[QUEUE_PATH_SIZE];

    if (fstat(dir, &st) != 0)
        return errno;
    for (const char *slash = strchr(path, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        format_print(part, sizeof(part), "%.*s", (int)(slash - path), path);
        if (mkdirat(dir, part, 0700) != 0) {
            if (errno != EEXIST)
                return errno;
        } else if (geteuid() == 0 && fchownat(dir, part, st.st_uid, st.st_gid, AT_SYMLINK_NOFOLLOW) != 0) {
            return errno;
        }
    }
    return 0;
}

/* Two names for a moment, then one: a crash between the two leaves both, which start-up knows for one file.
 */
static int rename_by_link(int from_dir, const char *from, int to_dir, const char *to)
{
    if (linkat(from_dir, from, to_dir, to, 0) != 0)
        return errno;
    return unlinkat(from_dir, from, 0) == 0 ? 0 : errno;
}

int queue_rename(int from_dir, const char *from, int to_dir, const char *to)
{
    if (syscall(SYS_renameat2, from_dir, from, to_dir, to, 1 /* RENAME_NOREPLACE */) == 0)
        return 0;
    if (errno != EINVAL && errno != ENOSYS && errno != EOPNOTSUPP)
        return errno;
    return rename_by_link(from_dir, from, to_dir, to);
}

/* ---- looking ---- */

bool queue_is_complete(const struct stat *st)
{
    return S_ISREG(st->st_mode) && (st->st_mode & 0777) == 0700;
}

bool queue_id_is_free(struct queue *q, const char *id)
{
    char path[QUEUE_PATH_SIZE];
    struct stat st;

    if (queue_seen_is_new(bytes_of(id)))
        return true;
    for (int i = 0; i < QUEUE_PLACES; i++) {
        if (!queue_path(q, i, id, path))
            return false;
        if (fstatat(q->place[i], path, &st, AT_SYMLINK_NOFOLLOW) == 0 || errno != ENOENT)
            return false;
    }
    return true;
}

static bool find_once(struct queue *q, const char *id, enum queue_place *place_r)
{
    char path[QUEUE_PATH_SIZE];
    struct stat st;

    for (int i = 0; i < QUEUE_PLACES; i++)
        if (queue_path(q, i, id, path) && fstatat(q->place[i], path, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
            (i == QUEUE_CORRUPT || queue_is_complete(&st))) {
            *place_r = i;
            return true;
        }
    return false;
}

/* A message on its way from a place not yet looked at to one looked at before is found the second time. */
bool queue_message_find(struct queue *q, const char *id, enum queue_place *place_r)
{
    return find_once(q, id, place_r) || find_once(q, id, place_r);
}

uint64_t queue_free_bytes(struct queue *q)
{
    struct statvfs st;
    uint64_t now = clock_ms();

    if (now >= q->free_until_ms) {
        q->free_bytes =
            fstatvfs(q->place[QUEUE_INCOMING], &st) == 0 ? (uint64_t)st.f_bavail * st.f_frsize : 0;
        q->free_until_ms = now + 1000;
    }
    return q->free_bytes;
}

/* ---- doorbell ---- */

void queue_notify(struct queue *q, char what)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    int n = format_print(to.sun_path, sizeof(to.sun_path), "%s/public/qmgr", q->directory);

    if (n >= (int)sizeof(to.sun_path)) /* too long for an address: by way of the descriptor */
        format_print(to.sun_path, sizeof(to.sun_path), "/proc/self/fd/%d/public/qmgr", q->root);
    if (q->notify >= 0 &&
        sendto(q->notify, &what, 1, MSG_DONTWAIT | MSG_NOSIGNAL, (struct sockaddr *)&to, sizeof(to)) < 0)
        return; /* nobody listens, or has enough of them already */
}
