/*
 * The proxy sink: hands a transaction on to another SMTP server, and that server's replies back. Before the
 * filter the server is the content filter; in the filter it is the after-filter server.
 *
 * MAIL and RCPT go out as the client typed them; EHLO, XFORWARD, RSET, DATA and QUIT are ours. Nothing is
 * pipelined, since a filter need not know how, unless smtpd_proxy_pipelining says that this one does. As a
 * message comes in it is streamed (default), or it is received whole first and replayed at the LAN's speed
 * (smtpd_proxy_options = speed_adjust), so that a slow client costs no filter session.
 *
 * There may be several servers. The one with the least work in hand, of all workers together, gets the next
 * message; one that does not answer is left alone for a while. A whole message whose server fails goes to
 * another one, or to the same one when it is back; a streamed one may choose only until MAIL is sent. One
 * that was lost after the final dot has the same XFORWARD IDENT again, and a RETRY that grows each time, for
 * a server that announces it: so ours after the filter queues it once (receive/copies).
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
#include "proxy_gate.h"

struct proxy;

/* Maps the memory in which workers share what they know of the servers; once, before the first fork. path: a
 * file of data_directory, made anew, for proxy_snapshot() of another program; NULL: none. */
void proxy_prepare(const char *path);
/* This process is the worker of this id (below 256, different in every live one). Before its first
 * proxy_open(). */
void proxy_enter(unsigned worker);
/* A worker of this id has died: the messages it had in filters are no longer counted. For master, at once. */
void proxy_forget(unsigned worker);

/*
 * Servers ("inet:host:port", "host:port", "port", "unix:path"; several are separated by commas or blanks)
 * with the smtpd_proxy_* parameters, for all transactions of a worker. `is_whole`: receive first, then
 * replay; only the server before the filter wants that. Freed with ctx, not before its sinks; it may have
 * coroutines of its own, which end then.
 */
struct error *proxy_open(const void *ctx, const struct conf *conf, const char *endpoints, bool is_whole,
                         struct proxy **proxy_r);
/* smtpd_proxy_options holds speed_adjust. An unknown word is an ERROR_CONF. */
struct error *proxy_wants_whole(const struct conf *conf, bool *is_whole_r);

/* Who decides which whole message may go when, and learns what came of it; lives as long as the proxy. */
void proxy_set_gate(struct proxy *proxy, struct proxy_gate *gate);

/* The sink of one transaction. */
struct mail_sink *proxy_sink(void *ctx, struct proxy *proxy);

/* ---- for `sallyport top` ---- */

/* A server as all workers of the host see it; counts since it was first named. */
struct proxy_endpoint {
    const char *name;    /* "127.0.0.1:10025", "[::1]:10025", "unix:/path" */
    const char *state;   /* "up", "starting" (came back, not its full share yet), "ejected" */
    uint64_t ejected_ms; /* how much longer it is left alone */
    uint64_t messages;   /* that it has now */
    uint64_t bytes;      /* of those */
    uint64_t latency_us; /* moving average: a message's stay, connecting included */
    uint64_t answered;   /* messages */
    uint64_t failed;     /* attempts */
    uint64_t ejections;
    uint64_t reused; /* messages over a connection that was kept */
};
struct proxy_endpoints {
    struct proxy_endpoint *at; /* owned by ctx */
    size_t n;
};
/* path: as in proxy_prepare(); NULL: this process's own memory. slow_start_ms: smtpd_proxy_slow_start_time.
 * False: nothing is there. */
bool proxy_snapshot(const void *ctx, const char *path, uint64_t slow_start_ms,
                    struct proxy_endpoints *endpoints_r);

#endif
