/*
 * The commands: which there are, and what must hold before one is carried out, whatever it says. Each has a
 * file of its own.
 */
#include "smtpd_session.h"

#include "log.h"
#include "mail_header.h"

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

const char *smtpd_command_name(enum smtpd_verb v)
{
    return commands[v].name;
}

const char *smtpd_command_stat(enum smtpd_verb v)
{
    return commands[v].stat;
}

enum smtpd_verb smtpd_command_verb(struct bytes word)
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

bool smtpd_command_is_out_of_step(struct smtpd_session *s, struct mail_reply *why_r)
{
    struct bytes early;

    if (!io_has_input(s->stream))
        return false;
    early = io_buffered(s->stream);
    if (!s->has_told_early)
        log_info("%s: improper command pipelining after %s from %s[%s]: %.*s", smtpd_log_id(s), s->where,
                 s->client->name, s->client->addr, (int)(early.n < 100 ? early.n : 100), early.p);
    s->has_told_early = true;
    if (!s->conf->forbids_pipelining)
        return false;
    s->leave = SMTPD_DISMISSED;
    *why_r = mail_reply_fixed(554, "5.5.0", "Error: SMTP protocol synchronization");
    return true;
}

static bool must_be_last(const struct smtpd_session *s, const struct command *c)
{
    return (c->flags & LAST) || strcmp(s->client->proto, "ESMTP") != 0;
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

co_fn struct mail_reply smtpd_command_run(struct smtpd_session *s, const struct smtp_line *line)
{
    const struct command *c = &commands[s->verb];
    struct mail_reply why;

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
    if (must_be_last(s, c) && smtpd_command_is_out_of_step(s, &why))
        return why;
    if (s->denied.code != 0 && !(c->flags & FREE))
        return mail_reply(503, "5.7.0", "Error: access denied for %s[%s]", s->client->name, s->client->addr);
    count_junk(s, c->flags);
    if (c->run == NULL)
        return mail_reply_fixed(502, "5.5.1", "Error: command not implemented");
    return c->run(s, line);
}
