/* The proxy sink: opening, and messages that are streamed as the client sends them. See proxy.h. */
#include "proxy.h"

#include "clock.h"
#include "log.h"
#include "mail_address.h"
#include "mem.h"
#include "proxy_tx.h"

/* ---- opening ---- */

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

static void read_rules(struct proxy *p, const struct conf *conf)
{
    uint64_t connect_ms = conf_time_ms(conf, "smtpd_proxy_connect_timeout");

    p->timeout_ms = conf_time_ms(conf, "smtpd_proxy_timeout");
    p->rules.connect_ms = connect_ms < p->timeout_ms ? connect_ms : p->timeout_ms;
    p->rules.answer_ms = conf_time_ms(conf, "smtpd_proxy_greeting_timeout");
    p->rules.concurrency = (unsigned)conf_int(conf, "smtpd_proxy_endpoint_concurrency");
    p->rules.ejection_ms = conf_time_ms(conf, "smtpd_proxy_ejection_time");
    p->rules.ejection_limit_ms = conf_time_ms(conf, "smtpd_proxy_ejection_time_limit");
    p->rules.slow_start_ms = conf_time_ms(conf, "smtpd_proxy_slow_start_time");
    p->health_ms = conf_time_ms(conf, "smtpd_proxy_health_interval");
    p->resolve_ms = conf_time_ms(conf, "smtpd_proxy_resolve_interval");
    p->retry_ms = conf_time_ms(conf, "smtpd_proxy_retry_time");
    p->retry_limit = (unsigned)conf_int(conf, "smtpd_proxy_retry_limit");
    p->retries_after_dot = conf_bool(conf, "smtpd_proxy_retry_after_dot");
    p->reuses = conf_bool(conf, "smtpd_proxy_connection_reuse");
    p->reuse_limit = (unsigned)conf_int(conf, "smtpd_proxy_connection_reuse_limit");
    p->idle_ms = conf_time_ms(conf, "smtpd_proxy_connection_idle_time");
}

static int close_proxy(struct proxy *p)
{
    proxy_names_stop(p);
    proxy_keeper_stop(p);
    return 0;
}

void proxy_set_gate(struct proxy *proxy, struct proxy_gate *gate)
{
    proxy->gate = gate;
}

struct error *proxy_open(const void *ctx, const struct conf *conf, const char *endpoints, bool is_whole,
                         struct proxy **proxy_r)
{
    struct proxy *p = mem_new(ctx, struct proxy);

    talloc_set_destructor(p, close_proxy);
    p->ehlo = mem_strdup(p, conf_text(conf, "smtpd_proxy_ehlo"));
    p->ehlo_command = mem_printf(p, "EHLO %s", p->ehlo);
    p->is_whole = is_whole;
    p->opens_at_mail = !conf_bool(conf, "smtpd_delay_open_until_valid_rcpt");
    p->pipelines = conf_bool(conf, "smtpd_proxy_pipelining");
    p->chunks = conf_bool(conf, "smtpd_proxy_chunking");
    p->spool.dir = mem_printf(p, "%s/incoming", conf_text(conf, "queue_directory"));
    p->spool.memory_limit = conf_size(conf, "smtpd_spool_memory_limit");
    p->resolve = io_resolve;
    read_rules(p, conf);
    *proxy_r = p;
    return proxy_pool_open(p, endpoints, conf_text(conf, "queue_directory"));
}

void proxy_prepare(const char *path)
{
    proxy_shared_prepare(path);
}

void proxy_enter(unsigned worker)
{
    proxy_shared_enter(worker);
}

void proxy_forget(unsigned worker)
{
    proxy_shared_forget(worker);
}

/* ---- the log ---- */

void proxy_log_verdict(struct proxy_tx *tx, const struct mail_reply *r)
{
    const struct mail_envelope *e = tx->talk.envelope;
    struct mail_origin origin = mail_client_origin(tx->talk.client);
    struct buf text = {0};

    mail_reply_show(&text, r);
    buf_adds(&text, "; from=<");
    mail_address_quote(&text, e->sender);
    buf_adds(&text, "> to=<");
    if (e->rcpt_count > 0)
        mail_address_quote(&text, e->rcpts[0]->addr);
    log_info("%s: %s: END-OF-MESSAGE: %s> proto=%s helo=<%s>", e->id,
             r->code / 100 == 2 ? "proxy-accept" : "proxy-reject", buf_text(&text), origin.proto,
             origin.helo ? origin.helo : "");
    buf_deinit(&text);
}

void proxy_log_unreached(const struct proxy_tx *tx, uint64_t since)
{
    const char *trouble = proxy_pool_trouble(tx->talk.proxy);

    log_warn("connect to proxy filter: %s; id=%s phase=connect after=%llums",
             trouble[0] != '\0' ? trouble : "no endpoint has room", tx->talk.envelope->id,
             (unsigned long long)(clock_ms() - since));
}

