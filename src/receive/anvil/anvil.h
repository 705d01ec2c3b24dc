/*
 * Counts and rates per client: the hook of smtpd_client_connection_count_limit, _connection_rate_limit,
 * _message_rate_limit and _recipient_rate_limit, for clients that smtpd_client_event_limit_exceptions does
 * not name.
 *
 * The numbers live in memory that all workers share, so a limit holds for a service as a whole, at the cost
 * of one uncontended lock instead of a conversation with another process. A worker that dies leaves its
 * connections counted until its successor opens the hook under the same id. When more clients are remembered
 * than there is room for, the longest idle ones are forgotten; if none is idle the limits do not hold for a
 * new one, and the log says so.
 */
#ifndef ANVIL_ANVIL_H
#define ANVIL_ANVIL_H

#include "conf.h"
#include "error.h"
#include "mail.h"

/* Maps the shared memory; once, before the first fork. */
void anvil_prepare(void);

/* A worker of this id has died: the connections it left behind are no longer counted. For master, at once. */
void anvil_forget(unsigned worker);

/* The hook of one service in one worker (id: below 256, different in every live worker). Owned by ctx. */
struct error *anvil_open(const void *ctx, const struct conf *conf, const char *service, unsigned worker,
                         struct mail_hook **hook_r);

#endif
