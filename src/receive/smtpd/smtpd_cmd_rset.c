/* RSET, RFC 5321 4.1.1.5. */
#include "smtpd_session.h"

struct mail_reply smtpd_cmd_rset(struct smtpd_session *s, const struct smtp_line *line)
{
    if (line->rest.n > 0)
        return mail_reply_fixed(501, "5.5.4", "Syntax: RSET");
    smtpd_tx_end(s);
    return mail_reply_fixed(250, "2.0.0", "Ok");
}
