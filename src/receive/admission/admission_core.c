/* Judging, taking, giving. See admission_core.h. */
#include "admission_core.h"

#include "admission_line.h"
#include "admission_message.h"
#include "admission_order.h"
#include "admission_record.h"
#include "admission_state.h"

/* ---- at MAIL ---- */

/* A client in line stays of the class whose line it is in. */
static unsigned class_of(struct admission_shared *s, unsigned pool, const struct admission_client *who,
                         struct admission_record *r, uint32_t real_s)
{
    if (who->is_own)
        return ADMISSION_OWN;
    if (who->is_authenticated)
        return ADMISSION_AUTH;
    if (r == NULL)
        return ADMISSION_STRANGER;
    if (r->standing > ADMISSION_REFUSED && r->pool == pool && r->class >= ADMISSION_GOOD)
        return r->class;
    return admission_record_is_good(r, &s->pools[pool].set, real_s) ? ADMISSION_GOOD : ADMISSION_STRANGER;
}

static struct admission_record *record_for(struct admission_shared *s, const struct admission_client *who,
                                           uint32_t real_s)
{
    uint32_t at = admission_record_need(s, &who->key, real_s);

    return at == ADMISSION_NOBODY ? NULL : &s->records[at];
}

static bool is_welcome(const struct admission_record *r)
{
    return r != NULL && r->standing >= ADMISSION_CALLED;
}

/* Who was called has a place wherever there is one; others as far as no called client needs it, and who comes
 * for the first time only up to the level; or as long as the filter might run dry. A slot that is free now is
 * never refused. */
static bool lets_in(const struct admission_shared *s, unsigned pool, unsigned class,
                    const struct admission_room *r, uint32_t work_ms, enum admission_standing standing)
{
    double called = admission_line_expected(s, pool, class) * r->mean;
    double most = standing >= ADMISSION_REFUSED ? r->room : r->level;

    if (r->is_idle)
        return true;
    if (!admission_room_fits(r, work_ms))
        return false;
    if (standing >= ADMISSION_CALLED || r->ahead + work_ms <= r->low)
        return true;
    return s->pools[pool].n.classes[class].in_line == 0 && r->ahead + called + work_ms <= most;
}

static uint32_t make_message(struct admission_shared *s, unsigned pool, unsigned class, unsigned worker,
                             const struct admission_client *who, struct admission_ticket *t)
{
    uint32_t at = admission_message_new(s);
    struct admission_message *m;

    if (at == ADMISSION_NOBODY)
        return at;
    m = &s->messages[at];
    m->pool = (uint8_t)pool;
    m->class = (uint8_t)(class);
    m->worker = (uint16_t)worker;
    m->client = admission_record_find(s, &who->key);
    if (m->client != ADMISSION_NOBODY && s->records[m->client].held < UINT16_MAX)
        s->records[m->client].held++;
    t->place = at + 1;
    t->generation = m->generation;
    t->class = class;
    return at;
}

static bool let_in(struct admission_shared *s, unsigned pool, unsigned class, unsigned worker,
                   struct admission_record *r, uint32_t work_ms, uint64_t now, struct admission_ticket *t)
{
    uint32_t at = make_message(s, pool, class, worker, &t->client, t);
    struct admission_class_numbers *n = &s->pools[pool].n.classes[class];

    if (at == ADMISSION_NOBODY)
        return false;
    s->messages[at].work_ms = work_ms;
    s->messages[at].was_called = is_welcome(r);
    n->admitted++;
    n->preferred += is_welcome(r);
    if (r != NULL)
        admission_line_leave(s, r);
    admission_state_come(s, at, now);
    return true;
}

/* mean_ms: what it counts elsewhere, where nobody has looked at its size. */
static enum admission_step turn_away(struct admission_shared *s, unsigned pool, unsigned class,
                                     struct admission_record *r, uint32_t mean_ms, uint64_t now)
{
    struct admission_pool *p = &s->pools[pool];
    struct admission_class_numbers *n = &p->n.classes[class];
    enum admission_step step = admission_ladder_beside(&p->set.ladder[class], n->step);

