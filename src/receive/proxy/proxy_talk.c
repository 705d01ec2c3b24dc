/* The dialogue with the server behind the proxy. See proxy_talk.h. */
#include "proxy_talk.h"

#include "clock.h"
#include "log.h"
#include "mem.h"

#include <stdio.h>

/* ---- what went wrong, for the log and for the client ---- */

static void forget_connection(struct proxy_talk *t)
{
    t->awaited = NULL;
    t->awaited_count = 0;
    t->is_in_content = false;
}

static struct mail_reply trouble(struct proxy_talk *t)
{
    smtp_client_close(&t->server);
    forget_connection(t);
    return mail_reply_trouble();
}

static struct mail_reply lost(struct proxy_talk *t, const char *phase, uint64_t since, enum io_end end)
{
    const char *server = t->proxy->endpoint.text;
    unsigned long long ms = clock_ms() - since;

    if (end == IO_TIMEOUT)
        log_warn("timeout talking to proxy %s; id=%s phase=%s after=%llums", server, t->envelope->id, phase,
                 ms);
    else if (end == IO_FULL)
        log_warn("%s: response longer than %d; id=%s phase=%s after=%llums", server, SMTP_REPLY_LIMIT,
                 t->envelope->id, phase, ms);
    else
        log_warn("lost connection with proxy %s: %s; id=%s phase=%s after=%llums", server, io_end_text(end),
                 t->envelope->id, phase, ms);
    return trouble(t);
}

/* The server's reply as our client's. */
static struct mail_reply judge(struct proxy_talk *t, const struct proxy_await *a, bool is_last)
{
    struct smtp_reply *r = &t->server->reply;

    if (t->server->garbage != NULL)
        log_warn("received garbage from proxy %s: %s; id=%s phase=%s", t->proxy->endpoint.text,
                 t->server->garbage, t->envelope->id, a->phase);
    if (is_last && io_buffered(t->server->stream).n > 0) {
        log_warn("proxy %s speaks out of turn; id=%s phase=%s", t->proxy->endpoint.text, t->envelope->id,
                 a->phase);
        return trouble(t);
    }
    if (r->code / 100 == a->want)
        return mail_reply(r->code, "", "%s", r->text);
    log_warn("proxy %s rejected \"%.*s\": \"%d %s\"; id=%s phase=%s after=%llums", t->proxy->endpoint.text,
             BYTES_FMT(a->command), r->code, r->text, t->envelope->id, a->phase,
             (unsigned long long)(clock_ms() - a->since));
    if (r->code < 400)
        return trouble(t);
    return mail_reply(r->code, "", "%s", r->text);
}

static co_fn struct mail_reply settle_one(struct proxy_talk *t, const struct proxy_await *a, bool is_last,
                                          enum io_end end)
{
    struct mail_reply r = end == IO_OK ? judge(t, a, is_last) : lost(t, a->phase, a->since, end);

    if (!a->is_private || mail_reply_is_ok(&r))
        return r;
    mail_reply_deinit(&r);
    proxy_talk_leave(t);
    return mail_reply_trouble();
}

static co_fn struct mail_reply read_reply(struct proxy_talk *t, const struct proxy_await *a, bool is_last)
{
    return settle_one(t, a, is_last, smtp_client_read_reply(t->server, clock_ms() + t->proxy->timeout_ms));
}

/* ---- commands, one by one or in groups (RFC 2920) ---- */

/* Puts a command into the stream's buffer, and its reply on the list of those to come. */
static co_fn void send_command(struct proxy_talk *t, const char *phase, struct bytes line, int want,
                               bool is_private)
{
    uint64_t now = clock_ms();

    if (t->server == NULL)
        return;
    if (t->awaited == NULL)
        t->awaited = mem_array(t->server, struct proxy_await, PROXY_AWAITED);
    t->awaited[t->awaited_count++] = (struct proxy_await){phase, line, want, is_private, now};
    smtp_client_send(t->server, line, now + t->proxy->timeout_ms); /* how that ended, settle() learns */
}

