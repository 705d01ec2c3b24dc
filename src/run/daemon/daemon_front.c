/* What a before-filter server has for whole messages. See daemon_front.h. */
#include "daemon_front.h"

#include "admission_ladder.h"
#include "admit.h"
#include "cleanup.h"
#include "clock.h"
#include "daemon_own.h"
#include "log.h"
#include "master.h"
#include "mem.h"
#include "verdict.h"

enum { FLUSH_MS = 2000 };

struct daemon_front {
    struct admit *admit, *cheap_admit;
    struct proxy *proxy;
    struct proxy *cheap;     /* NULL without smtpd_proxy_cheap_filter */
    struct cleanup *cleanup; /* NULL without smtpd_proxy_hold_filter */
    const char *cheap_filter, *hold_filter;
};

/* ---- the ways ---- */

/* Admission takes no way that it was not told of: daemon_front_open() saw to it. */
static struct mail_sink *sink_of(struct daemon_front *f, void *ctx, enum mail_route route)
{
    switch (route) {
    case MAIL_BY_CHEAP_FILTER:
        return proxy_sink(ctx, f->cheap);
    case MAIL_BY_QUEUE:
        return admit_hold_sink(ctx, f->admit, cleanup_sink(ctx, f->cleanup));
    case MAIL_BY_FILTER:
        break;
    }
    return proxy_sink(ctx, f->proxy);
}

/* The filter that everything else goes through did not see this one: who reads the log has to know. */
static void tell(const struct daemon_front *f, const struct mail_envelope *e)
{
    if (e->route == MAIL_BY_CHEAP_FILTER)
        log_info("%s: admission: step cheap: to filter %s", e->id, f->cheap_filter);
    else if (e->route == MAIL_BY_QUEUE)
        log_info("%s: admission: step hold: into the queue, and from there to filter %s", e->id,
                 f->hold_filter);
}

struct route {
    struct mail_sink sink;
    struct daemon_front *front;
    struct mail_sink *next; /* NULL before begin */
};

static struct route *route_of(struct mail_sink *s)
{
    return (struct route *)s;
}

static mail_waits struct mail_reply begin(struct mail_sink *s, const struct mail_client *client,
                                          const struct mail_envelope *envelope)
{
    struct route *r = route_of(s);

    r->next = sink_of(r->front, r, envelope->route);
    tell(r->front, envelope);
    return r->next->ops->begin(r->next, client, envelope);
}

static mail_waits struct mail_reply recipient(struct mail_sink *s, const struct mail_rcpt *rcpt)
{
    return route_of(s)->next->ops->recipient(route_of(s)->next, rcpt);
}

static mail_waits struct mail_reply content_begin(struct mail_sink *s)
{
    return route_of(s)->next->ops->content_begin(route_of(s)->next);
}

static mail_waits void content(struct mail_sink *s, struct bytes piece)
{
    route_of(s)->next->ops->content(route_of(s)->next, piece);
}

static mail_waits struct mail_reply commit(struct mail_sink *s)
{
    struct mail_sink *next = route_of(s)->next;
    struct mail_reply r = next->ops->commit(next);

    s->receipt = next->receipt;
    return r;
}

static mail_waits void abort_next(struct mail_sink *s)
{
    if (route_of(s)->next != NULL)
        route_of(s)->next->ops->abort(route_of(s)->next);
}

static const struct mail_sink_ops ops = {"route", begin,  recipient, content_begin,
                                         content, commit, abort_next};

struct mail_sink *daemon_front_sink(void *ctx, struct daemon_front *f)
{
    struct route *r;

    if (f->cheap == NULL && f->cleanup == NULL)
        return proxy_sink(ctx, f->proxy);
    r = mem_new(ctx, struct route);
    r->sink.ops = &ops;
    r->front = f;
    return &r->sink;
}

struct mail_hook *daemon_front_hook(const struct daemon_front *f)
{
    return admit_hook(f->admit);
}

/* ---- open ---- */

static const char *const ladders[] = {"smtpd_proxy_own_steps", "smtpd_proxy_auth_steps",
                                      "smtpd_proxy_good_steps", "smtpd_proxy_stranger_steps"};
enum { LADDERS = sizeof(ladders) / sizeof(ladders[0]) };

