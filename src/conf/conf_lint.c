/*
 * What only a look at the whole shows: each single value is good, and yet strangers reach the after-filter
 * server, mail goes round in circles, nobody stands guard over relaying, or somebody waits for a feature that
 * is not there.
 */
#include "conf_own.h"
#include "mem.h"

#include <arpa/inet.h>

/* ---- reading values without trust ---- */

char *conf_lint_text(const void *ctx, const struct conf *c, const char *name)
{
    const char *raw = conf_raw(c, name);
    char *text = NULL;
    struct error *e = conf_expand(ctx, c, raw ? raw : "", &text);

    if (e == NULL)
        return text;
    error_free(&e);
    return mem_strdup(ctx, "");
}

long conf_lint_number(const struct conf *c, const char *name)
{
    char *text = conf_lint_text(NULL, c, name);
    long value = 0;
    char *fault = conf_number_parse(NULL, conf_param_find(name), name, text, &value);

    if (fault != NULL)
        value = 0;
    talloc_free(fault);
    talloc_free(text);
    return value;
}

uint64_t conf_lint_time_ms(const struct conf *c, const char *name)
{
    char *text = conf_lint_text(NULL, c, name);
    uint64_t ms = 0;

    if (conf_time_parse(text, conf_param_find(name), name, text, &ms) != NULL)
        ms = 0;
    talloc_free(text);
    return ms;
}

bool conf_lint_list_has(const char *list, const char *const *words)
{
    const char *rest = list;
    char *item;
    bool found = false;

    while (!found && (item = conf_list_next(NULL, &rest)) != NULL) {
        for (size_t i = 0; words[i] != NULL; i++)
            found = found || bytes_ieq(bytes_of(item), bytes_of(words[i]));
        talloc_free(item);
    }
    return found;
}

bool conf_lint_has_item(const struct conf *c, const char *name, const char *item)
{
    const char *const words[] = {item, NULL};
    char *list = conf_lint_text(NULL, c, name);
    bool found = conf_lint_list_has(list, words);

    talloc_free(list);
    return found;
}

static bool is_smtpd(const struct conf_service *s)
{
    return strcmp(s->command, "smtpd") == 0;
}

/* ---- addresses ---- */

static bool is_loopback(const char *host)
{
    unsigned char v6[16];
    struct in_addr v4;

    if (inet_pton(AF_INET, host, &v4) == 1)
        return ntohl(v4.s_addr) >> 24 == 127;
    if (inet_pton(AF_INET6, host, v6) == 1)
        return memcmp(v6, &in6addr_loopback, sizeof(v6)) == 0;
    return strcasecmp(host, "localhost") == 0;
}

/* Whether only this machine reaches the service. */
static bool listens_inside(const struct conf_service *s)
{
    char *interfaces;
    const char *rest;
    char *item;
    bool inside = true;

    if (s->type != CONF_INET)
        return true;
    if (s->host != NULL)
        return is_loopback(s->host);
    interfaces = conf_lint_text(NULL, s->conf, "inet_interfaces");
    rest = interfaces;
    while (inside && (item = conf_list_next(interfaces, &rest)) != NULL)
        inside = strcasecmp(item, "loopback-only") == 0 || is_loopback(item);
    talloc_free(interfaces);
    return inside;
}

/* ---- the after-filter server ---- */

/* Whether the list lets everybody pass: it says permit, and refuses nobody before. */
static bool permits_anybody(const struct conf *c, const char *name)
{
    char *list = conf_lint_text(NULL, c, name);
    const char *rest = list;
    char *item;
    bool permits = false;

    while (!permits && (item = conf_list_next(list, &rest)) != NULL) {
        if (strncasecmp(item, "reject", 6) == 0 || strncasecmp(item, "defer", 5) == 0 ||
            strncasecmp(item, "check_", 6) == 0)
            break;
        permits = strcasecmp(item, "permit") == 0;
    }
    talloc_free(list);
    return permits;
}

