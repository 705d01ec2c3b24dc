/* postconf's output: "name = value", sorted by name. */
#include "conf_own.h"
#include "mem.h"

#include <stdlib.h>

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* A name of c that is worth printing although it is not declared: somebody refers to it. */
static bool is_users(const struct conf_used *used, const char *name)
{
    return conf_param_of_transport(name) != NULL || conf_used_has(used, name);
}

struct names {
    const char **at;
    size_t n;
};

static void add_name(struct names *names, const char *name)
{
    if (names->n % 64 == 0)
        names->at = mem_grow(NULL, names->at, names->n + 64);
    names->at[names->n++] = name;
}

/* What is set and not declared; in a derived configuration both levels count. */
static void add_set(struct names *names, const struct conf *c, const struct conf_used *used)
{
    for (const struct conf *level = c; level != NULL; level = level->base)
        for (const struct conf_entry *e = level->set; e != NULL; e = e->hh.next)
            if (!e->is_internal && conf_entry_find(c, e->name) == e && !conf_param_find(e->name) &&
                is_users(used, e->name))
                add_name(names, e->name);
}

static bool is_set(const struct conf *c, const char *name)
{
    const struct conf_entry *e = conf_entry_find(c, name);

    if (e != NULL && e->is_internal && strcmp(name, "config_directory") == 0)
        return strcmp(e->value, conf_param_find(name)->value) != 0;
    return e != NULL && !e->is_internal;
}

static struct names all_names(const struct conf *c, enum conf_print what)
{
    struct conf_used *used = conf_used_new(NULL, c);
    struct names names = {0};
    size_t n;
    const struct conf_param *params = conf_params(&n);

    for (size_t i = 0; i < n; i++)
        if (what != CONF_PRINT_SET || is_set(c, params[i].name))
            add_name(&names, params[i].name);
    if (what != CONF_PRINT_DEFAULTS)
        add_set(&names, c, used);
    if (names.n > 0)
        qsort(names.at, names.n, sizeof(*names.at), compare_names);
    talloc_free(used);
    return names;
}

static const char *default_of(const struct conf *c, const char *name)
{
    const char *found = conf_runtime_default(c, name);
    const struct conf_param *p = conf_param_find(name);

    return found ? found : p ? p->value : NULL;
}

/* Words with one blank between them, whatever stood there: as postconf prints continuation lines. */
static void print_words(const char *text, FILE *out)
{
    struct bytes rest = bytes_of(text), word;

    while ((word = bytes_word(&rest, " \t\r\n\v\f")).n > 0)
        fprintf(out, " %.*s", BYTES_FMT(word));
}

/* False: nobody knows the name. */
static bool print_one(const struct conf *c, enum conf_print what, bool expand, const char *name, FILE *out)
{
    const char *raw = what == CONF_PRINT_DEFAULTS ? default_of(c, name) : conf_raw(c, name);
    const struct conf_param *p = conf_param_find(name);
    char *text = NULL;
    struct error *e = NULL;

    if (raw == NULL)
        return false;
    if (what == CONF_PRINT_SET && !is_set(c, name))
        return true;
    if (expand && (p == NULL || p->type != CONF_RAW_TEXT))
        e = conf_expand(NULL, c, raw, &text);
    if (e != NULL)
        fprintf(stderr, "warning: %s: %s\n", name, e->text);
    fprintf(out, "%s =", name);
    print_words(text ? text : raw, out);
    fputc('\n', out);
    error_free(&e);
    talloc_free(text);
    return true;
}

int conf_print(const struct conf *c, enum conf_print what, bool expand, const char *const *names, FILE *out)
{
    int unknown = 0;
    struct names all = {0};

    for (size_t i = 0; names != NULL && names[i] != NULL; i++) {
        if (print_one(c, what, expand, names[i], out))
            continue;
        fprintf(stderr, "warning: %s: unknown parameter\n", names[i]);
        unknown++;
    }
    if (names != NULL)
        return unknown;
    all = all_names(c, what);
    for (size_t i = 0; i < all.n; i++)
        print_one(c, what, expand, all.at[i], out);
    talloc_free(all.at);
    return unknown;
}
