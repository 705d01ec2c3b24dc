/* Waiting on descriptors. See co_fd.h. */
#include "co_fd.h"
#include "log.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>

static unsigned events_of(const struct co_fd *w)
{
    if (w->is_shared)
        return EPOLLIN | EPOLLEXCLUSIVE;
    return EPOLLIN | EPOLLRDHUP | EPOLLET | (w->watches_write ? EPOLLOUT : 0);
}

static void control(struct co_fd *w, int operation)
{
    struct epoll_event event = {.events = events_of(w), .data.ptr = w};

    if (epoll_ctl(w->is_slow ? co_epoll_slow() : co_epoll(), operation, w->fd, &event) != 0)
        log_panic("cannot watch descriptor %d: %s", w->fd, strerror(errno));
}

void co_fd_open(struct co_fd *w, int fd, bool write)
{
    *w = (struct co_fd){.fd = fd, .is_open = true, .watches_write = write};
    control(w, EPOLL_CTL_ADD);
}

void co_fd_open_shared(struct co_fd *w, int fd)
{
    *w = (struct co_fd){.fd = fd, .is_open = true, .is_shared = true};
    control(w, EPOLL_CTL_ADD);
}

void co_fd_close(struct co_fd *w, void (*closed)(struct co_fd *))
{
    control(w, EPOLL_CTL_DEL);
    if (w->is_slow)
        co_count_slow(-1);
    w->is_open = false;
    w->closed = closed;
    co_close_later(w);
}

void co_fd_set_slow(struct co_fd *w, bool is_slow)
{
    if (w->is_slow == is_slow)
        return;
    control(w, EPOLL_CTL_DEL);
    w->is_slow = is_slow;
    control(w, EPOLL_CTL_ADD);
    co_count_slow(is_slow ? 1 : -1);
}

static void wake(struct co **place)
{
    if (*place != NULL)
        co_wake(*place);
    *place = NULL;
}

static void note_left(struct co_fd *w)
{
    void (*tell)(void *arg) = w->on_left;

    w->peer_left = true;
    w->on_left = NULL;
    if (tell != NULL)
        tell(w->on_left_arg);
}

void co_fd_event(struct co_fd *w, unsigned events)
{
    if (!w->is_open)
        return;
    if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
        note_left(w);
    if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) {
        w->can_read = true;
        wake(&w->reader);
    }
    if (events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) {
        w->can_write = true;
        wake(&w->writer);
    }
}

static bool is_ready(const struct co_fd *w, int event)
{
    return event == CO_READABLE ? w->can_read : w->can_write;
}

/* co_fd_event clears the place when it wakes who stands in it; another wake of the coroutine leaves it there.
 */
co_fn enum co_end co_fd_wait(struct co_fd *w, int event, uint64_t deadline, const char *label)
{
    struct co **place = event == CO_READABLE ? &w->reader : &w->writer;
    enum co_end end = CO_OK;

    if (*place != NULL)
        log_panic("%s and %s both wait for one descriptor", co_name(*place), co_name(co_self()));
    if (is_ready(w, event))
        return co_is_stopped() ? CO_CANCELLED : CO_OK;
    if (event == CO_WRITABLE && !w->watches_write) {
        w->watches_write = true;
        control(w, EPOLL_CTL_MOD); /* tells at once what is the case now */
    }
    *place = co_self();
    while (*place != NULL && end == CO_OK)
        end = co_park(deadline, label);
    if (*place == NULL)
        return CO_OK;
    *place = NULL;
    return end;
}
