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
#include <sys/eventfd.h>
#include <unistd.h>
#include <utlist.h>

enum { EVENTS = 128, BEAT_MS = 100 };

static struct {
    uv_loop_t *loop;
    int epoll;
    int slow; /* co_fd.h: the slow lane */
    size_t n_slow;
    uint64_t slow_due; /* clock_ms() of the next look into it, when anybody is there: a beat */
    uint64_t offbeat;  /* by which this process's beats differ from its neighbours' */
    bool is_stopping;
    struct co_fd *closed;         /* their memory goes at the end of the turn */
    struct co_progress *progress; /* NULL: nobody wants to know */
    bool was_rung;                /* the next turn does not wait */
    int mark;                     /* an eventfd that can always be read; see send_mark */
    uint64_t marked_us;           /* when the mark was sent that has not come yet, or 0 */
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
    the.slow = epoll_create1(EPOLL_CLOEXEC);
    the.mark = -1;
    the.offbeat = (uint64_t)getpid() * 37 % BEAT_MS;
    if (the.epoll < 0 || the.slow < 0 || uv_loop_init(the.loop) != 0 ||
        epoll_ctl(the.epoll, EPOLL_CTL_ADD, uv_backend_fd(the.loop), &nested) != 0)
        log_fatal("cannot make an event loop: %s", strerror(errno));
}

static void close_descriptors(void)
{
    close(the.epoll);
    close(the.slow);
    if (the.mark >= 0)
        close(the.mark);
}

void co_init(unsigned threads)
{
    open_loop(threads);
}

void co_init_child(unsigned threads)
{
    if (the.loop != NULL) {
        close(uv_backend_fd(the.loop));
        close_descriptors();
    }
    open_loop(threads);
}

uv_loop_t *co_loop(void)
{
    return the.loop;
}

uint64_t co_beat_at(uint64_t when)
{
    return when + BEAT_MS - 1 - (when + BEAT_MS - 1 + the.offbeat) % BEAT_MS;
}

/* ---- descriptors ---- */

int co_epoll(void)
{
    return the.epoll;
}

int co_epoll_slow(void)
{
    return the.slow;
}

void co_count_slow(int by)
{
    if (the.n_slow == 0)
        the.slow_due = co_beat_at(clock_ms() + 1);
    the.n_slow += (size_t)by;
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

/* ---- waiting ---- */

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

/* Milliseconds until the look into the slow lane: -1 nobody is there, 0 now. */
static int timeout_of_slow(void)
{
    uint64_t now;

    if (the.n_slow == 0)
        return -1;
    now = clock_ms();
    return the.slow_due > now ? (int)(the.slow_due - now) : 0;
}

/* A turn's waiting: no longer than the next timer, the slow lane and the log allow. */
static int turn_timeout(void)
{
    int timeout = shorter(timeout_of_libuv(), timeout_of_slow());
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

/* ---- progress ---- */

static void tell_progress(uint64_t seen_us)
{
    atomic_store_explicit(&the.progress->seen_us, seen_us, memory_order_release);
}

/* The kernel tells in turn what is ready (epoll_wait(2): "round robin"), so when the mark comes, what came
 * before it was sent has come too. */
static void send_mark(uint64_t now_us)
{
    struct epoll_event once = {.events = EPOLLIN | EPOLLONESHOT, .data.ptr = &the.mark};

    if (epoll_ctl(the.epoll, EPOLL_CTL_MOD, the.mark, &once) != 0)
        log_panic("cannot mark the events: %s", strerror(errno));
    the.marked_us = now_us;
}

static void mark_came(void)
{
    tell_progress(the.marked_us);
    the.marked_us = 0;
}

/* A look for events that had room for more has brought all that came before the turn; a loop that is never so
 * idle knows by its mark. */
static void note_look(int n, uint64_t began_us)
{
    if (n >= 0 && n < EVENTS)
        tell_progress(began_us);
    else if (n == EVENTS && the.marked_us == 0)
        send_mark(began_us);
}

/* ---- a turn ---- */

/* True: libuv is due. */
static bool pass_on(const struct epoll_event *event)
{
    void *whose = event->data.ptr;

    if (whose == &the.mark)
        mark_came();
    else if (whose == &the.progress)
        the.was_rung = true;
    else if (whose != NULL)
        co_fd_event(whose, event->events);
    return whose == NULL;
}

/* One look a turn: when there was more, the next turn looks again. */
static void look_at_slow(void)
{
    struct epoll_event events[EVENTS];
    int n = epoll_wait(the.slow, events, EVENTS, 0);

    for (int i = 0; i < n; i++)
        co_fd_event(events[i].data.ptr, events[i].events);
    if (n < EVENTS)
        the.slow_due = co_beat_at(clock_ms() + 1);
}

static void turn(void)
{
    struct epoll_event events[EVENTS];
    bool is_libuv_due = false;
    uint64_t began_us = the.progress != NULL ? clock_us() : 0;
    int n = wait_for_events(events);

    for (int i = 0; i < n; i++)
        is_libuv_due |= pass_on(&events[i]);
    if (the.progress != NULL)
        note_look(n, began_us);
    if (timeout_of_slow() == 0)
        look_at_slow();
    if (is_libuv_due || timeout_of_libuv() == 0)
        uv_run(the.loop, UV_RUN_NOWAIT);
    co_run_ready();
    free_closed();
}

/* ---- turns until the end ---- */

void co_tell_progress(struct co_progress *p, int bell)
{
    struct epoll_event rung = {.events = EPOLLIN | EPOLLET, .data.ptr = &the.progress}, unsent = {0};

    the.mark = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);
    if (the.mark < 0 || epoll_ctl(the.epoll, EPOLL_CTL_ADD, the.mark, &unsent) != 0 ||
        epoll_ctl(the.epoll, EPOLL_CTL_ADD, bell, &rung) != 0)
        log_panic("cannot tell progress: %s", strerror(errno));
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
    close_descriptors();
    log_flush();
}
