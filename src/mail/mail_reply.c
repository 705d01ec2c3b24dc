/* SMTP replies as values. See mail.h. */
#include "mail.h"

#include <stdlib.h>

struct mail_reply mail_reply_fixed(int code, const char *dsn, const char *text)
{
    struct mail_reply r = {.code = code, .text = text};

    for (size_t i = 0; dsn[i] != '\0' && i + 1 < sizeof(r.dsn); i++)
        r.dsn[i] = dsn[i];
    return r;
}

struct mail_reply mail_reply_take(int code, const char *dsn, struct buf *text)
{
    struct mail_reply r = mail_reply_fixed(code, dsn, buf_text(text));

    r.owned = text->p;
    *text = (struct buf){0};
    return r;
}

struct mail_reply mail_reply(int code, const char *dsn, const char *fmt, ...)
{
    struct buf text = {0};
    va_list args;

    va_start(args, fmt);
    buf_addv(&text, fmt, args);
    va_end(args);
    return mail_reply_take(code, dsn, &text);
}

void mail_reply_deinit(struct mail_reply *r)
{
    free(r->owned);
    *r = (struct mail_reply){0};
}

struct mail_reply mail_reply_copy(const struct mail_reply *r)
{
    struct buf text = {0};

    if (r->owned == NULL)
        return *r;
    buf_adds(&text, r->owned);
    return mail_reply_take(r->code, r->dsn, &text);
}

struct mail_reply mail_reply_trouble(void)
{
    return mail_reply_fixed(451, "4.3.0", "Error: queue file write error");
}

void mail_reply_show(struct buf *out, const struct mail_reply *r)
{
    buf_addf(out, "%03d ", r->code);
    if (r->dsn[0])
        buf_addf(out, "%s ", r->dsn);
    for (const char *p = r->text ? r->text : ""; *p; p++) {
        if (*p == '\n')
            buf_addf(out, "\?\?%03d ", r->code);
        else
            buf_addc(out, *p);
    }
}

char *mail_reply_log(const void *ctx, const struct mail_reply *r)
{
    struct buf out = {0};
    char *text;

    mail_reply_show(&out, r);
    text = bytes_dup(ctx, buf_bytes(&out));
    buf_deinit(&out);
    return text;
}
