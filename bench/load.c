/*
 * The load client of the benchmarks: one process, one thread, epoll. Each message has its own connection:
 * greeting, EHLO, MAIL, RCPT, DATA, content, QUIT, as a stranger's server would do it, without pipelining.
 * Cheap on purpose: it shares the processors with what it measures.
 *
 *   load PORT CONCURRENCY MESSAGES SIZE     prints "accepted A failed F seconds S", exit 0 when F is 0
 *   load idle PORT SESSIONS SOURCE          opens sessions up to the reply to EHLO, prints "ready N", holds
 * them until standard input ends, prints "held N"
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum step { GREETING, EHLO, MAIL, RCPT, DATA, CONTENT, QUIT };

struct session {
    int fd;
    enum step step;
    size_t written; /* of what the step sends */
    bool is_accepted;
    char line[1024]; /* what came of the present reply line */
    size_t n;
};

static const char *const words[] = {
    [EHLO] = "EHLO bench.test\r\n",
    [MAIL] = "MAIL FROM:<sender@example.org>\r\n",
    [RCPT] = "RCPT TO:<user@way.test>\r\n",
    [DATA] = "DATA\r\n",
    [QUIT] = "QUIT\r\n",
};
static char *content;
static size_t content_size;
static int epoll_fd;
static struct sockaddr_in server, source;
static long accepted, failed, started, wanted, ready;
static bool is_idle;

static void die(const char *what)
{
    perror(what);
    exit(2);
}

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void make_content(size_t size)
{
    static const char head[] = "From: sender@example.org\r\nTo: user@way.test\r\nSubject: bench\r\n"
                               "Message-ID: <bench@example.org>\r\n"
                               "Date: Mon, 1 Jan 2024 00:00:00 +0000\r\n\r\n";
    static const char line[] = "0123456789 abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWX\r\n";

    content = malloc(size + sizeof(head) + sizeof(line) + 8);
    if (content == NULL)
        die("malloc");
    content_size = sizeof(head) - 1;
    memcpy(content, head, content_size);
    while (content_size < size) {
        memcpy(content + content_size, line, sizeof(line) - 1);
        content_size += sizeof(line) - 1;
    }
    memcpy(content + content_size, ".\r\n", 3);
    content_size += 3;
}

static void session_open(struct session *s)
{
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = s};
    int one = 1;

    memset(s, 0, sizeof(*s));
    s->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (s->fd < 0)
        die("socket");
    if (source.sin_family && bind(s->fd, (struct sockaddr *)&source, sizeof(source)) < 0)
        die("bind");
    setsockopt(s->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    if (connect(s->fd, (struct sockaddr *)&server, sizeof(server)) < 0)
        die("connect");
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, s->fd, &e) < 0)
        die("epoll_ctl");
    started++;
}

static void session_end(struct session *s)
{
    close(s->fd);
    s->fd = -1;
    accepted += s->is_accepted;
    failed += !s->is_accepted;
    if (!is_idle && started < wanted)
        session_open(s);
}

/* Writes what the step has to say; waits for room in the socket when there is none. */
static void session_write(struct session *s)
{
    const char *text = s->step == CONTENT ? content : words[s->step];
    size_t size = s->step == CONTENT ? content_size : strlen(text);
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = s};

    while (s->written < size) {
        ssize_t n = send(s->fd, text + s->written, size - s->written, MSG_DONTWAIT | MSG_NOSIGNAL);

        if (n < 0 && errno == EAGAIN) {
            e.events |= EPOLLOUT;
            break;
        }
        if (n < 0) {
            session_end(s);
            return;
        }
        s->written += n;
    }
    if (s->step == CONTENT && epoll_ctl(epoll_fd, EPOLL_CTL_MOD, s->fd, &e) < 0)
        die("epoll_ctl");
}

/* One whole reply line came. */
static void session_line(struct session *s)
{
    bool is_good = s->line[0] == '2' || (s->step == DATA && s->line[0] == '3');

    if (s->n > 3 && s->line[3] == '-')
        return;
    if (s->step == CONTENT)
        s->is_accepted = is_good;
    if (s->step == QUIT || (!is_good && s->step != CONTENT)) {
        if (!is_good)
            fprintf(stderr, "step %d: %.*s\n", s->step, (int)s->n, s->line);
        session_end(s);
        return;
    }
    if (is_idle && s->step == EHLO) {
        ready++;
        return;
    }
    s->step++;
    s->written = 0;
    session_write(s);
}

static void session_read(struct session *s)
{
    char piece[2048];
    ssize_t n = recv(s->fd, piece, sizeof(piece), MSG_DONTWAIT);

    if (n < 0 && errno == EAGAIN)
        return;
    if (n <= 0) {
        session_end(s);
        return;
    }
    for (ssize_t i = 0; i < n && s->fd >= 0; i++) {
        if (piece[i] == '\n') {
            session_line(s);
            s->n = 0;
        } else if (s->n < sizeof(s->line)) {
            s->line[s->n++] = piece[i];
        }
    }
}

static void turn(int timeout)
{
    struct epoll_event events[256];
    int n = epoll_wait(epoll_fd, events, 256, timeout);

    for (int i = 0; i < n; i++) {
        struct session *s = events[i].data.ptr;

        if (s->fd >= 0 && (events[i].events & EPOLLOUT))
            session_write(s);
        if (s->fd >= 0 && (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)))
            session_read(s);
    }
}

static int run_idle(long sessions)
{
    struct session *all = calloc(sessions, sizeof(*all));
    char byte;
    long held = 0;

    if (all == NULL)
        die("calloc");
    is_idle = true;
    for (long i = 0; i < sessions; i++) {
        session_open(&all[i]);
        while (ready + failed < i - 50)
            turn(1000);
    }
    for (double end = now() + 60; ready + failed < sessions && now() < end;)
        turn(1000);
    printf("ready %ld\n", ready);
    fflush(stdout);
    while (read(0, &byte, 1) > 0)
        ;
    turn(0);
    for (long i = 0; i < sessions; i++)
        held += all[i].fd >= 0;
    printf("held %ld\n", held);
    return 0;
}

int main(int argc, char **argv)
{
    epoll_fd = epoll_create1(0);
    server.sin_family = AF_INET;
    server.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (argc == 5 && strcmp(argv[1], "idle") == 0) {
        server.sin_port = htons(atoi(argv[2]));
        source.sin_family = AF_INET;
        inet_pton(AF_INET, argv[4], &source.sin_addr);
        return run_idle(atol(argv[3]));
    }
    if (argc != 5) {
        fprintf(stderr, "usage: load PORT CONCURRENCY MESSAGES SIZE | load idle PORT SESSIONS SOURCE\n");
        return 2;
    }
    server.sin_port = htons(atoi(argv[1]));
    wanted = atol(argv[3]);
    make_content(atol(argv[4]));
    long concurrency = atol(argv[2]);
    struct session *all = calloc(concurrency, sizeof(*all));
    double start = now();

    for (long i = 0; i < concurrency && started < wanted; i++)
        session_open(&all[i]);
    while (accepted + failed < wanted && now() - start < 300)
        turn(1000);
    printf("accepted %ld failed %ld seconds %.3f\n", accepted, wanted - accepted, now() - start);
    return accepted == wanted ? 0 : 1;
}
