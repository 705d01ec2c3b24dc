/*
 * A crowd that occupies a server: many connections from many addresses that do nothing, or send a byte now
 * and then. A connection that the server ends comes back after a pause.
 *
 *   crowd port=N sessions=N [trickle=PERCENT] [every=MS] [base=B] [rate=PER_SECOND]
 *
 * Every 100 connections share an address of 127.BASE.0.0/16. All say EHLO; then the trickling ones send, by
 * turns, a command that never ends or the content of a message that never ends, a byte every so often, each
 * at a time of its own: as they would come from many hosts, and not in bursts. Prints "ready N" when N of
 * them are past EHLO (or two minutes have passed), goes on until standard input ends, and prints "held N
 * dropped D refused R": past EHLO at the end; ended by the server; not served at all (no greeting, or a 4xx).
 */
#include "bench.h"

#include <poll.h>

enum { COME_MS = 50, TRICKLE_MS = 5 }; /* how often those are seen to */
enum phase { AWAY, GREETING, EHLO, MAIL, RCPT, DATA, IDLE, COMMAND, CONTENT };

static const char *const words[] = {
    [EHLO] = "EHLO crowd.test\r\n",
    [MAIL] = "MAIL FROM:<crowd@example.org>\r\n",
    [RCPT] = "RCPT TO:<user@way.test>\r\n",
    [DATA] = "DATA\r\n",
};

struct session {
    int fd;
    unsigned char phase, purpose; /* purpose: IDLE, COMMAND or CONTENT */
    unsigned short column;        /* bytes of the present line */
    unsigned char code;           /* first digit of the reply line */
    unsigned char at;             /* bytes of the reply line, 4 at most */
    bool is_last;                 /* the reply line has no '-' behind its code */
    bool is_on_wheel;
    float next;             /* seconds since the start: when it connects again */
    struct session *behind; /* on its spoke */
};

static struct session *all;
static long n_sessions, ready, dropped, refused;
static int epoll_fd, port, base;
static double start;
static struct session **wheel; /* who trickles: a spoke for each TRICKLE_MS between two bytes of one */
static long n_spokes, spoke;   /* the next to come */

static float seconds(void)
{
    return (float)((now_ms() - start) / 1000);
}

static bool is_there(const struct session *s)
{
    return s->phase >= IDLE;
}

static void leave(struct session *s)
{
    ready -= is_there(s);
    dropped += is_there(s);
    refused += !is_there(s);
    close(s->fd);
    s->fd = -1;
    s->phase = AWAY;
    s->next = seconds() + 1 + (float)drand48() * 4;
}

static void come(struct session *s)
{
    s->fd = connect_from(nth_address(base, (s - all) / 100), port);
    s->next = seconds() + 5; /* should this fail */
    if (s->fd < 0) {
        perror("connect");
        return;
    }
    watch(epoll_fd, EPOLL_CTL_ADD, s->fd, EPOLLIN, s);
    s->phase = GREETING;
    s->at = s->column = 0;
}

