/*
 * Messages that are received whole, then replayed to the filter. See proxy.h.
 *
 * Since we hold the message, what happens to a filter is no matter of the client's: a connection that fails,
 * ends, or is answered with 421 is followed by another, at another endpoint or at the same one when it is
 * back, until smtpd_proxy_retry_time is over.
 *
 * Lost after the dot, the message may have gone on to the after-filter server. It is sent again all the same
 * (smtpd_proxy_retry_after_dot), with the id of the first (XFORWARD IDENT) and, to a server that announces
 * it, the word that it is a copy (XFORWARD RETRY): an after-filter server of ours queues it once. With
 * another one it may arrive twice, as it would when the client is told 451 and sends it again. A message that
 * ends its filter each time is given up after smtpd_proxy_retry_limit times.
 */
#include "proxy_tx.h"

#include "clock.h"
#include "log.h"
#include "mem.h"

enum { STEP_MS = 50, STEP_LIMIT_MS = 1000, AT_ONCE_LIMIT = 64 << 10 };

/* ---- until the end of data ---- */

static co_fn struct mail_reply whole_begin(struct mail_sink *sink, const struct mail_client *client,
                                           const struct mail_envelope *envelope)
{
    struct proxy_tx *tx = (struct proxy_tx *)sink;

    tx->talk.client = client;
    tx->talk.envelope = envelope;
    return mail_reply_fixed(250, "2.1.0", "Ok");
}

static co_fn struct mail_reply whole_recipient(struct mail_sink *sink, const struct mail_rcpt *rcpt)
{
    return mail_reply_fixed(250, "2.1.5", "Ok");
}

static co_fn struct mail_reply whole_content_begin(struct mail_sink *sink)
{
    struct proxy_tx *tx = (struct proxy_tx *)sink;
    struct proxy_gate *gate = tx->talk.proxy->gate;

    tx->spool = io_spool_new(tx, &tx->talk.proxy->spool);
    tx->passage = (struct proxy_passage){.ctx = tx, .client = tx->talk.client, .envelope = tx->talk.envelope};
    if (gate != NULL)
        gate->ops->begin(gate, &tx->passage);
    return mail_reply_fixed(354, "", "End data with <CR><LF>.<CR><LF>");
}

static void spool_trouble(struct proxy_tx *tx, struct error **e)
{
    if (!tx->is_spool_broken)
        log_warn("proxy speed-adjust log I/O error: %s; id=%s", (*e)->text, tx->talk.envelope->id);
    tx->is_spool_broken = true;
    error_free(e);
}

static co_fn void whole_content(struct mail_sink *sink, struct bytes piece)
{
    struct proxy_tx *tx = (struct proxy_tx *)sink;
    struct error *e = tx->is_spool_broken ? NULL : io_spool_write(tx->spool, piece);

    if (e != NULL)
        spool_trouble(tx, &e);
}

/* The filter knows nothing of it yet. */
static co_fn void whole_abort(struct mail_sink *sink)
{
    struct proxy_tx *tx = (struct proxy_tx *)sink;

    TALLOC_FREE(tx->spool);
}

/* ---- one conversation ---- */

/*
 * Whether envelope and content may leave together, before anything is known of the filter's mind: what it
 * refuses then has cost little, and what it takes it takes whole. Of several recipients it might refuse one,
 * and have the message for the others.
 */
static co_fn bool goes_at_once(const struct proxy_tx *tx, struct bytes *content_r)
{
    struct error *e;

    if (!proxy_chunk_may(&tx->talk) || tx->talk.envelope->rcpt_count != 1 ||
        !io_spool_is_in_memory(tx->spool) || io_spool_size(tx->spool) > AT_ONCE_LIMIT)
        return false;
    e = io_spool_read(tx->spool, 0, content_r);
    error_free(&e);
    return content_r->n == io_spool_size(tx->spool);
}

static co_fn bool replay_content(struct proxy_tx *tx)
{
    uint64_t at = 0;

    while (tx->talk.is_in_content) {
        struct bytes piece;
        struct error *e = io_spool_read(tx->spool, at, &piece);

        if (e != NULL) {
            spool_trouble(tx, &e);
            return false;
        }
        if (piece.n == 0)
            break;
        proxy_talk_content(&tx->talk, piece);
        at += piece.n;
    }
    return true;
}

