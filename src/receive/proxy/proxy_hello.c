/* The beginning of a conversation: connect, greeting, EHLO, XFORWARD. See proxy_talk.h. */
#include "proxy_talk.h"

#include "clock.h"
#include "format.h"
#include "log.h"
#include "mem.h"

#include <string.h>

enum { RETRY_SIZE = 8, SHARE_MS = 1000 };

/* ---- connecting ---- */

/* How long the server is waited for, and how long it would be if the message had the time. */
struct patience {
    uint64_t until, due;
};

/* While another one is up, half of the message's time is left for that, as long as it is worth a try. */
static struct patience patience(const struct proxy_talk *t, uint64_t ms)
{
    uint64_t now = clock_ms(), left = UINT64_MAX;

    if (t->deadline != 0)
        left = t->deadline > now ? t->deadline - now : 0;
    if (left >= 2 * (uint64_t)SHARE_MS && proxy_pool_has_other(t->proxy, t->target))
        left /= 2;
    return (struct patience){now + (left < ms ? left : ms), now + ms};
}

/* Whose doing it was that it was not reached. */
static enum proxy_fault unreached(const struct patience *p)
{
    return p->until < p->due && clock_ms() >= p->until ? PROXY_BLAMELESS : PROXY_UNREACHED;
}

/* A session that is being ended says nothing about the server. */
static struct mail_reply not_connected(struct proxy_talk *t, const struct patience *p, const struct error *e)
{
    log_warn("connect to proxy filter %s: %s; id=%s phase=connect after=%llums", t->target->text, e->text,
             t->envelope->id, (unsigned long long)(clock_ms() - t->since));
    if (co_is_stopped())
        return proxy_trouble(t, PROXY_SENSELESS);
    return proxy_trouble(t, io_connect_had_no_means(e) ? PROXY_BLAMELESS : unreached(p));
}

static co_fn bool connect_to(struct proxy_talk *t, struct mail_reply *reply_r)
{
    struct patience p = patience(t, t->proxy->rules.connect_ms);
    struct io_stream *stream;
    struct error *e = io_connect(NULL, &t->target->address, p.until, &stream);

    if (e != NULL) {
        *reply_r = not_connected(t, &p, e);
        error_free(&e);
        return false;
    }
    t->server = smtp_client_new(NULL, stream, t->target->text);
    return true;
}

/* A server that lets its clients wait may be silent for long; when another one is up, it has no more than a
 * third of the time that a message has. */
static uint64_t greeting_ms(const struct proxy_talk *t)
{
    uint64_t most = t->proxy->timeout_ms / 3, ms = t->proxy->rules.answer_ms;

    return most < ms && proxy_pool_has_other(t->proxy, t->target) ? most : ms;
}

co_fn struct mail_reply proxy_greet(struct proxy_talk *t)
{
    const struct proxy_await banner = {PROXY_GREETING, BYTES("connection request")};
    struct patience p;
    struct mail_reply r;

    t->since = clock_ms();
    if (!connect_to(t, &r))
        return r;
    p = patience(t, greeting_ms(t));
    r = proxy_settle_one(t, &banner, true, smtp_client_greeting(t->server, p.until));
    if (mail_reply_is_ok(&r))
        proxy_note_greeted(t->target->entry, t->target->text);
    else if (t->fault == PROXY_LOST)
        t->fault = unreached(&p);
    return r;
}

/* ---- EHLO ---- */

static void remember(struct proxy_target *target, const struct smtp_client *server)
{
    struct proxy_memo *m = &target->memo;

    talloc_free(m->text);
    m->text = mem_strdup(target, server->reply.text);
    m->features = server->features;
    m->xforward = server->xforward;
    m->size_limit = server->size_limit;
    m->ignores_chunks = false;
}

static co_fn enum io_end ask_and_learn(struct proxy_talk *t)
{
    enum io_end end = smtp_client_ehlo(t->server, t->proxy->ehlo, proxy_until(t, t->since));

    if (end == IO_OK && t->server->reply.code / 100 == 2)
        remember(t->target, t->server);
    return end;
}

/*
 * An answer that is the last one's, byte for byte, is not parsed again. A server whose answer has changed is
 * asked once more (RFC 5321 4.1.4 allows it at any time), and one that changes it often is not remembered.
 */
static co_fn enum io_end ask(struct proxy_talk *t)
{
    enum { CHANGES_LIMIT = 4 };
    struct proxy_memo *m = &t->target->memo;
    enum io_end end;

    if (m->text == NULL || m->changes >= CHANGES_LIMIT)
        return ask_and_learn(t);
    end = smtp_client_command(t->server, bytes_of(t->proxy->ehlo_command), proxy_until(t, t->since));
    if (end != IO_OK || t->server->reply.code / 100 != 2)
        return end;
    if (strcmp(t->server->reply.text, m->text) != 0) {
        m->changes++;
        return ask_and_learn(t);
    }
    t->server->features = m->features;
    t->server->xforward = m->xforward;
    t->server->size_limit = m->size_limit;
    return end;
}

co_fn struct mail_reply proxy_hello(struct proxy_talk *t)
{
    const struct proxy_await ehlo = {PROXY_EHLO, BYTES("EHLO")};
    enum io_end end;

    t->since = clock_ms();
    end = ask(t);
    t->pipelines = t->proxy->pipelines && (t->server->features & SMTP_PIPELINING);
    return proxy_settle_one(t, &ehlo, true, end);
}

/* ---- XFORWARD ---- */

static const char *known(const char *name)
{
    return strcmp(name, "unknown") == 0 ? NULL : name;
}

/* Each copy has a greater number than those before it: ours count within the upstream's. */
static const char *retry_of(const struct proxy_talk *t, char text[RETRY_SIZE])
{
    enum { COPIES_LIMIT = 100 };
    unsigned copies = t->copies < COPIES_LIMIT ? t->copies : COPIES_LIMIT - 1;
    unsigned retry = mail_forward_retry(t->client->forward);

    if (t->proxy->is_whole)
        retry = retry * COPIES_LIMIT + copies;
    format_print(text, RETRY_SIZE, "%u", retry < MAIL_RETRY_LIMIT ? retry : MAIL_RETRY_LIMIT);
    return retry > 0 ? text : NULL;
}

/* What an upstream told us goes on as it was told; else our own client. The id is always ours. */
static struct mail_forward forward_of(const struct proxy_talk *t, char retry[RETRY_SIZE])
{
    const struct mail_client *c = t->client;
    struct mail_forward f = {
        known(c->name), c->addr, c->port, c->helo, NULL, c->proto, c->is_local ? "LOCAL" : "REMOTE", NULL};

    if (c->forward != NULL)
        f = *c->forward;
    if (f.source == NULL)
        f.source = c->is_local ? "LOCAL" : "REMOTE";
    f.ident = t->envelope->id;
    f.retry = retry_of(t, retry);
    return f;
}

co_fn struct mail_reply proxy_forward(struct proxy_talk *t)
{
    struct mail_reply r = mail_reply_fixed(250, "", "");
    char retry[RETRY_SIZE];
    struct mail_forward f = forward_of(t, retry);
    struct bytes rest;

    if (t->server->xforward == 0)
        return r;
    buf_cut(&t->forward, 0);
    smtp_xforward_format(&t->forward, &f, t->server->xforward);
    rest = buf_bytes(&t->forward);
    while (rest.n > 0 && mail_reply_is_ok(&r)) {
        mail_reply_deinit(&r);
        r = proxy_command_in_group(t, PROXY_XFORWARD, bytes_trim(bytes_cut(&rest, '\n')));
    }
    return r;
}
