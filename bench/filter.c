/*
 * A content filter with a capacity, as amavis with max_servers has it: so many connections at once and no
 * more; a further one waits in the listen queue, not even greeted. Each message is taken whole, scanned for a
 * fixed time, handed to the server after the filter, and answered with that server's reply.
 *
 *   filter port=N after=N slots=N scan=MS      listens on 127.0.0.1
 *
 * Prints "listening", then once a second, and at SIGTERM, "MS scans S passed P refused R gone G" (counts
 * since the start; MS is the monotonic clock; gone: the client had left when its scan was done). A client
 * that leaves while its message is scanned is not noticed, and the message is passed on (RFC 1047).
 */
#include "bench.h"

#include <signal.h>
#include <strings.h>

#define MAX_SLOTS    1024
#define MAX_COMMANDS 64

enum state { UNUSED, COMMANDS, CONTENT, SCAN, AFTER };

struct end {
    int fd; /* -1: closed */
    struct slot *slot;
    struct line line;
};

struct slot {
    enum state state;
    struct end near, far;
    char *commands[MAX_COMMANDS]; /* XFORWARD, MAIL, RCPT as they came, to be said again */
    size_t n_commands;
    char *content; /* as on the wire, its final dot too */
    size_t size, room;
    double scanned;  /* when the scan is done */
    size_t said;     /* to the after-filter server: EHLO, the commands, DATA, the content */
    size_t written;  /* of the content */
    bool is_leaving; /* QUIT came with the dot */
};

static int epoll_fd, listener, after, n_slots, busy;
static double scan_ms;
static struct slot slots[MAX_SLOTS];
static long scans, passed, refused, gone;
static volatile sig_atomic_t is_over;

static void over(int signal)
{
    (void)signal;
    is_over = 1;
}

static void count(void)
{
    printf("%.0f scans %ld passed %ld refused %ld gone %ld\n", now_ms(), scans, passed, refused, gone);
    fflush(stdout);
}

static void end_close(struct end *e)
{
    if (e->fd >= 0)
        close(e->fd);
    e->fd = -1;
}

/* Writes a little; a peer that does not take it, or is gone, is found out by its next read. */
static void say(struct end *e, const char *text, size_t size)
{
    if (e->fd >= 0 && send(e->fd, text, size, MSG_NOSIGNAL) < 0 && e == &e->slot->far)
        shutdown(e->fd, SHUT_RDWR);
}

static void reply(struct slot *s, const char *text)
{
    say(&s->near, text, strlen(text));
}

static void forget(struct slot *s)
{
    while (s->n_commands > 0)
        free(s->commands[--s->n_commands]);
    s->size = s->said = s->written = 0;
    s->near.line.n = s->far.line.n = 0;
    end_close(&s->far);
}

static void slot_close(struct slot *s)
{
    forget(s);
    end_close(&s->near);
    s->state = UNUSED;
    if (busy-- == n_slots)
        watch(epoll_fd, EPOLL_CTL_ADD, listener, EPOLLIN, NULL);
}

static void slot_open(void)
{
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC), one = 1;
    struct slot *s = slots;

    if (fd < 0)
        return;
    while (s->state != UNUSED)
        s++;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    s->near = (struct end){.fd = fd, .slot = s};
    s->far = (struct end){.fd = -1, .slot = s};
    s->state = COMMANDS;
    s->is_leaving = false;
    watch(epoll_fd, EPOLL_CTL_ADD, fd, EPOLLIN, &s->near);
    if (++busy == n_slots)
        epoll_ctl(epoll_fd, EPOLL_CTL_DEL, listener, NULL);
    reply(s, "220 filter.test ESMTP\r\n");
}

/* The message has its verdict: that of the after-filter server. */
static void verdict(struct slot *s, const char *text)
{
    char line[LINE_MAX_BYTES + 2];

    snprintf(line, sizeof(line), "%s\r\n", text);
    passed += text[0] == '2';
    refused += text[0] != '2';
    say(&s->far, "QUIT\r\n", 6);
    if (s->near.fd < 0) {
        slot_close(s);
        return;
    }
    reply(s, line);
    if (s->is_leaving) {
        reply(s, "221 2.0.0 Bye\r\n");
        slot_close(s);
        return;
    }
    forget(s);
    s->state = COMMANDS;
    watch(epoll_fd, EPOLL_CTL_ADD, s->near.fd, EPOLLIN, &s->near);
}

