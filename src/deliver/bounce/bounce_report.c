/*
 * The text of a non-delivery report: multipart/report (RFC 3462) of a note for people, a delivery status for
 * programs (RFC 3464) and the message or its header. Remote servers' words are shown folded, and masked to
 * printable text.
 */
#include "bounce_report.h"

#include "clock.h"
#include "mail_address.h"
#include "mem.h"

#include <time.h>

enum { FOLD_AT = 75 };

static void add_address(struct buf *out, const char *addr)
{
    mail_address_quote(out, addr);
}

static void add_safe(struct buf *out, char c, bool is_utf8)
{
    unsigned char u = (unsigned char)c;

    buf_addc(out, ascii_is_print(u) || (is_utf8 && u > 127) ? c : '?');
}

void bounce_report_fold(struct buf *out, const char *text, const char *indent, bool is_utf8)
{
    struct bytes rest = bytes_of(text), word;
    size_t line = out->n, i;

    while (line > 0 && out->p[line - 1] != '\n')
        line--;
    while ((word = bytes_word(&rest, " \t\r\n")).n > 0) {
        if (out->n - line > strlen(indent) && out->n - line + word.n > FOLD_AT) {
            while (out->p[out->n - 1] == ' ')
                buf_cut(out, out->n - 1);
            buf_addf(out, "\r\n%s", indent);
            line = out->n - strlen(indent);
        }
        for (i = 0; i < word.n; i++) {
            if (out->n - line >= 900) { /* one endless word */
                buf_addf(out, "\r\n%s", indent);
                line = out->n - strlen(indent);
            }
            add_safe(out, word.p[i], is_utf8);
        }
        buf_addc(out, ' ');
    }
    while (out->n > line && out->p[out->n - 1] == ' ')
        buf_cut(out, out->n - 1);
    buf_adds(out, "\r\n");
}

static bool is_utf8(const struct bounce_report *r)
{
    return r->envelope->smtputf8;
}

static void add_boundary(struct buf *out, const struct bounce_report *r)
{
    buf_addf(out, "%s.%llu/%s", r->new_id, (unsigned long long)(r->now_us / 1000000), r->myhostname);
}

static void add_separator(struct buf *out, const struct bounce_report *r, const char *end)
{
    buf_adds(out, "\r\n--");
    add_boundary(out, r);
    buf_addf(out, "%s\r\n", end);
}

static void add_headers(struct buf *out, const struct bounce_report *r)
{
    time_t now = (time_t)(r->now_us / 1000000);
    struct tm tm;
    char stamp[20];

    gmtime_r(&now, &tm);
    strftime(stamp, sizeof(stamp), "%Y%m%d%H%M%S", &tm);
    buf_addf(out, "Received: by %s (%s)\r\n\tid %s; %s\r\n", r->myhostname, r->mail_name, r->new_id,
             clock_mail_date(now));
    buf_addf(out, "Date: %s\r\n", clock_mail_date(now));
    buf_addf(out, "From: Mail Delivery System <MAILER-DAEMON@%s>\r\n", r->myorigin);
    buf_adds(out, "Subject: Undelivered Mail Returned to Sender\r\nTo: ");
    add_address(out, r->envelope->sender);
    buf_addf(out, "\r\nMessage-Id: <%s.%s@%s>\r\n", stamp, r->new_id, r->myhostname);
    buf_adds(out, "Auto-Submitted: auto-replied\r\nMIME-Version: 1.0\r\n"
                  "Content-Type: multipart/report; report-type=delivery-status;\r\n\tboundary=\"");
    add_boundary(out, r);
    buf_adds(out, "\"\r\n");
    if (r->is_8bit || is_utf8(r))
        buf_adds(out, "Content-Transfer-Encoding: 8bit\r\n");
    buf_adds(out, "\r\nThis is a report in MIME format.\r\n");
}

static void add_note_rcpt(struct buf *out, const struct bounce_report *r, size_t i)
{
    const struct queue_rcpt *rcpt = r->rcpts[i];
    struct buf text = {0};

    buf_addc(&text, '<');
    add_address(&text, rcpt->addr);
    buf_addc(&text, '>');
    if (rcpt->orig != NULL && strcmp(rcpt->orig, rcpt->addr) != 0) {
        buf_adds(&text, " (expanded from <");
        add_address(&text, rcpt->orig);
        buf_adds(&text, ">)");
    }
    buf_addf(&text, ": %s", r->reasons[i]->text);
    buf_adds(out, "\r\n");
    bounce_report_fold(out, buf_text(&text), "    ", is_utf8(r));
    buf_deinit(&text);
}

static void add_note(struct buf *out, const struct bounce_report *r)
{
    size_t i;

    add_separator(out, r, "");
    buf_addf(out, "Content-Description: Notification\r\nContent-Type: text/plain; charset=%s\r\n",
             is_utf8(r) ? "utf-8" : "us-ascii");
    if (is_utf8(r))
        buf_adds(out, "Content-Transfer-Encoding: 8bit\r\n");
    buf_addf(out, "\r\nThe mail server %s writes this message by itself.\r\n\r\n", r->myhostname);
    buf_adds(out, "Your message did not reach the recipients named below, and no further\r\n"
                  "attempt will be made. After each name stands why. Your message, or the\r\n"
                  "beginning of it, is attached.\r\n\r\n"
                  "When you ask the postmaster for help, please send this report along;\r\n"
                  "you may leave out your own text.\r\n");
    for (i = 0; i < r->n; i++)
        add_note_rcpt(out, r, i);
}

