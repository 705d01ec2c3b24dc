/* Turns and deadlines. See admission_order.h. */
#include "admission_order.h"

/* ---- a heap ---- */

static uint64_t due_at(const struct admission_shared *s, const struct admission_heap *h, uint32_t at)
{
    return s->messages[h->at[at]].due;
}

static void put(struct admission_shared *s, struct admission_heap *h, uint32_t at, uint16_t message)
{
    h->at[at] = message;
    s->messages[message].heap_at = (uint16_t)at;
}

static void rise(struct admission_shared *s, struct admission_heap *h, uint32_t at)
{
    uint16_t message = h->at[at];

    for (; at > 0 && s->messages[message].due < due_at(s, h, (at - 1) / 2); at = (at - 1) / 2)
        put(s, h, at, h->at[(at - 1) / 2]);
    put(s, h, at, message);
}

static void sink(struct admission_shared *s, struct admission_heap *h, uint32_t at)
{
    uint16_t message = h->at[at];
    uint32_t child;

    while ((child = at * 2 + 1) < h->n) {
        if (child + 1 < h->n && due_at(s, h, child + 1) < due_at(s, h, child))
            child++;
        if (s->messages[message].due <= due_at(s, h, child))
            break;
        put(s, h, at, h->at[child]);
        at = child;
    }
    put(s, h, at, message);
}

/* ---- a class ---- */

void admission_order_add(struct admission_shared *s, struct admission_pool *p, uint32_t message)
{
    struct admission_message *m = &s->messages[message];
    struct admission_queue *q = &p->queues[m->class];

    if (q->heap.n == 0 && q->turn < p->turn)
        q->turn = p->turn;
    put(s, &q->heap, q->heap.n, (uint16_t)message);
    rise(s, &q->heap, q->heap.n++);
    q->waiting_ms += m->work_ms;
    p->n.classes[m->class].waiting++;
}

void admission_order_remove(struct admission_shared *s, struct admission_pool *p, uint32_t message)
{
    struct admission_message *m = &s->messages[message];
    struct admission_queue *q = &p->queues[m->class];
    uint32_t at = m->heap_at, last = --q->heap.n;

    if (at != last) {
        put(s, &q->heap, at, q->heap.at[last]);
        rise(s, &q->heap, at);
        sink(s, &q->heap, at);
    }
    q->waiting_ms -= m->work_ms;
    p->n.classes[m->class].waiting--;
}

/* ---- among classes ---- */

/* The next slot comes within an average scan, however long this message's own will take. */
static bool is_urgent(const struct admission_shared *s, const struct admission_pool *p,
                      const struct admission_queue *q, uint64_t now)
{
    const struct admission_message *m = &s->messages[q->heap.at[0]];

    return m->due <= now + (m->work_ms < p->n.service_ms ? m->work_ms : p->n.service_ms);
}

/* Whether a goes before b, both with somebody waiting. */
static bool goes_before(const struct admission_shared *s, const struct admission_pool *p,
                        const struct admission_queue *a, const struct admission_queue *b, uint64_t now)
{
    bool a_urgent = is_urgent(s, p, a, now), b_urgent = is_urgent(s, p, b, now);

    if (a_urgent != b_urgent)
        return a_urgent;
    return a_urgent ? due_at(s, &a->heap, 0) < due_at(s, &b->heap, 0) : a->turn < b->turn;
}

static int class_next(const struct admission_shared *s, const struct admission_pool *p, uint64_t now)
{
    int best = -1;

    for (int i = 0; i < ADMISSION_CLASSES; i++) {
        const struct admission_queue *q = &p->queues[i];

        if (q->heap.n > 0 && (best < 0 || goes_before(s, p, q, &p->queues[best], now)))
            best = i;
    }
    return best;
}

uint32_t admission_order_next(struct admission_shared *s, struct admission_pool *p, uint64_t now)
{
    int class = class_next(s, p, now);
    struct admission_queue *q;
    uint32_t message;

    if (class < 0)
        return ADMISSION_NOBODY;
    q = &p->queues[class];
    message = q->heap.at[0];
    if (p->turn < q->turn)
        p->turn = q->turn;
    q->turn += (double)s->messages[message].work_ms / p->set.share[class];
    admission_order_remove(s, p, message);
    return message;
}

uint32_t admission_order_waiting(const struct admission_pool *p)
{
    uint32_t n = 0;

    for (int i = 0; i < ADMISSION_CLASSES; i++)
        n += p->queues[i].heap.n;
    return n;
}
