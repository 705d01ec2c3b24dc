/* Content on its way to the sink: begun, counted, passed on, committed. The same for DATA and BDAT. */
#include "smtpd_session.h"

#include "clock.h"
#include "log.h"
#include "mail_header.h"

enum { ENDLESS_SLACK = 1 << 20, TRACE_SIZE = 8192 };

/* PREPEND texts first, then our Received line, above what the client sent (Postfix's order). */
static co_fn void add_trace(struct smtpd_session *s)
{
    struct smtpd_tx *tx = s->tx;
    struct buf *text = &s->content;

    for (size_t i = 0; i < tx->envelope.prepend.n; i++)
        buf_addf(text, "%s\r\n", tx->envelope.prepend.at[i]);
    if (s->profile->adds_received && !(s->profile->relays_forward && s->forward != NULL))
        mail_header_received(text, s->conf->myhostname, s->conf->mail_name, s->client, &tx->envelope,
                             s->profile->received_has_id);
    tx->envelope.trace_size = text->n;
    if (text->n > 0)
        tx->sink->ops->content(tx->sink, buf_bytes(text));
    buf_cut(text, 0);
}

co_fn struct mail_reply smtpd_content_begin(struct smtpd_session *s)
{
    struct smtpd_tx *tx = s->tx;
    struct mail_reply r;

    if (!smtpd_gate(s, MAIL_AT_DATA, NULL, &r))
        return r;
    r = tx->sink->ops->content_begin(tx->sink);
    if (!mail_reply_is_ok(&r))
        return r;
    mail_reply_deinit(&r);
    tx->is_content_begun = true;
    tx->content_since = clock_ms();
    tx->top = s->profile->adds_received ? SMTPD_TOP_BEGINS : SMTPD_TOP_PAST;
    add_trace(s);
    return mail_reply_fixed(354, "", "End data with <CR><LF>.<CR><LF>");
}

co_fn void smtpd_content_pass(struct smtpd_session *s)
{
    struct smtpd_tx *tx = s->tx;
    size_t waiting = smtpd_content_guard_top(s);
    struct bytes text = bytes(s->content.p, s->content.n - waiting);

    if (text.n == 0)
        return;
    tx->content_size += text.n;
    if (tx->content_size > smtpd_content_limit(s) && !tx->is_too_big) {
        tx->is_too_big = true;
        log_warn("%s: queue file size limit exceeded", tx->envelope.id);
    }
    if (!tx->is_too_big)
        tx->sink->ops->content(tx->sink, text);
    buf_drop(&s->content, text.n);
}

uint64_t smtpd_content_deadline(const struct smtpd_session *s, uint64_t since, uint64_t received)
{
    return since + s->conf->timeout_ms + received * 1000 / s->conf->min_data_rate;
}

uint64_t smtpd_content_limit(const struct smtpd_session *s)
{
    if (s->conf->message_size_limit == 0)
        return UINT64_MAX;
    return s->conf->message_size_limit + (s->forward != NULL ? TRACE_SIZE : 0);
}

bool smtpd_content_is_endless(const struct smtpd_session *s)
{
    return s->tx->is_too_big && s->tx->content_size > s->conf->message_size_limit * 2 + ENDLESS_SLACK;
}

/* What the content itself forbids, before anybody is asked about it. */
static co_fn bool is_refused(struct smtpd_session *s, struct mail_reply *why_r)
{
    struct smtpd_tx *tx = s->tx;

    if (tx->is_too_big) {
        *why_r = mail_reply_fixed(552, "5.3.4", "Error: message file too big");
        return true;
    }
    if (!tx->decoder.has_bare_lf || tx->decoder.bare == SMTP_BARE_NEWLINE_NORMALIZE)
        return false;
    if (table_list_has_host(s->conf->bare_newline_exclusions, s->client->name, s->client->addr) ==
        TABLE_FOUND)
        return false;
    log_info("%s: %s: %s from %s: bare <LF> received", tx->envelope.id,
             tx->decoder.bare == SMTP_BARE_NEWLINE_REJECT ? "reject" : "info", s->where,
             smtpd_client_text(s));
    if (tx->decoder.bare == SMTP_BARE_NEWLINE_NOTE)
        return false;
    *why_r =
        mail_reply(s->conf->bare_newline_code, "5.5.2", "%s Error: bare <LF> received", s->conf->myhostname);
    return true;
}

/* From here on the message may be somebody's for good: cancellation waits until the client has its reply. */
co_fn struct mail_reply smtpd_content_commit(struct smtpd_session *s)
{
    struct smtpd_tx *tx = s->tx;
    struct mail_reply r;

    co_shield(true);
    s->where = "END-OF-MESSAGE";
    s->where_bytes = 0;
    if (!is_refused(s, &r) && smtpd_gate(s, MAIL_AT_END_OF_DATA, NULL, &r)) {
        r = tx->sink->ops->commit(tx->sink);
        tx->sink_is_done = true;
        smtpd_receipt_take(s, tx->sink);
        if (r.code < 200 || (r.code >= 300 && r.code < 400)) { /* nothing else may answer end-of-data */
            mail_reply_deinit(&r);
            r = mail_reply_trouble();
        }
        if (mail_reply_is_ok(&r))
            s->errors = s->junk = 0;
    }
    smtpd_tx_end(s);
    co_shield(false);
    return r;
}
