/*
 * The sink before the queue. See cleanup.h.
 *
 * Content goes to the queue file as it comes; everything that could refuse the message is remembered on the
 * way and told by commit, in the order of cleanup_reply(). What a stranger is told of trouble here is one
 * text; the log has the rest.
 */
#include "cleanup_private.h"

#include "clock.h"
#include "log.h"
#include "mem.h"

#include <errno.h>
#include <strings.h>

enum { COMMIT_TIMEOUT_MS = 100000 };

/* One transaction. */
struct transaction {
    struct mail_sink sink;
    struct cleanup *c;
    const struct mail_client *client;
    const struct mail_envelope *envelope;
    struct queue_writer *writer;
    struct cleanup_header header;
    bool has_header;
    void *inspect; /* state of c->inspect */
    bool is_too_big;
    struct cleanup_verdict verdict;
    struct error *trouble; /* of the queue file */
};

/* ---- begin ---- */

/* 1.5 times the largest message: what the administrator lets in must fit, with something left for others. */
static bool has_room(const struct cleanup *c, const struct mail_envelope *envelope)
{
    uint64_t free_bytes = queue_free_bytes(c->q);
    uint64_t need = c->message_size_limit + c->message_size_limit / 2;

    if (need < c->queue_minfree)
        need = c->queue_minfree;
    if (need < envelope->size)
        need = envelope->size;
    if (free_bytes >= need)
        return true;
    log_warn("%s: not enough free space in mail queue: %llu bytes < %llu", envelope->id,
             (unsigned long long)free_bytes, (unsigned long long)need);
    return false;
}

static struct mail_reply no_room(void)
{
    return mail_reply_fixed(452, "4.3.1", "Insufficient system storage");
}

static struct mail_reply begin(struct mail_sink *s, const struct mail_client *client,
                               const struct mail_envelope *envelope)
{
    struct transaction *t = (struct transaction *)s;

    t->client = client;
    t->envelope = envelope;
    if (!has_room(t->c, envelope))
        return no_room();
    return mail_reply_fixed(250, "2.1.0", "Ok");
}

static struct mail_reply recipient(struct mail_sink *s, const struct mail_rcpt *rcpt)
{
    return mail_reply_fixed(250, "2.1.5", "Ok");
}

/* ---- content ---- */

/* The last station: into the queue file. message_size_limit 0: none. The session has counted what the client
 * sent; the trace and the headers that were added on the way, here and at the servers before, do not count.
 */
static co_fn void write_content(void *arg, struct bytes piece)
{
    struct transaction *t = arg;
    uint64_t limit = t->c->message_size_limit ? t->c->message_size_limit + CLEANUP_TRACE_SIZE : 0;

    if (t->is_too_big || t->trouble != NULL)
        return;
    if (limit > 0 && queue_writer_size(t->writer) + piece.n > limit) {
        t->is_too_big = true;
        queue_writer_free(&t->writer);
        return;
    }
    t->trouble = queue_writer_content(t->writer, piece);
}

static co_fn void header_content(void *arg, struct bytes piece)
{
    struct transaction *t = arg;

    cleanup_header_content(&t->header, piece);
}

/* Who came by way of another host of ours is as local as that host said (XFORWARD SOURCE). */
static bool is_local(const struct mail_client *client)
{
    const struct mail_forward *forward = client->forward;

    if (!client->is_local)
        return false;
    return forward == NULL || forward->source == NULL || strcasecmp(forward->source, "REMOTE") != 0;
}

static struct mail_reply content_begin(struct mail_sink *s)
{
    struct transaction *t = (struct transaction *)s;
    struct cleanup_inspect *inspect = t->c->inspect;

    t->writer = queue_writer_new(t, t->c->q);
    cleanup_header_init(&t->header, t->c, t->envelope, is_local(t->client), write_content, t);
    t->has_header = true;
    if (inspect != NULL)
        t->inspect = inspect->ops->begin(inspect, t, t->client, t->envelope, header_content, t);
    return mail_reply_fixed(354, "", "End data with <CR><LF>.<CR><LF>");
}

static co_fn void content(struct mail_sink *s, struct bytes piece)
{
    struct transaction *t = (struct transaction *)s;
    struct cleanup_inspect *inspect = t->c->inspect;

    if (t->is_too_big || t->trouble != NULL)
        return;
    if (inspect != NULL)
        inspect->ops->content(inspect, t->inspect, piece);
    else
        header_content(t, piece);
}

/* ---- commit ---- */

static struct mail_reply trouble_reply(struct transaction *t)
{
    int code = t->trouble->code;

    log_report(&t->trouble);
    return code == ENOSPC || code == EDQUOT || code == EFBIG ? no_room() : mail_reply_trouble();
}

/* Why the message is refused whatever its recipients are; code 0: it is not. */
static struct mail_reply refusal(struct transaction *t)
{
    struct mail_reply reply = t->verdict.reply;

