/* States and sums. See admission_state.h. */
#include "admission_state.h"

#include "admission_line.h"
#include "admission_message.h"
#include "admission_order.h"

enum { WAITS = 16, BODIES = 64 }; /* averages move by this part of what is new */

/* ---- helpers ---- */

bool admission_news_tells(const struct admission_news *news, unsigned worker)
{
    return news->told[worker / 64] >> (worker % 64) & 1;
}

static void tell(struct admission_news *news, unsigned worker)
{
    news->told[worker / 64] |= 1ull << (worker % 64);
}

void admission_state_count(uint64_t histogram[ADMISSION_BUCKETS], uint64_t ms)
{
    unsigned i = 0;

    while (i < ADMISSION_BUCKETS - 1 && ms >= 1ull << i)
        i++;
    histogram[i]++;
}

struct admission_pool *admission_state_pool(struct admission_shared *s, const struct admission_message *m)
{
    return &s->pools[m->pool];
}

struct admission_class_numbers *admission_state_numbers(struct admission_shared *s,
                                                        const struct admission_message *m)
{
    return &s->pools[m->pool].n.classes[m->class];
}

static struct admission_queue *queue_of(struct admission_shared *s, const struct admission_message *m)
{
    return &s->pools[m->pool].queues[m->class];
}

/* ---- states: each counted where it is entered and where it is left ---- */

void admission_state_come(struct admission_shared *s, uint32_t at, uint64_t now)
{
    struct admission_message *m = &s->messages[at];

    m->since = now;
    m->due = now + admission_state_pool(s, m)->set.reserve_ms;
    admission_list_append(s, &admission_state_pool(s, m)->coming, at);
    queue_of(s, m)->coming_ms += m->work_ms;
    admission_state_numbers(s, m)->coming++;
    m->state = ADMISSION_COMING;
}

static void come_no_more(struct admission_shared *s, uint32_t at, uint64_t now)
{
    struct admission_message *m = &s->messages[at];
    struct admission_pool *p = admission_state_pool(s, m);

    p->body_ms += ((double)(now - m->since) - p->body_ms) / BODIES;
    admission_list_remove(s, &p->coming, at);
    queue_of(s, m)->coming_ms -= m->work_ms;
    admission_state_numbers(s, m)->coming--;
}

void admission_state_run(struct admission_shared *s, uint32_t at, uint64_t now)
{
    struct admission_message *m = &s->messages[at];
    struct admission_pool *p = admission_state_pool(s, m);
    struct admission_class_numbers *n = admission_state_numbers(s, m);
    uint64_t waited = now - m->since;

    admission_state_count(n->waits, waited);
    n->waits_ms += waited;
    n->waited_ms = (uint32_t)((n->waited_ms * (WAITS - 1ull) + waited) / WAITS);
    n->running++;
    n->granted++;
    queue_of(s, m)->running_ms += m->work_ms;
    m->since = now;
    if (p->n.used++ == 0 && !p->is_silent)
        p->busy_since = now;
    m->state = ADMISSION_RUNNING;
}

static void run_no_more(struct admission_shared *s, uint32_t at)
{
    struct admission_message *m = &s->messages[at];

    if (!m->is_told)
        admission_mailbox_remove(s, at);
    queue_of(s, m)->running_ms -= m->work_ms;
    admission_state_numbers(s, m)->running--;
    admission_state_pool(s, m)->n.used--;
}

void admission_state_leave(struct admission_shared *s, uint32_t at, uint64_t now)
{
    struct admission_message *m = &s->messages[at];

    if (m->state == ADMISSION_COMING)
        come_no_more(s, at, now);
    else if (m->state == ADMISSION_STALE)
        admission_list_remove(s, &s->stale, at);
    else if (m->state == ADMISSION_WAITING)
        admission_order_remove(s, admission_state_pool(s, m), at);
    else if (m->state == ADMISSION_RUNNING)
        run_no_more(s, at);
}

void admission_state_wait(struct admission_shared *s, uint32_t at)
{
    admission_order_add(s, admission_state_pool(s, &s->messages[at]), at);
    s->messages[at].state = ADMISSION_WAITING;
}

