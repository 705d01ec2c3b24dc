/*
 * Where a message goes that the engines let pass, and with which envelope.
 *
 * The next sink has begun and holds every recipient, so an unchanged destination goes straight into it, and
 * further recipients (BCC) are added to it. Any other destination aborts it and replays the transaction, with
 * command lines built here, into a new sink; the first answer there that is not good becomes the answer to
 * end-of-data. What the administrator added (a redirection, a Bcc) is not told to a stranger: its refusal is
 * 451 4.3.0 and a log line.
 */
#include "scan_private.h"

#include "buf.h"
#include "log.h"
#include "mail_address.h"
#include "mem.h"

/* ---- envelope ---- */

static struct bytes build_rcpt_command(void *ctx, const char *addr, bool is_silent)
{
    struct buf line = {0};
    char *copy;

    buf_adds(&line, "RCPT TO:<");
    mail_address_quote(&line, addr);
    buf_adds(&line, is_silent ? "> NOTIFY=NEVER" : ">");
    copy = mem_strdup(ctx, buf_text(&line));
    buf_deinit(&line);
    return bytes_of(copy);
}

/* Of a Bcc nobody but its reader is to hear (NOTIFY=NEVER, RFC 3461 4.1). */
static struct mail_rcpt *new_rcpt(void *ctx, const char *addr, bool is_silent)
{
    struct mail_rcpt *r = mem_new(ctx, struct mail_rcpt);

    r->addr = addr;
    r->command = build_rcpt_command(ctx, addr, is_silent);
    r->notify = is_silent ? MAIL_NOTIFY_NEVER : 0;
    return r;
}

/* MAIL as the client typed it, without its SIZE, which is not this content's. */
static struct bytes mail_without_size(void *ctx, struct bytes command)
{
    struct buf line = {0};
    size_t path = bytes_rchr(command, '>');
    struct bytes params;
    char *copy;

    path = path == SIZE_MAX ? command.n : path + 1;
    buf_add(&line, bytes(command.p, path));
    params = bytes_skip(command, path);
    for (;;) {
        struct bytes word = bytes_word(&params, " \t");

        if (word.n == 0)
            break;
        if (bytes_has_iprefix(word, BYTES("SIZE=")))
            continue;
        buf_addc(&line, ' ');
        buf_add(&line, word);
    }
    copy = bytes_dup(ctx, buf_bytes(&line));
    path = line.n;
    buf_deinit(&line);
    return bytes(copy, path);
}

/* The envelope for a new sink, with room for recipients; decisions that are carried out here are gone from
 * it. */
static struct mail_envelope *new_envelope(struct scan_tx *tx, const struct engine_result *result)
{
    struct mail_envelope *e = mem_new(tx, struct mail_envelope);

    *e = *tx->envelope;
    e->rcpts = mem_array(e, struct mail_rcpt *, tx->envelope->rcpt_count + result->bcc.n + 1);
    e->rcpt_count = 0;
    e->discard = false;
    e->redirect = NULL;
    e->filter = NULL;
    e->hold = NULL;
    e->bcc = (struct mail_text_list){0};
    if (result->changed != NULL) {
        e->command = mail_without_size(e, e->command);
        e->size = 0;
    }
    return e;
}

/* ---- giving it away ---- */

static struct mail_reply report_trouble(struct scan_tx *tx, struct error *e)
{
    e = error_prepend(e, "%s: content filter", tx->envelope->id);
    log_report(&e);
    return mail_reply_trouble();
}

static mail_waits struct error *replay(struct mail_sink *sink, struct io_spool *content)
{
    uint64_t offset = 0;

    for (;;) {
        struct bytes piece;
        struct error *e = io_spool_read(content, offset, &piece);

        if (e != NULL || piece.n == 0)
            return e;
        offset += piece.n;
        sink->ops->content(sink, piece);
    }
}

/* DATA to the end, on a sink that has its recipients. */
static mail_waits struct mail_reply finish(struct scan_tx *tx, const struct engine_result *result)
{
    struct mail_sink *sink = tx->next;
    struct mail_reply reply = sink->ops->content_begin(sink);
    struct error *e;

    if (!mail_reply_is_ok(&reply)) {
        scan_abort_next(tx);
        return reply;
    }
    mail_reply_deinit(&reply);
    e = replay(sink, result->changed != NULL ? result->changed : tx->content);
    if (e != NULL) {
        scan_abort_next(tx);
        return report_trouble(tx, e);
    }
    tx->next = NULL;
    return sink->ops->commit(sink);
}

