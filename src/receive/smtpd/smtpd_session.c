/*
 * The session loop: greets, reads a command, has it carried out, sends the reply; and the only place that
 * sends one.
 *
 * Replies gather while further commands are already in the buffer (RFC 2920), so a pipelined burst is
 * answered by one write. Errors and junk commands are counted here, delays and dismissals happen here, and
 * the log learns here how the session ended.
 */
#include "smtpd_session.h"

#include "clock.h"
#include "log.h"
#include "mail_header.h"
#include "mem.h"

#include <stdio.h>

enum {
    IDLE_MS = 1000,
    SESSION_ROOM = 384, /* states of hooks, the commands' memory, a name from HELO */
};

enum command_flag {
    LAST = 1, /* RFC 2920 3.1: nothing may be sent after it before its reply */
    JUNK = 2, /* counts as junk: useful to nobody when repeated */
    FREE = 4, /* also when the client was denied access */
};

static const struct command {
    const char *name; /* in log lines and on the wire */
    const char *stat; /* in the disconnect line */
    struct mail_reply (*run)(struct smtpd_session *s, const struct smtp_line *line);
    int flags;
} commands[SMTPD_VERBS] = {
    [SMTPD_EHLO] = {"EHLO", "ehlo", smtpd_cmd_ehlo, LAST | JUNK},
    [SMTPD_HELO] = {"HELO", "helo", smtpd_cmd_helo, LAST | JUNK},
    [SMTPD_STARTTLS] = {"STARTTLS", "starttls", NULL, 0},
    [SMTPD_AUTH] = {"AUTH", "auth", smtpd_cmd_auth, 0},
    [SMTPD_XFORWARD] = {"XFORWARD", "xforward", smtpd_cmd_xforward, 0},
    [SMTPD_MAIL] = {"MAIL", "mail", smtpd_cmd_mail, 0},
    [SMTPD_RCPT] = {"RCPT", "rcpt", smtpd_cmd_rcpt, 0},
    [SMTPD_DATA] = {"DATA", "data", smtpd_cmd_data, LAST},
    [SMTPD_BDAT] = {"BDAT", "bdat", smtpd_cmd_bdat, 0},
    [SMTPD_RSET] = {"RSET", "rset", smtpd_cmd_rset, JUNK},
    [SMTPD_NOOP] = {"NOOP", "noop", smtpd_cmd_noop, JUNK | LAST | FREE},
    [SMTPD_VRFY] = {"VRFY", "vrfy", smtpd_cmd_vrfy, JUNK | LAST},
    [SMTPD_ETRN] = {"ETRN", "etrn", NULL, JUNK},
    [SMTPD_HELP] = {"HELP", "help", smtpd_cmd_help, JUNK | FREE},
    [SMTPD_QUIT] = {"QUIT", "quit", smtpd_cmd_quit, FREE},
    [SMTPD_UNKNOWN] = {"UNKNOWN", "unknown", NULL, 0},
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
        buf_adds(text, commands[v].stat);
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

/* ---- commands ---- */

static enum smtpd_verb verb_of(struct bytes word)
{
    for (int v = 0; v < SMTPD_UNKNOWN; v++)
        if (bytes_ieq(word, bytes_of(commands[v].name)))
            return (enum smtpd_verb)v;
    return SMTPD_UNKNOWN;
}

/* Not SMTP at all: HTTP, say (smtpd_forbidden_commands), or content where a command should be. Only asked
 * about verbs that we do not know. */
static co_fn bool is_forbidden(struct smtpd_session *s, const struct smtp_line *line)
{
    return mail_header_name(line->verb).n > 0 ||
           table_list_has(s->conf->forbidden_commands, line->verb) == TABLE_FOUND;
}

static co_fn struct mail_reply unknown_command(struct smtpd_session *s, const struct smtp_line *line)
{
    if (!is_forbidden(s, line))
        return mail_reply_fixed(500, "5.5.2", "Error: command not recognized");
    log_warn("non-SMTP command from %s[%s]: %.*s", s->client->name, s->client->addr,
             (int)(line->whole.n < 100 ? line->whole.n : 100), line->whole.p);
    s->leave = SMTPD_DISMISSED;
    return mail_reply_fixed(221, "2.7.0", "Error: I can break rules, too. Goodbye.");
}

/*
 * RFC 2920: a client that sends on without waiting where it must wait, for the greeting first of all, speaks
 * as if nobody listened. Enforced for all: a filter or a smuggler behind an honest client is the case this is
 * for.
 */
static bool breaks_pipelining(struct smtpd_session *s, int flags)
{
    struct bytes early;

    if (strcmp(s->client->proto, "ESMTP") == 0 && !(flags & LAST))
        return false;
    if (!io_has_input(s->stream))
        return false;
    early = io_buffered(s->stream);
    if (!s->has_told_early)
        log_info("%s: improper command pipelining after %s from %s[%s]: %.*s", smtpd_log_id(s), s->where,
                 s->client->name, s->client->addr, (int)(early.n < 100 ? early.n : 100), early.p);
    s->has_told_early = true;
    return s->conf->forbids_pipelining;
}

static struct mail_reply out_of_step(struct smtpd_session *s)
{
    s->leave = SMTPD_DISMISSED;
    return mail_reply_fixed(554, "5.5.0", "Error: SMTP protocol synchronization");
}

static void count_junk(struct smtpd_session *s, int flags)
{
    if ((flags & JUNK) && s->junk++ > s->conf->junk_command_limit)
        s->errors++;
}

/* A NUL ends a string for others, a CR a line. */
static bool has_control(const struct smtp_line *line)
{
    return bytes_chr(line->whole, '\0') != SIZE_MAX || bytes_chr(line->whole, '\r') != SIZE_MAX;
}

static co_fn struct mail_reply run_command(struct smtpd_session *s, const struct smtp_line *line)
{
    const struct command *c = &commands[s->verb];

    if (line->verb.n == 0 || has_control(line))
        return mail_reply_fixed(500, "5.5.2", "Error: bad syntax");
    if ((s->conf->features & SMTP_SMTPUTF8) && !bytes_is_utf8(line->whole))
        return mail_reply_fixed(500, "5.5.2", "Error: bad UTF-8 syntax");
    if (table_list_has(s->conf->noop_commands, line->verb) == TABLE_FOUND) {
        count_junk(s, JUNK);
        return mail_reply_fixed(250, "2.0.0", "Ok");
    }
    if (s->verb == SMTPD_UNKNOWN)
        return unknown_command(s, line);
    if (breaks_pipelining(s, c->flags))
        return out_of_step(s);
    if (s->denied.code != 0 && !(c->flags & FREE))
        return mail_reply(503, "5.7.0", "Error: access denied for %s[%s]", s->client->name, s->client->addr);
    count_junk(s, c->flags);
    if (c->run == NULL)
        return mail_reply_fixed(502, "5.5.1", "Error: command not implemented");
    return c->run(s, line);
}

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

    s->verb = verb_of(line.verb);
    s->where = commands[s->verb].name;
    s->where_bytes = 0;
    r = run_command(s, &line);
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

/* ---- the loop ---- */

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

    if (breaks_pipelining(s, LAST)) {
        r = out_of_step(s);
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
