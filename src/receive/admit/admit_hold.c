/*
 * The step hold goes by no gate: this sink asks the memory of verdicts, before the queue. What it is for is
 * the retry of a message whose first copy went to the filter, when there was room, and whose client did not
 * hear the verdict: that is its answer now, too, and the message is not queued a second time.
 *
 * The content is on its way to the queue file while it comes, so the key is computed as it passes; only when
 * something is remembered of anybody.
 */
#include "admit_private.h"

#include "clock.h"
#include "mem.h"

struct hold {
    struct mail_sink sink;
    struct mail_sink *next;
    struct passage *passage;
    struct proxy_passage outer;
    struct verdict_digest *digest; /* NULL: there is nothing to ask for */
    uint64_t seen;                 /* bytes, what we put above the content first */
};

static struct hold *hold_of(struct mail_sink *s)
{
    return (struct hold *)s;
}

/* For other copies of the message: as long as its client is patient. */
static uint64_t patient_until(const struct hold *h)
{
    return clock_ms() + h->outer.envelope->ticket->patience_ms;
}

static mail_waits struct mail_reply hold_begin(struct mail_sink *s, const struct mail_client *client,
                                               const struct mail_envelope *envelope)
{
    struct hold *h = hold_of(s);

    h->outer.client = client;
    h->outer.envelope = envelope;
    return h->next->ops->begin(h->next, client, envelope);
}

static mail_waits struct mail_reply hold_recipient(struct mail_sink *s, const struct mail_rcpt *rcpt)
{
    return hold_of(s)->next->ops->recipient(hold_of(s)->next, rcpt);
}

/* What is known of a first copy is known after the wait, since its client left before this MAIL; then an
 * empty memory stays empty of it. */
static mail_waits struct mail_reply hold_content_begin(struct mail_sink *s)
{
    struct hold *h = hold_of(s);
    struct passage *p = h->passage;
    struct verdict *memory = p->admit->verdict;

    admit_memory_begin(p);
    if (!verdict_copy_wait(p->copy, patient_until(h)))
        return mail_reply_fixed(451, "4.3.2", "Error: server is busy, try again later");
    if (verdict_is_empty(memory))
        TALLOC_FREE(p->copy);
    else
        h->digest = verdict_key_begin(h, memory, h->outer.envelope);
    return h->next->ops->content_begin(h->next);
}

static void hash(struct hold *h, struct bytes piece)
{
    uint64_t trace = h->outer.envelope->trace_size;
    uint64_t ours = h->seen < trace ? trace - h->seen : 0;

    h->seen += piece.n;
    if (ours < piece.n)
        verdict_key_add(h->digest, bytes_skip(piece, (size_t)ours));
}

static mail_waits void hold_content(struct mail_sink *s, struct bytes piece)
{
    struct hold *h = hold_of(s);

    if (h->digest != NULL)
        hash(h, piece);
    h->next->ops->content(h->next, piece);
}

static co_fn bool recall(struct hold *h, struct mail_reply *reply_r)
{
    struct passage *p = h->passage;

    if (h->digest == NULL)
        return false;
    p->key = verdict_key_end(&h->digest);
    p->has_key = true;
    h->outer.deadline = patient_until(h);
    return admit_memory_recall(p, reply_r);
}

static mail_waits struct mail_reply hold_commit(struct mail_sink *s)
{
    struct hold *h = hold_of(s);
    struct mail_reply r;

    if (recall(h, &r)) {
        s->receipt = h->passage->receipt;
        h->next->ops->abort(h->next);
        return r;
    }
    r = h->next->ops->commit(h->next);
    s->receipt = h->next->receipt;
    return r;
}

static mail_waits void hold_abort(struct mail_sink *s)
{
    hold_of(s)->next->ops->abort(hold_of(s)->next);
}

static const struct mail_sink_ops hold_ops = {"hold",       hold_begin,  hold_recipient, hold_content_begin,
                                              hold_content, hold_commit, hold_abort};

struct mail_sink *admit_hold_sink(void *ctx, struct admit *a, struct mail_sink *next)
{
    struct hold *h;

    if (a->verdict == NULL)
        return next;
    h = mem_new(ctx, struct hold);
    h->sink.ops = &hold_ops;
    h->next = next;
    h->outer.ctx = h;
    h->passage = mem_new(h, struct passage);
    h->passage->admit = a;
    h->passage->outer = &h->outer;
    return &h->sink;
}
