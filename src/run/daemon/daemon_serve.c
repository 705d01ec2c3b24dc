/*
 * The frame of every worker that serves connections: the loop, orders from master, the end.
 *
 * Drain: the listeners close, sessions go on to their own end. Stop: sessions are cancelled, which each of
 * them takes at a point where nothing that was promised is lost; after MASTER_STOP_MS the worker ends
 * whatever they do.
 */
#include "daemon_own.h"

#include "clock.h"
#include "io_spool.h"
#include "log.h"
#include "master_quota.h"
#include "mem.h"
#include "proxy.h"

enum { IDLE_STEP_MS = 1000 };

void daemon_begin(const struct master_worker *w)
{
    const struct conf *conf = w->service->conf;

    co_init((unsigned)conf_int(conf, "queue_sync_threads"));
    proxy_enter(w->id);
    mail_id_setup(w->id, conf_bool(conf, "enable_long_queue_ids"));
    io_spool_set_budget(conf_size(conf, "spool_memory_budget"));
}

struct error *daemon_queue_open(const void *ctx, const struct conf *conf, struct queue **queue_r)
{
    return queue_open(ctx,
                      &(struct queue_conf){.directory = conf_text(conf, "queue_directory"),
                                           .hash_depth = (unsigned)conf_int(conf, "hash_queue_depth"),
                                           .journal_size = conf_size(conf, "queue_journal_size")},
                      queue_r);
}

/* ---- the service's places ---- */

static bool try_take(void *arg)
{
    const struct master_worker *w = arg;

    return master_quota_try(w->quota, w->id);
}

static void give(void *arg)
{
    const struct master_worker *w = arg;

    master_quota_give(w->quota, w->id);
}

static co_fn enum co_end wait_for_place(void *arg, uint64_t deadline)
{
    const struct master_worker *w = arg;

    return master_quota_wait(w->quota, deadline);
}

static void reached(void *arg)
{
    master_worker_limit(arg);
}

/* ---- the order of the workers ---- */

static bool is_spare(void *arg)
{
    const struct master_worker *w = arg;

    return master_quota_is_spare(w->quota, w->id);
}

static void takes(void *arg, bool takes)
{
    const struct master_worker *w = arg;

    master_quota_takes(w->quota, w->id, takes);
}

/* ---- orders ---- */

struct serving {
    const struct master_worker *worker;
    struct listen *listen;
    uint64_t idle_ms;
};

static struct {
    void (*fn)(void *arg);
    void *arg;
} last_work;

void daemon_at_end(void (*fn)(void *arg), void *arg)
{
    last_work.fn = fn;
    last_work.arg = arg;
}

static co_fn void end_loop(void)
{
    if (last_work.fn != NULL)
        last_work.fn(last_work.arg);
    co_stop();
}

/* Ends the loop when the last session has ended. */
static co_fn void wait_for_end(void *arg)
{
    struct serving *s = arg;

    listen_wait(s->listen, CO_NEVER);
    end_loop();
}

static co_fn void obey(void *arg)
{
    struct serving *s = arg;
    bool is_draining = false;

    while (master_worker_wait(s->worker) == MASTER_DRAIN) {
        listen_drain(s->listen);
        if (!is_draining)
            co_spawn(wait_for_end, s, "drain");
        is_draining = true;
    }
    listen_stop(s->listen);
    if (is_draining)
        co_sleep(clock_ms() + MASTER_STOP_MS, "sessions to end");
    else
        listen_wait(s->listen, clock_ms() + MASTER_STOP_MS);
    end_loop();
}

static co_fn void watch_idle(void *arg)
{
    struct serving *s = arg;

    for (;;) {
        uint64_t since = listen_idle_since(s->listen), now = clock_ms();

        if (since != 0 && now - since >= s->idle_ms)
            break;
        co_sleep(since != 0 ? since + s->idle_ms : now + IDLE_STEP_MS, "work");
    }
    listen_drain(s->listen);
    wait_for_end(s);
}

void daemon_serve(const struct master_worker *w, daemon_session *session, void *arg, uint64_t idle_ms)
{
    struct serving s = {.worker = w, .idle_ms = idle_ms};
    const struct conf_service *service = w->service;
    void *worker_arg = (void *)(uintptr_t)w;

    s.listen = listen_start(
        NULL, &(struct listen_conf){.name = service->command,
                                    .fds = w->listeners,
                                    .fd_count = w->listener_count,
                                    .lookup_names = conf_bool(service->conf, "smtpd_peername_lookup"),
                                    .session = session,
                                    .arg = arg,
                                    .limit = {.try_take = try_take,
                                              .give = give,
                                              .wait = wait_for_place,
                                              .reached = reached,
                                              .arg = worker_arg},
                                    .order = {.is_spare = is_spare, .takes = takes, .arg = worker_arg}});
    co_spawn(obey, &s, "orders");
    if (idle_ms > 0)
        co_spawn(watch_idle, &s, "idle");
    master_worker_ready(w);
    co_run();
}
