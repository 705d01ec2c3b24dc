/*
 * The accept loop. See listen.h.
 *
 * One coroutine a listener accepts; it pauses while a connection of this worker waits for one of the
 * service's places, and while descriptors are short. It is the session's own coroutine that waits, so that a
 * connection that was accepted just before a drain is still served.
 *
 * A worker that is spare (struct listen_order) takes the connection that it was woken for, since the others
 * may not have been told of it, and then steps back until it is needed: what comes meanwhile wakes these.
 */
#include "listen.h"

#include "clock.h"
#include "format.h"
#include "log.h"
#include "mem.h"

#include <errno.h>
#include <malloc.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/resource.h>
#include <unistd.h>
#include <utlist.h>

enum {
    SHORTAGE_MS = 1000, /* try again although no session of ours ended */
    STRANGE_MS = 100,   /* after an accept error without a name */
    COMPLAIN_MS = 60000,
    RESERVE_LEAST = 16,
    RESERVE_MOST = 4096,
    SESSION_ROOM = 384, /* its stream and addresses */
    STEP_BACK_MS = 50,
    LONG_QUEUE = 64, /* of connections: all have to help */
    CROWD = 1024,    /* sessions, whose memory is worth giving back */
};

struct acceptor {
    struct listen *listen;
    struct co *co; /* NULL: ended */
    struct io_listener *from;
    struct io_address server; /* what the listener is bound to */
    int fd;
    bool is_paused;
};

struct session {
    struct session *prev, *next;
    struct listen *listen;
    struct co *co;
    struct io_stream *stream;
    struct io_address peer, server;
    bool has_place;
};

struct listen {
    struct listen_conf conf;
    struct listen_peers *peers;
    struct acceptor *acceptors;
    struct session *sessions;
    size_t session_count;
    size_t most_sessions;   /* since memory was given back last */
    size_t waiting;         /* sessions without a place */
    struct co_mutex asking; /* one of them at a time waits at the counter */
    int highest_fd;         /* beyond it descriptors are for the sessions under way */
    bool is_short;          /* of descriptors, until a session ends */
    bool is_draining, is_stopping;
    uint64_t complained_ms;
    uint64_t idle_since;
    struct co *waiter; /* in listen_wait */
};

size_t listen_sessions(const struct listen *l)
{
    return l->session_count;
}

uint64_t listen_idle_since(const struct listen *l)
{
    return l->session_count > 0 ? 0 : l->idle_since;
}

static void wake_acceptors(struct listen *l)
{
    for (size_t i = 0; i < l->conf.fd_count; i++)
        if (l->acceptors[i].is_paused)
            co_wake(l->acceptors[i].co);
}

/* ---- a session ---- */

/* It closed its side and has nothing left to say. (The stream itself learns of that only once it is read.) */
static bool has_left(const struct session *s)
{
    struct pollfd p = {.fd = io_stream_fd(s->stream), .events = POLLRDHUP};

    return poll(&p, 1, 0) > 0 && !io_has_input(s->stream);
}

/* Waits for a place, unless the client leaves or we stop. */
static co_fn void wait_for_place(struct session *s)
{
    struct listen *l = s->listen;
    const struct listen_limit *limit = &l->conf.limit;

    limit->reached(limit->arg);
    if (co_lock(&l->asking, CO_NEVER, "a place") == CO_OK) {
        while (!(s->has_place = limit->try_take(limit->arg)) && !has_left(s))
            if (limit->wait(limit->arg, CO_NEVER) == CO_CANCELLED)
                break;
        co_unlock(&l->asking);
    }
    l->waiting--;
    wake_acceptors(l);
}

static co_fn void converse(struct session *s)
{
    struct listen *l = s->listen;
    struct mail_client client;

    listen_peers_name(l->peers, s, &s->peer, &s->server, &client);
    if (!co_is_cancelled())
        l->conf.session(l->conf.arg, s, s->stream, &client);
}

/* What the sessions of a crowd had lies between what others have: the allocator keeps it until it is asked.
 */
