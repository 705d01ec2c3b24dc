/*
 * The gate in front of a server that gets whole messages: who may go when, and what becomes of the answer.
 * The proxy tells it of each message when content begins to come, and asks it once the message is complete;
 * without a gate each goes at once.
 */
#ifndef PROXY_PROXY_GATE_H
#define PROXY_PROXY_GATE_H

#include "io_spool.h"
#include "mail.h"

/* A message before and behind the gate. Lives as long as its transaction. */
struct proxy_passage {
    void *ctx; /* the transaction */
    const struct mail_client *client;
    const struct mail_envelope *envelope;
    /* from enter() on: */
    struct io_spool *spool; /* content, headers that we added first (envelope->trace_size) */
    uint64_t deadline; /* of the answer; half as long again from a server that has it all by then. enter()
                          may bring it forward */
    void *state;       /* the gate's */
};

struct proxy_gate {
    const struct proxy_gate_ops *ops;
};
struct proxy_gate_ops {
    /* Content begins to come. What it leaves in p->state is memory of ctx: the message may end before it is
     * complete, without a word. */
    void (*begin)(struct proxy_gate *g, struct proxy_passage *p);
    /* Waits for the turn. False: the message does not go, and *reply_r is its answer. */
    mail_waits bool (*enter)(struct proxy_gate *g, struct proxy_passage *p, struct mail_reply *reply_r);
    /* After a true enter(), always. reply: what the client is told. is_verdict: the server's own word on the
     * whole message, not a failure to get one. */
    mail_waits void (*leave)(struct proxy_gate *g, struct proxy_passage *p, const struct mail_reply *reply,
                             bool is_verdict);
    /* What the gate wants to know of the reply's fate, after enter() or leave(); NULL: nothing. Memory of
     * ctx. */
    struct mail_receipt *(*receipt)(struct proxy_gate *g, struct proxy_passage *p);
};

#endif
