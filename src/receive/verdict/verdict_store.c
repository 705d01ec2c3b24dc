/* The database of kept verdicts. See verdict_store.h. */
#include "verdict_store_own.h"

#include "clock.h"
#include "mem.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

/* The map is address space, not memory: the most entries of the most text fit in it with room to spare. */
enum { MAP_SIZE = 1 << 30, READERS = 510, OPEN_FLAGS = MDB_NOMETASYNC | MDB_NOTLS | MDB_NORDAHEAD };

/* ---- open ---- */

static char *path_of(const void *ctx, const char *directory)
{
    return mem_printf(ctx, "%s/verdicts", directory);
}

static int open_env(const char *directory, MDB_env **env_r)
{
    char *path = path_of(NULL, directory);
    int code = mkdir(path, 0700) != 0 && errno != EEXIST ? errno : 0;

    *env_r = NULL;
    if (code == 0)
        code = mdb_env_create(env_r);
    if (code == 0)
        code = mdb_env_set_mapsize(*env_r, MAP_SIZE);
    if (code == 0)
        code = mdb_env_set_maxreaders(*env_r, READERS);
    if (code == 0)
        code = mdb_env_set_maxdbs(*env_r, 2);
    if (code == 0)
        code = mdb_env_open(*env_r, path, OPEN_FLAGS, 0600);
    talloc_free(path);
    return code;
}

/* MDB_NOTFOUND: there are none yet. */
static int open_tables(MDB_env *env, unsigned access, unsigned create, MDB_dbi *verdicts_r, MDB_dbi *times_r)
{
    MDB_txn *txn;
    int code = mdb_txn_begin(env, NULL, access, &txn);

    if (code != 0)
        return code;
    code = mdb_dbi_open(txn, "verdicts", create, verdicts_r);
    if (code == 0)
        code = mdb_dbi_open(txn, "times", create, times_r);
    if (code == 0)
        return mdb_txn_commit(txn);
    mdb_txn_abort(txn);
    return code;
}

/* Counted at once, so that nobody looks into it in vain. */
static int make_tables(struct verdict_store *s)
{
    const struct verdict_op sweep = {.kind = VERDICT_SWEEP};
    int code = open_tables(s->env, 0, MDB_CREATE, &s->verdicts, &s->times);

    return code == 0 ? verdict_store_write(s, &sweep) : code;
}

static int store_destroy(struct verdict_store *s)
{
    if (s->reader != NULL)
        mdb_txn_abort(s->reader);
    if (s->env != NULL)
        mdb_env_close(s->env);
    return 0;
}

static int open_all(struct verdict_store *s)
{
    int dead, code = open_env(s->conf.directory, &s->env);

    if (code == 0)
        code = mdb_reader_check(s->env, &dead);
    if (code == 0)
        code = open_tables(s->env, MDB_RDONLY, 0, &s->verdicts, &s->times);
    if (code == MDB_NOTFOUND)
        code = make_tables(s);
    if (code == 0)
        code = mdb_txn_begin(s->env, NULL, MDB_RDONLY, &s->reader);
    if (code == 0)
        mdb_txn_reset(s->reader);
    return code;
}

int verdict_store_open(const void *ctx, const struct verdict_store_conf *conf, struct verdict_store **store_r)
{
    static struct verdict_touch nobody;
    struct verdict_store *s = mem_new(ctx, struct verdict_store);
    int code;

    s->conf = *conf;
    if (s->conf.touch == NULL)
        s->conf.touch = &nobody;
    s->generation = atomic_load(&conf->shared->generation);
    talloc_set_destructor(s, store_destroy);
    verdict_store_touch(&s->conf.touch->by_loop, true);
    code = open_all(s);
    verdict_store_touch(&s->conf.touch->by_loop, false);
    if (code == 0)
        *store_r = s;
    else
        talloc_free(s);
    return code;
}

/* ---- small questions ---- */

bool verdict_store_is_current(const struct verdict_store *s)
{
    return atomic_load(&s->conf.shared->generation) == s->generation;
}

unsigned verdict_store_generation(const struct verdict_store *s)
{
    return s->generation;
}

bool verdict_store_is_accounted(const struct verdict_store *s)
{
    MDB_envinfo info;
    int code;

    if (!verdict_store_is_current(s))
        return false;
    verdict_store_touch(&s->conf.touch->by_loop, true);
    code = mdb_env_info(s->env, &info);
    verdict_store_touch(&s->conf.touch->by_loop, false);
    return code == 0 && info.me_last_txnid <= atomic_load(&s->conf.shared->accounted);
}

bool verdict_store_is_damage(int code)
{
    switch (code) {
    case MDB_CORRUPTED:
    case MDB_PAGE_NOTFOUND:
    case MDB_INVALID:
    case MDB_VERSION_MISMATCH:
    case MDB_INCOMPATIBLE:
    case MDB_CURSOR_FULL:
    case MDB_PAGE_FULL:
        return true;
    }
    return false;
}

const char *verdict_store_text(int code)
{
    return mdb_strerror(code);
}

/* ---- reading ---- */

