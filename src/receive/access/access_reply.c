/*
 * What a run says: answers, deferrals that are kept for later, log lines, actions.
 *
 * The text of an answer may come from a table: code, enhanced code and text are checked here, for all of
 * them. A saved defer_if_reject turns a 5xx into its own 4xx; below warn_if_reject an answer is only logged.
 */
#include "access_own.h"
#include "buf.h"
#include "format.h"
#include "log.h"
#include "mail_address.h"
#include "mem.h"

#include <stdarg.h>
#include <stdio.h>

enum { CODE_DEFER = 450 };

const char access_class_client[] = "Client host";
const char access_class_helo[] = "Helo command";
const char access_class_sender[] = "Sender address";
const char access_class_rcpt[] = "Recipient address";

/* ---- log ---- */

static void add_address(struct buf *out, const char *before, const char *addr)
{
    buf_adds(out, before);
    mail_address_quote(out, addr);
    buf_addc(out, '>');
}

static void log_line(struct access_run *r, const char *word, const char *text)
{
    const struct mail_client *c = r->view->client;
    const char *rcpt = r->view->rcpt != NULL ? r->view->rcpt->addr : r->rcpt;
    struct buf known = {0};

    if (r->sender != NULL)
        add_address(&known, " from=<", r->sender);
    if (rcpt != NULL)
        add_address(&known, " to=<", rcpt);
    if (c->proto != NULL) {
        buf_adds(&known, " proto=");
        buf_adds(&known, c->proto);
    }
    if (c->helo != NULL)
        buf_addf(&known, " helo=<%s>", c->helo);
    log_info("%s: %s: %s from %s: %s;%s", r->view->log_id != NULL ? r->view->log_id : "NOQUEUE", word,
             mail_stage_name(r->stage), access_client_what(r), text, buf_text(&known));
    buf_deinit(&known);
}

void access_log(struct access_run *r, const char *word, const char *fmt, ...)
{
    va_list args;
    char *text;

    va_start(args, fmt);
    text = mem_vprintf(NULL, fmt, args);
    va_end(args);
    log_line(r, word, text);
    talloc_free(text);
}

/* ---- answers ---- */

static bool is_dsn(const char *dsn)
{
    unsigned class_digit, subject, detail;
    int n = 0;

    return sscanf(dsn, "%1u.%3u.%3u%n", &class_digit, &subject, &detail, &n) == 3 && dsn[n] == '\0' &&
           (class_digit == 4 || class_digit == 5);
}

/* Printable, and not longer than a reply line may be. */
static void clean(char *text)
{
    for (size_t i = 0; text[i] != '\0'; i++) {
        if (!ascii_is_print(text[i]))
            text[i] = ' ';
        if (i == ACCESS_TEXT_LIMIT - 1)
            text[i + 1] = '\0';
    }
}

static struct mail_reply good_reply(int code, const char *dsn, const char *text)
{
    if (code < 400 || code > 599 || !is_dsn(dsn)) {
        log_warn("bad answer from access control: \"%d %s %s\"", code, dsn, text);
        return mail_reply_fixed(CODE_DEFER, "4.7.1", "Service unavailable");
    }
    return mail_reply(code, dsn, "%s", text);
}

static enum access_end answer(struct access_run *r, int code, const char *dsn, char *text)
{
    struct mail_reply reply;
    char fixed[12];
    char *shown;

    clean(text);
    format_print(fixed, sizeof(fixed), "%s", dsn);
    fixed[0] = (char)('0' + code / 100 % 10);
    reply = good_reply(code, fixed, text);
    if (r->warning > 0) {
        shown = mail_reply_log(NULL, &reply);
        log_line(r, "reject_warning", shown);
        talloc_free(shown);
        mail_reply_deinit(&reply);
        return ACCESS_DUNNO;
    }
    if (r->if_reject.is_active && reply.code >= 500) {
        mail_reply_deinit(&reply);
        reply = mail_reply(CODE_DEFER, r->if_reject.dsn, "%s", r->if_reject.text);
    }
    mail_reply_deinit(&r->reply);
    r->reply = reply;
    return ACCESS_REJECT;
}