/* A refusal of what the administrator wanted: told to the log, not to the client. */
static mail_waits struct mail_reply refuse_ours(struct scan_tx *tx, const char *what, const char *addr,
                                                struct mail_reply *reply)
{
    log_warn("%s: %s to <%s> refused: %s", tx->envelope->id, what, addr, mail_reply_log(tx, reply));
    mail_reply_deinit(reply);
    scan_abort_next(tx);
    return mail_reply_trouble();
}

static mail_waits struct mail_reply add_rcpt(struct scan_tx *tx, struct mail_envelope *e,
                                             struct mail_rcpt *rcpt)
{
    struct mail_reply reply = tx->next->ops->recipient(tx->next, rcpt);

    if (mail_reply_is_ok(&reply))
        e->rcpts[e->rcpt_count++] = rcpt;
    return reply;
}

/* A server without DSN does not know NOTIFY: RFC 5321 4.1.1.11 has 555 for that, others say 501 or 504. */
static bool is_about_parameter(const struct mail_reply *reply)
{
    return reply->code == 555 || reply->code == 501 || reply->code == 504;
}

static mail_waits struct mail_reply add_bcc(struct scan_tx *tx, struct mail_envelope *e, const char *addr)
{
    struct mail_reply reply = add_rcpt(tx, e, new_rcpt(tx, addr, true));

    if (is_about_parameter(&reply)) {
        mail_reply_deinit(&reply);
        reply = add_rcpt(tx, e, new_rcpt(tx, addr, false));
    }
    return reply;
}

static mail_waits struct mail_reply add_all_bcc(struct scan_tx *tx, struct mail_envelope *e,
                                                const struct engine_result *result)
{
    for (size_t i = 0; i < result->bcc.n; i++) {
        struct mail_reply reply = add_bcc(tx, e, result->bcc.at[i]);

        if (!mail_reply_is_ok(&reply))
            return refuse_ours(tx, "bcc", result->bcc.at[i], &reply);
        mail_reply_deinit(&reply);
    }
    return mail_reply_fixed(250, "2.1.5", "Ok");
}

/* ---- another destination ---- */

static mail_waits struct mail_reply replay_rcpts(struct scan_tx *tx, struct mail_envelope *e)
{
    for (size_t i = 0; i < tx->envelope->rcpt_count; i++) {
        struct mail_reply reply = add_rcpt(tx, e, tx->envelope->rcpts[i]);

        if (!mail_reply_is_ok(&reply)) {
            scan_abort_next(tx);
            return reply;
        }
        mail_reply_deinit(&reply);
    }
    return mail_reply_fixed(250, "2.1.5", "Ok");
}

/* The recipients of a new sink: the redirection alone (it replaces Bcc too, as in Postfix's queue manager),
 * or all. */
static mail_waits struct mail_reply give_rcpts(struct scan_tx *tx, struct mail_envelope *e,
                                               const struct engine_result *result)
{
    struct mail_reply reply;

    if (result->redirect != NULL) {
        reply = add_rcpt(tx, e, new_rcpt(tx, result->redirect, false));
        return mail_reply_is_ok(&reply) ? reply : refuse_ours(tx, "redirect", result->redirect, &reply);
    }
    reply = replay_rcpts(tx, e);
    if (!mail_reply_is_ok(&reply))
        return reply;
    mail_reply_deinit(&reply);
    return add_all_bcc(tx, e, result);
}

static mail_waits struct mail_reply send_by(struct scan_tx *tx, struct mail_sink *sink,
                                            struct mail_envelope *e, const struct engine_result *result)
{
    struct mail_reply reply;

    scan_abort_next(tx);
    tx->next = sink;
    reply = sink->ops->begin(sink, tx->client, e);
    if (!mail_reply_is_ok(&reply)) {
        scan_abort_next(tx);
        return reply;
    }
    mail_reply_deinit(&reply);
    reply = give_rcpts(tx, e, result);
    if (!mail_reply_is_ok(&reply))
        return reply;
    mail_reply_deinit(&reply);
    return finish(tx, result);
}

