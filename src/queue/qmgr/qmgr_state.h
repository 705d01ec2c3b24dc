/*
 * For this folder: what the scheduler has in its head.
 *
 * A message is taken from its file, its recipients are grouped by next hop, and each group waits at its
 * destination. A transport's workers (coroutines, as many as the service may have sessions) take turns over
 * the destinations, and a destination takes turns over the messages that wait there, a batch of recipients at
 * a time: so neither a busy destination nor a message with very many recipients holds up the others. When the
 * last recipient of a message is settled, the message is finished: removed, deferred, or reported to its
 * sender.
 */
#ifndef QUEUE_QMGR_QMGR_STATE_H
#define QUEUE_QMGR_QMGR_STATE_H

#include "deliver_agent.h"
#include "qmgr.h"
#include "qmgr_group.h"
#include "qmgr_time.h"
#include "qmgr_window.h"
#include "rewrite.h"

#include <uthash.h>

struct qmgr_message {
    UT_hash_handle hh;
    char id[MAIL_ID_SIZE];
    struct qmgr *qmgr;
    struct queue_envelope *envelope;
    uint64_t active_us;
    struct queue_rcpt **rcpts;      /* those to do */
    struct deliver_result *results; /* of rcpts */
    size_t n, settled;
    bool is_gone; /* removed or moved by somebody else: forget it */
    bool is_corrupt;
    bool is_flushed; /* somebody asked for this attempt: defer_transports does not count */
};

/* Recipients of one message that wait at a destination. */
struct qmgr_group_wait {
    struct qmgr_group_wait *prev, *next;
    struct qmgr_message *message;
    const size_t *at; /* places in message->rcpts */
    size_t n, taken;
};

struct qmgr_destination {
    UT_hash_handle hh;                    /* by name, in the transport */
    struct qmgr_destination *prev, *next; /* in the transport's ready list */
    struct qmgr_transport *transport;
    char *name; /* the next hop in lower case */
    char *nexthop;
    struct qmgr_group_wait *waiting;
    struct qmgr_window window;
    long busy;
    uint64_t dead_until;       /* clock_ms(); 0: alive */
    struct deliver_result why; /* dead: the failure that made it so */
    bool is_ready;
};

struct qmgr_transport {
    UT_hash_handle hh;
    struct qmgr *qmgr;
    char *name;
    const struct conf_service *service; /* NULL: not usable, `trouble` says why */
    char *trouble;
    struct qmgr_destination *destinations;
    struct qmgr_destination *ready; /* have recipients waiting and room in their window */
    struct qmgr_window_rules rules;
    size_t rcpt_limit; /* recipients a request */
    long workers, worker_limit;
    unsigned faults;     /* deaths of agents in a row, without an answer between them */
    uint64_t last_fault; /* clock_ms() */
    uint64_t dead_until;
};

/* A coroutine of ours, so that all can be ended. */
struct qmgr_task {
    struct qmgr_task *prev, *next;
    struct qmgr *qmgr;
    struct co *co;
    void (*run)(struct qmgr *q, void *arg);
    void *arg;
};

/* Ids found in a place and not yet looked at. */
struct qmgr_backlog {
    char (*ids)[MAIL_ID_SIZE];
    size_t n, at;
};

struct qmgr {
    const struct conf *conf;
    const struct conf_services *services;
    struct queue *queue;
    struct rewrite *rewrite;
    struct co *feeder;
    int doorbell, lock;
    struct qmgr_task *tasks;
    struct qmgr_message *messages;
    struct qmgr_transport *transports;
    struct qmgr_backlog backlog[2]; /* incoming, deferred */
    bool wants[2];
    bool wants_flush;
    bool is_flush;  /* the backlog of deferred is a flush's */
    bool is_hungry; /* the feeder waits for room */
    size_t message_count, rcpt_count, resolving;
    size_t scans; /* that a thread has, wanted or not: they read the queue's directories */

    uint64_t run_delay_ms, transport_retry_ms, agent_timeout_ms, dead_ms;
    uint64_t min_backoff, max_backoff, lifetime, bounce_lifetime; /* seconds */
    size_t message_limit, rcpt_limit;
    bool soft_bounce;
    const char *defer_transports;
};

static inline uint64_t qmgr_seconds(uint64_t us)
{
    return us / 1000000;
}

/* ---- qmgr.c ---- */

void qmgr_spawn(struct qmgr *q, void (*run)(struct qmgr *q, void *arg), void *arg, const char *name);
/* The feeder looks again. */
void qmgr_wake(struct qmgr *q);

/* ---- qmgr_feed.c: from files to messages ---- */

bool qmgr_has_room(const struct qmgr *q);
/* Takes messages as long as there are some and there is room; waits for more. Until cancelled. */
co_fn void qmgr_feed(struct qmgr *q);

/* ---- qmgr_message.c: one message ---- */

enum qmgr_taken { QMGR_TAKEN, QMGR_NOT_THERE, QMGR_LATER, QMGR_TROUBLE };
/* Moves it to active, reads it, and starts its way. LATER: locked or known already, look again soon. TROUBLE:
 * with the disk or with descriptors, not with this file. */
enum qmgr_taken qmgr_message_take(struct qmgr *q, enum queue_place place, const char *id);
/* What became of one recipient (copied). The last one finishes the message. */
void qmgr_message_settle(struct qmgr_message *m, size_t at, const struct deliver_result *result);
/* The same, for a failure that is the scheduler's own to tell: it logs, too. */
void qmgr_message_fail(struct qmgr_message *m, size_t at, enum deliver_status status, const char *dsn,
                       const char *text);

/* ---- qmgr_finish.c: its end ---- */

co_fn void qmgr_message_finish(struct qmgr *q, void *message);

/* ---- qmgr_transport.c: who waits where ---- */

struct qmgr_transport *qmgr_transport_get(struct qmgr *q, const char *name);
/* Recipients join the destination, or fail at once when it or the transport is suspended. */
void qmgr_transport_add(struct qmgr *q, struct qmgr_message *m, const struct qmgr_group_item *group);
/* The next batch, fairly; n 0: nothing can start now. */
struct qmgr_batch {
    struct qmgr_destination *destination;
    struct qmgr_message *message;
    const size_t *at;
    size_t n;
};
struct qmgr_batch qmgr_transport_next(struct qmgr_transport *t);
/* The batch came back: site_failure NULL when the destination did its part. */
void qmgr_transport_done(struct qmgr_batch *b, const struct deliver_result *site_failure);
/* The agent cannot be asked: all that waits is deferred, and so is what comes until transport_retry_time is
 * over. */
void qmgr_transport_suspend(struct qmgr_transport *t, const char *why);
/* Flush: everything that was suspended may be tried again. */
void qmgr_transport_revive_all(struct qmgr *q);
/* Forgets destinations that nothing is known of. */
void qmgr_transport_sweep(struct qmgr *q);

/* ---- qmgr_agent.c: asking ---- */

/* Starts workers while there is something to do for them. */
void qmgr_agent_start(struct qmgr_transport *t);
/* Connects to a service's socket, with some patience. */
co_fn struct error *qmgr_agent_connect(struct qmgr *q, const void *ctx, const struct conf_service *service,
                                       struct io_stream **stream_r);
/* The service of that name on a unix socket, or NULL. */
const struct conf_service *qmgr_agent_service(const struct qmgr *q, const char *name);

#endif
