/*
 * The header of a message on its way into the queue file: what is left out, counted, remembered and added.
 * The body passes untouched. RFC 5322 3.6; facts in the order that Postfix's cleanup has made usual.
 */
#include "cleanup_private.h"

#include "clock.h"
#include "log.h"
#include "mail_address.h"
#include "mem.h"

#include <strings.h>
#include <time.h>

enum { ID_LOG_LIMIT = 500 };

static void field(void *arg, struct bytes text, bool is_whole);

void cleanup_header_init(struct cleanup_header *h, const struct cleanup *c,
                         const struct mail_envelope *envelope, bool is_local,
                         void (*write)(void *arg, struct bytes text), void *arg)
{
    h->cleanup = c;
    h->envelope = envelope;
    h->is_local = is_local;
    h->write = write;
    h->arg = arg;
    h->walk.field = field;
    h->walk.arg = h;
    h->walk.limit = (size_t)c->header_size_limit;
}

void cleanup_header_deinit(struct cleanup_header *h)
{
    mail_header_walk_deinit(&h->walk);
    buf_deinit(&h->message_id);
    buf_deinit(&h->resent_id);
}

/* ---- fields that are there ---- */

static bool is_dropped(const struct cleanup_header *h, struct bytes name)
{
    for (const char **drop = h->cleanup->drop_headers; *drop != NULL; drop++)
        if (bytes_ieq(name, bytes_of(*drop)))
            return true;
    return false;
}

static void keep_id(struct buf *id, struct bytes text)
{
    struct bytes value = mail_header_value(text);

    if (id->n == 0)
        buf_add(id, bytes(value.p, value.n < ID_LOG_LIMIT ? value.n : ID_LOG_LIMIT));
}

static void remember(struct cleanup_header *h, struct bytes name, struct bytes text)
{
    if (bytes_ieq(name, BYTES("Received")))
        h->hops++;
    else if (bytes_ieq(name, BYTES("Date")))
        h->has_date = true;
    else if (bytes_ieq(name, BYTES("From")))
        h->has_from = true;
    else if (bytes_ieq(name, BYTES("To")) || bytes_ieq(name, BYTES("Cc")) || bytes_ieq(name, BYTES("Bcc")))
        h->has_rcpt = true;
    else if (bytes_ieq(name, BYTES("Message-Id")))
        h->has_id = true, keep_id(&h->message_id, text);
    else if (bytes_ieq(name, BYTES("Resent-Message-Id")))
        h->has_resent_id = true, keep_id(&h->resent_id, text);
    else if (bytes_ieq(name, BYTES("Resent-Date")))
        h->has_resent_date = true;
    else if (bytes_ieq(name, BYTES("Resent-From")))
        h->has_resent_from = true;
    h->is_resent = h->is_resent || bytes_has_iprefix(name, BYTES("Resent-"));
}

/* A field beyond the limit is cut there; what is left of it is left out, in this part and in those that
 * follow. */
static void field(void *arg, struct bytes text, bool is_whole)
{
    struct cleanup_header *h = arg;
    bool is_rest = h->is_cut, is_long = text.n > h->walk.limit || !is_whole;
    struct bytes name;

    h->is_cut = !is_whole;
    if (is_rest)
        return;
    name = mail_header_name(text);
    remember(h, name, text);
    if (is_dropped(h, name))
        return;
    if (is_long) {
        text = bytes_trim(bytes(text.p, text.n < h->walk.limit ? text.n : h->walk.limit));
        h->write(h->arg, text);
        text = BYTES("\r\n");
    }
    h->write(h->arg, text);
}

/* ---- fields that are missing ---- */

static void add_message_id(struct cleanup_header *h, struct buf *out, const char *prefix)
{
    struct buf *id = h->is_resent ? &h->resent_id : &h->message_id;
    time_t when = (time_t)(h->envelope->arrived_us / 1000000);
    char stamp[32];
    struct tm tm;

    gmtime_r(&when, &tm);
    strftime(stamp, sizeof(stamp), "%Y%m%d%H%M%S", &tm);
    buf_cut(id, 0);
    buf_addf(id, "<%s.%s@%s>", stamp, h->envelope->id, h->cleanup->myhostname);
    buf_addf(out, "%sMessage-Id: %s\r\n", prefix, buf_text(id));
}

static void add_from(struct cleanup_header *h, struct buf *out, const char *prefix)
{
    char *sender = rewrite_standard_form(h->cleanup->rewrite, NULL,
                                         h->envelope->sender[0] ? h->envelope->sender : "MAILER-DAEMON");

    buf_addf(out, "%sFrom: ", prefix);
    mail_address_quote(out, sender);
    buf_adds(out, "\r\n");
    talloc_free(sender);
}

/* RFC 5322 3.6: Date and From must be there, Message-ID should; in a resent message their Resent- kin
 * (3.6.6). */
static void add_missing(struct cleanup_header *h, struct buf *out)
{
    const char *prefix = h->is_resent ? "Resent-" : "";

    if (!(h->is_resent ? h->has_resent_id : h->has_id))
        add_message_id(h, out, prefix);
    if (!(h->is_resent ? h->has_resent_date : h->has_date))
        buf_addf(out, "%sDate: %s\r\n", prefix, clock_mail_date((time_t)(h->envelope->arrived_us / 1000000)));
    if (!(h->is_resent ? h->has_resent_from : h->has_from))
        add_from(h, out, prefix);
}

static void log_ids(const struct cleanup_header *h)
{
    const char *id = buf_text(&h->message_id);

    log_info("%s: message-id=%s", h->envelope->id, id[0] ? id : "<>");
    if (h->resent_id.n > 0)
        log_info("%s: resent-message-id=%s", h->envelope->id, buf_text(&h->resent_id));
}

static co_fn void write_end(struct cleanup_header *h, bool with_empty_line)
{
    struct buf out = {0};

    h->is_written = true;
    if (h->is_local || h->cleanup->always_add_headers)
        add_missing(h, &out);
    if (!h->has_rcpt && h->cleanup->undisclosed_header[0] != '\0')
        buf_addf(&out, "%s\r\n", h->cleanup->undisclosed_header);
    log_ids(h);
    if (out.n > 0)
        h->write(h->arg, buf_bytes(&out));
    if (with_empty_line)
        h->write(h->arg, BYTES("\r\n"));
    buf_deinit(&out);
}

/* ---- content ---- */

co_fn void cleanup_header_content(struct cleanup_header *h, struct bytes piece)
{
    struct bytes held = {0};

    if (!h->walk.is_done)
        piece = mail_header_walk(&h->walk, piece, &held);
    if (!h->walk.is_done)
        return;
    if (!h->is_written)
        write_end(h, true);
    if (held.n > 0)
        h->write(h->arg, held);
    if (piece.n > 0)
        h->write(h->arg, piece);
}

co_fn void cleanup_header_end(struct cleanup_header *h)
{
    mail_header_walk_end(&h->walk);
    if (!h->is_written)
        write_end(h, false);
}
