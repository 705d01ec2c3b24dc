/*
 * A whole session over arbitrary bytes: every sink that began was committed or aborted, every hook ended,
 * what the client got is replies, and what was committed has only CR LF line ends.
 */
#include "smtpd_test_peer.h"

#include "log.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void no_log(const char *line, void *arg)
{
}

static void check(bool good)
{
    if (!good)
        abort();
}

static void check_replies(struct bytes wire)
{
    while (wire.n > 0) {
        struct bytes line = bytes_cut(&wire, '\n');

        check(line.n >= 5 && line.p[line.n - 1] == '\r' && ascii_is_digit(line.p[0]) &&
              ascii_is_digit(line.p[1]) && ascii_is_digit(line.p[2]) &&
              (line.p[3] == ' ' || line.p[3] == '-'));
        check(bytes_chr(bytes(line.p, line.n - 1), '\r') == SIZE_MAX);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const settings[] = {"smtpd_authorized_xforward_hosts",
                                           "127.0.0.0/8",
                                           "message_size_limit",
                                           "500",
                                           "smtpd_forbid_unauth_pipelining",
                                           "no",
                                           NULL};
    static bool started;
    struct peer p = {.settings = settings, .adds_received = size & 1};

    if (!started) {
        co_init(1);
        log_capture(no_log, NULL);
    }
    started = true;
    if (size > 0) {
        p.step = data[0];
        p.input = bytes((const char *)data + 1, size - 1);
    }
    peer_run(&p);
    check(p.open == 0 && p.hooks_open == 0);
    check_replies(buf_bytes(&p.wire));
    for (size_t i = 0; i < p.content.n; i++)
        if (p.content.p[i] == '\n')
            check(i > 0 && p.content.p[i - 1] == '\r');
    peer_deinit(&p);
    return 0;
}