/* ---- what the filter does ---- */

/* Only verdicts tell that it has become quicker. A message that was lost although others were answered
 * meanwhile had its slot for so long; when nobody was answered it is the filter that is down, of which the
 * length of scans tells nothing. */
void admission_state_learn(struct admission_shared *s, const struct admission_message *m,
                           enum admission_outcome outcome, uint32_t service_ms, uint64_t bytes, uint64_t now)
{
    struct admission_pool *p = admission_state_pool(s, m);
    bool is_verdict = outcome == ADMISSION_OK || outcome == ADMISSION_REJECT;
    bool is_longer = service_ms > admission_predict_ms(&p->predict, bytes);
    bool has_answered = outcome != ADMISSION_LOST || p->busy_since > m->since;

    if (is_longer && !has_answered)
        p->is_silent = true;
    else if (is_longer || is_verdict)
        admission_predict_add(&p->predict, bytes, service_ms);
    if (outcome == ADMISSION_LOST)
        return;
    p->busy_since = now;
    p->is_silent = false;
}

/* ---- slots ---- */

void admission_core_grant(struct admission_shared *s, unsigned pool, uint64_t now,
                          struct admission_news *news)
{
    struct admission_pool *p = &s->pools[pool];
    uint32_t at;

    while (p->n.used < p->limit.now && (at = admission_order_next(s, p, now)) != ADMISSION_NOBODY) {
        admission_state_run(s, at, now);
        if (admission_mailbox_put(s, at))
            tell(news, s->messages[at].worker);
    }
}

/* ---- the state of a class ---- */

static void forget_late_bodies(struct admission_shared *s, struct admission_pool *p, uint64_t now)
{
    uint32_t at;

    while ((at = p->coming.first) != ADMISSION_NOBODY && s->messages[at].due <= now) {
        come_no_more(s, at, now);
        admission_list_append(s, &s->stale, at);
        s->messages[at].state = ADMISSION_STALE;
    }
}

static void set_step(struct admission_pool *p, unsigned pool, unsigned class, uint64_t now,
                     struct admission_news *news)
{
    struct admission_class_numbers *n = &p->n.classes[class];
    enum admission_step to =
        admission_ladder_step(&p->set.ladder[class], n->step, p->queues[class].step_since, n->pressure, now);

    if (to == n->step)
        return;
    if (news->changes < ADMISSION_NEWS)
        news->change[news->changes++] =
            (struct admission_change){pool, class, (uint8_t)n->step, (uint8_t)to, n->pressure};
    n->step = to;
    n->step_changes++;
    p->queues[class].step_since = now;
}

/* Patience is how far back it reaches: what came before would have been answered by now. */
static void forget_elsewhere(struct admission_pool *p, unsigned class, uint64_t now)
{
    struct admission_queue *q = &p->queues[class];
    double patience = p->set.patience_ms[class];

    if (now <= q->elsewhere_at)
        return;
    q->elsewhere_ms *= patience / (patience + (double)(now - q->elsewhere_at));
    q->elsewhere_at = now;
}

void admission_state_go_elsewhere(struct admission_pool *p, unsigned class, uint32_t work_ms)
{
    p->queues[class].elsewhere_ms += work_ms;
}

/* Calls whom there is room for, and sets what depends on room. */
void admission_state_look(struct admission_shared *s, unsigned pool, unsigned class, uint64_t now,
                          struct admission_room *r, struct admission_news *news)
{
    struct admission_pool *p = &s->pools[pool];
    struct admission_class_numbers *n = &p->n.classes[class];

    forget_late_bodies(s, p, now);
    admission_room_look(p, class, now, r);
    admission_line_call(s, pool, class, r->slots / r->mean, (r->level - r->ahead) / r->mean, now);
    forget_elsewhere(p, class, now);
    n->pressure = admission_room_pressure(r, n->in_line + admission_line_expected(s, pool, class),
                                          p->queues[class].elsewhere_ms);
    n->predicted_ms = r->wait_ms;
    p->n.limit = p->limit.now;
    p->n.service_ms = (uint32_t)r->mean;
    set_step(p, pool, class, now, news);
}
