/*
 * The end of a message's stay in active: what failed for good, or is out of time, is reported to the sender
 * by the bounce service; what is left waits in deferred; when nothing is left the file is removed.
 *
 * Nothing is forgotten while the disk refuses: the file stays in active and the step is tried again.
 */
#include "clock.h"
#include "log.h"
#include "mail_address.h"
#include "mem.h"
#include "qmgr_state.h"

#include <errno.h>

enum { RETRY_PAUSE_MS = 10 * 1000 };

static const char bounce_service[] = "bounce";

/* ---- reporting ---- */

static bool is_out_of_time(const struct qmgr_message *m)
{
    const struct qmgr *q = m->qmgr;
    uint64_t lifetime = *m->envelope->sender == '\0' ? q->bounce_lifetime : q->lifetime;

    return qmgr_is_expired(qmgr_seconds(m->envelope->arrived_us), qmgr_seconds(clock_real_us()), lifetime);
}

static void log_expired(const struct qmgr_message *m)
{
    char *sender = mail_address_external(NULL, m->envelope->sender);

    log_info("%s: from=<%s>, status=expired, returned to sender", m->id, sender);
    talloc_free(sender);
}

static size_t count_deferred(const struct qmgr_message *m)
{
    size_t i, n = 0;

    for (i = 0; i < m->n; i++)
        n += m->results[i].status != DELIVER_SENT;
    return n;
}

/* The filter's refusal of what was accepted without it is no bounce to an address that anybody could write:
 * the message waits on hold for an administrator, and goes through the filter again when it is released. */
static bool is_quarantined(const struct qmgr_message *m)
{
    for (size_t i = 0; m->envelope->is_unscanned && i < m->n; i++)
        if (m->results[i].status == DELIVER_BOUNCED)
            return true;
    return m->envelope->is_unscanned && count_deferred(m) > 0 && is_out_of_time(m);
}

/* Places of the recipients to report: bounced ones, and deferred ones once the time is over. */
static size_t choose_reported(const struct qmgr_message *m, size_t *at)
{
    bool has_deferred = false, expired;
    size_t i, n = 0;

    for (i = 0; i < m->n; i++)
        has_deferred = has_deferred || m->results[i].status == DELIVER_DEFERRED;
    expired = has_deferred && is_out_of_time(m);
    if (expired)
        log_expired(m);
    for (i = 0; i < m->n; i++) {
        if (m->results[i].status == DELIVER_BOUNCED || (expired && m->results[i].status == DELIVER_DEFERRED))
            at[n++] = i;
    }
    return n;
}

static co_fn struct error *ask_bounce(struct qmgr *q, const void *ctx, const struct deliver_request *request,
                                      struct deliver_result *results)
{
    const struct conf_service *service = qmgr_agent_service(q, bounce_service);
    struct io_stream *stream = NULL;
    struct error *e;

    if (service == NULL)
        return error_new(ERROR_CONF, "no service \"%s\" in master.cf", bounce_service);
    e = qmgr_agent_connect(q, ctx, service, &stream);
    if (e == NULL)
        e = deliver_ask(ctx, stream, request, QUEUE_ACTIVE, clock_ms() + q->agent_timeout_ms, results);
    if (stream != NULL)
        io_stream_close(&stream);
    return e;
}

/* The recipients could not be reported: they wait, with the reason that they failed for. */
static void not_reported(struct qmgr_message *m, const size_t *at, size_t n, const char *why)
{
    size_t i;

    log_warn("%s: the sender could not be notified, later again: %s", m->id, why);
    for (i = 0; i < n; i++)
        m->results[at[i]].status = DELIVER_DEFERRED;
}