    n->turned[step]++;
    if (step == ADMISSION_CHEAP || step == ADMISSION_HOLD)
        admission_state_go_elsewhere(p, class, mean_ms);
    else if (r != NULL)
        admission_line_join(s, r, pool, class, now);
    return step;
}

struct admission_answer admission_core_judge(struct admission_shared *s, unsigned pool, unsigned worker,
                                             const struct admission_client *who, uint64_t bytes,
                                             struct admission_time now, struct admission_ticket *t,
                                             struct admission_news *news)
{
    struct admission_pool *p = &s->pools[pool];
    struct admission_record *r = record_for(s, who, now.real_s);
    unsigned class = class_of(s, pool, who, r, now.real_s);
    struct admission_answer answer = {.class = class};
    struct admission_room room;
    uint32_t work;

    *t = (struct admission_ticket){.client = *who, .class = class, .patience_ms = p->set.patience_ms[class]};
    if (r != NULL)
        admission_line_tries(s, r, now.ms);
    admission_state_look(s, pool, class, now.ms, &room, news);
    work = admission_room_work(p, &room, bytes);
    answer.wait_ms = room.wait_ms;
    answer.is_admitted = lets_in(s, pool, class, &room, work, r != NULL ? r->standing : ADMISSION_NO_LINE) &&
                         let_in(s, pool, class, worker, r, work, now.ms, t);
    answer.step = t->step = answer.is_admitted ? (enum admission_step)p->n.classes[class].step
                                               : turn_away(s, pool, class, r, (uint32_t)room.mean, now.ms);
    return answer;
}

/* ---- at end of data ---- */

/* By its size; more than half of patience is not believed of a single message. */
static uint32_t work_of(const struct admission_pool *p, unsigned class, uint64_t bytes)
{
    uint32_t work = admission_predict_ms(&p->predict, bytes), mean = admission_predict_ms(&p->predict, 0);
    uint32_t half = p->set.patience_ms[class] / 2, most = half > mean ? half : mean;

    return work < most ? work : most;
}

/* What is left of patience when a slot comes must do for the scan; but a prediction that leaves less than
 * half of it for waiting is not believed. */
static uint64_t latest_start(const struct admission_pool *p, const struct admission_message *m,
                             uint64_t deadline, uint64_t now)
{
    uint64_t patience = deadline > now ? deadline - now : 0;
    uint64_t needed = m->work_ms + admission_predict_error_ms(&p->predict);

    return now + (needed < patience / 2 ? patience - needed : patience - patience / 2);
}

static uint32_t need_message(struct admission_shared *s, unsigned pool, unsigned worker,
                             struct admission_time now, struct admission_ticket *t)
{
    uint32_t at = admission_message_find(s, t);
    struct admission_record *r;

    if (at != ADMISSION_NOBODY) {
        admission_state_leave(s, at, now.ms);
        return at;
    }
    r = record_for(s, &t->client, now.real_s);
    return make_message(s, pool, class_of(s, pool, &t->client, r, now.real_s), worker, &t->client, t);
}

enum admission_end admission_core_take(struct admission_shared *s, unsigned pool, unsigned worker,
                                       uint64_t bytes, uint64_t deadline, struct admission_time now,
                                       struct admission_ticket *t, uint64_t *until_r,
                                       struct admission_news *news)
{
    struct admission_pool *p = &s->pools[pool];
    uint32_t at = need_message(s, pool, worker, now, t);
    uint64_t patient = now.ms + p->set.patience_ms[t->class];
    struct admission_message *m;

    t->deadline = deadline < patient ? deadline : patient;
    t->step = p->n.classes[t->class].step;
    if (at == ADMISSION_NOBODY) {
        p->n.classes[t->class].full_up++;
        return ADMISSION_FULL_UP;
    }
    m = &s->messages[at];
    m->work_ms = work_of(p, m->class, bytes);
    m->since = now.ms;
    m->due = *until_r = latest_start(p, m, t->deadline, now.ms);
    if (p->n.used < p->limit.now && admission_order_waiting(p) == 0) {
        m->is_told = true;
        admission_state_run(s, at, now.ms);
        return ADMISSION_GRANTED;
    }
    admission_state_wait(s, at);
    admission_core_grant(s, pool, now.ms, news);
    if (m->state == ADMISSION_WAITING)
        return ADMISSION_LATE;
    if (!m->is_told)
        admission_mailbox_remove(s, at);
    return ADMISSION_GRANTED;
}

