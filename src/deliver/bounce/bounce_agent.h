/*
 * bounce(8): tells the sender what was not delivered, with a report after RFC 3464 from the null sender.
 *
 * An agent like the others, but asked by the scheduler with the reasons of an attempt that failed for good or
 * whose time ran out. Its recipients are marked done only after the report is in the queue, durably; until
 * then a crash or a full disk leaves them to be tried again. Nobody is told of mail without a sender, nor who
 * asked not to be (NOTIFY=NEVER, or NOTIFY without FAILURE).
 */
#ifndef DELIVER_BOUNCE_BOUNCE_AGENT_H
#define DELIVER_BOUNCE_BOUNCE_AGENT_H

#include "deliver_agent.h"

extern const struct deliver_agent_ops bounce_agent_ops;

/* Where reports go: a new sink (cleanup's) for each, talloc memory of ctx. Before the first delivery. */
void bounce_agent_set_sink(struct deliver_agent *a, struct mail_sink *(*make)(const void *ctx, void *arg),
                           void *arg);

#endif
