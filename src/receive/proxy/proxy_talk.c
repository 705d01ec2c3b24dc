/* The dialogue with the server behind the proxy. See proxy_talk.h. */
#include "proxy_talk.h"

#include "clock.h"
#include "log.h"
#include "mem.h"

/* ---- whom it speaks to ---- */

co_fn bool proxy_talk_take(struct proxy_talk *t, const struct proxy_need *need)
{
    t->target = proxy_pool_take(t->proxy, need);
    t->bytes = need->bytes;
    t->taken_at = clock_ms();
    return t->target != NULL;
}

void proxy_talk_give(struct proxy_talk *t)
{
    bool is_well = t->fault == PROXY_NO_FAULT || t->fault == PROXY_BLAMELESS;
    enum proxy_outcome outcome = t->is_dot_answered ? PROXY_ANSWERED : is_well ? PROXY_UNUSED : PROXY_FAILED;

    if (t->fault == PROXY_UNREACHED)
        proxy_note_failed(t->target->entry, &t->proxy->rules, t->target->text);
    proxy_pool_give(t->proxy, t->target,
                    &(struct proxy_work){t->bytes, clock_ms() - t->taken_at, outcome, t->is_reused});
    t->target = NULL;
}

/* ---- opening ---- */

static void start_over(struct proxy_talk *t)
{
    mail_reply_deinit(&t->failure);
    t->failure = (struct mail_reply){0};
    t->encoder = (struct smtp_data_encoder){0};
    t->used = 0;
    t->is_reused = t->needs_rset = t->is_spoilt = t->is_stale = false;
    t->tells_rcpt = false;
    t->chunks = PROXY_CHUNKS_UNASKED;
    t->has_begun = t->has_heard = t->is_under_way = false;
    t->is_data_open = t->is_in_content = t->has_sent_content = false;
    t->is_dot_sent = t->is_dot_answered = t->is_quit_sent = false;
    t->fault = PROXY_NO_FAULT;
    t->awaited_count = 0;
}

/* False: no connection of another message can go on. */
static bool take_kept(struct proxy_talk *t)
{
    struct proxy_kept *k = t->wants_fresh ? NULL : proxy_kept_take(t->target);

    if (k == NULL)
        return false;
    t->server = talloc_steal(NULL, k->server);
    t->used = k->used;
    t->needs_rset = k->is_dirty;
    t->chunks = k->chunks;
    t->is_reused = true;
    t->pipelines = t->proxy->pipelines && (t->server->features & SMTP_PIPELINING);
    talloc_free(k);
    return true;
}

static co_fn struct mail_reply greet(struct proxy_talk *t)
{
    return t->is_reused ? mail_reply_fixed(250, "", "") : proxy_greet(t);
}

static co_fn struct mail_reply hello(struct proxy_talk *t)
{
    if (!t->is_reused)
        return proxy_hello(t);
    return t->needs_rset ? proxy_command_in_group(t, PROXY_RSET, BYTES("RSET"))
                         : mail_reply_fixed(250, "", "");
}

static co_fn struct mail_reply mail(struct proxy_talk *t)
{
    return proxy_command_in_group(t, PROXY_MAIL, t->envelope->command);
}

static co_fn struct mail_reply open_once(struct proxy_talk *t)
{
    static co_fn struct mail_reply (*const steps[])(struct proxy_talk *) = {greet, hello, proxy_forward,
                                                                            mail};
    struct mail_reply r = {0};

    start_over(t);
    take_kept(t);
    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
        mail_reply_deinit(&r);
        r = steps[i](t);
        if (!mail_reply_is_ok(&r))
            break;
    }
    return r;
}

co_fn struct mail_reply proxy_talk_open(struct proxy_talk *t)
{
    struct mail_reply r = open_once(t);

    if (!t->is_stale)
        return r;
    mail_reply_deinit(&r);
    return open_once(t);
}

/* ---- recipients and content ---- */

co_fn struct mail_reply proxy_talk_rcpt(struct proxy_talk *t, const struct mail_rcpt *rcpt)
{
    return proxy_command(t, PROXY_RCPT, rcpt->command);
}

co_fn struct mail_reply proxy_talk_data(struct proxy_talk *t)
{
    struct mail_reply r = proxy_command(t, PROXY_DATA, BYTES("DATA"));

    t->is_in_content = t->has_sent_content = r.code / 100 == 3;
    t->content_since = clock_ms();
    return r;
}

