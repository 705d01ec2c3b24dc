/*
 * Inside one conversation with one server (remote_session.c): its state, what becomes of the recipients
 * (remote_result.c), the envelope (remote_envelope.c).
 */
#ifndef DELIVER_REMOTE_REMOTE_SESSION_H
#define DELIVER_REMOTE_REMOTE_SESSION_H

#include "remote.h"

struct remote_session {
    struct remote_delivery *d;
    const struct remote_agent *agent;
    const struct remote_host *host;
    struct smtp_client *client;
    char *peer;   /* "host[addr]" */
    char *relay;  /* "host[addr]:port" */
    size_t *todo; /* indexes of the recipients to try here */
    size_t n;
    bool *is_taken; /* of todo: RCPT was answered with 2xx */
    size_t taken;
    uint64_t connected_us;
};

/* ---- results; a reply is the client's last one ---- */

/* The server as a whole failed: told for every recipient that gets no better answer elsewhere. */
void remote_site_failed(struct remote_session *s, enum deliver_status status, const char *dsn,
                        const char *text);
void remote_lost(struct remote_session *s, enum io_end end, const char *while_doing);
/* The reply as the result of recipient i, or of all that have none yet (i == SIZE_MAX). */
void remote_reply_failed(struct remote_session *s, size_t i, const char *command);
/* The reply to DATA, or to its end, as the result of those that were taken. */
void remote_data_failed(struct remote_session *s, const char *command);
void remote_all_failed(struct remote_session *s, enum deliver_status status, const char *dsn,
                       const char *text);
/* Whether the message arrived is not known: it is tried again later, not at another server now. */
void remote_in_doubt(struct remote_session *s, enum io_end end);
void remote_sent(struct remote_session *s);

/* ---- MAIL, RCPT, DATA ---- */

enum remote_envelope_end {
    REMOTE_READY,  /* for the content */
    REMOTE_DONE,   /* nobody was taken; in good order */
    REMOTE_BROKEN, /* to be closed without QUIT */
};
co_fn enum remote_envelope_end remote_envelope(struct remote_session *s);

#endif