static void give_memory_back(struct listen *l)
{
    if (l->most_sessions < CROWD || l->session_count > l->most_sessions / 4)
        return;
    malloc_trim(0);
    l->most_sessions = l->session_count;
}

static void end_session(struct session *s)
{
    struct listen *l = s->listen;

    DL_DELETE(l->sessions, s);
    l->session_count--;
    talloc_free(s);
    give_memory_back(l);
    if (l->session_count == 0)
        l->idle_since = clock_ms();
    if (l->is_short) {
        l->is_short = false;
        wake_acceptors(l);
    }
    if (l->session_count == 0 && l->waiter != NULL)
        co_wake(l->waiter);
}

static co_fn void run_session(void *arg)
{
    struct session *s = arg;
    const struct listen_limit *limit = &s->listen->conf.limit;

    if (!s->has_place)
        wait_for_place(s);
    if (s->has_place) {
        converse(s);
        limit->give(limit->arg);
    }
    end_session(s);
}

static struct io_address own_address(int fd)
{
    struct io_address own = {.length = sizeof(own.sa)};

    if (getsockname(fd, (struct sockaddr *)&own.sa, &own.length) != 0)
        return (struct io_address){0};
    return own;
}

/* Bound to all addresses: each connection has its own. */
static bool is_any(const struct io_address *a)
{
    const struct sockaddr_in *v4 = (const struct sockaddr_in *)&a->sa;
    const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)&a->sa;

    return (a->sa.ss_family == AF_INET && v4->sin_addr.s_addr == htonl(INADDR_ANY)) ||
           (a->sa.ss_family == AF_INET6 && IN6_IS_ADDR_UNSPECIFIED(&v6->sin6_addr));
}

static void start_session(struct acceptor *a, int fd, const struct io_address *peer)
{
    struct listen *l = a->listen;
    struct session *s = mem_new_with_room(l, struct session, SESSION_ROOM);
    char host[46], name[128];

    s->listen = l;
    s->peer = *peer;
    s->has_place = l->conf.limit.try_take(l->conf.limit.arg);
    l->waiting += !s->has_place; /* now, so that the acceptor pauses */
    s->server = is_any(&a->server) ? own_address(fd) : a->server;
    s->stream = io_stream_new(s, fd);
    format_print(name, sizeof(name), "%s %s:%u", l->conf.name, io_address_host(peer, host),
                 io_address_port(peer));
    DL_APPEND(l->sessions, s);
    l->session_count++;
    if (l->session_count > l->most_sessions)
        l->most_sessions = l->session_count;
    s->co = co_spawn(run_session, s, name);
}

/* ---- accepting ---- */

static void complain(struct listen *l, const char *why)
{
    uint64_t now = clock_ms();

    if (l->complained_ms != 0 && now - l->complained_ms < COMPLAIN_MS)
        return;
    l->complained_ms = now;
    log_warn("%s: %zu sessions in this process; new clients wait until one ends", why, l->session_count);
}

/* While paused, new clients wait in the kernel, or go to other workers. */
static co_fn void pause_accepting(struct acceptor *a)
{
    struct listen *l = a->listen;

    while (!l->is_draining && (l->waiting > 0 || l->is_short)) {
        io_listener_pause(a->from);
        l->conf.order.takes(l->conf.order.arg, false);
        a->is_paused = true;
        if (co_park(clock_ms() + SHORTAGE_MS, "a session to end") == CO_TIMEOUT)
            l->is_short = false;
        a->is_paused = false;
    }
}

static bool is_spare(const struct acceptor *a)
{
    const struct listen_order *order = &a->listen->conf.order;

    return order->is_spare(order->arg) && io_listener_waiting(a->from) <= LONG_QUEUE;
}

static co_fn void step_back_while_spare(struct acceptor *a)
{
    while (!a->listen->is_draining && is_spare(a)) {
        io_listener_pause(a->from);
        co_sleep(clock_ms() + STEP_BACK_MS, "connections that others do not take");
    }
}

