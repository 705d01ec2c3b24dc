/*
 * After a process died while it held the lock: lists, heaps and sums are made anew from what each message and
 * each record says of itself, and what makes no sense ends. See admission_core.h.
 */
#include "admission_core.h"
#include "admission_line.h"
#include "admission_message.h"
#include "admission_order.h"
#include "admission_record.h"

#include <string.h>

/* ---- pools ---- */

static void clear_class(struct admission_class_numbers *n, struct admission_queue *q)
{
    double return_ms = q->line.return_ms, returns = q->line.returns;
    bool was_sane = admission_line_is_sane(&q->line);

    n->waiting = n->coming = n->running = n->in_line = n->called = 0;
    q->heap.n = 0;
    q->waiting_ms = q->coming_ms = q->running_ms = 0;
    q->elsewhere_ms = 0;
    q->elsewhere_at = 0;
    q->turn = 0;
    admission_line_init(&q->line);
    if (!was_sane)
        return;
    q->line.return_ms = return_ms;
    q->line.returns = returns;
}

static void clear_pool(struct admission_pool *p)
{
    if (!admission_predict_is_sane(&p->predict))
        p->predict = (struct admission_predict){0};
    if (!admission_limit_is_sane(&p->limit)) {
        p->limit = (struct admission_limit){0};
        admission_limit_set(&p->limit, p->set.is_adaptive, p->set.least, p->set.most, 0);
    }
    p->n.used = 0;
    p->is_silent = false;
    p->turn = 0;
    admission_list_init(&p->coming);
    for (unsigned i = 0; i < ADMISSION_CLASSES; i++)
        clear_class(&p->n.classes[i], &p->queues[i]);
}

/* ---- records ---- */

static void mend_record(struct admission_record *r)
{
    r->is_used = r->is_used == 1;
    r->held = 0;
    if (!r->is_used || r->standing > ADMISSION_WELCOME || r->pool >= ADMISSION_POOLS ||
        r->class >= ADMISSION_CLASSES)
        r->standing = ADMISSION_NO_LINE;
}

/* ---- messages ---- */

static bool is_sane(const struct admission_shared *s, const struct admission_message *m)
{
    return m->state > ADMISSION_FREE && m->state <= ADMISSION_RUNNING && m->pool < ADMISSION_POOLS &&
           s->pools[m->pool].n.name[0] != '\0' && m->class < ADMISSION_CLASSES &&
           m->worker < ADMISSION_WORKERS && m->work_ms <= ADMISSION_LONGEST_MS;
}

static void hold_client(struct admission_shared *s, struct admission_message *m)
{
    if (m->client >= ADMISSION_CLIENTS || !s->records[m->client].is_used)
        m->client = ADMISSION_NOBODY;
    else
        s->records[m->client].held++;
}

static void free_message(struct admission_shared *s, uint32_t at)
{
    struct admission_message *m = &s->messages[at];

    if (m->state != ADMISSION_FREE)
        m->generation++;
    m->state = ADMISSION_FREE;
    m->client = ADMISSION_NOBODY;
    m->next = s->free;
    s->free = at;
}

static void count_running(struct admission_shared *s, uint32_t at)
{
    struct admission_message *m = &s->messages[at];
    struct admission_pool *p = &s->pools[m->pool];

    p->queues[m->class].running_ms += m->work_ms;
    p->n.classes[m->class].running++;
    p->n.used++;
    if (!m->is_told)
        admission_mailbox_put(s, at);
}

static void count_coming(struct admission_shared *s, uint32_t at)
{
    struct admission_message *m = &s->messages[at];
    struct admission_pool *p = &s->pools[m->pool];

    admission_list_append(s, &p->coming, at);
    p->queues[m->class].coming_ms += m->work_ms;
    p->n.classes[m->class].coming++;
}

static void mend_message(struct admission_shared *s, uint32_t at)
{
    struct admission_message *m = &s->messages[at];

    if (!is_sane(s, m)) {
        free_message(s, at);
        return;
    }
    hold_client(s, m);
    if (m->state == ADMISSION_COMING)
        count_coming(s, at);
    else if (m->state == ADMISSION_STALE)
        admission_list_append(s, &s->stale, at);
    else if (m->state == ADMISSION_WAITING)
        admission_order_add(s, &s->pools[m->pool], at);
    else
        count_running(s, at);
}

/* A mailbox may have been announced or not: its worker looks from time to time in any case. */
void admission_core_repair(struct admission_shared *s)
{
    s->repairs++;
    s->free = ADMISSION_NOBODY;
    if (s->untouched > ADMISSION_MESSAGES)
        s->untouched = ADMISSION_MESSAGES;
    admission_list_init(&s->stale);
    for (unsigned i = 0; i <= ADMISSION_WORKERS; i++)
        s->workers[i] = (struct admission_mailbox){ADMISSION_NOBODY, false};
    for (unsigned i = 0; i < ADMISSION_POOLS; i++)
        if (s->pools[i].n.name[0] != '\0')
            clear_pool(&s->pools[i]);
    for (uint32_t at = 0; at < ADMISSION_CLIENTS; at++)
        mend_record(&s->records[at]);
    for (uint32_t at = 0; at < s->untouched; at++)
        mend_message(s, at);
    admission_record_rechain(s);
    admission_line_relist(s);
}
