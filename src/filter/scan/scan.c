/*
 * The scan sink. What a hook of this service decided for the whole message (hold, discard, redirect, filter,
 * bcc) stands in the envelope and counts as if an engine had said it first.
 */
#include "scan.h"

#include "log.h"
#include "mem.h"
#include "scan_private.h"

/* ---- until the end of data ---- */

static mail_waits struct mail_reply scan_begin(struct mail_sink *sink, const struct mail_client *client,
                                               const struct mail_envelope *envelope)
{
    struct scan_tx *tx = (struct scan_tx *)sink;
    struct scan_outlets *o = &tx->scan->outlets;
    struct mail_reply reply;

    tx->client = client;
    tx->envelope = envelope;
    tx->own = *envelope;
    tx->next = o->next(o->arg, tx);
    if (tx->next == NULL)
        return mail_reply_trouble();
    reply = tx->next->ops->begin(tx->next, client, &tx->own);
    if (!mail_reply_is_ok(&reply))
        scan_abort_next(tx);
    return reply;
}

static mail_waits struct mail_reply scan_recipient(struct mail_sink *sink, const struct mail_rcpt *rcpt)
{
    struct scan_tx *tx = (struct scan_tx *)sink;

    if (tx->next == NULL)
        return mail_reply_trouble();
    tx->own = *tx->envelope;
    return tx->next->ops->recipient(tx->next, rcpt);
}

static bool has_work(const struct scan_tx *tx)
{
    const struct mail_envelope *e = tx->envelope;

    return engine_set_count(tx->scan->engines) > 0 || e->hold != NULL || e->discard || e->redirect != NULL ||
           e->filter != NULL || e->bcc.n > 0;
}

/* Without anything to ask or to do, content does not stop here. */
static mail_waits struct mail_reply scan_content_begin(struct mail_sink *sink)
{
    struct scan_tx *tx = (struct scan_tx *)sink;

    if (tx->next == NULL)
        return mail_reply_trouble();
    tx->own = *tx->envelope;
    if (!has_work(tx))
        return tx->next->ops->content_begin(tx->next);
    tx->content = io_spool_new(tx, engine_set_spool(tx->scan->engines));
    return mail_reply_fixed(354, "", "End data with <CR><LF>.<CR><LF>");
}

static mail_waits void scan_content(struct mail_sink *sink, struct bytes piece)
{
    struct scan_tx *tx = (struct scan_tx *)sink;

    if (tx->content == NULL) {
        if (tx->next != NULL)
            tx->next->ops->content(tx->next, piece);
    } else if (tx->error == NULL) {
        tx->error = io_spool_write(tx->content, piece);
    }
}

/* ---- at the end of data ---- */

/* The hooks' decisions under the engines'. */
static void merge_envelope(struct scan_tx *tx, struct engine_result *result)
{
    const struct mail_envelope *e = tx->envelope;
    struct mail_text_list engines_bcc = result->bcc;

    result->bcc = (struct mail_text_list){0};
    for (size_t i = 0; i < e->bcc.n; i++)
        engine_result_add_bcc(tx, result, e->bcc.at[i]);
    for (size_t i = 0; i < engines_bcc.n; i++)
        engine_result_add_bcc(tx, result, engines_bcc.at[i]);
    if (e->hold != NULL)
        result->hold = e->hold;
    if (result->redirect == NULL)
        result->redirect = e->redirect;
    if (result->filter == NULL)
        result->filter = e->filter;
    if (result->outcome == ENGINE_PASS && e->discard)
        result->outcome = ENGINE_DISCARD;
}

/* The client is told what it would be told of mail that was queued. */
static struct mail_reply discarded(const struct scan_tx *tx)
{
    return mail_reply(250, "2.0.0", "Ok: queued as %s", tx->envelope->id);
}

static mail_waits struct mail_reply scan_message(struct scan_tx *tx)
{
    struct engine_input in = {
        .ctx = tx, .client = tx->client, .envelope = tx->envelope, .content = tx->content};
    struct engine_result result;

    engine_set_scan(tx->scan->engines, &in, &result);
    merge_envelope(tx, &result);
    switch (result.outcome) {
    case ENGINE_REPLY:
        scan_abort_next(tx);
        return result.reply;
    case ENGINE_DISCARD:
        scan_abort_next(tx);
        return discarded(tx);
    case ENGINE_PASS:
        break;
    }
    return scan_route(tx, &result);
}

static mail_waits struct mail_reply scan_commit(struct mail_sink *sink)
{
    struct scan_tx *tx = (struct scan_tx *)sink;
    struct mail_sink *next = tx->next;

    if (tx->error != NULL) {
        tx->error = error_prepend(tx->error, "%s: content filter", tx->envelope->id);
        log_report(&tx->error);
        scan_abort_next(tx);
    }
    if (tx->next == NULL)
        return mail_reply_trouble();
    if (tx->content != NULL)
        return scan_message(tx);
    tx->next = NULL;
    return next->ops->commit(next);
}

static mail_waits void scan_abort(struct mail_sink *sink)
{
    struct scan_tx *tx = (struct scan_tx *)sink;

    scan_abort_next(tx);
    error_free(&tx->error);
}

mail_waits void scan_abort_next(struct scan_tx *tx)
{
    struct mail_sink *next = tx->next;

    tx->next = NULL;
    if (next != NULL)
        next->ops->abort(next);
}

/* ---- opening ---- */

static const struct mail_sink_ops scan_ops = {
    .name = "scan",
    .begin = scan_begin,
    .recipient = scan_recipient,
    .content_begin = scan_content_begin,
    .content = scan_content,
    .commit = scan_commit,
    .abort = scan_abort,
};

struct error *scan_open(void *ctx, const struct conf *conf, const struct scan_outlets *outlets,
                        struct scan **scan_r)
{
    struct scan *scan = mem_new(ctx, struct scan);
    struct error *e;

    scan->outlets = *outlets;
    e = engine_set_open(scan, conf, &scan->engines);
    if (e != NULL)
        talloc_free(scan);
    else
        *scan_r = scan;
    return e;
}

static int free_error(struct scan_tx *tx)
{
    error_free(&tx->error);
    return 0;
}

struct mail_sink *scan_sink(void *ctx, struct scan *scan)
{
    struct scan_tx *tx = mem_new(ctx, struct scan_tx);

    tx->sink.ops = &scan_ops;
    tx->scan = scan;
    talloc_set_destructor(tx, free_error);
    return &tx->sink;
}
