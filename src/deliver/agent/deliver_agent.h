/*
 * The one contract of all delivery agents: the scheduler hands over one message, one next hop and some of its
 * recipients; the agent tries, marks finished recipients in the queue file, logs a line for each, and answers
 * with what became of each recipient.
 *
 * The scheduler and the agents are different processes: the request goes over the agent's unix socket
 * (private/NAME) in the attribute protocol of io_attr.h, one request at a time a connection.
 *
 * The agent opens the queue file itself and holds a shared lock (flock) on it while it works: several agents
 * may deliver one message to different next hops at once, and a scheduler that finds the file locked knows
 * that a delivery of an earlier life is still going on. Only recipients that are still to do in the file are
 * tried, so a request that is asked twice delivers once.
 */
#ifndef DELIVER_AGENT_DELIVER_AGENT_H
#define DELIVER_AGENT_DELIVER_AGENT_H

#include "conf.h"
#include "io.h"
#include "queue_file.h"

enum deliver_status { DELIVER_SENT, DELIVER_DEFERRED, DELIVER_BOUNCED };

enum { DELIVER_RCPT_LIMIT = 1000, DELIVER_TEXT_LIMIT = 2000 };

struct deliver_result {
    enum deliver_status status;
    char dsn[12];          /* "2.0.0" */
    char *text;            /* "delivered to maildir" */
    char *relay;           /* "host[addr]:port", "virtual", "none" */
    char *remote;          /* name of the server whose reply the text holds, or NULL: our own words */
    bool is_site;          /* the next hop itself failed: other mail for it would fare no better now */
    uint64_t connected_us; /* when the next hop was ready to take mail, for delays=a/b/c/d; 0: there is no
                              such time */
};

struct deliver_request {
    struct queue_envelope *envelope;
    int fd;                /* the queue file, for content and marks */
    const char *transport; /* master.cf name: "smtp", "virtual" */
    const char *nexthop;
    struct queue_rcpt **rcpts; /* of the envelope, those to try */
    size_t rcpt_count;
    uint64_t active_us;                   /* when the scheduler took it into active, for delays=a/b/c/d */
    bool soft_bounce;                     /* what would bounce is deferred */
    const struct deliver_result *reasons; /* for the bounce agent: why each recipient failed; else NULL */
};

struct deliver_agent {
    const struct deliver_agent_ops *ops;
};
struct deliver_agent_ops {
    const char *command; /* master.cf command: "smtp", "virtual", "error", "discard" */
    /* Reports on failures that another agent has logged: its own results get no log line. */
    bool is_report;
    /* The agent for one service; conf is the service's. Memory of ctx. */
    struct error *(*open)(const void *ctx, const char *service, const struct conf *conf,
                          struct deliver_agent **agent_r);
    /* Fills results[rcpt_count] (texts owned by ctx). Must not mark or log: the caller does both, once, for
     * all. */
    co_fn void (*deliver)(struct deliver_agent *a, const void *ctx, const struct deliver_request *request,
                          struct deliver_result *results);
};

/* `error` (services error and retry): the next hop is the reason, "x.y.z text" or "text", of the failure. */
extern const struct deliver_agent_ops deliver_error_ops;
/* `discard`: delivered to nobody; the next hop is what the log says. */
extern const struct deliver_agent_ops deliver_discard_ops;

/* Agent side: serves requests on one connection until it closes. */
co_fn void deliver_serve(struct deliver_agent *agent, struct queue *q, const char *service,
                         struct io_stream *s);

/*
 * Scheduler side: one attempt over a connection to private/TRANSPORT. results as above, owned by ctx; they
 * are not marked again. An error means that the agent could not be asked or did not answer; what it may have
 * delivered is marked in the file. error->code: ENOENT, the file is no longer there; EWOULDBLOCK, somebody
 * has it locked; EBADMSG, it is damaged; 0 and others, trouble with the agent.
 */
co_fn struct error *deliver_ask(const void *ctx, struct io_stream *s, const struct deliver_request *request,
                                enum queue_place place, uint64_t deadline, struct deliver_result *results);

/* ---- for agents and for the scheduler, where it speaks for an agent that it did not ask ---- */

/* Fills a result; text and relay are copied to ctx. */
void deliver_result_set(const void *ctx, struct deliver_result *r, enum deliver_status status,
                        const char *dsn, const char *relay, const char *fmt, ...)
    __attribute__((format(printf, 6, 7)));
/* "5.1.1 no such user" to its code and "no such user"; false, and nothing set, when no code stands first. */
bool deliver_dsn_split(const char *text, char dsn_r[12], const char **rest_r);
/* "ID: to=<R>, orig_to=<O>, relay=RELAY, delay=D, delays=a/b/c/d, dsn=x.y.z, status=sent (TEXT)". asked_us:
 * when the agent was asked. */
void deliver_log(const struct deliver_request *request, const struct queue_rcpt *rcpt,
                 const struct deliver_result *result, uint64_t asked_us);

#endif