enum access_end access_reject(struct access_run *r, int code, const char *dsn, const char *fmt, ...)
{
    enum access_end end;
    va_list args;
    char *text;

    va_start(args, fmt);
    text = mem_vprintf(NULL, fmt, args);
    va_end(args);
    end = answer(r, code, dsn, text);
    talloc_free(text);
    return end;
}

enum access_end access_reject_conf(struct access_run *r)
{
    return access_reject(r, 451, "4.3.5", "Server configuration error");
}

enum access_end access_reject_lookup(struct access_run *r, const char *what)
{
    return access_reject(r, 451, "4.3.0", "<%s>: Temporary lookup failure", what);
}

/* The first one is kept. */
static enum access_end defer_if(struct access_run *r, struct access_deferral *d, const char *dsn, char *text)
{
    clean(text);
    if (r->warning > 0)
        return answer(r, CODE_DEFER, dsn, text);
    if (!d->is_active) {
        d->is_active = true;
        format_print(d->dsn, sizeof(d->dsn), "%s", dsn);
        d->dsn[0] = '4';
        d->text = mem_strdup(r->view->ctx, text);
    }
    return ACCESS_DUNNO;
}

enum access_end access_defer_if_permit(struct access_run *r, const char *dsn, const char *fmt, ...)
{
    enum access_end end;
    va_list args;
    char *text;

    va_start(args, fmt);
    text = mem_vprintf(NULL, fmt, args);
    va_end(args);
    end = defer_if(r, &r->if_permit, dsn, text);
    talloc_free(text);
    return end;
}

enum access_end access_defer_if_reject(struct access_run *r, const char *dsn, const char *fmt, ...)
{
    enum access_end end;
    va_list args;
    char *text;

    va_start(args, fmt);
    text = mem_vprintf(NULL, fmt, args);
    va_end(args);
    end = defer_if(r, &r->if_reject, dsn, text);
    talloc_free(text);
    return end;
}

co_fn enum access_end access_permit(struct access_run *r, const char *action, const char *what,
                                    const char *class_name, const char *table)
{
    if (table_list_has(r->a->logs_permit, bytes_of(action)) == TABLE_FOUND)
        access_log(r, "permit", "action=%s for %s=%s%s%s", action, class_name, what,
                   table != NULL ? " from " : "", table != NULL ? table : "");
    return ACCESS_PERMIT;
}

void access_add_action(struct access_run *r, enum mail_action_kind kind, const char *text)
{
    struct mail_action *action = mem_new(r->view->ctx, struct mail_action);
    char *copy;

    action->kind = kind;
    if (text != NULL) {
        action->text = copy = mem_strdup(action, text);
        for (; *copy != '\0'; copy++) /* it may become a header or a record */
            if ((unsigned char)*copy < 32 || *copy == 127)
                *copy = ' ';
    }
    *r->actions_end = action;
    r->actions_end = &action->next;
}

/* ---- enhanced codes ---- */

/*
 * RFC 3463: a code about one address says nothing sensible about another, or about a host. What Postfix 3.7
 * makes of X.1.0, X.1.1 and so on, as observed; what is beyond the rows is X.1.0.
 */
void access_dsn_fix(const char *dsn, const char *class_name, char out[12])
{
    static const char sender_details[] = "0787707780", rcpt_details[] = "0123456320";
    const char *details = strcmp(class_name, access_class_sender) == 0 ? sender_details
                          : strcmp(class_name, access_class_rcpt) == 0 ? rcpt_details
                                                                       : NULL;
    bool is_digit = ascii_is_digit(dsn[4]) && dsn[5] == '\0';

    format_print(out, 12, "%s", dsn);
    if (strncmp(dsn + 1, ".1.", 3) != 0)
        return;
    if (details == NULL)
        format_print(out, 12, "%c.0.0", dsn[0]);
    else
        format_print(out, 12, "%c.1.%c", dsn[0], is_digit ? details[dsn[4] - '0'] : '0');
    if (strcmp(out, dsn) != 0)
        log_info("mapping DSN status %s into %s status %s", dsn, class_name, out);
}
