/*
 * hash: and btree:, Berkeley DB 5.3 files as Debian's postmap and postalias write them.
 *
 * Postfix writes keys and values with their trailing NUL; files made by other programs have none. Both are
 * read. A file may be rewritten in place while we have it open: so each lookup holds the lock that postmap
 * takes, and a file that is not the one we opened is opened anew before it is believed.
 */
#include "log.h"
#include "mem.h"
#include "table_type.h"

#ifdef HAVE_DB

#include <db.h>
#include <errno.h>
#include <unistd.h>

enum { BUILD_CACHE = 16 << 20 };

struct hash {
    DB *db;
    char *path;
    int fd;
};

static int hash_destroy(struct hash *h)
{
    if (h->db != NULL)
        h->db->close(h->db, 0);
    return 0;
}

static struct error *db_error(int code, const char *what, const char *path)
{
    if (code > 0)
        return error_errno(code, "%s %s", what, path);
    return error_new(ERROR_PERM, "%s %s: %s", what, path, db_strerror(code));
}

/* libdb's own messages on standard error would not reach the log. */
static void swallow_message(const DB_ENV *env, const char *prefix, const char *text)
{
    log_debug("libdb: %s", text);
}

static struct error *open_db(struct hash *h, const char *path, DBTYPE kind, uint32_t flags, int mode)
{
    int code = db_create(&h->db, NULL, 0);

    if (code != 0)
        return db_error(code, "open", path);
    h->db->set_errcall(h->db, swallow_message);
    if ((flags & DB_CREATE) != 0)
        h->db->set_cachesize(h->db, 0, BUILD_CACHE, 1);
    if ((code = h->db->open(h->db, NULL, path, NULL, kind, flags, mode)) != 0 ||
        (code = h->db->fd(h->db, &h->fd)) != 0)
        return db_error(code, "open", path);
    h->path = mem_strdup(h, path);
    return NULL;
}

static struct hash *hash_new(const void *ctx)
{
    struct hash *h = mem_new(ctx, struct hash);

    talloc_set_destructor(h, hash_destroy);
    return h;
}

static struct error *open_kind(struct table *t, const void *ctx, DBTYPE kind, void **state_r)
{
    struct hash *h = hash_new(ctx);
    char *path = mem_printf(h, "%s.db", t->name);
    struct error *e = open_db(h, path, kind, DB_RDONLY, 0);
    struct stat st;

    if (e == NULL && fstat(h->fd, &st) != 0)
        e = error_errno(errno, "stat %s", path);
    if (e != NULL) {
        talloc_free(h);
        return e;
    }
    table_file_note(&t->file, t, path, &st);
    *state_r = h;
    return NULL;
}

static struct error *hash_open(struct table *t, const void *ctx, const struct conf *conf, void **state_r)
{
    return open_kind(t, ctx, DB_HASH, state_r);
}

static struct error *btree_open(struct table *t, const void *ctx, const struct conf *conf, void **state_r)
{
    return open_kind(t, ctx, DB_BTREE, state_r);
}

static int get(const struct hash *h, struct bytes key, DBT *value)
{
    DBT k = {.data = (void *)(uintptr_t)key.p, .size = (uint32_t)key.n};

    *value = (DBT){0};
    return h->db->get(h->db, NULL, &k, value, 0);
}

static enum table_end find_locked(const struct hash *h, const void *ctx, struct bytes key, char **value_r)
{
    DBT value;
    int code = get(h, bytes(key.p, key.n + 1), &value);

    if (code == DB_NOTFOUND)
        code = get(h, key, &value);
    if (code == DB_NOTFOUND)
        return TABLE_ABSENT;
    if (code != 0) {
        log_warn("read %s: %s", h->path, db_strerror(code));
        return TABLE_FAILED;
    }
    *value_r = bytes_dup(ctx, bytes(value.data, value.size));
    return TABLE_FOUND;
}

