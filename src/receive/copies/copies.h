/*
 * Second copies: the sink that stands before the queue and lets each message through once.
 *
 * A server before the filter that lost its filter after the final dot cannot know whether the message has
 * gone on, and sends it again: with the id of the first (XFORWARD IDENT), and the word that it is a copy
 * (XFORWARD RETRY=n, n greater each time). Here, at the end of the way, it is known what became of the first.
 * At the end of a copy's data
 *
 *     the first is queued       it is answered as the first was, "250 2.0.0 Ok: queued as ID", and forgotten
 *     is being queued           it waits, at most smtpd_proxy_timeout; then 451
 *     is still being received   it takes the place of the first, whose dot, should it come, is answered 451:
 *                               nobody hears that, since nobody asks for a copy who listens for the first
 *     is gone, or was refused   it is queued
 *     its worker died           the queue tells whether it was queued, or delivered since
 *
 * The same message means the same IDENT, sender and recipients, these in any order: the parts of a message
 * that a filter has split are different ones. Parts that agree in all three are told apart by their order.
 * Content is not compared, since a filter may date what it adds. A message that is no copy is never answered
 * from memory, so one without IDENT, or from a server that says nothing of RETRY, passes as if this sink were
 * not there.
 *
 * What is known is in memory that all workers of the host share, for smtpd_proxy_retry_time +
 * smtpd_proxy_timeout and a minute. When there is no room, the oldest message is forgotten; the price is a
 * second copy of it, if its filter was lost just then. The same holds for a copy that arrives by another
 * host, and after a stop of master.
 */
#ifndef COPIES_COPIES_H
#define COPIES_COPIES_H

#include "conf.h"
#include "mail.h"

struct copies;

/* Whom it needs to know, so that it knows neither cleanup nor queue. */
struct copies_outlets {
    /* The sink that queues; nobody has begun it, memory of ctx. */
    struct mail_sink *(*next)(void *arg, void *ctx);
    /* A worker died while it queued the message of this id: is it queued for good, or was it? */
    mail_waits bool (*is_queued)(void *arg, const char *id);
    void *arg;
};

/* Maps the shared memory; once, before the first fork. */
void copies_prepare(void);
/* A worker of this id has died: what it was receiving is gone. For master, at once. */
void copies_forget(unsigned worker);

/* For all transactions of one worker (id: below 256, different in every live worker). Copies *outlets. */
struct copies *copies_open(const void *ctx, const struct conf *conf, unsigned worker,
                           const struct copies_outlets *outlets);
/* The sink of one transaction, memory of ctx. */
struct mail_sink *copies_sink(void *ctx, struct copies *copies);

#endif
