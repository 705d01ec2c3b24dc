/* VRFY, RFC 5321 4.1.1.6, with the parameter of RFC 6531 3.7.4.2: the same checks as for RCPT, and no more
 * than they tell. */
#include "smtpd_session.h"

#include "mail_address.h"

struct mail_reply smtpd_cmd_vrfy(struct smtpd_session *s, const struct smtp_line *line)
{
    struct mail_rcpt rcpt = {0};
    struct mail_reply why;
    struct bytes rest;
    char *addr;
    bool has_utf8 = s->features & SMTP_SMTPUTF8;

    if (s->conf->is_vrfy_disabled)
        return mail_reply_fixed(502, "5.5.1", "VRFY command is disabled");
    if (s->client->helo == NULL && s->conf->is_helo_required)
        return mail_reply_fixed(503, "5.5.1", "Error: send HELO/EHLO first");
    if (line->rest.n == 0)
        return mail_reply(501, "5.5.4", "Syntax: VRFY address%s", has_utf8 ? " [SMTPUTF8]" : "");
    if (!mail_address_parse_path(s->command, line->rest, has_utf8, false, &addr, &rest) || addr[0] == '\0' ||
        (bytes_trim(rest).n > 0 && !(has_utf8 && bytes_ieq(bytes_trim(rest), BYTES("SMTPUTF8")))))
        return mail_reply_fixed(501, "5.1.3", "Bad recipient address syntax");
    rcpt.addr = addr;
    if (!smtpd_gate(s, MAIL_AT_VRFY, &rcpt, &why))
        return why;
    return mail_reply(252, "2.0.0", "%s", addr);
}
