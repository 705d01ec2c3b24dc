/*
 * What is remembered of a message at the gate: an answer that its client did not hear, or will not.
 *
 * As long as nothing is known of anybody no message is hashed. A client that leaves while the filter works
 * makes its message known at once, so that its own retry waits for the verdict; what a client that stayed
 * until the end has heard is known when it goes on talking.
 */
#include "admit_private.h"

#include "clock.h"
#include "log.h"
#include "mail_address.h"
#include "mem.h"

enum { KEEP_MS = 30000 };

/* ---- the key ---- */

static uint64_t content_size(const struct proxy_passage *o)
{
    return io_spool_size(o->spool) - o->envelope->trace_size;
}

/* The content as it was received: what we put above it begins with other words at each try. */
static co_fn struct error *add_content(struct verdict_digest *d, struct io_spool *spool, uint64_t trace_size)
{
    uint64_t at = trace_size;

    for (;;) {
        struct bytes piece;
        struct error *e = io_spool_read(spool, at, &piece);

        if (e != NULL || piece.n == 0)
            return e;
        verdict_key_add(d, piece);
        at += piece.n;
    }
}

static co_fn bool make_key(struct passage *p, struct io_spool *spool)
{
    struct verdict_digest *d = verdict_key_begin(p, p->admit->verdict, p->outer->envelope);
    struct error *e = add_content(d, spool, p->outer->envelope->trace_size);

    p->key = verdict_key_end(&d);
    p->has_key = e == NULL;
    log_report(&e);
    return p->has_key;
}

/* ---- a reply from memory ---- */

struct remembered {
    struct mail_receipt receipt;
    struct verdict *verdict;
    struct verdict_key key;
};

static void settle_remembered(struct mail_receipt *r, bool was_heard)
{
    struct remembered *m = (struct remembered *)r;

    if (was_heard)
        verdict_heard(m->verdict, &m->key);
}

static struct mail_receipt *remembered_new(struct passage *p)
{
    struct remembered *m = mem_new(p->outer->ctx, struct remembered);

    m->receipt = (struct mail_receipt){.settle = settle_remembered, .is_repeated = true};
    m->verdict = p->admit->verdict;
    m->key = p->key;
    return &m->receipt;
}

static void log_remembered(const struct passage *p, const struct mail_reply *r)
{
    const struct mail_envelope *e = p->outer->envelope;

    log_info(
        "%s: remembered: END-OF-MESSAGE: %s; from=<%s>, first asked for by a client that did not hear it",
        e->id, mail_reply_log(p->outer->ctx, r), mail_address_external(p->outer->ctx, e->sender));
}

void admit_memory_begin(struct passage *p)
{
    const struct mail_presence *presence = p->outer->client->presence;

    if (p->admit->verdict == NULL)
        return;
    p->copy = verdict_copy_new(p, p->admit->verdict, p->outer->envelope);
    if (presence != NULL && presence->has_left(presence))
        verdict_copy_left(p->copy);
}

static co_fn bool may_be_known(struct passage *p)
{
    return p->has_key || (verdict_may_know(p->admit->verdict, p->outer->envelope, content_size(p->outer)) &&
                          make_key(p, p->outer->spool));
}

/* While it waits for a scan it is not in hand: that scan is what the next retry waits for. RUNNING: the
 * deadline has passed. */
static co_fn enum verdict_found find(struct passage *p, struct mail_reply *reply_r)
{
    struct verdict *m = p->admit->verdict;

    while (verdict_copy_wait(p->copy, p->outer->deadline)) {
        enum verdict_found found;

        if (!may_be_known(p))
            return VERDICT_FRESH;
        found = verdict_start(m, &p->key, reply_r);
        if (found != VERDICT_RUNNING)
            return found;
        TALLOC_FREE(p->copy);
        found = verdict_wait(m, &p->key, p->outer->deadline, reply_r);
        if (found != VERDICT_FRESH)
            return found;
        admit_memory_begin(p);
    }
    return VERDICT_RUNNING;
}

co_fn bool admit_memory_recall(struct passage *p, struct mail_reply *reply_r)
{
    switch (find(p, reply_r)) {
    case VERDICT_FRESH:
        break;
    case VERDICT_RUNNING:
        *reply_r = mail_reply_fixed(451, "4.3.2", "Error: server is busy, try again later");
        return true;
    case VERDICT_REMEMBERED:
        p->receipt = remembered_new(p);
        log_remembered(p, reply_r);
        return true;
    }
    return false;
}

co_fn bool admit_memory_enter(struct passage *p, struct mail_reply *reply_r)
{
    struct io_spool *spool = p->outer->spool;

    if (p->admit->verdict == NULL)
        return true;
    if (admit_memory_recall(p, reply_r))
        return false;
    if (!io_spool_is_in_memory(spool))
        p->reader = io_spool_clone(p, spool);
    return true;
}

