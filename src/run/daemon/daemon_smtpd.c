/* smtpd and filter: the SMTP server with the profile that its configuration names. */
#include "daemon_own.h"

#include "daemon_local.h"
#include "mem.h"

struct serving {
    struct smtpd_profile profile;
    struct daemon_local *local;
};

static co_fn void session(void *arg, void *ctx, struct io_stream *stream, struct mail_client *client)
{
    struct serving *s = arg;

    client->is_local = daemon_local_has(s->local, client);
    smtpd_session_run(&s->profile, stream, client);
}

static struct error *open_all(struct serving *s, const struct conf_service *service, unsigned worker,
                              struct queue *queue)
{
    struct error *e = daemon_profile_open(s, service, worker, queue, &s->profile);

    return e ? e : daemon_local_open(s, service->conf, &s->local);
}

struct error *daemon_smtpd_try(const struct conf_service *service)
{
    return open_all(mem_new(NULL, struct serving), service, MASTER_TOOL_ID, NULL);
}

void daemon_smtpd(const struct master_worker *w)
{
    struct serving *s = mem_new(NULL, struct serving);
    struct queue *queue = NULL;
    struct error *e;

    daemon_begin(w);
    e = daemon_queue_open(s, w->service->conf, &queue);
    if (e == NULL)
        e = open_all(s, w->service, w->id, queue);
    if (e != NULL)
        master_worker_fail(w, e);
    daemon_serve(w, session, s, 0);
    queue_settle(queue);
}
