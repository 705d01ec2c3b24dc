/* The shared memory behind the pool. See proxy_shared.h. */
#include "proxy_shared.h"

#include "bytes.h"
#include "clock.h"
#include "format.h"
#include "log.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static const char MAGIC[16] = "sallyport-proxy";
enum { VERSION = 1 };

struct proxy_table {
    char magic[16];
    uint32_t version, size;
    pthread_mutex_t lock;
    uint64_t turn;
    struct proxy_entry entries[PROXY_ENDPOINTS];
};

static struct proxy_table *shared;
static unsigned own_worker;

/* ---- mapping ---- */

/* A new file each time: an old one may still be mapped by workers that are ending. Its blocks are taken now,
 * since a full disk must not be met in the middle of a store. */
static int make_file(const char *path)
{
    int fd, code;

    unlink(path);
    fd = open(path, O_CREAT | O_EXCL | O_RDWR | O_NOFOLLOW | O_CLOEXEC, 0640);
    if (fd < 0)
        return -1;
    code = posix_fallocate(fd, 0, sizeof(struct proxy_table));
    if (code == 0)
        return fd;
    close(fd);
    unlink(path);
    errno = code;
    return -1;
}

static void *map_table(const char *path)
{
    int fd = path != NULL ? make_file(path) : -1;
    void *at = MAP_FAILED;

    if (fd >= 0) {
        at = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        close(fd);
    }
    if (at == MAP_FAILED && path != NULL)
        log_warn("%s: %s: the state of the filters cannot be shown", path, strerror(errno));
    if (at == MAP_FAILED)
        at = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED)
        log_fatal("no memory for the state of the filters: %s", strerror(errno));
    return at;
}

void proxy_shared_prepare(const char *path)
{
    pthread_mutexattr_t attr;

    if (shared != NULL)
        return;
    shared = map_table(path);
    pthread_mutexattr_init(&attr);
    pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
    pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
    pthread_mutex_init(&shared->lock, &attr);
    shared->version = VERSION;
    shared->size = sizeof(*shared);
    memcpy(shared->magic, MAGIC, sizeof(MAGIC));
}

/* ---- the lock ---- */

static void add_up(struct proxy_entry *e)
{
    e->users = e->messages = 0;
    e->bytes = 0;
    for (size_t i = 0; i < PROXY_WORKERS; i++) {
        e->users += e->holders[i].users;
        e->messages += e->holders[i].messages;
        e->bytes += e->holders[i].bytes;
    }
}

/* Robust: of a worker that was killed while it held the lock, at most one change to its own counts is half
 * done, and those go when it is forgotten. */
void proxy_shared_lock(void)
{
    if (pthread_mutex_lock(&shared->lock) != EOWNERDEAD)
        return;
    for (size_t i = 0; i < PROXY_ENDPOINTS; i++)
        add_up(&shared->entries[i]);
    pthread_mutex_consistent(&shared->lock);
}

void proxy_shared_unlock(void)
{
    pthread_mutex_unlock(&shared->lock);
}

/* ---- workers ---- */

void proxy_shared_forget(unsigned worker)
{
    if (shared == NULL || worker >= PROXY_WORKERS)
        return;
    proxy_shared_lock();
    for (size_t i = 0; i < PROXY_ENDPOINTS; i++) {
        struct proxy_entry *e = &shared->entries[i];

        if (e->key[0] == '\0')
            continue;
        e->holders[worker] = (struct proxy_holder){0};
        add_up(e);
        if (e->trial_worker == worker)
            e->trial_until = 0;
    }
    proxy_shared_unlock();
}

void proxy_shared_enter(unsigned worker)
{
    own_worker = worker < PROXY_WORKERS ? worker : PROXY_WORKERS - 1;
    proxy_shared_prepare(NULL);
    proxy_shared_forget(own_worker);
}

unsigned proxy_shared_worker(void)
{
    return own_worker;
}

/* ---- entries ---- */

