/* The limit by trial. See admission_limit.h. */
#include "admission_limit.h"

/* A measurement takes this many scans a slot, but some at least, so that chance does not decide it; one that
 * is not done in time is given up. */
enum { SCANS_PER_SLOT = 10, SCANS_LEAST = 60, MEASURE_MS = 120000, PAUSE_MOST = 16, BUSY_PERCENT = 80 };

enum { AT_BASE, TRY_UP, TRY_DOWN };

static void measure_anew(struct admission_limit *l, uint64_t now)
{
    l->done = l->busy = 0;
    l->since = now;
}

/* Those that began under the limit before must end first. */
static void move_to(struct admission_limit *l, uint32_t limit, uint32_t direction, uint64_t now)
{
    uint32_t before = l->now;

    l->now = limit < l->least ? l->least : limit > l->most ? l->most : limit;
    l->direction = l->now == before && direction != AT_BASE ? AT_BASE : direction;
    l->settle = before > l->now ? before : l->now;
    measure_anew(l, now);
}

void admission_limit_set(struct admission_limit *l, bool is_adaptive, uint32_t least, uint32_t most,
                         uint64_t now)
{
    uint32_t start = l->now > 0 && l->is_adaptive ? l->now : least;

    l->is_adaptive = is_adaptive;
    l->least = least;
    l->most = most;
    l->pause = 1;
    l->rest = 0;
    move_to(l, is_adaptive ? start : most, AT_BASE, now);
    l->base = l->now;
}

static uint32_t step_of(const struct admission_limit *l)
{
    if (!l->has_started)
        return l->base;
    return l->base / 8 > 0 ? l->base / 8 : 1;
}

static void try_next(struct admission_limit *l, uint64_t now)
{
    bool down = l->next_down && l->base > l->least;
    bool up = !down && l->base < l->most;

    if (up)
        move_to(l, l->base + step_of(l), TRY_UP, now);
    else if (l->base > l->least && l->has_started)
        move_to(l, l->base - step_of(l), TRY_DOWN, now);
    else
        measure_anew(l, now);
}

/* The trial was good: what it found is compared with from now on, and the next step goes the same way. */
static void keep(struct admission_limit *l, double rate, uint64_t now)
{
    l->base = l->now;
    l->base_rate = rate;
    l->next_down = l->direction == TRY_DOWN;
    l->pause = 1;
    l->rest = 0;
    try_next(l, now);
}

static void take_back(struct admission_limit *l, uint64_t now)
{
    l->has_started = true;
    l->next_down = l->direction == TRY_UP;
    l->pause = l->pause * 2 < PAUSE_MOST ? l->pause * 2 : PAUSE_MOST;
    l->rest = l->pause;
    move_to(l, l->base, AT_BASE, now);
}

static void judge_base(struct admission_limit *l, double rate, uint64_t now)
{
    l->base = l->now;
    l->base_rate = l->rest > 0 && l->base_rate > 0 ? (l->base_rate + rate) / 2 : rate;
    if (l->rest > 0)
        l->rest--;
    if (l->rest > 0)
        measure_anew(l, now);
    else
        try_next(l, now);
}

static void judge(struct admission_limit *l, double rate, uint64_t now)
{
    double size = l->base > 0 ? ((double)l->now - l->base) / l->base : 0; /* negative downwards */

    if (l->direction == AT_BASE)
        judge_base(l, rate, now);
    else if (rate >= l->base_rate * (1 + size / 2))
        keep(l, rate, now);
    else
        take_back(l, now);
}

static uint32_t scans_needed(const struct admission_limit *l)
{
    uint32_t n = l->now * SCANS_PER_SLOT;

    return n > SCANS_LEAST ? n : SCANS_LEAST;
}

/* A measurement that was not all under load says nothing, and neither does the trial it belongs to. */
static void give_up(struct admission_limit *l, uint64_t now)
{
    if (l->direction == AT_BASE)
        measure_anew(l, now);
    else
        move_to(l, l->base, AT_BASE, now);
}

void admission_limit_done(struct admission_limit *l, bool is_busy, uint64_t now)
{
    if (!l->is_adaptive)
        return;
    if (l->settle > 0) {
        l->settle--;
        l->since = now;
        return;
    }
    l->done++;
    l->busy += is_busy;
    if (now - l->since > MEASURE_MS)
        give_up(l, now);
    if (l->done < scans_needed(l) || now <= l->since)
        return;
    if (l->busy < l->done / 100.0 * BUSY_PERCENT)
        give_up(l, now);
    else
        judge(l, l->done * 1000.0 / (double)(now - l->since), now);
}

bool admission_limit_is_sane(const struct admission_limit *l)
{
    return l->least >= 1 && l->least <= l->most && l->most <= ADMISSION_MOST_SLOTS && l->now >= l->least &&
           l->now <= l->most && l->base >= 1 && l->base <= ADMISSION_MOST_SLOTS && l->direction <= TRY_DOWN &&
           l->pause <= PAUSE_MOST && l->base_rate >= 0 && l->base_rate < 1e9;
}
