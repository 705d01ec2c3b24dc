/*
 * Sender hosts under overload: each has an address of its own, one connection at a time, and one message at a
 * time that it wants delivered. It waits so long for each reply and no longer; after a refusal (4xx), a
 * timeout or a lost connection it tries the same message again after a pause, which doubles from try to try
 * and has jitter.
 *
 *   clients port=N clients=N log=FILE [name=value...], times in milliseconds:
 *     period=4000     from one message of a client to its next; a client that is late follows as fast as it
 * can seconds=60      nobody begins a try after that; replies to end-of-data are still waited for
 *     patience=30000  for the greeting and each reply, end-of-data's too
 *     pause=1000      before the second try; at most pause-most=15000
 *     size=4096       bytes of a message
 *     base=1          clients are 127.BASE.0.1 and on
 *
 * The log: first "begin MS" (monotonic clock), then a line for each try, at its end: client, message, number
 * of the try, milliseconds from begin to its connect, last phase, code (0: timeout, -1: connection lost, -2:
 * cut at the end of the run), milliseconds to the greeting (-1: none), from the dot to the reply (-1: no
 * dot), and from begin to the end. The Message-ID is <bench-CLIENT-MESSAGE@example.org>.
 */
#include "bench.h"

#include <math.h>
#include <sys/uio.h>

enum phase { PAUSE, GREETING, EHLO, MAIL, RCPT, DATA, DOT, QUIT };

static const char *const names[] = {"PAUSE", "GREETING", "EHLO", "MAIL", "RCPT", "DATA", "DOT", "QUIT"};
static const char *const words[] = {
    [EHLO] = "EHLO sender.test\r\n",
    [MAIL] = "MAIL FROM:<sender@example.org>\r\n",
    [RCPT] = "RCPT TO:<user@way.test>\r\n",
    [DATA] = "DATA\r\n",
    [QUIT] = "QUIT\r\n",
};

struct client {
    int fd;
    enum phase phase;
    double deadline;                /* of the present wait */
    double due;                     /* when its present message was to be sent at first */
    double next;                    /* when it tries next */
    double connected, greeted, dot; /* of the present try; 0: not yet */
    long message, tries;
    struct line line;
    char head[320];
    size_t head_size, written; /* of what the phase sends */
};

static struct client *clients;
static long n_clients;
static double period, patience, pause_first, pause_most, begin;
static int epoll_fd, port, base;
static char *body;
static size_t body_size;
static FILE *log_file;

static void make_body(size_t size)
{
    static const char line[] = "0123456789 abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWX\r\n";

    body = malloc(size + sizeof(line) + 8);
    if (body == NULL)
        die("malloc");
    while (body_size < size) {
        memcpy(body + body_size, line, sizeof(line) - 1);
        body_size += sizeof(line) - 1;
    }
    memcpy(body + body_size, ".\r\n", 3);
    body_size += 3;
}

static void next_message(struct client *c, double now)
{
    c->message++;
    c->tries = 0;
    c->due += period;
    if (c->due < now - period)
        c->due = now - period;
    c->next = c->due;
}

/* The try is over, with this code; when the message may be tried again, or the next one, is settled. */
static void settle(struct client *c, int code)
{
    double now = now_ms(), pause;

    fprintf(log_file, "%ld %ld %ld %.1f %s %d %.1f %.1f %.1f\n", (long)(c - clients), c->message, c->tries,
            c->connected - begin, names[c->phase], code, c->greeted > 0 ? c->greeted - c->connected : -1,
            c->dot > 0 && code > 0 ? now - c->dot : -1, now - begin);
    if (c->phase == DOT && (code / 100 == 2 || code / 100 == 5)) {
        next_message(c, now);
        return;
    }
    pause = fmin(pause_most, pause_first * exp2((double)c->tries - 1));
    c->next = now + pause * (0.5 + drand48());
}

static void client_close(struct client *c)
{
    close(c->fd);
    c->fd = -1;
    c->phase = PAUSE;
}

static void give_up(struct client *c, int code)
{
    if (c->phase != QUIT)
        settle(c, code);
    client_close(c);
}

static void client_open(struct client *c, double now)
{
    c->fd = connect_from(nth_address(base, c - clients), port);
    if (c->fd < 0) {
        perror("connect");
        c->next = now + pause_first;
        return;
    }
    watch(epoll_fd, EPOLL_CTL_ADD, c->fd, EPOLLIN, c);
    c->phase = GREETING;
    c->tries++;
    c->connected = now;
    c->deadline = now + patience;
    c->greeted = c->dot = 0;
    c->line.n = 0;
    c->head_size = snprintf(c->head, sizeof(c->head),
                            "From: sender@example.org\r\nTo: user@way.test\r\nSubject: bench\r\n"
                            "Message-ID: <bench-%ld-%ld@example.org>\r\n"
                            "Date: Mon, 1 Jan 2024 00:00:00 +0000\r\n\r\n",
                            (long)(c - clients), c->message);
}

