/*
 * Who may have the content filter, and when: values that are each good and have another effect than it looks.
 * Told where they are set.
 */
#include "conf_own.h"
#include "mem.h"

static const struct {
    const char *patience, *share;
} classes[] = {
    {"smtpd_proxy_own_patience", "smtpd_proxy_own_share"},
    {"smtpd_proxy_auth_patience", "smtpd_proxy_auth_share"},
    {"smtpd_proxy_good_patience", "smtpd_proxy_good_share"},
    {"smtpd_proxy_stranger_patience", "smtpd_proxy_stranger_share"},
};
enum { CLASSES = sizeof(classes) / sizeof(classes[0]) };

bool conf_lint_wants_slots(const struct conf_service *s)
{
    return conf_lint_has_filter(s) && conf_lint_number(s->conf, "smtpd_proxy_concurrency_limit") > 0;
}

/* Told at what the administrator has set: the patience, or the timeout that cuts the default. */
static void lint_patience(const struct conf *c, struct conf_faults *faults)
{
    const struct conf_entry *timeout = conf_entry_find(c, "smtpd_proxy_timeout");
    uint64_t most = conf_lint_time_ms(c, "smtpd_proxy_timeout");

    for (size_t i = 0; i < CLASSES; i++) {
        const struct conf_entry *e = conf_entry_find(c, classes[i].patience);
        uint64_t patience = conf_lint_time_ms(c, classes[i].patience);

        if (patience <= most)
            continue;
        if (e != NULL)
            conf_fault_add(faults, CONF_WARNING, e->file, e->line,
                           "%s = %s: is cut to smtpd_proxy_timeout (%llus)", e->name, e->value,
                           (unsigned long long)(most / 1000));
        else if (timeout != NULL && most > 0)
            conf_fault_add(faults, CONF_WARNING, timeout->file, timeout->line,
                           "%s = %s: cuts the patience of clients (%llus by default)", timeout->name,
                           timeout->value, (unsigned long long)(patience / 1000));
    }
}

static void lint_minimum(const struct conf *c, struct conf_faults *faults)
{
    const struct conf_entry *e = conf_entry_find(c, "smtpd_proxy_concurrency_minimum");
    long limit = conf_lint_number(c, "smtpd_proxy_concurrency_limit");

    if (e != NULL && conf_lint_number(c, "smtpd_proxy_concurrency_minimum") > limit)
        conf_fault_add(faults, CONF_WARNING, e->file, e->line,
                       "%s = %s: is cut to smtpd_proxy_concurrency_limit (%ld)", e->name, e->value, limit);
}

static void lint_shares(const struct conf *c, struct conf_faults *faults)
{
    const struct conf_entry *set = NULL;
    long sum = 0;

    for (size_t i = 0; i < CLASSES; i++) {
        const struct conf_entry *e = conf_entry_find(c, classes[i].share);

        if (e != NULL)
            set = e;
        sum += conf_lint_number(c, classes[i].share);
    }
    if (set != NULL && sum > 100)
        conf_fault_add(faults, CONF_WARNING, set->file, set->line,
                       "%s = %s: the shares add up to %ld %%; each class has its part of that sum", set->name,
                       set->value, sum);
}

/* What the queue may give mail to. */
static bool has_transport(const struct conf_services *all, struct bytes name)
{
    for (size_t i = 0; i < all->n; i++)
        if (all->at[i].type == CONF_UNIX && bytes_eq(name, bytes_of(all->at[i].name)))
            return true;
    return false;
}

/* Mail would be accepted for a transport that is not there. */
static void lint_hold(const struct conf *c, const struct conf_services *all, struct conf_faults *faults)
{
    const struct conf_entry *e = conf_entry_find(c, "smtpd_proxy_hold_filter");
    char *text = conf_lint_text(NULL, c, "smtpd_proxy_hold_filter");
    size_t n = strcspn(text, ":");

    if (e != NULL && text[0] != '\0' && (text[n] != ':' || !has_transport(all, bytes(text, n))))
        conf_fault_add(
            faults, CONF_ERROR, e->file, e->line,
            "%s = %s: transport:nexthop is wanted, with a transport that is a service of master.cf "
            "(type unix)",
            e->name, e->value);
    talloc_free(text);
}

static size_t count_items(const char *list)
{
    size_t n = 0;
    char *item;

    for (; (item = conf_list_next(NULL, &list)) != NULL; n++)
        talloc_free(item);
    return n;
}

/* The most sessions of a filter all of whose endpoints are services of ours; 0: no limit, not ours, or none.
 */
static long filter_maxproc(const struct conf_services *all, const char *filter)
{
    void *ctx = talloc_new(NULL);
    size_t found = 0;
    long sum = 0;
    bool has_limit = true;

    for (size_t i = 0; i < all->n; i++) {
        if (conf_lint_endpoint(ctx, &all->at[i], filter) == NULL)
            continue;
        found++;
        sum += all->at[i].maxproc;
        has_limit = has_limit && all->at[i].maxproc > 0;
    }
    talloc_free(ctx);
    return has_limit && found == count_items(filter) ? sum : 0;
}

static void lint_maxproc(const struct conf *c, const char *name, const struct conf_services *all,
                         struct conf_faults *faults)
{
    const struct conf_entry *e = conf_entry_find(c, "smtpd_proxy_concurrency_limit");
    char *filter = conf_lint_text(NULL, c, name);
    long most = filter_maxproc(all, filter), limit = conf_lint_number(c, "smtpd_proxy_concurrency_limit");

    if (e != NULL && most > 0 && limit > most)
        conf_fault_add(faults, CONF_WARNING, e->file, e->line,
                       "%s = %ld: the filter %s takes %ld at once (maxproc): further ones would wait there "
                       "with their slot",
                       e->name, limit, filter, most);
    talloc_free(filter);
}

static void lint_loop(const struct conf_service *s, struct conf_faults *faults)
{
    void *ctx = talloc_new(NULL);
    char *own = conf_lint_endpoint(ctx, s, conf_lint_text(ctx, s->conf, "smtpd_proxy_cheap_filter"));

    if (own != NULL)
        conf_fault_add(faults, CONF_ERROR, s->file, s->line,
                       "mail loop: \"%s\" is its own smtpd_proxy_cheap_filter (%s)", s->name, own);
    talloc_free(ctx);
}

void conf_lint_admission(const struct conf_service *s, const struct conf_services *all,
                         struct conf_faults *faults)
{
    if (!conf_lint_wants_slots(s) || !conf_lint_has_item(s->conf, "smtpd_proxy_options", "speed_adjust"))
        return;
    lint_patience(s->conf, faults);
    lint_shares(s->conf, faults);
    lint_minimum(s->conf, faults);
    lint_maxproc(s->conf, "smtpd_proxy_filter", all, faults);
    lint_maxproc(s->conf, "smtpd_proxy_cheap_filter", all, faults);
    lint_hold(s->conf, all, faults);
    lint_loop(s, faults);
}
