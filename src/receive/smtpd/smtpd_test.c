/* The session over memory: whole dialogues, cut at every byte, against a recording sink and an obedient hook.
 */
#include "smtpd_test_peer.h"

#include "log.h"
#include "mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void no_log(const char *line, void *arg)
{
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

#define GREET       "220 mail.example.com ESMTP Postfix\r\n"
#define BYE         "221 2.0.0 Bye\r\n"
#define ENVELOPE    "MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\n"
#define ENVELOPE_OK "250 2.1.0 Ok\r\n250 2.1.5 Ok\r\n"

static const struct {
    const char *name, *input, *wire, *calls, *content;
} cases[] = {
    {"one message", "HELO me\r\n" ENVELOPE "DATA\r\nx: y\r\n\r\n..\r\n.\r\nQUIT\r\n",
     GREET "250 mail.example.com\r\n" ENVELOPE_OK
           "354 End data with <CR><LF>.<CR><LF>\r\n250 2.0.0 Ok\r\n" BYE,
     "begin<a@b> rcpt<c@d> data commit ", "x: y\r\n\r\n.\r\n"},
    {"two messages", "HELO me\r\n" ENVELOPE "DATA\r\n1\r\n.\r\n" ENVELOPE "DATA\r\n2\r\n.\r\nQUIT\r\n",
     GREET "250 mail.example.com\r\n" ENVELOPE_OK
           "354 End data with <CR><LF>.<CR><LF>\r\n250 2.0.0 Ok\r\n" ENVELOPE_OK
           "354 End data with <CR><LF>.<CR><LF>\r\n250 2.0.0 Ok\r\n" BYE,
     "begin<a@b> rcpt<c@d> data commit begin<a@b> rcpt<c@d> data commit ", "2\r\n"},
    {"bdat", "EHLO\r\n" ENVELOPE "BDAT 4\r\nab\r\nBDAT 3 LAST\r\n.\nxQUIT\r\n",
     GREET "501 Syntax: EHLO hostname\r\n" ENVELOPE_OK "250 2.0.0 Ok: 4 bytes\r\n250 2.0.0 Ok\r\n" BYE,
     "begin<a@b> rcpt<c@d> data commit ", "ab\r\n.\r\nx\r\n"},
    {"bdat without recipients", "MAIL FROM:<a@b>\r\nBDAT 5 LAST\r\nQUIT\n" ENVELOPE "RSET\r\nQUIT\r\n",
     GREET "250 2.1.0 Ok\r\n554 5.5.1 Error: no valid recipients\r\n" ENVELOPE_OK "250 2.0.0 Ok\r\n" BYE,
     "begin<a@b> rcpt<c@d> abort ", ""},
    {"order",
     "RCPT TO:<c@d>\r\nDATA\r\nMAIL FROM:<a@b>\r\nMAIL FROM:<a@b>\r\nDATA\r\nRSET "
     "x\r\nRSET\r\nDATA\r\nQUIT\r\n",
     GREET "503 5.5.1 Error: need MAIL command\r\n503 5.5.1 Error: need RCPT command\r\n250 2.1.0 Ok\r\n"
           "503 5.5.1 Error: nested MAIL command\r\n554 5.5.1 Error: no valid recipients\r\n501 5.5.4 "
           "Syntax: RSET\r\n"
           "250 2.0.0 Ok\r\n503 5.5.1 Error: need RCPT command\r\n" BYE,
     "", NULL},
    {"client leaves inside DATA", "HELO me\r\n" ENVELOPE "DATA\r\nhalf",
     GREET "250 mail.example.com\r\n" ENVELOPE_OK "354 End data with <CR><LF>.<CR><LF>\r\n",
     "begin<a@b> rcpt<c@d> data abort ", "half"},
    {"client leaves in the transaction", ENVELOPE, GREET ENVELOPE_OK, "begin<a@b> rcpt<c@d> abort ", NULL},
    {"unknown", "FOO\r\nETRN x\r\nVRFY c@d\r\nNOOP\r\nHELP\r\nQUIT\r\n",
     GREET
     "500 5.5.2 Error: command not recognized\r\n502 5.5.1 Error: command not implemented\r\n252 2.0.0 "
     "c@d\r\n"
     "250 2.0.0 Ok\r\n214 2.0.0 Commands: EHLO HELO MAIL RCPT DATA BDAT RSET NOOP VRFY QUIT HELP\r\n" BYE,
     "", NULL},
    {"not SMTP", "GET / HTTP/1.0\r\nHost: x\r\n",
     GREET "221 2.7.0 Error: I can break rules, too. Goodbye.\r\n", "", NULL},
    {"bad bdat", "BDAT x\r\nQUIT\r\n", GREET "521 5.5.4 Syntax: BDAT count [LAST]\r\n", "", NULL},
    {"xforward is refused", "XFORWARD NAME=x\r\nQUIT\r\n",
     GREET "550 5.7.0 Error: insufficient authorization\r\n" BYE, "", NULL},
    {"mailbox line behind a filter", ENVELOPE "DATA\r\n>From me\r\n.\r\n",
     GREET ENVELOPE_OK "354 End data with <CR><LF>.<CR><LF>\r\n250 2.0.0 Ok\r\n",
     "begin<a@b> rcpt<c@d> data commit ", ">From me\r\n"},
    {"cr inside a command", "EHLO x\ry\r\nNOOP\r\r\nQUIT\r\n",
     GREET "500 5.5.2 Error: bad syntax\r\n250 2.0.0 Ok\r\n" BYE, "", NULL},
};

/* Commands that must wait for replies (DATA...) do not, when the whole dialogue is in the buffer. */
static const char *const settings[] = {"smtpd_forbid_unauth_pipelining", "no", "smtpd_forbidden_commands",
                                       "GET POST", NULL};

static void test_dialogues_cut_at_every_byte(void **state)
{
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        for (size_t step = 0; step < strlen(cases[i].input); step++) {
            struct peer p = {.settings = settings, .input = bytes_of(cases[i].input), .step = step};

            peer_run(&p);
            assert_string_equal(buf_text(&p.wire), cases[i].wire);
            assert_string_equal(buf_text(&p.calls), cases[i].calls);
            if (cases[i].content != NULL)
                assert_string_equal(buf_text(&p.content), cases[i].content);
            assert_int_equal(p.open, 0);
            assert_int_equal(p.hooks_open, 0);
            peer_deinit(&p);
        }
}

/* Below our Received, whatever the pieces are in which it comes. */
static void test_top_of_content_cut_at_every_byte(void **state)
{
#define QUOTES ">>>>>>>>>>>>>>>>>>>>>>>>>>>>>>>>>>>>>>>>>>>>>>>>>>"
    static const struct {
        const char *input, *content;
    } tops[] = {
        {"Subject: x\r\n", "Subject: x\r\n"},
        {"From me\r\n", "X-Mailbox-Line: From me\r\n"},
        {">From me\r\n>>From you\r\nA: b\r\nFrom x\r\n",
         "X-Mailbox-Line: >From me\r\nX-Mailbox-Line: >>From you\r\nA: b\r\nFrom x\r\n"},
        {"Fro", "Fro\r\n"},
        {"From: x\r\n", "From: x\r\n"},
        {">", ">\r\n"},
        {" x\r\n", "\r\n x\r\n"},
        {"From me\r\n\tx\r\n", "X-Mailbox-Line: From me\r\n\r\n\tx\r\n"},
        {"\r\nFrom x\r\n", "\r\nFrom x\r\n"},
        {QUOTES "From x\r\n", "X-Mailbox-Line: " QUOTES "From x\r\n"},
        {"", ""},
    };

    for (size_t i = 0; i < sizeof(tops) / sizeof(tops[0]); i++) {
        char *input = mem_printf(NULL, ENVELOPE "BDAT %zu LAST\r\n%s", strlen(tops[i].input), tops[i].input);

        for (size_t step = 1; step < strlen(input); step++) {
            struct peer p = {
                .settings = settings, .adds_received = true, .input = bytes_of(input), .step = step};
            const char *content;

            peer_run(&p);
            content = strchr(buf_text(&p.content), ';'); /* of Received, before its date */
            assert_non_null(content);
            assert_string_equal(strstr(content, "\r\n") + 2, tops[i].content);
            peer_deinit(&p);
        }
        talloc_free(input);
    }
}

static void expect(struct peer *p, const char *input, const char *wire)
{
    p->input = bytes_of(input);
    if (p->settings == NULL)
        p->settings = settings;
    peer_run(p);
    assert_string_equal(buf_text(&p->wire), wire);
    assert_int_equal(p->open, 0);
    assert_int_equal(p->hooks_open, 0);
    peer_deinit(p);
}

static void test_hook_rejects_at_each_stage(void **state)
{
    static const struct {
        enum mail_stage stage;
        const char *wire;
    } stages[] = {
        {MAIL_AT_CONNECT, "554 5.7.1 no\r\n503 5.7.0 Error: access denied for localhost[127.0.0.1]\r\n" BYE},
        {MAIL_AT_HELO, GREET "554 5.7.1 no\r\n" BYE},
    };

    for (size_t i = 0; i < 2; i++) {
        struct peer p = {.reject_at = stages[i].stage, .reject = mail_reply_fixed(554, "5.7.1", "no")};

        expect(&p, "HELO me\r\nQUIT\r\n", stages[i].wire);
    }
    for (enum mail_stage stage = MAIL_AT_MAIL; stage <= MAIL_AT_END_OF_DATA; stage++) {
        static const char *const wires[] = {
            [MAIL_AT_MAIL] = GREET "554 5.7.1 no\r\n503 5.5.1 Error: need MAIL command\r\n"
                                   "503 5.5.1 Error: need RCPT command\r\n" BYE,
            [MAIL_AT_RCPT] =
                GREET "250 2.1.0 Ok\r\n554 5.7.1 no\r\n554 5.5.1 Error: no valid recipients\r\n" BYE,
            [MAIL_AT_DATA] = GREET ENVELOPE_OK "554 5.7.1 no\r\n" BYE,
        };
        struct peer p = {.reject_at = stage, .reject = mail_reply_fixed(554, "5.7.1", "no")};

        if (stage == MAIL_AT_END_OF_DATA)
            expect(&p, ENVELOPE "DATA\r\nx\r\n.\r\nMAIL FROM:<>\r\nQUIT\r\n",
                   GREET ENVELOPE_OK
                   "354 End data with <CR><LF>.<CR><LF>\r\n554 5.7.1 no\r\n250 2.1.0 Ok\r\n" BYE);
        else
            expect(&p, ENVELOPE "DATA\r\nQUIT\r\n", wires[stage]);
    }
}

/* A begin that failed fails every recipient, with one attempt; a transaction after it is a new one. */
static void test_sink_failures(void **state)
{
    struct peer dead = {.begin = mail_reply_fixed(451, "4.3.0", "no")};
    struct peer rcpt = {.recipient = mail_reply_fixed(550, "", "5.1.1 not here")};
    struct peer data = {.content_begin = mail_reply_fixed(421, "", "4.0.0 busy")};
    struct peer odd = {.commit = mail_reply_fixed(354, "", "go on")};

    dead.settings = settings;
    dead.input = BYTES(ENVELOPE "RCPT TO:<e@f>\r\nDATA\r\nQUIT\r\n");
    peer_run(&dead);
    assert_string_equal(buf_text(&dead.calls), "begin<a@b> abort ");
    assert_string_equal(buf_text(&dead.wire), GREET "250 2.1.0 Ok\r\n451 4.3.0 no\r\n451 4.3.0 no\r\n"
                                                    "554 5.5.1 Error: no valid recipients\r\n" BYE);
    peer_deinit(&dead);
    expect(&rcpt, ENVELOPE "DATA\r\nQUIT\r\n",
           GREET "250 2.1.0 Ok\r\n550 5.1.1 not here\r\n554 5.5.1 Error: no valid recipients\r\n" BYE);
    expect(&data, ENVELOPE "DATA\r\nQUIT\r\n", GREET ENVELOPE_OK "421 4.0.0 busy\r\n");
    expect(&odd, ENVELOPE "DATA\r\n.\r\nQUIT\r\n",
           GREET ENVELOPE_OK
           "354 End data with <CR><LF>.<CR><LF>\r\n451 4.3.0 Error: queue file write error\r\n" BYE);
}

static void test_limits(void **state)
{
    static const char *const size[] = {"message_size_limit", "10", "smtpd_forbid_unauth_pipelining", "no",
                                       NULL};
    static const char *const rcpts[] = {"smtpd_recipient_limit", "1", "smtpd_forbid_unauth_pipelining", "no",
                                        NULL};
    static const char *const errors[] = {"smtpd_hard_error_limit", "2", "smtpd_forbid_unauth_pipelining",
                                         "no", NULL};
    static const char *const junk[] = {"smtpd_junk_command_limit",
                                       "1",
                                       "smtpd_hard_error_limit",
                                       "1",
                                       "smtpd_forbid_unauth_pipelining",
                                       "no",
                                       NULL};
    static const char *const lf[] = {"smtpd_forbid_bare_newline",
                                     "reject",
                                     "smtpd_forbid_unauth_pipelining",
                                     "no",
                                     "mynetworks",
                                     "192.0.2.0/24",
                                     NULL};
    static const char *const soft[] = {"soft_bounce", "yes", "smtpd_forbid_unauth_pipelining", "no", NULL};
    struct peer p = {.settings = size};
    char line[4000];

    expect(&p, ENVELOPE "DATA\r\n12345678\r\n.\r\nQUIT\r\n",
           GREET ENVELOPE_OK "354 End data with <CR><LF>.<CR><LF>\r\n250 2.0.0 Ok\r\n" BYE);
    p = (struct peer){.settings = size};
    expect(&p, ENVELOPE "DATA\r\n123456789\r\n.\r\nQUIT\r\n",
           GREET ENVELOPE_OK
           "354 End data with <CR><LF>.<CR><LF>\r\n552 5.3.4 Error: message file too big\r\n" BYE);
    p = (struct peer){.settings = size};
    expect(&p, ENVELOPE "BDAT 11 LAST\r\n123456789\r\nQUIT\r\n",
           GREET ENVELOPE_OK "552 5.3.4 Chunk exceeds message size limit\r\n" BYE);
    p = (struct peer){.settings = rcpts};
    expect(&p, ENVELOPE "RCPT TO:<e@f>\r\nQUIT\r\n",
           GREET ENVELOPE_OK "452 4.5.3 Error: too many recipients\r\n" BYE);
    p = (struct peer){.settings = errors};
    expect(&p, "FOO\r\nBAR\r\nQUIT\r\n",
           GREET "500 5.5.2 Error: command not recognized\r\n500 5.5.2 Error: command not "
                 "recognized\r\n421 4.7.0 mail.example.com Error: too many errors\r\n");
    p = (struct peer){.settings = junk};
    expect(&p, "NOOP\r\nNOOP\r\nNOOP\r\nQUIT\r\n",
           GREET "250 2.0.0 Ok\r\n250 2.0.0 Ok\r\n250 2.0.0 Ok\r\n421 4.7.0 "
                 "mail.example.com Error: too many errors\r\n");
    p = (struct peer){.settings = lf};
    expect(&p, ENVELOPE "DATA\r\na\nb\r\n.\r\nQUIT\r\n",
           GREET ENVELOPE_OK "354 End data with <CR><LF>.<CR><LF>\r\n550 5.5.2 "
                             "mail.example.com Error: bare <LF> received\r\n" BYE);
    p = (struct peer){.settings = soft};
    expect(&p, "FOO\r\nQUIT\r\n", GREET "400 4.5.2 Error: command not recognized\r\n" BYE);
    p = (struct peer){0};
    memset(line, 'x', sizeof(line) - 1);
    memcpy(line + 3000, "\r\nQUIT\r\n", 9);
    expect(&p, line, GREET "500 5.5.2 mail.example.com Error: command too long\r\n" BYE);
}

static void test_nul_and_bad_utf8(void **state)
{
    static const char *const utf8[] = {"smtputf8_enable", "yes", "smtpd_forbid_unauth_pipelining", "no",
                                       NULL};
    struct peer p = {.settings = utf8, .input = BYTES("NOOP\0x\r\nNOOP \xff\r\nQUIT\r\n")};

    peer_run(&p);
    assert_string_equal(buf_text(&p.wire),
                        GREET "500 5.5.2 Error: bad syntax\r\n500 5.5.2 Error: bad UTF-8 syntax\r\n" BYE);
    peer_deinit(&p);
}

static void test_pipelining_is_enforced(void **state)
{
    static const char *const strict[] = {"smtpd_forbid_unauth_pipelining", "yes", NULL};
    struct peer p = {.settings = strict}; /* who does not even wait for the greeting */

    expect(&p, "EHLO me\r\nMAIL FROM:<a@b>\r\n", "554 5.5.0 Error: SMTP protocol synchronization\r\n");
}

static void test_xforward_names_the_original_client(void **state)
{
    static const char *const trusted[] = {"smtpd_authorized_xforward_hosts", "127.0.0.0/8",
                                          "smtpd_forbid_unauth_pipelining", "no", NULL};
    struct peer p = {.settings = trusted,
                     .adds_received = true,
                     .input = BYTES("EHLO f\r\nXFORWARD NAME=mx.test ADDR=192.0.2.1 HELO=h\r\n" ENVELOPE
                                    "XFORWARD NAME=x\r\nDATA\r\n\r\n.\r\nQUIT\r\n")};

    peer_run(&p);
    assert_non_null(
        strstr(buf_text(&p.wire), "250-XFORWARD NAME ADDR PROTO HELO SOURCE PORT IDENT RETRY\r\n"));
    assert_non_null(strstr(buf_text(&p.wire), "503 5.5.1 Error: MAIL transaction in progress\r\n"));
    assert_non_null(strstr(buf_text(&p.content), "Received: from h (mx.test [192.0.2.1])\r\n"));
    peer_deinit(&p);
}

/* Neither a command that is refused nor a transaction that is over speaks for the next message. */
static void test_xforward_ends_with_its_transaction(void **state)
{
    static const char *const trusted[] = {"smtpd_authorized_xforward_hosts", "127.0.0.0/8",
                                          "smtpd_forbid_unauth_pipelining", "no", NULL};
    struct peer p = {
        .settings = trusted,
        .adds_received = true,
        .input = BYTES("EHLO f\r\nXFORWARD NAME=mx.test ADDR=bad\r\n" ENVELOPE
                       "DATA\r\n\r\n.\r\nXFORWARD NAME=mx.test\r\nXFORWARD HELO=h\r\nRSET\r\n" ENVELOPE
                       "DATA\r\n\r\n.\r\nQUIT\r\n")};

    peer_run(&p);
    assert_non_null(strstr(buf_text(&p.wire), "501 5.5.4 Bad ADDR syntax: bad\r\n"));
    assert_non_null(strstr(buf_text(&p.content), "Received: from f ("));
    assert_null(strstr(buf_text(&p.content), "mx.test"));
    peer_deinit(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_dialogues_cut_at_every_byte, start, end),
        cmocka_unit_test_setup_teardown(test_top_of_content_cut_at_every_byte, start, end),
        cmocka_unit_test_setup_teardown(test_hook_rejects_at_each_stage, start, end),
        cmocka_unit_test_setup_teardown(test_sink_failures, start, end),
        cmocka_unit_test_setup_teardown(test_limits, start, end),
        cmocka_unit_test_setup_teardown(test_nul_and_bad_utf8, start, end),
        cmocka_unit_test_setup_teardown(test_pipelining_is_enforced, start, end),
        cmocka_unit_test_setup_teardown(test_xforward_names_the_original_client, start, end),
        cmocka_unit_test_setup_teardown(test_xforward_ends_with_its_transaction, start, end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
