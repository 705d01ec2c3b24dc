/* DATA, RFC 5321 4.1.1.4: content up to CR LF . CR LF, then its verdict. */
#include "smtpd_session.h"

/* Reads and passes on until the end of data. False: the client is gone, or must go. */
static co_fn bool receive(struct smtpd_session *s)
{
    struct smtpd_tx *tx = s->tx;

    while (!tx->decoder.is_end) {
        struct bytes seen = io_buffered(s->stream);

        if (seen.n == 0) {
            enum io_end end =
                io_fill(s->stream, smtpd_content_deadline(s, tx->content_since, tx->content_size));

            if (end != IO_OK) {
                s->where_bytes = tx->content_size;
                smtpd_stream_ended(s, end);
                return false;
            }
            continue;
        }
        io_consume(s->stream, smtp_data_decode(&tx->decoder, seen, &s->content));
        smtpd_content_pass(s);
        if (smtpd_content_is_endless(s)) {
            s->leave = SMTPD_DISMISSED;
            return false;
        }
    }
    return true;
}

struct mail_reply smtpd_cmd_data(struct smtpd_session *s, const struct smtp_line *line)
{
    struct mail_reply r;

    if (line->rest.n > 0)
        return mail_reply_fixed(501, "5.5.4", "Syntax: DATA");
    if (s->tx == NULL)
        return mail_reply_fixed(503, "5.5.1", "Error: need RCPT command");
    if (s->tx->is_bdat)
        return mail_reply_fixed(503, "5.5.1", "Error: DATA after BDAT");
    if (s->tx->envelope.rcpt_count == 0)
        return mail_reply_fixed(554, "5.5.1", "Error: no valid recipients");
    r = smtpd_content_begin(s);
    if (r.code != 354) {
        smtpd_tx_end(s);
        return r;
    }
    if (!smtpd_send(s, &r) || !smtpd_flush(s))
        return (struct mail_reply){0};
    if (receive(s))
        return smtpd_content_commit(s);
    if (s->leave == SMTPD_DISMISSED && !co_is_cancelled())
        return mail_reply_fixed(552, "5.3.4", "Error: message file too big");
    return (struct mail_reply){0};
}