static bool is_set(const struct conf *c, const char *name)
{
    char *text = conf_lint_text(NULL, c, name);
    bool set = *text != '\0';

    talloc_free(text);
    return set;
}

static void lint_exposed(const struct conf_service *s, struct conf_faults *faults)
{
    bool has_xforward = is_set(s->conf, "smtpd_authorized_xforward_hosts");
    if (s->type != CONF_INET || listens_inside(s))
        return;
    if (strcmp(s->command, "filter") == 0)
        conf_fault_add(
            faults, CONF_NOTE, s->file, s->line,
            "content filter \"%s\" listens to other machines: those in mynetworks get past the front",
            s->name);
    if (!is_smtpd(s))
        return;
    if (has_xforward)
        conf_fault_add(
            faults, CONF_WARNING, s->file, s->line,
            "after-filter server \"%s\" (smtpd_authorized_xforward_hosts is set) can be reached from "
            "outside: write 127.0.0.1:%s",
            s->name, s->port);
    if (permits_anybody(s->conf, "smtpd_recipient_restrictions"))
        conf_fault_add(
            faults, CONF_WARNING, s->file, s->line,
            "\"%s\" can be reached from outside and its smtpd_recipient_restrictions permit every client",
            s->name);
}

/* Whether what connects to this endpoint arrives at the service. */
static bool is_endpoint_of(const struct conf_service *s, const char *host, const char *port)
{
    if (s->type != CONF_INET || strcmp(s->port, port) != 0)
        return false;
    if (host == NULL)
        host = "localhost";
    if (s->host == NULL)
        return is_loopback(host);
    return strcmp(s->host, host) == 0 || (strcasecmp(host, "localhost") == 0 && is_loopback(s->host)) ||
           (strcasecmp(s->host, "localhost") == 0 && is_loopback(host));
}

char *conf_lint_endpoint(const void *ctx, const struct conf_service *s, const char *list)
{
    char *item, *host = NULL, *port = NULL;

    while ((item = conf_list_next(ctx, &list)) != NULL)
        if (conf_lint_inet(ctx, item, &host, &port) == NULL && port != NULL && is_endpoint_of(s, host, port))
            return mem_printf(ctx, "%s:%s", host ? host : "localhost", port);
    return NULL;
}

bool conf_lint_has_filter(const struct conf_service *s)
{
    char *filter = conf_lint_text(NULL, s->conf, "smtpd_proxy_filter");
    bool has = is_smtpd(s) && filter[0] != '\0' && !conf_filter_is_direct(filter);

    talloc_free(filter);
    return has;
}

bool conf_lint_has_nexthop(const struct conf_service *s)
{
    return strcmp(s->command, "filter") == 0 && is_set(s->conf, "filter_nexthop");
}

static void lint_loop(const struct conf_service *s, const char *parameter, struct conf_faults *faults)
{
    void *ctx = talloc_new(NULL);
    char *own = conf_lint_endpoint(ctx, s, conf_lint_text(ctx, s->conf, parameter));

    if (own != NULL)
        conf_fault_add(faults, CONF_ERROR, s->file, s->line, "mail loop: \"%s\" is its own %s (%s)", s->name,
                       parameter, own);
    else if (conf_lint_has_filter(s) && is_set(s->conf, "smtpd_authorized_xforward_hosts"))
        conf_fault_add(
            faults, CONF_WARNING, s->file, s->line,
            "filter loop: \"%s\" looks like an after-filter server (smtpd_authorized_xforward_hosts is "
            "set) and sends to smtpd_proxy_filter: add -o smtpd_proxy_filter=",
            s->name);
    talloc_free(ctx);
}

/* smtpd_proxy_filter in main.cf is meant for the front, and every other smtpd inherits it. */
static void lint_inherited(const struct conf *main_conf, const struct conf_services *all,
                           struct conf_faults *faults)
{
    const struct conf_entry *e = conf_entry_find(main_conf, "smtpd_proxy_filter");
    size_t fronts = 0;

