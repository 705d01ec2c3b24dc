/*
 * Transports and destinations: who waits where, whose turn is next, and what is suspended. See qmgr_state.h.
 */
#include "qmgr_state.h"

#include "clock.h"
#include "log.h"
#include "mem.h"

#include <utlist.h>

/* ---- transports ---- */

static bool is_deferred_by_conf(const struct qmgr *q, const char *name)
{
    void *ctx = talloc_named_const(NULL, 0, "defer_transports");
    const char *rest = q->defer_transports;
    char *word;
    bool found = false;

    while (!found && (word = conf_list_next(ctx, &rest)) != NULL)
        found = strcmp(word, name) == 0;
    talloc_free(ctx);
    return found;
}

/* Why mail for this name cannot be handed over in this version or configuration; NULL: it can. */
static char *find_trouble(struct qmgr_transport *t)
{
    if (t->service == NULL)
        return mem_printf(t, "unknown mail transport error: no transport \"%s\" in master.cf", t->name);
    if (conf_command(t->service->command) == CONF_COMMAND_OURS)
        return NULL;
    return mem_printf(t, "mail transport \"%s\" needs the command %s, which this version does not have",
                      t->name, t->service->command);
}

static void read_rules(struct qmgr_transport *t, const struct conf *conf)
{
    const char *name = t->name;
    long limit =
        conf_int_for(conf, name, "_destination_recipient_limit", "default_destination_recipient_limit");

    t->rcpt_limit = limit > 0 && limit < DELIVER_RCPT_LIMIT ? (size_t)limit : DELIVER_RCPT_LIMIT;
    t->rules.initial =
        conf_int_for(conf, name, "_initial_destination_concurrency", "initial_destination_concurrency");
    t->rules.limit =
        conf_int_for(conf, name, "_destination_concurrency_limit", "default_destination_concurrency_limit");
    t->rules.cohort_limit = (double)conf_int_for(conf, name, "_destination_concurrency_failed_cohort_limit",
                                                 "default_destination_concurrency_failed_cohort_limit");
    if (!qmgr_feedback_parse(conf_text_for(conf, name, "_destination_concurrency_positive_feedback",
                                           "default_destination_concurrency_positive_feedback"),
                             &t->rules.positive) ||
        !qmgr_feedback_parse(conf_text_for(conf, name, "_destination_concurrency_negative_feedback",
                                           "default_destination_concurrency_negative_feedback"),
                             &t->rules.negative)) {
        log_warn("transport %s: malformed concurrency feedback, using 1", name);
        t->rules.positive = t->rules.negative = (struct qmgr_feedback){1, QMGR_FEEDBACK_FIXED};
    }
}

struct qmgr_transport *qmgr_transport_get(struct qmgr *q, const char *name)
{
    struct qmgr_transport *t;

    HASH_FIND_STR(q->transports, name, t);
    if (t != NULL)
        return t;
    t = mem_new(q, struct qmgr_transport);
    t->qmgr = q;
    t->name = mem_strdup(t, name);
    t->service = qmgr_agent_service(q, name);
    t->trouble = find_trouble(t);
    if (t->trouble != NULL)
        log_warn("%s; mail for it waits in the queue", t->trouble);
    read_rules(t, q->conf);
    t->worker_limit = t->service != NULL && t->service->maxproc > 0 ? t->service->maxproc : 1000;
    HASH_ADD_KEYPTR(hh, q->transports, t->name, strlen(t->name), t);
    return t;
}

/* ---- destinations ---- */

static void update_ready(struct qmgr_destination *d)
{
    bool is_ready = d->waiting != NULL && d->busy < d->window.size;

    if (is_ready && !d->is_ready)
        DL_APPEND(d->transport->ready, d);
    else if (!is_ready && d->is_ready)
        DL_DELETE(d->transport->ready, d);
    d->is_ready = is_ready;
}

static struct qmgr_destination *get_destination(struct qmgr_transport *t, const char *nexthop)
{
    char *name = bytes_dup_lower(NULL, bytes_of(nexthop));
    struct qmgr_destination *d;

    HASH_FIND_STR(t->destinations, name, d);
    if (d == NULL) {
        d = mem_new(t, struct qmgr_destination);
        d->transport = t;
        d->name = mem_strdup(d, name);
        d->nexthop = mem_strdup(d, nexthop);
        qmgr_window_reset(&d->window, &t->rules);
        HASH_ADD_KEYPTR(hh, t->destinations, d->name, strlen(d->name), d);
    }
    talloc_free(name);
    return d;
}

static bool is_dead(uint64_t *dead_until)
{
    if (*dead_until != 0 && clock_ms() >= *dead_until)
        *dead_until = 0;
    return *dead_until != 0;
}

static void fail_places(struct qmgr_message *m, const size_t *at, size_t n, const char *dsn, const char *text)
{
    size_t i;

    for (i = 0; i < n; i++)
        qmgr_message_fail(m, at[i], DELIVER_DEFERRED, dsn, text);
}

/* The status of a failure as that of mail that was not even tried because of it. */
static void fail_dead(struct qmgr_destination *d, struct qmgr_message *m, const size_t *at, size_t n)
{
    char *text = mem_printf(NULL, "delivery temporarily suspended: %s", d->why.text);
    char dsn[12];

    snprintf(dsn, sizeof(dsn), "%s", d->why.dsn);
    dsn[0] = '4';
    fail_places(m, at, n, dsn, text);
    talloc_free(text);
}