/* "X-Postfix-Queue-ID": the product's name as far as it may be in a header's. */
static void add_own_name(struct buf *out, const char *mail_name)
{
    for (; *mail_name; mail_name++)
        buf_addc(out, ascii_is_alpha(*mail_name) || ascii_is_digit(*mail_name) ? *mail_name : '-');
}

static void add_status_address(struct buf *out, const struct bounce_report *r, const char *field,
                               const char *addr)
{
    buf_addf(out, "%s: %s; ", field, is_utf8(r) ? "utf-8" : "rfc822");
    add_address(out, addr);
    buf_adds(out, "\r\n");
}

static void add_original_rcpt(struct buf *out, const struct bounce_report *r, const struct queue_rcpt *rcpt)
{
    struct bytes address, type;
    size_t i;

    if (rcpt->orcpt == NULL || strchr(rcpt->orcpt, ';') == NULL) {
        add_status_address(out, r, "Original-Recipient", rcpt->orig != NULL ? rcpt->orig : rcpt->addr);
        return;
    }
    address = bytes_of(rcpt->orcpt);
    type = bytes_cut(&address, ';');
    buf_adds(out, "Original-Recipient: ");
    for (i = 0; i < type.n; i++)
        add_safe(out, type.p[i], false);
    buf_addc(out, ';');
    for (i = 0; i < address.n && i < MAIL_ADDRESS_LIMIT; i++)
        add_safe(out, address.p[i], is_utf8(r));
    buf_adds(out, "\r\n");
}

/* Of "host H said: 550 no (in reply to RCPT TO command)" only what the server said; NULL: our own words. */
static char *server_words(const void *ctx, const struct deliver_result *reason)
{
    static const char said[] = " said: ", reply[] = " (in reply to";
    struct bytes text = bytes_of(reason->text);
    size_t at = reason->remote != NULL ? bytes_find(text, bytes_of(said)) : SIZE_MAX, end;

    if (at == SIZE_MAX)
        return NULL;
    text = bytes_skip(text, at + sizeof(said) - 1);
    end = bytes_find(text, bytes_of(reply));
    return bytes_dup(ctx, end == SIZE_MAX ? text : bytes(text.p, end));
}

static void add_status_rcpt(struct buf *out, const struct bounce_report *r, size_t i)
{
    const struct deliver_result *reason = r->reasons[i];
    char *words = server_words(NULL, reason);

    buf_adds(out, "\r\n");
    add_status_address(out, r, "Final-Recipient", r->rcpts[i]->addr);
    add_original_rcpt(out, r, r->rcpts[i]);
    buf_addf(out, "Action: failed\r\nStatus: %s\r\n", reason->dsn);
    if (reason->remote != NULL) {
        buf_adds(out, "Remote-MTA: dns; ");
        bounce_report_fold(out, reason->remote, "    ", false);
    }
    buf_adds(out, "Diagnostic-Code: ");
    if (words != NULL) {
        buf_adds(out, "smtp; ");
    } else {
        buf_adds(out, "X-");
        add_own_name(out, r->mail_name);
        buf_adds(out, "; ");
    }
    bounce_report_fold(out, words != NULL ? words : reason->text, "    ", is_utf8(r));
    talloc_free(words);
}

static void add_status(struct buf *out, const struct bounce_report *r)
{
    const struct queue_envelope *env = r->envelope;
    size_t i;

    add_separator(out, r, "");
    buf_addf(out, "Content-Description: Delivery report\r\nContent-Type: message/%s\r\n",
             is_utf8(r) ? "global-delivery-status" : "delivery-status");
    if (is_utf8(r))
        buf_adds(out, "Content-Transfer-Encoding: 8bit\r\n");
    buf_addf(out, "\r\nReporting-MTA: dns; %s\r\n", r->myhostname);
    if (env->envid != NULL) {
        buf_adds(out, "Original-Envelope-Id: ");
        bounce_report_fold(out, env->envid, "    ", false);
    }
    buf_adds(out, "X-");
    add_own_name(out, r->mail_name);
    buf_addf(out, "-Queue-ID: %s\r\nX-", env->id);
    add_own_name(out, r->mail_name);
    add_status_address(out, r, "-Sender", env->sender);
    buf_addf(out, "Arrival-Date: %s\r\n", clock_mail_date((time_t)(env->arrived_us / 1000000)));
    for (i = 0; i < r->n; i++)
        add_status_rcpt(out, r, i);
}

static const char *returned_type(const struct bounce_report *r)
{
    if (r->headers_only)
        return is_utf8(r) ? "message/global-headers" : "text/rfc822-headers";
    return is_utf8(r) ? "message/global" : "message/rfc822";
}

void bounce_report_begin(struct buf *out, const struct bounce_report *r)
{
    add_headers(out, r);
    add_note(out, r);
    add_status(out, r);
    add_separator(out, r, "");
    buf_addf(out, "Content-Description: Undelivered Message%s\r\nContent-Type: %s\r\n",
             r->headers_only ? " Headers" : "", returned_type(r));
    if (r->is_8bit || is_utf8(r))
        buf_adds(out, "Content-Transfer-Encoding: 8bit\r\n");
    buf_adds(out, "\r\nReturn-Path: <");
    add_address(out, r->envelope->sender);
    buf_adds(out, ">\r\n");
}

void bounce_report_end(struct buf *out, const struct bounce_report *r)
{
    add_separator(out, r, "--");
}
