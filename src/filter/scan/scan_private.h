/* Between scan.c (the sink) and scan_route.c (where a message goes, and with which envelope). */
#ifndef FILTER_SCAN_PRIVATE_H
#define FILTER_SCAN_PRIVATE_H

#include "engine.h"
#include "scan.h"

struct scan {
    struct scan_outlets outlets;
    struct engine_set *engines;
};

/* One transaction. */
struct scan_tx {
    struct mail_sink sink;
    struct scan *scan;
    const struct mail_client *client;
    const struct mail_envelope *envelope;
    struct mail_envelope own; /* what the next sink sees: the client's, until scan_route() changes it */
    struct mail_sink *next;   /* NULL: not begun, refused, or already committed or aborted */
    struct io_spool *content; /* NULL: no engine, content goes straight on */
    struct error *error;      /* the spool's, kept for commit */
};

/* Tells the next sink to forget the message. */
mail_waits void scan_abort_next(struct scan_tx *tx);
/* Sends the message where the result, which passed, says. The reply to end-of-data. */
mail_waits struct mail_reply scan_route(struct scan_tx *tx, const struct engine_result *result);
/*
 * "smtp:[127.0.0.1]:2525" -> "127.0.0.1:2525"; without port ":25" is added. NULL: no destination, or a
 * transport that does not speak SMTP. Owned by ctx.
 */
char *scan_nexthop(void *ctx, const char *filter);

#endif
