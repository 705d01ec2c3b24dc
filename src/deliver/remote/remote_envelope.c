/*
 * MAIL, RCPT, DATA. With PIPELINING (RFC 2920) they leave in one write. When no recipient was taken, or
 * something breaks, no end of data is sent, so that nothing is taken for a message. See remote_session.h.
 */
#include "remote_session.h"

#include "clock.h"

/* RCPTs that may be under way unanswered: their replies (4 KB at most in practice) fit into socket buffers.
 */
enum { WINDOW = 100 };

/* ---- commands ---- */

static co_fn enum io_end send_mail(struct remote_session *s)
{
    struct buf line = {0};
    enum io_end end;

    remote_format_mail(&line, s->d->request->envelope, s->client->features);
    end = smtp_client_send(s->client, buf_bytes(&line), clock_ms() + s->agent->mail_ms);
    buf_deinit(&line);
    return end;
}

static co_fn enum io_end send_rcpt(struct remote_session *s, size_t i)
{
    struct buf line = {0};
    enum io_end end;

    remote_format_rcpt(&line, s->d->request->rcpts[s->todo[i]], s->client->features);
    end = smtp_client_send(s->client, buf_bytes(&line), clock_ms() + s->agent->rcpt_ms);
    buf_deinit(&line);
    return end;
}

static co_fn enum io_end flush(struct remote_session *s)
{
    return io_flush(s->client->stream, clock_ms() + s->agent->mail_ms);
}

static co_fn enum io_end read_mail(struct remote_session *s, bool *is_ok_r)
{
    enum io_end end = smtp_client_read_reply(s->client, clock_ms() + s->agent->mail_ms);

    *is_ok_r = end == IO_OK && s->client->reply.code / 100 == 2;
    if (end == IO_OK && !*is_ok_r)
        remote_reply_failed(s, SIZE_MAX, "MAIL FROM command");
    return end;
}

static co_fn enum io_end read_rcpt(struct remote_session *s, size_t i, bool mail_is_ok)
{
    enum io_end end = smtp_client_read_reply(s->client, clock_ms() + s->agent->rcpt_ms);

    if (end != IO_OK || !mail_is_ok)
        return end;
    s->is_taken[i] = s->client->reply.code / 100 == 2;
    if (s->is_taken[i])
        s->taken++;
    else
        remote_reply_failed(s, i, "RCPT TO command");
    return end;
}

/* ---- one command at a time ---- */

static co_fn enum remote_envelope_end envelope_stepwise(struct remote_session *s)
{
    bool is_ok = false;
    enum io_end end = send_mail(s);
    size_t i;

    if (end == IO_OK)
        end = flush(s);
    if (end == IO_OK)
        end = read_mail(s, &is_ok);
    if (end != IO_OK) {
        remote_lost(s, end, "sending MAIL FROM");
        return REMOTE_BROKEN;
    }
    for (i = 0; is_ok && i < s->n && end == IO_OK; i++) {
        end = send_rcpt(s, i);
        if (end == IO_OK)
            end = flush(s);
        if (end == IO_OK)
            end = read_rcpt(s, i, true);
    }
    if (end != IO_OK) {
        remote_lost(s, end, "sending RCPT TO");
        return REMOTE_BROKEN;
    }
    if (s->taken == 0)
        return REMOTE_DONE;
    end = smtp_client_command(s->client, BYTES("DATA"), clock_ms() + s->agent->data_init_ms);
    if (end != IO_OK) {
        remote_lost(s, end, "sending DATA command");
        return REMOTE_BROKEN;
    }
    if (s->client->reply.code / 100 == 3)
        return REMOTE_READY;
    remote_data_failed(s, "DATA command");
    return REMOTE_DONE;
}

/* ---- pipelined ---- */

/* RCPTs [from, to), and DATA after the last one, in one write; then their replies. */
static co_fn enum io_end pipeline_window(struct remote_session *s, size_t from, size_t to, bool *mail_is_ok)
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

static co_fn enum remote_envelope_end envelope_pipelined(struct remote_session *s)
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
        remote_lost(s, end, mail_is_ok ? "sending RCPT TO" : "sending MAIL FROM");
        return REMOTE_BROKEN;
    }
    if (to < s->n)
        return REMOTE_DONE; /* MAIL was refused, DATA not sent */
    end = smtp_client_read_reply(s->client, clock_ms() + s->agent->data_init_ms);
    if (end != IO_OK) {
        remote_lost(s, end, "sending DATA command");
        return REMOTE_BROKEN;
    }
    if (s->client->reply.code / 100 == 3)
        return s->taken > 0 ? REMOTE_READY : REMOTE_BROKEN;
    remote_data_failed(s, "DATA command");
    return REMOTE_DONE;
}

co_fn enum remote_envelope_end remote_envelope(struct remote_session *s)
{
    return s->client->features & SMTP_PIPELINING ? envelope_pipelined(s) : envelope_stepwise(s);
}
