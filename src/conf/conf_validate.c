/*
 * Every value of a configuration tried before anything acts on it, so that a bad one refuses to start and a
 * service never meets it.
 */
#include "conf_own.h"
#include "mem.h"

/* NAME_suffix: a parameter of the transport or service NAME, and the parameter that gives its type and
 * default. */
static const struct {
    const char *suffix;
    const char *fallback;
} of_transport[] = {
    {"_delivery_slot_cost", "default_delivery_slot_cost"},
    {"_delivery_slot_discount", "default_delivery_slot_discount"},
    {"_delivery_slot_loan", "default_delivery_slot_loan"},
    {"_destination_concurrency_failed_cohort_limit", "default_destination_concurrency_failed_cohort_limit"},
    {"_destination_concurrency_limit", "default_destination_concurrency_limit"},
    {"_destination_concurrency_negative_feedback", "default_destination_concurrency_negative_feedback"},
    {"_destination_concurrency_positive_feedback", "default_destination_concurrency_positive_feedback"},
    {"_destination_rate_delay", "default_destination_rate_delay"},
    {"_destination_recipient_limit", "default_destination_recipient_limit"},
    {"_extra_recipient_limit", "default_extra_recipient_limit"},
    {"_initial_destination_concurrency", "initial_destination_concurrency"},
    {"_minimum_delivery_slots", "default_minimum_delivery_slots"},
    {"_recipient_limit", "default_recipient_limit"},
    {"_recipient_refill_delay", "default_recipient_refill_delay"},
    {"_recipient_refill_limit", "default_recipient_refill_limit"},
    {"_time_limit", "command_time_limit"},
    {"_transport_rate_delay", "default_transport_rate_delay"},
};

const struct conf_param *conf_param_of_transport(const char *name)
{
    size_t n = strlen(name);

    for (size_t i = 0; i < sizeof(of_transport) / sizeof(of_transport[0]); i++) {
        size_t suffix_n = strlen(of_transport[i].suffix);

        if (n > suffix_n && strcmp(name + n - suffix_n, of_transport[i].suffix) == 0)
            return conf_param_find(of_transport[i].fallback);
    }
    return NULL;
}

/* What is wrong with the value that `name` has in c; NULL: nothing. Owned by ctx. */
static char *fault_of(const void *ctx, const struct conf *c, const char *name)
{
    const struct conf_param *p = conf_param_find(name);
    const char *raw = conf_raw(c, name);
    char *text = NULL, *fault;
    struct error *e;

    if (p == NULL)
        p = conf_param_of_transport(name);
    if (raw == NULL)
        return NULL;
    if (p != NULL && p->type == CONF_RAW_TEXT)
        return conf_text_check(ctx, p, name, raw);
    e = conf_expand_value(NULL, c, raw, &text);
    if (e != NULL) {
        fault = mem_printf(ctx, "%s: %s", name, e->text);
        error_free(&e);
        return fault;
    }
    fault = p ? conf_value_check(ctx, p, name, text) : NULL;
    talloc_free(text);
    return fault;
}

static void check_unused(const struct conf_entry *e, const struct conf_used *used, struct conf_faults *faults)
{
    const char *meant;

    if (e->is_internal || conf_param_find(e->name) || conf_param_of_transport(e->name) ||
        conf_used_has(used, e->name))
        return;
    if (conf_is_postfix_name(e->name)) {
        conf_fault_add(faults, CONF_WARNING, e->file, e->line,
                       "%s = %s: Postfix has this parameter, this version does not", e->name, e->value);
        return;
    }
    meant = conf_suggest(e->name);
    conf_fault_add(faults, CONF_WARNING, e->file, e->line, "unused parameter: %s=%s%s%s%s", e->name, e->value,
                   meant ? " (did you mean " : "", meant ? meant : "", meant ? "?)" : "");
}

/* The place where somebody can mend it: where the name is set; for a default, the file as a whole. */
static void check_value(const struct conf *c, const char *name, const char *where, unsigned line,
                        struct conf_faults *faults)
{
    const struct conf_entry *e = conf_entry_find(c, name);
    char *fault = fault_of(NULL, c, name);

    if (fault != NULL)
        conf_fault_add(faults, CONF_ERROR, e && e->file ? e->file : where, e && e->file ? e->line : line,
                       "%s", fault);
    talloc_free(fault);
}

static bool is_set_here(const struct conf *c, const char *name)
{
    const struct conf_entry *e;

    HASH_FIND_STR(c->set, name, e);
    return e != NULL;
}

/* A value from below with references in it may read otherwise here; what was bad there was told there. */
static void check_inherited_value(const struct conf *c, const char *name, const char *where, unsigned line,
                                  struct conf_faults *faults)
{
    const char *raw = conf_raw(c, name);
    char *fault, *before = NULL;

    if (raw == NULL || strchr(raw, '$') == NULL || is_set_here(c, name))
        return;
    fault = fault_of(NULL, c, name);
    if (fault != NULL && c->base != NULL)
        before = fault_of(NULL, c->base, name);
    if (fault != NULL && before == NULL)
        check_value(c, name, where, line, faults);
    talloc_free(before);
    talloc_free(fault);
}

/* Any entry that the administrator wrote, to name his file by. */
static const struct conf_entry *first_written(const struct conf *c)
{
    const struct conf_entry *e = c->set;

    while (e != NULL && e->is_internal)
        e = e->hh.next;
    return e;
}

/* All that is not set at this level, where what it refers to may be. */
static void check_inherited(const struct conf *c, const char *where, unsigned line,
                            struct conf_faults *faults)
{
    size_t n;
    const struct conf_param *params = conf_params(&n);

    for (size_t i = 0; i < n; i++)
        if (strchr(params[i].value, '$') != NULL)
            check_inherited_value(c, params[i].name, where, line, faults);
    for (const struct conf *below = c->base; below != NULL; below = below->base)
        for (const struct conf_entry *e = below->set; e != NULL; e = e->hh.next)
            if (strchr(e->value, '$') != NULL)
                check_inherited_value(c, e->name, where, line, faults);
}

/* master sets stress when a service is at its limit: a bad time for finding out that a value does not bear
 * it. */
static void check_stress(const struct conf *c, const char *where, unsigned line, struct conf_faults *faults)
{
    struct conf *stressed = conf_derive(NULL, c);

    conf_set_internal(stressed, "stress", "yes");
    check_inherited(stressed, where, line, faults);
    talloc_free(stressed);
}

void conf_validate(struct conf *c, struct conf_faults *faults)
{
    struct conf_used *used = conf_used_new(NULL, c);
    const struct conf_entry *own = first_written(c);
    const char *where = own ? own->file : c->dir;
    unsigned line = own && c->base ? own->line : 0;

    for (const struct conf_entry *e = c->set; e != NULL; e = e->hh.next) {
        check_unused(e, used, faults);
        check_value(c, e->name, where, line, faults);
    }
    check_inherited(c, where, line, faults);
    if (!is_set_here(c, "stress"))
        check_stress(c, where, line, faults);
    talloc_free(used);
}
