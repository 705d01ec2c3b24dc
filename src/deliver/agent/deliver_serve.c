/*
 * The agent's side of a delivery: reads a request, opens and locks the queue file, lets the agent try, marks
 * and logs what it says, and answers.
 *
 * What was delivered is marked before anything is answered, so that a scheduler that dies meanwhile finds it
 * in the file. What failed for good is left unmarked: the scheduler has the bounce agent report it, which
 * marks it after its report is in the queue.
 */
#include "clock.h"
#include "deliver_wire.h"
#include "log.h"
#include "mem.h"

#include <errno.h>
#include <sys/file.h>
#include <unistd.h>

/* A scheduler that is alive talks, or closes, in this time. */
enum { REQUEST_TIMEOUT_MS = 3600 * 1000, ANSWER_TIMEOUT_MS = 60 * 1000 };

struct serve {
    struct deliver_agent *agent;
    struct queue *queue;
    struct io_stream *stream;
    void *ctx; /* of one request */
    struct deliver_wire_request wire;
    struct deliver_result *reasons; /* wire.n, or NULL */
    struct deliver_request request;
    struct deliver_result *results; /* of request.rcpts */
    struct buf answer;
};

static enum io_end read_reasons(struct serve *v)
{
    struct io_attrs attrs;
    enum io_end end;
    uint64_t offset;
    size_t i;

    if (!v->wire.has_reasons)
        return IO_OK;
    v->reasons = mem_array(v->ctx, struct deliver_result, v->wire.n);
    for (i = 0; i < v->wire.n; i++) {
        end = io_attr_read(v->ctx, v->stream, clock_ms() + ANSWER_TIMEOUT_MS, &attrs);
        if (end != IO_OK)
            return end;
        if (!deliver_wire_get_result(v->ctx, &attrs, &offset, &v->reasons[i]) || offset != v->wire.offsets[i])
            return IO_RESET;
    }
    return IO_OK;
}

static enum io_end read_request(struct serve *v)
{
    struct io_attrs attrs;
    enum io_end end = io_attr_read(v->ctx, v->stream, clock_ms() + REQUEST_TIMEOUT_MS, &attrs);

    if (end != IO_OK)
        return end;
    if (!deliver_wire_get_request(v->ctx, &attrs, &v->wire)) {
        log_warn("malformed delivery request");
        return IO_RESET;
    }
    return read_reasons(v);
}

/* Recipients of the request that are still to do in the file. */
static bool choose_rcpts(struct serve *v, struct queue_envelope *env)
{
    struct deliver_result *kept = v->reasons ? mem_array(v->ctx, struct deliver_result, v->wire.n) : NULL;
    size_t i, at = 0;

    v->request.rcpts = mem_array(v->ctx, struct queue_rcpt *, v->wire.n);
    for (i = 0; i < v->wire.n; i++) {
        while (at < env->rcpt_count && env->rcpts[at].offset != v->wire.offsets[i])
            at++; /* both are in the order of the file */
        if (at == env->rcpt_count)
            return false;
        if (env->rcpts[at].state != QUEUE_RCPT_TODO)
            continue;
        if (kept != NULL)
            kept[v->request.rcpt_count] = v->reasons[i];
        v->request.rcpts[v->request.rcpt_count++] = &env->rcpts[at];
    }
    v->request.reasons = kept;
    return true;
}

static enum deliver_answer answer_of(const struct error *e)
{
    if (e->code == ENOENT)
        return DELIVER_ANSWER_GONE;
    if (e->code == EBADMSG)
        return DELIVER_ANSWER_CORRUPT;
    return DELIVER_ANSWER_TROUBLE;
}

/* Opens the file and completes the request; what to answer when that fails is in *answer_r. */
static struct error *open_message(struct serve *v, enum deliver_answer *answer_r)
{
    struct queue_envelope *env;
    struct error *e = queue_message_open(v->queue, v->wire.place, v->wire.id, false, &v->request.fd);

