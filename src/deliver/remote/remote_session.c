/*
 * One conversation with one server: greeting, EHLO, XFORWARD, envelope, content, and what each recipient's
 * result is.
 *
 * With PIPELINING (RFC 2920) MAIL, the RCPTs and DATA leave in one write. When no recipient was taken, or
 * something breaks inside DATA, the connection is closed without an end of data, so that nothing is taken for
 * a message.
 */
#include "remote.h"

#include "clock.h"
#include "log.h"
#include "mem.h"

/* RCPTs that may be under way unanswered: their replies (4 KB at most in practice) fit into socket buffers.
 */
enum { WINDOW = 100, SMTP_PORT = 25 };

struct session {
    struct remote_delivery *d;
    const struct remote_agent *agent;
    const struct remote_host *host;
    struct smtp_client *client;
    char *peer;   /* "host[addr]" */
    char *relay;  /* "host[addr]:port" */
    size_t *todo; /* indexes of the recipients to try here */
    size_t n;
    bool *is_taken; /* of todo: RCPT was answered with 2xx */
    size_t taken;
    uint64_t connected_us;
};

/* ---- results ---- */

static enum deliver_status status_of(const struct smtp_client *c)
{
    return c->reply.code / 100 == 5 ? DELIVER_BOUNCED : DELIVER_DEFERRED;
}

static void give(struct session *s, size_t i, const struct deliver_result *result, bool is_final)
{
    struct deliver_result *to = &s->d->results[s->todo[i]];

    *to = *result;
    to->text = mem_strdup(s->d->ctx, result->text);
    to->connected_us = s->connected_us;
    s->d->is_final[s->todo[i]] = is_final;
    s->d->is_answered[s->todo[i]] = true;
}

/* The server as a whole failed: told for every recipient that gets no better answer elsewhere. */
static void site_failed(struct session *s, enum deliver_status status, const char *dsn, const char *text)
{
    struct deliver_result *site = &s->d->site;

    deliver_result_set(s->d->ctx, site, status, dsn, s->relay, "%s", text);
    site->is_site = true;
    log_debug("%s: %s", s->d->request->envelope->id, text);
}

static void lost(struct session *s, enum io_end end, const char *while_doing)
{
    const char *text;

    if (end == IO_TIMEOUT)
        text = mem_printf(s->d->ctx, "conversation with %s timed out while %s", s->peer, while_doing);
    else
        text = mem_printf(s->d->ctx, "lost connection with %s while %s", s->peer, while_doing);
    site_failed(s, DELIVER_DEFERRED, "4.4.2", text);
}

/* The reply as the result of recipient i, or of all that were taken so far (i == SIZE_MAX). */
static void reply_failed(struct session *s, size_t i, const char *command)
{
    struct deliver_result result = {
        .status = status_of(s->client), .relay = s->relay, .remote = s->host->name};
    size_t at;

    remote_reply_dsn(s->client, result.dsn);
    if (result.dsn[0] == '2') /* "yes" to DATA */
        snprintf(result.dsn, sizeof(result.dsn), "4.5.0");
    result.text = mem_printf(s->d->ctx, "host %s said: %s (in reply to %s)", s->peer,
                             remote_reply_text(s->d->ctx, s->client), command);
    for (at = 0; at < s->n; at++) {
        if (at == i || (i == SIZE_MAX && !s->d->is_final[s->todo[at]]))
            give(s, at, &result, result.status == DELIVER_BOUNCED);
    }
}

static void all_failed(struct session *s, enum deliver_status status, const char *dsn, const char *text)
{
    struct deliver_result result = {.status = status, .relay = s->relay, .text = (char *)text};
    size_t at;

    snprintf(result.dsn, sizeof(result.dsn), "%s", dsn);
    for (at = 0; at < s->n; at++) {
        if (!s->d->is_final[s->todo[at]])
            give(s, at, &result, status == DELIVER_BOUNCED);
    }
}

/* ---- greeting and EHLO ---- */

static bool refused(struct session *s)
{
    char *text = mem_printf(s->d->ctx, "host %s refused to talk to me: %s", s->peer,
                            remote_reply_text(s->d->ctx, s->client));
    char dsn[12];

    remote_reply_dsn(s->client, dsn);
    if (s->client->reply.code / 100 == 5 && !s->agent->skips_5xx_greeting) {
        all_failed(s, DELIVER_BOUNCED, dsn, text);
    } else {
        dsn[0] = '4';
        site_failed(s, DELIVER_DEFERRED, dsn, text);
    }
    return false;
}

static bool greets_as_me(const struct session *s)
{
    struct bytes rest = bytes_of(s->client->reply.text);

    return io_address_port(&s->host->address) == SMTP_PORT &&
           bytes_ieq(bytes_word(&rest, " \n"), bytes_of(s->agent->myhostname));
}

