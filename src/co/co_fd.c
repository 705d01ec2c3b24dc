/* Waiting on descriptors: one libuv poll handle each, armed lazily. See co_uv.h. */
#include "clock.h"
#include "co_uv.h"
#include "log.h"

#include <stddef.h>

static void on_event(uv_poll_t *poll, int status, int events);

static void arm(struct co_fd *w, int events)
{
    if (w->armed == events)
        return;
    w->armed = events;
    if (events == 0)
        uv_poll_stop(&w->poll);
    else
        uv_poll_start(&w->poll, events, on_event);
}

/* An event that nobody waits for would come again and again: it is disarmed until somebody waits. */
static void on_event(uv_poll_t *poll, int status, int events)
{
    struct co_fd *w = poll->data;
    int keep = w->armed;

    if (status < 0)
        events = UV_READABLE | UV_WRITABLE | UV_DISCONNECT;
    if (events & UV_DISCONNECT) {
        w->peer_left = true;
        keep &= ~UV_DISCONNECT;
        events |= UV_READABLE;
    }
    if (events & UV_READABLE) {
        if (w->reader != NULL) {
            co_wake(w->reader);
            w->reader = NULL;
        } else {
            keep &= ~UV_READABLE;
            w->has_input = true;
        }
    }
    if (events & UV_WRITABLE) {
        if (w->writer != NULL)
            co_wake(w->writer);
        w->writer = NULL;
        keep &= ~UV_WRITABLE; /* nearly always writable */
    }
    arm(w, keep);
}

void co_fd_open(struct co_fd *w, int fd)
{
    int bad = uv_poll_init(co_loop(), &w->poll, fd);

    if (bad != 0)
        log_panic("cannot watch descriptor %d: %s", fd, uv_strerror(bad));
    w->poll.data = w;
    w->reader = w->writer = NULL;
    w->armed = 0;
    w->is_open = true;
    w->has_input = false;
    w->peer_left = false;
}

static void on_closed(uv_handle_t *handle)
{
    struct co_fd *w = handle->data;

    w->closed(w);
}

void co_fd_close(struct co_fd *w, void (*closed)(struct co_fd *))
{
    w->is_open = false;
    w->closed = closed;
    w->armed = 0;
    uv_poll_stop(&w->poll);
    uv_close((uv_handle_t *)&w->poll, on_closed);
}

/* on_event clears the place when it wakes who stands in it; another wake of the coroutine leaves it there. */
co_fn enum co_end co_fd_wait(struct co_fd *w, int event, uint64_t deadline, const char *label)
{
    struct co **place = event == CO_READABLE ? &w->reader : &w->writer;
    enum co_end end = CO_OK;

    if (*place != NULL)
        log_panic("%s and %s both wait for one descriptor", co_name(*place), co_name(co_self()));
    *place = co_self();
    if (event == CO_READABLE)
        w->has_input = false;
    arm(w, w->armed | (event == CO_READABLE ? UV_READABLE | (w->peer_left ? 0 : UV_DISCONNECT) : UV_WRITABLE));
    while (*place != NULL && end == CO_OK)
        end = co_park(deadline, label);
    if (*place == NULL)
        return CO_OK;
    *place = NULL;
    return end;
}
