/*
 * bounce(8): who is told, and the report on its way into the queue. See bounce_agent.h.
 */
#include "bounce_agent.h"

#include "bounce_report.h"
#include "clock.h"
#include "log.h"
#include "mail_address.h"
#include "mem.h"

#include <unistd.h>

struct bounce_agent {
    struct deliver_agent agent;
    const char *myhostname, *myorigin, *mail_name;
    uint64_t size_limit;
    struct mail_sink *(*make_sink)(const void *ctx, void *arg);
    void *sink_arg;
};

void bounce_agent_set_sink(struct deliver_agent *agent, struct mail_sink *(*make)(const void *ctx, void *arg),
                           void *arg)
{
    struct bounce_agent *a = (struct bounce_agent *)agent;

    a->make_sink = make;
    a->sink_arg = arg;
}

/* One report. */
struct notice {
    const struct bounce_agent *agent;
    const void *ctx;
    const struct deliver_request *request;
    struct bounce_report report;
    struct bytes returned; /* content, or its header */
    struct mail_envelope envelope;
    struct mail_sink *sink;
};

static bool wants_report(const struct queue_rcpt *rcpt)
{
    return rcpt->notify == 0 || (rcpt->notify & MAIL_NOTIFY_FAILURE);
}

static void choose_rcpts(struct notice *n)
{
    const struct deliver_request *request = n->request;
    struct queue_rcpt **rcpts = mem_array(n->ctx, struct queue_rcpt *, request->rcpt_count);
    const struct deliver_result **reasons =
        mem_array(n->ctx, const struct deliver_result *, request->rcpt_count);
    size_t i;

    for (i = 0; i < request->rcpt_count; i++) {
        if (!wants_report(request->rcpts[i]))
            continue;
        rcpts[n->report.n] = request->rcpts[i];
        reasons[n->report.n++] = &request->reasons[i];
    }
    n->report.rcpts = rcpts;
    n->report.reasons = reasons;
}

/* ---- the content that is returned ---- */

static struct error *read_content(struct notice *n, size_t size)
{
    const struct queue_envelope *env = n->request->envelope;
    char *text = mem_bytes(n->ctx, size + 1);
    size_t done = 0;
    ssize_t got;

    while (done < size) {
        got = pread(n->request->fd, text + done, size - done, (off_t)(env->content_offset + done));
        if (got <= 0)
            return error_new(ERROR_TEMP, "%s: cannot read the message", env->id);
        done += (size_t)got;
    }
    n->returned = bytes(text, size);
    return NULL;
}

/* The header with its last CR LF; of an endless one, whole lines. */
static struct bytes header_of(struct bytes content)
{
    size_t end = bytes_find(content, BYTES("\r\n\r\n"));

    if (bytes_has_prefix(content, BYTES("\r\n")))
        return bytes(content.p, 0);
    if (end == SIZE_MAX)
        end = bytes_rchr(content, '\n');
    else
        end++;
    return bytes(content.p, end == SIZE_MAX ? 0 : end + 1);
}

static bool has_8bit(struct bytes text)
{
    size_t i;

    for (i = 0; i < text.n; i++) {
        if ((unsigned char)text.p[i] > 127)
            return true;
    }
    return false;
}

static struct error *take_content(struct notice *n)
{
    const struct queue_envelope *env = n->request->envelope;
    uint64_t limit = n->agent->size_limit;
    struct error *e;

    n->report.headers_only = env->ret == MAIL_RET_HDRS || env->content_size > limit;
    e = read_content(n, (size_t)(env->content_size < limit ? env->content_size : limit));
    if (e != NULL)
        return e;
    if (n->report.headers_only)
        n->returned = header_of(n->returned);
    n->report.is_8bit = has_8bit(n->returned);
    return NULL;
}

/* ---- into the sink ---- */

static const struct mail_client own_client = {
    .name = "localhost",
    .reverse_name = "localhost",
    .addr = "127.0.0.1",
    .port = "0",
    .family = AF_INET,
    .helo = "localhost",
    .proto = "ESMTP",
    .server_addr = "127.0.0.1",
    .server_port = "0",
    .is_local = true,
};

static void fill_envelope(struct notice *n)
{
    struct mail_envelope *env = &n->envelope;

    mail_id_new(env->id);
    env->command = BYTES("MAIL FROM:<>");
    env->sender = "";
    env->body = n->report.is_8bit ? MAIL_BODY_8BITMIME : MAIL_BODY_7BIT;
    env->has_body = n->report.is_8bit;
    env->smtputf8 = n->request->envelope->smtputf8;
    env->arrived_us = n->report.now_us;
    n->report.new_id = env->id;
}

/* The next step's reply, or the one that ended it all. */
static bool passes(struct mail_reply *reply_r, struct mail_reply reply)
{
    mail_reply_deinit(reply_r);
    *reply_r = reply;
    return mail_reply_is_ok(reply_r);
}

