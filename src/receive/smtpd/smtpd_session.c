/*
 * The session loop: greets, reads a command, has it carried out, sends the reply; and the only place that
 * sends one.
 *
 * Replies gather while further commands are already in the buffer (RFC 2920), so a pipelined burst is
 * answered by one write. Errors are counted here, delays and dismissals happen here, and the log learns here
 * how the session ended.
 */
#include "smtpd_session.h"

#include "clock.h"
#include "log.h"
#include "mem.h"

enum {
    IDLE_MS = 1000,
    SESSION_ROOM = 384, /* states of hooks, the commands' memory, a name from HELO */
};

/* ---- for the log ---- */

const char *smtpd_log_id(struct smtpd_session *s)
{
    if (s->tx != NULL)
        return s->tx->envelope.id;
    if (s->next_id[0] == '\0')
        mail_id_new(s->next_id);
    return s->next_id;
}

char *smtpd_client_text(struct smtpd_session *s)
{
    return mem_printf(s->command, "%s[%s]", s->client->name, s->client->addr);
}

static void add_good(struct buf *text, unsigned good, unsigned all)
{
    buf_addc(text, '=');
    buf_addu(text, good);
    if (good == all)
        return;
    buf_addc(text, '/');
    buf_addu(text, all);
}

/* "ehlo=1 mail=1 rcpt=0/2 commands=2/4": good of all, only the verbs that were used. */
static void log_disconnect(struct smtpd_session *s)
{
    struct buf *text = &s->wire; /* no reply follows */
    unsigned ok = 0, total = 0;

    buf_cut(text, 0);
    for (int v = 0; v < SMTPD_VERBS; v++) {
        if (s->total[v] == 0)
            continue;
        ok += s->ok[v];
        total += s->total[v];
        buf_addc(text, ' ');
        buf_adds(text, smtpd_command_stat((enum smtpd_verb)v));
        add_good(text, s->ok[v], s->total[v]);
    }
    buf_adds(text, " commands");
    add_good(text, ok, total);
    log_info("disconnect from %s[%s]%s", s->client->name, s->client->addr, buf_text(text));
}

/* A client that leaves after a completed message did what it came for: nothing to report. */
static void log_leave(struct smtpd_session *s, const char *what)
{
    if (s->leave == SMTPD_LOST && strcmp(s->where, "END-OF-MESSAGE") == 0)
        return;
    if (s->where_bytes > 0)
        log_info("%s: %s after %s (%llu bytes) from %s[%s]", smtpd_log_id(s), what, s->where,
                 (unsigned long long)s->where_bytes, s->client->name, s->client->addr);
    else
        log_info("%s: %s after %s from %s[%s]", smtpd_log_id(s), what, s->where, s->client->name,
                 s->client->addr);
}

/* ---- replies ---- */

/* soft_bounce: "no" becomes "not now", in the code and in the enhanced code, whoever said it. */
static void soften(struct mail_reply *r)
{
    struct mail_reply soft;

    if (r->code < 500 || r->code == 521)
        return;
    if (r->dsn[0] == '5')
        r->dsn[0] = '4';
    r->code -= 100;
    if (r->dsn[0] != '\0' || r->text[0] != '5')
        return;
    soft = mail_reply(r->code, "", "4%s", r->text + 1);
    mail_reply_deinit(r);
    *r = soft;
}

co_fn bool smtpd_send(struct smtpd_session *s, struct mail_reply *r)
{
    enum io_end end;

    if (r->code == 0)
        return true;
    if (s->conf->is_soft_bounce)
        soften(r);
    if (s->errors >= s->conf->soft_error_limit)
        co_sleep(clock_ms() + s->conf->error_sleep_ms, "its turn after too many errors");
    buf_cut(&s->wire, 0);
    smtp_reply_format(&s->wire, r);
    end = io_write(s->stream, buf_bytes(&s->wire), clock_ms() + s->conf->timeout_ms);
    if (r->code == 421 || r->code == 521)
        s->leave = SMTPD_DISMISSED;
    mail_reply_deinit(r);
    if (end != IO_OK)
        smtpd_stream_ended(s, end);
    return end == IO_OK;
}

