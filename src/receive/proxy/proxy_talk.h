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
    bool pipelines; /* smtpd_proxy_pipelining; only with a server that announces PIPELINING */
    struct io_spool_conf spool;
};

/* A command that was sent and whose reply is still to come. */
struct proxy_await {
    const char *phase;
    struct bytes command;
    int want;        /* first digit of the reply that goes on */
    bool is_private; /* between us and the server: a refusal is our trouble, not the client's */
    uint64_t since;
};
enum { PROXY_AWAITED = 64 };

/* One conversation. Each step returns the reply for our client: code 2xx or 3xx as wanted, else what he is
 * told. After a step that was not as wanted the conversation may only be ended, or offered more recipients.
 */
struct proxy_talk {
    const struct proxy *proxy;
    const struct mail_client *client;
    const struct mail_envelope *envelope;
    struct smtp_client *server;  /* NULL: not connected, or given up */
    bool pipelines;              /* with this server */
    struct proxy_await *awaited; /* in the order sent; the connection's memory */
    size_t awaited_count;
    struct mail_reply failure; /* code 0: none; else the refusal for which the conversation was given up */
    struct smtp_data_encoder encoder;
    bool is_in_content; /* DATA was answered with 354, the dot was not sent */
    uint64_t content_since;
};

/* Connect, EHLO, XFORWARD, MAIL. When commands are pipelined, XFORWARD and MAIL go with the next step. */
co_fn struct mail_reply proxy_talk_open(struct proxy_talk *t);
co_fn struct mail_reply proxy_talk_rcpt(struct proxy_talk *t, const struct mail_rcpt *rcpt);
co_fn struct mail_reply proxy_talk_data(struct proxy_talk *t);
/* Every recipient of the envelope, then DATA; the first reply that is not as wanted ends it. */
co_fn struct mail_reply proxy_talk_rcpts_and_data(struct proxy_talk *t);
/* Trouble is kept; proxy_talk_end tells. */
co_fn void proxy_talk_content(struct proxy_talk *t, struct bytes piece);
/* The dot, the verdict, QUIT. */
co_fn struct mail_reply proxy_talk_end(struct proxy_talk *t);
/* Leaves: with QUIT where a command may stand, inside content without a word. */
co_fn void proxy_talk_leave(struct proxy_talk *t);
/* Frees what it holds; never waits. */
void proxy_talk_deinit(struct proxy_talk *t);

#endif
