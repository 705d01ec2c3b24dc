/* Inside run/daemon: what the mains share. */
#ifndef RUN_DAEMON_DAEMON_OWN_H
#define RUN_DAEMON_DAEMON_OWN_H

#include "daemon.h"
#include "listen.h"
#include "queue_file.h"
#include "smtpd.h"

/* ---- daemon_serve.c ---- */

/* The loop of a worker that is about to open what it needs; sets ids, spool budget and threads. */
void daemon_begin(const struct master_worker *w);
/* The queue of a service. */
struct error *daemon_queue_open(const void *ctx, const struct conf *conf, struct queue **queue_r);

/* How one connection is served; arg is the worker's own. */
typedef co_fn void daemon_session(void *arg, void *ctx, struct io_stream *stream, struct mail_client *client);
/*
 * Accepts and serves until master says stop, or, when idle_ms is not 0, until there was no session for so
 * long. Tells master that the worker is ready. Returns when the loop has ended.
 */
void daemon_serve(const struct master_worker *w, daemon_session *session, void *arg, uint64_t idle_ms);

/* What is left to do, in a coroutine, when the sessions have ended and before the loop does: one thing. */
void daemon_at_end(void (*fn)(void *arg), void *arg);

/* ---- daemon_profile.c ---- */

/* A service's profile, and the same with limits and lists as they read under stress; sinks are shared. */
struct daemon_profiles {
    struct smtpd_profile usual, stressed;
};
/* Those of an smtpd or filter service, with everything they name open. worker: its id. queue: NULL for a try.
 */
struct error *daemon_profiles_open(const void *ctx, const struct conf_service *service, unsigned worker,
                                   struct queue *queue, struct daemon_profiles *out_r);

/* ---- the mains, and for each what daemon_try() does ---- */

void daemon_smtpd(const struct master_worker *w);
void daemon_qmgr(const struct master_worker *w);
void daemon_deliver(const struct master_worker *w);
struct error *daemon_smtpd_try(const void *ctx, const struct conf_service *service);
struct error *daemon_qmgr_try(const void *ctx, const struct conf_service *service);
struct error *daemon_deliver_try(const void *ctx, const struct conf_service *service);

#endif
