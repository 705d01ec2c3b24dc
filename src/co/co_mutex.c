/* One owner at a time, in order of asking. See co.h. */
#include "co.h"
#include "log.h"

#include <utlist.h>

struct co_waiter {
    struct co *co;
    struct co_waiter *next;
};

co_fn enum co_end co_lock(struct co_mutex *m, uint64_t deadline, const char *label)
{
    struct co_waiter me = {.co = co_self()};
    enum co_end end = CO_OK;

    if (me.co == NULL)
        log_panic("waiting for %s outside a coroutine", label);
    if (m->owner == NULL) {
        m->owner = me.co;
        return CO_OK;
    }
    LL_APPEND(m->first, &me);
    while (m->owner != me.co && end == CO_OK)
        end = co_park(deadline, label);
    if (m->owner == me.co)
        return CO_OK; /* given to us, even if the deadline passed at the same moment; already off the list */
    LL_DELETE(m->first, &me);
    return end;
}

void co_unlock(struct co_mutex *m)
{
    struct co_waiter *first = m->first;

    if (m->owner != co_self())
        log_panic("%s unlocks a mutex of %s", co_name(co_self()), co_name(m->owner));
    m->owner = first ? first->co : NULL;
    if (first != NULL) {
        LL_DELETE(m->first, first);
        co_wake(first->co);
    }
}
