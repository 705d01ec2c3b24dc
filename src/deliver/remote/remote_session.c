/*
 * One conversation with one server: greeting, EHLO, XFORWARD, envelope, content, and what each recipient's
 * result is. When something breaks inside DATA the connection is closed without an end of data.
 */
#include "remote_session.h"

#include "clock.h"
#include "log.h"
#include "mem.h"

enum { SMTP_PORT = 25 };

/* ---- greeting and EHLO ---- */

static bool refused(struct remote_session *s)
{
    char *text = mem_printf(s->d->ctx, "host %s refused to talk to me: %s", s->peer,
                            remote_reply_text(s->d->ctx, s->client));
    char dsn[12];

    remote_reply_dsn(s->client, dsn);
    if (s->client->reply.code / 100 == 5 && !s->agent->skips_5xx_greeting) {
        remote_all_failed(s, DELIVER_BOUNCED, dsn, text);
    } else {
        dsn[0] = '4';
        remote_site_failed(s, DELIVER_DEFERRED, dsn, text);
    }
    return false;
}

static bool greets_as_me(const struct remote_session *s)
{
    struct bytes rest = bytes_of(s->client->reply.text);

    return io_address_port(&s->host->address) == SMTP_PORT &&
           bytes_ieq(bytes_word(&rest, " \n"), bytes_of(s->agent->myhostname));
}

static co_fn bool greet(struct remote_session *s)
{
    enum io_end end = smtp_client_greeting(s->client, clock_ms() + s->agent->helo_ms);

    if (end != IO_OK) {
        remote_lost(s, end, "receiving the initial server greeting");
        return false;
    }
    if (s->client->reply.code / 100 != 2)
        return refused(s);
    if (greets_as_me(s)) {
        remote_site_failed(s, DELIVER_BOUNCED, "5.4.6",
                           mem_printf(s->d->ctx, "mail for %s loops back to myself", s->d->request->nexthop));
        return false;
    }
    return true;
}

static co_fn bool ehlo(struct remote_session *s)
{
    enum io_end end = smtp_client_ehlo(s->client, s->agent->helo_name, clock_ms() + s->agent->helo_ms);

    if (end != IO_OK) {
        remote_lost(s, end, "performing the EHLO handshake");
        return false;
    }
    s->client->features &= ~s->agent->discard;
    if (s->client->reply.code / 100 == 2)
        return true;
    if (s->client->reply.code == 421)
        return refused(s);
    s->client->features = 0;
    s->client->xforward = 0;
    end = smtp_client_helo(s->client, s->agent->helo_name, clock_ms() + s->agent->helo_ms);
    if (end != IO_OK) {
        remote_lost(s, end, "performing the HELO handshake");
        return false;
    }
    return s->client->reply.code / 100 == 2 ? true : refused(s);
}

/* ---- XFORWARD ---- */

static co_fn bool xforward(struct remote_session *s)
{
    const struct queue_envelope *env = s->d->request->envelope;
    struct mail_forward f = {.name = env->log_client_name,
                             .addr = env->log_client_addr,
                             .port = env->log_client_port,
                             .helo = env->log_helo,
                             .ident = env->id,
                             .proto = env->log_proto};
    uint64_t deadline = clock_ms() + s->agent->xforward_ms;
    struct buf lines = {0};
    enum io_end end;
    size_t i;

    if (!s->agent->sends_xforward || s->client->xforward == 0)
        return true;
    smtp_xforward_format(&lines, &f, s->client->xforward);
    end = io_write(s->client->stream, buf_bytes(&lines), deadline);
    if (end == IO_OK)
        end = io_flush(s->client->stream, deadline);
    for (i = 0; end == IO_OK && i < lines.n; i++) {
        if (lines.p[i] != '\n')
            continue;
        end = smtp_client_read_reply(s->client, deadline);
        if (end == IO_OK && s->client->reply.code / 100 != 2)
            log_warn("host %s said: %s (in reply to XFORWARD)", s->relay,
                     remote_reply_text(s->d->ctx, s->client));
    }
    buf_deinit(&lines);
    if (end != IO_OK)
        remote_lost(s, end, "sending XFORWARD");
    return end == IO_OK;
}

/* ---- content ---- */

/* True: the conversation is in good order, QUIT may follow. */
static co_fn bool send_content(struct remote_session *s)
{
    enum io_end end;
    struct error *e = remote_content_send(s->d, s->client->stream, &end);

    if (e != NULL) {
        log_warn("%s: %s", s->d->request->envelope->id, e->text);
        error_free(&e);
        remote_all_failed(s, DELIVER_DEFERRED, "4.3.0", "cannot read the message");
        return false;
    }
    if (end != IO_OK) {
        remote_lost(s, end, "sending message body");
        return false;
    }
    end = smtp_client_read_reply(s->client, clock_ms() + s->agent->data_done_ms);
    if (end != IO_OK) {
        remote_in_doubt(s, end);
        return false;
    }
    if (s->client->reply.code / 100 == 2)
        remote_sent(s);
    else
        remote_data_failed(s, "end of DATA command");
    return true;
}

/* ---- the whole ---- */

static bool fits(struct remote_session *s)
{
    const struct queue_envelope *env = s->d->request->envelope;
    const struct smtp_client *c = s->client;

    if ((c->features & SMTP_SIZE) && c->size_limit != 0 && env->content_size > c->size_limit) {
        remote_all_failed(s, DELIVER_BOUNCED, "5.3.4",
                          mem_printf(s->d->ctx, "message size %llu exceeds size limit %llu of server %s",
                                     (unsigned long long)env->content_size, (unsigned long long)c->size_limit,
                                     s->peer));
        return false;
    }
    if (env->smtputf8 && !(c->features & SMTP_SMTPUTF8) && remote_content_needs_utf8(s->d->request)) {
        remote_all_failed(
            s, DELIVER_BOUNCED, "5.6.7",
            mem_printf(s->d->ctx, "SMTPUTF8 is required, but was not offered by host %s", s->peer));
        return false;
    }
    return true;
}

/* True: end with QUIT. */
static co_fn bool converse(struct remote_session *s)
{
    enum remote_envelope_end end;

    if (!greet(s) || !ehlo(s) || !xforward(s))
        return false;
    s->connected_us = clock_real_us();
    if (!fits(s))
        return true;
    end = remote_envelope(s);
    if (end == REMOTE_READY)
        return send_content(s);
    return end == REMOTE_DONE;
}

static void choose_rcpts(struct remote_session *s)
{
    size_t i, count = s->d->request->rcpt_count;

    s->todo = mem_array(s->d->ctx, size_t, count);
    s->is_taken = mem_array(s->d->ctx, bool, count);
    for (i = 0; i < count; i++) {
        if (!s->d->is_final[i])
            s->todo[s->n++] = i;
    }
}

void remote_session(struct remote_delivery *d, const struct remote_host *host)
{
    struct remote_session s = {.d = d, .agent = d->agent, .host = host};
    char addr[46];

    s.peer = mem_printf(d->ctx, "%s[%s]", host->name, io_address_host(&host->address, addr));
    s.relay = mem_printf(d->ctx, "%s:%u", s.peer, io_address_port(&host->address));
    s.client = smtp_client_new(d->ctx, d->stream, s.relay);
    d->stream = NULL;
    choose_rcpts(&s);
    if (converse(&s))
        smtp_client_quit(&s.client);
    else
        smtp_client_close(&s.client);
}
