/* Refused clients in line. See admission_line.h. */
#include "admission_line.h"

#include "mem.h"

#include <stdlib.h>

/* Averages move slowly, since how many are called hangs on them. At least one called client in sixty-four is
 * taken to come. */
enum { FIRST_RETURN_MS = 5000, RETURN_LIMIT_MS = 3600000, ROUNDS = 64 };
#define WEIGHT        (1.0 / 128)
#define RETURNS_LEAST (1.0 / 64)

enum { CALL_TIMES = 4, CALL_LEAST_MS = 10000, CALL_MOST_MS = 3600000 };
enum { GONE_TIMES = 20, GONE_LEAST_MS = 300000, GONE_MOST_MS = 4 * 3600000 };

void admission_line_init(struct admission_line *l)
{
    *l = (struct admission_line){.first = ADMISSION_NOBODY,
                                 .last = ADMISSION_NOBODY,
                                 .called_first = ADMISSION_NOBODY,
                                 .called_last = ADMISSION_NOBODY,
                                 .return_ms = FIRST_RETURN_MS,
                                 .returns = 1};
}

static struct admission_line *line_of(struct admission_shared *s, const struct admission_record *r)
{
    return &s->pools[r->pool].queues[r->class].line;
}

static struct admission_class_numbers *numbers_of(struct admission_shared *s,
                                                  const struct admission_record *r)
{
    return &s->pools[r->pool].n.classes[r->class];
}

static uint64_t times(double ms, int n, uint64_t least, uint64_t most)
{
    uint64_t product = (uint64_t)(ms * n);

    return product < least ? least : product > most ? most : product;
}

/* ---- the two lists ---- */

static void append(struct admission_shared *s, uint32_t *first, uint32_t *last, struct admission_record *r)
{
    uint32_t at = (uint32_t)(r - s->records);

    r->prev = *last;
    r->behind = ADMISSION_NOBODY;
    if (*last == ADMISSION_NOBODY)
        *first = at;
    else
        s->records[*last].behind = at;
    *last = at;
}

static void take_out(struct admission_shared *s, uint32_t *first, uint32_t *last, struct admission_record *r)
{
    if (r->prev == ADMISSION_NOBODY)
        *first = r->behind;
    else
        s->records[r->prev].behind = r->behind;
    if (r->behind == ADMISSION_NOBODY)
        *last = r->prev;
    else
        s->records[r->behind].prev = r->prev;
    r->prev = r->behind = ADMISSION_NOBODY;
}

static void stand(struct admission_shared *s, struct admission_record *r, enum admission_standing standing)
{
    struct admission_line *l = line_of(s, r);

    r->standing = (uint8_t)standing;
    if (standing == ADMISSION_IN_LINE) {
        append(s, &l->first, &l->last, r);
        numbers_of(s, r)->in_line++;
    } else if (standing == ADMISSION_CALLED) {
        append(s, &l->called_first, &l->called_last, r);
        numbers_of(s, r)->called++;
    }
}

static void stand_away(struct admission_shared *s, struct admission_record *r,
                       enum admission_standing standing)
{
    struct admission_line *l = line_of(s, r);

    if (r->standing == ADMISSION_IN_LINE) {
        take_out(s, &l->first, &l->last, r);
        numbers_of(s, r)->in_line--;
    } else if (r->standing == ADMISSION_CALLED) {
        take_out(s, &l->called_first, &l->called_last, r);
        numbers_of(s, r)->called--;
    }
    stand(s, r, standing);
}

/* ---- a client's doings ---- */

static void learn(double *average, double sample)
{
    *average += (sample - *average) * WEIGHT;
}

static void learn_returns(struct admission_line *l, bool has_come)
{
    learn(&l->returns, has_come);
    if (l->returns < RETURNS_LEAST)
        l->returns = RETURNS_LEAST;
}

static void call(struct admission_shared *s, struct admission_record *r, uint64_t now)
{
    stand_away(s, r, ADMISSION_CALLED);
    r->called_ms = now;
}

/* Should it find no room now it will come again: it is as if called anew. */
void admission_line_tries(struct admission_shared *s, struct admission_record *r, uint64_t now)
{
    struct admission_line *l = line_of(s, r);
    uint64_t took = now - r->called_ms;

    r->tried_ms = now;
    if (r->standing < ADMISSION_CALLED)
        return;
    if (r->called_ms > 0)
        learn(&l->return_ms, took < RETURN_LIMIT_MS ? (double)took : RETURN_LIMIT_MS);
    if (r->standing == ADMISSION_CALLED)
        learn_returns(l, true);
    call(s, r, now);
}