/* ---- streamed ---- */

/* A client may declare any size: it weighs no more than this. */
enum { DECLARED_LIMIT = 16 << 20 };

static uint64_t declared(const struct mail_envelope *e)
{
    return e->size < DECLARED_LIMIT ? e->size : DECLARED_LIMIT;
}

/* Nothing was told to the client yet, so each endpoint may be asked, the one that is taken already first;
 * later failures are final. */
static co_fn struct mail_reply open_anywhere(struct proxy_tx *tx)
{
    struct proxy_talk *t = &tx->talk;
    struct mail_reply r = mail_reply_trouble();
    uint64_t since = clock_ms();
    struct proxy_need need = {.bytes = declared(t->envelope), .deadline = since + t->proxy->timeout_ms};

    for (size_t tries = 0; tries == 0 || tries < t->proxy->target_count || proxy_pool_is_pending(t->proxy);
         tries++) {
        if (t->target == NULL && !proxy_talk_take(t, &need)) {
            proxy_log_unreached(tx, since);
            break;
        }
        mail_reply_deinit(&r);
        r = proxy_talk_open(t);
        if ((t->fault != PROXY_UNREACHED && t->fault != PROXY_BLAMELESS) || t->has_begun)
            break;
        need.has_tried = true;
        proxy_talk_leave(t);
        proxy_talk_give(t);
    }
    return r;
}

/* What waits for the server's first word, which may show that a kept connection was dead all the time. */
static co_fn struct mail_reply first_step(struct proxy_tx *tx,
                                          co_fn struct mail_reply (*step)(struct proxy_talk *t,
                                                                          const struct mail_rcpt *rcpt),
                                          const struct mail_rcpt *rcpt)
{
    struct mail_reply r = step(&tx->talk, rcpt);

    if (!tx->talk.is_stale)
        return r;
    mail_reply_deinit(&r);
    r = open_anywhere(tx);
    if (!mail_reply_is_ok(&r))
        return r;
    mail_reply_deinit(&r);
    return step(&tx->talk, rcpt);
}

/* Its client waits for the answer to MAIL; else that comes with the first recipient's. */
static co_fn struct mail_reply settle_mail(struct proxy_talk *t, const struct mail_rcpt *none)
{
    return t->awaited_count > 0 ? proxy_settle(t) : mail_reply_fixed(250, "", "");
}

static co_fn struct mail_reply stream_begin(struct mail_sink *sink, const struct mail_client *client,
                                            const struct mail_envelope *envelope)
{
    struct proxy_tx *tx = (struct proxy_tx *)sink;
    struct mail_reply r;

    tx->talk.client = client;
    tx->talk.envelope = envelope;
    r = open_anywhere(tx);
    if (!tx->talk.proxy->opens_at_mail || !mail_reply_is_ok(&r))
        return r;
    mail_reply_deinit(&r);
    return first_step(tx, settle_mail, NULL);
}

static co_fn struct mail_reply stream_recipient(struct mail_sink *sink, const struct mail_rcpt *rcpt)
{
    return first_step((struct proxy_tx *)sink, proxy_talk_rcpt, rcpt);
}

static co_fn struct mail_reply stream_content_begin(struct mail_sink *sink)
{
    return proxy_talk_data(&((struct proxy_tx *)sink)->talk);
}

static co_fn void stream_content(struct mail_sink *sink, struct bytes piece)
{
    proxy_talk_content(&((struct proxy_tx *)sink)->talk, piece);
}

static co_fn struct mail_reply stream_commit(struct mail_sink *sink)
{
    struct proxy_tx *tx = (struct proxy_tx *)sink;
    struct mail_reply r = proxy_talk_end(&tx->talk);

    proxy_log_verdict(tx, &r);
    return r;
}

static co_fn void stream_abort(struct mail_sink *sink)
{
    proxy_talk_leave(&((struct proxy_tx *)sink)->talk);
}

static const struct mail_sink_ops stream_ops = {
    "proxy",        stream_begin,  stream_recipient, stream_content_begin,
    stream_content, stream_commit, stream_abort,
};

/* ---- */

static int destroy(struct proxy_tx *tx)
{
    proxy_talk_deinit(&tx->talk);
    return 0;
}

struct mail_sink *proxy_sink(void *ctx, struct proxy *proxy)
{
    struct proxy_tx *tx = mem_new(ctx, struct proxy_tx);

    tx->sink.ops = proxy->is_whole ? &proxy_whole_ops : &stream_ops;
    tx->talk.proxy = proxy;
    talloc_set_destructor(tx, destroy);
    return &tx->sink;
}
