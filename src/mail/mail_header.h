/*
 * Headers, RFC 5322 2.2: finding them in a stream of content, naming them, and the Received line that we add.
 */
#ifndef MAIL_MAIL_HEADER_H
#define MAIL_MAIL_HEADER_H

#include "buf.h"
#include "mail.h"

/* The field name of a logical header ("Subject" of "Subject: x"), empty when the line is not a header field.
 * Blanks between name and colon are allowed, as RFC 5322 4.5 obliges readers. */
struct bytes mail_header_name(struct bytes line);
/* What follows the colon, trimmed; continuation lines stay as they are. */
struct bytes mail_header_value(struct bytes header);

/*
 * Walks through content in pieces and hands out logical header fields (folded lines together, with their CR
 * LF). The header ends at the first empty line, or at a line that is no header field. Fields longer than
 * `limit` are handed out in parts, `is_whole` false on all but the last.
 */
struct mail_header_walk {
    void (*field)(void *arg, struct bytes text, bool is_whole);
    void *arg;
    size_t limit;
    struct buf held;
    bool is_done;
    bool is_inside;      /* part of the present field was handed out: what follows may continue it */
    bool is_inside_line; /* that part ended within a line */
    bool has_end;        /* an empty line ended the header (it is not part of what is left) */
};
/* Takes the piece; returns what of it belongs to the body once the header has ended (else empty). When the
 * header ended without an empty line, the returned body may start with bytes held from earlier pieces: they
 * come first in *held_r (borrowed until the next call). */
struct bytes mail_header_walk(struct mail_header_walk *w, struct bytes piece, struct bytes *held_r);
/* The content ended: hands out what is held. */
void mail_header_walk_end(struct mail_header_walk *w);
void mail_header_walk_deinit(struct mail_header_walk *w);

/* Postfix's Received line for this transaction, RFC 5321 4.4, with CR LF; with_id false before the filter. */
void mail_header_received(struct buf *out, const char *myhostname, const char *mail_name,
                          const struct mail_client *client, const struct mail_envelope *envelope,
                          bool with_id);

#endif
