/*
 * The proxy sink: hands a transaction on to another SMTP server, and that server's replies back. Before the
 * filter the server is the content filter; in the filter it is the after-filter server.
 *
 * MAIL and RCPT go out as the client typed them; EHLO, XFORWARD, DATA and QUIT are ours. Nothing is
 * pipelined, since a filter need not know how, unless smtpd_proxy_pipelining says that this one does. As a
 * message comes in it is streamed (default), or it is received whole first and replayed at the LAN's speed
 * (smtpd_proxy_options = speed_adjust), so that a slow client costs no filter session.
 *
 * 4xx and 5xx of the server are the client's, verbatim; any other trouble (refused, silent, rubbish) is
 * "451 4.3.0 Error: queue file write error" to the client, and a line in the log that names endpoint, phase,
 * milliseconds and reason. A connection that ends before the final dot has handed on nothing.
 */
#ifndef PROXY_PROXY_H
#define PROXY_PROXY_H

#include "conf.h"
#include "error.h"
#include "mail.h"

struct proxy;

/* One server ("inet:host:port", "unix:path", ...) with the smtpd_proxy_* parameters, for all transactions of
 * a worker. `is_whole`: receive first, then replay; only the server before the filter wants that. */
struct error *proxy_open(const void *ctx, const struct conf *conf, const char *endpoint, bool is_whole,
                         struct proxy **proxy_r);
/* smtpd_proxy_options holds speed_adjust. An unknown word is an ERROR_CONF. */
struct error *proxy_wants_whole(const struct conf *conf, bool *is_whole_r);

/* The sink of one transaction. */
struct mail_sink *proxy_sink(void *ctx, struct proxy *proxy);

#endif
