/* Replies of ours as wire text, RFC 5321 4.2.1. See smtp.h. */
#include "smtp.h"

void smtp_reply_format(struct buf *out, const struct mail_reply *r)
{
    struct bytes rest = bytes_of(r->text ? r->text : "");
    bool is_last = false;

    while (!is_last) {
        struct bytes line;

        is_last = bytes_chr(rest, '\n') == SIZE_MAX;
        line = bytes_cut(&rest, '\n');
        buf_addf(out, "%03d%c", r->code, is_last ? ' ' : '-');
        if (r->dsn[0])
            buf_addf(out, "%s ", r->dsn);
        buf_add(out, line);
        buf_adds(out, "\r\n");
    }
}
