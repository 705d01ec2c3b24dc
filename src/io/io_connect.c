/* Connecting, listening, accepting. See io.h. */
#include "io.h"

#include "clock.h"
#include "co_fd.h"
#include "mem.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { BACKLOG_STEP_MS = 10 };

static struct error *because(int code)
{
    struct error *e = error_new(ERROR_TEMP, "%s", strerror(code));

    e->code = code;
    return e;
}

static struct error *ended(enum io_end end)
{
    return error_new(ERROR_TEMP, "%s", end == IO_TIMEOUT ? "Connection timed out" : io_end_text(end));
}

/* ---- connect ---- */

static co_fn struct error *wait_connected(int fd, uint64_t deadline)
{
    enum io_end end = io_wait_writable(fd, deadline, "a connection");
    socklen_t size = sizeof(int);
    int code = 0;

    if (end != IO_OK)
        return ended(end);
    getsockopt(fd, SOL_SOCKET, SO_ERROR, &code, &size);
    return code ? because(code) : NULL;
}

/* One write is one turn of a conversation: it goes at once. Accepted sockets have it from their listener. */
static void set_no_delay(int fd, int family)
{
    int on = 1;

    if (family != AF_UNIX)
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

/* A server on this host has answered before connect() returns; asked again, the kernel says so. 0: connected.
 */
static int try_connect(int fd, const struct io_address *a)
{
    const struct sockaddr *to = (const struct sockaddr *)&a->sa;

    if (connect(fd, to, a->length) == 0)
        return 0;
    return errno == EINPROGRESS && connect(fd, to, a->length) == 0 ? 0 : errno;
}

/* Of a unix socket whose server has a full backlog nobody tells when there is room. */
static co_fn struct error *establish(int fd, const struct io_address *a, uint64_t deadline)
{
    int code = try_connect(fd, a);

    while (code == EAGAIN) {
        uint64_t next = clock_ms() + BACKLOG_STEP_MS;

        if (next > deadline)
            return ended(IO_TIMEOUT);
        if (co_sleep(next, "room for a connection") != CO_OK)
            return ended(IO_CANCELLED);
        code = try_connect(fd, a);
    }
    if (code == EALREADY)
        return wait_connected(fd, deadline);
    return code != 0 ? because(code) : NULL;
}

bool io_connect_had_no_means(const struct error *e)
{
    return e->code == EMFILE || e->code == ENFILE || e->code == ENOBUFS || e->code == ENOMEM;
}

co_fn struct error *io_connect(const void *ctx, const struct io_address *a, uint64_t deadline,
                               struct io_stream **stream_r)
{
    struct error *e = NULL;
    int fd = socket(a->sa.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    *stream_r = NULL;
    if (fd < 0)
        return because(errno);
    e = establish(fd, a, deadline);
    if (e != NULL) {
        close(fd);
        return e;
    }
    set_no_delay(fd, a->sa.ss_family);
    *stream_r = io_stream_new(ctx, fd);
    return NULL;
}

co_fn struct error *io_endpoint_connect(const void *ctx, const struct io_endpoint *to, uint64_t deadline,
                                        struct io_stream **stream_r)
{
    struct io_address address, *found = &address;
    struct error *e;
    size_t n = 1;

    *stream_r = NULL;
    if (to->path != NULL)
        e = io_address_unix(to->path, &address);
    else
        e = io_resolve(ctx, to->host, to->service, AF_UNSPEC, deadline, &found, &n);
    if (e != NULL)
        return e;
    for (size_t i = 0; i < n && *stream_r == NULL; i++) {
        error_free(&e);
        e = io_connect(ctx, &found[i], deadline, stream_r);
    }
    if (found != &address)
        talloc_free(found);
    return e;
}

/* ---- listen ---- */

enum { SILENT_S = 120, PROBE_S = 15, PROBES = 4, UNACKNOWLEDGED_MS = 180000 };

/* A peer that vanished without a word is known to be gone after three minutes, also while it has only to wait
 * for us: what waits for its end does not wait for a command that never comes. Most mail servers come back
 * later than that. TCP_USER_TIMEOUT ends the probing: it leaves time for several probes, since one may get
 * lost. Accepted sockets have it all from their listener. */
static void notice_vanished(int fd)
{
    int on = 1, silent = SILENT_S, probe = PROBE_S, probes = PROBES, unacknowledged = UNACKNOWLEDGED_MS;

    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &silent, sizeof(silent));
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &probe, sizeof(probe));
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof(probes));
    setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &unacknowledged, sizeof(unacknowledged));
}

