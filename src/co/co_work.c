/* Work that blocks, on libuv's thread pool. See co_work() in co.h. */
#include "co_loop.h"
#include "log.h"
#include "mem.h"

#include <stdlib.h>

struct job {
    uv_work_t request;
    void (*fn)(void *arg);
    void *arg;
    struct co *waiter; /* NULL: nobody waits any more */
    bool is_done;
};

static void on_thread(uv_work_t *request)
{
    struct job *job = request->data;

    job->fn(job->arg);
}

static void on_done(uv_work_t *request, int status)
{
    struct job *job = request->data;

    job->is_done = true;
    if (job->waiter != NULL) {
        co_wake(job->waiter);
        return;
    }
    talloc_free(job->arg);
    free(job);
}

/* While the thread works, arg hangs on no context: talloc trees are not for two threads at once. */
co_fn enum co_end co_work(void (*fn)(void *arg), void *arg, uint64_t deadline, const char *label)
{
    struct job *job = mem_malloc(sizeof(*job));
    void *owner = talloc_parent(arg);
    enum co_end end = CO_OK;

    *job = (struct job){.fn = fn, .arg = talloc_steal(NULL, arg), .waiter = co_self()};
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
