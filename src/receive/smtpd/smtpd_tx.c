/* The transaction: begins at MAIL, ends in one place. See smtpd_session.h. */
#include "smtpd_session.h"

#include "clock.h"
#include "format.h"
#include "log.h"
#include "mem.h"

enum { TX_ROOM = 2048 }; /* the envelope of one recipient, and a sink */

static int destroy(struct smtpd_tx *tx)
{
    mail_reply_deinit(&tx->begin_failure);
    mail_reply_deinit(&tx->bdat_failure);
    return 0;
}

/* A second copy keeps out of the way of the first, which may still be there. */
static bool may_take_id(const struct smtpd_session *s, const char *id)
{
    const struct smtpd_profile *p = s->profile;

    return mail_id_is_valid(bytes_of(id)) &&
           (p->id_is_free == NULL || (mail_forward_retry(s->forward) == 0 && p->id_is_free(p->id_arg, id)));
}

/* The id that an upstream server of ours gave it, as long as no message has it; else the one that was logged
 * already, or a new one. */
static void choose_id(struct smtpd_session *s, char id[MAIL_ID_SIZE])
{
    const char *ident = s->forward ? s->forward->ident : NULL;

    if (ident != NULL && may_take_id(s, ident))
        format_print(id, MAIL_ID_SIZE, "%s", ident);
    else
        format_print(id, MAIL_ID_SIZE, "%s", smtpd_log_id(s));
    s->next_id[0] = '\0';
}

struct smtpd_tx *smtpd_tx_new(struct smtpd_session *s)
{
    struct smtpd_tx *tx = mem_new_with_room(s, struct smtpd_tx, TX_ROOM);

    talloc_set_destructor(tx, destroy);
    choose_id(s, tx->envelope.id);
    tx->envelope.arrived_us = clock_real_us();
    tx->envelope.began_us = clock_us();
    tx->decoder.bare = s->conf->bare_newline;
    return tx;
}

/* "ID: client=name[addr]", with the original client when XFORWARD told of one. */
static void log_client(struct smtpd_session *s)
{
    const struct mail_client *c = s->client;
    const struct mail_forward *f = c->forward;
    const char *id = s->tx->envelope.id;

    if (f == NULL)
        log_info("%s: client=%s[%s]", id, c->name, c->addr);
    else if (f->ident == NULL)
        log_info("%s: client=%s[%s], orig_client=%s[%s]", id, c->name, c->addr, f->name ? f->name : "unknown",
                 f->addr ? f->addr : "unknown");
    else
        log_info("%s: client=%s[%s], orig_queue_id=%s, orig_client=%s[%s]", id, c->name, c->addr, f->ident,
                 f->name ? f->name : "unknown", f->addr ? f->addr : "unknown");
}

/*
 * A failure stands for the whole transaction: with a dead filter, many recipients must not mean as many
 * attempts to reach it, and a later success must not leave the first recipient behind.
 */
co_fn struct mail_reply smtpd_tx_open_sink(struct smtpd_session *s)
{
    struct smtpd_tx *tx = s->tx;
    struct mail_reply r;

    if (tx->begin_failure.code != 0)
        return mail_reply_copy(&tx->begin_failure);
    if (tx->sink != NULL)
        return (struct mail_reply){0};
    tx->sink = s->profile->sink(s->profile->sink_arg, tx);
    r = tx->sink->ops->begin(tx->sink, s->client, &tx->envelope);
    if (mail_reply_is_ok(&r)) {
        mail_reply_deinit(&r);
        log_client(s);
        return r;
    }
    tx->sink->ops->abort(tx->sink);
    tx->sink_is_done = true;
    tx->begin_failure = r;
    return mail_reply_copy(&r);
}

co_fn struct mail_reply smtpd_tx_add_rcpt(struct smtpd_session *s, const struct mail_rcpt *rcpt)
{
    struct smtpd_tx *tx = s->tx;
    struct mail_envelope *e = &tx->envelope;
    struct mail_reply r = smtpd_tx_open_sink(s);
    struct mail_rcpt *copy;

    if (r.code != 0)
        return r;
    copy = mem_new(tx, struct mail_rcpt);
    *copy = *rcpt;
    r = tx->sink->ops->recipient(tx->sink, copy);
    if (!mail_reply_is_ok(&r))
        return r;
    mail_reply_deinit(&r);
    if (e->rcpt_count == tx->rcpt_room) {
        tx->rcpt_room = tx->rcpt_room ? tx->rcpt_room * 2 : 4;
        e->rcpts = mem_grow(tx, e->rcpts, tx->rcpt_room);
    }
    e->rcpts[e->rcpt_count++] = copy;
    return mail_reply_fixed(250, "2.1.5", "Ok");
}

co_fn void smtpd_tx_end(struct smtpd_session *s)
{
    struct smtpd_tx *tx = s->tx;

    s->client->forward = NULL;
    TALLOC_FREE(s->forward);
    if (tx == NULL)
        return;
    if (tx->sink != NULL && !tx->sink_is_done)
        tx->sink->ops->abort(tx->sink);
    s->tx = NULL;
    buf_cut(&s->content, 0);
    talloc_free(tx);
}