/* What follows in the group was in vain, and nobody waits for the server's word on it. */
static co_fn void give_up(struct proxy_talk *t, const struct mail_reply *why)
{
    mail_reply_deinit(&t->failure);
    t->failure = mail_reply_copy(why);
    proxy_talk_leave(t);
}

/* Sends what has gathered and takes the replies: the last one, or the first that is not as wanted. A refusal
 * of the last command leaves the conversation as it was. */
static co_fn struct mail_reply settle(struct proxy_talk *t)
{
    size_t n = t->awaited_count;
    struct mail_reply r;
    enum io_end end;

    if (t->server == NULL)
        return t->failure.code != 0 ? mail_reply_copy(&t->failure) : mail_reply_trouble();
    end = io_flush(t->server->stream, clock_ms() + t->proxy->timeout_ms);
    if (end != IO_OK)
        return lost(t, t->awaited[0].phase, t->awaited[0].since, end);
    t->awaited_count = 0;
    for (size_t i = 0;; i++) {
        bool is_last = i + 1 == n;

        r = read_reply(t, &t->awaited[i], is_last);
        if (is_last || !mail_reply_is_ok(&r)) {
            if (!is_last && t->server != NULL)
                give_up(t, &r);
            return r;
        }
        mail_reply_deinit(&r);
    }
}

static co_fn struct mail_reply command(struct proxy_talk *t, const char *phase, struct bytes line, int want)
{
    send_command(t, phase, line, want, false);
    return settle(t);
}

/* Its reply is taken with a later one's; at once, when this server gets no groups. */
static co_fn struct mail_reply command_in_group(struct proxy_talk *t, const char *phase, struct bytes line,
                                                int want, bool is_private)
{
    send_command(t, phase, line, want, is_private);
    if (t->server == NULL || !t->pipelines || t->awaited_count == PROXY_AWAITED)
        return settle(t);
    return mail_reply_fixed(250, "", "");
}

/* ---- opening ---- */

static co_fn struct mail_reply greet(struct proxy_talk *t)
{
    struct proxy_await banner = {"greeting", BYTES("connection request"), 2, true, clock_ms()};
    uint64_t deadline = banner.since + t->proxy->timeout_ms;
    struct io_stream *stream;
    struct error *e = io_endpoint_connect(NULL, &t->proxy->endpoint, deadline, &stream);

    if (e != NULL) {
        log_warn("connect to proxy filter %s: %s; id=%s phase=connect after=%llums", t->proxy->endpoint.text,
                 e->text, t->envelope->id, (unsigned long long)(clock_ms() - banner.since));
        error_free(&e);
        return mail_reply_trouble();
    }
    t->server = smtp_client_new(NULL, stream, t->proxy->endpoint.text);
    return settle_one(t, &banner, true, smtp_client_greeting(t->server, deadline));
}

static co_fn struct mail_reply hello(struct proxy_talk *t)
{
    struct proxy_await ehlo = {"EHLO", BYTES("EHLO"), 2, true, clock_ms()};
    enum io_end end = smtp_client_ehlo(t->server, t->proxy->ehlo, ehlo.since + t->proxy->timeout_ms);

    t->pipelines = t->proxy->pipelines && (t->server->features & SMTP_PIPELINING);
    return settle_one(t, &ehlo, true, end);
}

static const char *known(const char *name)
{
    return strcmp(name, "unknown") == 0 ? NULL : name;
}

/* What an upstream told us goes on as it was told; else our own client. The id is always ours. */
static struct mail_forward forward_of(const struct proxy_talk *t)
{
    const struct mail_client *c = t->client;
    struct mail_forward f = {
        known(c->name), c->addr, c->port, c->helo, NULL, c->proto, c->is_local ? "LOCAL" : "REMOTE"};

    if (c->forward != NULL)
        f = *c->forward;
    if (f.source == NULL)
        f.source = c->is_local ? "LOCAL" : "REMOTE";
    f.ident = t->envelope->id;
    return f;
}