/* ---- the end ---- */

/* A client that got no verdict keeps its place in line. */
static void end_message(struct admission_shared *s, uint32_t at, bool has_verdict, uint64_t now,
                        struct admission_news *news)
{
    struct admission_message *m = &s->messages[at];
    unsigned pool = m->pool, class = m->class;
    struct admission_room room;

    admission_state_leave(s, at, now);
    if (!has_verdict && m->was_called && m->client != ADMISSION_NOBODY)
        admission_line_return(&s->records[m->client], m->pool, m->class);
    admission_message_free(s, at);
    admission_core_grant(s, pool, now, news);
    admission_state_look(s, pool, class, now, &room, news);
}

void admission_core_give(struct admission_shared *s, struct admission_ticket *t,
                         enum admission_outcome outcome, uint32_t service_ms, uint64_t bytes,
                         struct admission_time now, struct admission_news *news)
{
    uint32_t at = admission_message_find(s, t);
    bool has_verdict = outcome == ADMISSION_OK || outcome == ADMISSION_REJECT;
    struct admission_message *m;
    struct admission_pool *p;

    t->place = 0;
    if (at == ADMISSION_NOBODY)
        return;
    m = &s->messages[at];
    p = admission_state_pool(s, m);
    p->n.outcomes[outcome]++;
    admission_state_learn(s, m, outcome, service_ms, bytes, now.ms);
    if (has_verdict) {
        admission_state_count(p->n.service, service_ms);
        p->n.service_sum_ms += service_ms;
        admission_limit_done(&p->limit, p->n.used >= p->limit.now && admission_order_waiting(p) > 0, now.ms);
    }
    if (has_verdict && m->client != ADMISSION_NOBODY)
        admission_record_count(&s->records[m->client], &p->set, outcome, now.real_s);
    end_message(s, at, has_verdict, now.ms, news);
}

void admission_core_release(struct admission_shared *s, struct admission_ticket *t, enum admission_end end,
                            struct admission_time now, struct admission_news *news)
{
    uint32_t at = admission_message_find(s, t);

    t->place = 0;
    if (at == ADMISSION_NOBODY)
        return;
    admission_state_numbers(s, &s->messages[at])->late += end == ADMISSION_LATE;
    admission_state_numbers(s, &s->messages[at])->left += end == ADMISSION_LEFT;
    end_message(s, at, false, now.ms, news);
}

void admission_core_forget(struct admission_shared *s, unsigned worker, struct admission_time now,
                           struct admission_news *news)
{
    for (uint32_t at = 0; at < s->untouched; at++)
        if (s->messages[at].state != ADMISSION_FREE && s->messages[at].worker == worker)
            end_message(s, at, false, now.ms, news);
    for (unsigned i = 0; i < ADMISSION_POOLS; i++)
        s->pools[i].users[worker / 64] &= ~(1ull << (worker % 64));
    s->workers[worker].first = ADMISSION_NOBODY;
    s->workers[worker].is_pending = false;
}

bool admission_core_ease(struct admission_shared *s, uint64_t now, struct admission_news *news)
{
    bool is_left = false;
    struct admission_room room;

    for (unsigned pool = 0; pool < ADMISSION_POOLS; pool++)
        for (unsigned class = 0; class < ADMISSION_CLASSES; class ++) {
            const struct admission_class_numbers *n = &s->pools[pool].n.classes[class];

            if (s->pools[pool].n.name[0] == '\0' || n->step == ADMISSION_FULL)
                continue;
            admission_state_look(s, pool, class, now, &room, news);
            is_left = is_left || n->step != ADMISSION_FULL;
        }
    return is_left;
}
