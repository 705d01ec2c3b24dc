/*
 * The delivery agents: each serves the scheduler on its unix socket, one request at a time a connection.
 * Started by the first request, gone after max_idle without one.
 */
#include "daemon_own.h"

#include "bounce_agent.h"
#include "cleanup.h"
#include "deliver_agent.h"
#include "mem.h"
#include "remote_agent.h"
#include "virtual_agent.h"

#include <string.h>

struct delivering {
    struct deliver_agent *agent;
    struct queue *queue;
    const char *service;
    struct cleanup *cleanup; /* bounce: where its reports go */
};

static const struct deliver_agent_ops *const agents[] = {
    &remote_agent_ops, &virtual_agent_ops, &deliver_error_ops, &deliver_discard_ops, &bounce_agent_ops,
};

static const struct deliver_agent_ops *find(const char *command)
{
    for (size_t i = 0; i < sizeof(agents) / sizeof(agents[0]); i++)
        if (strcmp(agents[i]->command, command) == 0)
            return agents[i];
    return NULL;
}

static co_fn void session(void *arg, void *ctx, struct io_stream *stream, struct mail_client *client)
{
    struct delivering *d = arg;

    deliver_serve(d->agent, d->queue, d->service, stream);
}

static struct mail_sink *report_sink(const void *ctx, void *arg)
{
    return cleanup_sink(ctx, arg);
}

static struct error *open_agent(struct delivering *d, const struct conf_service *service)
{
    const struct deliver_agent_ops *ops = find(service->command);
    struct error *e;

    if (ops == NULL)
        return error_new(ERROR_CONF, "no delivery agent \"%s\"", service->command);
    e = ops->open(d, service->name, service->conf, &d->agent);
    if (e == NULL && ops == &bounce_agent_ops) {
        e = cleanup_open(d, service->conf, d->queue, &d->cleanup);
        bounce_agent_set_sink(d->agent, report_sink, d->cleanup);
    }
    return e;
}

struct error *daemon_deliver_try(const void *ctx, const struct conf_service *service)
{
    return open_agent(mem_new(ctx, struct delivering), service);
}

void daemon_deliver(const struct master_worker *w)
{
    struct delivering *d = mem_new(NULL, struct delivering);
    struct error *e;

    d->service = w->service->name;
    daemon_begin(w);
    e = daemon_queue_open(d, w->service->conf, &d->queue);
    if (e == NULL)
        e = open_agent(d, w->service);
    if (e != NULL)
        master_worker_fail(w, e);
    daemon_serve(w, session, d, conf_time_ms(w->service->conf, "max_idle"));
    queue_settle(d->queue);
}
