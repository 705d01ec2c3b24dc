/*
 * Copies in hand. Two workers may have a message and its retry, and the first client's end, which came before
 * the retry, may still stand in the queue of a worker that others keep from its processor. So the retry waits
 * until that worker has taken what came to it until the retry began: by then it has found its client gone,
 * and said so here, or the client is still there, and the two are two messages.
 *
 * A worker that waits for events is rung; one that is busy takes them soon. Both are rare: between MAIL and
 * the dot a client needs several turns of its own worker.
 */
#include "verdict_private.h"

#include "clock.h"
#include "log.h"
#include "mem.h"
#include "shared.h"

#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <utlist.h>

/* A worker that hangs is not waited for: at worst the message arrives twice. */
enum { STEP_MS = 1, HANG_MS = 1000 };

/* ---- the rows ---- */

struct verdict_copies *verdict_copies_new(void)
{
    struct verdict_copies *all = shared_map(sizeof(*all), "messages in hand");

    all->bell = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (all->bell < 0)
        log_fatal("no bell for messages in hand: %s", strerror(errno));
    return all;
}

void verdict_copies_enter(struct verdict_copies *all, unsigned worker)
{
    unsigned workers = atomic_load(&all->workers);

    verdict_copies_forget(all, worker);
    while (workers <= worker && !atomic_compare_exchange_weak(&all->workers, &workers, worker + 1))
        continue;
    co_tell_progress(&all->rows[worker].progress, all->bell);
}

void verdict_copies_forget(struct verdict_copies *all, unsigned worker)
{
    struct verdict_row *row = &all->rows[worker];
    bool was_inside;

    if (worker >= atomic_load(&all->workers))
        return; /* its pages were never touched */
    for (size_t i = 0; i < VERDICT_SLOTS; i++) {
        atomic_store_explicit(&row->in_hand[i], 0, memory_order_relaxed);
        atomic_store_explicit(&row->left_us[i], 0, memory_order_relaxed);
    }
    was_inside = atomic_exchange(&row->touch.by_loop, false);
    was_inside |= atomic_exchange(&row->touch.by_thread, false);
    if (was_inside)
        atomic_fetch_add(&all->suspected, 1);
}

/* ---- one copy ---- */

struct verdict_copy {
    struct verdict_copy *prev, *next; /* of this worker's whose clients have left */
    struct verdict *memory;
    uint64_t began_us;
    size_t slot;
    bool has_left;
};

static struct verdict_row *own_row(const struct verdict *m)
{
    return &m->copies->rows[m->worker];
}

static void count(const struct verdict_copy *c, unsigned by)
{
    atomic_uint *place = &own_row(c->memory)->in_hand[c->slot];

    atomic_store_explicit(place, atomic_load_explicit(place, memory_order_relaxed) + by,
                          memory_order_release);
}

static void tell_who_left(const struct verdict *m, size_t slot)
{
    const struct verdict_copy *c;
    uint64_t oldest = 0;

    DL_FOREACH (m->left, c)
        if (c->slot == slot && (oldest == 0 || c->began_us < oldest))
            oldest = c->began_us;
    atomic_store_explicit(&own_row(m)->left_us[slot], oldest, memory_order_release);
}

static int destroy(struct verdict_copy *c)
{
    count(c, (unsigned)-1);
    if (c->has_left) {
        DL_DELETE(c->memory->left, c);
        tell_who_left(c->memory, c->slot);
        verdict_wake(c->memory);
    }
    return 0;
}

struct verdict_copy *verdict_copy_new(const void *ctx, struct verdict *m,
                                      const struct mail_envelope *envelope)
{
    struct verdict_copy *c;

    if (m->copies == NULL)
        return NULL;
    c = mem_new(ctx, struct verdict_copy);
    c->memory = m;
    c->began_us = envelope->began_us;
    c->slot = verdict_hint(m->filter, envelope, 0) % VERDICT_SLOTS;
    count(c, 1);
    talloc_set_destructor(c, destroy);
    return c;
}

void verdict_copy_left(struct verdict_copy *c)
{
    if (c == NULL || c->has_left)
        return;
    c->has_left = true;
    DL_APPEND(c->memory->left, c);
    tell_who_left(c->memory, c->slot);
}

/* ---- waiting ---- */

/* Whether a worker that has other copies may not know yet that their clients have left. */
static bool is_uncertain(const struct verdict_copy *c)
{
    const struct verdict_copies *all = c->memory->copies;
    unsigned workers = atomic_load(&all->workers);
    bool is_behind = false, has_to_ring = false;

    for (unsigned i = 0; i < workers; i++) {
        const struct verdict_row *row = &all->rows[i];
        unsigned own = i == c->memory->worker;

        if (atomic_load_explicit(&row->in_hand[c->slot], memory_order_acquire) <= own ||
            atomic_load_explicit(&row->progress.seen_us, memory_order_acquire) > c->began_us)
            continue;
        is_behind = true;
        has_to_ring |= atomic_load_explicit(&row->progress.is_waiting, memory_order_relaxed);
    }
    if (has_to_ring)
        (void)!write(all->bell, &(uint64_t){1}, sizeof(uint64_t));
    return is_behind;
}

/* Only an older one counts: of two whose clients have both left, one does not wait. */
static bool is_retry_of_unknown(const struct verdict_copy *c)
{
    const struct verdict_copies *all = c->memory->copies;
    unsigned workers = atomic_load(&all->workers);

    for (unsigned i = 0; i < workers; i++) {
        uint64_t left = atomic_load_explicit(&all->rows[i].left_us[c->slot], memory_order_acquire);

        if (left != 0 && left < c->began_us)
            return true;
    }
    return false;
}

/* The steps of all who wait are one coroutine's, and so one timer's. */
static co_fn void make_steps(void *arg)
{
    struct verdict *m = arg;

    co_shield(true);
    while (m->steps != NULL) {
        co_sleep(clock_ms() + STEP_MS, "the next step");
        for (struct verdict_waiter *w = m->steps; w != NULL; w = w->next)
            co_wake(w->co);
    }
    m->is_stepping = false;
}

static co_fn bool step(struct verdict *m)
{
    struct verdict_waiter w = {.co = co_self()};
    enum co_end end;

    DL_APPEND(m->steps, &w);
    if (!m->is_stepping) {
        m->is_stepping = true;
        co_spawn(make_steps, m, "steps");
    }
    end = co_park(CO_NEVER, "other copies of the message");
    DL_DELETE(m->steps, &w);
    return end == CO_OK;
}

co_fn bool verdict_copy_wait(const struct verdict_copy *c, uint64_t deadline)
{
    uint64_t give_up = clock_ms() + HANG_MS;

    if (c == NULL)
        return true;
    while (is_uncertain(c) && clock_ms() < give_up)
        if (!step(c->memory))
            return false;
    while (is_retry_of_unknown(c))
        if (clock_ms() >= deadline || !step(c->memory))
            return false;
    return true;
}
