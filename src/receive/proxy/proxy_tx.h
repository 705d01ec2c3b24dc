/* One transaction of either sink: streamed (proxy.c), or received whole and replayed (proxy_whole.c). */
#ifndef PROXY_PROXY_TX_H
#define PROXY_PROXY_TX_H

#include "proxy_gate.h"
#include "proxy_talk.h"

struct proxy_tx {
    struct mail_sink sink;
    struct proxy_talk talk;
    /* whole messages: */
    struct io_spool *spool;
    struct proxy_passage passage; /* through the gate, if there is one */
    bool is_spool_broken;
    unsigned content_losses; /* conversations that were lost with content already sent */
};

extern const struct mail_sink_ops proxy_whole_ops;

/* "proxy-accept: END-OF-MESSAGE: 250 ...; from=<> to=<> proto= helo=<>", with the first recipient, as
 * Postfix. */
void proxy_log_verdict(struct proxy_tx *tx, const struct mail_reply *r);
/* The log's word on a message for which there was no endpoint. */
void proxy_log_unreached(const struct proxy_tx *tx, uint64_t since);

#endif