/* ---- a client that left while the filter works ---- */

static co_fn void abandon(void *arg)
{
    struct passage *p = arg;

    if (p->has_key || make_key(p, p->reader ? p->reader : p->outer->spool)) {
        if (verdict_abandon(p->admit->verdict, &p->key))
            TALLOC_FREE(p->copy);
        p->is_abandoned = true;
    }
    p->is_abandoning = false;
    if (p->leaver != NULL)
        co_wake(p->leaver);
}

void admit_memory_left(struct passage *p)
{
    if (p->admit->verdict == NULL || (p->reader == NULL && !io_spool_is_in_memory(p->outer->spool)))
        return;
    p->is_abandoning = true;
    co_spawn(abandon, p, p->outer->envelope->id);
}

static co_fn void wait_until_abandoned(struct passage *p)
{
    p->leaver = co_self();
    while (p->is_abandoning)
        co_park(CO_NEVER, "the message's key");
    p->leaver = NULL;
}

/* ---- a verdict that the client may not hear ---- */

struct unheard {
    struct mail_receipt receipt;
    struct verdict *verdict;
    struct verdict_key key;
    struct verdict_digest *digest; /* of the envelope; NULL: the key is complete */
    struct io_spool *spool;        /* content for it */
    uint64_t trace_size;
    struct mail_reply reply;
    struct verdict_copy *copy;            /* in hand; NULL: known */
    const struct mail_presence *presence; /* watched for it; NULL: not watched */
};

static int unheard_destroy(struct unheard *u)
{
    mail_reply_deinit(&u->reply);
    if (u->presence != NULL)
        u->presence->watch(u->presence, NULL, NULL);
    return 0;
}

/* In its own memory, without the session. */
static co_fn void keep(void *arg)
{
    struct unheard *u = arg;
    struct error *e = NULL;

    if (u->digest != NULL) {
        e = add_content(u->digest, u->spool, u->trace_size);
        u->key = verdict_key_end(&u->digest);
    }
    if (e == NULL) {
        if (verdict_abandon(u->verdict, &u->key)) /* from now on a copy waits for what follows */
            TALLOC_FREE(u->copy);
        verdict_end(u->verdict, &u->key, &u->reply, false, clock_ms() + KEEP_MS);
    }
    log_report(&e);
    talloc_free(u);
}

static struct unheard *unheard_copy(struct unheard *u)
{
    struct unheard *copy = mem_new(NULL, struct unheard);

    *copy = *u;
    talloc_steal(copy, u->digest);
    talloc_steal(copy, u->spool);
    talloc_steal(copy, u->copy);
    copy->presence = NULL;
    u->reply = (struct mail_reply){0};
    talloc_set_destructor(copy, unheard_destroy);
    return copy;
}

static void settle_unheard(struct mail_receipt *r, bool was_heard)
{
    struct unheard *u = (struct unheard *)r;

    if (was_heard) {
        if (u->digest == NULL)
            verdict_end(u->verdict, &u->key, &u->reply, true, 0);
        return;
    }
    verdict_copy_left(u->copy);
    co_spawn(keep, unheard_copy(u), "a verdict that nobody heard");
}

static void left_unheard(void *arg)
{
    verdict_copy_left(((struct unheard *)arg)->copy);
}

static struct mail_receipt *unheard_new(struct passage *p, const struct mail_reply *reply)
{
    struct unheard *u = mem_new(p->outer->ctx, struct unheard);

    u->receipt.settle = settle_unheard;
    u->verdict = p->admit->verdict;
    u->reply = mail_reply_copy(reply);
    u->trace_size = p->outer->envelope->trace_size;
    u->key = p->key;
    if (!p->has_key) {
        u->digest = verdict_key_begin(u, u->verdict, p->outer->envelope);
        u->spool = talloc_steal(u, p->outer->spool);
    }
    u->copy = talloc_steal(u, p->copy);
    p->copy = NULL;
    u->presence = p->outer->client->presence;
    talloc_set_destructor(u, unheard_destroy);
    if (u->presence != NULL)
        u->presence->watch(u->presence, left_unheard, u);
    return &u->receipt;
}

co_fn void admit_memory_leave(struct passage *p, const struct mail_reply *reply, bool is_verdict)
{
    bool is_final = is_verdict && (reply->code / 100 == 2 || reply->code / 100 == 5);

    wait_until_abandoned(p);
    if (p->is_abandoned) {
        verdict_end(p->admit->verdict, &p->key, reply, false, clock_ms() + KEEP_MS);
        if (is_final)
            p->receipt = remembered_new(p);
    } else if (is_final && p->admit->verdict != NULL) {
        p->receipt = unheard_new(p, reply);
    }
}
