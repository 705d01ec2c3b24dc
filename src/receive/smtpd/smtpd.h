/*
 * The SMTP server's session (RFC 5321), before and after the filter and in it: one loop, one file per
 * command.
 *
 * What differs between the servers of the chain is a profile: whom it asks (hooks, in order) and where
 * accepted mail goes (a sink). The session knows neither tables nor proxy nor queue. It owns the
 * conversation: limits, error counting, the transaction, and every reply that is sent.
 */
#ifndef SMTPD_SMTPD_H
#define SMTPD_SMTPD_H

#include "conf.h"
#include "io.h"
#include "mail.h"

/* What main.cf says, bound once for all sessions of a worker. */
struct smtpd_conf;
struct error *smtpd_conf_open(const void *ctx, const struct conf *conf, struct smtpd_conf **conf_r);

struct smtpd_profile {
    const char *name; /* "before-filter", "direct", "content filter", "after-filter", "plain" */
    const struct smtpd_conf *conf;
    struct mail_hook **hooks; /* asked in this order, at every stage */
    size_t hook_count;
    /* The sink of one transaction, owned by ctx. */
    struct mail_sink *(*sink)(void *sink_arg, void *ctx);
    void *sink_arg;
    bool adds_received;   /* the content filter is transparent: it does not */
    bool received_has_id; /* not before the filter, as in Postfix */
    bool relays_forward;  /* XFORWARD is taken for passing on: no Received is added once it came */
    /* May a message take this id, which a peer told with XFORWARD IDENT? NULL: any. */
    bool (*id_is_free)(void *id_arg, const char *id);
    void *id_arg;
};

/*
 * Talks with one client until it is gone. Takes the stream. *client lives in the caller's memory and is
 * filled but for helo, proto and forward, which the session sets. Cancelling the coroutine ends the session
 * with 421 at the next command; a message whose end-of-data has come is still answered.
 */
co_fn void smtpd_session_run(const struct smtpd_profile *profile, struct io_stream *stream,
                             struct mail_client *client);

#endif