/* The entry itself, else a free one, else the one whose last failure and choice nobody will miss. */
static struct proxy_entry *find(const char *key)
{
    struct proxy_entry *free_one = NULL, *idle = NULL;

    for (size_t i = 0; i < PROXY_ENDPOINTS; i++) {
        struct proxy_entry *e = &shared->entries[i];

        if (e->key[0] == '\0') {
            if (free_one == NULL)
                free_one = e;
        } else if (strcmp(e->key, key) == 0) {
            return e;
        } else if (e->users == 0 && e->messages == 0 && (idle == NULL || e->turn < idle->turn)) {
            idle = e;
        }
    }
    return free_one ? free_one : idle;
}

struct proxy_entry *proxy_shared_hold(const char *key)
{
    struct proxy_entry *e;

    if (strlen(key) >= PROXY_KEY_SIZE)
        return NULL;
    proxy_shared_prepare(NULL);
    proxy_shared_lock();
    e = find(key);
    if (e != NULL && strcmp(e->key, key) != 0) {
        memset(e, 0, sizeof(*e));
        format_print(e->key, sizeof(e->key), "%s", key);
    }
    if (e != NULL) {
        e->holders[own_worker].users++;
        e->users++;
    }
    proxy_shared_unlock();
    return e;
}

void proxy_shared_drop(struct proxy_entry *e)
{
    proxy_shared_lock();
    if (e->holders[own_worker].users > 0) {
        e->holders[own_worker].users--;
        e->users--;
    }
    proxy_shared_unlock();
}

void proxy_entry_take(struct proxy_entry *e, uint64_t bytes)
{
    e->holders[own_worker].messages++;
    e->holders[own_worker].bytes += bytes;
    e->messages++;
    e->bytes += bytes;
    e->turn = ++shared->turn;
}

/* Counts that were forgotten meanwhile stay as they are. */
void proxy_entry_give(struct proxy_entry *e, uint64_t bytes)
{
    struct proxy_holder *h = &e->holders[own_worker];

    if (h->messages == 0 || h->bytes < bytes)
        return;
    h->messages--;
    h->bytes -= bytes;
    e->messages--;
    e->bytes -= bytes;
}

/* ---- from outside ---- */

static void copy_entries(const struct proxy_table *t, struct proxy_entry *at, size_t *n_r)
{
    *n_r = 0;
    for (size_t i = 0; i < PROXY_ENDPOINTS; i++) {
        at[*n_r] = t->entries[i];
        at[*n_r].key[PROXY_KEY_SIZE - 1] = '\0';
        if (at[*n_r].key[0] != '\0')
            ++*n_r;
    }
}

static bool is_table(int fd, const struct proxy_table *t)
{
    struct stat st;

    return fstat(fd, &st) == 0 && st.st_size == (off_t)sizeof(*t) &&
           memcmp(t->magic, MAGIC, sizeof(MAGIC)) == 0 && t->version == VERSION && t->size == sizeof(*t);
}

/* Without the lock, which a reader has no right to: a number may be a moment old, and is shown only. */
static bool copy_file(const char *path, struct proxy_entry *at, size_t *n_r)
{
    int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    const struct proxy_table *t;
    bool good = false;
    struct stat st;

    if (fd < 0)
        return false;
    if (fstat(fd, &st) == 0 && st.st_size == (off_t)sizeof(*t) &&
        (t = mmap(NULL, sizeof(*t), PROT_READ, MAP_SHARED, fd, 0)) != MAP_FAILED) {
        good = is_table(fd, t);
        if (good)
            copy_entries(t, at, n_r);
        munmap((void *)(uintptr_t)t, sizeof(*t));
    }
    close(fd);
    return good;
}

bool proxy_shared_copy(const char *path, struct proxy_entry *at, size_t *n_r)
{
    *n_r = 0;
    if (path != NULL)
        return copy_file(path, at, n_r);
    if (shared == NULL)
        return false;
    proxy_shared_lock();
    copy_entries(shared, at, n_r);
    proxy_shared_unlock();
    return true;
}
