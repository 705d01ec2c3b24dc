/*
 * What stands between a before-filter server and its filter: who is let in (receive/admission), who goes
 * when, and verdicts that nobody heard (receive/verdict), as a hook, a gate and a choice of the way.
 *
 *     hook     at MAIL a message is judged; it gets a ticket, or "451 4.3.2", or another way (the ladder)
 *     gate     a complete message is answered from memory, or waits for its slot; a client that left loses
 * its turn, or, when the filter is at work already, has the verdict remembered
 *     sink     before the queue, for the step hold: what the memory knows is not queued a second time
 */
#ifndef ADMIT_ADMIT_H
#define ADMIT_ADMIT_H

#include "conf.h"
#include "error.h"
#include "mail.h"
#include "proxy_gate.h"

struct admit;
struct verdict;

/* For one filter of a before-filter service in one worker (id below 256; ADMISSION_WORKERS: a trial that
 * checks the values only). verdict: the worker's memory, NULL: none. Owned by ctx. */
struct error *admit_open(const void *ctx, const struct conf *conf, const char *filter, unsigned worker,
                         struct verdict *verdict, struct admit **admit_r);
/* Where a message goes whose class stands on the step "cheap": another filter, with slots of its own, and a
 * ladder without that step for what it has no room for. Without one the step refuses, also where the ladder
 * is another service's or of a newer configuration. */
void admit_set_cheap(struct admit *a, struct admit *cheap);
/* The caller takes messages by MAIL_BY_QUEUE. Without it the step "hold" refuses in the same way. */
void admit_set_hold(struct admit *a);
/* NULL: nothing is judged (smtpd_proxy_concurrency_limit = 0). */
struct mail_hook *admit_hook(struct admit *a);
struct proxy_gate *admit_gate(struct admit *a);
/* Before the sink that queues what the filter has no room for; next is memory of ctx, too. */
struct mail_sink *admit_hold_sink(void *ctx, struct admit *a, struct mail_sink *next);

#endif
