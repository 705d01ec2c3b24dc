/* RCPT TO, RFC 5321 4.1.1.3. A recipient joins the transaction only when every hook and the sink took it. */
#include "smtpd_session.h"

/* Over the limit: the client will come again with the rest; only far over it does it count as an error. */
static struct mail_reply too_many(struct smtpd_session *s)
{
    if (s->tx->rcpt_refused++ < s->conf->recipient_overshoot_limit)
        s->errors--;
    return mail_reply_fixed(452, "4.5.3", "Error: too many recipients");
}

struct mail_reply smtpd_cmd_rcpt(struct smtpd_session *s, const struct smtp_line *line)
{
    struct smtp_parse_rules rules = {s->features, s->conf->is_strict, s->conf->message_size_limit};
    struct mail_rcpt rcpt = {0};
    struct mail_reply why;

    if (s->tx == NULL)
        return mail_reply_fixed(503, "5.5.1", "Error: need MAIL command");
    if (s->tx->is_bdat)
        return mail_reply_fixed(503, "5.5.1", "Error: RCPT after BDAT");
    if ((long)s->tx->envelope.rcpt_count >= s->conf->recipient_limit)
        return too_many(s);
    if (!smtp_parse_rcpt(s->tx, line, &rules, s->tx->envelope.smtputf8, &rcpt, &why))
        return why;
    if (!smtpd_gate(s, MAIL_AT_RCPT, &rcpt, &why))
        return why;
    return smtpd_tx_add_rcpt(s, &rcpt);
}
