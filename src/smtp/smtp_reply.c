/* Replies of ours as wire text, RFC 5321 4.2.1. See smtp.h. */
#include "smtp.h"

/* Replies quote what a client sent: nothing of it may end a line, or mean something to a terminal. */
static void add_masked(struct buf *out, struct bytes line)
{
    size_t start = out->n;

    buf_add(out, line);
    for (size_t i = start; i < out->n; i++)
        if ((unsigned char)out->p[i] < 32 || out->p[i] == 127)
            out->p[i] = '?';
}

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
        add_masked(out, line);
        buf_adds(out, "\r\n");
    }
}
