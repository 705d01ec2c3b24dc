/* The gate: a complete message waits for its turn, unless its client leaves. See proxy_gate.h. */
#include "admit_private.h"

#include "clock.h"
#include "log.h"
#include "mem.h"

static struct admit *admit_of(struct proxy_gate *g)
{
    return (struct admit *)((char *)g - offsetof(struct admit, gate));
}

static bool has_left(const struct passage *p)
{
    const struct mail_presence *presence = p->outer->client->presence;

    return presence != NULL && presence->has_left(presence);
}

static void watch(struct passage *p, void (*left)(void *arg))
{
    const struct mail_presence *presence = p->outer->client->presence;

    p->is_watching = left != NULL;
    if (presence != NULL)
        presence->watch(presence, left, p);
}

static int unwatch(struct passage *p)
{
    if (p->is_watching)
        watch(p, NULL);
    return 0;
}

/* ---- the turn ---- */

/* Whoever comes without a ticket was not judged at MAIL: a hook before ours let it pass without asking. */
static co_fn struct admission_ticket *ticket_of(struct passage *p)
{
    struct admission_ticket *ticket = p->outer->envelope->ticket;

    if (ticket != NULL) /* of this filter: the hook chose the way with it */
        return ticket;
    ticket = mem_new(p, struct admission_ticket);
    admission_know(p->admit->admission, p->outer->client, false, &ticket->client);
    return ticket;
}

static void left_waiting(void *arg)
{
    struct passage *p = arg;

    verdict_copy_left(p->copy);
    admission_leave(p->ticket);
}

/* However its time is divided between the scan of another copy, the wait for a slot and its own scan. */
static void limit_patience(struct passage *p)
{
    uint64_t patient = p->entered_ms + p->ticket->patience_ms;

    if (p->ticket->patience_ms > 0 && patient < p->outer->deadline)
        p->outer->deadline = patient;
}

/* A client that had closed its side before the dot was seen may still read: it gets a slot that is free, but
 * nothing waits for it. */
static co_fn enum admission_end take(struct passage *p)
{
    uint64_t now = clock_ms();
    uint64_t bytes = io_spool_size(p->outer->spool);
    enum admission_end end;

    if (p->outer->deadline <= now)
        return ADMISSION_LATE;
    p->came_late = has_left(p);
    if (p->came_late)
        return admission_take(p->admit->admission, p->ticket, bytes, now);
    watch(p, left_waiting);
    end = admission_take(p->admit->admission, p->ticket, bytes, p->outer->deadline);
    watch(p, NULL);
    return end;
}

static bool refuse(struct passage *p, struct mail_reply *reply_r, const char *why)
{
    log_info("%s: not filtered: %s after %llu ms", p->outer->envelope->id, why,
             (unsigned long long)(clock_ms() - p->entered_ms));
    *reply_r = mail_reply_fixed(451, "4.3.2", "Error: server is busy, try again later");
    return false;
}

static co_fn bool wait_for_turn(struct passage *p, struct mail_reply *reply_r)
{
    switch (take(p)) {
    case ADMISSION_GRANTED:
        if (!p->came_late && p->ticket->deadline < p->outer->deadline)
            p->outer->deadline = p->ticket->deadline;
        return true;
    case ADMISSION_LEFT:
        return refuse(p, reply_r, "its client left");
    case ADMISSION_CANCELLED:
        return refuse(p, reply_r, "shutting down");
    case ADMISSION_LATE:
        return refuse(p, reply_r, "no slot in time");
    case ADMISSION_FULL_UP:
        break;
    }
    return refuse(p, reply_r, "too many wait");
}

/* ---- the gate ---- */

static void left_before(void *arg)
{
    verdict_copy_left(((struct passage *)arg)->copy);
}

static void left_behind(void *arg)
{
    left_before(arg);
    admit_memory_left(arg);
}

static void begin(struct proxy_gate *g, struct proxy_passage *outer)
{
    struct passage *p = mem_new(outer->ctx, struct passage);

    p->admit = admit_of(g);
    p->outer = outer;
    outer->state = p;
    talloc_set_destructor(p, unwatch);
    admit_memory_begin(p);
    watch(p, left_before);
}

static co_fn bool enter(struct proxy_gate *g, struct proxy_passage *outer, struct mail_reply *reply_r)
{
    struct passage *p = outer->state;

    p->entered_ms = clock_ms();
    if (p->admit->admission != NULL) {
        p->ticket = ticket_of(p);
        limit_patience(p);
    }
    if (!admit_memory_enter(p, reply_r))
        return false;
    if (p->admit->admission != NULL && !wait_for_turn(p, reply_r))
        return false;
    p->entered_ms = clock_ms();
    watch(p, left_behind);
    return true;
}

static enum admission_outcome outcome_of(const struct mail_reply *reply, bool is_verdict)
{
    if (!is_verdict)
        return ADMISSION_LOST;
    return reply->code < 400 ? ADMISSION_OK : reply->code < 500 ? ADMISSION_TEMPFAIL : ADMISSION_REJECT;
}

static co_fn void leave(struct proxy_gate *g, struct proxy_passage *outer, const struct mail_reply *reply,
                        bool is_verdict)
{
    struct passage *p = outer->state;

    watch(p, NULL);
    if (p->ticket != NULL)
        admission_give(p->admit->admission, p->ticket, outcome_of(reply, is_verdict),
                       (uint32_t)(clock_ms() - p->entered_ms), io_spool_size(outer->spool));
    admit_memory_leave(p, reply, is_verdict);
}

static struct mail_receipt *receipt(struct proxy_gate *g, struct proxy_passage *outer)
{
    return ((struct passage *)outer->state)->receipt;
}

const struct proxy_gate_ops admit_gate_ops = {begin, enter, leave, receipt};
