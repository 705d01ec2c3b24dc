/*
 * Filters with slots, over all services: how many there are, what a service sets up for one and nobody uses,
 * and services that share one. A filter's slots are known by the text of its setting; they have the
 * parameters of the worker that opened them last.
 */
#include "conf_own.h"
#include "mem.h"

/* Those of the ladder last: a cheap filter has one of its own. */
static const char *const shared[] = {
    "smtpd_proxy_concurrency_limit",
    "smtpd_proxy_concurrency_mode",
    "smtpd_proxy_concurrency_minimum",
    "smtpd_proxy_own_patience",
    "smtpd_proxy_auth_patience",
    "smtpd_proxy_good_patience",
    "smtpd_proxy_stranger_patience",
    "smtpd_proxy_own_share",
    "smtpd_proxy_auth_share",
    "smtpd_proxy_good_share",
    "smtpd_proxy_stranger_share",
    "smtpd_proxy_reserve_time",
    "smtpd_proxy_good_client_messages",
    "smtpd_proxy_good_client_reject_percent",
    "smtpd_proxy_good_client_age",
    "smtpd_proxy_client_half_life",
    "smtpd_proxy_own_steps",
    "smtpd_proxy_auth_steps",
    "smtpd_proxy_good_steps",
    "smtpd_proxy_stranger_steps",
};
enum { SHARED = sizeof(shared) / sizeof(shared[0]), LADDERS = 4 };

/* A service gives mail to a filter. */
struct use {
    const struct conf_service *service;
    const char *filter;
    bool is_cheap;
};
struct uses {
    struct use *at;
    size_t n;
};

static void add_use(const void *ctx, struct uses *uses, const struct conf_service *s, bool is_cheap)
{
    const char *name = is_cheap ? "smtpd_proxy_cheap_filter" : "smtpd_proxy_filter";
    const char *filter = conf_lint_text(ctx, s->conf, name);

    if (filter[0] != '\0')
        uses->at[uses->n++] = (struct use){s, filter, is_cheap};
}

static struct uses all_uses(const void *ctx, const struct conf_services *all)
{
    struct uses uses = {mem_array(ctx, struct use, 2 * all->n + 1), 0};

    for (size_t i = 0; i < all->n; i++) {
        if (!conf_lint_has_filter(&all->at[i]))
            continue;
        add_use(ctx, &uses, &all->at[i], false);
        if (conf_lint_wants_slots(&all->at[i]))
            add_use(ctx, &uses, &all->at[i], true);
    }
    return uses;
}

/* ---- how many ---- */

static bool is_known(const struct uses *uses, size_t n, const char *filter)
{
    for (size_t i = 0; i < n; i++)
        if (conf_lint_wants_slots(uses->at[i].service) && strcmp(uses->at[i].filter, filter) == 0)
            return true;
    return false;
}

static void lint_number(const struct uses *uses, struct conf_faults *faults)
{
    size_t n = 0;

    for (size_t i = 0; i < uses->n && n <= CONF_SLOT_FILTERS; i++) {
        const struct use *u = &uses->at[i];

        if (conf_lint_wants_slots(u->service) && !is_known(uses, i, u->filter))
            n++;
        if (n > CONF_SLOT_FILTERS)
            conf_fault_add(faults, CONF_ERROR, u->service->file, u->service->line,
                           "more than %d filters with smtpd_proxy_concurrency_limit", CONF_SLOT_FILTERS);
    }
}

/* ---- shared ones ---- */

static bool differs(const struct use *a, const struct use *b, const char *name)
{
    char *one = conf_lint_text(NULL, a->service->conf, name);
    char *other = conf_lint_text(NULL, b->service->conf, name);
    bool different = strcmp(one, other) != 0;

    talloc_free(one);
    talloc_free(other);
    return different;
}

static const char *first_difference(const struct use *a, const struct use *b)
{
    for (size_t i = 0; i < SHARED - (a->is_cheap ? LADDERS : 0); i++)
        if (differs(a, b, shared[i]))
            return shared[i];
    return NULL;
}

static void lint_pair(const struct use *a, const struct use *b, struct conf_faults *faults)
{
    const struct conf_service *s = b->service;
    bool a_counts = conf_lint_wants_slots(a->service), b_counts = conf_lint_wants_slots(s);
    const char *name = first_difference(a, b);

    if (a_counts != b_counts)
        conf_fault_add(faults, CONF_WARNING, s->file, s->line,
                       "the filter %s has slots for \"%s\", and takes what \"%s\" sends without one",
                       a->filter, (a_counts ? a : b)->service->name, (a_counts ? b : a)->service->name);
    else if (a_counts && a->is_cheap != b->is_cheap)
        conf_fault_add(
            faults, CONF_WARNING, s->file, s->line,
            "%s is smtpd_proxy_filter of \"%s\" and smtpd_proxy_cheap_filter of \"%s\": the worker "
            "that starts last sets the ladder for both",
            a->filter, (a->is_cheap ? b : a)->service->name, (a->is_cheap ? a : b)->service->name);
    else if (a_counts && name != NULL)
        conf_fault_add(faults, CONF_WARNING, s->file, s->line,
                       "\"%s\" and \"%s\" share the filter %s with another %s: the worker that starts last "
                       "sets it for both",
                       a->service->name, s->name, a->filter, name);
}

/* Each with the first that has the same filter. */
static void lint_shared(const struct uses *uses, struct conf_faults *faults)
{
    for (size_t i = 1; i < uses->n; i++)
        for (size_t k = 0; k < i; k++)
            if (strcmp(uses->at[k].filter, uses->at[i].filter) == 0) {
                lint_pair(&uses->at[k], &uses->at[i], faults);
                break;
            }
}

/* ---- ways that no ladder takes ---- */

static bool has_step(const struct conf *c, const char *step)
{
    const char *const words[] = {step, NULL};
    bool found = false;

    for (size_t i = SHARED - LADDERS; i < SHARED && !found; i++) {
        char *steps = conf_lint_text(NULL, c, shared[i]);

        found = conf_lint_list_has(steps, words);
        talloc_free(steps);
    }
    return found;
}

static bool is_taken(const struct conf_services *all, const struct conf_entry *e, const char *step)
{
    for (size_t i = 0; i < all->n; i++)
        if (conf_lint_wants_slots(&all->at[i]) && conf_entry_find(all->at[i].conf, e->name) == e &&
            has_step(all->at[i].conf, step))
            return true;
    return false;
}

static void lint_way(const struct conf_service *s, const struct conf_services *all, const char *name,
                     const char *step, struct conf_faults *faults)
{
    const struct conf_entry *e = conf_entry_find(s->conf, name);
    char *filter = conf_lint_text(NULL, s->conf, name);

    if (e != NULL && filter[0] != '\0' && !is_taken(all, e, step))
        conf_fault_add(faults, CONF_WARNING, e->file, e->line,
                       "%s = %s: has no effect: no smtpd_proxy_*_steps has the step %s", name, e->value,
                       step);
    talloc_free(filter);
}

void conf_lint_filters(const struct conf_services *all, struct conf_faults *faults)
{
    void *ctx = talloc_new(NULL);
    struct uses uses = all_uses(ctx, all);

    lint_number(&uses, faults);
    lint_shared(&uses, faults);
    for (size_t i = 0; i < all->n; i++)
        if (conf_lint_wants_slots(&all->at[i])) {
            lint_way(&all->at[i], all, "smtpd_proxy_cheap_filter", "cheap", faults);
            lint_way(&all->at[i], all, "smtpd_proxy_hold_filter", "hold", faults);
        }
    talloc_free(ctx);
}
