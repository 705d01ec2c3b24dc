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

void daemon_smtpd(const struct master_worker *w)
{
    struct serving *s = mem_new(NULL, struct serving);
    struct error *e;

    daemon_begin(w);
    e = daemon_profile_open(s, w->service, w->id, &s->profile);
    if (e == NULL)
        e = daemon_local_open(s, w->service->conf, &s->local);
    if (e != NULL)
        master_worker_fail(w, e);
    daemon_serve(w, session, s, 0);
}
