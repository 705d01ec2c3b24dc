/* The choice of an endpoint. See proxy_choice.h. */
#include "proxy_choice.h"

enum {
    MESSAGE_COST = 16384, /* bytes */
    FULL_SHARE = 1000,
    FIRST_SHARE = 100,
};

enum proxy_state proxy_entry_state(const struct proxy_entry *e, uint64_t slow_start_ms, uint64_t now)
{
    if (e->ejected_until != 0)
        return PROXY_EJECTED;
    return e->back_at != 0 && now - e->back_at < slow_start_ms ? PROXY_STARTING : PROXY_UP;
}

static uint64_t share_of(const struct proxy_rules *rules, const struct proxy_entry *e, uint64_t now)
{
    if (proxy_entry_state(e, rules->slow_start_ms, now) != PROXY_STARTING)
        return FULL_SHARE;
    return FIRST_SHARE + (FULL_SHARE - FIRST_SHARE) * (now - e->back_at) / rules->slow_start_ms;
}

/* With the new message in it, so that a share means something to an idle endpoint too. */
static uint64_t cost_of(const struct proxy_rules *rules, const struct proxy_entry *e, uint64_t bytes,
                        uint64_t now)
{
    uint64_t work = e->bytes + bytes + ((uint64_t)e->messages + 1) * MESSAGE_COST;

    return work * FULL_SHARE / share_of(rules, e, now);
}

static bool has_room(const struct proxy_rules *rules, const struct proxy_entry *e)
{
    return rules->concurrency == 0 || e->messages < rules->concurrency;
}

static size_t least_loaded(const struct proxy_rules *rules, struct proxy_entry *const at[], size_t n,
                           const struct proxy_wish *wish, uint64_t now)
{
    size_t best = PROXY_NO_CHOICE;
    uint64_t best_cost = 0;

    for (size_t i = 0; i < n; i++) {
        uint64_t cost;

        if (at[i]->ejected_until != 0 || at[i] == wish->avoid || !has_room(rules, at[i]))
            continue;
        cost = cost_of(rules, at[i], wish->bytes, now);
        if (best == PROXY_NO_CHOICE || cost < best_cost ||
            (cost == best_cost && at[i]->turn < at[best]->turn)) {
            best = i;
            best_cost = cost;
        }
    }
    return best;
}

static size_t least_recently_failed(const struct proxy_rules *rules, struct proxy_entry *const at[], size_t n,
                                    const struct proxy_wish *wish, uint64_t now)
{
    size_t best = PROXY_NO_CHOICE;

    for (size_t i = 0; i < n; i++) {
        if (at[i]->ejected_until == 0 || at[i] == wish->avoid || !has_room(rules, at[i]))
            continue;
        if (wish->is_patient && now < at[i]->tried_at + PROXY_TRIAL_STEP_MS)
            continue;
        if (best == PROXY_NO_CHOICE || at[i]->failed_at < at[best]->failed_at)
            best = i;
    }
    return best;
}

static bool is_any_up(struct proxy_entry *const at[], size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (at[i]->ejected_until == 0)
            return true;
    return false;
}

size_t proxy_choose(const struct proxy_rules *rules, struct proxy_entry *const at[], size_t n,
                    const struct proxy_wish *wish, uint64_t now)
{
    size_t best = least_loaded(rules, at, n, wish, now);

    if (best != PROXY_NO_CHOICE ||
        is_any_up(at, n)) /* one that is busy is better than one that is not there */
        return best;
    best = least_recently_failed(rules, at, n, wish, now);
    if (best != PROXY_NO_CHOICE)
        at[best]->tried_at = now;
    return best;
}

bool proxy_wants_probe(const struct proxy_entry *e, uint64_t now)
{
    return e->ejected_until != 0 && now >= e->ejected_until && now >= e->trial_until;
}

static uint64_t ejection_of(const struct proxy_rules *rules, uint32_t fails)
{
    uint64_t ms = rules->ejection_ms;

    while (--fails > 0 && ms < rules->ejection_limit_ms)
        ms *= 2;
    return ms < rules->ejection_limit_ms ? ms : rules->ejection_limit_ms;
}

/* Many messages may find at the same time that it is gone: that is one failure. */
bool proxy_entry_failed(struct proxy_entry *e, const struct proxy_rules *rules, uint64_t now)
{
    bool was_up = e->ejected_until == 0;

    e->failed_at = now;
    e->trial_until = 0;
    if (!was_up && now < e->ejected_until)
        return false;
    e->fails++;
    e->ejected_until = now + ejection_of(rules, e->fails);
    e->ejections += was_up;
    return was_up;
}

void proxy_entry_not_asked(struct proxy_entry *e, const struct proxy_rules *rules, uint64_t now)
{
    if (e->trial_until != 0)
        e->trial_until = now + rules->ejection_ms;
}

bool proxy_entry_greeted(struct proxy_entry *e, uint64_t now)
{
    e->trial_until = 0;
    if (e->ejected_until == 0)
        return false;
    e->ejected_until = 0;
    e->back_at = now;
    return true;
}