void admission_line_join(struct admission_shared *s, struct admission_record *r, unsigned pool,
                         unsigned class, uint64_t now)
{
    if (r->standing > ADMISSION_REFUSED)
        return;
    r->pool = (uint8_t)pool;
    r->class = (uint8_t)(class);
    r->refused_ms = now;
    stand(s, r, r->standing + 1);
}

void admission_line_leave(struct admission_shared *s, struct admission_record *r)
{
    stand_away(s, r, ADMISSION_NO_LINE);
}

void admission_line_return(struct admission_record *r, unsigned pool, unsigned class)
{
    if (r->standing > ADMISSION_REFUSED)
        return;
    r->standing = ADMISSION_WELCOME;
    r->pool = (uint8_t)pool;
    r->class = (uint8_t)(class);
    r->called_ms = 0;
}

/* ---- calling ---- */

/* It may be gone, or come back more seldom than others: when it does, that tells how long it takes. */
static void welcome(struct admission_shared *s, struct admission_record *r, uint64_t now)
{
    stand_away(s, r, ADMISSION_WELCOME);
    r->called_ms = now;
}

static void give_up_called(struct admission_shared *s, struct admission_line *l, uint64_t now)
{
    uint64_t life = times(l->return_ms, CALL_TIMES, CALL_LEAST_MS, CALL_MOST_MS);

    for (int i = 0; i < ROUNDS && l->called_first != ADMISSION_NOBODY; i++) {
        struct admission_record *r = &s->records[l->called_first];

        if (now - r->called_ms < life)
            break;
        learn_returns(l, false);
        stand_away(s, r, ADMISSION_WELCOME);
    }
}

void admission_line_call(struct admission_shared *s, unsigned pool, unsigned class, double per_ms,
                         double lack, uint64_t now)
{
    struct admission_line *l = &s->pools[pool].queues[class].line;
    uint64_t gone = times(l->return_ms, GONE_TIMES, GONE_LEAST_MS, GONE_MOST_MS);
    double wanted = (per_ms * l->return_ms + lack) / l->returns;

    give_up_called(s, l, now);
    for (int i = 0; i < ROUNDS && l->first != ADMISSION_NOBODY; i++) {
        struct admission_record *r = &s->records[l->first];

        if (now - r->tried_ms >= gone)
            welcome(s, r, now);
        else if (s->pools[pool].n.classes[class].called < wanted)
            call(s, r, now);
        else
            break;
    }
}

double admission_line_expected(const struct admission_shared *s, unsigned pool, unsigned class)
{
    return s->pools[pool].n.classes[class].called * s->pools[pool].queues[class].line.returns;
}

/* ---- after an accident ---- */

static const struct admission_shared *sorted; /* qsort has no argument for it */

static uint64_t key_of(uint32_t at)
{
    const struct admission_record *r = &sorted->records[at];

    return r->standing == ADMISSION_IN_LINE ? r->refused_ms : r->called_ms;
}

static int compare(const void *a, const void *b)
{
    uint64_t x = key_of(*(const uint32_t *)a), y = key_of(*(const uint32_t *)b);

    return x < y ? -1 : x > y;
}

void admission_line_relist(struct admission_shared *s)
{
    uint32_t *order = mem_array(NULL, uint32_t, ADMISSION_CLIENTS), n = 0;

    for (uint32_t at = 0; at < ADMISSION_CLIENTS; at++)
        if (s->records[at].is_used &&
            (s->records[at].standing == ADMISSION_IN_LINE || s->records[at].standing == ADMISSION_CALLED))
            order[n++] = at;
    sorted = s;
    qsort(order, n, sizeof(*order), compare);
    for (uint32_t i = 0; i < n; i++)
        stand(s, &s->records[order[i]], s->records[order[i]].standing);
    talloc_free(order);
}

bool admission_line_is_sane(const struct admission_line *l)
{
    return l->return_ms >= 0 && l->return_ms <= RETURN_LIMIT_MS && l->returns >= RETURNS_LEAST &&
           l->returns <= 1;
}
