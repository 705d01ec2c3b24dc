/* The sink that lets each message through once. See copies.h. */
#include "copies.h"

#include "clock.h"
#include "co.h"
#include "copies_table.h"
#include "format.h"
#include "log.h"
#include "mem.h"

enum { MARGIN_MS = 60000, STEP_MS = 1, STEP_LIMIT_MS = 20 };

static struct copies_table *shared;

struct copies {
    struct copies_outlets outlets;
    unsigned worker;
    uint64_t keep_ms; /* what was queued is remembered */
    uint64_t wait_ms; /* at most, for an earlier copy */
};

struct copies_tx {
    struct mail_sink sink;
    struct copies *copies;
    struct mail_sink *next;
    const struct mail_client *client;
    const struct mail_envelope *envelope;
    bool is_known; /* by an id that an upstream gave it */
    struct copies_place place;
};

/* ---- who it is ---- */

/* FNV-1a, with the end of the text. */
static uint64_t hash_of(const char *text)
{
    uint64_t hash = 14695981039346656037u;

    do
        hash = (hash ^ (unsigned char)*text) * 1099511628211u;
    while (*text++ != '\0');
    return hash;
}

static void identify(struct copies_tx *tx)
{
    const struct mail_forward *f = tx->client->forward;
    const struct mail_envelope *e = tx->envelope;
    struct copies_key *key = &tx->place.key;

    if (f == NULL || f->ident == NULL || !mail_id_is_valid(bytes_of(f->ident)))
        return;
    tx->is_known = true;
    tx->place.retry = mail_forward_retry(f);
    format_print(key->ident, sizeof(key->ident), "%s", f->ident);
    key->parties = hash_of(e->sender) * 3;
    for (size_t i = 0; i < e->rcpt_count; i++)
        key->parties += hash_of(e->rcpts[i]->addr);
}

/* ---- until the end of data ---- */

static mail_waits struct mail_reply copies_begin(struct mail_sink *sink, const struct mail_client *client,
                                                 const struct mail_envelope *envelope)
{
    struct copies_tx *tx = (struct copies_tx *)sink;

    tx->client = client;
    tx->envelope = envelope;
    return tx->next->ops->begin(tx->next, client, envelope);
}

static mail_waits struct mail_reply copies_recipient(struct mail_sink *sink, const struct mail_rcpt *rcpt)
{
    struct copies_tx *tx = (struct copies_tx *)sink;

    return tx->next->ops->recipient(tx->next, rcpt);
}

static mail_waits struct mail_reply copies_content_begin(struct mail_sink *sink)
{
    struct copies_tx *tx = (struct copies_tx *)sink;

    identify(tx);
    if (tx->is_known)
        copies_table_open(shared, &tx->place, tx->copies->worker, tx->envelope->id);
    return tx->next->ops->content_begin(tx->next);
}

static mail_waits void copies_content(struct mail_sink *sink, struct bytes piece)
{
    struct copies_tx *tx = (struct copies_tx *)sink;

    tx->next->ops->content(tx->next, piece);
}

static void forget(struct copies_tx *tx)
{
    copies_table_close(shared, &tx->place, false, 0);
}

static mail_waits void copies_abort(struct mail_sink *sink)
{
    struct copies_tx *tx = (struct copies_tx *)sink;

    forget(tx);
    tx->next->ops->abort(tx->next);
}

/* ---- at the end of data ---- */

static co_fn void ask_queue(struct copies_tx *tx, const char *id)
{
    const struct copies_outlets *o = &tx->copies->outlets;

    copies_table_decide(shared, &tx->place.key, id, o->is_queued(o->arg, id), tx->copies->keep_ms);
}

/* Never COPIES_ORPHAN; COPIES_WAIT when it took too long. */
static co_fn enum copies_turn wait_for_turn(struct copies_tx *tx, char id_r[MAIL_ID_SIZE])
{
    uint64_t deadline = clock_ms() + tx->copies->wait_ms, step_ms = STEP_MS;

    for (;;) {
        enum copies_turn turn = copies_table_turn(shared, &tx->place, id_r);

        if (turn == COPIES_ORPHAN)
            ask_queue(tx, id_r);
        else if (turn != COPIES_WAIT || clock_ms() >= deadline ||
                 co_sleep(clock_ms() + step_ms, "an earlier copy of the message") != CO_OK)
            return turn;
        step_ms = step_ms * 2 < STEP_LIMIT_MS ? step_ms * 2 : STEP_LIMIT_MS;
    }
}

static mail_waits struct mail_reply pass(struct copies_tx *tx)
{
    struct mail_reply r = tx->next->ops->commit(tx->next);

    tx->sink.receipt = tx->next->receipt;
    copies_table_close(shared, &tx->place, r.code / 100 == 2, tx->copies->keep_ms);
    return r;
}

static mail_waits struct mail_reply drop(struct copies_tx *tx, struct mail_reply r)
{
    forget(tx);
    tx->next->ops->abort(tx->next);
    return r;
}

static mail_waits struct mail_reply copies_commit(struct mail_sink *sink)
{
    struct copies_tx *tx = (struct copies_tx *)sink;
    const char *ident = tx->place.key.ident, *id = tx->envelope->id;
    char first[MAIL_ID_SIZE];

    switch (tx->is_known ? wait_for_turn(tx, first) : COPIES_GO) {
    case COPIES_QUEUED:
        log_info("%s: copy %u of %s, which is queued as %s", id, tx->place.retry, ident, first);
        return drop(tx, mail_reply(250, "2.0.0", "Ok: queued as %s", first));
    case COPIES_REPLACED:
        log_info("%s: not queued: a later copy of %s has come", id, ident);
        return drop(tx, mail_reply_fixed(451, "4.3.0", "Error: another copy has taken its place"));
    case COPIES_WAIT:
        log_warn("%s: not queued: it is a copy of %s, which is still on its way into the queue", id, first);
        return drop(tx, mail_reply_trouble());
    default:
        return pass(tx);
    }
}

static const struct mail_sink_ops copies_ops = {
    .name = "copies",
    .begin = copies_begin,
    .recipient = copies_recipient,
    .content_begin = copies_content_begin,
    .content = copies_content,
    .commit = copies_commit,
    .abort = copies_abort,
};

/* ---- opening ---- */

void copies_prepare(void)
{
    if (shared == NULL)
        shared = copies_table_new();
}

void copies_forget(unsigned worker)
{
    if (shared != NULL)
        copies_table_forget(shared, worker);
}

struct copies *copies_open(const void *ctx, const struct conf *conf, unsigned worker,
                           const struct copies_outlets *outlets)
{
    struct copies *copies = mem_new(ctx, struct copies);

    copies_prepare();
    copies_forget(worker);
    copies->outlets = *outlets;
    copies->worker = worker;
    copies->wait_ms = conf_time_ms(conf, "smtpd_proxy_timeout");
    copies->keep_ms = conf_time_ms(conf, "smtpd_proxy_retry_time") + copies->wait_ms + MARGIN_MS;
    return copies;
}

struct mail_sink *copies_sink(void *ctx, struct copies *copies)
{
    struct copies_tx *tx = mem_new(ctx, struct copies_tx);

    tx->sink.ops = &copies_ops;
    tx->copies = copies;
    tx->next = copies->outlets.next(copies->outlets.arg, tx);
    return &tx->sink;
}
