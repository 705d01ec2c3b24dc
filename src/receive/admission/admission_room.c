/* Room, level, wait. See admission_room.h. */
#include "admission_room.h"

enum {
    MARGIN_PERCENT = 10,
    ERRORS = 2,
    STALL_SCANS = 2,
    ROUNDS = 2,
    COMING_LEAST = 8,
    CLAIM_PARTS = 2,
    CLAIM_LEAST = 4
};
#define LEVEL 0.7
#define LOW   0.25

static double larger(double a, double b)
{
    return a > b ? a : b;
}

static double smaller(double a, double b)
{
    return a < b ? a : b;
}

/* The filter has answered nothing for longer than scans take, though every slot is taken; or half of them,
 * when what had one before got no answer either. Where a slot is free for the next message, that is the one
 * to find out. */
static double stalled_ms(const struct admission_pool *p, const struct admission_room *r, uint64_t now)
{
    bool is_asked = p->n.used >= p->limit.now || (p->is_silent && p->n.used * 2 >= p->limit.now);

    if (r->is_idle || !is_asked || now <= p->busy_since)
        return 0;
    return larger(0, (double)(now - p->busy_since) - STALL_SCANS * r->mean);
}

static double margin_of(const struct admission_pool *p, double patience)
{
    double margin =
        patience * MARGIN_PERCENT / 100 + ERRORS * (double)admission_predict_error_ms(&p->predict);

    return smaller(margin, patience / 2);
}

static uint32_t shares(const struct admission_pool *p, unsigned asking)
{
    uint32_t sum = 0;

    for (unsigned i = 0; i < ADMISSION_CLASSES; i++)
        if (i == asking || p->n.classes[i].waiting > 0 || p->n.classes[i].in_line > 0)
            sum += p->set.share[i];
    return sum;
}

static uint32_t all_shares(const struct admission_pool *p)
{
    uint32_t sum = 0;

    for (unsigned i = 0; i < ADMISSION_CLASSES; i++)
        sum += p->set.share[i];
    return sum;
}

/* What is coming, less what the slots get done before it is here; some of it may come all at once. */
static double coming_ms(const struct admission_pool *p, const struct admission_queue *q, double slots)
{
    double all = (double)q->coming_ms;

    return larger(all - slots * p->body_ms, all / COMING_LEAST);
}

static double slots_of(const struct admission_pool *p, unsigned class, unsigned asking)
{
    return (double)p->limit.now * p->set.share[class] / shares(p, asking);
}

static void sum_up(const struct admission_pool *p, unsigned class, struct admission_room *r)
{
    uint32_t messages = p->n.used;
    double running = 0;

    for (unsigned i = 0; i < ADMISSION_CLASSES; i++) {
        const struct admission_queue *q = &p->queues[i];

        r->all_ahead += (double)q->waiting_ms + coming_ms(p, q, slots_of(p, i, class));
        running += (double)q->running_ms;
        messages += p->n.classes[i].waiting + p->n.classes[i].coming;
    }
    r->all_ahead += running / 2; /* half done, on average */
    r->slots = slots_of(p, class, class);
    r->ahead = (double)p->queues[class].waiting_ms + coming_ms(p, &p->queues[class], r->slots);
    r->is_idle = messages < p->limit.now;
}

void admission_room_look(const struct admission_pool *p, unsigned class, uint64_t now,
                         struct admission_room *r)
{
    double limit = p->limit.now, patience = p->set.patience_ms[class], stalled, time;

    *r = (struct admission_room){.mean = admission_predict_ms(&p->predict, 0)};
    sum_up(p, class, r);
    stalled = stalled_ms(p, r, now);
    time = larger(0, patience - r->mean - margin_of(p, patience) - stalled);
    r->all = time * limit;
    r->room = larger(r->all * p->set.share[class] / all_shares(p), smaller(ROUNDS * limit * r->mean, r->all));
    r->level = r->room * LEVEL;
    r->low = larger(r->room * LOW, smaller(limit * r->mean, r->room / 2));
    if (!r->is_idle)
        r->wait_ms = (uint32_t)(r->ahead / r->slots + r->mean / 2 / limit + stalled);
}

/* As many messages as there are slots are let in whatever they claim: together they leave half of the room.
 */
uint32_t admission_room_work(const struct admission_pool *p, const struct admission_room *r, uint64_t bytes)
{
    double most = r->room / larger(CLAIM_PARTS * (double)p->limit.now, CLAIM_LEAST);

    return (uint32_t)smaller(admission_predict_ms(&p->predict, bytes), larger(r->mean, most));
}

bool admission_room_fits(const struct admission_room *r, uint32_t work_ms)
{
    return r->ahead + work_ms <= r->room && r->all_ahead + work_ms <= r->all;
}

uint32_t admission_room_pressure(const struct admission_room *r, double clients, double elsewhere_ms)
{
    double taken = r->ahead + clients * r->mean + elsewhere_ms;

    if (r->room <= 0)
        return ADMISSION_PRESSURE_LIMIT;
    return (uint32_t)smaller(100 * taken / r->room, ADMISSION_PRESSURE_LIMIT);
}