static co_fn bool flush(struct smtpd_session *s, enum io_end (*how)(struct io_stream *, uint64_t))
{
    enum io_end end = how(s->stream, clock_ms() + s->conf->timeout_ms);

    if (end != IO_OK)
        smtpd_stream_ended(s, end);
    return end == IO_OK;
}

co_fn bool smtpd_flush(struct smtpd_session *s)
{
    return flush(s, io_flush);
}

void smtpd_stream_ended(struct smtpd_session *s, enum io_end end)
{
    s->leave = end == IO_TIMEOUT ? SMTPD_TIMED_OUT : end == IO_CANCELLED ? SMTPD_DISMISSED : SMTPD_LOST;
}

/* A last word to a client that is sent away; it may be gone, and we do not wait long for it. */
static co_fn void send_last(struct smtpd_session *s, int code, const char *dsn, const char *text)
{
    struct mail_reply r = mail_reply(code, dsn, "%s %s", s->conf->myhostname, text);
    enum smtpd_leave leave = s->leave;

    co_shield(true);
    if (smtpd_send(s, &r))
        io_flush(s->stream, clock_ms() + 1000);
    co_shield(false);
    s->leave = leave;
}

/* ---- the loop ---- */

/* Postfix takes away all CRs before the LF, too. */
static struct bytes without_end(struct bytes text)
{
    while (text.n > 0 && text.p[text.n - 1] == '\r')
        text.n--;
    return text;
}

static co_fn void one_command(struct smtpd_session *s, struct bytes text)
{
    struct smtp_line line = smtp_line_parse(without_end(text));
    struct mail_reply r;
    bool is_good;

    s->verb = smtpd_command_verb(line.verb);
    s->where = smtpd_command_name(s->verb);
    s->where_bytes = 0;
    r = smtpd_command_run(s, &line);
    is_good = mail_reply_is_ok(&r);
    s->total[s->verb]++;
    s->ok[s->verb] += is_good;
    if (!is_good && r.code != 0)
        s->errors++;
    if (s->leave == SMTPD_STAYS || s->leave == SMTPD_QUITS || s->leave == SMTPD_DISMISSED)
        smtpd_send(s, &r);
    mail_reply_deinit(&r);
    talloc_free_children(s->command);
}

/* A client that lets us wait will go on doing so: what its session does not need meanwhile goes back to the
 * system. */
static co_fn enum io_end await_command(struct smtpd_session *s, uint64_t deadline)
{
    enum io_end end = smtp_await_line(s->stream, s->conf->line_length_limit, deadline);

    if (end != IO_TIMEOUT)
        return end;
    smtpd_receipt_settle_silent(s);
    buf_deinit(&s->wire);
    if (s->content.n == 0)
        buf_deinit(&s->content);
    co_trim_stack();
    return IO_OK;
}

/* Between two chunks the clock of the content goes on. */
static uint64_t command_deadline(const struct smtpd_session *s, uint64_t now)
{
    uint64_t own = now + s->conf->timeout_ms, content;

    if (s->tx == NULL || !s->tx->is_content_begun)
        return own;
    content = smtpd_content_deadline(s, s->tx->content_since, s->tx->content_size);
    return content < own ? content : own;
}

static co_fn enum io_end read_command(struct smtpd_session *s, struct bytes *line_r, bool *bare_lf_r)
{
    uint64_t now = clock_ms(), deadline = command_deadline(s, now);
    enum io_end end = IO_OK;

    if (bytes_chr(io_buffered(s->stream), '\n') == SIZE_MAX && !smtpd_flush(s))
        return IO_RESET;
    if (deadline > now + IDLE_MS)
        end = await_command(s, now + IDLE_MS);
    if (end != IO_OK && end != IO_FULL)
        return end;
    return smtp_read_line(s->stream, s->conf->line_length_limit, deadline, line_r, bare_lf_r);
}

