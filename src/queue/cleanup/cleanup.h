/*
 * Cleanup: the last sink before the queue. It completes a message (missing headers), maps its addresses,
 * checks it (loops, size, room on the disk) and writes it; its commit answers 250 only when the message is
 * durable.
 *
 * The session gives content as wire lines with CR LF, the Received and PREPEND headers first. Content is kept
 * byte for byte, except that in the header: message_drop_headers are left out, what is missing is added at
 * the end (local clients or always_add_missing_headers), a field beyond header_size_limit is cut, and an
 * empty line is put before a line that is no header field.
 *
 *     begin    452 4.3.1 without room for the message (queue_minfree, 1.5 * message_size_limit, SIZE=)
 *     commit   250 2.0.0 Ok: queued as ID; 554 5.4.0 too many hops; 552 5.3.4 message file too big; 452 4.3.1
 * disk full; 451 4.6.0 alias expansion without bounds; 451 4.3.0 table or queue trouble
 *
 * Envelope: standard form, canonical maps, bcc, virtual aliases, duplicates; redirect, discard, hold, filter
 * as the hooks decided. After commit the scheduler is told, unless the message is on hold.
 */
#ifndef QUEUE_CLEANUP_CLEANUP_H
#define QUEUE_CLEANUP_CLEANUP_H

#include "co.h"
#include "conf.h"
#include "error.h"
#include "mail.h"
#include "queue_file.h"

/* What may be added to a message of message_size_limit bytes: Received lines and missing headers. */
enum { CLEANUP_TRACE_SIZE = 16384 };

struct cleanup;

/* One a worker; conf (of the service) and q must outlive it. Opens the tables of canonical_maps and the like.
 */
struct error *cleanup_open(const void *ctx, const struct conf *conf, struct queue *q, struct cleanup **c_r);
/* One a transaction. */
struct mail_sink *cleanup_sink(const void *ctx, struct cleanup *c);

/* ---- looking into the content on its way: header_checks and body_checks of this service ---- */

/*
 * What stands between the session and the queue file sees all content, may change it, and says at the end
 * what becomes of the message. One object serves all transactions of a worker. Cleanup knows no tables for
 * this: src/run/daemon plugs an engine in (and does not when receive_override_options has
 * no_header_body_checks).
 */
struct cleanup_verdict {
    struct mail_reply reply;     /* code 0: accepted; else the answer to end-of-data; cleanup's to deinit */
    struct mail_action *actions; /* DISCARD, HOLD, REDIRECT, FILTER, BCC; memory of the transaction */
};
struct cleanup_inspect {
    const struct cleanup_inspect_ops *ops;
};
struct cleanup_inspect_ops {
    const char *name;
    /* A message begins: client, envelope and ctx live as long as the transaction. What is to be written is
     * given to out(arg, piece), in order; all of what was taken has been given when finish returns. */
    void *(*begin)(struct cleanup_inspect *i, void *ctx, const struct mail_client *client,
                   const struct mail_envelope *envelope,
                   mail_waits void (*out)(void *arg, struct bytes piece), void *arg);
    mail_waits void (*content)(struct cleanup_inspect *i, void *state, struct bytes piece);
    mail_waits void (*finish)(struct cleanup_inspect *i, void *state, struct cleanup_verdict *verdict_r);
};
/* Before the first transaction; borrowed. */
void cleanup_set_inspect(struct cleanup *c, struct cleanup_inspect *inspect);

#endif
