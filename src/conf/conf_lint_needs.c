/*
 * Settings of a before-filter server that have no effect as long as another one is off. Told where they are
 * set, with the first that is missing; not of what main.cf sets and some service makes use of. And what is
 * set for a filter itself that has an effect before one only.
 */
#include "conf_own.h"
#include "mem.h"

struct need {
    const char *name, *value; /* value: an item that its list must have; NULL: anything but off */
};

#define WHOLE                                                                                                \
    {                                                                                                        \
        "smtpd_proxy_options", "speed_adjust"                                                                \
    }
#define SLOTS                                                                                                \
    {                                                                                                        \
        "smtpd_proxy_concurrency_limit", NULL                                                                \
    }
#define REUSE                                                                                                \
    {                                                                                                        \
        "smtpd_proxy_connection_reuse", NULL                                                                 \
    }
#define VERDICTS                                                                                             \
    {                                                                                                        \
        "smtpd_proxy_verdict_memory", NULL                                                                   \
    }

static const struct {
    const char *name;
    struct need needs[4];
} settings[] = {
    {"smtpd_proxy_auth_patience", {SLOTS}},
    {"smtpd_proxy_auth_share", {SLOTS}},
    {"smtpd_proxy_auth_steps", {SLOTS}},
    {"smtpd_proxy_cheap_filter", {SLOTS}},
    {"smtpd_proxy_chunking",
     {WHOLE, REUSE, {"smtpd_proxy_pipelining", NULL}, {"smtpd_proxy_retry_after_dot", NULL}}},
    {"smtpd_proxy_client_half_life", {SLOTS}},
    {"smtpd_proxy_concurrency_limit", {WHOLE}},
    {"smtpd_proxy_concurrency_minimum", {SLOTS, {"smtpd_proxy_concurrency_mode", "adaptive"}}},
    {"smtpd_proxy_concurrency_mode", {SLOTS}},
    {"smtpd_proxy_connection_idle_time", {REUSE}},
    {"smtpd_proxy_connection_reuse_limit", {REUSE}},
    {"smtpd_proxy_good_client_age", {SLOTS}},
    {"smtpd_proxy_good_client_messages", {SLOTS}},
    {"smtpd_proxy_good_client_reject_percent", {SLOTS}},
    {"smtpd_proxy_good_patience", {SLOTS}},
    {"smtpd_proxy_good_share", {SLOTS}},
    {"smtpd_proxy_good_steps", {SLOTS}},
    {"smtpd_proxy_hold_filter", {SLOTS}},
    {"smtpd_proxy_own_patience", {SLOTS}},
    {"smtpd_proxy_own_share", {SLOTS}},
    {"smtpd_proxy_own_steps", {SLOTS}},
    {"smtpd_proxy_reserve_time", {SLOTS}},
    {"smtpd_proxy_retry_after_dot", {WHOLE}},
    {"smtpd_proxy_retry_limit", {WHOLE}},
    {"smtpd_proxy_retry_time", {WHOLE}},
    {"smtpd_proxy_stranger_patience", {SLOTS}},
    {"smtpd_proxy_stranger_share", {SLOTS}},
    {"smtpd_proxy_stranger_steps", {SLOTS}},
    {"smtpd_proxy_verdict_lifetime", {WHOLE, VERDICTS}},
    {"smtpd_proxy_verdict_memory", {WHOLE}},
    {"smtpd_proxy_verdict_memory_limit", {WHOLE, VERDICTS}},
};
enum {
    SETTINGS = sizeof(settings) / sizeof(settings[0]),
    NEEDS = sizeof(settings[0].needs) / sizeof(struct need)
};

/* A setting that has its effect in some service. */
struct served {
    const struct conf_entry *entry;
    UT_hash_handle hh;
};

static bool is_on(const struct conf *c, const char *name)
{
    char *text = conf_lint_text(NULL, c, name);
    bool on = text[0] != '\0' && strcasecmp(text, "no") != 0 && strcmp(text, "0") != 0;

    talloc_free(text);
    return on;
}

static bool is_met(const struct conf *c, const struct need *need)
{
    return need->value ? conf_lint_has_item(c, need->name, need->value) : is_on(c, need->name);
}

/* The first of the i-th setting's needs that is not met. */
static const struct need *missing(const struct conf *c, size_t i)
{
    for (const struct need *n = settings[i].needs; n < settings[i].needs + NEEDS && n->name != NULL; n++)
        if (!is_met(c, n))
            return n;
    return NULL;
}

/* What the service has of the i-th setting; NULL: nothing, or it is off and waits for nothing. */
static const struct conf_entry *set_for(const struct conf_service *s, size_t i)
{
    const struct conf_entry *e = conf_entry_find(s->conf, settings[i].name);

    return e != NULL && is_on(s->conf, e->name) ? e : NULL;
}

static void note_served(const void *ctx, struct served **all, const struct conf_service *s)
{
    for (size_t i = 0; i < SETTINGS; i++) {
        const struct conf_entry *e = set_for(s, i);
        struct served *one = NULL;

        if (e != NULL)
            HASH_FIND_PTR(*all, &e, one);
        if (e == NULL || one != NULL || missing(s->conf, i) != NULL)
            continue;
        one = mem_new(ctx, struct served);
        one->entry = e;
        HASH_ADD_PTR(*all, entry, one);
    }
}

static void lint_service(const struct served *all, const struct conf_service *s, struct conf_faults *faults)
{
    for (size_t i = 0; i < SETTINGS; i++) {
        const struct conf_entry *e = set_for(s, i);
        const struct need *need = e ? missing(s->conf, i) : NULL;
        const struct served *one = NULL;

        if (need != NULL)
            HASH_FIND_PTR(all, &e, one);
        if (need != NULL && one == NULL)
            conf_fault_add(faults, CONF_WARNING, e->file, e->line, "%s = %s: has no effect without %s%s%s",
                           e->name, e->value, need->name, need->value ? " = " : "",
                           need->value ? need->value : "");
    }
}

/* A filter hands a message on while it sends it, once. */
static void lint_filter(const struct conf_service *s, struct conf_faults *faults)
{
    static const char *const of_whole[] = {"smtpd_proxy_chunking", "smtpd_proxy_retry_after_dot",
                                           "smtpd_proxy_retry_limit"};

    for (size_t i = 0; i < sizeof(of_whole) / sizeof(of_whole[0]); i++) {
        const struct conf_entry *e = NULL;

        HASH_FIND_STR(s->conf->set, of_whole[i], e);
        if (e != NULL && is_on(s->conf, e->name))
            conf_fault_add(faults, CONF_WARNING, e->file, e->line,
                           "%s = %s: has no effect in a filter with filter_nexthop", e->name, e->value);
    }
}

void conf_lint_needs(const struct conf_services *services, struct conf_faults *faults)
{
    void *ctx = talloc_new(NULL);
    struct served *all = NULL;

    for (size_t i = 0; i < services->n; i++)
        if (conf_lint_has_filter(&services->at[i]))
            note_served(ctx, &all, &services->at[i]);
    for (size_t i = 0; i < services->n; i++) {
        if (conf_lint_has_filter(&services->at[i]))
            lint_service(all, &services->at[i], faults);
        else if (conf_lint_has_nexthop(&services->at[i]))
            lint_filter(&services->at[i], faults);
    }
    HASH_CLEAR(hh, all);
    talloc_free(ctx);
}
