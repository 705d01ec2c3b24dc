/*
 * DIR/admission: the shared memory's file. Each start makes a new one beside the old, takes over the records
 * of clients, and puts it in the old one's place; workers of an older master keep theirs. The old file is
 * read, not mapped, and nothing in it is believed that was not checked: a stranger's file, one of another
 * version or one that was cut short costs the records, no more.
 */
#include "admission_record.h"
#include "admission_shared.h"

#include "clock.h"
#include "log.h"
#include "mem.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { CHUNK = 256 }; /* records read at a time */

char *admission_file_name(const void *ctx, const char *data_directory)
{
    return mem_printf(ctx, "%s/admission", data_directory);
}

/* ---- reading an old one ---- */

static bool is_ours(int fd)
{
    struct {
        uint32_t magic, version;
        uint64_t size;
    } head;
    struct stat st;

    return fstat(fd, &st) == 0 && S_ISREG(st.st_mode) &&
           st.st_size == (off_t)sizeof(struct admission_shared) &&
           pread(fd, &head, sizeof(head), 0) == (ssize_t)sizeof(head) && head.magic == ADMISSION_MAGIC &&
           head.version == ADMISSION_VERSION && head.size == sizeof(struct admission_shared);
}

static void restore(struct admission_shared *s, int fd)
{
    struct admission_record *chunk = mem_array(NULL, struct admission_record, CHUNK);
    uint32_t real_s = admission_now().real_s;

    for (uint32_t at = 0; at < ADMISSION_CLIENTS; at += CHUNK) {
        off_t from = (off_t)(offsetof(struct admission_shared, records) + at * sizeof(*chunk));

        if (pread(fd, chunk, sizeof(*chunk) * CHUNK, from) != (ssize_t)(sizeof(*chunk) * CHUNK))
            break;
        for (uint32_t i = 0; i < CHUNK; i++)
            admission_record_restore(s, &chunk[i], real_s);
    }
    talloc_free(chunk);
}

static void take_over(struct admission_shared *s, const char *path)
{
    int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);

    if (fd < 0) {
        if (errno != ENOENT)
            log_warn("%s: %s: clients begin without record", path, strerror(errno));
        return;
    }
    if (is_ours(fd))
        restore(s, fd);
    else
        log_warn("%s: damaged, or of another version: clients begin without record", path);
    close(fd);
}

/* ---- making a new one ---- */

/* Of the folder's owner, who is also the workers' user. The room is taken now: there may be none later. */
static struct error *shape(int fd, const char *data_directory)
{
    struct stat folder;
    int code;

    if (stat(data_directory, &folder) != 0)
        return error_errno(errno, "%s", data_directory);
    if (fchmod(fd, 0640) != 0 || (geteuid() == 0 && fchown(fd, folder.st_uid, folder.st_gid) != 0))
        return error_errno(errno, "owner and mode");
    code = posix_fallocate(fd, 0, sizeof(struct admission_shared));
    return code != 0 ? error_errno(code, "room") : NULL;
}

static struct admission_shared *map_new(int fd, const char *data_directory, struct error **error_r)
{
    struct admission_shared *s;

    *error_r = shape(fd, data_directory);
    if (*error_r != NULL)
        return NULL;
    s = mmap(NULL, sizeof(*s), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (s == MAP_FAILED) {
        *error_r = error_errno(errno, "map");
        return NULL;
    }
    admission_core_init(s, clock_real_us());
    return s;
}

static struct admission_shared *replace(const char *path, const char *fresh, const char *data_directory,
                                        struct error **error_r)
{
    struct admission_shared *s;
    int fd;

    unlink(fresh);
    fd = open(fresh, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0) {
        *error_r = error_errno(errno, "create");
        return NULL;
    }
    s = map_new(fd, data_directory, error_r);
    close(fd);
    if (s == NULL)
        return NULL;
    take_over(s, path);
    if (rename(fresh, path) != 0) {
        *error_r = error_errno(errno, "rename");
        munmap(s, sizeof(*s));
        return NULL;
    }
    return s;
}

struct admission_shared *admission_file_map(const char *data_directory, struct error **error_r)
{
    char *path = admission_file_name(NULL, data_directory);
    char *fresh = mem_printf(path, "%s.new", path);
    struct admission_shared *s = replace(path, fresh, data_directory, error_r);

    if (s == NULL) {
        unlink(fresh);
        error_prepend(*error_r, "%s: without records and numbers for others", path);
    }
    talloc_free(path);
    return s;
}

/* ---- numbers ---- */

static bool read_at(int fd, void *to, size_t n, size_t from)
{
    return pread(fd, to, n, (off_t)from) == (ssize_t)n;
}

static bool read_numbers(int fd, struct admission_snapshot *out)
{
    bool ok =
        is_ours(fd) &&
        read_at(fd, &out->since_us, sizeof(out->since_us), offsetof(struct admission_shared, since_us)) &&
        read_at(fd, &out->clients, sizeof(out->clients), offsetof(struct admission_shared, clients)) &&
        read_at(fd, &out->repairs, sizeof(out->repairs), offsetof(struct admission_shared, repairs));

    for (size_t i = 0; ok && i < ADMISSION_POOLS; i++) {
        size_t from = offsetof(struct admission_shared, pools) + i * sizeof(struct admission_pool) +
                      offsetof(struct admission_pool, n);

        ok = read_at(fd, &out->pools[i], sizeof(out->pools[i]), from);
        out->pools[i].name[ADMISSION_NAME - 1] = '\0';
    }
    return ok;
}

struct error *admission_snapshot(const char *data_directory, struct admission_snapshot *out_r)
{
    char *path = admission_file_name(NULL, data_directory);
    int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    struct error *e = NULL;

    memset(out_r, 0, sizeof(*out_r));
    if (fd < 0)
        e = error_errno(errno, "%s", path);
    else if (!read_numbers(fd, out_r))
        e = error_new(ERROR_PERM, "%s: damaged, or of another version", path);
    if (fd >= 0)
        close(fd);
    talloc_free(path);
    return e;
}
