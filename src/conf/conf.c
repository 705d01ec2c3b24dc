/*
 * A configuration: what was set, over another configuration or over the defaults, and its values.
 *
 * Texts are expanded once and kept. A configuration belongs to one thread: reading a value may fill the
 * memory of expanded texts.
 */
#include "conf_own.h"
#include "log.h"
#include "mem.h"

static int forget(struct conf *c)
{
    HASH_CLEAR(hh, c->cache);
    HASH_CLEAR(hh, c->set);
    return 0;
}

static struct conf *new_conf(const void *ctx, const struct conf *base, const char *dir)
{
    struct conf *c = mem_new(ctx, struct conf);

    c->base = base;
    c->dir = mem_strdup(c, dir);
    talloc_set_destructor(c, forget);
    return c;
}

struct conf *conf_read(const void *ctx, const char *dir, struct conf_faults *faults)
{
    struct conf *c = new_conf(ctx, NULL, dir ? dir : "");
    char *file, *text;
    size_t n;

    if (dir == NULL)
        return c;
    file = mem_printf(c, "%s/main.cf", dir);
    text = conf_file_read(c, file, faults, &n);
    if (text != NULL)
        conf_main_parse(c, bytes(text, n), file, faults);
    talloc_free(text);
    talloc_free(file);
    conf_set_internal(c, "config_directory", dir);
    return c;
}

struct conf *conf_derive(const void *ctx, const struct conf *base)
{
    return new_conf(ctx, base, base->dir);
}

/* A value may be part of any other, so nothing that was expanded is worth keeping. */
static void forget_expanded(struct conf *c)
{
    struct conf_cached *at, *next;

    HASH_ITER (hh, c->cache, at, next) {
        HASH_DEL(c->cache, at);
        talloc_free(at);
    }
}

void conf_set(struct conf *c, const char *name, const char *value, const char *file, unsigned line)
{
    struct conf_entry *e;

    HASH_FIND_STR(c->set, name, e);
    if (e == NULL) {
        e = mem_new(c, struct conf_entry);
        e->name = mem_strdup(e, name);
        HASH_ADD_KEYPTR(hh, c->set, e->name, strlen(e->name), e);
    } else {
        talloc_free(e->value);
        talloc_free(e->file);
    }
    e->value = mem_strdup(e, value);
    e->file = file ? mem_strdup(e, file) : NULL;
    e->line = line;
    forget_expanded(c);
}

void conf_set_internal(struct conf *c, const char *name, const char *value)
{
    struct conf_entry *e;

    conf_set(c, name, value, NULL, 0);
    HASH_FIND_STR(c->set, name, e);
    e->is_internal = true;
}

const struct conf_entry *conf_entry_find(const struct conf *c, const char *name)
{
    const struct conf_entry *e = NULL;

    for (; c != NULL && e == NULL; c = c->base)
        HASH_FIND_STR(c->set, name, e);
    return e;
}

bool conf_is_set(const struct conf *c, const char *name)
{
    const struct conf_entry *e = conf_entry_find(c, name);

    return e != NULL && !e->is_internal;
}

bool conf_place(const struct conf *c, const char *name, const char **file_r, unsigned *line_r)
{
    const struct conf_entry *e = conf_entry_find(c, name);

    if (e == NULL || e->is_internal || e->file == NULL)
        return false;
    *file_r = e->file;
    *line_r = e->line;
    return true;
}

const char *conf_raw(const struct conf *c, const char *name)
{
    const struct conf_entry *e = conf_entry_find(c, name);
    const struct conf_param *p;
    const char *found;

    if (e != NULL)
        return e->value;
    found = conf_runtime_default(c, name);
    if (found != NULL)
        return found;
    p = conf_param_find(name);
    return p ? p->value : NULL;
}

/* The expanded text of a name that has a value or a default, remembered. */
static const char *expanded(const struct conf *c, const char *name, const struct conf_param *p,
                            const char *raw)
{
    struct conf *memory = (struct conf *)c; /* only the memory of expanded texts changes */
    struct conf_cached *cached;
    struct error *e;

    HASH_FIND_STR(c->cache, name, cached);
    if (cached != NULL)
        return cached->text;
    cached = mem_new(memory, struct conf_cached);
    cached->name = mem_strdup(cached, name);
    if (p->type == CONF_RAW_TEXT) {
        cached->text = mem_strdup(cached, raw);
    } else {
        e = conf_expand_value(cached, c, raw, &cached->text);
        if (e != NULL)
            log_fatal("parameter %s: %s", name, e->text);
    }
    HASH_ADD_KEYPTR(hh, memory->cache, cached->name, strlen(cached->name), cached);
    return cached->text;
}

static const struct conf_param *declared(const char *name)
{
    const struct conf_param *p = conf_param_find(name);

    if (p == NULL)
        log_panic("parameter %s is not declared", name);
    return p;
}

const char *conf_text(const struct conf *c, const char *name)
{
    return expanded(c, name, declared(name), conf_raw(c, name));
}

/* conf_validate has found every fault before anybody asks, so this is the way out of a bug only. */
static void insist(char *fault)
{
    if (fault != NULL)
        log_fatal("%s", fault);
}

bool conf_bool(const struct conf *c, const char *name)
{
    bool value = false;

    insist(conf_bool_parse(c, name, conf_text(c, name), &value));
    return value;
}

long conf_int(const struct conf *c, const char *name)
{
    long value = 0;

    insist(conf_number_parse(c, declared(name), name, conf_text(c, name), &value));
    return value;
}

uint64_t conf_size(const struct conf *c, const char *name)
{
    long value = conf_int(c, name);

    return value > 0 ? (uint64_t)value : 0;
}

uint64_t conf_time_ms(const struct conf *c, const char *name)
{
    uint64_t ms = 0;

    insist(conf_time_parse(c, declared(name), name, conf_text(c, name), &ms));
    return ms;
}

/* The text of PREFIX_suffix, or of the fallback; *name_r is the one that answered, owned by NULL. */
static const char *text_for(const struct conf *c, const char *prefix, const char *suffix,
                            const char *fallback, char **name_r)
{
    const struct conf_param *p = declared(fallback);
    char *own = mem_printf(NULL, "%s%s", prefix, suffix);
    const struct conf_entry *e = conf_entry_find(c, own);
    const struct conf_param *own_param = conf_param_find(own);

    *name_r = own;
    if (e != NULL)
        return expanded(c, own, own_param ? own_param : p, e->value);
    if (own_param != NULL) /* local_destination_concurrency_limit has a default of its own */
        return expanded(c, own, own_param, own_param->value);
    return conf_text(c, fallback);
}

const char *conf_text_for(const struct conf *c, const char *prefix, const char *suffix, const char *fallback)
{
    char *name;
    const char *text = text_for(c, prefix, suffix, fallback, &name);

    talloc_free(name);
    return text;
}

long conf_int_for(const struct conf *c, const char *prefix, const char *suffix, const char *fallback)
{
    char *name;
    const char *text = text_for(c, prefix, suffix, fallback, &name);
    long value = 0;

    insist(conf_number_parse(c, declared(fallback), name, text, &value));
    talloc_free(name);
    return value;
}

uint64_t conf_time_ms_for(const struct conf *c, const char *prefix, const char *suffix, const char *fallback)
{
    char *name;
    const char *text = text_for(c, prefix, suffix, fallback, &name);
    uint64_t ms = 0;

    insist(conf_time_parse(c, declared(fallback), name, text, &ms));
    talloc_free(name);
    return ms;
}