static co_fn struct mail_reply replay_once(struct proxy_tx *tx)
{
    struct mail_reply r = proxy_talk_open(&tx->talk);
    struct bytes content;

    if (!mail_reply_is_ok(&r))
        return r;
    mail_reply_deinit(&r);
    if (goes_at_once(tx, &content))
        return proxy_chunk(&tx->talk, content);
    r = proxy_talk_rcpts_and_data(&tx->talk);
    if (r.code / 100 != 3)
        return r;
    mail_reply_deinit(&r);
    return replay_content(tx) ? proxy_talk_end(&tx->talk) : mail_reply_trouble();
}

static co_fn struct mail_reply replay(struct proxy_tx *tx)
{
    struct mail_reply r = replay_once(tx);

    if (tx->talk.is_stale) {
        mail_reply_deinit(&r);
        r = replay_once(tx);
    }
    proxy_talk_leave(&tx->talk);
    return r;
}

/* ---- as many as it takes ---- */

/* What the last conversation came to; its endpoint is given back already. */
static bool wants_another(struct proxy_tx *tx)
{
    const struct proxy_talk *t = &tx->talk;

    if (t->fault == PROXY_NO_FAULT || t->fault == PROXY_SENSELESS)
        return false;
    if (t->is_dot_sent && t->fault == PROXY_LOST && !t->proxy->retries_after_dot)
        return false;
    return !t->has_sent_content || tx->content_losses++ < t->proxy->retry_limit;
}

static void plan_next(struct proxy_need *need, const struct proxy_entry *failed, uint64_t *step_ms)
{
    need->has_tried = true;
    need->avoid = failed;
    need->avoid_until = clock_ms() + *step_ms;
    *step_ms = *step_ms * 2 < STEP_LIMIT_MS ? *step_ms * 2 : STEP_LIMIT_MS;
}

static co_fn struct mail_reply replay_until_answered(struct proxy_tx *tx)
{
    struct proxy_talk *t = &tx->talk;
    struct proxy_need need = {.bytes = io_spool_size(tx->spool), .is_patient = true};
    struct mail_reply r = mail_reply_trouble();
    uint64_t since = clock_ms(), step_ms = STEP_MS;

    need.deadline = since + t->proxy->retry_ms;
    if (t->deadline != 0 && t->deadline < need.deadline)
        need.deadline = t->deadline;
    while ((!need.has_tried || clock_ms() <= need.deadline) && proxy_talk_take(t, &need)) {
        const struct proxy_entry *entry = t->target->entry;

        mail_reply_deinit(&r);
        r = replay(tx);
        proxy_talk_give(t);
        if (tx->is_spool_broken || !wants_another(tx))
            return r;
        t->copies += t->is_dot_sent; /* what a filter had as a whole may be with the server after it */
        plan_next(&need, entry, &step_ms);
    }
    if (!need.has_tried)
        proxy_log_unreached(tx, since);
    return r;
}

/* ---- through the gate ---- */

/* Half as long again for a server that has it all by then. */
static uint64_t verdict_deadline(uint64_t since, uint64_t deadline)
{
    return deadline > since ? deadline + (deadline - since) / 2 : deadline;
}

static co_fn struct mail_reply pass_gate(struct proxy_tx *tx, struct proxy_gate *gate)
{
    struct proxy_talk *t = &tx->talk;
    struct mail_reply r = {0};
    uint64_t since = clock_ms();

    tx->passage.spool = tx->spool;
    tx->passage.deadline = since + t->proxy->timeout_ms;
    if (gate->ops->enter(gate, &tx->passage, &r)) {
        t->deadline = tx->passage.deadline;
        t->verdict_deadline = verdict_deadline(since, t->deadline);
        r = replay_until_answered(tx);
        gate->ops->leave(gate, &tx->passage, &r,
                         t->fault == PROXY_NO_FAULT && (t->is_dot_answered || r.code >= 500));
        proxy_log_verdict(tx, &r);
    }
    tx->sink.receipt = gate->ops->receipt(gate, &tx->passage);
    return r;
}

static co_fn struct mail_reply whole_commit(struct mail_sink *sink)
{
    struct proxy_tx *tx = (struct proxy_tx *)sink;
    struct mail_reply r;

    if (!tx->is_spool_broken && tx->talk.proxy->gate != NULL)
        return pass_gate(tx, tx->talk.proxy->gate);
    r = tx->is_spool_broken ? mail_reply_trouble() : replay_until_answered(tx);
    proxy_log_verdict(tx, &r);
    return r;
}

const struct mail_sink_ops proxy_whole_ops = {
    "proxy (whole message)", whole_begin,  whole_recipient, whole_content_begin,
    whole_content,           whole_commit, whole_abort,
};