static co_fn struct mail_reply forward(struct proxy_talk *t)
{
    struct mail_reply r = mail_reply_fixed(250, "", "");
    struct mail_forward f = forward_of(t);
    struct buf lines = {0};
    struct bytes rest;

    if (t->server->xforward == 0)
        return r;
    smtp_xforward_format(&lines, &f, t->server->xforward);
    rest = buf_bytes(&lines);
    while (rest.n > 0 && mail_reply_is_ok(&r)) {
        struct bytes line = bytes_trim(bytes_cut(&rest, '\n'));

        mail_reply_deinit(&r);
        r = command_in_group(t, "XFORWARD", bytes(bytes_dup(t->server, line), line.n), 2, true);
    }
    buf_deinit(&lines);
    return r;
}

co_fn struct mail_reply proxy_talk_open(struct proxy_talk *t)
{
    static co_fn struct mail_reply (*const steps[])(struct proxy_talk *) = {greet, hello, forward};

    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
        struct mail_reply r = steps[i](t);

        if (!mail_reply_is_ok(&r))
            return r;
        mail_reply_deinit(&r);
    }
    return command_in_group(t, "MAIL", t->envelope->command, 2, false);
}

/* ---- recipients and content ---- */

co_fn struct mail_reply proxy_talk_rcpt(struct proxy_talk *t, const struct mail_rcpt *rcpt)
{
    return command(t, "RCPT", rcpt->command, 2);
}

co_fn struct mail_reply proxy_talk_data(struct proxy_talk *t)
{
    struct mail_reply r = command(t, "DATA", BYTES("DATA"), 3);

    t->is_in_content = r.code / 100 == 3;
    t->content_since = clock_ms();
    return r;
}

co_fn struct mail_reply proxy_talk_rcpts_and_data(struct proxy_talk *t)
{
    const struct mail_envelope *e = t->envelope;

    for (size_t i = 0; i < e->rcpt_count; i++) {
        struct mail_reply r = command_in_group(t, "RCPT", e->rcpts[i]->command, 2, false);

        if (!mail_reply_is_ok(&r))
            return r;
        mail_reply_deinit(&r);
    }
    return proxy_talk_data(t);
}

co_fn void proxy_talk_content(struct proxy_talk *t, struct bytes piece)
{
    enum io_end end;
    struct mail_reply r;

    if (!t->is_in_content)
        return;
    end = smtp_data_encode(&t->encoder, t->server->stream, piece, clock_ms() + t->proxy->timeout_ms);
    if (end == IO_OK)
        return;
    r = lost(t, "content", t->content_since, end);
    mail_reply_deinit(&r);
}

static co_fn enum io_end send_dot(struct proxy_talk *t)
{
    uint64_t deadline = clock_ms() + t->proxy->timeout_ms;
    enum io_end end = smtp_data_encode_end(&t->encoder, t->server->stream, deadline);

    t->is_in_content = false;
    return end == IO_OK ? io_flush(t->server->stream, deadline) : end;
}

co_fn struct mail_reply proxy_talk_end(struct proxy_talk *t)
{
    struct proxy_await dot = {"END-OF-MESSAGE", BYTES("."), 2, false, 0};
    struct mail_reply r;
    enum io_end end;

    if (!t->is_in_content)
        return mail_reply_trouble();
    if (io_has_input(t->server->stream)) { /* a verdict on what it has not seen */
        log_warn("proxy %s speaks before the end of data; id=%s phase=content", t->proxy->endpoint.text,
                 t->envelope->id);
        return trouble(t);
    }
    end = send_dot(t);
    if (end != IO_OK)
        return lost(t, "content", t->content_since, end);
    dot.since = clock_ms();
    r = read_reply(t, &dot, true);
    smtp_client_quit(&t->server);
    return r;
}

co_fn void proxy_talk_leave(struct proxy_talk *t)
{
    if (t->is_in_content)
        smtp_client_close(&t->server);
    else
        smtp_client_quit(&t->server);
    forget_connection(t);
}

void proxy_talk_deinit(struct proxy_talk *t)
{
    smtp_client_close(&t->server);
    mail_reply_deinit(&t->failure);
}
