/*
 * One transaction: the changes asked for, then what is too old or too much, then the account. See
 * verdict_store.h.
 *
 * `accounted` is zero while the shared numbers and the database disagree, so that a worker killed in between
 * makes the next one count anew.
 */
#include "verdict_store_own.h"

#include <errno.h>
#include <stdlib.h>

enum { SWEEP_LIMIT = 1024 }; /* entries dropped in one transaction */

struct change {
    struct verdict_store *store;
    MDB_txn *txn;
    bool is_dirty;
    bool is_uncertain; /* a record could not be read */
};

static void time_key(unsigned char out[VERDICT_TIME_KEY_SIZE], uint64_t us,
                     const unsigned char hash[VERDICT_HASH_SIZE])
{
    for (int i = 0; i < VERDICT_TIME_SIZE; i++)
        out[i] = (unsigned char)(us >> (56 - i * 8));
    memcpy(out + VERDICT_TIME_SIZE, hash, VERDICT_HASH_SIZE);
}

static int del(struct change *c, MDB_dbi table, const void *p, size_t n)
{
    MDB_val key = verdict_store_value(p, n);
    int code = mdb_del(c->txn, table, &key, NULL);

    if (code == 0)
        c->is_dirty = true;
    return code == MDB_NOTFOUND ? 0 : code;
}

static int put(struct change *c, MDB_dbi table, const void *p, size_t n, const void *data, size_t size)
{
    MDB_val key = verdict_store_value(p, n), value = verdict_store_value(data, size);

    c->is_dirty = true;
    return mdb_put(c->txn, table, &key, &value, 0);
}

/* The verdict and its time; not what a damaged record's time was, which the sweep will come to. */
static int drop_known(struct change *c, const unsigned char hash[VERDICT_HASH_SIZE],
                      const struct verdict_record *r)
{
    unsigned char time[VERDICT_TIME_KEY_SIZE];
    uint32_t hint = r->hint;
    int code;

    time_key(time, r->kept_us, hash);
    code = del(c, c->store->verdicts, hash, VERDICT_HASH_SIZE);
    if (code == 0)
        code = del(c, c->store->times, time, sizeof(time));
    if (code == 0)
        atomic_fetch_sub(&c->store->conf.shared->kept_hints[verdict_shared_slot(hint)], 1);
    return code;
}

static int put_verdict(struct change *c, const struct verdict_op *op)
{
    struct verdict_shared *shared = c->store->conf.shared;
    unsigned char time[VERDICT_TIME_KEY_SIZE];
    struct verdict_record old;
    int code = 0;

    if (verdict_store_find(c->txn, c->store, op->key.hash, &old)) {
        if (old.code / 100 == 2 && op->code / 100 != 2)
            return 0;
        code = drop_known(c, op->key.hash, &old);
    }
    time_key(time, op->at_us, op->key.hash);
    if (code == 0)
        code = put(c, c->store->verdicts, op->key.hash, VERDICT_HASH_SIZE, op->record, op->record_size);
    if (code == 0)
        code = put(c, c->store->times, time, sizeof(time), "", 0);
    if (code == 0) {
        atomic_fetch_add(&shared->kept_hints[verdict_shared_slot(op->key.hint)], 1);
        verdict_shared_count(shared, VERDICT_KEPT);
    }
    return code;
}

static int drop_verdict(struct change *c, const struct verdict_op *op)
{
    struct verdict_record old;

    if (!verdict_store_find(c->txn, c->store, op->key.hash, &old) || old.kept_us > op->at_us)
        return 0;
    return drop_known(c, op->key.hash, &old);
}

/* ---- what is too old or too much ---- */

static uint64_t time_of(const MDB_val *time)
{
    uint64_t us = 0;

    for (int i = 0; i < VERDICT_TIME_SIZE; i++)
        us = us << 8 | ((const unsigned char *)time->mv_data)[i];
    return us;
}

/* A time whose verdict is of another time, or gone, was left by a damaged record. */
static int drop_oldest(struct change *c, const MDB_val *time)
{
    unsigned char copy[VERDICT_TIME_KEY_SIZE]; /* the page may go with the first change */
    const unsigned char *hash = copy + VERDICT_TIME_SIZE;
    struct verdict_record r;
    int code;

    memcpy(copy, time->mv_data, sizeof(copy));
    if (verdict_store_find(c->txn, c->store, hash, &r)) {
        if (r.kept_us == time_of(time))
            return drop_known(c, hash, &r);
        return del(c, c->store->times, copy, sizeof(copy));
    }
    c->is_uncertain = true;
    code = del(c, c->store->verdicts, hash, VERDICT_HASH_SIZE);
    return code == 0 ? del(c, c->store->times, copy, sizeof(copy)) : code;
}