static co_fn void accept_failed(struct acceptor *a, int code)
{
    struct listen *l = a->listen;

    switch (code) {
    case EMFILE:
    case ENFILE:
    case ENOBUFS:
    case ENOMEM:
        l->is_short = true;
        complain(l, strerror(code));
        break;
    case ECONNABORTED:
    case EPROTO:
        break; /* it left before we came */
    default:
        complain(l, strerror(code));
        io_listener_pause(a->from);
        co_sleep(clock_ms() + STRANGE_MS, "accept");
    }
}

static void take(struct acceptor *a, int fd, const struct io_address *peer)
{
    struct listen *l = a->listen;

    if (fd > l->highest_fd) {
        l->is_short = true;
        complain(l, "few descriptors are left");
    }
    start_session(a, fd, peer);
    l->conf.order.takes(l->conf.order.arg, true);
}

/* Connections that woke this worker alone are served before it goes. */
static void take_last(struct acceptor *a)
{
    struct io_address peer;
    int fd;

    while (!a->listen->is_stopping && !a->listen->is_short && io_accept_now(a->from, &fd, &peer))
        take(a, fd, &peer);
}

static co_fn void run_acceptor(void *arg)
{
    struct acceptor *a = arg;
    struct listen *l = a->listen;
    enum io_end end = IO_OK;

    a->from = io_listener_new(l, a->fd);
    a->server = own_address(a->fd);
    l->conf.order.takes(l->conf.order.arg, true);
    while (!l->is_draining && end != IO_CANCELLED) {
        struct io_address peer;
        int fd, code = 0;

        pause_accepting(a);
        if (l->is_draining)
            break;
        end = io_accept(a->from, CO_NEVER, &fd, &peer, &code);
        if (end == IO_RESET)
            accept_failed(a, code);
        if (end != IO_OK)
            continue;
        take(a, fd, &peer);
        step_back_while_spare(a);
    }
    l->conf.order.takes(l->conf.order.arg, false);
    take_last(a);
    io_listener_close(&a->from);
    close(a->fd);
    a->co = NULL;
}

/* An eighth of the descriptors is for files and connections of the sessions under way. */
static int descriptor_mark(void)
{
    struct rlimit limit;
    rlim_t reserve;

    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY)
        return INT32_MAX;
    reserve = limit.rlim_cur / 8;
    if (reserve < RESERVE_LEAST)
        reserve = RESERVE_LEAST;
    if (reserve > RESERVE_MOST)
        reserve = RESERVE_MOST;
    return limit.rlim_cur > reserve ? (int)(limit.rlim_cur - reserve) : 0;
}

struct listen *listen_start(const void *ctx, const struct listen_conf *conf)
{
    struct listen *l = mem_new(ctx, struct listen);

    l->conf = *conf;
    l->peers = listen_peers_new(l, conf->lookup_names);
    l->highest_fd = descriptor_mark();
    l->idle_since = clock_ms();
    l->acceptors = mem_array(l, struct acceptor, conf->fd_count + 1);
    for (size_t i = 0; i < conf->fd_count; i++) {
        l->acceptors[i] = (struct acceptor){.listen = l, .fd = conf->fds[i]};
        l->acceptors[i].co = co_spawn(run_acceptor, &l->acceptors[i], "accept");
    }
    return l;
}

/* ---- the end ---- */

void listen_drain(struct listen *l)
{
    if (l->is_draining)
        return;
    l->is_draining = true;
    for (size_t i = 0; i < l->conf.fd_count; i++)
        if (l->acceptors[i].co != NULL)
            co_cancel(l->acceptors[i].co);
}

void listen_stop(struct listen *l)
{
    struct session *s;

    listen_drain(l);
    if (l->is_stopping)
        return;
    l->is_stopping = true;
    DL_FOREACH (l->sessions, s)
        co_cancel(s->co);
}

co_fn enum co_end listen_wait(struct listen *l, uint64_t deadline)
{
    enum co_end end = CO_OK;

    l->waiter = co_self();
    while (end == CO_OK && l->session_count > 0)
        end = co_park(deadline, "sessions to end");
    l->waiter = NULL;
    return end;
}
