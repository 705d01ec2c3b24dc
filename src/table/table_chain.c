/*
 * Types made of other tables or texts: unionmap:{t1, t2} (all results, joined by ","), pipemap:{t1, t2} (the
 * result of one is the key of the next), randmap:{text, text} (one of them).
 *
 * Whether only whole keys are asked is as the first table says, as in Postfix.
 */
#include "buf.h"
#include "mem.h"
#include "table_type.h"

#include <stdlib.h>

static struct error *members_open(struct table *t, const void *ctx, const struct conf *conf, void **state_r)
{
    struct table_maps *m = mem_new(ctx, struct table_maps);
    char *inside = table_unbrace(m, t->name);
    struct error *e;

    if (inside == NULL)
        return error_new(ERROR_CONF, "need {type:name, ...}");
    if ((e = table_maps_open(m, inside, conf, m)) != NULL)
        return e;
    if (m->n == 0)
        return error_new(ERROR_CONF, "empty list of tables");
    t->is_pattern = table_wants_whole_key(m->at[0]);
    *state_r = m;
    return NULL;
}

co_fn static enum table_end union_find(struct table *t, const void *ctx, struct bytes key, char **value_r)
{
    const struct table_maps *m = t->state;
    enum table_end end = TABLE_ABSENT, one = TABLE_ABSENT;
    struct buf all = {0};
    char *value;

    for (size_t i = 0; i < m->n && one != TABLE_FAILED; i++) {
        one = table_find(m->at[i], ctx, key, &value);
        if (one != TABLE_FOUND)
            continue;
        if (end == TABLE_FOUND)
            buf_addc(&all, ',');
        buf_adds(&all, value);
        talloc_free(value);
        end = TABLE_FOUND;
    }
    if (one == TABLE_FAILED)
        end = TABLE_FAILED;
    if (end == TABLE_FOUND)
        *value_r = mem_strdup(ctx, buf_text(&all));
    buf_deinit(&all);
    return end;
}

const struct table_type table_type_unionmap = {
    .name = "unionmap",
    .open = members_open,
    .find = union_find,
};

co_fn static enum table_end pipe_find(struct table *t, const void *ctx, struct bytes key, char **value_r)
{
    const struct table_maps *m = t->state;
    enum table_end end = TABLE_FOUND;
    char *value = NULL, *next;

    for (size_t i = 0; i < m->n && end == TABLE_FOUND; i++) {
        end = table_find(m->at[i], ctx, value != NULL ? bytes_of(value) : key, &next);
        talloc_free(value);
        value = next;
    }
    if (end == TABLE_FOUND)
        *value_r = value;
    return end;
}

const struct table_type table_type_pipemap = {
    .name = "pipemap",
    .open = members_open,
    .find = pipe_find,
};

struct texts {
    char **at;
    size_t n;
};

static struct error *rand_open(struct table *t, const void *ctx, const struct conf *conf, void **state_r)
{
    struct texts *x = mem_new(ctx, struct texts);
    char *inside = table_unbrace(x, t->name), *item;
    const char *rest = inside;

    if (inside == NULL)
        return error_new(ERROR_CONF, "need {value, ...}");
    while ((item = conf_list_next(x, &rest)) != NULL) {
        x->at = mem_grow(x, x->at, x->n + 1);
        x->at[x->n++] = item;
    }
    *state_r = x;
    return x->n > 0 ? NULL : error_new(ERROR_CONF, "empty list of values");
}

static enum table_end rand_find(struct table *t, const void *ctx, struct bytes key, char **value_r)
{
    const struct texts *x = t->state;

    *value_r = mem_strdup(ctx, x->at[(size_t)random() % x->n]);
    return TABLE_FOUND;
}

const struct table_type table_type_randmap = {
    .name = "randmap",
    .open = rand_open,
    .find = rand_find,
};