co_fn static enum table_end hash_find(struct table *t, const void *ctx, struct bytes key, char **value_r)
{
    enum table_end end;

    if (!table_lock_current(t))
        return TABLE_FAILED;
    end = find_locked(t->state, ctx, key, value_r);
    table_unlock(t);
    return end;
}

static int hash_fd(const void *state)
{
    return ((const struct hash *)state)->fd;
}

/* ---- postmap's side ---- */

struct hash_writer {
    struct table_writer base;
    struct hash *h;
};

static struct error *hash_put(struct table_writer *w, const char *key, const char *value, bool *is_new_r)
{
    struct hash *h = ((struct hash_writer *)w)->h;
    DBT k = {.data = (void *)(uintptr_t)key, .size = (uint32_t)strlen(key) + 1};
    DBT v = {.data = (void *)(uintptr_t)value, .size = (uint32_t)strlen(value) + 1};
    int code = h->db->put(h->db, NULL, &k, &v, DB_NOOVERWRITE);

    *is_new_r = code == 0;
    if (code != 0 && code != DB_KEYEXIST)
        return db_error(code, "write", h->path);
    return NULL;
}

static struct error *hash_finish(struct table_writer *w)
{
    struct hash *h = ((struct hash_writer *)w)->h;
    int code = h->db->sync(h->db, 0);

    if (code == 0 && fsync(h->fd) != 0)
        code = errno;
    return code != 0 ? db_error(code, "write", h->path) : NULL;
}

static struct error *create_kind(const void *ctx, const char *path, DBTYPE kind, struct table_writer **w_r)
{
    struct hash_writer *w = mem_new(ctx, struct hash_writer);
    struct error *e;

    w->base = (struct table_writer){.put = hash_put, .finish = hash_finish};
    w->h = hash_new(w);
    if ((e = open_db(w->h, path, kind, DB_CREATE | DB_EXCL, 0600)) != NULL) {
        talloc_free(w);
        return e;
    }
    *w_r = &w->base;
    return NULL;
}

static struct error *hash_create(const void *ctx, const char *path, uint64_t size, struct table_writer **w_r)
{
    return create_kind(ctx, path, DB_HASH, w_r);
}

static struct error *btree_create(const void *ctx, const char *path, uint64_t size, struct table_writer **w_r)
{
    return create_kind(ctx, path, DB_BTREE, w_r);
}

static int del(const struct hash *h, const char *key, size_t n)
{
    DBT k = {.data = (void *)(uintptr_t)key, .size = (uint32_t)n};

    return h->db->del(h->db, NULL, &k, 0);
}

static struct error *hash_remove(const char *path, const char *key, bool *was_there_r)
{
    struct hash *h = hash_new(NULL);
    struct error *e = open_db(h, path, DB_UNKNOWN, 0, 0);
    int with_nul = DB_NOTFOUND, without = DB_NOTFOUND;

    if (e == NULL) {
        with_nul = del(h, key, strlen(key) + 1);
        without = del(h, key, strlen(key));
        *was_there_r = with_nul == 0 || without == 0;
        if ((with_nul != 0 && with_nul != DB_NOTFOUND) || h->db->sync(h->db, 0) != 0)
            e = db_error(with_nul != 0 ? with_nul : EIO, "write", path);
    }
    talloc_free(h);
    return e;
}

const struct table_type table_type_hash = {
    .name = "hash",
    .folds = true,
    .refreshes = true,
    .suffix = ".db",
    .open = hash_open,
    .find = hash_find,
    .fd = hash_fd,
    .create = hash_create,
    .remove = hash_remove,
};

const struct table_type table_type_btree = {
    .name = "btree",
    .folds = true,
    .refreshes = true,
    .suffix = ".db",
    .open = btree_open,
    .find = hash_find,
    .fd = hash_fd,
    .create = btree_create,
    .remove = hash_remove,
};

#endif
