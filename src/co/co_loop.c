/*
 * The event loop. A turn: wait for events (at most until the next timer, or until the log's gathered lines
 * must be written), mark whom they wake, run who is ready (co.c). libuv's loop, for timers and the thread
 * pool, is nested in the epoll instance and entered only when one of them is due.
 */
#include "co_loop.h"

#include "clock.h"
#include "co_fd.h"
#include "format.h"
#include "log.h"
#include "mem.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>
#include <utlist.h>

enum { EVENTS = 128, ROUNDS = 32 };

static struct {
    uv_loop_t *loop;
    int epoll;
    bool is_stopping;
    struct co_fd *closed;         /* their memory goes at the end of the turn */
    struct co_progress *progress; /* NULL: nobody wants to know */
    bool was_rung;                /* the next turn does not wait */
} the;

/* ---- opening ---- */

static void open_loop(unsigned threads)
{
    struct epoll_event nested = {.events = EPOLLIN};
    char number[16];

    format_print(number, sizeof(number), "%u", threads);
    setenv("UV_THREADPOOL_SIZE", number, 1);
    memset(&the, 0, sizeof(the));
    co_forget_all();
    co_work_begin(threads);
    the.loop = mem_malloc(sizeof(*the.loop));
    the.epoll = epoll_create1(EPOLL_CLOEXEC);
    if (the.epoll < 0 || uv_loop_init(the.loop) != 0 ||
        epoll_ctl(the.epoll, EPOLL_CTL_ADD, uv_backend_fd(the.loop), &nested) != 0)
        log_fatal("cannot make an event loop: %s", strerror(errno));
}

void co_init(unsigned threads)
{
    open_loop(threads);
}

void co_init_child(unsigned threads)
{
    if (the.loop != NULL) {
        close(uv_backend_fd(the.loop));
        close(the.epoll);
    }
    open_loop(threads);
}

uv_loop_t *co_loop(void)
{
    return the.loop;
}

/* ---- descriptors ---- */

int co_epoll(void)
{
    return the.epoll;
}

void co_close_later(struct co_fd *w)
{
    LL_PREPEND2(the.closed, w, next_closed);
}

static void free_closed(void)
{
    struct co_fd *w;

    while ((w = the.closed) != NULL) {
        the.closed = w->next_closed;
        w->closed(w);
    }
}

/* ---- a turn ---- */

/* Milliseconds until libuv has something to do: -1 nothing, 0 now. */
static int timeout_of_libuv(void)
{
    uv_update_time(the.loop);
    return uv_loop_alive(the.loop) ? uv_backend_timeout(the.loop) : -1;
}

static int shorter(int a, int b)
{
    return a < 0 ? b : b < 0 || a < b ? a : b;
}

/* A turn's waiting: no longer than the next timer and the log allow. */
static int turn_timeout(void)
{
    int timeout = timeout_of_libuv();
    int log = log_flush_in();

    if (log == 0)
        log_flush();
    else
        timeout = shorter(timeout, log);
    return co_has_ready() ? 0 : timeout;
}

static int wait_for_events(struct epoll_event events[EVENTS])
{
    int timeout = the.was_rung ? 0 : turn_timeout(), n;

    the.was_rung = false;
    if (the.progress == NULL)
        return epoll_wait(the.epoll, events, EVENTS, timeout);
    atomic_store_explicit(&the.progress->is_waiting, timeout != 0, memory_order_relaxed);
    n = epoll_wait(the.epoll, events, EVENTS, timeout);
    atomic_store_explicit(&the.progress->is_waiting, false, memory_order_relaxed);
    return n;
}

/* Not while there may be more that came before the turn. */
static void tell_progress(uint64_t began_us, int n)
{
    if (the.progress != NULL && n >= 0 && n < EVENTS)
        atomic_store_explicit(&the.progress->seen_us, began_us, memory_order_release);
}

/* True: libuv is due. */
static bool pass_on(const struct epoll_event *event)
{
    if (event->data.ptr == NULL)
        return true;
    if (event->data.ptr == &the.progress)
        the.was_rung = true;
    else
        co_fd_event(event->data.ptr, event->events);
    return false;
}

/* All that there is, in rounds; the last one's n. Rounds are bounded, since more may come as fast as they are
 * taken. */
static int take_events(bool *is_libuv_due_r)
{
    struct epoll_event events[EVENTS];
    int n = wait_for_events(events);

    for (int round = 1;; round++) {
        for (int i = 0; i < n; i++)
            *is_libuv_due_r |= pass_on(&events[i]);
        if (n < EVENTS || round == ROUNDS)
            return n;
        n = epoll_wait(the.epoll, events, EVENTS, 0);
    }
}

static void turn(void)
{
    bool is_libuv_due = false;
    uint64_t began_us = the.progress != NULL ? clock_us() : 0;

    tell_progress(began_us, take_events(&is_libuv_due));
    if (is_libuv_due || timeout_of_libuv() == 0)
        uv_run(the.loop, UV_RUN_NOWAIT);
    co_run_ready();
    free_closed();
}

/* ---- turns until the end ---- */

void co_tell_progress(struct co_progress *p, int bell)
{
    struct epoll_event rung = {.events = EPOLLIN | EPOLLET, .data.ptr = &the.progress};

    if (epoll_ctl(the.epoll, EPOLL_CTL_ADD, bell, &rung) != 0)
        log_panic("cannot watch the bell: %s", strerror(errno));
    the.progress = p;
}

void co_run(void)
{
    the.is_stopping = false;
    co_run_ready();
    while (co_count() > 0 && !the.is_stopping)
        turn();
    free_closed();
    log_flush();
}

void co_stop(void)
{
    the.is_stopping = true;
}

void co_deinit(void)
{
    co_free_pool();
    uv_run(the.loop, UV_RUN_DEFAULT);
    if (uv_loop_close(the.loop) != 0)
        log_panic("the event loop still has handles");
    free(the.loop);
    the.loop = NULL;
    close(the.epoll);
    log_flush();
}
