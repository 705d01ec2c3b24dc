/*
 * THE table of profiles: what an SMTP server of the chain is made of. Which one a line of master.cf is, its
 * configuration says: the command `filter`, smtpd with smtpd_proxy_filter, smtpd that takes XFORWARD, or a
 * plain smtpd.
 *
 * - before-filter asks anvil, access, admission; hands mail to proxy -> smtpd_proxy_filter (whole messages:
 *   through the gate; the ladder may choose a cheaper filter, or cleanup)
 * - direct (smtpd_proxy_filter = direct) asks anvil, access; hands mail to scan -> cleanup
 * - content filter asks access (mynetworks); hands mail to scan -> proxy -> filter_nexthop; without one: scan
 *   -> copies -> cleanup
 * - after-filter asks anvil, access; hands mail to copies -> cleanup (with its header and body checks)
 * - plain asks anvil, access; hands mail to cleanup (with its header and body checks)
 */
#include "daemon_own.h"

#include "access.h"
#include "anvil.h"
#include "cleanup.h"
#include "daemon_checks.h"
#include "daemon_copies.h"
#include "daemon_front.h"
#include "log.h"
#include "mem.h"
#include "proxy.h"
#include "scan.h"

#include <string.h>

enum { HOOKS = 4 };

/* Everything a worker has open. Hooks are there twice, as the configuration reads without and with stress;
 * what is behind them is not. */
struct parts {
    const struct conf *conf, *stress_conf;
    const char *service;
    unsigned worker;
    struct queue *queue;
    struct cleanup *cleanup;
    struct copies *copies; /* before cleanup */
    struct proxy *proxy;
    struct daemon_front *front;
    struct scan *scan;
    struct mail_hook *hooks[HOOKS], *stress_hooks[HOOKS];
    size_t hook_count;
};

/* ---- sinks ---- */

static struct mail_sink *to_proxy(void *arg, void *ctx)
{
    return proxy_sink(ctx, ((struct parts *)arg)->proxy);
}

static struct mail_sink *to_front(void *arg, void *ctx)
{
    return daemon_front_sink(ctx, ((struct parts *)arg)->front);
}

static struct mail_sink *to_cleanup(void *arg, void *ctx)
{
    return cleanup_sink(ctx, ((struct parts *)arg)->cleanup);
}

static struct mail_sink *to_copies(void *arg, void *ctx)
{
    return copies_sink(ctx, ((struct parts *)arg)->copies);
}

static struct mail_sink *to_scan(void *arg, void *ctx)
{
    return scan_sink(ctx, ((struct parts *)arg)->scan);
}

/* A filter's verdict may name any server, so it lives as long as the transaction only. */
static struct mail_sink *to_elsewhere(void *arg, void *ctx, const char *nexthop)
{
    const struct parts *p = arg;
    struct proxy *proxy;
    struct error *e = proxy_open(ctx, p->conf, nexthop, false, &proxy);

    if (e == NULL)
        return proxy_sink(ctx, proxy);
    log_report(&e);
    return NULL;
}

static struct error *open_cleanup(struct parts *p)
{
    return cleanup_open(p, p->conf, p->queue, &p->cleanup);
}

/* Cleanup where second copies of a message may come. */
static struct error *open_copies(struct parts *p)
{
    struct error *e = open_cleanup(p);

    if (e == NULL)
        p->copies = daemon_copies_open(p, p->conf, p->worker, p->queue, p->cleanup);
    return e;
}

static bool id_is_free(void *arg, const char *id)
{
    return queue_id_is_free(((struct parts *)arg)->queue, id);
}

/* ---- hooks ---- */

static struct error *add_anvil(struct parts *p)
{
    size_t i = p->hook_count++;
    struct error *e = anvil_open(p, p->conf, p->service, p->worker, &p->hooks[i]);

    return e ? e : anvil_open(p, p->stress_conf, p->service, p->worker, &p->stress_hooks[i]);
}

static struct error *add_access(struct parts *p, bool is_proxied)
{
    size_t i = p->hook_count++;
    struct error *e = access_open(p, p->conf, is_proxied, &p->hooks[i]);

    return e ? e : access_open(p, p->stress_conf, is_proxied, &p->stress_hooks[i]);
}

static void add_admission(struct parts *p, struct mail_hook *hook)
{
    if (hook == NULL)
        return;
    p->hooks[p->hook_count] = p->stress_hooks[p->hook_count] = hook;
    p->hook_count++;
}

/* ---- the profiles ---- */

/* The proxy, and what stands before it when messages are received whole. */
static struct error *open_front(struct parts *p, bool is_whole)
{
    const char *filter = conf_text(p->conf, "smtpd_proxy_filter");
    struct error *e = proxy_open(p, p->conf, filter, is_whole, &p->proxy);

    if (e != NULL || !is_whole)
        return e;
    e = daemon_front_open(p, p->conf, p->worker, p->queue, p->proxy, &p->front);
    if (e == NULL)
        add_admission(p, daemon_front_hook(p->front));
    return e;
}

static struct error *open_before_filter(struct parts *p, struct smtpd_profile *out)
{
    bool is_whole = false;
    struct error *e = proxy_wants_whole(p->conf, &is_whole);

    out->name = "before-filter";
    out->adds_received = true;
    out->relays_forward = true;
    out->sink = is_whole ? to_front : to_proxy;
    if (e == NULL)
        e = add_anvil(p);
    if (e == NULL)
        e = add_access(p, true);
    return e ? e : open_front(p, is_whole);
}

