/*
 * The one contract of all delivery agents: the scheduler hands over one message, one next hop and some of its
 * recipients; the agent tries, marks finished recipients in the queue file, logs a line for each, and answers with
 * what became of each recipient.
 *
 * The scheduler and the agents are different processes: the request goes over the agent's unix socket
 * (private/NAME) in the attribute protocol of io_attr.h, one request at a time a connection.
 */
#ifndef DELIVER_AGENT_DELIVER_AGENT_H
#define DELIVER_AGENT_DELIVER_AGENT_H

#include "conf.h"
#include "io.h"
#include "queue_file.h"

enum deliver_status { DELIVER_SENT, DELIVER_DEFERRED, DELIVER_BOUNCED };

struct deliver_result {
    enum deliver_status status;
    char dsn[12];           /* "2.0.0" */
    char *text;             /* "delivered to maildir" */
    char *relay;            /* "host[addr]:port", "virtual", "none" */
};

struct deliver_request {
    struct queue_envelope *envelope;
    int fd;                         /* the queue file, for content and marks */
    const char *transport;          /* master.cf name: "smtp", "virtual" */
    const char *nexthop;
    struct queue_rcpt **rcpts;      /* of the envelope, those to try */
    size_t rcpt_count;
    uint64_t active_us;             /* when the scheduler took it into active, for delays=a/b/c/d */
};

struct deliver_agent {
    const struct deliver_agent_ops *ops;
};
struct deliver_agent_ops {
    const char *command;            /* master.cf command: "smtp", "virtual", "error", "discard" */
    /* The agent for one service; conf is the service's. Memory of ctx. */
    struct error *(*open)(const void *ctx, const char *service, const struct conf *conf,
                          struct deliver_agent **agent_r);
    /* Fills results[rcpt_count] (texts owned by ctx). Must not mark or log: the caller does both, once, for all. */
    co_fn void (*deliver)(struct deliver_agent *a, const void *ctx, const struct deliver_request *request,
                          struct deliver_result *results);
};

/* Agent side: serves requests on one connection until it closes. */
co_fn void deliver_serve(struct deliver_agent *agent, struct queue *q, const char *service, struct io_stream *s);

/* Scheduler side: one attempt over a connection to private/TRANSPORT. results as above, owned by ctx. An error means
 * that the agent could not be asked; nothing is known to have been delivered. */
co_fn struct error *deliver_ask(const void *ctx, struct io_stream *s, const struct deliver_request *request,
                                enum queue_place place, uint64_t deadline, struct deliver_result *results);

#endif