static void scan_done(struct slot *s)
{
    char byte;
    ssize_t n = recv(s->near.fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);

    scans++;
    s->state = AFTER;
    if (n == 0 || (n < 0 && errno != EAGAIN)) {
        gone++;
        end_close(&s->near);
    }
    s->far.fd = connect_from((struct in_addr){.s_addr = htonl(INADDR_LOOPBACK)}, after);
    if (s->far.fd < 0)
        verdict(s, "451 4.3.0 no connection to the server after the filter");
    else
        watch(epoll_fd, EPOLL_CTL_ADD, s->far.fd, EPOLLIN, &s->far);
}

static void write_content(struct slot *s)
{
    ssize_t n = send(s->far.fd, s->content + s->written, s->size - s->written, MSG_NOSIGNAL);

    if (n > 0)
        s->written += n;
    watch(epoll_fd, EPOLL_CTL_MOD, s->far.fd, EPOLLIN | (s->written < s->size ? EPOLLOUT : 0), &s->far);
}

/* One reply line of the after-filter server: what comes next is said, or this was the last. */
static void far_line(struct slot *s)
{
    const char *text = s->far.line.text;
    bool is_data = s->said == s->n_commands + 2;
    char command[LINE_MAX_BYTES + 2];

    if (s->far.line.n > 3 && text[3] == '-')
        return;
    if (text[0] != (is_data ? '3' : '2') || s->said == s->n_commands + 3) {
        verdict(s, text);
        return;
    }
    size_t n = s->said++;

    if (n == s->n_commands + 2) {
        write_content(s);
        return;
    }
    snprintf(command, sizeof(command), "%s\r\n",
             n == 0               ? "EHLO filter.test"
             : n <= s->n_commands ? s->commands[n - 1]
                                  : "DATA");
    say(&s->far, command, strlen(command));
}

static void keep_command(struct slot *s)
{
    if (s->n_commands == MAX_COMMANDS) {
        reply(s, "452 4.5.3 too many recipients\r\n");
        return;
    }
    s->commands[s->n_commands] = strdup(s->near.line.text);
    if (s->commands[s->n_commands++] == NULL)
        die("strdup");
    reply(s, "250 2.0.0 Ok\r\n");
}

/* False: the slot is free again. */
static bool near_command(struct slot *s)
{
    const char *text = s->near.line.text;

    if (strncasecmp(text, "EHLO", 4) == 0) {
        reply(s, "250-filter.test\r\n250-PIPELINING\r\n250-SIZE 100000000\r\n250-8BITMIME\r\n250-DSN\r\n"
                 "250-SMTPUTF8\r\n250-ENHANCEDSTATUSCODES\r\n"
                 "250 XFORWARD NAME ADDR PORT PROTO HELO IDENT SOURCE RETRY\r\n");
    } else if (strncasecmp(text, "XFORWARD", 8) == 0 || strncasecmp(text, "MAIL", 4) == 0 ||
               strncasecmp(text, "RCPT", 4) == 0) {
        keep_command(s);
    } else if (strncasecmp(text, "DATA", 4) == 0) {
        s->state = CONTENT;
        reply(s, "354 go on\r\n");
    } else if (strncasecmp(text, "QUIT", 4) == 0) {
        reply(s, "221 2.0.0 Bye\r\n");
        slot_close(s);
        return false;
    } else {
        if (strncasecmp(text, "RSET", 4) == 0)
            forget(s);
        reply(s, "250 2.0.0 Ok\r\n");
    }
    return true;
}