co_fn struct mail_reply proxy_talk_rcpts(struct proxy_talk *t)
{
    const struct mail_envelope *e = t->envelope;
    struct mail_reply r = mail_reply_fixed(250, "", "");

    for (size_t i = 0; i < e->rcpt_count && mail_reply_is_ok(&r); i++) {
        mail_reply_deinit(&r);
        r = proxy_command_in_group(t, PROXY_RCPT, e->rcpts[i]->command);
    }
    return r;
}

co_fn struct mail_reply proxy_talk_rcpts_and_data(struct proxy_talk *t)
{
    struct mail_reply r = proxy_talk_rcpts(t);

    if (!mail_reply_is_ok(&r))
        return r;
    mail_reply_deinit(&r);
    return proxy_talk_data(t);
}

co_fn void proxy_talk_content(struct proxy_talk *t, struct bytes piece)
{
    enum io_end end;
    struct mail_reply r;

    if (!t->is_in_content)
        return;
    end = smtp_data_encode(&t->encoder, t->server->stream, piece, proxy_until(t, clock_ms()));
    if (end == IO_OK)
        return;
    r = proxy_lost(t, "content", t->content_since, end);
    mail_reply_deinit(&r);
}

static bool may_keep(const struct proxy_talk *t)
{
    const struct proxy *p = t->proxy;

    return p->reuses && t->has_heard && !t->is_spoilt && t->awaited_count == 0 && !t->target->is_gone &&
           t->used + 1 < p->reuse_limit && io_buffered(t->server->stream).n == 0;
}

/* The dot, and in one group with it the QUIT of a connection that is not to be kept (RFC 2920 3.1). Once all
 * of it may have left, the dot counts as sent: what fails then may be the QUIT alone. */
static co_fn enum io_end send_dot(struct proxy_talk *t)
{
    uint64_t now = clock_ms();
    enum io_end end = smtp_data_encode_end(&t->encoder, t->server->stream, proxy_until(t, now));

    t->is_in_content = false;
    t->is_quit_sent = t->pipelines && !may_keep(t);
    t->is_dot_sent = end == IO_OK;
    if (end == IO_OK && t->is_quit_sent)
        end = smtp_client_send(t->server, BYTES("QUIT"), proxy_until(t, now));
    return end == IO_OK ? io_flush(t->server->stream, proxy_until(t, now)) : end;
}

/* Something came before the dot went: a server that is closing, or a verdict on what it has not seen. */
static co_fn struct mail_reply interrupted(struct proxy_talk *t)
{
    enum io_end end = smtp_client_read_reply(t->server, proxy_until(t, clock_ms()));
    bool is_closing = end == IO_OK && t->server->reply.code == PROXY_GOING_AWAY;

    log_warn("proxy %s speaks before the end of data; id=%s phase=content", t->target->text, t->envelope->id);
    return proxy_trouble(t, is_closing ? PROXY_UNREACHED : PROXY_SENSELESS);
}

co_fn struct mail_reply proxy_talk_end(struct proxy_talk *t)
{
    const struct proxy_await dot = {PROXY_DOT, BYTES(".")};
    struct mail_reply r;
    enum io_end end;

    if (!t->is_in_content)
        return mail_reply_trouble();
    if (io_has_input(t->server->stream))
        return interrupted(t);
    end = proxy_is_late(t) ? IO_TIMEOUT : send_dot(t);
    if (end != IO_OK)
        return proxy_lost(t, "content", t->content_since, end);
    t->since = clock_ms();
    end = smtp_client_read_reply(t->server, proxy_until(t, t->since));
    r = proxy_settle_one(t, &dot, true, end);
    t->is_dot_answered = t->fault == PROXY_NO_FAULT;
    t->has_begun = false; /* the reply, whatever it is, ends the transaction */
    if (mail_reply_is_ok(&r) && may_keep(t))
        proxy_chunk_learn(t, r.text);
    proxy_talk_leave(t);
    return r;
}

/* ---- leaving ---- */

co_fn void proxy_talk_leave(struct proxy_talk *t)
{
    if (t->server == NULL)
        return;
    if (t->is_data_open || t->is_in_content || t->is_quit_sent)
        smtp_client_close(&t->server);
    else if (may_keep(t))
        proxy_kept_put(t->proxy, t->target, &t->server, t->used + 1, t->has_begun, t->chunks);
    else
        smtp_client_quit(&t->server);
    t->awaited_count = 0;
    t->is_in_content = false;
}

void proxy_talk_deinit(struct proxy_talk *t)
{
    smtp_client_close(&t->server);
    if (t->target != NULL)
        proxy_talk_give(t);
    buf_deinit(&t->forward);
    mail_reply_deinit(&t->failure);
}
