/*
 * Settings of what speaks to a filter, or to the server behind one, that another setting cuts: each is good,
 * and has less effect than it looks. Told where they are set.
 */
#include "conf_own.h"

static const struct {
    const char *name, *most;
    bool is_of_whole; /* messages; streamed ones do not have it */
} cuts[] = {
    {"smtpd_proxy_connect_timeout", "smtpd_proxy_timeout", false},
    {"smtpd_proxy_ejection_time", "smtpd_proxy_ejection_time_limit", false},
    {"smtpd_proxy_retry_time", "smtpd_proxy_timeout", true},
};

static void lint_times(const struct conf_service *s, bool is_whole, struct conf_faults *faults)
{
    for (size_t i = 0; i < sizeof(cuts) / sizeof(cuts[0]); i++) {
        const struct conf_entry *e = conf_entry_find(s->conf, cuts[i].name);
        uint64_t most = conf_lint_time_ms(s->conf, cuts[i].most);

        if (e == NULL || most == 0 || (cuts[i].is_of_whole && !is_whole))
            continue;
        if (conf_lint_time_ms(s->conf, e->name) > most)
            conf_fault_add(faults, CONF_WARNING, e->file, e->line, "%s = %s: is cut to %s (%llus)", e->name,
                           e->value, cuts[i].most, (unsigned long long)(most / 1000));
    }
}

static void lint_reuse(const struct conf *c, struct conf_faults *faults)
{
    const struct conf_entry *e = conf_entry_find(c, "smtpd_proxy_connection_reuse_limit");

    if (e != NULL && conf_lint_number(c, e->name) == 1 &&
        conf_lint_has_item(c, "smtpd_proxy_connection_reuse", "yes"))
        conf_fault_add(faults, CONF_WARNING, e->file, e->line, "%s = %s: no connection is kept", e->name,
                       e->value);
}

void conf_lint_cut(const struct conf_service *s, struct conf_faults *faults)
{
    bool is_front = conf_lint_has_filter(s);

    if (!is_front && !conf_lint_has_nexthop(s))
        return;
    lint_times(s, is_front && conf_lint_has_item(s->conf, "smtpd_proxy_options", "speed_adjust"), faults);
    lint_reuse(s->conf, faults);
}
