/* MAIL FROM, RFC 5321 4.1.1.2: begins a transaction when every hook lets the sender pass. */
#include "smtpd_session.h"

#include "mem.h"

static co_fn struct mail_reply begin(struct smtpd_session *s)
{
    struct mail_reply r;

    if (!smtpd_gate(s, MAIL_AT_MAIL, NULL, &r))
        return r;
    if (s->conf->opens_at_mail) {
        r = smtpd_tx_open_sink(s);
        if (r.code != 0)
            return r;
    }
    return mail_reply_fixed(250, "2.1.0", "Ok");
}

struct mail_reply smtpd_cmd_mail(struct smtpd_session *s, const struct smtp_line *line)
{
    /* a discarded keyword hides SIZE and 8BITMIME, no more (Postfix) */
    unsigned features = s->features | SMTP_SIZE | SMTP_8BITMIME;
    struct smtp_parse_rules rules = {features, s->conf->is_strict, s->conf->message_size_limit};
    struct mail_reply r;

    if (s->client->helo == NULL && s->conf->is_helo_required)
        return mail_reply_fixed(503, "5.5.1", "Error: send HELO/EHLO first");
    if (s->tx != NULL)
        return mail_reply_fixed(503, "5.5.1", "Error: nested MAIL command");
    s->tx = smtpd_tx_new(s);
    if (!smtp_parse_mail(s->tx, line, &rules, &s->tx->envelope, &r)) {
        if (r.code == 552)
            smtpd_gate_log_reject(s, MAIL_AT_MAIL, &r);
        TALLOC_FREE(s->tx); /* nothing has begun: the id goes unused, XFORWARD stays in force */
        return r;
    }
    r = begin(s);
    if (!mail_reply_is_ok(&r))
        smtpd_tx_end(s);
    return r;
}
