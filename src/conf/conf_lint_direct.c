/*
 * smtpd_proxy_filter = direct: the server looks into mail itself. What an administrator should hear of that:
 * what it means, that nothing is looked at, and which settings belong to a filter that is not there.
 */
#include "conf_own.h"
#include "mem.h"

bool conf_filter_is_direct(const char *filter)
{
    return strcmp(filter, CONF_FILTER_DIRECT) == 0;
}

/* One of several filters. */
static bool is_listed(const char *list)
{
    bool found = false;
    char *item;

    while (!found && (item = conf_list_next(NULL, &list)) != NULL) {
        found = conf_filter_is_direct(item);
        talloc_free(item);
    }
    return found;
}

/* Of a filter in between. What says how to speak with a server holds for the action FILTER. */
static bool is_of_filter(const char *name)
{
    static const char *const names[] = {
        "filter_nexthop",          "smtpd_proxy_cheap_filter", "smtpd_proxy_concurrency_limit",
        "smtpd_proxy_hold_filter", "smtpd_proxy_options",      "smtpd_proxy_verdict_memory"};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (strcmp(name, names[i]) == 0)
            return true;
    return false;
}

/* Set for this service alone; what main.cf says may be meant for others. */
static void lint_idle(const struct conf_service *s, struct conf_faults *faults)
{
    for (const struct conf_entry *e = s->conf->set; e != NULL; e = e->hh.next)
        if (is_of_filter(e->name))
            conf_fault_add(faults, CONF_WARNING, e->file, e->line,
                           "%s = %s: has no effect with smtpd_proxy_filter = direct", e->name, e->value);
}

void conf_lint_direct(const struct conf_service *s, const char *filter, bool looks,
                      struct conf_faults *faults)
{
    if (!conf_filter_is_direct(filter)) {
        if (is_listed(filter))
            conf_fault_add(faults, CONF_ERROR, s->file, s->line,
                           "smtpd_proxy_filter of \"%s\": \"direct\" stands alone; a host of that name is "
                           "written with its port",
                           s->name);
        return;
    }
    conf_fault_add(faults, CONF_NOTE, s->file, s->line,
                   "\"%s\" runs filter_engines itself and queues what they let pass (smtpd_proxy_filter = "
                   "direct); a host of that name is written with its port",
                   s->name);
    if (!looks)
        conf_fault_add(faults, CONF_WARNING, s->file, s->line,
                       "smtpd_proxy_filter = direct, and nothing to look at mail with: \"%s\" has neither "
                       "filter_engines nor header_checks or body_checks",
                       s->name);
    lint_idle(s, faults);
}