static bool has_step(const struct conf *conf, const char *ladder, enum admission_step step)
{
    struct admission_ladder l;
    struct error *e = admission_ladder_parse(conf_text(conf, ladder), &l);
    bool has = e == NULL && l.mark[step] > 0;

    error_free(&e);
    return has;
}

/* What it has no room for goes by hold, where that is a step, else it is refused: the pressure on the full
 * filter, of which that is a part, moves the class. */
static struct error *open_cheap(struct daemon_front *f, const struct conf *conf, unsigned worker,
                                struct verdict *verdict)
{
    const char *filter = conf_text(conf, "smtpd_proxy_cheap_filter");
    struct conf *own;
    struct error *e;

    if (filter[0] == '\0')
        return NULL;
    own = conf_derive(f, conf);
    for (size_t i = 0; i < LADDERS; i++)
        conf_set(own, ladders[i], has_step(conf, ladders[i], ADMISSION_HOLD) ? "full, hold 100000" : "full",
                 "smtpd_proxy_cheap_filter", 0);
    e = error_prepend(proxy_open(f, conf, filter, true, &f->cheap), "smtpd_proxy_cheap_filter");
    if (e == NULL)
        e = admit_open(f, own, filter, worker, verdict, &f->cheap_admit);
    if (e != NULL)
        return e;
    proxy_set_gate(f->cheap, admit_gate(f->cheap_admit));
    admit_set_cheap(f->admit, f->cheap_admit);
    return NULL;
}

/* Queued as it came, for the filter that smtpd_proxy_hold_filter names, as content_filter would. */
static struct error *open_hold(struct daemon_front *f, const struct conf *conf, struct queue *queue)
{
    const char *filter = conf_text(conf, "smtpd_proxy_hold_filter");
    struct conf *own;

    if (filter[0] == '\0')
        return NULL;
    own = conf_derive(f, conf);
    conf_set(own, "content_filter", filter, "smtpd_proxy_hold_filter", 0);
    admit_set_hold(f->admit);
    if (f->cheap_admit != NULL)
        admit_set_hold(f->cheap_admit);
    return cleanup_open(f, own, queue, &f->cleanup);
}

/* A step of a ladder that leads nowhere. */
static struct error *check_steps(const struct daemon_front *f, const struct conf *conf)
{
    for (size_t i = 0; i < LADDERS; i++) {
        if (f->cheap == NULL && has_step(conf, ladders[i], ADMISSION_CHEAP))
            return error_new(ERROR_CONF, "%s: \"cheap\" needs smtpd_proxy_cheap_filter", ladders[i]);
        if (f->cleanup == NULL && has_step(conf, ladders[i], ADMISSION_HOLD))
            return error_new(ERROR_CONF, "%s: \"hold\" needs smtpd_proxy_hold_filter", ladders[i]);
    }
    return NULL;
}

/* What was heard must be forgotten, or the same message would not be taken as a new one after a restart. */
static co_fn void flush(void *verdict)
{
    verdict_flush(verdict, clock_ms() + FLUSH_MS);
}

struct error *daemon_front_open(const void *ctx, const struct conf *conf, unsigned worker,
                                struct queue *queue, struct proxy *proxy, struct daemon_front **front_r)
{
    struct daemon_front *f = mem_new(ctx, struct daemon_front);
    const char *filter = conf_text(conf, "smtpd_proxy_filter");
    bool remembers = worker != MASTER_TOOL_ID && conf_bool(conf, "smtpd_proxy_verdict_memory");
    struct verdict *verdict = remembers ? verdict_open(f, conf, filter, worker) : NULL;
    struct error *e = admit_open(f, conf, filter, worker, verdict, &f->admit);

    *front_r = f;
    f->cheap_filter = conf_text(conf, "smtpd_proxy_cheap_filter");
    f->hold_filter = conf_text(conf, "smtpd_proxy_hold_filter");
    if (verdict != NULL)
        daemon_at_end(flush, verdict);
    f->proxy = proxy;
    if (e == NULL)
        e = open_cheap(f, conf, worker, verdict);
    if (e == NULL)
        e = open_hold(f, conf, queue);
    if (e == NULL)
        e = check_steps(f, conf);
    if (e == NULL)
        proxy_set_gate(proxy, admit_gate(f->admit));
    return e;
}