static void say(struct session *s, const char *text, size_t size)
{
    if (send(s->fd, text, size, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 && errno != EAGAIN)
        leave(s);
}

/* A byte of the line that a trickling session never ends: content has line ends, a command none. */
static void trickle(struct session *s)
{
    if (s->phase == COMMAND)
        say(s, s->column++ == 0 ? "N" : "x", 1);
    else if (++s->column % 72 == 0)
        say(s, "\r\n", 2);
    else
        say(s, "x", 1);
}

static bool trickles(const struct session *s)
{
    return s->phase == COMMAND || s->phase == CONTENT;
}

static void put_on_wheel(struct session *s)
{
    struct session **at = &wheel[lrand48() % n_spokes];

    if (s->is_on_wheel)
        return;
    s->is_on_wheel = true;
    s->behind = *at;
    *at = s;
}

/* Those on it trickle; who does so no more is taken off. */
static void run_spoke(struct session **at)
{
    while (*at != NULL) {
        struct session *s = *at;

        if (trickles(s)) {
            trickle(s);
            at = &s->behind;
            continue;
        }
        s->is_on_wheel = false;
        *at = s->behind;
    }
}

static void turn_wheel(double now)
{
    for (; start + spoke * TRICKLE_MS <= now; spoke++)
        run_spoke(&wheel[spoke % n_spokes]);
}

static void take_reply(struct session *s)
{
    if (is_there(s))
        return;
    if (s->code != '2' && s->code != '3') {
        leave(s);
        return;
    }
    if ((s->phase == EHLO && s->purpose != CONTENT) || s->phase == DATA) {
        s->phase = s->purpose;
        ready++;
        if (trickles(s))
            put_on_wheel(s);
        return;
    }
    s->phase++;
    say(s, words[s->phase], strlen(words[s->phase]));
}

static void read_some(struct session *s)
{
    char piece[2048];
    ssize_t n = recv(s->fd, piece, sizeof(piece), MSG_DONTWAIT);

    if (n < 0 && errno == EAGAIN)
        return;
    if (n <= 0) {
        leave(s);
        return;
    }
    for (ssize_t i = 0; i < n && s->fd >= 0; i++) {
        if (piece[i] == '\n') {
            s->at = 0;
            if (s->is_last)
                take_reply(s);
            continue;
        }
        if (s->at == 0)
            s->code = piece[i];
        if (s->at == 3)
            s->is_last = piece[i] != '-';
        s->at += s->at < 4;
    }
}

static void turn(int wait_ms)
{
    struct epoll_event events[512];
    int n = epoll_wait(epoll_fd, events, 512, wait_ms);

    for (int i = 0; i < n; i++) {
        struct session *s = events[i].data.ptr;

        if (s->fd >= 0)
            read_some(s);
    }
}

/* Lets those come that are away, `most` of them. */
static void let_come(long most)
{
    float now = seconds();

    if (ready == n_sessions)
        return;
    for (struct session *s = all; s < all + n_sessions && most > 0; s++) {
        if (s->phase != AWAY || s->next > now)
            continue;
        come(s);
        most--;
    }
}

static bool has_input_ended(void)
{
    struct pollfd p = {.fd = 0, .events = POLLIN};
    char byte;

    return poll(&p, 1, 0) > 0 && read(0, &byte, 1) <= 0;
}

int main(int argc, char **argv)
{
    double rate = argument(argc, argv, "rate", 2000), trickling = argument(argc, argv, "trickle", 50), coming;
    bool is_said = false;

    port = argument(argc, argv, "port", 0);
    base = argument(argc, argv, "base", 64);
    n_sessions = argument(argc, argv, "sessions", 1000);
    n_spokes = (long)(argument(argc, argv, "every", 5000) / TRICKLE_MS) + 1;
    all = calloc(n_sessions, sizeof(*all));
    wheel = calloc(n_spokes, sizeof(*wheel));
    epoll_fd = epoll_create1(0);
    if (port == 0 || all == NULL || wheel == NULL || epoll_fd < 0)
        return 2;
    srand48(1);
    start = coming = now_ms();
    for (long i = 0; i < n_sessions; i++) {
        all[i].fd = -1;
        all[i].purpose = (i * 37) % 100 >= trickling ? IDLE : i % 2 ? COMMAND : CONTENT;
    }
    while (!has_input_ended()) {
        double now = now_ms();

        turn_wheel(now);
        if (now >= coming) {
            let_come((long)(rate * COME_MS / 1000) + 1);
            coming = now + COME_MS;
        }
        turn(trickling > 0 ? TRICKLE_MS : COME_MS);
        if (!is_said && (ready == n_sessions || now > start + 120000)) {
            printf("ready %ld\n", ready);
            fflush(stdout);
            is_said = true;
        }
    }
    printf("held %ld dropped %ld refused %ld\n", ready, dropped, refused);
    return 0;
}
