/*
 * What the C programs of the benchmarks share: the clock, loopback sockets that do not block, lines,
 * arguments. Each program is one file, one process and one thread, with level-triggered epoll.
 */
#ifndef BENCH_H
#define BENCH_H

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define LINE_MAX_BYTES 1024

/* What came of the present line. Bytes beyond the buffer are dropped. */
struct line {
    char text[LINE_MAX_BYTES];
    size_t n;
};

static inline void die(const char *what)
{
    perror(what);
    exit(2);
}

/* Milliseconds of the monotonic clock, which all processes of this machine share. */
static inline double now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e3 + t.tv_nsec / 1e6;
}

/* The number that an argument of the form "name=number" gives; `otherwise` where there is none. */
static inline double argument(int argc, char **argv, const char *name, double otherwise)
{
    size_t n = strlen(name);

    for (int i = 1; i < argc; i++)
        if (strncmp(argv[i], name, n) == 0 && argv[i][n] == '=')
            return atof(argv[i] + n + 1);
    return otherwise;
}

/* The nth of 127.b.c.d, counted from 127.1.0.1: 200 hosts a net of 256, so that none ends in 0 or 255. */
static inline struct in_addr nth_address(long base, long n)
{
    struct in_addr a;

    a.s_addr = htonl(0x7F000000u + (uint32_t)base * 0x10000u + (uint32_t)(n / 200) * 0x100u + n % 200 + 1);
    return a;
}

/* A connection on its way to 127.0.0.1:port, from the address given. -1: no descriptor or no port was left.
 */
static inline int connect_from(struct in_addr source, int port)
{
    struct sockaddr_in from = {.sin_family = AF_INET, .sin_addr = source};
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), one = 1;

    if (fd < 0)
        return -1;
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof(one));
    if (bind(fd, (struct sockaddr *)&from, sizeof(from)) == 0 &&
        (connect(fd, (struct sockaddr *)&to, sizeof(to)) == 0 || errno == EINPROGRESS))
        return fd;
    close(fd);
    return -1;
}

static inline void watch(int epoll_fd, int how, int fd, unsigned events, void *who)
{
    struct epoll_event e = {.events = events, .data.ptr = who};

    if (epoll_ctl(epoll_fd, how, fd, &e) < 0)
        die("epoll_ctl");
}

/* Takes one more byte. True: it ended the line; the caller sets n to 0 when it has read the line. */
static inline bool line_add(struct line *l, char byte)
{
    if (byte == '\n') {
        l->n -= l->n > 0 && l->text[l->n - 1] == '\r';
        l->text[l->n] = '\0';
        return true;
    }
    if (l->n < sizeof(l->text) - 1)
        l->text[l->n++] = byte;
    return false;
}

#endif