static int oldest(struct change *c, MDB_val *time_r)
{
    MDB_cursor *cursor;
    MDB_val nothing;
    int code = mdb_cursor_open(c->txn, c->store->times, &cursor);

    if (code != 0)
        return code;
    code = mdb_cursor_get(cursor, time_r, &nothing, MDB_FIRST);
    mdb_cursor_close(cursor);
    return code == 0 && time_r->mv_size != VERDICT_TIME_KEY_SIZE ? MDB_CORRUPTED : code;
}

static int entries(struct change *c, size_t *n_r)
{
    MDB_stat stat;
    int code = mdb_stat(c->txn, c->store->verdicts, &stat);

    *n_r = code == 0 ? stat.ms_entries : 0;
    return code;
}

static int sweep(struct change *c)
{
    struct verdict_store *s = c->store;
    int code = 0;

    for (int i = 0; code == 0 && i < SWEEP_LIMIT; i++) {
        bool is_old;
        size_t n;
        MDB_val time;

        if ((code = entries(c, &n)) != 0 || (code = oldest(c, &time)) != 0)
            break;
        is_old = verdict_store_is_expired(s, time_of(&time));
        if (!is_old && n <= s->conf.limit)
            break;
        verdict_shared_count(s->conf.shared, is_old ? VERDICT_EXPIRED : VERDICT_EVICTED);
        code = drop_oldest(c, &time);
    }
    return code == MDB_NOTFOUND ? 0 : code;
}

/* ---- account ---- */

static int count_records(struct change *c, unsigned *hints)
{
    MDB_cursor *cursor;
    MDB_val key, value;
    struct verdict_record r;
    int code = mdb_cursor_open(c->txn, c->store->verdicts, &cursor);

    if (code != 0)
        return code;
    while ((code = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) == 0)
        if (key.mv_size == VERDICT_HASH_SIZE &&
            verdict_record_parse(bytes(value.mv_data, value.mv_size), key.mv_data, &r))
            hints[verdict_shared_slot(r.hint)]++;
    mdb_cursor_close(cursor);
    return code == MDB_NOTFOUND ? 0 : code;
}

/* No count of a verdict that is kept passes through zero on the way. */
static int account_anew(struct change *c)
{
    struct verdict_shared *shared = c->store->conf.shared;
    unsigned *hints = calloc(VERDICT_HINTS, sizeof(*hints));
    int code = hints == NULL ? ENOMEM : count_records(c, hints);

    for (size_t i = 0; code == 0 && i < VERDICT_HINTS; i++)
        if (atomic_load(&shared->kept_hints[i]) != hints[i])
            atomic_store(&shared->kept_hints[i], hints[i]);
    free(hints);
    return code;
}

/* The transaction's number is stored before it is on disk: a worker that is killed in between leaves one that
 * the next transaction does not follow. A record that could not be read has a hint that is not known, and of
 * what failed the numbers tell as if it had not: the next one counts anew. */
static int finish(struct change *c)
{
    struct verdict_shared *shared = c->store->conf.shared;
    uint64_t id = mdb_txn_id(c->txn);
    size_t n;
    int code = entries(c, &n);

    if (code == 0) {
        atomic_store(&shared->counters[VERDICT_ENTRIES], n);
        if (!c->is_uncertain)
            atomic_store(&shared->accounted, c->is_dirty ? id : id - 1);
    }
    if (code == 0 && c->is_dirty)
        code = mdb_txn_commit(c->txn);
    else
        mdb_txn_abort(c->txn);
    if (code != 0)
        atomic_store(&shared->accounted, 0);
    return code;
}

static int apply(struct change *c, const struct verdict_op *op)
{
    switch (op->kind) {
    case VERDICT_PUT:
        return put_verdict(c, op);
    case VERDICT_DROP:
        return drop_verdict(c, op);
    case VERDICT_SWEEP:
        break;
    }
    return 0;
}

static int write_all(struct verdict_store *s, const struct verdict_op *ops)
{
    struct change c = {.store = s};
    int code = mdb_txn_begin(s->env, NULL, 0, &c.txn);

    if (code != 0)
        return code;
    if (mdb_txn_id(c.txn) != atomic_load(&s->conf.shared->accounted) + 1)
        code = account_anew(&c);
    atomic_store(&s->conf.shared->accounted, 0);
    for (; code == 0 && ops != NULL; ops = ops->next)
        code = apply(&c, ops);
    if (code == 0)
        code = sweep(&c);
    if (code == 0)
        return finish(&c);
    mdb_txn_abort(c.txn);
    return code;
}

int verdict_store_write(struct verdict_store *s, const struct verdict_op *ops)
{
    int code;

    verdict_store_touch(&s->conf.touch->by_thread, true);
    code = write_all(s, ops);
    verdict_store_touch(&s->conf.touch->by_thread, false);
    return code;
}
