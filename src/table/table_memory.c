/*
 * Types whose pairs are in memory: inline, texthash, static, environ, fail.
 *
 * The first of two equal keys wins, with a warning, as in files made by postmap.
 */
#include "log.h"
#include "mem.h"
#include "table_type.h"

#include <stdlib.h>

/* ---- pairs ---- */

struct pair {
    UT_hash_handle hh;
    const char *value;
    char key[];
};

struct table_memory {
    struct pair *pairs;
};

static int memory_destroy(struct table_memory *m)
{
    HASH_CLEAR(hh, m->pairs);
    return 0;
}

struct table_memory *table_memory_new(const void *ctx)
{
    struct table_memory *m = mem_new(ctx, struct table_memory);

    talloc_set_destructor(m, memory_destroy);
    return m;
}

bool table_memory_add(struct table_memory *m, const char *key, const char *value)
{
    size_t key_n = strlen(key), value_n = strlen(value);
    struct pair *p = (struct pair *)mem_bytes(m, sizeof(*p) + key_n + value_n + 2), *there;

    for (size_t i = 0; i <= key_n; i++)
        p->key[i] = (char)ascii_lower(key[i]);
    HASH_FIND(hh, m->pairs, p->key, key_n, there);
    if (there != NULL) {
        talloc_free(p);
        return false;
    }
    p->value = memcpy(p->key + key_n + 1, value, value_n + 1);
    HASH_ADD(hh, m->pairs, key, key_n, p);
    return true;
}

const char *table_memory_get(const struct table_memory *m, struct bytes key)
{
    struct pair *p;

    HASH_FIND(hh, m->pairs, key.p, key.n, p);
    return p != NULL ? p->value : NULL;
}

static enum table_end memory_find(struct table *t, const void *ctx, struct bytes key, char **value_r)
{
    const char *value = table_memory_get(t->state, key);

    if (value == NULL)
        return TABLE_ABSENT;
    *value_r = mem_strdup(ctx, value);
    return TABLE_FOUND;
}

/* ---- texthash ---- */

static struct error *texthash_read(struct table_memory *m, struct table_lines *lines)
{
    char *line, *key, *value;
    struct error *e;

    for (;;) {
        if ((e = table_lines_next(lines, &line)) != NULL || line == NULL)
            return e;
        if ((e = table_lines_split(lines, line, &key, &value)) != NULL)
            return e;
        if (!table_memory_add(m, key, value))
            log_warn("%s:%u: duplicate entry: \"%s\"", lines->name, lines->number, key);
    }
}

static struct error *texthash_open(struct table *t, const void *ctx, const struct conf *conf, void **state_r)
{
    struct table_memory *m;
    struct table_lines *lines;
    struct error *e;

    if ((e = table_lines_open(NULL, t->name, &lines)) != NULL)
        return e;
    m = table_memory_new(ctx);
    e = texthash_read(m, lines);
    table_file_note(&t->file, t, t->name, &lines->st);
    talloc_free(lines);
    *state_r = m;
    return e;
}

const struct table_type table_type_texthash = {
    .name = "texthash",
    .folds = true,
    .open = texthash_open,
    .find = memory_find,
};

/* ---- inline:{ {key = value}, key=value } ---- */

static struct error *inline_pair(struct table_memory *m, const char *item)
{
    struct bytes value = bytes_of(item), key;
    char *k, *v;

    if (bytes_chr(value, '=') == SIZE_MAX)
        return error_new(ERROR_CONF, "missing '=' after attribute name: \"%s\"", item);
    key = bytes_trim(bytes_cut(&value, '='));
    value = bytes_trim(value);
    if (key.n == 0)
        return error_new(ERROR_CONF, "missing attribute name: \"%s\"", item);
    k = bytes_dup(m, key);
    v = bytes_dup(m, value);
    if (!table_memory_add(m, k, v))
        log_warn("inline table: duplicate entry: \"%s\"", k);
    talloc_free(k);
    talloc_free(v);
    return NULL;
}

static struct error *inline_open(struct table *t, const void *ctx, const struct conf *conf, void **state_r)
{
    struct table_memory *m = table_memory_new(ctx);
    char *inside = table_unbrace(m, t->name), *item;
    const char *rest = inside;
    struct error *e = NULL;
    size_t n = 0;

    if (inside == NULL)
        return error_new(ERROR_CONF, "need {{name = value}, ...}");
    while (e == NULL && (item = conf_list_next(inside, &rest)) != NULL) {
        e = inline_pair(m, item);
        n++;
    }
    talloc_free(inside);
    if (e == NULL && n == 0)
        e = error_new(ERROR_CONF, "empty inline table");
    *state_r = m;
    return e;
}

const struct table_type table_type_inline = {
    .name = "inline",
    .folds = true,
    .open = inline_open,
    .find = memory_find,
};

/* ---- static:text, static:{text with blanks} ---- */

static struct error *static_open(struct table *t, const void *ctx, const struct conf *conf, void **state_r)
{
    char *inside = table_unbrace(ctx, t->name);
    struct bytes text = bytes_trim(bytes_of(inside != NULL ? inside : t->name));

    *state_r = bytes_dup(ctx, text);
    talloc_free(inside);
    return NULL;
}

static enum table_end static_find(struct table *t, const void *ctx, struct bytes key, char **value_r)
{
    *value_r = mem_strdup(ctx, t->state);
    return TABLE_FOUND;
}

const struct table_type table_type_static = {
    .name = "static",
    .open = static_open,
    .find = static_find,
};

/* ---- environ:anything, fail:anything ---- */

static struct error *nothing_open(struct table *t, const void *ctx, const struct conf *conf, void **state_r)
{
    return NULL;
}

static enum table_end environ_find(struct table *t, const void *ctx, struct bytes key, char **value_r)
{
    const char *value = getenv(key.p);

    if (value == NULL)
        return TABLE_ABSENT;
    *value_r = mem_strdup(ctx, value);
    return TABLE_FOUND;
}

const struct table_type table_type_environ = {
    .name = "environ",
    .open = nothing_open,
    .find = environ_find,
};

static enum table_end fail_find(struct table *t, const void *ctx, struct bytes key, char **value_r)
{
    log_warn("table %s: lookups always fail", t->spec);
    return TABLE_FAILED;
}

const struct table_type table_type_fail = {
    .name = "fail",
    .open = nothing_open,
    .find = fail_find,
};
