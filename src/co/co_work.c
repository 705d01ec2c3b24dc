/* Work that blocks, on libuv's thread pool. See co_work() and co_work_slow() in co.h. */
#include "co_loop.h"
#include "log.h"
#include "mem.h"

#include <stdlib.h>
#include <utlist.h>

struct job {
    uv_work_t request;
    void (*fn)(void *arg);
    void *arg;
    struct co *waiter; /* NULL: nobody waits any more */
    bool is_slow, is_done;
};

struct turn {
    struct co *co; /* NULL: has come */
    struct turn *next;
};

/* Slow work, which half of the threads may do at once. */
static struct {
    unsigned room;
    struct turn *first;
} slow;

void co_work_begin(unsigned threads)
{
    slow.room = (threads + 1) / 2;
    slow.first = NULL;
}

static co_fn enum co_end wait_for_turn(uint64_t deadline, const char *label)
{
    struct turn mine = {.co = co_self()};
    enum co_end end = CO_OK;

    if (slow.room > 0) {
        slow.room--;
        return CO_OK;
    }
    LL_APPEND(slow.first, &mine);
    while (mine.co != NULL && end == CO_OK)
        end = co_park(deadline, label);
    if (mine.co == NULL)
        return CO_OK; /* even if the deadline passed at the same moment; already off the list */
    LL_DELETE(slow.first, &mine);
    return end;
}

static void next_turn(void)
{
    struct turn *t = slow.first;

    if (t == NULL) {
        slow.room++;
        return;
    }
    LL_DELETE(slow.first, t);
    co_wake(t->co);
    t->co = NULL;
}

static void on_thread(uv_work_t *request)
{
    struct job *job = request->data;

    job->fn(job->arg);
}

static void on_done(uv_work_t *request, int status)
{
    struct job *job = request->data;

    if (job->is_slow)
        next_turn();
    job->is_done = true;
    if (job->waiter != NULL) {
        co_wake(job->waiter);
        return;
    }
    talloc_free(job->arg);
    free(job);
}

/* While the thread works, arg hangs on no context: talloc trees are not for two threads at once. */
static co_fn enum co_end run(void (*fn)(void *arg), void *arg, bool is_slow, uint64_t deadline,
                             const char *label)
{
    struct job *job = mem_malloc(sizeof(*job));
    void *owner = talloc_parent(arg);
    enum co_end end = CO_OK;

    *job = (struct job){.fn = fn, .arg = talloc_steal(NULL, arg), .waiter = co_self(), .is_slow = is_slow};
    job->request.data = job;
    if (uv_queue_work(co_loop(), &job->request, on_thread, on_done) != 0)
        log_panic("cannot queue work for %s", label);
    while (!job->is_done && end == CO_OK)
        end = co_park(deadline, label);
    if (!job->is_done) {
        job->waiter = NULL;
        return end;
    }
    talloc_steal(owner, arg);
    free(job);
    return CO_OK;
}

co_fn enum co_end co_work(void (*fn)(void *arg), void *arg, uint64_t deadline, const char *label)
{
    return run(fn, arg, false, deadline, label);
}

co_fn enum co_end co_work_slow(void (*fn)(void *arg), void *arg, uint64_t deadline, const char *label)
{
    enum co_end end = wait_for_turn(deadline, label);

    if (end == CO_OK)
        return run(fn, arg, true, deadline, label);
    talloc_free(arg);
    return end;
}