static co_fn void send_content(struct notice *n)
{
    struct buf text = {0};

    bounce_report_begin(&text, &n->report);
    n->sink->ops->content(n->sink, buf_bytes(&text));
    if (n->returned.n > 0)
        n->sink->ops->content(n->sink, n->returned);
    buf_cut(&text, 0);
    bounce_report_end(&text, &n->report);
    n->sink->ops->content(n->sink, buf_bytes(&text));
    buf_deinit(&text);
}

static co_fn struct mail_reply submit(struct notice *n)
{
    const char *sender = n->request->envelope->sender;
    struct mail_rcpt rcpt = {.addr = sender, .notify = MAIL_NOTIFY_NEVER};
    struct mail_rcpt *rcpts[] = {&rcpt};
    struct mail_reply reply = {0};
    char *command = mem_printf(n->ctx, "RCPT TO:<%s> NOTIFY=NEVER", mail_address_external(n->ctx, sender));

    rcpt.command = bytes_of(command);
    if (!passes(&reply, n->sink->ops->begin(n->sink, &own_client, &n->envelope)))
        return reply;
    if (passes(&reply, n->sink->ops->recipient(n->sink, &rcpt))) {
        n->envelope.rcpts = rcpts;
        n->envelope.rcpt_count = 1;
        if (passes(&reply, n->sink->ops->content_begin(n->sink))) {
            send_content(n);
            passes(&reply, n->sink->ops->commit(n->sink));
            return reply;
        }
    }
    n->sink->ops->abort(n->sink);
    return reply;
}

/* ---- the agent ---- */

static void give_all(const void *ctx, const struct deliver_request *request, struct deliver_result *results,
                     enum deliver_status status, const char *dsn, const char *text)
{
    size_t i;

    for (i = 0; i < request->rcpt_count; i++)
        deliver_result_set(ctx, &results[i], status, dsn, "none", "%s", text);
}

/* True: the report is in the queue, or can never be. */
static co_fn bool notify(struct notice *n, char **why_r)
{
    const char *id = n->request->envelope->id;
    struct mail_reply reply;
    struct error *e = take_content(n);
    bool is_over;

    if (e != NULL) {
        *why_r = mem_strdup(n->ctx, e->text);
        error_free(&e);
        return false;
    }
    fill_envelope(n);
    n->sink = n->agent->make_sink(n->ctx, n->agent->sink_arg);
    log_info("%s: sender non-delivery notification: %s", id, n->envelope.id);
    reply = submit(n);
    is_over = mail_reply_is_ok(&reply) || reply.code / 100 == 5;
    *why_r = mail_reply_log(n->ctx, &reply);
    if (!mail_reply_is_ok(&reply))
        log_warn("%s: sender notification failed to %s: %s", id, n->request->envelope->sender, *why_r);
    mail_reply_deinit(&reply);
    return is_over;
}

static co_fn void bounce_deliver(struct deliver_agent *agent, const void *ctx,
                                 const struct deliver_request *request, struct deliver_result *results)
{
    const struct bounce_agent *a = (const struct bounce_agent *)agent;
    struct notice n = {.agent = a, .ctx = ctx, .request = request};
    char *why;

    if (request->reasons == NULL || a->make_sink == NULL) {
        log_warn("%s: the bounce service is no transport", request->envelope->id);
        give_all(ctx, request, results, DELIVER_DEFERRED, "4.3.5", "mail system configuration error");
        return;
    }
    n.report = (struct bounce_report){.myhostname = a->myhostname,
                                      .myorigin = a->myorigin,
                                      .mail_name = a->mail_name,
                                      .now_us = clock_real_us(),
                                      .envelope = request->envelope};
    choose_rcpts(&n);
    if (*request->envelope->sender == '\0')
        log_info("%s: not delivered, and there is no sender to notify", request->envelope->id);
    else if (n.report.n > 0 && !notify(&n, &why)) {
        give_all(ctx, request, results, DELIVER_DEFERRED, "4.3.0",
                 mem_printf(ctx, "the sender could not be notified: %s", why));
        return;
    }
    give_all(ctx, request, results, DELIVER_SENT, "2.0.0", "reported");
}

static struct error *bounce_open(const void *ctx, const char *service, const struct conf *conf,
                                 struct deliver_agent **agent_r)
{
    struct bounce_agent *a = mem_new(ctx, struct bounce_agent);

    a->agent.ops = &bounce_agent_ops;
    a->myhostname = conf_text(conf, "myhostname");
    a->myorigin = conf_text(conf, "myorigin");
    a->mail_name = conf_text(conf, "mail_name");
    a->size_limit = conf_size(conf, "bounce_size_limit");
    *agent_r = &a->agent;
    return NULL;
}

const struct deliver_agent_ops bounce_agent_ops = {
    .command = "bounce",
    .is_report = true,
    .open = bounce_open,
    .deliver = bounce_deliver,
};
