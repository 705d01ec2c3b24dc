/*
 * The SMTP client: delivery to another server, by MX of the domain or to a named host.
 *
 * The next hop is "domain", "domain:port" (MX of the domain), "[host]", "[host]:port" (no MX), or a list of
 * those to try in order. Every recipient gets the reply that was meant for him; what the server did not
 * answer for good is tried at the next address, and then deferred.
 */
#ifndef DELIVER_REMOTE_REMOTE_AGENT_H
#define DELIVER_REMOTE_REMOTE_AGENT_H

#include "deliver_agent.h"

extern const struct deliver_agent_ops remote_agent_ops;

#endif