void qmgr_transport_add(struct qmgr *q, struct qmgr_message *m, const struct qmgr_group_item *group)
{
    struct qmgr_transport *t = qmgr_transport_get(q, group->transport);
    struct qmgr_destination *d;
    struct qmgr_group_wait *wait;

    if (t->trouble != NULL || is_dead(&t->dead_until)) {
        fail_places(m, group->at, group->n, "4.3.0", t->trouble ? t->trouble : "mail transport unavailable");
        return;
    }
    if (!m->is_flushed && is_deferred_by_conf(q, t->name)) {
        fail_places(m, group->at, group->n, "4.3.2", "deferred transport");
        return;
    }
    d = get_destination(t, group->nexthop);
    if (is_dead(&d->dead_until)) {
        fail_dead(d, m, group->at, group->n);
        return;
    }
    wait = mem_new(m, struct qmgr_group_wait);
    wait->message = m;
    wait->at = group->at;
    wait->n = group->n;
    DL_APPEND(d->waiting, wait);
    update_ready(d);
    qmgr_agent_start(t);
}

/* ---- turns ---- */

/* The rest of a message that is no longer there has nothing to wait for. */
static void drop_wait(struct qmgr_destination *d, struct qmgr_group_wait *wait)
{
    struct qmgr_message *m = wait->message;
    const size_t *at = wait->at + wait->taken;
    size_t i, n = wait->n - wait->taken;

    DL_DELETE(d->waiting, wait);
    for (i = 0; i < n; i++)
        qmgr_message_settle(m, at[i], &(struct deliver_result){.status = DELIVER_DEFERRED});
}

static struct qmgr_batch take_batch(struct qmgr_destination *d)
{
    struct qmgr_group_wait *wait = d->waiting;
    size_t left = wait->n - wait->taken, limit = d->transport->rcpt_limit;
    struct qmgr_batch b = {d, wait->message, wait->at + wait->taken, left < limit ? left : limit};

    wait->taken += b.n;
    DL_DELETE(d->waiting, wait);
    if (wait->taken < wait->n)
        DL_APPEND(d->waiting, wait); /* the next message's turn */
    d->busy++;
    return b;
}

struct qmgr_batch qmgr_transport_next(struct qmgr_transport *t)
{
    struct qmgr_batch b = {0};
    struct qmgr_destination *d;

    while (b.n == 0 && (d = t->ready) != NULL) {
        if (d->waiting->message->is_gone || d->waiting->message->is_corrupt)
            drop_wait(d, d->waiting);
        else
            b = take_batch(d);
        DL_DELETE(t->ready, d);
        d->is_ready = false;
        update_ready(d); /* to the end of the list, if it has more */
    }
    return b;
}

/* ---- what came back ---- */

static void fail_waiting(struct qmgr_destination *d)
{
    struct qmgr_group_wait *wait;

    while ((wait = d->waiting) != NULL) {
        DL_DELETE(d->waiting, wait);
        fail_dead(d, wait->message, wait->at + wait->taken, wait->n - wait->taken);
    }
    update_ready(d);
}

static void kill_destination(struct qmgr_destination *d, const struct deliver_result *failure)
{
    talloc_free(d->why.text);
    d->why.text = mem_strdup(d, failure->text);
    memcpy(d->why.dsn, failure->dsn, sizeof(d->why.dsn));
    d->dead_until = clock_ms() + d->transport->qmgr->dead_ms;
    fail_waiting(d);
}

void qmgr_transport_done(struct qmgr_batch *b, const struct deliver_result *site_failure)
{
    struct qmgr_destination *d = b->destination;
    const struct qmgr_window_rules *rules = &d->transport->rules;

    if (site_failure == NULL)
        qmgr_window_success(&d->window, rules, d->busy);
    d->busy--;
    if (site_failure != NULL && qmgr_window_failure(&d->window, rules))
        kill_destination(d, site_failure);
    update_ready(d);
}

void qmgr_transport_suspend(struct qmgr_transport *t, const char *why)
{
    struct qmgr_destination *d, *next;
    struct qmgr_group_wait *wait;

    log_warn("mail transport %s is unavailable: %s", t->name, why);
    t->dead_until = clock_ms() + t->qmgr->transport_retry_ms;
    HASH_ITER (hh, t->destinations, d, next) {
        while ((wait = d->waiting) != NULL) {
            DL_DELETE(d->waiting, wait);
            fail_places(wait->message, wait->at + wait->taken, wait->n - wait->taken, "4.3.0",
                        "mail transport unavailable");
        }
        update_ready(d);
    }
}

void qmgr_transport_revive_all(struct qmgr *q)
{
    struct qmgr_transport *t, *next_t;
    struct qmgr_destination *d, *next_d;

    HASH_ITER (hh, q->transports, t, next_t) {
        t->dead_until = 0;
        t->faults = 0;
        HASH_ITER (hh, t->destinations, d, next_d) {
            d->dead_until = 0;
        }
    }
}

void qmgr_transport_sweep(struct qmgr *q)
{
    struct qmgr_transport *t, *next_t;
    struct qmgr_destination *d, *next_d;

    HASH_ITER (hh, q->transports, t, next_t)
        HASH_ITER (hh, t->destinations, d, next_d) {
            if (d->busy > 0 || d->waiting != NULL || is_dead(&d->dead_until))
                continue;
            HASH_DEL(t->destinations, d);
            talloc_free(d);
        }
}
