/* Turns for programs: a counting semaphore in order of asking. See engine_exec_private.h. */
#include "engine_exec_private.h"

#include "clock.h"

struct engine_exec_waiter {
    struct co *co;
    struct engine_exec_waiter *next;
    bool has_slot;
};

static void leave_queue(struct engine_exec_slots *s, struct engine_exec_waiter *me)
{
    struct engine_exec_waiter **w = &s->first;

    while (*w != me)
        w = &(*w)->next;
    *w = me->next;
}

co_fn enum co_end engine_exec_slots_take(struct engine_exec_slots *s, uint64_t deadline)
{
    struct engine_exec_waiter me = {.co = co_self()};
    struct engine_exec_waiter **last = &s->first;
    enum co_end end = CO_OK;

    if (s->used < s->limit) {
        s->used++;
        return CO_OK;
    }
    while (*last != NULL)
        last = &(*last)->next;
    *last = &me;
    while (!me.has_slot && end == CO_OK)
        end = co_park(deadline, "a slot for a filter program");
    if (end == CO_OK && clock_ms() >= deadline)
        end = CO_TIMEOUT; /* a turn that comes with the end of its time is none */
    if (me.has_slot && end != CO_OK)
        engine_exec_slots_give(s);
    else if (!me.has_slot)
        leave_queue(s, &me);
    return end;
}

/* The slot goes from hand to hand, so nobody who asks later comes between. */
void engine_exec_slots_give(struct engine_exec_slots *s)
{
    struct engine_exec_waiter *next = s->first;

    if (next == NULL) {
        s->used--;
        return;
    }
    s->first = next->next;
    next->has_slot = true;
    co_wake(next->co);
}