    if (t->is_too_big)
        return mail_reply_fixed(552, "5.3.4", "Error: message file too big");
    if (t->trouble != NULL)
        return trouble_reply(t);
    if (t->header.hops >= t->c->hopcount_limit) {
        log_warn("%s: message rejected: hopcount exceeded", t->envelope->id);
        return mail_reply_fixed(554, "5.4.0", "Error: too many hops");
    }
    t->verdict.reply = (struct mail_reply){0};
    return reply;
}

static struct mail_reply map_reply(enum cleanup_map_end end)
{
    if (end == CLEANUP_MAP_EXPLODED)
        return mail_reply_fixed(451, "4.6.0", "Alias expansion error");
    return mail_reply_trouble();
}

static struct mail_reply queued(const struct transaction *t)
{
    return mail_reply(250, "2.0.0", "Ok: queued as %s", t->envelope->id);
}

static struct mail_reply discarded(struct transaction *t)
{
    log_info("%s: removed (discarded)", t->envelope->id);
    queue_writer_free(&t->writer);
    return queued(t);
}

/* What the hooks and then the inspection asked for; later ones win. */
struct decision {
    bool discard, hold;
    struct cleanup_wishes wishes;
};

static void add_bcc(struct transaction *t, struct decision *d, const char *addr)
{
    d->wishes.bcc = mem_grow(t, d->wishes.bcc, d->wishes.bcc_count + 1);
    d->wishes.bcc[d->wishes.bcc_count++] = addr;
}

static void decide(struct transaction *t, struct decision *d)
{
    const struct mail_envelope *envelope = t->envelope;

    *d = (struct decision){.discard = envelope->discard, .hold = envelope->hold != NULL};
    d->wishes.redirect = envelope->redirect;
    d->wishes.filter = envelope->filter;
    for (size_t i = 0; i < envelope->bcc.n; i++)
        add_bcc(t, d, envelope->bcc.at[i]);
    for (const struct mail_action *a = t->verdict.actions; a != NULL; a = a->next) {
        if (a->kind == MAIL_DISCARD)
            d->discard = true;
        else if (a->kind == MAIL_HOLD)
            d->hold = true;
        else if (a->kind == MAIL_REDIRECT && a->text != NULL)
            d->wishes.redirect = a->text;
        else if (a->kind == MAIL_FILTER && a->text != NULL)
            d->wishes.filter = a->text;
        else if (a->kind == MAIL_BCC && a->text != NULL)
            add_bcc(t, d, a->text);
    }
}

static co_fn struct mail_reply enqueue(struct transaction *t, const struct decision *d)
{
    struct queue_envelope envelope;
    enum cleanup_map_end end = cleanup_envelope(t->c, t, t->client, t->envelope, &d->wishes, &envelope);

    if (end != CLEANUP_MAP_OK)
        return map_reply(end);
    t->trouble = queue_writer_commit(t->writer, &envelope, d->hold ? QUEUE_HOLD : QUEUE_INCOMING,
                                     clock_ms() + COMMIT_TIMEOUT_MS);
    if (t->trouble != NULL)
        return trouble_reply(t);
    if (!d->hold)
        queue_notify(t->c->q, 'W');
    return queued(t);
}

static co_fn struct mail_reply commit(struct mail_sink *s)
{
    struct transaction *t = (struct transaction *)s;
    struct cleanup_inspect *inspect = t->c->inspect;
    struct mail_reply reply;
    struct decision d;

    if (inspect != NULL)
        inspect->ops->finish(inspect, t->inspect, &t->verdict);
    if (!t->is_too_big && t->trouble == NULL)
        cleanup_header_end(&t->header);
    decide(t, &d);
    reply = refusal(t);
    if (reply.code == 0)
        reply = d.discard ? discarded(t) : enqueue(t, &d);
    if (t->writer != NULL)
        queue_writer_free(&t->writer);
    return reply;
}

static void abandon(struct mail_sink *s)
{
    struct transaction *t = (struct transaction *)s;

    if (t->has_header)
        log_info("%s: removed (canceled)", t->envelope->id);
    if (t->writer != NULL)
        queue_writer_free(&t->writer);
}

static const struct mail_sink_ops sink_ops = {
    .name = "cleanup",
    .begin = begin,
    .recipient = recipient,
    .content_begin = content_begin,
    .content = content,
    .commit = commit,
    .abort = abandon,
};

static int free_transaction(struct transaction *t)
{
    if (t->has_header)
        cleanup_header_deinit(&t->header);
    mail_reply_deinit(&t->verdict.reply);
    error_free(&t->trouble);
    return 0;
}

struct mail_sink *cleanup_sink(const void *ctx, struct cleanup *c)
{
    struct transaction *t = mem_new(ctx, struct transaction);

    t->sink.ops = &sink_ops;
    t->c = c;
    talloc_set_destructor(t, free_transaction);
    return &t->sink;
}

void cleanup_set_inspect(struct cleanup *c, struct cleanup_inspect *inspect)
{
    c->inspect = inspect;
}
