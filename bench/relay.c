/*
 * The content filter of the benchmarks: a TCP relay that passes every byte on, both ways. What it costs is
 * nearly nothing, so that what is measured is the server before and after it.
 *
 *   relay PORT TARGET       listens on 127.0.0.1:PORT, connects to 127.0.0.1:TARGET; prints "listening"
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

/* One direction's end; the two of a connection point at each other. */
struct side {
    int fd;
    bool has_ended; /* its peer sends no more */
    bool is_full;   /* waits until its own socket takes `held` */
    char held[65536];
    size_t from, to; /* held bytes, to be written to this side */
    struct side *other;
};

static int epoll_fd;

static void watch(struct side *s, int how)
{
    struct epoll_event e = {.data.ptr = s};

    /* Reading stops while the other side cannot take what was read. */
    e.events = (s->has_ended || s->other->is_full ? 0 : EPOLLIN) | (s->is_full ? EPOLLOUT : 0);
    epoll_ctl(epoll_fd, how, s->fd, &e);
}

static int listen_on(int port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
    int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;

    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0 || listen(fd, 1024) < 0) {
        perror("listen");
        exit(2);
    }
    return fd;
}

static void accept_one(int listener, int target)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(target)};
    int near = accept4(listener, NULL, NULL, SOCK_NONBLOCK), far, one = 1;

    if (near < 0)
        return;
    far = socket(AF_INET, SOCK_STREAM, 0);
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    struct side *s = malloc(sizeof(*s)), *t = malloc(sizeof(*t));

    if (far < 0 || s == NULL || t == NULL || connect(far, (struct sockaddr *)&a, sizeof(a)) < 0) {
        perror("connect");
        close(near);
        close(far);
        free(s);
        free(t);
        return;
    }
    setsockopt(near, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    setsockopt(far, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    s->fd = near;
    t->fd = far;
    s->has_ended = t->has_ended = s->is_full = t->is_full = false;
    s->from = s->to = t->from = t->to = 0;
    s->other = t;
    t->other = s;
    watch(s, EPOLL_CTL_ADD);
    watch(t, EPOLL_CTL_ADD);
}

/* Writes what is held for s. False: the connection is over. */
static bool push(struct side *s)
{
    while (s->from < s->to) {
        ssize_t n = send(s->fd, s->held + s->from, s->to - s->from, MSG_DONTWAIT | MSG_NOSIGNAL);

        if (n < 0)
            return errno == EAGAIN;
        s->from += n;
    }
    return true;
}

/* Something can be done on s. False: the connection is over. */
static bool carry(struct side *s, unsigned events)
{
    struct side *t = s->other;
    bool was_full = s->is_full, other_was_full = t->is_full;

    if ((events & EPOLLOUT) && !push(s))
        return false;
    s->is_full = s->from < s->to;
    if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) && !s->has_ended && !t->is_full) {
        ssize_t n = recv(s->fd, t->held, sizeof(t->held), MSG_DONTWAIT);

        if (n < 0 && errno != EAGAIN)
            return false;
        if (n == 0) {
            s->has_ended = true;
            shutdown(t->fd, SHUT_WR);
            if (t->has_ended)
                return false;
            watch(s, EPOLL_CTL_MOD);
        }
        t->from = 0;
        t->to = n > 0 ? n : 0;
        if (!push(t))
            return false;
        t->is_full = t->from < t->to;
    }
    if (was_full != s->is_full || other_was_full != t->is_full) {
        watch(s, EPOLL_CTL_MOD);
        watch(t, EPOLL_CTL_MOD);
    }
    return true;
}

int main(int argc, char **argv)
{
    struct epoll_event events[256], e = {.events = EPOLLIN};
    struct side *over[256];

    if (argc != 3)
        return 2;
    epoll_fd = epoll_create1(0);
    int listener = listen_on(atoi(argv[1]));

    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listener, &e);
    puts("listening");
    fflush(stdout);
    while (true) {
        int n = epoll_wait(epoll_fd, events, 256, -1), dead = 0;

        for (int i = 0; i < n; i++) {
            struct side *s = events[i].data.ptr;

            if (s == NULL) {
                accept_one(listener, atoi(argv[2]));
            } else if (s->fd >= 0 && !carry(s, events[i].events)) {
                close(s->fd);
                close(s->other->fd);
                s->fd = s->other->fd = -1;
                over[dead++] = s;
            }
        }
        while (dead-- > 0) { /* not before the turn's end: another event of it may name the other side */
            free(over[dead]->other);
            free(over[dead]);
        }
    }
}
