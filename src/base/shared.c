/* Mapping, files and the robust lock. See shared.h. */
#include "shared.h"

#include "log.h"
#include "mem.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- memory ---- */

void *shared_map(size_t size, const char *what)
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    if (memory == MAP_FAILED)
        log_fatal("no memory for %s: %s", what, strerror(errno));
    return memory;
}

/* Where a new file is until it is shown. */
static char *fresh_name(const char *path)
{
    return mem_printf(NULL, "%s.new", path);
}

static struct error *map_fresh(const char *path, const struct shared_head *head, void **memory_r)
{
    int fd;
    struct error *e = shared_file_make(path, head->size, &fd);

    if (e != NULL)
        return e;
    *memory_r = mmap(NULL, head->size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (*memory_r == MAP_FAILED) {
        e = error_errno(errno, "%s: map", path);
        shared_file_drop(path);
    }
    close(fd);
    return e;
}

static struct error *map_new(const char *path, const struct shared_head *head, void **memory_r)
{
    struct error *e = map_fresh(path, head, memory_r);

    if (e != NULL)
        return e;
    memcpy(*memory_r, head, sizeof(*head));
    e = shared_file_show(path);
    if (e != NULL)
        munmap(*memory_r, head->size);
    return e;
}

void *shared_map_file(const char *path, const struct shared_head *head, const char *what)
{
    void *memory;
    struct error *e = map_new(path, head, &memory);

    if (e == NULL)
        return memory;
    log_warn("%s: %s cannot be shown", e->text, what);
    error_free(&e);
    return shared_map(head->size, what);
}

/* ---- its file ---- */

static struct error *give_to_group(int fd, const char *path)
{
    const char *slash = strrchr(path, '/');
    char *folder = mem_printf(NULL, "%.*s.", slash != NULL ? (int)(slash - path + 1) : 0, path);
    struct error *e = NULL;
    struct stat st;

    if (stat(folder, &st) != 0 || fchown(fd, (uid_t)-1, st.st_gid) != 0)
        e = error_errno(errno, "%s: group", path);
    talloc_free(folder);
    return e;
}

static struct error *shape(int fd, const char *path, uint64_t size)
{
    struct error *e = geteuid() == 0 ? give_to_group(fd, path) : NULL;
    int code;

    if (e != NULL)
        return e;
    if (fchmod(fd, 0640) != 0)
        return error_errno(errno, "%s: mode", path);
    code = posix_fallocate(fd, 0, (off_t)size);
    return code != 0 ? error_errno(code, "%s: room", path) : NULL;
}

struct error *shared_file_make(const char *path, uint64_t size, int *fd_r)
{
    char *fresh = fresh_name(path);
    struct error *e;

    unlink(fresh);
    *fd_r = open(fresh, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    e = *fd_r < 0 ? error_errno(errno, "%s", fresh) : shape(*fd_r, fresh, size);
    if (e != NULL && *fd_r >= 0) {
        close(*fd_r);
        unlink(fresh);
        *fd_r = -1;
    }
    talloc_free(fresh);
    return e;
}

struct error *shared_file_show(const char *path)
{
    char *fresh = fresh_name(path);
    struct error *e = rename(fresh, path) != 0 ? error_errno(errno, "%s", path) : NULL;

    if (e != NULL)
        unlink(fresh);
    talloc_free(fresh);
    return e;
}

void shared_file_drop(const char *path)
{
    char *fresh = fresh_name(path);

    unlink(fresh);
    talloc_free(fresh);
}

static bool is_file_of(int fd, const struct shared_head *head)
{
    struct shared_head there;
    struct stat st;

    return fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size == (off_t)head->size &&
           pread(fd, &there, sizeof(there), 0) == (ssize_t)sizeof(there) &&
           memcmp(&there, head, sizeof(there)) == 0;
}

struct error *shared_file_read(const char *path, const struct shared_head *head, void *at, size_t n)
{
    int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    struct error *e = NULL;

    if (fd < 0)
        return error_errno(errno, "%s", path);
    if (!is_file_of(fd, head) || pread(fd, at, n, 0) != (ssize_t)n)
        e = error_new(ERROR_PERM, "%s: damaged, or of another version", path);
    close(fd);
    return e;
}

/* ---- its lock ---- */

void shared_lock_init(struct shared_lock *lock)
{
    pthread_mutexattr_t attr;

    pthread_mutexattr_init(&attr);
    pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
    pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
    pthread_mutex_init(&lock->mutex, &attr);
    pthread_mutexattr_destroy(&attr);
}

bool shared_lock_inherit_(struct shared_lock *lock, int code)
{
    if (code != EOWNERDEAD)
        log_panic("shared memory: lock: %s", strerror(code));
    pthread_mutex_consistent(&lock->mutex);
    return true;
}
