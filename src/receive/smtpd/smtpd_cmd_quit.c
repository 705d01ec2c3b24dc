/* QUIT, RFC 5321 4.1.1.10. */
#include "smtpd_session.h"

struct mail_reply smtpd_cmd_quit(struct smtpd_session *s, const struct smtp_line *line)
{
    s->leave = SMTPD_QUITS;
    return mail_reply_fixed(221, "2.0.0", "Bye");
}
