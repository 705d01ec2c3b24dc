/*
 * Agents without a mailbox: `error` fails every recipient with the text that its next hop is (the services
 * error and retry of master.cf; retry never bounces), `discard` delivers to nobody.
 */
#include "deliver_agent.h"
#include "mem.h"

struct plain_agent {
    struct deliver_agent agent;
    bool is_retry;
};

static struct error *plain_open(const void *ctx, const char *service, const struct deliver_agent_ops *ops,
                                struct deliver_agent **agent_r)
{
    struct plain_agent *a = mem_new(ctx, struct plain_agent);

    a->agent.ops = ops;
    a->is_retry = strcmp(service, "retry") == 0;
    *agent_r = &a->agent;
    return NULL;
}

static struct error *error_open(const void *ctx, const char *service, const struct conf *conf,
                                struct deliver_agent **agent_r)
{
    return plain_open(ctx, service, &deliver_error_ops, agent_r);
}

static void error_deliver(struct deliver_agent *agent, const void *ctx, const struct deliver_request *request,
                          struct deliver_result *results)
{
    const struct plain_agent *a = (const struct plain_agent *)agent;
    const char *text = request->nexthop;
    char dsn[12];
    enum deliver_status status;
    size_t i;

    if (!deliver_dsn_split(request->nexthop, dsn, &text))
        strcpy(dsn, a->is_retry ? "4.0.0" : "5.0.0");
    if (a->is_retry || dsn[0] == '2')
        dsn[0] = a->is_retry ? '4' : '5';
    status = dsn[0] == '4' ? DELIVER_DEFERRED : DELIVER_BOUNCED;
    for (i = 0; i < request->rcpt_count; i++)
        deliver_result_set(ctx, &results[i], status, dsn, "none", "%s",
                           *text ? text : "mail is not deliverable");
}

static struct error *discard_open(const void *ctx, const char *service, const struct conf *conf,
                                  struct deliver_agent **agent_r)
{
    return plain_open(ctx, service, &deliver_discard_ops, agent_r);
}

static void discard_deliver(struct deliver_agent *agent, const void *ctx,
                            const struct deliver_request *request, struct deliver_result *results)
{
    const char *text = request->nexthop;
    char dsn[12];
    size_t i;

    if (!deliver_dsn_split(request->nexthop, dsn, &text) || dsn[0] != '2')
        strcpy(dsn, "2.0.0");
    for (i = 0; i < request->rcpt_count; i++)
        deliver_result_set(ctx, &results[i], DELIVER_SENT, dsn, "none", "%s", *text ? text : "discarded");
}

const struct deliver_agent_ops deliver_error_ops = {
    .command = "error",
    .open = error_open,
    .deliver = error_deliver,
};
const struct deliver_agent_ops deliver_discard_ops = {
    .command = "discard",
    .open = discard_open,
    .deliver = discard_deliver,
};
