/*
 * Restriction lists: text to steps, once, and the walk over the steps.
 *
 * The words come from the tables of the families. A list that permits or rejects ends; warn_if_reject makes
 * what follows it only warn; a class is a list of its own, and lists may name each other down to a limit.
 */
#include "access_own.h"
#include "conf.h"
#include "log.h"
#include "mem.h"

#include <strings.h>

static const struct access_word *const families[] = {
    access_generic_words, access_client_words,      access_helo_words,
    access_address_words, access_destination_words, access_words_not_here,
};

static const struct access_word *find_word(const char *name)
{
    for (size_t i = 0; i < sizeof(families) / sizeof(families[0]); i++)
        for (const struct access_word *w = families[i]; w->name != NULL; w++)
            if (strcasecmp(w->name, name) == 0)
                return w;
    return NULL;
}

static struct error *unknown_word(const char *name)
{
    struct conf_nearest nearest;

    conf_nearest_begin(&nearest, name);
    for (size_t i = 0; i < sizeof(families) / sizeof(families[0]); i++)
        for (const struct access_word *w = families[i]; w->name != NULL; w++)
            conf_nearest_offer(&nearest, w->name);
    if (nearest.found == NULL)
        return error_new(ERROR_CONF, "unknown smtpd restriction: \"%s\"", name);
    return error_new(ERROR_CONF, "unknown smtpd restriction: \"%s\" (did you mean %s?)", name, nearest.found);
}

static struct access_list *find_class(const struct access *a, const char *name)
{
    for (size_t i = 0; i < a->class_count; i++)
        if (strcasecmp(a->classes[i].name, name) == 0)
            return &a->classes[i];
    return NULL;
}

/* ---- reading ---- */

struct reader {
    const void *ctx;
    const struct access *a;
    const char *check;
    bool at_run;
    const char *rest;
};

co_fn static enum access_end run_class(struct access_run *r, const struct access_step *step)
{
    return access_list_run(r, step->list);
}

static const struct access_word class_word = {"", ACCESS_NO_ARG, run_class, false};

static struct error *read_table(struct reader *rd, const char *word, const char *spec, struct table **table_r)
{
    if (rd->at_run)
        return error_new(ERROR_CONF, "restriction \"%s %s\": a table in a table's result is not allowed",
                         word, spec);
    return error_prepend(table_open(spec, rd->a->conf, table_r), "%s", word);
}

static struct error *read_arg(struct reader *rd, struct access_step *step)
{
    const char *name = step->word->name;
    char *arg;

    if (step->word->arg == ACCESS_NO_ARG)
        return NULL;
    if (step->word->arg == ACCESS_NOT_HERE)
        return error_new(ERROR_CONF, "restriction \"%s\" is not in this version", name);
    arg = conf_list_next(rd->ctx, &rd->rest);
    if (step->word->arg == ACCESS_NUMBER_ARG) {
        if (arg == NULL || !bytes_to_u64(bytes_of(arg), 1000, &step->number))
            return error_new(ERROR_CONF, "restriction \"%s\" needs a number up to 1000", name);
        return NULL;
    }
    if (arg == NULL || strchr(arg, ':') == NULL)
        return error_new(ERROR_CONF, "restriction \"%s\" needs a type:table argument", name);
    return read_table(rd, name, arg, &step->table);
}

static struct error *read_step(struct reader *rd, const char *item, struct access_step *step)
{
    if (strcasecmp(item, "warn_if_reject") == 0) {
        step->only_warns = true;
        item = conf_list_next(rd->ctx, &rd->rest);
        if (item == NULL)
            return error_new(ERROR_CONF, "\"warn_if_reject\" has nothing behind it");
    }
    step->list = find_class(rd->a, item);
    if (step->list != NULL) {
        step->word = &class_word;
        return NULL;
    }
    if (strchr(item, ':') != NULL && (rd->check != NULL || rd->at_run)) {
        step->word = rd->check != NULL ? find_word(rd->check) : NULL;
        return read_table(rd, "table", item, &step->table);
    }
    step->word = find_word(item);
    if (step->word == NULL)
        return unknown_word(item);
    return read_arg(rd, step);
}

struct error *access_list_compile(const void *ctx, const struct access *a, const char *text,
                                  const char *check, bool at_run, struct access_list *list)
{
    void *mine = talloc_new(NULL);
    struct reader rd = {.ctx = mine, .a = a, .check = check, .at_run = at_run, .rest = text};
    struct error *e = NULL;
    char *item;

    while (e == NULL && (item = conf_list_next(mine, &rd.rest)) != NULL) {
        list->at = mem_grow(ctx, list->at, list->n + 1);
        list->at[list->n] = (struct access_step){0};
        e = read_step(&rd, item, &list->at[list->n++]);
    }
    talloc_free(mine);
    return e;
}

bool access_list_stops_relay(struct access_list *list)
{
    if (list->was_seen)
        return false;
    list->was_seen = true;
    for (size_t i = 0; i < list->n; i++) {
        const struct access_step *s = &list->at[i];

        if (s->only_warns)
            continue;
        if (s->word->stops_relay || (s->list != NULL && access_list_stops_relay(s->list)))
            return true;
        if (strcmp(s->word->name, "permit") == 0)
            return false;
    }
    return false;
}

/* ---- the walk ---- */

co_fn static enum access_end run_step(struct access_run *r, const struct access_step *s)
{
    enum access_end end;

    r->warning += s->only_warns;
    end = s->word->run(r, s);
    r->warning -= s->only_warns;
    if (end == ACCESS_PERMIT && s->word->arg == ACCESS_NO_ARG && s->list == NULL)
        return access_permit(r, s->word->name, r->what, r->class_name, NULL);
    return end;
}

co_fn enum access_end access_list_run(struct access_run *r, const struct access_list *list)
{
    enum access_end end = ACCESS_DUNNO;

    if (r->nesting == ACCESS_NESTING_LIMIT) {
        log_warn("restriction class %s: more than %d classes inside each other", list->name,
                 ACCESS_NESTING_LIMIT);
        return access_reject_conf(r);
    }
    r->nesting++;
    for (size_t i = 0; i < list->n && end == ACCESS_DUNNO; i++)
        end = run_step(r, &list->at[i]);
    r->nesting--;
    return end;
}
