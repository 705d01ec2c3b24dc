/* The dialogue with the server behind the proxy, step by step; proxy.c decides when each step is taken. */
#ifndef PROXY_PROXY_TALK_H
#define PROXY_PROXY_TALK_H

#include "io_spool.h"
#include "proxy.h"
#include "smtp.h"

struct proxy {
    struct io_endpoint endpoint;
    char *ehlo;
    uint64_t timeout_ms; /* connect, each command with its reply, each piece of content */
    bool is_whole;
    struct io_spool_conf spool;
};

/* One conversation. Each step returns the reply for our client: code 2xx or 3xx as wanted, else what he is
 * told. After a step that was not as wanted the conversation may only be ended. */
struct proxy_talk {
    const struct proxy *proxy;
    const struct mail_client *client;
    const struct mail_envelope *envelope;
    struct smtp_client *server; /* NULL: not connected, or given up */
    struct smtp_data_encoder encoder;
    bool is_in_content; /* DATA was answered with 354, the dot was not sent */
    uint64_t content_since;
};

co_fn struct mail_reply proxy_talk_open(struct proxy_talk *t); /* connect, EHLO, XFORWARD, MAIL */
co_fn struct mail_reply proxy_talk_rcpt(struct proxy_talk *t, const struct mail_rcpt *rcpt);
co_fn struct mail_reply proxy_talk_data(struct proxy_talk *t);
/* Trouble is kept; proxy_talk_end tells. */
co_fn void proxy_talk_content(struct proxy_talk *t, struct bytes piece);
/* The dot, the verdict, QUIT. */
co_fn struct mail_reply proxy_talk_end(struct proxy_talk *t);
/* Leaves: with QUIT where a command may stand, inside content without a word. */
co_fn void proxy_talk_leave(struct proxy_talk *t);

#endif
