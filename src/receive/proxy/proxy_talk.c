/* The dialogue with the server behind the proxy. See proxy_talk.h. */
#include "proxy_talk.h"

#include "clock.h"
#include "log.h"
#include "mem.h"

#include <stdio.h>

/* ---- what went wrong, for the log and for the client ---- */

static struct mail_reply trouble(struct proxy_talk *t)
{
    smtp_client_close(&t->server);
    t->is_in_content = false;
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

/* The server's reply as our client's; `want` is the first digit that goes on. */
static struct mail_reply judge(struct proxy_talk *t, const char *phase, struct bytes command, int want,
                               uint64_t since)
{
    struct smtp_reply *r = &t->server->reply;
    struct mail_reply passed;

    if (t->server->garbage != NULL)
        log_warn("received garbage from proxy %s: %s; id=%s phase=%s", t->proxy->endpoint.text,
                 t->server->garbage, t->envelope->id, phase);
    if (io_buffered(t->server->stream).n > 0) {
        log_warn("proxy %s speaks out of turn; id=%s phase=%s", t->proxy->endpoint.text, t->envelope->id,
                 phase);
        return trouble(t);
    }
    if (r->code / 100 == want)
        return mail_reply(r->code, "", "%s", r->text);
    log_warn("proxy %s rejected \"%.*s\": \"%d %s\"; id=%s phase=%s after=%llums", t->proxy->endpoint.text,
             BYTES_FMT(command), r->code, r->text, t->envelope->id, phase,
             (unsigned long long)(clock_ms() - since));
    if (r->code < 400)
        return trouble(t);
    passed = mail_reply(r->code, "", "%s", r->text);
    return passed;
}

static co_fn struct mail_reply command(struct proxy_talk *t, const char *phase, struct bytes line, int want)
{
    uint64_t since = clock_ms();
    enum io_end end;

    if (t->server == NULL)
        return mail_reply_trouble();
    end = smtp_client_command(t->server, line, since + t->proxy->timeout_ms);
    return end == IO_OK ? judge(t, phase, line, want, since) : lost(t, phase, since, end);
}

/* ---- opening ---- */

static co_fn struct mail_reply greet(struct proxy_talk *t)
{
    uint64_t since = clock_ms();
    struct io_stream *stream;
    struct error *e = io_endpoint_connect(NULL, &t->proxy->endpoint, since + t->proxy->timeout_ms, &stream);
    enum io_end end;

    if (e != NULL) {
        log_warn("connect to proxy filter %s: %s; id=%s phase=connect after=%llums", t->proxy->endpoint.text,
                 e->text, t->envelope->id, (unsigned long long)(clock_ms() - since));
        error_free(&e);
        return mail_reply_trouble();
    }
    t->server = smtp_client_new(NULL, stream, t->proxy->endpoint.text);
    end = smtp_client_greeting(t->server, since + t->proxy->timeout_ms);
    if (end != IO_OK)
        return lost(t, "greeting", since, end);
    return judge(t, "greeting", BYTES("connection request"), 2, since);
}

static co_fn struct mail_reply hello(struct proxy_talk *t)
{
    uint64_t since = clock_ms();
    enum io_end end = smtp_client_ehlo(t->server, t->proxy->ehlo, since + t->proxy->timeout_ms);

    return end == IO_OK ? judge(t, "EHLO", BYTES("EHLO"), 2, since) : lost(t, "EHLO", since, end);
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
        mail_reply_deinit(&r);
        r = command(t, "XFORWARD", bytes_trim(bytes_cut(&rest, '\n')), 2);
    }
    buf_deinit(&lines);
    return r;
}

/* Greeting, EHLO and XFORWARD are between us and the server: a refusal there is our trouble, not the
 * client's. */
static co_fn struct mail_reply privately(struct proxy_talk *t,
                                         co_fn struct mail_reply (*step)(struct proxy_talk *t))
{
    struct mail_reply r = step(t);

    if (mail_reply_is_ok(&r))
        return r;
    mail_reply_deinit(&r);
    proxy_talk_leave(t);
    return mail_reply_trouble();
}

co_fn struct mail_reply proxy_talk_open(struct proxy_talk *t)
{
    static co_fn struct mail_reply (*const steps[])(struct proxy_talk *) = {greet, hello, forward};

    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
        struct mail_reply r = privately(t, steps[i]);

        if (!mail_reply_is_ok(&r))
            return r;
        mail_reply_deinit(&r);
    }
    return command(t, "MAIL", t->envelope->command, 2);
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
    uint64_t since = clock_ms();
    struct mail_reply r;
    enum io_end end;

    if (!t->is_in_content)
        return mail_reply_trouble();
    if (io_has_input(
            t->server->stream)) { /* a verdict on what it has not seen, or the end of the connection */
        log_warn("proxy %s speaks before the end of data; id=%s phase=content", t->proxy->endpoint.text,
                 t->envelope->id);
        return trouble(t);
    }
    end = send_dot(t);
    if (end != IO_OK)
        return lost(t, "content", t->content_since, end);
    since = clock_ms();
    end = smtp_client_read_reply(t->server, since + t->proxy->timeout_ms);
    if (end != IO_OK)
        return lost(t, "END-OF-MESSAGE", since, end);
    r = judge(t, "END-OF-MESSAGE", BYTES("."), 2, since);
    smtp_client_quit(&t->server);
    return r;
}

co_fn void proxy_talk_leave(struct proxy_talk *t)
{
    if (t->is_in_content)
        smtp_client_close(&t->server);
    else
        smtp_client_quit(&t->server);
    t->is_in_content = false;
}