static co_fn bool greet(struct session *s)
{
    enum io_end end = smtp_client_greeting(s->client, clock_ms() + s->agent->helo_ms);

    if (end != IO_OK) {
        lost(s, end, "receiving the initial server greeting");
        return false;
    }
    if (s->client->reply.code / 100 != 2)
        return refused(s);
    if (greets_as_me(s)) {
        site_failed(s, DELIVER_BOUNCED, "5.4.6",
                    mem_printf(s->d->ctx, "mail for %s loops back to myself", s->d->request->nexthop));
        return false;
    }
    return true;
}

static co_fn bool ehlo(struct session *s)
{
    enum io_end end = smtp_client_ehlo(s->client, s->agent->helo_name, clock_ms() + s->agent->helo_ms);

    if (end != IO_OK) {
        lost(s, end, "performing the EHLO handshake");
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
        lost(s, end, "performing the HELO handshake");
        return false;
    }
    return s->client->reply.code / 100 == 2 ? true : refused(s);
}

/* ---- XFORWARD ---- */

static co_fn bool xforward(struct session *s)
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
        lost(s, end, "sending XFORWARD");
    return end == IO_OK;
}

/* ---- commands ---- */

static co_fn enum io_end send_mail(struct session *s)
{
    struct buf line = {0};
    enum io_end end;

    remote_format_mail(&line, s->d->request->envelope, s->client->features);
    end = smtp_client_send(s->client, buf_bytes(&line), clock_ms() + s->agent->mail_ms);
    buf_deinit(&line);
    return end;
}

static co_fn enum io_end send_rcpt(struct session *s, size_t i)
{
    struct buf line = {0};
    enum io_end end;

    remote_format_rcpt(&line, s->d->request->rcpts[s->todo[i]], s->client->features);
    end = smtp_client_send(s->client, buf_bytes(&line), clock_ms() + s->agent->rcpt_ms);
    buf_deinit(&line);
    return end;
}

static co_fn enum io_end flush(struct session *s)
{
    return io_flush(s->client->stream, clock_ms() + s->agent->mail_ms);
}

static co_fn enum io_end read_mail(struct session *s, bool *is_ok_r)
{
    enum io_end end = smtp_client_read_reply(s->client, clock_ms() + s->agent->mail_ms);

    *is_ok_r = end == IO_OK && s->client->reply.code / 100 == 2;
    if (end == IO_OK && !*is_ok_r)
        reply_failed(s, SIZE_MAX, "MAIL FROM command");
    return end;
}

static co_fn enum io_end read_rcpt(struct session *s, size_t i, bool mail_is_ok)
{
    enum io_end end = smtp_client_read_reply(s->client, clock_ms() + s->agent->rcpt_ms);

    if (end != IO_OK || !mail_is_ok)
        return end;
    s->is_taken[i] = s->client->reply.code / 100 == 2;
    if (s->is_taken[i])
        s->taken++;
    else
        reply_failed(s, i, "RCPT TO command");
    return end;
}

/* The reply to DATA as the result of those that were taken. */
static void data_failed(struct session *s, const char *command)
{
    size_t i;

    for (i = 0; i < s->n; i++) {
        if (s->is_taken[i])
            reply_failed(s, i, command);
    }
}

enum envelope_end { ENVELOPE_READY, ENVELOPE_DONE, ENVELOPE_BROKEN };

/* ---- envelope, one command at a time ---- */

static co_fn enum envelope_end envelope_stepwise(struct session *s)
{
    bool is_ok = false;
    enum io_end end = send_mail(s);
    size_t i;

    if (end == IO_OK)
        end = flush(s);
    if (end == IO_OK)
        end = read_mail(s, &is_ok);
    if (end != IO_OK) {
        lost(s, end, "sending MAIL FROM");
        return ENVELOPE_BROKEN;
    }
    for (i = 0; is_ok && i < s->n && end == IO_OK; i++) {
        end = send_rcpt(s, i);
        if (end == IO_OK)
            end = flush(s);
        if (end == IO_OK)
            end = read_rcpt(s, i, true);
    }
    if (end != IO_OK) {
        lost(s, end, "sending RCPT TO");
        return ENVELOPE_BROKEN;
    }
    if (s->taken == 0)
        return ENVELOPE_DONE;
    end = smtp_client_command(s->client, BYTES("DATA"), clock_ms() + s->agent->data_init_ms);
    if (end != IO_OK) {
        lost(s, end, "sending DATA command");
        return ENVELOPE_BROKEN;
    }
    if (s->client->reply.code / 100 == 3)
        return ENVELOPE_READY;
    data_failed(s, "DATA command");
    return ENVELOPE_DONE;
}

/* ---- envelope, pipelined ---- */

