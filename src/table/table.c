/*
 * The registry of table types, and the tables that are open. See table.h.
 *
 * A type is found by name here and nowhere else. Tables live in one hash by spec: whoever names the same spec
 * shares the same table, its memory and its file handle.
 */
#include "table.h"

#include "buf.h"
#include "clock.h"
#include "log.h"
#include "mem.h"
#include "table_type.h"

#include <errno.h>

enum { KEY_LIMIT = 4096, LOOK_EVERY_MS = 1000, LOOK_AFTER_FAULT_MS = 60000 };

static const struct table_type *const types[] = {
    &table_type_inline,  &table_type_texthash, &table_type_static, &table_type_environ,  &table_type_fail,
    &table_type_regexp,  &table_type_pcre,     &table_type_cidr,   &table_type_unionmap, &table_type_pipemap,
    &table_type_randmap, &table_type_unix,     &table_type_lmdb,
#ifdef HAVE_DB
    &table_type_hash,    &table_type_btree,
#endif
};

/* Postfix's types that this version has not. */
static const char *const later[] = {
    "cdb",     "dbm",   "debug",   "internal", "ldap", "memcache",  "mongodb", "mysql",
    "netinfo", "nis",   "nisplus", "pgsql",    "sdbm", "socketmap", "sqlite",  "tcp",
#ifndef HAVE_DB
    "hash",    "btree",
#endif
};

static struct table *tables; /* by spec; they live until the process ends */

const struct table_type *table_type_find(struct bytes name)
{
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
        if (bytes_eq(name, bytes_of(types[i]->name)))
            return types[i];
    return NULL;
}

static struct error *no_such_type(struct bytes name)
{
    for (size_t i = 0; i < sizeof(later) / sizeof(later[0]); i++)
        if (bytes_eq(name, bytes_of(later[i])))
            return error_new(ERROR_CONF, "table type \"%s\" is not in this version", later[i]);
    return error_new(ERROR_CONF, "unsupported dictionary type: %.*s", BYTES_FMT(name));
}

/* "proxy:" means another process to Postfix; here every table is in reach already. */
static const char *without_proxy(const char *spec)
{
    while (strncmp(spec, "proxy:", 6) == 0)
        spec += 6;
    return spec;
}

static struct error *split_spec(const char *spec, const struct table_type **type_r, const char **name_r)
{
    struct bytes rest = bytes_of(spec), type;

    if (bytes_chr(rest, ':') == SIZE_MAX)
        return error_new(ERROR_CONF, "bad table \"%s\": need \"type:name\"", spec);
    type = bytes_cut(&rest, ':');
    *type_r = table_type_find(type);
    *name_r = rest.p;
    if (*type_r == NULL)
        return no_such_type(type);
    if (rest.n == 0)
        return error_new(ERROR_CONF, "bad table \"%s\": the name is empty", spec);
    return NULL;
}

struct error *table_open(const char *spec, const struct conf *conf, struct table **table_r)
{
    const struct table_type *type = NULL;
    const char *name = NULL;
    struct table *t;
    struct error *e;

    *table_r = NULL;
    spec = without_proxy(spec);
    HASH_FIND_STR(tables, spec, t);
    if (t == NULL) {
        if ((e = split_spec(spec, &type, &name)) != NULL)
            return e;
        t = mem_new(NULL, struct table);
        t->type = type;
        t->spec = mem_strdup(t, spec);
        t->name = mem_strdup(t, name);
        t->is_pattern = type->is_pattern;
        if ((e = type->open(t, t, conf, &t->state)) != NULL) {
            e->kind = ERROR_CONF;
            talloc_free(t);
            return error_prepend(e, "table %s", spec);
        }
        t->look_ms = clock_ms() + LOOK_EVERY_MS;
        HASH_ADD_KEYPTR(hh, tables, t->spec, strlen(t->spec), t);
    }
    *table_r = t;
    return NULL;
}

void table_close_all(void)
{
    struct table *t, *next;

    HASH_ITER (hh, tables, t, next) {
        HASH_DEL(tables, t);
        talloc_free(t);
    }
}

void table_refresh(struct table *t)
{
    struct table *fresh = mem_new(NULL, struct table);
    struct error *e;

    fresh->type = t->type;
    fresh->spec = t->spec;
    fresh->name = t->name;
    if ((e = t->type->open(fresh, t, NULL, &fresh->state)) != NULL) {
        error_prepend(e, "table %s: the old content stays in use", t->spec);
        log_report(&e);
        t->look_ms = clock_ms() + LOOK_AFTER_FAULT_MS;
    } else {
        talloc_free(t->state);
        t->state = fresh->state;
        talloc_free(t->file.path);
        t->file = fresh->file;
        talloc_steal(t, t->file.path);
    }
    talloc_free(fresh);
}

bool table_has_changed(const struct table *t)
{
    struct stat st;

    return t->file.path != NULL && stat(t->file.path, &st) == 0 && table_file_differs(&t->file, &st);
}

bool table_any_has_changed(void)
{
    for (const struct table *t = tables; t != NULL; t = t->hh.next)
        if (!t->type->refreshes && table_has_changed(t))
            return true;
    return false;
}

static void look_at_file(struct table *t)
{
    if (!t->type->refreshes || clock_ms() < t->look_ms)
        return;
    t->look_ms = clock_ms() + LOOK_EVERY_MS;
    if (table_has_changed(t))
        table_refresh(t);
}

co_fn enum table_end table_find(struct table *t, const void *ctx, struct bytes key, char **value_r)
{
    char small[512], *copy = small;
    enum table_end end;

    *value_r = NULL;
    if (memchr(key.p, '\0', key.n) != NULL || (t->type->folds && key.n > KEY_LIMIT))
        return TABLE_ABSENT;
    look_at_file(t);
    if (key.n >= sizeof(small))
        copy = mem_bytes(ctx, key.n + 1);
    for (size_t i = 0; i < key.n; i++)
        copy[i] = (char)(t->type->folds ? ascii_lower(key.p[i]) : key.p[i]);
    copy[key.n] = '\0';
    end = t->type->find(t, ctx, bytes(copy, key.n), value_r);
    if (copy != small)
        talloc_free(copy);
    return end;
}

bool table_wants_whole_key(const struct table *t)
{
    return t->is_pattern;
}

const char *table_spec(const struct table *t)
{
    return t->spec;
}
