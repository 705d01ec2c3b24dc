/*
 * qmgr: the scheduler of the queue, one for all. It keeps to no connection of strangers, so it ends at every
 * order: what agents are delivering now they finish and mark by themselves.
 */
#include "daemon_own.h"

#include "log.h"
#include "mem.h"
#include "qmgr.h"
#include "rewrite.h"

struct scheduling {
    const struct master_worker *worker;
    struct conf_services services;
    struct queue *queue;
    struct co *scheduler;
};

static co_fn void schedule(void *arg)
{
    struct scheduling *s = arg;
    struct error *e = qmgr_run(s->worker->service->conf, &s->services, s->queue);

    if (e != NULL)
        master_worker_fail(s->worker, e);
    co_stop();
}

/* Runs when the scheduler waits for the first time: it has opened what it needs, or has failed. */
static co_fn void obey(void *arg)
{
    struct scheduling *s = arg;

    master_worker_ready(s->worker);
    master_worker_wait(s->worker);
    co_cancel(s->scheduler);
}

struct error *daemon_qmgr_try(const void *ctx, const struct conf_service *service)
{
    struct rewrite *rewrite;

    return rewrite_open(ctx, service->conf, &rewrite);
}

void daemon_qmgr(const struct master_worker *w)
{
    struct scheduling *s = mem_new(NULL, struct scheduling);
    struct error *e;

    s->worker = w;
    s->services = w->services;
    daemon_begin(w);
    e = daemon_queue_open(s, w->service->conf, &s->queue);
    if (e != NULL)
        master_worker_fail(w, e);
    s->scheduler = co_spawn(schedule, s, "qmgr");
    co_spawn(obey, s, "orders");
    co_run();
}
