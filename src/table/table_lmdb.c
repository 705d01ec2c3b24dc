/*
 * lmdb:, one memory-mapped file NAME.lmdb, as Postfix makes it.
 *
 * Postfix opens these files without LMDB's own lock file and locks the file itself instead; so do we, and a
 * lookup holds the shared lock while its values are in the map. Keys and values may have a trailing NUL or
 * none.
 */
#include "log.h"
#include "mem.h"
#include "table_type.h"

#include <errno.h>
#include <lmdb.h>
#include <unistd.h>

enum { OPEN_FLAGS = MDB_NOSUBDIR | MDB_NOLOCK, ROOM_MIN = 64 << 20, ROOM_PER_BYTE = 16 };

struct lmdb {
    MDB_env *env;
    MDB_txn *txn; /* reader: reset between lookups; writer: the only one */
    MDB_dbi dbi;
    char *path;
    int fd;
};

static int lmdb_destroy(struct lmdb *l)
{
    if (l->txn != NULL)
        mdb_txn_abort(l->txn);
    if (l->env != NULL)
        mdb_env_close(l->env);
    return 0;
}

static struct error *mdb_error(int code, const char *what, const char *path)
{
    if (code > 0)
        return error_errno(code, "%s %s", what, path);
    return error_new(ERROR_PERM, "%s %s: %s", what, path, mdb_strerror(code));
}

static struct lmdb *lmdb_new(const void *ctx, const char *path)
{
    struct lmdb *l = mem_new(ctx, struct lmdb);

    talloc_set_destructor(l, lmdb_destroy);
    l->path = mem_strdup(l, path);
    return l;
}

static struct error *open_env(struct lmdb *l, unsigned flags, size_t map_size)
{
    unsigned txn_flags = (flags & MDB_RDONLY) != 0 ? MDB_RDONLY : 0;
    int code = mdb_env_create(&l->env);

    if (code == 0 && map_size > 0)
        code = mdb_env_set_mapsize(l->env, map_size);
    if (code == 0)
        code = mdb_env_open(l->env, l->path, OPEN_FLAGS | flags, 0600);
    if (code == 0)
        code = mdb_env_get_fd(l->env, &l->fd);
    if (code == 0)
        code = mdb_txn_begin(l->env, NULL, txn_flags, &l->txn);
    if (code == 0)
        code = mdb_dbi_open(l->txn, NULL, 0, &l->dbi);
    return code != 0 ? mdb_error(code, "open", l->path) : NULL;
}

static struct error *lmdb_open(struct table *t, const void *ctx, const struct conf *conf, void **state_r)
{
    char *path = mem_printf(NULL, "%s.lmdb", t->name);
    struct lmdb *l = lmdb_new(ctx, path);
    struct error *e = open_env(l, MDB_RDONLY | MDB_NOTLS, 0);
    struct stat st;

    if (e == NULL && fstat(l->fd, &st) != 0)
        e = error_errno(errno, "stat %s", path);
    if (e == NULL) {
        mdb_txn_reset(l->txn);
        table_file_note(&t->file, t, path, &st);
        *state_r = l;
    } else {
        talloc_free(l);
    }
    talloc_free(path);
    return e;
}

static int get(const struct lmdb *l, struct bytes key, MDB_val *value)
{
    MDB_val k = {.mv_size = key.n, .mv_data = (void *)(uintptr_t)key.p};

    return mdb_get(l->txn, l->dbi, &k, value);
}

static int find_in_txn(const struct lmdb *l, const void *ctx, struct bytes key, char **value_r)
{
    size_t limit = (size_t)mdb_env_get_maxkeysize(l->env);
    MDB_val value;
    int code = MDB_NOTFOUND;

    if (key.n < limit)
        code = get(l, bytes(key.p, key.n + 1), &value);
    if (code == MDB_NOTFOUND && key.n > 0 && key.n <= limit)
        code = get(l, key, &value);
    if (code == 0)
        *value_r = bytes_dup(ctx, bytes(value.mv_data, value.mv_size));
    return code;
}

