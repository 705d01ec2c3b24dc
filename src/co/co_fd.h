/*
 * For io/ alone: waiting on descriptors, under the coroutines.
 *
 * Descriptors are watched by an epoll instance of ours, edge-triggered, in which libuv's loop (timers, thread
 * pool) is nested: one epoll_ctl when a connection comes and one when it goes, where uv_poll_t needs eight.
 * An edge tells once that something has come; what it told is kept in can_read and can_write until a read or
 * write finds nothing more.
 *
 * A second epoll instance, the slow lane, wakes nobody: the loop looks into it ten times a second. Ten
 * thousand peers that send a byte now and then cost wake-ups, for each of their bytes, of them and of us;
 * there they are dealt with together.
 */
#ifndef CO_CO_FD_H
#define CO_CO_FD_H

#include "co.h"

enum { CO_READABLE = 1, CO_WRITABLE = 2 };

/* A descriptor watched for one reader and one writer. */
struct co_fd {
    int fd;
    struct co *reader;
    struct co *writer;
    bool is_open;
    bool is_shared;     /* a listener of several processes */
    bool is_slow;       /* in the slow lane */
    bool watches_write; /* asked for only when a write had to wait */
    bool can_read;      /* unread bytes, or the end, may be there */
    bool can_write;
    bool peer_left;             /* the peer closed its side or reset: can_read stays true */
    void (*on_left)(void *arg); /* NULL, or called once, on the loop, when peer_left becomes true */
    void *on_left_arg;
    struct co_fd *next_closed;
    void (*closed)(struct co_fd *);
};

/* `write`: the first wait will be for CO_WRITABLE (a connection under way). */
void co_fd_open(struct co_fd *w, int fd, bool write);
/* A listening socket that several processes watch: a connection wakes one of those that wait
 * (EPOLLEXCLUSIVE), and tells it again at each turn until it is taken. Who will not take it closes the watch.
 */
void co_fd_open_shared(struct co_fd *w, int fd);
/* Stops watching at once; calls closed(w) on a later turn, when w's memory may go. The descriptor is the
 * caller's, who may close it now. */
void co_fd_close(struct co_fd *w, void (*closed)(struct co_fd *));
/* Into the slow lane, or out of it: what came meanwhile is told anew. */
void co_fd_set_slow(struct co_fd *w, bool is_slow);
/* Waits for CO_READABLE or CO_WRITABLE; at once when can_read or can_write says so. */
co_fn enum co_end co_fd_wait(struct co_fd *w, int event, uint64_t deadline, const char *label);
/* A read found nothing, or less than there was room for: wait for the next edge. */
static inline void co_fd_drained(struct co_fd *w)
{
    w->can_read = w->peer_left;
}
/* A write found no room. */
static inline void co_fd_clogged(struct co_fd *w)
{
    w->can_write = false;
}

/* ---- co_loop.c for co_fd.c ---- */

/* The epoll descriptors; events carry the struct co_fd. */
int co_epoll(void);
int co_epoll_slow(void);
/* One more in the slow lane, or one less. */
void co_count_slow(int by);
/* One event of it. */
void co_fd_event(struct co_fd *w, unsigned events);
/* Hands w to its closed() when this turn's events are done with. */
void co_close_later(struct co_fd *w);

#endif