static co_fn bool allows_bare_lf(struct smtpd_session *s)
{
    return s->conf->bare_newline != SMTP_BARE_NEWLINE_REJECT ||
           table_list_has_host(s->conf->bare_newline_exclusions, s->client->name, s->client->addr) ==
               TABLE_FOUND;
}

static co_fn void too_long(struct smtpd_session *s)
{
    struct mail_reply r = mail_reply(500, "5.5.2", "%s Error: command too long", s->conf->myhostname);

    s->errors++;
    s->total[SMTPD_UNKNOWN]++;
    smtpd_send(s, &r);
}

static co_fn void take_command(struct smtpd_session *s)
{
    struct bytes line;
    bool bare_lf;
    enum io_end end = read_command(s, &line, &bare_lf);

    smtpd_receipt_settle(s, end);
    if (end == IO_FULL) {
        too_long(s);
    } else if (end != IO_OK) {
        if (s->leave == SMTPD_STAYS)
            smtpd_stream_ended(s, end);
    } else if (bare_lf && !allows_bare_lf(s)) {
        s->leave = SMTPD_DISMISSED;
        send_last(s, s->conf->bare_newline_code, "5.5.2", "Error: bare <LF> received");
    } else {
        one_command(s, line);
    }
    if (s->leave == SMTPD_STAYS && s->errors >= s->conf->hard_error_limit) {
        log_info("%s: too many errors after %s from %s[%s]", smtpd_log_id(s), s->where, s->client->name,
                 s->client->addr);
        s->leave = SMTPD_DISMISSED;
        send_last(s, 421, "4.7.0", "Error: too many errors");
    }
}

/* A denied client hears why in place of the greeting, and "access denied" from then on (Postfix). */
static co_fn void greet(struct smtpd_session *s)
{
    struct mail_reply r, why = {0};

    if (smtpd_command_is_out_of_step(s, &why)) {
        r = why;
    } else if (smtpd_gate_connect(s, &why)) {
        r = mail_reply_fixed(220, "", s->conf->banner);
    } else if (why.code == 0) {
        s->leave = SMTPD_HUNG_UP;
        r = why;
    } else {
        s->denied = mail_reply_copy(&why);
        r = why;
    }
    smtpd_send(s, &r);
    talloc_free_children(s->command);
}

static co_fn void say_goodbye(struct smtpd_session *s)
{
    switch (s->leave) {
    case SMTPD_LOST:
        log_leave(s, "lost connection");
        break;
    case SMTPD_TIMED_OUT:
        log_leave(s, "timeout");
        send_last(s, 421, "4.4.2", "Error: timeout exceeded");
        break;
    case SMTPD_DISMISSED:
        if (co_is_cancelled())
            send_last(s, 421, "4.3.2", "Service shutting down");
        io_flush(s->stream, clock_ms() + 1000);
        break;
    case SMTPD_QUITS:
        flush(s, io_flush_end);
        break;
    default:
        break;
    }
}

co_fn void smtpd_session_run(const struct smtpd_profile *profile, struct io_stream *stream,
                             struct mail_client *client)
{
    struct smtpd_session *s = mem_new_with_room(NULL, struct smtpd_session, SESSION_ROOM);

    s->profile = profile;
    s->conf = profile->conf;
    s->stream = talloc_steal(s, stream);
    io_expect_trickle(stream, true);
    s->client = client;
    s->client->proto = "SMTP";
    s->command = talloc_new(s);
    s->may_xforward = -1;
    s->features = s->conf->features & ~s->conf->discarded;
    s->where = "CONNECT";
    smtpd_presence_begin(s);
    log_info("connect from %s[%s]", client->name, client->addr);
    greet(s);
    while (s->leave == SMTPD_STAYS)
        take_command(s);
    smtpd_tx_end(s);
    say_goodbye(s);
    smtpd_receipt_settle(s, s->leave == SMTPD_LOST ? IO_RESET : IO_CLOSED);
    smtpd_gate_end(s);
    log_disconnect(s);
    mail_reply_deinit(&s->denied);
    buf_deinit(&s->wire);
    buf_deinit(&s->content);
    client->helo = NULL;
    client->forward = NULL;
    client->presence = NULL;
    talloc_free(s);
}