/* Takes one byte of content. True: the final dot is complete. */
static bool content_add(struct slot *s, char byte)
{
    if (s->size == s->room) {
        s->room = s->room ? s->room * 2 : 8192;
        s->content = realloc(s->content, s->room);
        if (s->content == NULL)
            die("realloc");
    }
    s->content[s->size++] = byte;
    return byte == '\n' && ((s->size >= 5 && memcmp(s->content + s->size - 5, "\r\n.\r\n", 5) == 0) ||
                            (s->size == 3 && memcmp(s->content, ".\r\n", 3) == 0));
}

/* Behind the dot nothing but QUIT can stand in a message's last group. */
static void scan_begin(struct slot *s, const char *rest, size_t n)
{
    s->state = SCAN;
    s->is_leaving = n >= 4 && strncasecmp(rest, "QUIT", 4) == 0;
    s->scanned = now_ms() + scan_ms;
    epoll_ctl(epoll_fd, EPOLL_CTL_DEL, s->near.fd, NULL);
}

static void near_read(struct slot *s)
{
    char piece[16384];
    ssize_t n = recv(s->near.fd, piece, sizeof(piece), MSG_DONTWAIT);

    if (n < 0 && errno == EAGAIN)
        return;
    if (n <= 0) {
        slot_close(s);
        return;
    }
    for (ssize_t i = 0; i < n; i++) {
        if (s->state == CONTENT && content_add(s, piece[i])) {
            scan_begin(s, piece + i + 1, (size_t)(n - i - 1));
            return;
        }
        if (s->state == COMMANDS && line_add(&s->near.line, piece[i])) {
            if (!near_command(s))
                return;
            s->near.line.n = 0;
        }
    }
}

static void far_event(struct slot *s, unsigned events)
{
    char piece[4096];

    if (events & EPOLLOUT)
        write_content(s);
    if (!(events & (EPOLLIN | EPOLLHUP | EPOLLERR)))
        return;
    ssize_t n = recv(s->far.fd, piece, sizeof(piece), MSG_DONTWAIT);

    if (n <= 0 && (n == 0 || errno != EAGAIN))
        verdict(s, "451 4.3.0 lost connection with the server after the filter");
    for (ssize_t i = 0; i < n && s->far.fd >= 0; i++) {
        if (line_add(&s->far.line, piece[i])) {
            far_line(s);
            s->far.line.n = 0;
        }
    }
}

static void listen_on(int port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
    int one = 1;

    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (bind(listener, (struct sockaddr *)&a, sizeof(a)) < 0 || listen(listener, SOMAXCONN) < 0)
        die("listen");
    epoll_fd = epoll_create1(0);
    watch(epoll_fd, EPOLL_CTL_ADD, listener, EPOLLIN, NULL);
    puts("listening");
    fflush(stdout);
}

/* Ends the scans that are due. Milliseconds until the next one, one second at most. */
static int scans_due(double now)
{
    double next = now + 1000;

    for (struct slot *s = slots; s < slots + n_slots; s++) {
        if (s->state == SCAN && s->scanned <= now)
            scan_done(s);
        else if (s->state == SCAN && s->scanned < next)
            next = s->scanned;
    }
    return (int)(next - now) + 1;
}

int main(int argc, char **argv)
{
    struct epoll_event events[256];
    double counted = 0;

    after = argument(argc, argv, "after", 0);
    n_slots = argument(argc, argv, "slots", 20);
    scan_ms = argument(argc, argv, "scan", 500);
    if (n_slots < 1 || n_slots > MAX_SLOTS || after == 0)
        return 2;
    signal(SIGTERM, over);
    listen_on(argument(argc, argv, "port", 0));
    while (!is_over) {
        double now = now_ms();
        int n = epoll_wait(epoll_fd, events, 256, scans_due(now));

        for (int i = 0; i < n; i++) {
            struct end *e = events[i].data.ptr;

            if (e == NULL)
                slot_open();
            else if (e->fd >= 0 && e == &e->slot->near)
                near_read(e->slot);
            else if (e->fd >= 0)
                far_event(e->slot, events[i].events);
        }
        if (now >= counted + 1000) {
            count();
            counted = now;
        }
    }
    count();
    return 0;
}
