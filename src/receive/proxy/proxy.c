/* The proxy sink. See proxy.h: streamed as the client sends, or received whole and replayed. */
#include "proxy.h"

#include "clock.h"
#include "log.h"
#include "mail_address.h"
#include "mem.h"
#include "proxy_talk.h"

struct sink {
    struct mail_sink sink;
    struct proxy_talk talk;
    struct io_spool *spool; /* whole-message mode */
    bool is_spool_broken;
};

struct error *proxy_wants_whole(const struct conf *conf, bool *is_whole_r)
{
    struct bytes rest = bytes_of(conf_text(conf, "smtpd_proxy_options"));
    struct bytes word;

    *is_whole_r = false;
    while ((word = bytes_word(&rest, " \t\r\n,")).n > 0) {
        if (!bytes_ieq(word, BYTES("speed_adjust")))
            return error_new(ERROR_CONF, "unknown smtpd_proxy_options value \"%.*s\"", BYTES_FMT(word));
        *is_whole_r = true;
    }
    return NULL;
}

struct error *proxy_open(const void *ctx, const struct conf *conf, const char *endpoint, bool is_whole,
                         struct proxy **proxy_r)
{
    struct proxy *p = mem_new(ctx, struct proxy);

    p->ehlo = mem_strdup(p, conf_text(conf, "smtpd_proxy_ehlo"));
    p->timeout_ms = conf_time_ms(conf, "smtpd_proxy_timeout");
    p->is_whole = is_whole;
    p->pipelines = conf_bool(conf, "smtpd_proxy_pipelining");
    p->spool.dir = mem_printf(p, "%s/incoming", conf_text(conf, "queue_directory"));
    p->spool.memory_limit = conf_size(conf, "smtpd_spool_memory_limit");
    *proxy_r = p;
    return io_endpoint_parse(p, endpoint, conf_text(conf, "queue_directory"), &p->endpoint);
}

/* ---- streamed ---- */

static co_fn struct mail_reply stream_begin(struct mail_sink *sink, const struct mail_client *client,
                                            const struct mail_envelope *envelope)
{
    struct sink *s = (struct sink *)sink;

    s->talk.client = client;
    s->talk.envelope = envelope;
    return proxy_talk_open(&s->talk);
}

static co_fn struct mail_reply stream_recipient(struct mail_sink *sink, const struct mail_rcpt *rcpt)
{
    return proxy_talk_rcpt(&((struct sink *)sink)->talk, rcpt);
}

static co_fn struct mail_reply stream_content_begin(struct mail_sink *sink)
{
    return proxy_talk_data(&((struct sink *)sink)->talk);
}

static co_fn void stream_content(struct mail_sink *sink, struct bytes piece)
{
    proxy_talk_content(&((struct sink *)sink)->talk, piece);
}

/* "proxy-accept: END-OF-MESSAGE: 250 ...; from=<> to=<> proto= helo=<>", with the first recipient, as
 * Postfix. */
static void log_verdict(const struct proxy_talk *t, const struct mail_reply *r)
{
    const struct mail_envelope *e = t->envelope;
    struct mail_origin origin = mail_client_origin(t->client);
    void *ctx = talloc_new(NULL);

    log_info("%s: %s: END-OF-MESSAGE: %s; from=<%s> to=<%s> proto=%s helo=<%s>", e->id,
             r->code / 100 == 2 ? "proxy-accept" : "proxy-reject", mail_reply_log(ctx, r),
             mail_address_external(ctx, e->sender),
             e->rcpt_count ? mail_address_external(ctx, e->rcpts[0]->addr) : "", origin.proto,
             origin.helo ? origin.helo : "");
    talloc_free(ctx);
}

static co_fn struct mail_reply stream_commit(struct mail_sink *sink)
{
    struct sink *s = (struct sink *)sink;
    struct mail_reply r = proxy_talk_end(&s->talk);

    log_verdict(&s->talk, &r);
    return r;
}

static co_fn void stream_abort(struct mail_sink *sink)
{
    proxy_talk_leave(&((struct sink *)sink)->talk);
}

static const struct mail_sink_ops stream_ops = {
    "proxy",        stream_begin,  stream_recipient, stream_content_begin,
    stream_content, stream_commit, stream_abort,
};

/* ---- received whole, then replayed ---- */

static co_fn struct mail_reply whole_begin(struct mail_sink *sink, const struct mail_client *client,
                                           const struct mail_envelope *envelope)
{
    struct sink *s = (struct sink *)sink;

    s->talk.client = client;
    s->talk.envelope = envelope;
    return mail_reply_fixed(250, "2.1.0", "Ok");
}

static co_fn struct mail_reply whole_recipient(struct mail_sink *sink, const struct mail_rcpt *rcpt)
{
    return mail_reply_fixed(250, "2.1.5", "Ok");
}

static co_fn struct mail_reply whole_content_begin(struct mail_sink *sink)
{
    struct sink *s = (struct sink *)sink;

    s->spool = io_spool_new(s, &s->talk.proxy->spool);
    return mail_reply_fixed(354, "", "End data with <CR><LF>.<CR><LF>");
}

static void spool_trouble(struct sink *s, struct error **e)
{
    if (!s->is_spool_broken)
        log_warn("proxy speed-adjust log I/O error: %s; id=%s", (*e)->text, s->talk.envelope->id);
    s->is_spool_broken = true;
    error_free(e);
}

static co_fn void whole_content(struct mail_sink *sink, struct bytes piece)
{
    struct sink *s = (struct sink *)sink;
    struct error *e = s->is_spool_broken ? NULL : io_spool_write(s->spool, piece);

    if (e != NULL)
        spool_trouble(s, &e);
}

static co_fn struct mail_reply replay_envelope(struct sink *s)
{
    struct mail_reply r = proxy_talk_open(&s->talk);

    if (!mail_reply_is_ok(&r))
        return r;
    mail_reply_deinit(&r);
    return proxy_talk_rcpts_and_data(&s->talk);
}

static co_fn bool replay_content(struct sink *s)
{
    uint64_t at = 0;

    while (s->talk.is_in_content) {
        struct bytes piece;
        struct error *e = io_spool_read(s->spool, at, &piece);

        if (e != NULL) {
            spool_trouble(s, &e);
            return false;
        }
        if (piece.n == 0)
            break;
        proxy_talk_content(&s->talk, piece);
        at += piece.n;
    }
    return true;
}

static co_fn struct mail_reply whole_commit(struct mail_sink *sink)
{
    struct sink *s = (struct sink *)sink;
    struct mail_reply r = mail_reply_trouble();

    if (!s->is_spool_broken)
        r = replay_envelope(s);
    if (r.code / 100 == 3) {
        mail_reply_deinit(&r);
        r = replay_content(s) ? proxy_talk_end(&s->talk) : mail_reply_trouble();
    }
    proxy_talk_leave(&s->talk);
    log_verdict(&s->talk, &r);
    return r;
}

static const struct mail_sink_ops whole_ops = {
    "proxy (whole message)", whole_begin,  whole_recipient, whole_content_begin,
    whole_content,           whole_commit, stream_abort,
};

/* ---- */

static int destroy(struct sink *s)
{
    proxy_talk_deinit(&s->talk);
    return 0;
}

struct mail_sink *proxy_sink(void *ctx, struct proxy *proxy)
{
    struct sink *s = mem_new(ctx, struct sink);

    s->sink.ops = proxy->is_whole ? &whole_ops : &stream_ops;
    s->talk.proxy = proxy;
    talloc_set_destructor(s, destroy);
    return &s->sink;
}