/* RCPTs [from, to), and DATA after the last one, in one write; then their replies. */
static co_fn enum io_end pipeline_window(struct session *s, size_t from, size_t to, bool *mail_is_ok)
{
    enum io_end end = from == 0 ? send_mail(s) : IO_OK;
    size_t i;

    for (i = from; end == IO_OK && i < to; i++)
        end = send_rcpt(s, i);
    if (end == IO_OK && to == s->n)
        end = smtp_client_send(s->client, BYTES("DATA"), clock_ms() + s->agent->data_init_ms);
    if (end == IO_OK)
        end = flush(s);
    if (end == IO_OK && from == 0)
        end = read_mail(s, mail_is_ok);
    for (i = from; end == IO_OK && i < to; i++)
        end = read_rcpt(s, i, *mail_is_ok);
    return end;
}

static co_fn enum envelope_end envelope_pipelined(struct session *s)
{
    bool mail_is_ok = false;
    enum io_end end = IO_OK;
    size_t from = 0, to = 0;

    while (end == IO_OK && to < s->n && (from == 0 || mail_is_ok)) {
        to = s->n - from > WINDOW ? from + WINDOW : s->n;
        end = pipeline_window(s, from, to, &mail_is_ok);
        from = to;
    }
    if (end != IO_OK) {
        lost(s, end, mail_is_ok ? "sending RCPT TO" : "sending MAIL FROM");
        return ENVELOPE_BROKEN;
    }
    if (to < s->n)
        return ENVELOPE_DONE; /* MAIL was refused, DATA not sent */
    end = smtp_client_read_reply(s->client, clock_ms() + s->agent->data_init_ms);
    if (end != IO_OK) {
        lost(s, end, "sending DATA command");
        return ENVELOPE_BROKEN;
    }
    if (s->client->reply.code / 100 == 3)
        return s->taken > 0 ? ENVELOPE_READY : ENVELOPE_BROKEN;
    data_failed(s, "DATA command");
    return ENVELOPE_DONE;
}

/* ---- content ---- */

/* Whether the message arrived is not known: it is tried again later, not at another server now. */
static void give_doubt(struct session *s, enum io_end end)
{
    size_t i;

    lost(s, end, "sending end of data -- message may be sent more than once");
    for (i = 0; i < s->n; i++) {
        if (s->is_taken[i])
            give(s, i, &s->d->site, true);
    }
}

static void give_sent(struct session *s)
{
    struct deliver_result result = {.status = DELIVER_SENT, .relay = s->relay, .remote = s->host->name};
    size_t i;

    remote_reply_dsn(s->client, result.dsn);
    result.text = remote_reply_text(s->d->ctx, s->client);
    for (i = 0; i < s->n; i++) {
        if (s->is_taken[i])
            give(s, i, &result, true);
    }
}

/* True: the conversation is in good order, QUIT may follow. */
static co_fn bool send_content(struct session *s)
{
    enum io_end end;
    struct error *e = remote_content_send(s->d, s->client->stream, &end);

    if (e != NULL) {
        log_warn("%s: %s", s->d->request->envelope->id, e->text);
        error_free(&e);
        all_failed(s, DELIVER_DEFERRED, "4.3.0", "cannot read the message");
        return false;
    }
    if (end != IO_OK) {
        lost(s, end, "sending message body");
        return false;
    }
    end = smtp_client_read_reply(s->client, clock_ms() + s->agent->data_done_ms);
    if (end != IO_OK) {
        give_doubt(s, end);
        return false;
    }
    if (s->client->reply.code / 100 == 2)
        give_sent(s);
    else
        data_failed(s, "end of DATA command");
    return true;
}

/* ---- the whole ---- */

static bool fits(struct session *s)
{
    const struct queue_envelope *env = s->d->request->envelope;
    const struct smtp_client *c = s->client;

    if ((c->features & SMTP_SIZE) && c->size_limit != 0 && env->content_size > c->size_limit) {
        all_failed(s, DELIVER_BOUNCED, "5.3.4",
                   mem_printf(s->d->ctx, "message size %llu exceeds size limit %llu of server %s",
                              (unsigned long long)env->content_size, (unsigned long long)c->size_limit,
                              s->peer));
        return false;
    }
    if (env->smtputf8 && !(c->features & SMTP_SMTPUTF8) && remote_content_needs_utf8(s->d->request)) {
        all_failed(s, DELIVER_BOUNCED, "5.6.7",
                   mem_printf(s->d->ctx, "SMTPUTF8 is required, but was not offered by host %s", s->peer));
        return false;
    }
    return true;
}

/* True: end with QUIT. */
static co_fn bool converse(struct session *s)
{
    enum envelope_end end;

    if (!greet(s) || !ehlo(s) || !xforward(s))
        return false;
    s->connected_us = clock_real_us();
    if (!fits(s))
        return true;
    end = s->client->features & SMTP_PIPELINING ? envelope_pipelined(s) : envelope_stepwise(s);
    if (end == ENVELOPE_READY)
        return send_content(s);
    return end == ENVELOPE_DONE;
}

static void choose_rcpts(struct session *s)
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
    struct session s = {.d = d, .agent = d->agent, .host = host};
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
