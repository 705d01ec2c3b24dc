/*
 * Whether the client has heard the reply to end-of-data (struct mail_receipt), and whether it is still there
 * while others work for it (struct mail_presence).
 */
#include "smtpd_session.h"

#include "clock.h"
#include "mem.h"

enum { ACKNOWLEDGE_MS = 2000, LOOK_MS = 20 };

/* ---- presence ---- */

static struct smtpd_session *session_of(const struct mail_presence *p)
{
    return (struct smtpd_session *)((char *)(uintptr_t)p - offsetof(struct smtpd_session, presence));
}

static bool has_left(const struct mail_presence *p)
{
    return io_peer_left(session_of(p)->stream);
}

static void watch(const struct mail_presence *p, void (*left)(void *arg), void *arg)
{
    io_on_left(session_of(p)->stream, left, arg);
}

void smtpd_presence_begin(struct smtpd_session *s)
{
    s->presence = (struct mail_presence){has_left, watch};
    s->client->presence = &s->presence;
}

/* ---- receipt ---- */

/* Until it is settled others must know at once when the client leaves. */
void smtpd_receipt_take(struct smtpd_session *s, struct mail_sink *sink)
{
    s->receipt = talloc_steal(s, sink->receipt);
    io_expect_trickle(s->stream, s->receipt == NULL);
}

/* A client that has closed its side, or sent commands ahead, may still take our reply: its host's
 * acknowledgement tells. One that read the reply before it went on has acknowledged it by that. */
static co_fn bool was_acknowledged(struct smtpd_session *s)
{
    uint64_t deadline = clock_ms() + ACKNOWLEDGE_MS;
    bool was_taken;

    if (!smtpd_flush(s))
        return false;
    while (!(was_taken = io_was_taken(s->stream)) && clock_ms() < deadline)
        if (co_sleep(clock_ms() + LOOK_MS, "the reply to be acknowledged") != CO_OK)
            break;
    return was_taken;
}

static void settle(struct smtpd_session *s, bool was_heard)
{
    s->receipt->settle(s->receipt, was_heard);
    TALLOC_FREE(s->receipt);
    io_expect_trickle(s->stream, true);
}

co_fn void smtpd_receipt_settle(struct smtpd_session *s, enum io_end next)
{
    if (s->receipt != NULL)
        settle(s, next != IO_RESET && was_acknowledged(s));
}

/* It may keep its connection for minutes, and send what is a new message, however alike, over another. */
void smtpd_receipt_settle_silent(struct smtpd_session *s)
{
    if (s->receipt != NULL && s->receipt->is_repeated && io_was_taken(s->stream))
        settle(s, true);
}