static co_fn void report_some(struct qmgr_message *m, const size_t *at, size_t n)
{
    void *ctx = talloc_named_const(NULL, 0, "report");
    struct deliver_result *reasons = mem_array(ctx, struct deliver_result, n);
    struct deliver_result *results = mem_array(ctx, struct deliver_result, n);
    struct queue_rcpt **rcpts = mem_array(ctx, struct queue_rcpt *, n);
    struct deliver_request request = {.envelope = m->envelope,
                                      .fd = -1,
                                      .transport = bounce_service,
                                      .nexthop = "",
                                      .rcpts = rcpts,
                                      .rcpt_count = n,
                                      .active_us = m->active_us,
                                      .reasons = reasons};
    struct error *e;
    size_t i;

    for (i = 0; i < n; i++) {
        rcpts[i] = m->rcpts[at[i]];
        reasons[i] = m->results[at[i]];
    }
    e = ask_bounce(m->qmgr, ctx, &request, results);
    m->is_gone = m->is_gone || (e != NULL && e->code == ENOENT);
    if (e != NULL)
        not_reported(m, at, n, e->text);
    else if (results[0].status != DELIVER_SENT)
        not_reported(m, at, n, results[0].text);
    for (i = 0; e == NULL && i < n && results[0].status == DELIVER_SENT; i++)
        m->results[at[i]].status = DELIVER_SENT;
    error_free(&e);
    talloc_free(ctx);
}

static co_fn void report(struct qmgr_message *m)
{
    size_t *at = mem_array(m, size_t, m->n), n = choose_reported(m, at), i;

    for (i = 0; i < n; i += DELIVER_RCPT_LIMIT)
        report_some(m, at + i, n - i < DELIVER_RCPT_LIMIT ? n - i : DELIVER_RCPT_LIMIT);
}

/* ---- where the file goes ---- */

static void write_reasons(struct qmgr_message *m, size_t n)
{
    struct queue_reason *reasons = mem_array(m, struct queue_reason, n);
    struct error *e;
    size_t i, at = 0;

    for (i = 0; i < m->n; i++) {
        if (m->results[i].status != DELIVER_SENT)
            reasons[at++] = (struct queue_reason){m->rcpts[i]->addr, m->results[i].dsn, m->results[i].text};
    }
    e = queue_reasons_write(m->qmgr->queue, m->id, reasons, n);
    if (e != NULL)
        log_report(&e);
    talloc_free(reasons);
}

static struct error *defer(struct qmgr_message *m, size_t n)
{
    const struct qmgr *q = m->qmgr;
    uint64_t now = qmgr_seconds(clock_real_us());
    uint64_t wait = qmgr_backoff(qmgr_seconds(m->envelope->arrived_us), now, q->min_backoff, q->max_backoff);

    write_reasons(m, n);
    return queue_message_move(q->queue, m->id, QUEUE_ACTIVE, QUEUE_DEFERRED, (time_t)(now + wait));
}

static struct error *quarantine(struct qmgr_message *m, size_t n)
{
    log_info("%s: the filter refused what was accepted without it: on hold", m->id);
    write_reasons(m, n);
    return queue_message_move(m->qmgr->queue, m->id, QUEUE_ACTIVE, QUEUE_HOLD, 0);
}

static struct error *put_away(struct qmgr_message *m)
{
    struct queue *queue = m->qmgr->queue;
    size_t n = count_deferred(m);
    struct error *e;

    if (m->is_corrupt) {
        log_warn("%s: damaged queue file, moved to corrupt", m->id);
        return queue_message_move(queue, m->id, QUEUE_ACTIVE, QUEUE_CORRUPT, 0);
    }
    if (is_quarantined(m))
        return quarantine(m, n);
    if (n > 0)
        return defer(m, n);
    e = queue_message_remove(queue, QUEUE_ACTIVE, m->id);
    if (e == NULL)
        log_info("%s: removed", m->id);
    return e;
}

/* False: cancelled before it was done; the next scheduler finds the file in active. */
static co_fn bool put_away_surely(struct qmgr_message *m)
{
    struct error *e;

    while (!m->is_gone && (e = put_away(m)) != NULL) {
        m->is_gone = e->code == ENOENT; /* removed, or put on hold */
        if (!m->is_gone)
            log_warn("%s: %s", m->id, e->text);
        error_free(&e);
        if (!m->is_gone && co_sleep(clock_ms() + RETRY_PAUSE_MS, "queue directory") == CO_CANCELLED)
            return false;
    }
    return true;
}

void qmgr_message_finish(struct qmgr *q, void *message)
{
    struct qmgr_message *m = message;

    if (!m->is_gone && !m->is_corrupt && !is_quarantined(m))
        report(m);
    if (co_is_cancelled() || !put_away_surely(m))
        return;
    HASH_DEL(q->messages, m);
    q->message_count--;
    q->rcpt_count -= m->n;
    talloc_free(m);
    if (q->is_hungry)
        qmgr_wake(q);
}
