/* The shared memory behind the pool. See proxy_shared.h. */
#include "proxy_shared.h"

#include "bytes.h"
#include "clock.h"
#include "format.h"
#include "mem.h"
#include "shared.h"

struct proxy_table {
    struct shared_head head;
    struct shared_lock lock;
    uint64_t turn;
    struct proxy_entry entries[PROXY_ENDPOINTS];
};
static const struct shared_head head = {0x53505058, 1, sizeof(struct proxy_table)}; /* "SPPX" */

static struct proxy_table *shared;
static unsigned own_worker;

/* ---- mapping ---- */

void proxy_shared_prepare(const char *path)
{
    static const char what[] = "the state of the filters";

    if (shared != NULL)
        return;
    shared = path != NULL ? shared_map_file(path, &head, what) : shared_map(sizeof(*shared), what);
    shared_lock_init(&shared->lock);
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

/* Of a worker that was killed while it held the lock, at most one change to its own counts is half
 * done, and those go when it is forgotten. */
void proxy_shared_lock(void)
{
    if (!shared_lock(&shared->lock))
        return;
    for (size_t i = 0; i < PROXY_ENDPOINTS; i++)
        add_up(&shared->entries[i]);
}

void proxy_shared_unlock(void)
{
    shared_unlock(&shared->lock);
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

/* Without the lock, which a reader has no right to: a number may be a moment old, and is shown only. */
static bool copy_file(const char *path, struct proxy_entry *at, size_t *n_r)
{
    struct proxy_table *t = mem_new(NULL, struct proxy_table);
    struct error *e = shared_file_read(path, &head, t, sizeof(*t));
    bool is_good = e == NULL;

    if (is_good)
        copy_entries(t, at, n_r);
    error_free(&e);
    talloc_free(t);
    return is_good;
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
