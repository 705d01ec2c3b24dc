/*
 * The scheduler: who is ready, who waits, until when. See co.h.
 *
 * Wakes only put a coroutine on the ready list, and the list is run once a turn of the loop (co_loop.c), so a
 * coroutine is never resumed from inside another. All coroutines are resumed from the main stack.
 */
#include "co.h"

#include "clock.h"
#include "co_loop.h"
#include "co_stack.h"
#include "format.h"
#include "log.h"

#include <errno.h>
#include <string.h>
#include <utlist.h>

enum { NAME_SIZE = 64, POOL_LIMIT = 512, READY_ROUNDS = 4, DISTANT_MS = 5000 };

struct co {
    struct co_context context;
    struct co *next; /* in the ready list or the pool */
    struct co *all_prev, *all_next;
    void (*fn)(void *arg);
    void *arg;
    uv_timer_t timer; /* armed lazily: it may fire before the present wait ends, never after */
    uint64_t timer_due;
    uint64_t deadline;
    uint64_t waiting_since; /* uv_now(): the turn in which it began */
    const char *label;      /* what it waits for; NULL: it does not wait */
    enum co_end end;        /* how the present wait ends */
    int shields;
    bool is_ready, is_woken, is_cancelled, is_started;
    char name[NAME_SIZE];
};

static struct {
    struct co_context main;
    struct co *running;
    struct co *ready, *ready_last;
    struct co *all;
    struct co *pool;
    size_t count, pooled;
    void (*main_call)(void *arg);
    void *main_arg;
} the;

/* ---- life ---- */

static void destroy(uv_handle_t *handle)
{
    struct co *co = handle->data;
    struct co_context context = co->context;

    co_stack_unmap(&context);
}

static void release(struct co *co)
{
    if (the.pooled < POOL_LIMIT) {
        LL_PREPEND(the.pool, co);
        the.pooled++;
        return;
    }
    uv_close((uv_handle_t *)&co->timer, destroy);
}

static void finish(struct co *co)
{
    DL_DELETE2(the.all, co, all_prev, all_next);
    the.count--;
    release(co);
}

/* Everything that ever runs on one stack: one coroutine after another. */
static void run_on_stack(void *arg)
{
    struct co *co = arg;

    for (;;) {
        co->fn(co->arg);
        co->fn = NULL;
        co_stack_switch(&co->context, &the.main);
    }
}

static void resume(struct co *co)
{
    bool is_first = !co->is_started;

    the.running = co;
    co->is_started = true;
    if (is_first)
        co_stack_start(&the.main, &co->context, run_on_stack, co);
    else
        co_stack_switch(&the.main, &co->context);
    while (the.main_call != NULL) {
        void (*call)(void *arg) = the.main_call;

        the.main_call = NULL;
        call(the.main_arg);
        co_stack_switch(&the.main, &co->context);
    }
    the.running = NULL;
    if (co->fn == NULL)
        finish(co);
}

void co_call_on_main(void (*fn)(void *arg), void *arg)
{
    if (the.running == NULL) {
        fn(arg);
        return;
    }
    the.main_call = fn;
    the.main_arg = arg;
    co_stack_switch(&the.running->context, &the.main);
}

/* ---- the ready list ---- */

static void make_ready(struct co *co)
{
    co->is_ready = true;
    co->next = NULL;
    if (the.ready == NULL)
        the.ready = co;
    else
        the.ready_last->next = co;
    the.ready_last = co;
}

static void run_round(void)
{
    struct co *last = the.ready_last;

    while (the.ready != NULL) {
        struct co *co = the.ready;

        the.ready = co->next;
        if (the.ready == NULL)
            the.ready_last = NULL;
        co->is_ready = false;
        resume(co);
        if (co == last)
            break;
    }
}

void co_run_ready(void)
{
    for (int round = 0; round < READY_ROUNDS && the.ready != NULL; round++)
        run_round();
}

bool co_has_ready(void)
{
    return the.ready != NULL;
}

/* ---- all of them ---- */

void co_forget_all(void)
{
    memset(&the, 0, sizeof(the));
}

void co_free_pool(void)
{
    struct co *co, *next;

    LL_FOREACH_SAFE(the.pool, co, next)
    uv_close((uv_handle_t *)&co->timer, destroy);
    the.pool = NULL;
}

/* ---- coroutines ---- */

static void on_timer(uv_timer_t *timer);

static struct co *take_stack(void)
{
    struct co_context context = {0};
    struct co *co = the.pool;

    if (co != NULL) {
        LL_DELETE(the.pool, co);
        the.pooled--;
        return co;
    }
    co = co_stack_map(&context, sizeof(*co));
    if (co == NULL)
        return NULL;
    memset(co, 0, sizeof(*co));
    co->context = context;
    uv_timer_init(co_loop(), &co->timer);
    co->timer.data = co;
    return co;
}

