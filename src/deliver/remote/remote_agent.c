/* The SMTP client as a delivery agent: settings, and the round through next hops and addresses. See
 * remote_agent.h. */
#include "remote.h"

#include "clock.h"
#include "log.h"
#include "mem.h"

static bool is_done(const struct remote_delivery *d)
{
    size_t i;

    for (i = 0; i < d->request->rcpt_count; i++) {
        if (!d->is_final[i])
            return false;
    }
    return true;
}

static void connect_failed(struct remote_delivery *d, const struct remote_host *host, struct error *e)
{
    char addr[46];

    deliver_result_set(d->ctx, &d->site, DELIVER_DEFERRED, "4.4.1", "none", "connect to %s[%s]:%u: %s",
                       host->name, io_address_host(&host->address, addr), io_address_port(&host->address),
                       e->text);
    d->site.is_site = true;
    log_info("%s", d->site.text);
    error_free(&e);
}

/* Until every recipient has his answer, or the limits on addresses and conversations are reached. */
static co_fn void try_hosts(struct remote_delivery *d, const struct remote_hosts *hosts)
{
    long sessions = 0, addresses = 0;
    struct error *e;
    size_t i;

    for (i = 0; i < hosts->n && !is_done(d) && !co_is_cancelled(); i++) {
        if (d->agent->address_limit != 0 && addresses++ >= d->agent->address_limit)
            return;
        e = io_connect(d->ctx, &hosts->at[i].address, clock_ms() + d->agent->connect_ms, &d->stream);
        if (e != NULL) {
            connect_failed(d, &hosts->at[i], e);
            continue;
        }
        remote_session(d, &hosts->at[i]);
        if (d->agent->session_limit != 0 && ++sessions >= d->agent->session_limit)
            return;
    }
}

static co_fn void try_target(struct remote_delivery *d, const char *text)
{
    struct remote_target target;
    struct remote_hosts hosts;

    if (!remote_target_parse(d->ctx, text, &target)) {
        log_warn("%s: next hop \"%s\" of transport %s is malformed", d->request->envelope->id, text,
                 d->request->transport);
        deliver_result_set(d->ctx, &d->site, DELIVER_DEFERRED, "4.3.5", "none",
                           "mail system configuration error");
        return;
    }
    if (remote_hosts_find(d->ctx, d->agent, &target, &hosts, &d->site))
        try_hosts(d, &hosts);
}

/* Recipients that no server answered for share the last failure of a whole server. */
static void spread_site_failure(struct remote_delivery *d)
{
    size_t i;

    if (d->site.text == NULL)
        deliver_result_set(d->ctx, &d->site, DELIVER_DEFERRED, "4.3.0", "none", "delivery was not attempted");
    for (i = 0; i < d->request->rcpt_count; i++) {
        if (!d->is_answered[i])
            d->results[i] = d->site;
    }
}

static co_fn void remote_deliver(struct deliver_agent *agent, const void *ctx,
                                 const struct deliver_request *request, struct deliver_result *results)
{
    struct remote_delivery d = {
        .agent = (const struct remote_agent *)agent, .ctx = ctx, .request = request, .results = results};
    const char *rest = request->nexthop;
    char *item;

    d.is_final = mem_array(ctx, bool, request->rcpt_count);
    d.is_answered = mem_array(ctx, bool, request->rcpt_count);
    while (!is_done(&d) && !co_is_cancelled() && (item = conf_list_next(ctx, &rest)) != NULL)
        try_target(&d, item);
    spread_site_failure(&d);
}

static int family_of(const char *protocols)
{
    bool has_4 = strstr(protocols, "ipv4") != NULL, has_6 = strstr(protocols, "ipv6") != NULL;

    if (has_4 == has_6)
        return AF_UNSPEC;
    return has_4 ? AF_INET : AF_INET6;
}

static void read_times(struct remote_agent *a, const struct conf *conf)
{
    a->connect_ms = conf_time_ms(conf, "smtp_connect_timeout");
    if (a->connect_ms == 0)
        a->connect_ms = 3600 * 1000; /* Postfix: the kernel's own limit, which is shorter */
    a->helo_ms = conf_time_ms(conf, "smtp_helo_timeout");
    a->xforward_ms = conf_time_ms(conf, "smtp_xforward_timeout");
    a->mail_ms = conf_time_ms(conf, "smtp_mail_timeout");
    a->rcpt_ms = conf_time_ms(conf, "smtp_rcpt_timeout");
    a->data_init_ms = conf_time_ms(conf, "smtp_data_init_timeout");
    a->data_xfer_ms = conf_time_ms(conf, "smtp_data_xfer_timeout");
    a->data_done_ms = conf_time_ms(conf, "smtp_data_done_timeout");
}

static struct error *remote_open(const void *ctx, const char *service, const struct conf *conf,
                                 struct deliver_agent **agent_r)
{
    struct remote_agent *a = mem_new(ctx, struct remote_agent);
    struct bytes unknown;
    uint64_t line_limit;

    a->agent.ops = &remote_agent_ops;
    read_times(a, conf);
    a->myhostname = conf_text(conf, "myhostname");
    a->helo_name = conf_text(conf, "smtp_helo_name");
    a->address_limit = conf_int(conf, "smtp_mx_address_limit");
    a->session_limit = conf_int(conf, "smtp_mx_session_limit");
    line_limit = conf_size(conf, "smtp_line_length_limit");
    a->line_limit = line_limit > 2 ? (size_t)line_limit : 0;
    a->discard = smtp_features_parse(bytes_of(conf_text(conf, "smtp_discard_ehlo_keywords")), &unknown);
    if (unknown.n > 0)
        log_warn("smtp_discard_ehlo_keywords: unknown keyword \"%.*s\"", BYTES_FMT(unknown));
    a->family = family_of(conf_text(conf, "inet_protocols"));
    a->sends_xforward = conf_bool(conf, "smtp_send_xforward_command");
    a->skips_5xx_greeting = conf_bool(conf, "smtp_skip_5xx_greeting");
    *agent_r = &a->agent;
    return NULL;
}

const struct deliver_agent_ops remote_agent_ops = {
    .command = "smtp",
    .open = remote_open,
    .deliver = remote_deliver,
};