static mail_waits struct mail_reply no_way(struct scan_tx *tx, const char *what)
{
    log_warn("%s: content filter: no way to %s", tx->envelope->id, what);
    scan_abort_next(tx);
    return mail_reply_trouble();
}

char *scan_nexthop(void *ctx, const char *filter)
{
    static const char *const others[] = {"lmtp",  "local", "virtual", "pipe",
                                         "error", "retry", "discard", "bounce"};
    struct bytes rest = bytes_of(filter);
    struct bytes transport = bytes_cut(&rest, ':');
    struct bytes host = rest, port = BYTES("25");
    size_t bracket = rest.n > 0 && rest.p[0] == '[' ? bytes_chr(rest, ']') : SIZE_MAX;
    size_t colon;

    for (size_t i = 0; i < sizeof(others) / sizeof(*others); i++)
        if (bytes_ieq(transport, bytes_of(others[i])))
            return NULL;
    colon = bracket != SIZE_MAX ? bracket + 1 : bytes_rchr(rest, ':');
    if (colon != SIZE_MAX && colon < rest.n && rest.p[colon] == ':') {
        port = bytes_skip(rest, colon + 1);
        host.n = colon;
    }
    if (bracket != SIZE_MAX)
        host = bytes(rest.p + 1, bracket - 1);
    if (host.n == 0 || port.n == 0)
        return NULL;
    return mem_printf(ctx, bytes_chr(host, ':') != SIZE_MAX ? "[%.*s]:%.*s" : "%.*s:%.*s", BYTES_FMT(host),
                      BYTES_FMT(port));
}

static mail_waits struct mail_reply send_elsewhere(struct scan_tx *tx, const struct engine_result *result)
{
    struct scan_outlets *o = &tx->scan->outlets;
    char *nexthop = scan_nexthop(tx, result->filter);
    struct mail_sink *sink =
        nexthop != NULL && o->elsewhere != NULL ? o->elsewhere(o->arg, tx, nexthop) : NULL;

    if (sink == NULL)
        return no_way(tx, mem_printf(tx, "send by FILTER %s", result->filter));
    return send_by(tx, sink, new_envelope(tx, result), result);
}

/* Held mail keeps its FILTER for the day when it is released. */
static mail_waits struct mail_reply quarantine(struct scan_tx *tx, const struct engine_result *result)
{
    struct scan_outlets *o = &tx->scan->outlets;
    struct mail_sink *sink = o->quarantine != NULL ? o->quarantine(o->arg, tx) : NULL;
    struct mail_envelope *e;

    if (sink == NULL)
        return no_way(tx, "the hold queue");
    e = new_envelope(tx, result);
    e->hold = result->hold;
    e->filter = result->filter;
    return send_by(tx, sink, e, result);
}

static mail_waits struct mail_reply redirect(struct scan_tx *tx, const struct engine_result *result)
{
    struct scan_outlets *o = &tx->scan->outlets;
    struct mail_sink *sink = o->next(o->arg, tx);

    if (sink == NULL)
        return no_way(tx, "the next server");
    return send_by(tx, sink, new_envelope(tx, result), result);
}

/* The destination stays: the sink that has begun. */
static mail_waits struct mail_reply send_on(struct scan_tx *tx, const struct engine_result *result)
{
    struct mail_envelope *e = new_envelope(tx, result);
    struct mail_reply reply;

    for (size_t i = 0; i < tx->envelope->rcpt_count; i++)
        e->rcpts[e->rcpt_count++] = tx->envelope->rcpts[i];
    tx->own = *e;
    reply = add_all_bcc(tx, &tx->own, result);
    if (!mail_reply_is_ok(&reply))
        return reply;
    mail_reply_deinit(&reply);
    return finish(tx, result);
}

mail_waits struct mail_reply scan_route(struct scan_tx *tx, const struct engine_result *result)
{
    if (result->hold != NULL)
        return quarantine(tx, result);
    if (result->filter != NULL)
        return send_elsewhere(tx, result);
    if (result->redirect != NULL)
        return redirect(tx, result);
    return send_on(tx, result);
}