static void write_content(struct client *c)
{
    size_t in_body = c->written > c->head_size ? c->written - c->head_size : 0;
    struct iovec parts[2] = {{c->head + c->written, c->head_size - c->written},
                             {body + in_body, body_size - in_body}};
    struct msghdr m = {.msg_iov = parts, .msg_iovlen = 2};

    if (in_body > 0 || c->written == c->head_size)
        m = (struct msghdr){.msg_iov = parts + 1, .msg_iovlen = 1};
    ssize_t n = sendmsg(c->fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL);

    if (n < 0 && errno != EAGAIN) {
        give_up(c, -1);
        return;
    }
    if (n > 0)
        c->written += n;
    if (c->written == c->head_size + body_size && c->dot == 0) {
        c->dot = now_ms();
        c->deadline = c->dot + patience;
    }
    watch(epoll_fd, EPOLL_CTL_MOD, c->fd, EPOLLIN | (c->dot > 0 ? 0 : EPOLLOUT), c);
}

/* Says what the phase begins with. What does not fit into an empty socket is not of this size. */
static void enter(struct client *c, enum phase phase)
{
    c->phase = phase;
    c->written = 0;
    c->deadline = now_ms() + (phase == QUIT ? 5000 : patience);
    if (phase == DOT)
        write_content(c);
    else if (send(c->fd, words[phase], strlen(words[phase]), MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
        give_up(c, -1);
}

/* A whole reply line came. */
static void take_line(struct client *c)
{
    int code = atoi(c->line.text);
    bool is_good = code / 100 == (c->phase == DATA ? 3 : 2);

    if (c->line.n > 3 && c->line.text[3] == '-')
        return;
    if (c->phase == GREETING)
        c->greeted = now_ms();
    if (c->phase == QUIT) {
        client_close(c);
    } else if (c->phase == DOT || !is_good) {
        settle(c, code);
        enter(c, QUIT);
    } else {
        enter(c, c->phase + 1);
    }
}

static void read_some(struct client *c)
{
    char piece[4096];
    ssize_t n = recv(c->fd, piece, sizeof(piece), MSG_DONTWAIT);

    if (n <= 0 && (n == 0 || errno != EAGAIN)) {
        give_up(c, -1);
        return;
    }
    for (ssize_t i = 0; i < n && c->fd >= 0; i++) {
        if (line_add(&c->line, piece[i])) {
            take_line(c);
            c->line.n = 0;
        }
    }
}

/* Begins tries and ends waits whose time has come. After the end only waits for a reply to end-of-data go on;
 * the number of these. */
static long clocks(double now, double end)
{
    long waiting = 0;

    for (struct client *c = clients; c < clients + n_clients; c++) {
        if (c->phase == PAUSE) {
            if (c->next <= now && now < end)
                client_open(c, now);
        } else if (c->deadline <= now) {
            give_up(c, 0);
        } else if (now >= end && c->phase != DOT) {
            give_up(c, -2);
        } else {
            waiting++;
        }
    }
    return waiting;
}

static void run(double end)
{
    struct epoll_event events[512];

    for (double ticked = 0;;) {
        int n = epoll_wait(epoll_fd, events, 512, 5);
        double now = now_ms();

        for (int i = 0; i < n; i++) {
            struct client *c = events[i].data.ptr;

            if (c->fd >= 0 && (events[i].events & EPOLLOUT))
                write_content(c);
            if (c->fd >= 0 && (events[i].events & ~EPOLLOUT))
                read_some(c);
        }
        if (now < ticked + 5)
            continue;
        ticked = now;
        if (clocks(now, end) == 0 && now >= end)
            return;
    }
}

static const char *text_argument(int argc, char **argv, const char *name)
{
    for (int i = 1; i < argc; i++)
        if (strncmp(argv[i], name, strlen(name)) == 0 && argv[i][strlen(name)] == '=')
            return argv[i] + strlen(name) + 1;
    return NULL;
}

int main(int argc, char **argv)
{
    const char *path = text_argument(argc, argv, "log");

    n_clients = argument(argc, argv, "clients", 0);
    port = argument(argc, argv, "port", 0);
    base = argument(argc, argv, "base", 1);
    period = argument(argc, argv, "period", 4000);
    patience = argument(argc, argv, "patience", 30000);
    pause_first = argument(argc, argv, "pause", 1000);
    pause_most = argument(argc, argv, "pause-most", 15000);
    if (path == NULL || n_clients < 1 || port == 0)
        return 2;
    log_file = fopen(path, "w");
    clients = calloc(n_clients, sizeof(*clients));
    epoll_fd = epoll_create1(0);
    if (log_file == NULL || clients == NULL || epoll_fd < 0)
        die(path);
    make_body(argument(argc, argv, "size", 4096));
    srand48(1);
    begin = now_ms();
    fprintf(log_file, "begin %.1f\n", begin);
    for (long i = 0; i < n_clients; i++) {
        clients[i].fd = -1;
        clients[i].due = clients[i].next = begin + period * i / n_clients;
    }
    run(begin + 1000 * argument(argc, argv, "seconds", 60));
    return fclose(log_file) == 0 ? 0 : 2;
}
