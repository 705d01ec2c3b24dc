/* Who has heard the reply to end-of-data: a client over a real connection that leaves in every way there is.
 */
#include "smtpd_test_peer.h"

#include "clock.h"
#include "log.h"

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#define MESSAGE "HELO me\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n"

enum { SILENT_MS = 1500 }; /* longer than a session waits before it takes a client for an idle one */

enum leaving {
    QUITS,               /* reads the reply, says QUIT */
    GOES_ON,             /* reads the reply, sends another command, is gone */
    CLOSES,              /* reads the reply, closes without QUIT */
    CLOSES_ITS_SIDE,     /* has said all before the reply comes, and still reads */
    LEAVES_EARLY,        /* closes before the reply comes */
    RESETS_EARLY,        /* the same, with a reset */
    DIES_WITH_IT_UNREAD, /* the reply has come, nobody has read it */
    QUITS_AHEAD,         /* sends QUIT without waiting, then reads it all */
    RESETS_LATE,         /* reads the reply, is silent for a while, is reset */
};

struct client {
    struct io_stream *stream;
    enum leaving leaving;
};

static void no_log(const char *line, void *arg)
{
}

static co_fn void read_replies(struct io_stream *s, const char *last)
{
    while (bytes_find(io_buffered(s), bytes_of(last)) == SIZE_MAX)
        assert_int_equal(io_fill(s, clock_ms() + 5000), IO_OK);
    io_consume(s, io_buffered(s).n);
}

static co_fn void say(struct io_stream *s, const char *text)
{
    io_write(s, bytes_of(text), clock_ms() + 5000);
    io_flush(s, clock_ms() + 5000);
}

static void reset(struct io_stream **s)
{
    struct linger now = {.l_onoff = 1};

    setsockopt(io_stream_fd(*s), SOL_SOCKET, SO_LINGER, &now, sizeof(now));
    io_stream_close(s);
}

static co_fn void wait_for_bytes(struct io_stream *s)
{
    while (!io_has_input(s))
        co_sleep(clock_ms() + 1, "the reply to come");
}

static co_fn void be_client(void *arg)
{
    struct client *c = arg;
    struct io_stream *s = c->stream;

    read_replies(s, "220 ");
    say(s, MESSAGE);
    read_replies(s, "354 ");
    say(s, c->leaving == QUITS_AHEAD ? "hello\r\n.\r\nQUIT\r\n" : "hello\r\n.\r\n");
    switch (c->leaving) {
    case QUITS:
    case GOES_ON:
    case CLOSES:
        read_replies(s, "250 ");
        if (c->leaving != CLOSES)
            say(s, c->leaving == QUITS ? "QUIT\r\n" : "NOOP\r\n");
        break;
    case CLOSES_ITS_SIDE:
        shutdown(io_stream_fd(s), SHUT_WR);
        read_replies(s, "250 ");
        break;
    case DIES_WITH_IT_UNREAD:
        wait_for_bytes(s);
        break;
    case RESETS_LATE:
        read_replies(s, "250 ");
        co_sleep(clock_ms() + SILENT_MS, "the end of its patience");
        reset(&s);
        break;
    case RESETS_EARLY:
        reset(&s);
        break;
    case QUITS_AHEAD:
        read_replies(s, "221 ");
        break;
    case LEAVES_EARLY:
        break;
    }
    if (s != NULL)
        io_stream_close(&s);
}

static void make_pair(int fds[2])
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(at);
    int listener = socket(AF_INET, SOCK_STREAM, 0);

    fds[0] = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&at, size), 0);
    assert_int_equal(listen(listener, 1), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&at, &size), 0);
    assert_int_equal(connect(fds[0], (struct sockaddr *)&at, size), 0);
    fds[1] = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
    assert_true(fds[1] > 0);
    close(listener);
}

static void check_receipt(enum leaving leaving, bool commits_after_left, bool is_repeated, bool was_heard)
{
    static const char *const settings[] = {"smtpd_forbid_unauth_pipelining", "no", NULL};
    struct peer p = {
        .settings = settings, .commits_after_left = commits_after_left, .is_repeated = is_repeated};
    struct client c = {.leaving = leaving};
    int fds[2];

    make_pair(fds);
    p.fd = fds[1];
    c.stream = io_stream_new(NULL, fds[0]);
    co_spawn(be_client, &c, "client");
    peer_run(&p);
    assert_int_equal(p.committed, 1);
    assert_int_equal(p.heard, was_heard);
    assert_int_equal(p.unheard, !was_heard);
    peer_deinit(&p);
}

static void check(enum leaving leaving, bool commits_after_left, bool was_heard)
{
    check_receipt(leaving, commits_after_left, false, was_heard);
}

static void test_clients_that_heard(void **state)
{
    check(QUITS, false, true);
    check(GOES_ON, false, true);
    check(CLOSES, false, true);
    check(CLOSES_ITS_SIDE, true, true);
    check(QUITS_AHEAD, false, true);
}

static void test_clients_that_did_not(void **state)
{
    check(LEAVES_EARLY, true, false);
    check(RESETS_EARLY, true, false);
    check(DIES_WITH_IT_UNREAD, false, false);
}

/* A reply that will be told again until it is heard is heard earlier. */
static void test_client_that_is_silent(void **state)
{
    check_receipt(RESETS_LATE, false, true, true);
    check_receipt(RESETS_LATE, false, false, false);
    check_receipt(DIES_WITH_IT_UNREAD, false, true, false);
}

static int start(void **state)
{
    co_init(1);
    log_capture(no_log, NULL);
    return 0;
}

static int end(void **state)
{
    log_capture(NULL, NULL);
    co_deinit();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_clients_that_heard),
        cmocka_unit_test(test_clients_that_did_not),
        cmocka_unit_test(test_client_that_is_silent),
    };

    return cmocka_run_group_tests(tests, start, end);
}