/* Only hosts of ours may use the filter; everything else was decided before it, or will be after it. */
static const struct conf *filter_conf(struct parts *p, const struct conf_service *s)
{
    static const struct {
        const char *name, *value;
    } settings[] = {
        {"smtpd_client_restrictions", "permit_mynetworks, reject"},
        {"smtpd_helo_restrictions", ""},
        {"smtpd_sender_restrictions", ""},
        {"smtpd_relay_restrictions", ""},
        {"smtpd_recipient_restrictions", "permit_mynetworks, reject"},
        {"smtpd_data_restrictions", ""},
        {"smtpd_end_of_data_restrictions", ""},
        {"smtpd_etrn_restrictions", ""},
        {"smtpd_reject_unlisted_recipient", "no"},
        {"smtpd_reject_unlisted_sender", "no"},
        {"smtpd_helo_required", "no"},
        {"smtpd_proxy_filter", ""},
    };
    struct conf *conf = conf_derive(p, s->conf);

    for (size_t i = 0; i < sizeof(settings) / sizeof(settings[0]); i++)
        conf_set(conf, settings[i].name, settings[i].value, s->file, s->line);
    if (conf_text(conf, "smtpd_authorized_xforward_hosts")[0] == '\0')
        conf_set(conf, "smtpd_authorized_xforward_hosts", "$mynetworks", s->file, s->line);
    return conf;
}

static struct error *open_filter(struct parts *p, struct smtpd_profile *out)
{
    const char *nexthop = conf_text(p->conf, "filter_nexthop");
    struct scan_outlets outlets = {.next = nexthop[0] ? to_proxy : to_copies,
                                   .elsewhere = to_elsewhere,
                                   .quarantine = to_copies,
                                   .arg = p};
    struct error *e = add_access(p, false);

    out->name = "content filter";
    out->relays_forward = true;
    out->received_has_id = true;
    out->sink = to_scan;
    out->id_is_free = nexthop[0] ? NULL : id_is_free; /* a server behind has to know the upstream's */
    if (e == NULL)
        e = open_copies(p);
    if (e == NULL && nexthop[0] != '\0')
        e = error_prepend(proxy_open(p, p->conf, nexthop, false, &p->proxy), "filter_nexthop");
    return e ? e : scan_open(p, p->conf, &outlets, &p->scan);
}

static struct error *open_queueing(struct parts *p, struct smtpd_profile *out, bool is_after_filter)
{
    struct error *e = add_anvil(p); /* does not count the filter, which is in mynetworks, by default */

    out->name = is_after_filter ? "after-filter" : "plain";
    out->adds_received = true;
    out->received_has_id = true;
    out->sink = is_after_filter ? to_copies : to_cleanup;
    out->id_is_free = id_is_free;
    if (e == NULL)
        e = add_access(p, false);
    if (e == NULL)
        e = is_after_filter ? open_copies(p) : open_cleanup(p);
    return e ? e : daemon_checks_plug(p, p->conf, p->cleanup);
}

/* No SMTP hop and no server behind this one: the queue is here, so is the id. */
static struct error *open_direct(struct parts *p, struct smtpd_profile *out)
{
    struct scan_outlets outlets = {
        .next = to_cleanup, .elsewhere = to_elsewhere, .quarantine = to_cleanup, .arg = p};
    struct error *e = add_anvil(p);

    out->name = "direct";
    out->adds_received = true;
    out->received_has_id = true;
    out->sink = to_scan;
    out->id_is_free = id_is_free;
    if (e == NULL)
        e = add_access(p, false);
    if (e == NULL)
        e = open_cleanup(p);
    if (e == NULL)
        e = daemon_checks_plug_beside(p, p->conf, p->cleanup);
    return e ? e : scan_open(p, daemon_checks_of_engines(p, p->conf), &outlets, &p->scan);
}

static struct error *open_smtpd(struct parts *p, struct smtpd_profile *out)
{
    const char *filter = conf_text(p->conf, "smtpd_proxy_filter");

    if (strcmp(filter, CONF_FILTER_DIRECT) == 0)
        return open_direct(p, out);
    if (filter[0] != '\0')
        return open_before_filter(p, out);
    return open_queueing(p, out, conf_text(p->conf, "smtpd_authorized_xforward_hosts")[0] != '\0');
}

/* As the service's values read under stress; who set `stress` himself has them so already. */
static const struct conf *stress_conf(struct parts *p, const struct conf_service *s)
{
    struct conf *conf;

    if (conf_is_set(p->conf, "stress"))
        return p->conf;
    conf = conf_derive(p, p->conf);
    conf_set(conf, "stress", "yes", s->file, s->line);
    return conf;
}

static struct error *bind_values(struct parts *p, const struct conf *conf, struct smtpd_profile *out)
{
    struct smtpd_conf *bound = NULL;
    struct error *e = smtpd_conf_open(p, conf, &bound);

    out->conf = bound;
    return e;
}

struct error *daemon_profiles_open(const void *ctx, const struct conf_service *service, unsigned worker,
                                   struct queue *queue, struct daemon_profiles *out_r)
{
    struct parts *p = mem_new(ctx, struct parts);
    bool is_filter = strcmp(service->command, "filter") == 0;
    struct error *e;

    out_r->usual = (struct smtpd_profile){.hooks = p->hooks, .sink_arg = p, .id_arg = p};
    p->service = service->name;
    p->worker = worker;
    p->queue = queue;
    p->conf = is_filter ? filter_conf(p, service) : service->conf;
    p->stress_conf = stress_conf(p, service);
    e = is_filter ? open_filter(p, &out_r->usual) : open_smtpd(p, &out_r->usual);
    out_r->usual.hook_count = p->hook_count;
    out_r->stressed = out_r->usual;
    out_r->stressed.hooks = p->stress_hooks;
    if (e == NULL)
        e = bind_values(p, p->conf, &out_r->usual);
    return e ? e : bind_values(p, p->stress_conf, &out_r->stressed);
}
