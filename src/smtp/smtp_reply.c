/* Replies of ours as wire text, RFC 5321 4.2.1. See smtp.h. */
#include "smtp.h"

/* Replies quote what a client sent: nothing of it may end a line, or mean something to a terminal. */
static void add_masked(struct buf *out, struct bytes line)
{
    char *text;

    buf_add(out, line);
    text = out->p + out->n - line.n;
    for (size_t i = 0; i < line.n; i++)
        text[i] = (unsigned char)text[i] < 32 || text[i] == 127 ? '?' : text[i];
}

void smtp_reply_format(struct buf *out, const struct mail_reply *r)
{
    struct bytes rest = bytes_of(r->text ? r->text : ""), dsn = bytes_of(r->dsn);
    char code[4] = {(char)('0' + r->code / 100 % 10), (char)('0' + r->code / 10 % 10),
                    (char)('0' + r->code % 10), '-'};

    while (code[3] == '-') {
        size_t end = bytes_chr(rest, '\n');
        struct bytes line = bytes(rest.p, end == SIZE_MAX ? rest.n : end);

        if (end == SIZE_MAX)
            code[3] = ' ';
        buf_add(out, bytes(code, sizeof(code)));
        if (dsn.n > 0) {
            buf_add(out, dsn);
            buf_addc(out, ' ');
        }
        add_masked(out, line);
        buf_adds(out, "\r\n");
        rest = bytes_skip(rest, line.n + 1);
    }
}
