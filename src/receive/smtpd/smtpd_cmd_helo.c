/* EHLO and HELO, RFC 5321 4.1.1.1. Both end a transaction (4.1.4). */
#include "smtpd_session.h"

#include "mem.h"

enum { HELO_LIMIT = 512 };

/* What the client calls itself, without what could break a log line or a header. */
static char *clean_name(struct smtpd_session *s, struct bytes name)
{
    char *text = bytes_dup(s, bytes(name.p, name.n < HELO_LIMIT ? name.n : HELO_LIMIT));

    for (char *p = text; *p; p++)
        if ((unsigned char)*p < 32 || *p == 127)
            *p = '?';
    return text;
}

/* What the client had said before holds when this is refused: it has not said hello anew. */
static co_fn bool begin(struct smtpd_session *s, const struct smtp_line *line, struct mail_reply *why_r)
{
    const char *helo = s->client->helo, *proto = s->client->proto;
    bool is_taken;

    s->client->helo = clean_name(s, line->rest);
    s->client->proto =
        "SMTP"; /* as long as the checks run, also for EHLO: a policy server sees it so (Postfix) */
    is_taken = smtpd_gate(s, MAIL_AT_HELO, NULL, why_r);
    talloc_free((void *)(uintptr_t)(is_taken ? helo : s->client->helo));
    if (is_taken) {
        smtpd_tx_end(s);
    } else {
        s->client->helo = helo;
        s->client->proto = proto;
    }
    return is_taken;
}

static co_fn unsigned discarded_for(struct smtpd_session *s)
{
    struct bytes unknown;
    char *value;

    if (s->conf->discard_maps.n == 0 ||
        table_maps_find(&s->conf->discard_maps, s->command, bytes_of(s->client->addr), &value) != TABLE_FOUND)
        return s->conf->discarded;
    return smtp_features_parse(bytes_of(value), &unknown);
}

/* RFC 5321 4.1.1.1, keywords in Postfix's order. */
static struct mail_reply features_reply(struct smtpd_session *s)
{
    struct buf text = {0};
    unsigned f = s->features;

    buf_adds(&text, s->conf->myhostname);
    if (f & SMTP_PIPELINING)
        buf_adds(&text, "\nPIPELINING");
    if (f & SMTP_SIZE)
        buf_adds(&text, "\nSIZE");
    if (f & SMTP_SIZE && s->conf->message_size_limit > 0) {
        buf_addc(&text, ' ');
        buf_addu(&text, s->conf->message_size_limit);
    }
    if (f & SMTP_VRFY)
        buf_adds(&text, "\nVRFY");
    if (f & SMTP_XFORWARD)
        buf_adds(&text, "\nXFORWARD NAME ADDR PROTO HELO SOURCE PORT IDENT RETRY");
    if (f & SMTP_ENHANCEDSTATUSCODES)
        buf_adds(&text, "\nENHANCEDSTATUSCODES");
    if (f & SMTP_8BITMIME)
        buf_adds(&text, "\n8BITMIME");
    if (f & SMTP_DSN)
        buf_adds(&text, "\nDSN");
    if (f & SMTP_SMTPUTF8)
        buf_adds(&text, "\nSMTPUTF8");
    if (f & SMTP_CHUNKING)
        buf_adds(&text, "\nCHUNKING");
    return mail_reply_take(250, "", &text);
}

struct mail_reply smtpd_cmd_ehlo(struct smtpd_session *s, const struct smtp_line *line)
{
    struct mail_reply why;

    if (line->rest.n == 0)
        return mail_reply_fixed(501, "", "Syntax: EHLO hostname");
    if (!begin(s, line, &why))
        return why;
    s->client->proto = "ESMTP";
    s->features = s->conf->features;
    if (smtpd_may_xforward(s))
        s->features |= SMTP_XFORWARD;
    s->features &= ~discarded_for(s);
    return features_reply(s);
}

struct mail_reply smtpd_cmd_helo(struct smtpd_session *s, const struct smtp_line *line)
{
    struct mail_reply why;

    if (line->rest.n == 0)
        return mail_reply_fixed(501, "", "Syntax: HELO hostname");
    if (!begin(s, line, &why))
        return why;
    return mail_reply_fixed(250, "", s->conf->myhostname);
}
