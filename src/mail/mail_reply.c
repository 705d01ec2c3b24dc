/* SMTP replies as values. See mail.h. */
#include "mail.h"

#include "buf.h"
#include "format.h"
#include "mem.h"

#include <stdlib.h>

struct mail_reply mail_reply_fixed(int code, const char *dsn, const char *text)
{
    struct mail_reply r = {.code = code, .text = text};

    format_print(r.dsn, sizeof(r.dsn), "%s", dsn);
    return r;
}

struct mail_reply mail_reply(int code, const char *dsn, const char *fmt, ...)
{
    struct mail_reply r = mail_reply_fixed(code, dsn, NULL);
    va_list args;

    va_start(args, fmt);
    r.owned = mem_vprintf(NULL, fmt, args);
    va_end(args);
    r.text = r.owned;
    return r;
}

void mail_reply_deinit(struct mail_reply *r)
{
    talloc_free(r->owned);
    *r = (struct mail_reply){0};
}

struct mail_reply mail_reply_copy(const struct mail_reply *r)
{
    struct mail_reply copy = *r;

    if (r->owned != NULL)
        copy.text = copy.owned = mem_strdup(NULL, r->owned);
    return copy;
}

struct mail_reply mail_reply_trouble(void)
{
    return mail_reply_fixed(451, "4.3.0", "Error: queue file write error");
}

char *mail_reply_log(const void *ctx, const struct mail_reply *r)
{
    struct buf out = {0};
    char *text;

    buf_addf(&out, "%03d ", r->code);
    if (r->dsn[0])
        buf_addf(&out, "%s ", r->dsn);
    for (const char *p = r->text ? r->text : ""; *p; p++) {
        if (*p == '\n')
            buf_addf(&out, "\?\?%03d ", r->code);
        else
            buf_addc(&out, *p);
    }
    text = bytes_dup(ctx, buf_bytes(&out));
    buf_deinit(&out);
    return text;
}
