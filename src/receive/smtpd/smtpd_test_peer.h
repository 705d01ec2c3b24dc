/* For the session's test and fuzzer: a session over memory, with a sink and a hook that record and obey. */
#ifndef SMTPD_SMTPD_TEST_PEER_H
#define SMTPD_SMTPD_TEST_PEER_H

#include "buf.h"
#include "smtpd.h"

struct peer_sink {
    struct mail_sink sink;
    struct peer *peer;
};

/* What one session is run with, and what came of it. */
struct peer {
    /* in */
    const char *const *settings; /* "name", "value", ..., NULL */
    struct bytes input;
    size_t step;
    bool adds_received;
    enum mail_stage reject_at; /* with reject.code != 0 */
    struct mail_reply reject;
    struct mail_reply begin, recipient, content_begin, commit; /* code 0: yes */
    const char *addr;
    int fd;                  /* a connected socket in place of `input`; 0: none */
    bool commits_after_left; /* the sink answers when the client has gone */
    bool is_repeated;        /* the sink's receipt is such a one */
    /* out */
    const struct mail_presence *presence;
    struct buf wire;    /* what the client got */
    struct buf content; /* of the last committed message */
    struct buf calls;   /* "begin rcpt data commit " ... */
    int heard, unheard; /* what the receipts said */
    size_t committed, aborted, open, hooks_open;
};

void peer_run(struct peer *p);
void peer_deinit(struct peer *p);

#endif
