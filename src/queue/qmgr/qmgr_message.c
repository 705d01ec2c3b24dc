/*
 * One message: from its file into memory, its recipients on their ways, and what becomes of each. See
 * qmgr_state.h.
 */
#include "clock.h"
#include "log.h"
#include "mail_address.h"
#include "mem.h"
#include "qmgr_state.h"

#include <errno.h>
#include <unistd.h>

/* ---- taking ---- */

static void set_aside(struct qmgr *q, enum queue_place place, const char *id, const char *why)
{
    struct error *e = queue_message_move(q->queue, id, place, QUEUE_CORRUPT, 0);

    log_warn("%s: damaged queue file, moved to corrupt: %s", id, why);
    if (e != NULL)
        log_report(&e);
}

static bool is_trouble(int code)
{
    return code == EMFILE || code == ENFILE || code == ENOMEM || code == ENOSPC || code == EROFS ||
           code == EIO;
}

static enum qmgr_taken take_failed(struct qmgr *q, enum queue_place place, const char *id, struct error *e)
{
    enum qmgr_taken taken = is_trouble(e->code) ? QMGR_TROUBLE : QMGR_LATER;

    if (e->code == ENOENT)
        taken = QMGR_NOT_THERE;
    else if (e->code == EBADMSG)
        set_aside(q, place, id, e->text);
    else if (e->code == EWOULDBLOCK)
        log_debug("%s: skipped, still being delivered", id);
    else if (e->code != 0)
        log_warn("%s: %s", id, e->text);
    error_free(&e);
    return taken;
}

static void choose_rcpts(struct qmgr_message *m)
{
    size_t i;

    m->rcpts = mem_array(m, struct queue_rcpt *, m->envelope->rcpt_count);
    for (i = 0; i < m->envelope->rcpt_count; i++) {
        if (m->envelope->rcpts[i].state == QUEUE_RCPT_TODO)
            m->rcpts[m->n++] = &m->envelope->rcpts[i];
    }
    m->results = mem_array(m, struct deliver_result, m->n);
}

static void log_active(const struct qmgr_message *m)
{
    char *sender = mail_address_external(NULL, m->envelope->sender);

    log_info("%s: from=<%s>, size=%llu, nrcpt=%zu (queue active)", m->id, sender,
             (unsigned long long)m->envelope->content_size, m->envelope->rcpt_count);
    talloc_free(sender);
}

/* ---- routes ---- */

static co_fn struct qmgr_route find_route(struct qmgr_message *m, const struct queue_rcpt *rcpt)
{
    const struct rewrite *rw = m->qmgr->rewrite;
    struct rewrite_route route;

    if (m->envelope->filter != NULL) {
        if (rewrite_filter_route(rw, m, m->envelope->filter, rcpt->addr, &route))
            return (struct qmgr_route){.transport = route.transport, .nexthop = route.nexthop};
        return (struct qmgr_route){.dsn = "4.3.5", .text = "mail system configuration error"};
    }
    if (rewrite_resolve(rw, m, m->envelope->sender, rcpt->addr, &route) == REWRITE_ROUTE)
        return (struct qmgr_route){.transport = route.transport, .nexthop = route.nexthop};
    return (struct qmgr_route){.dsn = mem_strdup(m, route.dsn), .text = route.text};
}

/* A coroutine for each message, because a table may take its time. */
static co_fn void send_on_its_way(struct qmgr *q, void *arg)
{
    struct qmgr_message *m = arg;
    struct qmgr_route *routes = mem_array(m, struct qmgr_route, m->n);
    struct qmgr_group_list groups;
    size_t i;

    for (i = 0; i < m->n && !co_is_cancelled(); i++)
        routes[i] = find_route(m, m->rcpts[i]);
    q->resolving--;
    qmgr_wake(q);
    if (co_is_cancelled())
        return;
    groups = qmgr_group(m, routes, m->n);
    for (i = 0; i < groups.n; i++)
        qmgr_transport_add(q, m, &groups.items[i]);
    for (i = 0; i < m->n; i++) {
        if (routes[i].transport == NULL)
            qmgr_message_fail(m, i, routes[i].dsn[0] == '5' ? DELIVER_BOUNCED : DELIVER_DEFERRED,
                              routes[i].dsn, routes[i].text);
    }
}

static enum qmgr_taken begin(struct qmgr *q, enum queue_place place, const char *id,
                             struct queue_envelope *env)
{
    struct qmgr_message *m = mem_new(q, struct qmgr_message);

    snprintf(m->id, sizeof(m->id), "%s", id);
    m->qmgr = q;
    m->envelope = talloc_steal(m, env);
    m->active_us = clock_real_us();
    m->is_flushed = place == QUEUE_DEFERRED && q->is_flush;
    choose_rcpts(m);
    HASH_ADD_STR(q->messages, id, m);
    q->message_count++;
    q->rcpt_count += m->n;
    log_active(m);
    if (m->n == 0) { /* all delivered, when a crash kept it from being removed */
        qmgr_spawn(q, qmgr_message_finish, m, id);
        return QMGR_TAKEN;
    }
    q->resolving++;
    qmgr_spawn(q, send_on_its_way, m, id);
    return QMGR_TAKEN;
}

enum qmgr_taken qmgr_message_take(struct qmgr *q, enum queue_place place, const char *id)
{
    struct queue_envelope *env = NULL;
    struct qmgr_message *known;
    struct error *e;
    int fd;

    HASH_FIND_STR(q->messages, id, known);
    if (known != NULL)
        return QMGR_LATER;
    e = queue_message_open(q->queue, place, id, true, &fd);
    if (e != NULL)
        return take_failed(q, place, id, e);
    e = queue_message_read(q, fd, &env);
    if (e == NULL)
        e = queue_message_move(q->queue, id, place, QUEUE_ACTIVE, 0);
    close(fd);
    if (e == NULL)
        return begin(q, place, id, env);
    talloc_free(env);
    return take_failed(q, place, id, e);
}

/* ---- results ---- */

void qmgr_message_settle(struct qmgr_message *m, size_t at, const struct deliver_result *result)
{
    struct deliver_result *to = &m->results[at];

    *to = *result;
    to->text = mem_strdup(m, result->text != NULL ? result->text : "");
    to->relay = NULL;
    to->remote = result->remote != NULL ? mem_strdup(m, result->remote) : NULL;
    if (++m->settled == m->n)
        qmgr_spawn(m->qmgr, qmgr_message_finish, m, m->id);
}

void qmgr_message_fail(struct qmgr_message *m, size_t at, enum deliver_status status, const char *dsn,
                       const char *text)
{
    struct deliver_request request = {
        .envelope = m->envelope, .active_us = m->active_us, .soft_bounce = m->qmgr->soft_bounce};
    struct deliver_result result = {.status = status, .text = (char *)text, .relay = (char *)"none"};

    snprintf(result.dsn, sizeof(result.dsn), "%s", dsn);
    deliver_log(&request, m->rcpts[at], &result, clock_real_us());
    if (status == DELIVER_BOUNCED && m->qmgr->soft_bounce) {
        result.status = DELIVER_DEFERRED;
        result.dsn[0] = '4';
    }
    qmgr_message_settle(m, at, &result);
}