/* Only a socket that nobody serves is in the way of ours; anything else of that name is not ours to remove.
 */
static void remove_stale(const char *path)
{
    struct stat st;

    if (lstat(path, &st) == 0 && S_ISSOCK(st.st_mode))
        unlink(path);
}

static int failed(int fd, struct error **error_r, const char *what)
{
    *error_r = error_errno(errno, "%s", what);
    if (fd >= 0)
        close(fd);
    return -1;
}

int io_listen(const struct io_address *a, int backlog, struct error **error_r)
{
    const struct sockaddr_un *un = (const struct sockaddr_un *)&a->sa;
    int fd = socket(a->sa.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int on = 1;

    *error_r = NULL;
    if (fd < 0)
        return failed(fd, error_r, "socket");
    if (a->sa.ss_family == AF_UNIX) {
        remove_stale(un->sun_path);
    } else {
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
        set_no_delay(fd, a->sa.ss_family);
        notice_vanished(fd);
    }
    if (a->sa.ss_family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
    if (bind(fd, (const struct sockaddr *)&a->sa, a->length) != 0)
        return failed(fd, error_r, "bind");
    if (a->sa.ss_family == AF_UNIX && chmod(un->sun_path, 0666) != 0)
        return failed(fd, error_r, "chmod");
    if (listen(fd, backlog) != 0)
        return failed(fd, error_r, "listen");
    return fd;
}

/* ---- accept ---- */

struct io_listener {
    struct co_fd *watch; /* NULL: paused */
    int fd;
};

static void free_watch(struct co_fd *w)
{
    free(w);
}

void io_listener_pause(struct io_listener *l)
{
    if (l->watch != NULL)
        co_fd_close(l->watch, free_watch);
    l->watch = NULL;
}

unsigned io_listener_waiting(const struct io_listener *l)
{
    struct tcp_info info = {0};
    socklen_t size = sizeof(info);

    if (getsockopt(l->fd, IPPROTO_TCP, TCP_INFO, &info, &size) != 0)
        return 0;
    return info.tcpi_unacked; /* of a listening socket (tcp(7) does not say so) */
}

static int close_listener(struct io_listener *l)
{
    io_listener_pause(l);
    return 0;
}

struct io_listener *io_listener_new(const void *ctx, int fd)
{
    struct io_listener *l = mem_new(ctx, struct io_listener);

    l->fd = fd;
    talloc_set_destructor(l, close_listener);
    return l;
}

void io_listener_close(struct io_listener **l)
{
    talloc_free(*l);
    *l = NULL;
}

bool io_accept_now(struct io_listener *l, int *fd_r, struct io_address *peer_r)
{
    peer_r->length = sizeof(peer_r->sa);
    do
        *fd_r = accept4(l->fd, (struct sockaddr *)&peer_r->sa, &peer_r->length, SOCK_NONBLOCK | SOCK_CLOEXEC);
    while (*fd_r < 0 && errno == EINTR);
    return *fd_r >= 0;
}

/* One connection a turn of the loop. Another worker may have taken the one that woke us: then we wait again.
 */
co_fn enum io_end io_accept(struct io_listener *l, uint64_t deadline, int *fd_r, struct io_address *peer_r,
                            int *errno_r)
{
    if (l->watch == NULL) {
        l->watch = mem_malloc(sizeof(*l->watch));
        co_fd_open_shared(l->watch, l->fd);
    }
    for (;;) {
        enum co_end end = co_fd_wait(l->watch, CO_READABLE, deadline, "a connection");

        if (end != CO_OK)
            return end == CO_TIMEOUT ? IO_TIMEOUT : IO_CANCELLED;
        co_fd_drained(l->watch);
        if (io_accept_now(l, fd_r, peer_r))
            return IO_OK;
        if (errno != EAGAIN) {
            *errno_r = errno;
            return IO_RESET;
        }
    }
}
