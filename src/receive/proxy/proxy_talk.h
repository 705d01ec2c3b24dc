/*
 * The dialogue with the server behind the proxy, step by step; the sinks (proxy.c, proxy_whole.c) decide when
 * each step is taken, and at which endpoint.
 */
#ifndef PROXY_PROXY_TALK_H
#define PROXY_PROXY_TALK_H

#include "clock.h"
#include "proxy_pool.h"

enum proxy_step {
    PROXY_GREETING,
    PROXY_EHLO,
    PROXY_RSET,
    PROXY_XFORWARD,
    PROXY_MAIL,
    PROXY_RCPT,
    PROXY_DATA,
    PROXY_DOT, /* or BDAT */
};

/* A command that was sent and whose reply is still to come. */
struct proxy_await {
    enum proxy_step step;
    struct bytes command; /* as it was sent, for the log */
};
enum { PROXY_AWAITED = 32 };

enum { PROXY_GOODBYE = 221, PROXY_GOING_AWAY = 421 };

/* Why there was no answer. */
enum proxy_fault {
    PROXY_NO_FAULT,  /* there was one, good or bad */
    PROXY_UNREACHED, /* refused, closed or silent before its greeting, or it said 421: ejected */
    PROXY_BLAMELESS, /* not reached, for want of means here, or of the message's time */
    PROXY_LOST,      /* the connection ended, or was silent before the dot */
    PROXY_SENSELESS, /* an answer that is none, or none to the dot; nobody else is asked */
};

/* One conversation about one message. Each step returns the reply for our client: code 2xx or 3xx as wanted,
 * else what he is told. After a step that was not as wanted the conversation may only be ended, or offered
 * more recipients. */
struct proxy_talk {
    struct proxy *proxy;
    const struct mail_client *client;
    const struct mail_envelope *envelope;
    uint64_t deadline;         /* of the final dot; 0: none but smtpd_proxy_timeout for each step */
    uint64_t verdict_deadline; /* of the answer to it; 0 likewise */
    unsigned copies;           /* of this message that a filter has had as a whole, and never answered for */
    bool wants_fresh;          /* kept connections have disappointed this message */

    struct proxy_target *target; /* whom it speaks to; NULL: nobody */
    uint64_t bytes, taken_at;    /* as which, and since when, it is the target's work */

    struct smtp_client *server; /* NULL: not connected, or given up */
    unsigned used;              /* messages that the connection had before this one */
    bool pipelines;             /* with this server */
    bool is_reused;             /* the connection was kept from another message */
    bool needs_rset;            /* from the message before */
    enum proxy_chunks chunks;   /* of the connection */
    bool tells_rcpt;            /* a reply to RCPT was of an address (RFC 3463) */
    bool is_spoilt;             /* it is not to be kept */
    bool has_begun;             /* a command of the transaction was sent */
    bool has_heard;             /* something was answered as wanted, */
    bool is_under_way;          /* a command of the transaction, too */
    bool is_stale;              /* it was kept, and dead all the time: nothing has happened */
    enum proxy_fault fault;
    struct proxy_await awaited[PROXY_AWAITED]; /* in the order sent */
    size_t awaited_count;
    uint64_t since;            /* the first of them was sent */
    struct buf forward;        /* XFORWARD commands */
    struct mail_reply failure; /* code 0: none; else the refusal for which the conversation was given up */
    struct smtp_data_encoder encoder;
    bool is_data_open;  /* DATA was sent and not answered: what follows may be taken for content */
    bool is_in_content; /* DATA was answered with 354, the dot was not sent */
    bool has_sent_content, is_dot_sent, is_dot_answered;
    bool is_quit_sent; /* in one group with the dot */
    uint64_t content_since;
};

/* Until when what began at `since` may take. A verdict has longer: the message may be taken, and who does not
 * hear that sends it again. */
static inline uint64_t proxy_until(const struct proxy_talk *t, uint64_t since)
{
    uint64_t until = since + t->proxy->timeout_ms;
    uint64_t limit = t->is_dot_sent ? t->verdict_deadline : t->deadline;

    return limit != 0 && limit < until ? limit : until;
}

/* Too late for the dot. */
static inline bool proxy_is_late(const struct proxy_talk *t)
{
    return t->deadline != 0 && clock_ms() >= t->deadline;
}