    if (e != NULL) {
        v->request.fd = -1;
        *answer_r = answer_of(e);
        return e;
    }
    if (flock(v->request.fd, LOCK_SH | LOCK_NB) != 0) {
        *answer_r = errno == EWOULDBLOCK ? DELIVER_ANSWER_BUSY : DELIVER_ANSWER_TROUBLE;
        return error_errno(errno, "lock %s", v->wire.id);
    }
    e = queue_message_read(v->ctx, v->request.fd, &env);
    if (e == NULL && !choose_rcpts(v, env))
        e = error_new(ERROR_TEMP, "%s: no recipient at the place that the scheduler named", v->wire.id);
    if (e != NULL) {
        *answer_r = answer_of(e);
        return e;
    }
    v->request.envelope = env;
    v->request.transport = v->wire.transport;
    v->request.nexthop = v->wire.nexthop;
    v->request.active_us = v->wire.active_us;
    v->request.soft_bounce = v->wire.soft_bounce;
    return NULL;
}

static void settle(struct serve *v, size_t i, uint64_t asked_us)
{
    struct deliver_result *result = &v->results[i];
    struct queue_rcpt *rcpt = v->request.rcpts[i];
    struct error *e;

    if (!v->agent->ops->is_report)
        deliver_log(&v->request, rcpt, result, asked_us);
    if (result->status == DELIVER_BOUNCED && v->request.soft_bounce) {
        result->status = DELIVER_DEFERRED;
        result->dsn[0] = '4';
    }
    if (result->status != DELIVER_SENT)
        return;
    e = queue_message_mark(v->request.fd, rcpt, QUEUE_RCPT_DONE);
    if (e != NULL) {
        log_warn("%s: cannot mark <%s> as done, it may be delivered again: %s", v->wire.id, rcpt->addr,
                 e->text);
        error_free(&e);
    }
}

static void answer_results(struct serve *v)
{
    struct deliver_result already = {
        .status = DELIVER_SENT, .dsn = "2.0.0", .text = (char *)"delivered before"};
    size_t i, at = 0;

    deliver_wire_put_answer(&v->answer, DELIVER_ANSWER_OK, "");
    for (i = 0; i < v->wire.n; i++) {
        if (at < v->request.rcpt_count && v->request.rcpts[at]->offset == v->wire.offsets[i]) {
            deliver_wire_put_result(&v->answer, v->wire.offsets[i], &v->results[at]);
            at++;
        } else {
            deliver_wire_put_result(&v->answer, v->wire.offsets[i], &already);
        }
    }
}

static void deliver(struct serve *v)
{
    uint64_t asked_us = clock_real_us();
    size_t i;

    v->results = mem_array(v->ctx, struct deliver_result, v->request.rcpt_count);
    for (i = 0; i < v->request.rcpt_count; i++)
        deliver_result_set(v->ctx, &v->results[i], DELIVER_DEFERRED, "4.3.0", "none",
                           "delivery was not attempted");
    if (v->request.rcpt_count > 0)
        v->agent->ops->deliver(v->agent, v->ctx, &v->request, v->results);
    for (i = 0; i < v->request.rcpt_count; i++)
        settle(v, i, asked_us);
    answer_results(v);
}

static enum io_end serve_request(struct serve *v)
{
    enum deliver_answer answer = DELIVER_ANSWER_OK;
    enum io_end end = read_request(v);
    struct error *e;

    if (end != IO_OK)
        return end;
    /* A request of a scheduler that has gone meanwhile is void: its successor asks again. */
    if (io_peer_left(v->stream))
        return IO_CLOSED;
    e = open_message(v, &answer);
    if (e == NULL)
        deliver(v);
    else
        deliver_wire_put_answer(&v->answer, answer, e->text);
    error_free(&e);
    if (v->request.fd >= 0)
        close(v->request.fd);
    end = io_write(v->stream, buf_bytes(&v->answer), clock_ms() + ANSWER_TIMEOUT_MS);
    return end == IO_OK ? io_flush(v->stream, clock_ms() + ANSWER_TIMEOUT_MS) : end;
}

void deliver_serve(struct deliver_agent *agent, struct queue *q, const char *service, struct io_stream *s)
{
    enum io_end end;

    do {
        struct serve v = {
            .agent = agent, .queue = q, .stream = s, .ctx = talloc_named_const(NULL, 0, service)};

        v.request.fd = -1;
        end = serve_request(&v);
        buf_deinit(&v.answer);
        talloc_free(v.ctx);
    } while (end == IO_OK);
}
