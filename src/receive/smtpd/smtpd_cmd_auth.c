/* AUTH, RFC 4954, and Postfix's words of a server that authenticates nobody. */
#include "smtpd_session.h"

struct mail_reply smtpd_cmd_auth(struct smtpd_session *s, const struct smtp_line *line)
{
    return mail_reply_fixed(503, "5.5.1", "Error: authentication not enabled");
}