/* An endpoint for the message; it is the endpoint's work until it is given back. False: there is none. */
co_fn bool proxy_talk_take(struct proxy_talk *t, const struct proxy_need *need);
/* Not before the conversation has ended. */
void proxy_talk_give(struct proxy_talk *t);

/* Connect, EHLO, XFORWARD, MAIL; or over a kept connection, XFORWARD, MAIL. When commands are pipelined,
 * XFORWARD and MAIL go with the next step; if that finds that the connection is_stale, this step is to be
 * taken again. */
co_fn struct mail_reply proxy_talk_open(struct proxy_talk *t);
co_fn struct mail_reply proxy_talk_rcpt(struct proxy_talk *t, const struct mail_rcpt *rcpt);
co_fn struct mail_reply proxy_talk_data(struct proxy_talk *t);
/* Every recipient of the envelope; and then DATA. The first reply that is not as wanted ends it. */
co_fn struct mail_reply proxy_talk_rcpts(struct proxy_talk *t);
co_fn struct mail_reply proxy_talk_rcpts_and_data(struct proxy_talk *t);
/* Trouble is kept; proxy_talk_end tells. */
co_fn void proxy_talk_content(struct proxy_talk *t, struct bytes piece);
/* The dot, the verdict, QUIT (in one group with the dot, when commands are pipelined); or the connection is
 * kept. */
co_fn struct mail_reply proxy_talk_end(struct proxy_talk *t);
/* Leaves: with QUIT where a command may stand, or keeps the connection; inside content, and where it may be
 * that, without a word. */
co_fn void proxy_talk_leave(struct proxy_talk *t);
/* Frees what it holds, gives the target back; never waits. */
void proxy_talk_deinit(struct proxy_talk *t);

/* ---- proxy_command.c: commands and their replies ---- */

/* Puts a command into the stream's buffer, and its reply on the list of those to come. */
co_fn void proxy_send(struct proxy_talk *t, enum proxy_step step, struct bytes line);
/* The next reply, as our client's, or how that ended. is_last: nothing else is to come. */
co_fn struct mail_reply proxy_read_reply(struct proxy_talk *t, const struct proxy_await *a, bool is_last);
/* Between us and the server: a refusal is our trouble, not the client's. */
bool proxy_is_private(enum proxy_step step);
/* One command and its reply. */
co_fn struct mail_reply proxy_command(struct proxy_talk *t, enum proxy_step step, struct bytes line);
/* Its reply is taken with a later one's; at once, when this server gets no groups. */
co_fn struct mail_reply proxy_command_in_group(struct proxy_talk *t, enum proxy_step step, struct bytes line);
/* Sends what has gathered and takes the replies: the last one, or the first that is not as wanted. */
co_fn struct mail_reply proxy_settle(struct proxy_talk *t);
/* The reply of a step that was read by other means, or how that ended. */
co_fn struct mail_reply proxy_settle_one(struct proxy_talk *t, const struct proxy_await *a, bool is_last,
                                         enum io_end end);
/* The connection has ended in this step: logged, closed. */
struct mail_reply proxy_lost(struct proxy_talk *t, const char *phase, uint64_t since, enum io_end end);
/* Closes for another reason, which is logged already. */
struct mail_reply proxy_trouble(struct proxy_talk *t, enum proxy_fault fault);

/* ---- proxy_chunk.c: envelope and content in one group, with BDAT (RFC 3030) ---- */

/* Whether it may be, over this connection. */
bool proxy_chunk_may(const struct proxy_talk *t);
/* In place of recipients, DATA, content and end: the verdict (is_dot_answered), or what kept the server from
 * one. */
co_fn struct mail_reply proxy_chunk(struct proxy_talk *t, struct bytes content);
/* After a message that went with DATA and was taken with this text, when smtpd_proxy_chunking is on: asks,
 * once for the connection. */
co_fn void proxy_chunk_learn(struct proxy_talk *t, const char *verdict);
/* The enhanced status code of a positive reply is an address's: RCPT's, or MAIL's. */
bool proxy_is_of_address(const char *text);

/* ---- proxy_hello.c: connecting, EHLO, XFORWARD ---- */

co_fn struct mail_reply proxy_greet(struct proxy_talk *t);
co_fn struct mail_reply proxy_hello(struct proxy_talk *t);
co_fn struct mail_reply proxy_forward(struct proxy_talk *t);

#endif