bool verdict_store_find(MDB_txn *txn, const struct verdict_store *s,
                        const unsigned char hash[VERDICT_HASH_SIZE], struct verdict_record *r)
{
    MDB_val key = verdict_store_value(hash, VERDICT_HASH_SIZE), value;

    return mdb_get(txn, s->verdicts, &key, &value) == 0 &&
           verdict_record_parse(bytes(value.mv_data, value.mv_size), hash, r);
}

/* A time ahead of ours is of a clock that was set back. */
bool verdict_store_is_expired(const struct verdict_store *s, uint64_t kept_us)
{
    uint64_t now = clock_real_us();

    return now > kept_us && now - kept_us >= s->conf.lifetime_us;
}

static bool get(struct verdict_store *s, struct verdict_key *key, struct mail_reply *reply_r)
{
    struct verdict_record r;
    bool is_there;

    if (mdb_txn_renew(s->reader) != 0)
        return false;
    is_there = verdict_store_find(s->reader, s, key->hash, &r) && !verdict_store_is_expired(s, r.kept_us);
    if (is_there) {
        *reply_r = mail_reply(r.code, r.dsn, "%.*s", BYTES_FMT(r.text));
        key->kept_us = r.kept_us;
    }
    mdb_txn_reset(s->reader);
    return is_there;
}

bool verdict_store_get(struct verdict_store *s, struct verdict_key *key, struct mail_reply *reply_r)
{
    bool is_there;

    verdict_store_touch(&s->conf.touch->by_loop, true);
    is_there = get(s, key, reply_r);
    verdict_store_touch(&s->conf.touch->by_loop, false);
    return is_there;
}

/* ---- damage ---- */

static int walk_table(MDB_txn *txn, MDB_dbi table, size_t key_size)
{
    volatile char sum = 0;
    MDB_cursor *cursor;
    MDB_val key, value;
    int code = mdb_cursor_open(txn, table, &cursor);

    if (code != 0)
        return code;
    while ((code = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) == 0) {
        for (size_t i = 0; i < value.mv_size; i++)
            sum = (char)(sum + ((const char *)value.mv_data)[i]);
        if (key_size != 0 && key.mv_size != key_size)
            return MDB_CORRUPTED;
    }
    return code == MDB_NOTFOUND ? 0 : code;
}

static int walk(MDB_env *env)
{
    enum { FREE_PAGES = 0 };
    MDB_txn *txn;
    MDB_dbi verdicts, times;
    int code = open_tables(env, MDB_RDONLY, 0, &verdicts, &times);

    if (code == 0)
        code = mdb_txn_begin(env, NULL, MDB_RDONLY, &txn);
    if (code != 0)
        return code == MDB_NOTFOUND ? 0 : code;
    code = walk_table(txn, FREE_PAGES, 0);
    if (code == 0)
        code = walk_table(txn, verdicts, VERDICT_HASH_SIZE);
    if (code == 0)
        code = walk_table(txn, times, VERDICT_TIME_KEY_SIZE);
    mdb_txn_abort(txn);
    return code;
}

int verdict_store_walk(const char *directory)
{
    MDB_env *env;
    int code = open_env(directory, &env);

    if (code == 0)
        code = walk(env);
    if (env != NULL)
        mdb_env_close(env);
    return code;
}

/* ---- account ---- */

/* What is too old or too much is each service's own affair. */
int verdict_store_account(const char *directory, struct verdict_shared *shared)
{
    const struct verdict_store_conf conf = {
        .directory = directory, .shared = shared, .lifetime_us = UINT64_MAX, .limit = SIZE_MAX};
    const struct verdict_op sweep = {.kind = VERDICT_SWEEP};
    struct verdict_store *s;
    int code = verdict_store_open(NULL, &conf, &s);

    if (code != 0)
        return code;
    code = verdict_store_write(s, &sweep);
    talloc_free(s);
    return code;
}

static bool remove_file(int dir, const char *name)
{
    return unlinkat(dir, name, 0) == 0 || errno == ENOENT;
}

bool verdict_store_move_aside(const char *directory)
{
    int dir = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool good = dir >= 0 && (remove_file(dir, "verdicts.bad/data.mdb") || errno == ENOTDIR) &&
                (remove_file(dir, "verdicts.bad/lock.mdb") || errno == ENOTDIR) &&
                (renameat(dir, "verdicts", dir, "verdicts.bad") == 0 || errno == ENOENT);
    int saved = errno;

    if (dir >= 0)
        close(dir);
    errno = saved;
    return good;
}

bool verdict_store_give_up(const struct verdict_store_conf *conf, unsigned generation)
{
    struct verdict_shared *s = conf->shared;
    bool good = true;

    shared_lock(&s->moving); /* a death inside leaves it to be moved once more, or nothing to be done */
    if (atomic_load(&s->generation) == generation) {
        good = verdict_store_move_aside(conf->directory);
        atomic_store(&s->accounted, 0);
        atomic_store(&s->counters[VERDICT_ENTRIES], 0);
        atomic_fetch_add(&s->generation, 1);
    }
    shared_unlock(&s->moving);
    return good;
}
