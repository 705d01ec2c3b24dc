/* The hook that counts. See anvil.h. */
#include "anvil.h"

#include "anvil_table.h"
#include "log.h"
#include "mem.h"
#include "table.h"

#include <arpa/inet.h>

static struct anvil_table *shared;

struct anvil {
    struct mail_hook hook;
    char *service, *myhostname;
    unsigned worker;
    uint64_t service_hash, unit_ms;
    unsigned connection_limit, rate_limit[ANVIL_EVENTS]; /* 0: none */
    unsigned prefix4, prefix6;
    struct table_list *exceptions;
};

/* What a session has: nothing for clients that are not counted. */
struct counted {
    struct anvil_key key;
};

void anvil_prepare(void)
{
    if (shared == NULL)
        shared = anvil_table_new();
}

/* ---- who ---- */

static void mask(unsigned char *addr, unsigned bits, unsigned size)
{
    for (unsigned i = 0; i < size; i++) {
        unsigned keep = bits >= i * 8 + 8 ? 8 : bits > i * 8 ? bits - i * 8 : 0;

        addr[i] &= (unsigned char)(0xff00 >> keep);
    }
}

static struct anvil_key key_of(const struct anvil *a, const char *addr)
{
    struct anvil_key key = {.service = a->service_hash};

    if (inet_pton(AF_INET, addr, key.addr) == 1)
        mask(key.addr, a->prefix4, 4);
    else if (inet_pton(AF_INET6, addr, key.addr) == 1)
        mask(key.addr, a->prefix6, 16);
    return key;
}

static bool counts_anything(const struct anvil *a)
{
    for (int i = 0; i < ANVIL_EVENTS; i++)
        if (a->rate_limit[i] > 0)
            return true;
    return a->connection_limit > 0;
}

/* ---- verdicts ---- */

static struct mail_verdict pass(void)
{
    return (struct mail_verdict){.kind = MAIL_PASS};
}

static void warn(const struct anvil *a, const struct mail_view *view, const char *what, unsigned n)
{
    log_warn("%s limit exceeded: %u from %s[%s] for service %s", what, n, view->client->name,
             view->client->addr, a->service);
}

static struct mail_verdict answer(struct mail_reply reply)
{
    return (struct mail_verdict){.kind = MAIL_ANSWER, .reply = reply};
}

static struct mail_verdict count_connection(const struct anvil *a, const struct mail_view *view,
                                            const struct anvil_counts *n)
{
    if (a->connection_limit > 0 && n->connections > a->connection_limit)
        warn(a, view, "Connection concurrency", n->connections);
    else if (a->rate_limit[ANVIL_CONNECTION] > 0 &&
             n->rate[ANVIL_CONNECTION] > a->rate_limit[ANVIL_CONNECTION])
        warn(a, view, "Connection rate", n->rate[ANVIL_CONNECTION]);
    else
        return pass();
    return answer(mail_reply(421, "4.7.0", "%s Error: too many connections from %s", a->myhostname,
                             view->client->addr));
}

static mail_waits struct mail_verdict begin(struct mail_hook *hook, const struct mail_view *view,
                                            void **state_r)
{
    struct anvil *a = (struct anvil *)hook;
    struct anvil_counts n;
    struct counted *c;

    *state_r = NULL;
    if (!counts_anything(a) || view->client->family == AF_UNIX ||
        table_list_has_host(a->exceptions, view->client->name, view->client->addr) != TABLE_ABSENT)
        return pass();
    c = mem_new(a, struct counted);
    c->key = key_of(a, view->client->addr);
    if (!anvil_table_count(shared, &c->key, a->worker, ANVIL_CONNECTION, a->unit_ms, &n)) {
        log_warn("no room to count client %s[%s]: limits do not hold for it", view->client->name,
                 view->client->addr);
        talloc_free(c);
        return pass();
    }
    *state_r = c;
    return count_connection(a, view, &n);
}

static struct mail_verdict count_event(struct anvil *a, struct counted *c, const struct mail_view *view,
                                       enum anvil_event event, const char *what, const char *told)
{
    struct anvil_counts n;

    if (a->rate_limit[event] == 0 || !anvil_table_count(shared, &c->key, a->worker, event, a->unit_ms, &n) ||
        n.rate[event] <= a->rate_limit[event])
        return pass();
    warn(a, view, what, n.rate[event]);
    return answer(mail_reply(450, "4.7.1", "Error: %s from %s", told, view->client->addr));
}

static mail_waits struct mail_verdict ask(struct mail_hook *hook, void *state, enum mail_stage stage,
                                          const struct mail_view *view)
{
    struct anvil *a = (struct anvil *)hook;

    if (state != NULL && stage == MAIL_AT_MAIL)
        return count_event(a, state, view, ANVIL_MESSAGE, "Message delivery request rate", "too much mail");
    if (state != NULL && (stage == MAIL_AT_RCPT || stage == MAIL_AT_VRFY))
        return count_event(a, state, view, ANVIL_RECIPIENT, "Recipient address rate", "too many recipients");
    return pass();
}

static void end(struct mail_hook *hook, void *state)
{
    struct anvil *a = (struct anvil *)hook;
    struct counted *c = state;

    if (c == NULL)
        return;
    anvil_table_leave(shared, &c->key, a->worker);
    talloc_free(c);
}

static const struct mail_hook_ops ops = {"anvil", begin, ask, end};

/* ---- open ---- */

static uint64_t hash_of(const char *text)
{
    uint64_t hash = 14695981039346656037u;

    for (; *text; text++)
        hash = (hash ^ (unsigned char)*text) * 1099511628211u;
    return hash;
}

void anvil_forget(unsigned worker)
{
    if (shared != NULL)
        anvil_table_forget(shared, worker);
}

struct error *anvil_open(const void *ctx, const struct conf *conf, const char *service, unsigned worker,
                         struct mail_hook **hook_r)
{
    struct anvil *a = mem_new(ctx, struct anvil);

    a->hook.ops = &ops;
    a->service = mem_strdup(a, service);
    a->myhostname = mem_strdup(a, conf_text(conf, "myhostname"));
    a->worker = worker;
    a->service_hash = hash_of(service);
    a->unit_ms = conf_time_ms(conf, "anvil_rate_time_unit");
    a->connection_limit = (unsigned)conf_int(conf, "smtpd_client_connection_count_limit");
    a->rate_limit[ANVIL_CONNECTION] = (unsigned)conf_int(conf, "smtpd_client_connection_rate_limit");
    a->rate_limit[ANVIL_MESSAGE] = (unsigned)conf_int(conf, "smtpd_client_message_rate_limit");
    a->rate_limit[ANVIL_RECIPIENT] = (unsigned)conf_int(conf, "smtpd_client_recipient_rate_limit");
    a->prefix4 = (unsigned)conf_int(conf, "smtpd_client_ipv4_prefix_length");
    a->prefix6 = (unsigned)conf_int(conf, "smtpd_client_ipv6_prefix_length");
    anvil_prepare();
    anvil_table_forget(shared, worker);
    *hook_r = &a->hook;
    return table_list_open_param(a, "smtpd_client_event_limit_exceptions", TABLE_LIST_HOSTS, conf,
                                 &a->exceptions);
}
