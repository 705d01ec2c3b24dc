/*
 * Workers: each holds one connection to a transport's agents and hands over batch after batch, as long as
 * there is something to do. What an agent does not answer is looked up in the file: marked recipients are
 * delivered, the others are deferred.
 */
#include "qmgr_state.h"

#include "clock.h"
#include "log.h"
#include "mem.h"

#include <errno.h>
#include <unistd.h>

enum {
    CONNECT_TRIES = 20, /* of an agent that is being restarted */
    CONNECT_PAUSE_MS = 100,
    CONNECT_TIMEOUT_MS = 10 * 1000,
    FAULT_LIMIT = 3, /* agents in a row that died at work */
    FAULT_APART_MS = 500,
    REQUESTS_A_CONNECTION = 100 /* so that after a reload the old agents come to an end */
};

struct worker {
    struct qmgr *qmgr;
    struct qmgr_transport *transport;
    struct io_stream *stream;
    unsigned requests;
};

const struct conf_service *qmgr_agent_service(const struct qmgr *q, const char *name)
{
    size_t i;

    for (i = 0; i < q->services->n; i++) {
        if (q->services->at[i].type == CONF_UNIX && strcmp(q->services->at[i].name, name) == 0)
            return &q->services->at[i];
    }
    return NULL;
}

struct error *qmgr_agent_connect(struct qmgr *q, const void *ctx, const struct conf_service *service,
                                 struct io_stream **stream_r)
{
    char *path = mem_printf(ctx, "%s/%s/%s", queue_directory(q->queue),
                            service->is_private ? "private" : "public", service->name);
    struct io_address address;
    struct error *e = io_address_unix(path, &address);
    int tries;

    talloc_free(path);
    if (e != NULL)
        return e;
    for (tries = 0; tries < CONNECT_TRIES; tries++) {
        error_free(&e);
        e = io_connect(ctx, &address, clock_ms() + CONNECT_TIMEOUT_MS, stream_r);
        if (e == NULL || co_sleep(clock_ms() + CONNECT_PAUSE_MS, "delivery agent") == CO_CANCELLED)
            break;
    }
    return error_prepend(e, "connect to private/%s", service->name);
}

/* ---- one batch ---- */

/* Which recipients the agent marked before it went. */
static void read_marks(struct qmgr *q, const struct qmgr_batch *b, bool *is_done)
{
    struct queue_envelope *env = NULL;
    struct error *e;
    size_t i, at = 0;
    int fd;

    e = queue_message_open(q->queue, QUEUE_ACTIVE, b->message->id, false, &fd);
    if (e == NULL) {
        e = queue_message_read(b->message, fd, &env);
        close(fd);
    }
    b->message->is_gone = b->message->is_gone || (e != NULL && e->code == ENOENT);
    error_free(&e);
    for (i = 0; env != NULL && i < b->n; i++) {
        while (at < env->rcpt_count && env->rcpts[at].offset != b->message->rcpts[b->at[i]]->offset)
            at++;
        is_done[i] = at < env->rcpt_count && env->rcpts[at].state == QUEUE_RCPT_DONE;
    }
    talloc_free(env);
}

static void settle_by_marks(struct qmgr *q, struct qmgr_batch *b, const char *text)
{
    struct deliver_result sent = {
        .status = DELIVER_SENT, .dsn = "2.0.0", .text = (char *)"delivered", .relay = (char *)"none"};
    bool *is_done = mem_array(NULL, bool, b->n);
    size_t i;

    read_marks(q, b, is_done);
    for (i = 0; i < b->n; i++) {
        if (is_done[i] || b->message->is_gone || b->message->is_corrupt)
            qmgr_message_settle(b->message, b->at[i], &sent);
        else
            qmgr_message_fail(b->message, b->at[i], DELIVER_DEFERRED, "4.3.0", text);
    }
    talloc_free(is_done);
}

static void settle_all(struct qmgr_batch *b, const struct deliver_result *results)
{
    size_t i;

    for (i = 0; i < b->n; i++)
        qmgr_message_settle(b->message, b->at[i], &results[i]);
}

static const struct deliver_result *site_failure(const struct deliver_result *results, size_t n)
{
    size_t i;

    for (i = 0; i < n; i++) {
        if (results[i].is_site && results[i].status == DELIVER_DEFERRED)
            return &results[i];
    }
    return NULL;
}

/* One death ends many conversations at once: what comes together counts once. */
static void count_fault(struct qmgr_transport *t, const char *why)
{
    uint64_t now = clock_ms();

    if (t->faults == 0 || now - t->last_fault >= FAULT_APART_MS)
        t->faults++;
    t->last_fault = now;
    if (t->faults >= FAULT_LIMIT)
        qmgr_transport_suspend(t, why);
}

