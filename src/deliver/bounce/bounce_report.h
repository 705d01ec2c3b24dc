/* For this folder: the text of a report, RFC 3462 and 3464. Pure. */
#ifndef DELIVER_BOUNCE_BOUNCE_REPORT_H
#define DELIVER_BOUNCE_BOUNCE_REPORT_H

#include "buf.h"
#include "deliver_agent.h"

struct bounce_report {
    const char *new_id; /* of the report */
    const char *myhostname, *myorigin, *mail_name;
    uint64_t now_us;
    const struct queue_envelope *envelope; /* of the message that failed */
    struct queue_rcpt *const *rcpts;
    const struct deliver_result *const *reasons;
    size_t n;
    bool headers_only;
    bool is_8bit; /* of what is returned */
};

/* Everything before the returned content, and everything after it. Lines end in CR LF. */
void bounce_report_begin(struct buf *out, const struct bounce_report *r);
void bounce_report_end(struct buf *out, const struct bounce_report *r);

/* `text` in lines of about 75 characters, continuation lines begin with `indent`; what is not printable shows
 * as '?' (8-bit text only when is_utf8). Ends in CR LF. */
void bounce_report_fold(struct buf *out, const char *text, const char *indent, bool is_utf8);

#endif
