/* NOOP, RFC 5321 4.1.1.9, and HELP, 4.1.1.8. */
#include "smtpd_session.h"

struct mail_reply smtpd_cmd_noop(struct smtpd_session *s, const struct smtp_line *line)
{
    return mail_reply_fixed(250, "2.0.0", "Ok");
}

struct mail_reply smtpd_cmd_help(struct smtpd_session *s, const struct smtp_line *line)
{
    return mail_reply_fixed(214, "2.0.0", "Commands: EHLO HELO MAIL RCPT DATA BDAT RSET NOOP VRFY QUIT HELP");
}