    if (e == NULL || !is_set(main_conf, "smtpd_proxy_filter"))
        return;
    for (size_t i = 0; i < all->n; i++)
        fronts += conf_lint_has_filter(&all->at[i]);
    if (fronts > 1)
        conf_fault_add(
            faults, CONF_WARNING, e->file, e->line,
            "smtpd_proxy_filter in main.cf is inherited by %zu smtpd services: set it with -o in master.cf",
            fronts);
}

static void lint_direct(const struct conf_service *s, struct conf_faults *faults)
{
    char *filter = conf_lint_text(NULL, s->conf, "smtpd_proxy_filter");
    bool looks = is_set(s->conf, "filter_engines") || is_set(s->conf, "header_checks") ||
                 is_set(s->conf, "mime_header_checks") || is_set(s->conf, "nested_header_checks") ||
                 is_set(s->conf, "body_checks");

    conf_lint_direct(s, filter, looks, faults);
    talloc_free(filter);
}

/* ---- relaying ---- */

static const char *const guards[] = {
    "reject_unauth_destination", "defer_unauth_destination", "reject", "defer",
    "defer_if_permit",           "check_relay_domains",      NULL};

static bool is_guarded(const struct conf *c, const char *name)
{
    char *list = conf_lint_text(NULL, c, name);
    bool guarded = conf_lint_list_has(list, guards);

    talloc_free(list);
    return guarded;
}

static void lint_relay(const struct conf_service *s, struct conf_faults *faults)
{
    if (!is_smtpd(s) || is_guarded(s->conf, "smtpd_relay_restrictions") ||
        is_guarded(s->conf, "smtpd_recipient_restrictions"))
        return;
    conf_fault_add(
        faults, CONF_ERROR, s->file, s->line,
        "in parameter smtpd_relay_restrictions or smtpd_recipient_restrictions of \"%s\", specify at least "
        "one working instance of: reject_unauth_destination, defer_unauth_destination, reject, defer, "
        "defer_if_permit or check_relay_domains",
        s->name);
}

/* ---- values that do not go together ---- */

static const struct conf_entry nowhere;

static const struct conf_entry *place_of(const struct conf *c, const char *a, const char *b)
{
    const struct conf_entry *e = conf_entry_find(c, a);

    if (e == NULL)
        e = conf_entry_find(c, b);
    return e ? e : &nowhere;
}

static void lint_size(const struct conf *c, const char *mailbox, enum conf_severity severity,
                      struct conf_faults *faults)
{
    long message = conf_lint_number(c, "message_size_limit"), limit = conf_lint_number(c, mailbox);
    const struct conf_entry *e = place_of(c, "message_size_limit", mailbox);

    if (limit > 0 && (message == 0 || message > limit))
        conf_fault_add(faults, severity, e->file, e->line,
                       "%s (%ld) is smaller than message_size_limit (%ld%s)", mailbox, limit, message,
                       message ? "" : ", no limit");
}

/* What Postfix can switch off and we cannot. */
static void lint_always_on(const struct conf_entry *e, const struct conf *c, struct conf_faults *faults)
{
    static const struct {
        const char *name, *holds;
    } always[] = {
        {"smtpd_forbid_bare_newline", "end of data is CR LF . CR LF on every listener"},
        {"smtpd_per_request_deadline",
         "each command has smtpd_timeout as a whole, and content smtpd_min_data_rate"},
    };
    char *text = conf_lint_text(NULL, c, e->name);

    for (size_t i = 0; i < sizeof(always) / sizeof(always[0]); i++)
        if (strcmp(e->name, always[i].name) == 0 && strcasecmp(text, "no") == 0)
            conf_fault_add(faults, CONF_WARNING, e->file, e->line, "%s = no: %s all the same", e->name,
                           always[i].holds);
    talloc_free(text);
}