/* True: the connection is good for more. */
static bool answer_failed(struct worker *w, struct qmgr_batch *b, struct error *e)
{
    struct qmgr_transport *t = w->transport;

    switch (e->code) {
    case ENOENT:
        b->message->is_gone = true;
        break;
    case EBADMSG:
        log_warn("%s: %s", b->message->id, e->text);
        b->message->is_corrupt = true;
        break;
    case EWOULDBLOCK:
    case EIO:
        log_warn("%s: transport %s: %s", b->message->id, t->name, e->text);
        break;
    default:
        log_warn("%s: transport %s: %s", b->message->id, t->name, e->text);
        qmgr_transport_done(b, NULL);
        settle_by_marks(w->qmgr, b, "the delivery agent ended before it was done");
        count_fault(t, e->text);
        return false;
    }
    qmgr_transport_done(b, NULL);
    settle_by_marks(w->qmgr, b, "the message could not be read");
    return true;
}

static struct deliver_request request_of(struct qmgr *q, const struct qmgr_batch *b,
                                         struct queue_rcpt **rcpts)
{
    const struct qmgr_destination *d = b->destination;
    size_t i;

    for (i = 0; i < b->n; i++)
        rcpts[i] = b->message->rcpts[b->at[i]];
    return (struct deliver_request){.envelope = b->message->envelope,
                                    .fd = -1,
                                    .transport = d->transport->name,
                                    .nexthop = d->nexthop,
                                    .rcpts = rcpts,
                                    .rcpt_count = b->n,
                                    .active_us = b->message->active_us,
                                    .soft_bounce = q->soft_bounce};
}

/* True: the connection is good for more. */
static co_fn bool ask(struct worker *w, struct qmgr_batch *b)
{
    void *ctx = talloc_named_const(NULL, 0, "batch");
    struct deliver_result *results = mem_array(ctx, struct deliver_result, b->n);
    struct deliver_request request = request_of(w->qmgr, b, mem_array(ctx, struct queue_rcpt *, b->n));
    struct error *e =
        deliver_ask(ctx, w->stream, &request, QUEUE_ACTIVE, clock_ms() + w->qmgr->agent_timeout_ms, results);
    bool is_good = e == NULL;

    if (co_is_cancelled()) {
        error_free(&e);
        talloc_free(ctx);
        return false;
    }
    if (e != NULL) {
        is_good = answer_failed(w, b, e);
        error_free(&e);
    } else {
        w->transport->faults = 0;
        qmgr_transport_done(b, site_failure(results, b->n));
        settle_all(b, results);
    }
    talloc_free(ctx);
    return is_good;
}

/* ---- the worker ---- */

static co_fn bool connect_worker(struct worker *w)
{
    struct error *e;

    if (w->stream != NULL && (w->requests >= REQUESTS_A_CONNECTION || io_peer_left(w->stream)))
        io_stream_close(&w->stream);
    if (w->stream != NULL)
        return true;
    w->requests = 0;
    e = qmgr_agent_connect(w->qmgr, w->transport, w->transport->service, &w->stream);
    if (e == NULL)
        return true;
    if (!co_is_cancelled())
        qmgr_transport_suspend(w->transport, e->text);
    error_free(&e);
    return false;
}

static void not_asked(struct qmgr_batch *b)
{
    size_t i;

    qmgr_transport_done(b, NULL);
    for (i = 0; i < b->n; i++)
        qmgr_message_fail(b->message, b->at[i], DELIVER_DEFERRED, "4.3.0", "mail transport unavailable");
}

static co_fn void run_worker(struct qmgr *q, void *arg)
{
    struct worker w = {.qmgr = q, .transport = arg};
    struct qmgr_batch b;

    while (!co_is_cancelled() && (b = qmgr_transport_next(w.transport)).n > 0) {
        qmgr_agent_start(w.transport);
        if (connect_worker(&w)) {
            w.requests++;
            if (!ask(&w, &b))
                io_stream_close(&w.stream);
        } else if (!co_is_cancelled()) {
            not_asked(&b);
        }
    }
    if (w.stream != NULL)
        io_stream_close(&w.stream);
    w.transport->workers--;
}

/* One at a time: each takes its batch when it begins, and starts the next while there is more. */
void qmgr_agent_start(struct qmgr_transport *t)
{
    if (t->ready == NULL || t->workers >= t->worker_limit)
        return;
    t->workers++;
    qmgr_spawn(t->qmgr, run_worker, t, t->name);
}
