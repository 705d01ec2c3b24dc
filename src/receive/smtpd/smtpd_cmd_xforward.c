/* XFORWARD: the original client, told by a server that we trust, for logs and queue files only. */
#include "smtpd_session.h"

#include "mem.h"

enum { FORWARD_ROOM = 512 }; /* its texts, unless one is very long */

co_fn bool smtpd_may_xforward(struct smtpd_session *s)
{
    if (s->may_xforward < 0)
        s->may_xforward =
            table_list_has_host(s->conf->xforward_hosts, s->client->name, s->client->addr) == TABLE_FOUND;
    return s->may_xforward;
}

/* The first one of a series presets every attribute to unknown; the series ends with the transaction. */
struct mail_reply smtpd_cmd_xforward(struct smtpd_session *s, const struct smtp_line *line)
{
    struct mail_forward *f = s->forward;
    struct mail_reply why;

    if (s->tx != NULL)
        return mail_reply_fixed(503, "5.5.1", "Error: MAIL transaction in progress");
    if (line->rest.n == 0)
        return mail_reply_fixed(501, "5.5.4", "Syntax: XFORWARD attribute=value...");
    if (!smtpd_may_xforward(s))
        return mail_reply_fixed(550, "5.7.0", "Error: insufficient authorization");
    if (f == NULL)
        f = mem_new_with_room(s, struct mail_forward, FORWARD_ROOM);
    if (!smtp_xforward_parse(f, line->rest, f, &why)) {
        if (s->forward == NULL)
            talloc_free(f);
        return why;
    }
    s->client->forward = s->forward = f;
    return mail_reply_fixed(250, "2.0.0", "Ok");
}
