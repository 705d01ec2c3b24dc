/* What is said to a server and what it said: MAIL and RCPT with the parameters that it announced, and its
 * replies as the log and a bounce show them. */
#include "mail_address.h"
#include "mem.h"
#include "remote.h"

/* ---- commands ---- */

void remote_format_mail(struct buf *line, const struct queue_envelope *env, unsigned features)
{
    buf_adds(line, "MAIL FROM:<");
    mail_address_quote(line, env->sender);
    buf_addc(line, '>');
    if (features & SMTP_SIZE)
        buf_addf(line, " SIZE=%llu", (unsigned long long)env->content_size);
    if ((features & SMTP_8BITMIME) && env->is_8bit)
        buf_adds(line, " BODY=8BITMIME");
    if ((features & SMTP_SMTPUTF8) && env->smtputf8)
        buf_adds(line, " SMTPUTF8");
    if ((features & SMTP_DSN) && env->ret != MAIL_RET_NONE)
        buf_adds(line, env->ret == MAIL_RET_FULL ? " RET=FULL" : " RET=HDRS");
    if ((features & SMTP_DSN) && env->envid != NULL) {
        buf_adds(line, " ENVID=");
        smtp_xtext_encode(line, bytes_of(env->envid));
    }
}

static void format_notify(struct buf *line, unsigned notify)
{
    static const struct {
        unsigned bit;
        const char *name;
    } words[] = {{MAIL_NOTIFY_NEVER, "NEVER"},
                 {MAIL_NOTIFY_SUCCESS, "SUCCESS"},
                 {MAIL_NOTIFY_FAILURE, "FAILURE"},
                 {MAIL_NOTIFY_DELAY, "DELAY"}};
    const char *separator = " NOTIFY=";
    size_t i;

    for (i = 0; i < 4; i++) {
        if (notify & words[i].bit) {
            buf_addf(line, "%s%s", separator, words[i].name);
            separator = ",";
        }
    }
}

void remote_format_rcpt(struct buf *line, const struct queue_rcpt *rcpt, unsigned features)
{
    buf_adds(line, "RCPT TO:<");
    mail_address_quote(line, rcpt->addr);
    buf_addc(line, '>');
    if ((features & SMTP_DSN) == 0)
        return;
    format_notify(line, rcpt->notify);
    if (rcpt->orcpt != NULL && strchr(rcpt->orcpt, ';') != NULL) {
        struct bytes address = bytes_of(rcpt->orcpt), type = bytes_cut(&address, ';');

        buf_addf(line, " ORCPT=%.*s;", BYTES_FMT(type));
        smtp_xtext_encode(line, address);
    }
}

/* ---- replies ---- */

char *remote_reply_text(const void *ctx, const struct smtp_client *c)
{
    struct bytes rest = bytes_of(c->reply.text != NULL ? c->reply.text : ""), line;
    char *text;
    struct buf out = {0};

    if (c->reply.code == 0)
        return mem_printf(ctx, "protocol error: \"%.200s\"", c->garbage != NULL ? c->garbage : "");
    do {
        line = bytes_cut(&rest, '\n');
        buf_addf(&out, "%s%d%c", out.n > 0 ? " " : "", c->reply.code, rest.n > 0 ? '-' : ' ');
        buf_add(&out, line);
    } while (rest.n > 0 && out.n < DELIVER_TEXT_LIMIT);
    text = mem_printf(ctx, "%.*s", (int)DELIVER_TEXT_LIMIT, buf_text(&out));
    buf_deinit(&out);
    return text;
}

void remote_reply_dsn(const struct smtp_client *c, char dsn_r[12])
{
    char *line = bytes_dup(NULL, bytes_trim(bytes_of(c->reply.text != NULL ? c->reply.text : "")));
    int kind = c->reply.code / 100;
    const char *rest;

    line[strcspn(line, "\n")] = '\0';
    if (!deliver_dsn_split(line, dsn_r, &rest) || dsn_r[0] != '0' + kind)
        snprintf(dsn_r, 12, "%d.0.0", kind == 2 || kind == 5 ? kind : 4);
    talloc_free(line);
}