struct co *co_spawn(void (*fn)(void *arg), void *arg, const char *name)
{
    struct co *co = take_stack();

    if (co == NULL)
        log_fatal("no memory for the stack of %s: %s", name, strerror(errno));
    co->fn = fn;
    co->arg = arg;
    co->label = NULL;
    co->shields = 0;
    co->is_woken = co->is_cancelled = false;
    format_print(co->name, sizeof(co->name), "%s", name);
    DL_APPEND2(the.all, co, all_prev, all_next);
    the.count++;
    make_ready(co);
    return co;
}

struct co *co_self(void)
{
    return the.running;
}

const char *co_name(const struct co *co)
{
    return co ? co->name : "main";
}

size_t co_count(void)
{
    return the.count;
}

/* ---- waiting ---- */

/* When a wait ends whose deadline is this: a distant one on a beat, with others, rather than by a wake-up of
 * its own. The loop's idea of the time must then be exact. */
static uint64_t due_of(uint64_t deadline, uint64_t now)
{
    if (deadline - now < DISTANT_MS)
        return deadline;
    uv_update_time(co_loop());
    return co_beat_at(deadline);
}

/* False: the deadline has passed. The timer never fires later than the wait ends; starting it is dearer than
 * letting an early one fire in vain, even one of the stack's last coroutine. */
static bool arm_timer(struct co *co)
{
    uint64_t now;

    if (co->deadline == CO_NEVER)
        return true;
    if (uv_is_active((uv_handle_t *)&co->timer) && co->timer_due <= co->deadline)
        return true;
    now = clock_ms();
    if (co->deadline <= now)
        return false;
    co->timer_due = due_of(co->deadline, now);
    uv_timer_start(&co->timer, on_timer, co->timer_due - now, 0);
    return true;
}

static void on_timer(uv_timer_t *timer)
{
    struct co *co = timer->data;

    if (co->label == NULL || co->is_ready || arm_timer(co))
        return;
    co->end = CO_TIMEOUT;
    make_ready(co);
}

static void need_coroutine(const char *label)
{
    if (the.running == NULL)
        log_panic("waiting for %s outside a coroutine", label);
}

static void leave(struct co *co, const char *label)
{
    co->label = label;
    co->waiting_since = uv_now(co_loop());
    co_stack_switch(&co->context, &the.main);
    co->label = NULL;
}

co_fn enum co_end co_park(uint64_t deadline, const char *label)
{
    struct co *co = the.running;

    need_coroutine(label);
    if (co->is_cancelled && co->shields == 0)
        return CO_CANCELLED;
    if (co->is_woken) {
        co->is_woken = false;
        return CO_OK;
    }
    co->deadline = deadline;
    if (!arm_timer(co))
        return CO_TIMEOUT;
    leave(co, label);
    return co->end;
}

void co_wake(struct co *co)
{
    if (co->label == NULL) {
        co->is_woken = true;
        return;
    }
    if (co->is_ready) {
        if (co->end == CO_TIMEOUT)
            co->end = CO_OK;
        return;
    }
    co->end = CO_OK;
    make_ready(co);
}

co_fn enum co_end co_sleep(uint64_t deadline, const char *label)
{
    enum co_end end;

    do
        end = co_park(deadline, label);
    while (end == CO_OK);
    return end == CO_TIMEOUT ? CO_OK : end;
}

co_fn void co_yield (void)
{
    struct co *co = the.running;

    need_coroutine("yield");
    make_ready(co);
    co->end = CO_OK;
    leave(co, "its turn");
}

void co_cancel(struct co *co)
{
    co->is_cancelled = true;
    if (co->label == NULL || co->shields > 0)
        return;
    co->end = CO_CANCELLED;
    if (!co->is_ready)
        make_ready(co);
}

bool co_is_cancelled(void)
{
    return the.running->is_cancelled;
}

bool co_is_stopped(void)
{
    return the.running->is_cancelled && the.running->shields == 0;
}

void co_shield(bool on)
{
    the.running->shields += on ? 1 : -1;
}

void co_trim_stack(void)
{
    need_coroutine("trimming its stack");
    co_stack_trim(&the.running->context);
}

/* ---- what everybody waits for ---- */

void co_dump(void)
{
    uint64_t now = uv_now(co_loop());
    struct co *co;

    log_info("%zu coroutines", the.count);
    DL_FOREACH2(the.all, co, all_next)
    {
        if (co->label == NULL)
            log_info("%s: running", co->name);
        else if (co->deadline == CO_NEVER)
            log_info("%s: waits for %s since %llu ms", co->name, co->label,
                     (unsigned long long)(now - co->waiting_since));
        else
            log_info("%s: waits for %s since %llu ms, %lld ms more", co->name, co->label,
                     (unsigned long long)(now - co->waiting_since), (long long)(co->deadline - clock_ms()));
    }
}
