/* smtpd and filter: the SMTP server with the profile that its configuration names, in its stressed form for
 * sessions that begin while the service is under stress. */
#include "daemon_own.h"

#include "daemon_local.h"
#include "master_quota.h"
#include "mem.h"

struct serving {
    struct daemon_profiles profiles;
    struct daemon_local *local;
    struct master_quota *quota;
    bool is_watching;
};

/* ---- stress ---- */

/* So that its end is noticed, and logged, when no session begins any more. */
static co_fn void watch_stress(void *arg)
{
    struct serving *s = arg;
    uint64_t until;

    while ((until = master_quota_stressed_until(s->quota)) != 0)
        if (co_sleep(until, "the end of stress") == CO_CANCELLED)
            break;
    s->is_watching = false;
}

static bool is_stressed(struct serving *s)
{
    if (master_quota_stressed_until(s->quota) == 0)
        return false;
    if (!s->is_watching) {
        s->is_watching = true;
        co_spawn(watch_stress, s, "stress");
    }
    return true;
}

/* ---- sessions ---- */

static co_fn void session(void *arg, void *ctx, struct io_stream *stream, struct mail_client *client)
{
    struct serving *s = arg;

    client->is_local = daemon_local_has(s->local, client);
    smtpd_session_run(is_stressed(s) ? &s->profiles.stressed : &s->profiles.usual, stream, client);
}

static struct error *open_all(struct serving *s, const struct conf_service *service, unsigned worker,
                              struct queue *queue)
{
    struct error *e = daemon_profiles_open(s, service, worker, queue, &s->profiles);

    return e ? e : daemon_local_open(s, service->conf, &s->local);
}

struct error *daemon_smtpd_try(const void *ctx, const struct conf_service *service)
{
    return open_all(mem_new(ctx, struct serving), service, MASTER_TOOL_ID, NULL);
}

void daemon_smtpd(const struct master_worker *w)
{
    struct serving *s = mem_new(NULL, struct serving);
    struct queue *queue = NULL;
    struct error *e;

    daemon_begin(w);
    s->quota = w->quota;
    e = daemon_queue_open(s, w->service->conf, &queue);
    if (e == NULL)
        e = open_all(s, w->service, w->id, queue);
    if (e != NULL)
        master_worker_fail(w, e);
    daemon_serve(w, session, s, 0);
    queue_settle(queue);
}