static bool is_transport(const struct conf_services *all, const char *name, size_t n)
{
    if (n == strlen("default") && strncmp(name, "default", n) == 0)
        return true;
    for (size_t i = 0; i < all->n; i++)
        if (strlen(all->at[i].name) == n && strncmp(all->at[i].name, name, n) == 0)
            return true;
    return false;
}

/* NAME_destination_concurrency_limit and no service NAME: most likely a slip of the pen. */
static void lint_transport(const struct conf_entry *e, const struct conf_services *all,
                           struct conf_faults *faults)
{
    const struct conf_param *p = conf_param_of_transport(e->name);
    size_t suffix;

    if (p == NULL || conf_param_find(e->name) != NULL)
        return;
    for (suffix = 1; e->name[suffix] != '\0'; suffix++)
        if (e->name[suffix] == '_' && is_transport(all, e->name, suffix))
            return;
    conf_fault_add(faults, CONF_WARNING, e->file, e->line,
                   "unused parameter: %s=%s (no service of master.cf has "
                   "this name)",
                   e->name, e->value);
}

/* Stress is for sessions; what their messages go through is there once. */
static void lint_stress(const struct conf_entry *e, struct conf_faults *faults)
{
    bool is_shared = strncmp(e->name, "smtpd_proxy_", 12) == 0 || strncmp(e->name, "filter_", 7) == 0;

    if (is_shared && (strstr(e->value, "$stress") != NULL || strstr(e->value, "${stress") != NULL))
        conf_fault_add(faults, CONF_WARNING, e->file, e->line,
                       "%s = %s: has the same value with and without stress", e->name, e->value);
}

/* A feature that is switched off is not missed. */
static bool is_off(const char *value)
{
    return *value == '\0' || strcasecmp(value, "no") == 0 || strcasecmp(value, "none") == 0;
}

/* What is set in one file's level. */
static void lint_set(const struct conf *c, const struct conf_services *all, struct conf_faults *faults)
{
    for (const struct conf_entry *e = c->set; e != NULL; e = e->hh.next) {
        const struct conf_param *p = conf_param_find(e->name);

        if (e->is_internal)
            continue;
        lint_always_on(e, c, faults);
        lint_stress(e, faults);
        if (p == NULL)
            lint_transport(e, all, faults);
        else if (p->state == CONF_KNOWN && !is_off(e->value) && strcmp(e->value, p->value) != 0)
            conf_fault_add(faults, CONF_WARNING, e->file, e->line,
                           "%s = %s: Postfix has this parameter, this version does not act on it", e->name,
                           e->value);
    }
}

void conf_lint(const struct conf *main_conf, const struct conf_services *services, struct conf_faults *faults)
{
    lint_set(main_conf, services, faults);
    lint_size(main_conf, "mailbox_size_limit", CONF_WARNING, faults);
    lint_size(main_conf, "virtual_mailbox_limit",
              is_set(main_conf, "virtual_mailbox_maps") ? CONF_ERROR : CONF_WARNING, faults);
    lint_inherited(main_conf, services, faults);
    conf_lint_services(services, faults);
    conf_lint_filters(services, faults);
    conf_lint_needs(services, faults);
    for (size_t i = 0; i < services->n; i++) {
        const struct conf_service *s = &services->at[i];

        lint_set(s->conf, services, faults);
        lint_exposed(s, faults);
        lint_relay(s, faults);
        conf_lint_cut(s, faults);
        if (is_smtpd(s)) {
            conf_lint_endpoints(s, "smtpd_proxy_filter", faults);
            conf_lint_endpoints(s, "smtpd_proxy_cheap_filter", faults);
            lint_loop(s, "smtpd_proxy_filter", faults);
            lint_direct(s, faults);
            conf_lint_admission(s, services, faults);
        }
        if (strcmp(s->command, "filter") == 0) {
            conf_lint_endpoints(s, "filter_nexthop", faults);
            lint_loop(s, "filter_nexthop", faults);
        }
    }
}