co_fn static enum table_end lmdb_find(struct table *t, const void *ctx, struct bytes key, char **value_r)
{
    struct lmdb *l;
    int code;

    if (!table_lock_current(t))
        return TABLE_FAILED;
    l = t->state;
    if ((code = mdb_txn_renew(l->txn)) == 0) {
        code = find_in_txn(l, ctx, key, value_r);
        mdb_txn_reset(l->txn);
    }
    table_unlock(t);
    if (code == MDB_NOTFOUND)
        return TABLE_ABSENT;
    if (code == 0)
        return TABLE_FOUND;
    log_warn("read %s: %s", t->file.path, mdb_strerror(code));
    return TABLE_FAILED;
}

static int lmdb_fd(const void *state)
{
    return ((const struct lmdb *)state)->fd;
}

/* ---- postmap's side ---- */

struct lmdb_writer {
    struct table_writer base;
    struct lmdb *l;
};

static struct error *lmdb_put(struct table_writer *w, const char *key, const char *value, bool *is_new_r)
{
    struct lmdb *l = ((struct lmdb_writer *)w)->l;
    MDB_val k = {.mv_size = strlen(key) + 1, .mv_data = (void *)(uintptr_t)key};
    MDB_val v = {.mv_size = strlen(value) + 1, .mv_data = (void *)(uintptr_t)value};
    int code = mdb_put(l->txn, l->dbi, &k, &v, MDB_NOOVERWRITE);

    *is_new_r = code == 0;
    if (code == MDB_BAD_VALSIZE)
        return error_new(ERROR_CONF, "key is longer than %d bytes", mdb_env_get_maxkeysize(l->env) - 1);
    if (code != 0 && code != MDB_KEYEXIST)
        return mdb_error(code, "write", l->path);
    return NULL;
}

static struct error *commit(struct lmdb *l)
{
    int code = mdb_txn_commit(l->txn);

    l->txn = NULL;
    if (code == 0)
        code = mdb_env_sync(l->env, 1);
    return code != 0 ? mdb_error(code, "write", l->path) : NULL;
}

static struct error *lmdb_finish(struct table_writer *w)
{
    return commit(((struct lmdb_writer *)w)->l);
}

static struct error *lmdb_create(const void *ctx, const char *path, uint64_t source_size,
                                 struct table_writer **w_r)
{
    struct lmdb_writer *w = mem_new(ctx, struct lmdb_writer);
    struct error *e;

    w->base = (struct table_writer){.put = lmdb_put, .finish = lmdb_finish};
    w->l = lmdb_new(w, path);
    if ((e = open_env(w->l, 0, ROOM_MIN + source_size * ROOM_PER_BYTE)) != NULL) {
        talloc_free(w);
        return e;
    }
    *w_r = &w->base;
    return NULL;
}

static struct error *lmdb_remove(const char *path, const char *key, bool *was_there_r)
{
    struct lmdb *l = lmdb_new(NULL, path);
    MDB_val with_nul = {.mv_size = strlen(key) + 1, .mv_data = (void *)(uintptr_t)key};
    MDB_val without = {.mv_size = strlen(key), .mv_data = (void *)(uintptr_t)key};
    struct error *e = access(path, F_OK) != 0 ? error_errno(errno, "open %s", path) : open_env(l, 0, 0);

    if (e == NULL) {
        *was_there_r = mdb_del(l->txn, l->dbi, &with_nul, NULL) == 0;
        *was_there_r |= without.mv_size > 0 && mdb_del(l->txn, l->dbi, &without, NULL) == 0;
        e = commit(l);
    }
    talloc_free(l);
    return e;
}

const struct table_type table_type_lmdb = {
    .name = "lmdb",
    .folds = true,
    .refreshes = true,
    .suffix = ".lmdb",
    .open = lmdb_open,
    .find = lmdb_find,
    .fd = lmdb_fd,
    .create = lmdb_create,
    .remove = lmdb_remove,
};
