/* queue/cleanup: content kept, completed and refused; the envelope mapped; what hooks and inspection decide.
 */
#include "cleanup_private.h"
#include "clock.h"
#include "log.h"
#include "mem.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

struct setting {
    const char *name, *value;
};

static const struct setting basis[] = {
    {"myhostname", "mx.example.com"},    {"mydomain", "example.com"},
    {"mydestination", "mx.example.com"}, {"local_recipient_maps", ""},
    {"append_dot_mydomain", "no"},       {"message_size_limit", "1000000"},
    {"recipient_delimiter", "+"},        {NULL, NULL},
};

static char dir[64];
static void *ctx;
static struct queue *q;
static struct buf logged;

static void keep_line(const char *line, void *arg)
{
    buf_addf(&logged, "%s\n", line);
}

static int setup(void **state)
{
    struct queue_conf conf = {.directory = dir, .hash_depth = 1};

    snprintf(dir, sizeof(dir), "/tmp/cleanup_test.XXXXXX");
    if (mkdtemp(dir) == NULL)
        return -1;
    setenv("TZ", "UTC", 1);
    co_init(2);
    ctx = talloc_new(NULL);
    log_capture(keep_line, NULL);
    return queue_open(ctx, &conf, &q) != NULL;
}

static int teardown(void **state)
{
    char command[128];

    talloc_free(ctx);
    buf_deinit(&logged);
    log_capture(NULL, NULL);
    co_deinit();
    snprintf(command, sizeof(command), "rm -rf %s", dir);
    return system(command);
}

static struct cleanup *open_with(const struct setting *more)
{
    struct conf_faults faults = {.ctx = ctx};
    struct conf *conf = conf_read(ctx, NULL, &faults);
    struct cleanup *c = NULL;
    struct error *e;

    for (const struct setting *s = basis; s->name != NULL; s++)
        conf_set(conf, s->name, s->value, "test", 1);
    for (; more != NULL && more->name != NULL; more++)
        conf_set(conf, more->name, more->value, "test", 1);
    e = cleanup_open(ctx, conf, q, &c);
    if (e != NULL)
        fail_msg("%s", e->text);
    return c;
}

/* ---- one transaction, as the session runs it ---- */

#define ID "ABCDEF0123"

struct talk {
    struct cleanup *cleanup;
    struct mail_client client;
    struct mail_envelope envelope;
    struct bytes content;
    size_t piece; /* 0: all at once */
    bool is_aborted;
    struct mail_reply reply; /* the first that is not positive, else commit's */
};

static void talk_in_co(void *arg)
{
    struct talk *t = arg;
    void *transaction = talloc_new(ctx);
    struct mail_sink *sink = cleanup_sink(transaction, t->cleanup);
    struct bytes rest = t->content;

    t->reply = sink->ops->begin(sink, &t->client, &t->envelope);
    for (size_t i = 0; i < t->envelope.rcpt_count && mail_reply_is_ok(&t->reply); i++)
        t->reply = sink->ops->recipient(sink, t->envelope.rcpts[i]);
    if (mail_reply_is_ok(&t->reply))
        t->reply = sink->ops->content_begin(sink);
    if (mail_reply_is_ok(&t->reply)) {
        while (rest.n > 0) {
            size_t n = t->piece > 0 && t->piece < rest.n ? t->piece : rest.n;

            sink->ops->content(sink, bytes(rest.p, n));
            rest = bytes_skip(rest, n);
        }
        if (t->is_aborted)
            sink->ops->abort(sink);
        else
            t->reply = sink->ops->commit(sink);
    }
    talloc_free(transaction);
}

static struct talk talk_of(struct cleanup *c, const char *content)
{
    struct talk t = {.cleanup = c, .content = bytes_of(content)};
    static struct mail_rcpt rcpt = {.addr = "user@far.example", .notify = MAIL_NOTIFY_FAILURE};
    static struct mail_rcpt *rcpts[] = {&rcpt};

    t.client = (struct mail_client){.name = "client.example",
                                    .reverse_name = "client.example",
                                    .addr = "192.0.2.1",
                                    .port = "1234",
                                    .family = AF_INET,
                                    .helo = "helo.example",
                                    .proto = "ESMTP"};
    t.envelope = (struct mail_envelope){
        .sender = "sender@example.org", .rcpts = rcpts, .rcpt_count = 1, .arrived_us = 1763665127000000};
    snprintf(t.envelope.id, sizeof(t.envelope.id), ID);
    return t;
}

static void run(struct talk *t)
{
    buf_cut(&logged, 0);
    co_spawn(talk_in_co, t, "talk");
    co_run();
}

static void assert_reply(struct talk *t, const char *want)
{
    char *line = mail_reply_log(ctx, &t->reply);

    if (strcmp(line, want) != 0)
        fail_msg("%s instead of %s; log: %s", line, want, buf_text(&logged));
    mail_reply_deinit(&t->reply);
}

static void assert_logged(const char *line)
{
    if (strstr(buf_text(&logged), line) == NULL)
        fail_msg("no \"%s\" in the log: %s", line, buf_text(&logged));
}

/* What is in the queue under ID, which is removed: its content and "S sender R addr/notify/orig ...". */
static struct queue_envelope *take(enum queue_place place, char **content_r)
{
    struct queue_envelope *env = NULL;
    struct error *e;
    int fd = -1;

    e = queue_message_open(q, place, ID, true, &fd);
    if (e == NULL)
        e = queue_message_read(ctx, fd, &env);
    if (e != NULL)
        fail_msg("%s", e->text);
    *content_r = mem_bytes(ctx, env->content_size + 1);
    assert_int_equal(pread(fd, *content_r, env->content_size, (off_t)env->content_offset), env->content_size);
    (*content_r)[env->content_size] = '\0';
    close(fd);
    assert_null(queue_message_remove(q, place, ID));
    return env;
}

static const char *rcpts_of(const struct queue_envelope *env)
{
    struct buf out = {0};
    const char *text;

    for (size_t i = 0; i < env->rcpt_count; i++)
        buf_addf(&out, "%s%s/%u/%s", i ? " " : "", env->rcpts[i].addr, env->rcpts[i].notify,
                 env->rcpts[i].orig ? env->rcpts[i].orig : "");
    text = mem_strdup(ctx, buf_text(&out));
    buf_deinit(&out);
    return text;
}

static void assert_nothing_queued(void)
{
    assert_true(queue_id_is_free(q, ID));
}

/* ---- content ---- */

#define RECEIVED "Received: from x\r\n\tby y; now\r\n"
#define COMPLETE RECEIVED "Message-Id: <1@x>\r\nDate: now\r\nFrom: a@b\r\n"

/* Each content goes in cut at every byte and must come out the same way. */
static void test_content(void **state)
{
    static const struct setting limited[] = {{"header_size_limit", "50"}, {NULL, NULL}};
    static const struct setting always[] = {{"always_add_missing_headers", "yes"}, {NULL, NULL}};
    static const struct setting undisclosed[] = {
        {"undisclosed_recipients_header", "To: undisclosed-recipients:;"}, {NULL, NULL}};
    static const char filled_id[] = "Message-Id: <20251120185847." ID "@mx.example.com>\r\n";
    static const char filled_rest[] =
        "Date: Thu, 20 Nov 2025 18:58:47 +0000 (UTC)\r\nFrom: sender@example.org\r\n";
    const struct {
        const struct setting *more;
        bool is_local;
        const char *in, *out, *id;
    } cases[] = {
        {NULL, false, COMPLETE "\r\nbody\r\n", COMPLETE "\r\nbody\r\n", "<1@x>"},
        {NULL, true, COMPLETE "\r\nbody\r\n", COMPLETE "\r\nbody\r\n", "<1@x>"},
        {NULL, false, RECEIVED "\r\n", RECEIVED "\r\n", "<>"},
        {NULL, false, RECEIVED "\r\n\r\n\r\n.\r\n..\r\nFrom x\r\n",
         RECEIVED "\r\n\r\n\r\n.\r\n..\r\nFrom x\r\n", "<>"},
        {NULL, false, RECEIVED, RECEIVED, "<>"},
        {NULL, false, "", "", "<>"},
        {NULL, false, RECEIVED "no header\r\n", RECEIVED "\r\nno header\r\n", "<>"},
        {NULL, false,
         RECEIVED "Bcc: x\r\nBCC : y,\r\n\tz\r\nReturn-Path: <a>\r\nSubject: \xff\x80\r\n\r\nBcc: kept\r\n",
         RECEIVED "Subject: \xff\x80\r\n\r\nBcc: kept\r\n", "<>"},
        {NULL, true, RECEIVED "\r\nbody\r\n",
         mem_printf(ctx, RECEIVED "%s%s\r\nbody\r\n", filled_id, filled_rest),
         "<20251120185847." ID "@mx.example.com>"},
        {always, false, RECEIVED "Date: d\r\nfrom: f\r\n\r\n",
         mem_printf(ctx, RECEIVED "Date: d\r\nfrom: f\r\n%s\r\n", filled_id),
         "<20251120185847." ID "@mx.example.com>"},
        {always, false, "Resent-To: x\r\nResent-Date: d\r\n\r\n",
         "Resent-To: x\r\nResent-Date: d\r\nResent-Message-Id: <20251120185847." ID
         "@mx.example.com>\r\nResent-From: sender@example.org\r\n\r\n",
         "<>"},
        {undisclosed, false, RECEIVED "\r\n", RECEIVED "To: undisclosed-recipients:;\r\n\r\n", "<>"},
        {undisclosed, false, "Cc: x\r\n\r\n", "Cc: x\r\n\r\n", "<>"},
        {limited, false, "Subject: 12345678901234567890123456789012345678\r\nX: y\r\n\r\nb\r\n",
         "Subject: 12345678901234567890123456789012345678\r\nX: y\r\n\r\nb\r\n", "<>"},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct cleanup *c = open_with(cases[i].more);
        struct talk t = talk_of(c, cases[i].in);

        t.client.is_local = cases[i].is_local;
        for (t.piece = 0; t.piece <= t.content.n && t.piece < 60; t.piece++) {
            char *out;

            run(&t);
            assert_reply(&t, "250 2.0.0 Ok: queued as " ID);
            take(QUEUE_INCOMING, &out);
            if (strcmp(out, cases[i].out) != 0)
                fail_msg("case %zu, pieces of %zu: \"%s\" instead of \"%s\"", i, t.piece, out, cases[i].out);
            assert_logged(mem_printf(ctx, ID ": message-id=%s\n", cases[i].id));
        }
    }
}

static void test_a_field_beyond_the_limit_is_cut(void **state)
{
    static const struct setting limited[] = {{"header_size_limit", "100"}, {NULL, NULL}};
    char *field = mem_bytes(ctx, 501), *out, *want;
    struct talk t;

    memset(field, 'x', 500);
    field[500] = '\0';
    t = talk_of(open_with(limited),
                mem_printf(ctx, "A: 1\r\nSubject: %s\r\n\tmore\r\nB: 2\r\n\r\nbody\r\n", field));
    want = mem_printf(ctx, "A: 1\r\nSubject: %.91s\r\nB: 2\r\n\r\nbody\r\n", field);
    for (t.piece = 0; t.piece < 600; t.piece += 7) {
        run(&t);
        assert_reply(&t, "250 2.0.0 Ok: queued as " ID);
        take(QUEUE_INCOMING, &out);
        if (strcmp(out, want) != 0)
            fail_msg("pieces of %zu: %s", t.piece, out);
    }
}

static void test_xforward_source_decides_who_is_local(void **state)
{
    static const struct {
        const char *source;
        bool is_filled;
    } cases[] = {{"LOCAL", true}, {"REMOTE", false}, {"remote", false}, {NULL, true}};

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct talk t = talk_of(open_with(NULL), "A: b\r\n\r\n");
        struct mail_forward forward = {
            .source = cases[i].source, .ident = "PEERS0001", .name = "origin.example"};
        struct queue_envelope *env;
        char *out;

        t.client.is_local = true;
        t.client.forward = &forward;
        run(&t);
        assert_reply(&t, "250 2.0.0 Ok: queued as " ID);
        env = take(QUEUE_INCOMING, &out);
        assert_int_equal(strstr(out, "Message-Id:") != NULL, cases[i].is_filled);
        assert_string_equal(env->log_ident, "PEERS0001");
        assert_string_equal(env->log_client_name, "origin.example");
    }
}

/* ---- refusals ---- */

static char *repeated(const char *line, size_t times)
{
    struct buf out = {0};
    char *text;

    for (size_t i = 0; i < times; i++)
        buf_adds(&out, line);
    text = mem_strdup(ctx, buf_text(&out));
    buf_deinit(&out);
    return text;
}

static void test_hop_count(void **state)
{
    struct talk t = talk_of(open_with(NULL), repeated(RECEIVED, 49));
    char *out;

    run(&t);
    assert_reply(&t, "250 2.0.0 Ok: queued as " ID);
    take(QUEUE_INCOMING, &out);
    t = talk_of(open_with(NULL), repeated("reCeived :x\r\n", 50));
    run(&t);
    assert_reply(&t, "554 5.4.0 Error: too many hops");
    assert_logged("warning: " ID ": message rejected: hopcount exceeded");
    assert_nothing_queued();
    t = talk_of(open_with(NULL),
                mem_printf(ctx, "A: b\r\n\r\n%s", repeated(RECEIVED, 60))); /* only in the body */
    run(&t);
    assert_reply(&t, "250 2.0.0 Ok: queued as " ID);
}

static void test_size_limit(void **state)
{
    static const struct setting limit[] = {{"message_size_limit", "1000"}, {NULL, NULL}};
    static const struct setting none[] = {{"message_size_limit", "0"}, {NULL, NULL}};
    static const struct {
        const struct setting *more;
        size_t size;
        bool passes;
    } cases[] = {
        {limit, 1000, true},
        {limit, 1000 + CLEANUP_TRACE_SIZE, true},
        {limit, 1001 + CLEANUP_TRACE_SIZE, false},
        {limit, 900000, false},
        {none, 900000, true},
    };
    char *text = mem_bytes(ctx, 900001), *out;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct talk t = talk_of(open_with(cases[i].more), "");

        memset(text, 'x', cases[i].size);
        memcpy(text, "A: b\r\n\r\n", 8);
        t.content = bytes(text, cases[i].size);
        for (t.piece = 0; t.piece < 2000; t.piece += 999) {
            run(&t);
            assert_reply(&t, cases[i].passes ? "250 2.0.0 Ok: queued as " ID
                                             : "552 5.3.4 Error: message file too big");
            if (cases[i].passes)
                take(QUEUE_INCOMING, &out);
            assert_nothing_queued();
        }
    }
}

static void test_no_room_at_begin(void **state)
{
    static const struct setting minfree[] = {{"queue_minfree", "8000000000000000"}, {NULL, NULL}};
    static const struct setting limit[] = {{"message_size_limit", "6000000000000000"}, {NULL, NULL}};
    struct talk t = talk_of(open_with(minfree), "");

    run(&t);
    assert_reply(&t, "452 4.3.1 Insufficient system storage");
    assert_logged("not enough free space in mail queue");
    t = talk_of(open_with(limit), "");
    run(&t);
    assert_reply(&t, "452 4.3.1 Insufficient system storage");
    t = talk_of(open_with(NULL), "");
    t.envelope.size = 1ULL << 60;
    run(&t);
    assert_reply(&t, "452 4.3.1 Insufficient system storage");
    assert_nothing_queued();
}

static void test_disk_full_while_writing(void **state)
{
    struct rlimit old, small = {.rlim_cur = 1000};
    struct talk t = talk_of(open_with(NULL), repeated("A: 12345678901234567890\r\n", 20000));

    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &old);
    small.rlim_max = old.rlim_max;
    setrlimit(RLIMIT_FSIZE, &small);
    t.piece = 5000;
    run(&t);
    setrlimit(RLIMIT_FSIZE, &old);
    assert_reply(&t, "452 4.3.1 Insufficient system storage");
    assert_logged("warning: queue file: write: File too large");
    assert_nothing_queued();
    run(&t); /* and without a restart, mail goes on */
    assert_reply(&t, "250 2.0.0 Ok: queued as " ID);
}

static void test_a_taken_id_is_a_temporary_refusal(void **state)
{
    struct talk t = talk_of(open_with(NULL), "A: b\r\n\r\n");

    run(&t);
    assert_reply(&t, "250 2.0.0 Ok: queued as " ID);
    run(&t);
    assert_reply(&t, "451 4.3.0 Error: queue file write error");
}

static void test_abort_leaves_nothing(void **state)
{
    struct talk t = talk_of(open_with(NULL), repeated("A: 12345678901234567890\r\n", 20000));

    t.is_aborted = true;
    run(&t);
    assert_logged(ID ": removed (canceled)");
    assert_nothing_queued();
}

/* ---- envelope ---- */

#define MAPS(list)                                                                                           \
    {                                                                                                        \
        {"virtual_alias_maps", "inline:{" list "}"},                                                         \
        {                                                                                                    \
            NULL, NULL                                                                                       \
        }                                                                                                    \
    }

static void test_recipients(void **state)
{
    static const struct setting alias[] =
        MAPS("{user@far.example=one@x, \"t o\"@y user@far.example}, {one@x=deep@z, @w}, "
             "{@cat.example=@dog.example},"
             "{mx=local}, {bare=other@x}, {ext@far.example=plain@x}, {loop@x=pool@x}, {pool@x=loop@x}");
    static const struct setting dup[] = MAPS("{a@far.example=same@x}, {b@far.example=same@x}");
    static const struct setting no_mappings[] = {
        {"virtual_alias_maps", "inline:{{user@far.example=one@x}}"},
        {"always_bcc", "archive@x"},
        {"receive_override_options", "no_unknown_recipient_checks,no_address_mappings"},
        {NULL, NULL},
    };
    static const struct setting canonical[] = {
        {"recipient_canonical_maps", "inline:{{user@far.example=mid@x}}"},
        {"canonical_maps", "inline:{{mid@x=end@y}, {end@y=end@y}}"},
        {NULL, NULL},
    };
    static const struct setting copies[] = {
        {"always_bcc", "archive"},
        {"sender_bcc_maps", "inline:{{@example.org=sent@x}}"},
        {"recipient_bcc_maps", "inline:{{user@far.example=got@x}}"},
        {NULL, NULL},
    };
    static const struct setting one_remembered[] = {{"duplicate_filter_limit", "1"}, {NULL, NULL}};
    static const struct setting all_remembered[] = {{"duplicate_filter_limit", "0"}, {NULL, NULL}};
    const struct {
        const struct setting *more;
        const char *addrs[4];
        const char *out;
    } cases[] = {
        {NULL, {"user@far.example"}, "user@far.example/4/"},
        {NULL, {"User"}, "User@mx.example.com/4/User"},
        {NULL, {""}, "MAILER-DAEMON@mx.example.com/4/MAILER-DAEMON"},
        {NULL, {"a@x", "A@X", "b@x"}, "a@x/4/ b@x/4/"},
        {NULL, {"a@x", "b@x", "c@x", "B@x"}, "a@x/4/ b@x/4/ c@x/4/"},
        {one_remembered, {"a@x", "b@x", "b@x", "a@x"}, "a@x/4/ b@x/4/ b@x/4/"},
        {all_remembered, {"a@x", "b@x", "b@x", "a@x"}, "a@x/4/ b@x/4/"},
        {alias,
         {"user@far.example"},
         "deep@z/4/user@far.example t o@y/4/user@far.example user@far.example/4/ "
         "one@w/4/user@far.example"},
        {alias, {"USER+x@cat.example"}, "USER+x@dog.example/4/USER+x@cat.example"},
        {alias, {"bare@mx.example.com"}, "other@x/4/bare@mx.example.com"},
        {alias, {"ext+more@far.example"}, "plain+more@x/4/ext+more@far.example"},
        {dup, {"a@far.example", "b@far.example"}, "same@x/4/a@far.example same@x/4/b@far.example"},
        {no_mappings, {"user@far.example"}, "user@far.example/4/"},
        {canonical, {"user@far.example"}, "end@y/4/user@far.example"},
        {copies, {"user@far.example"}, "user@far.example/4/ got@x/1/ archive@mx.example.com/1/ sent@x/1/"},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct talk t = talk_of(open_with(cases[i].more), "A: b\r\n\r\n");
        struct mail_rcpt at[4], *rcpts[4];
        char *out;

        t.envelope.rcpts = rcpts;
        for (t.envelope.rcpt_count = 0; t.envelope.rcpt_count < 4 && cases[i].addrs[t.envelope.rcpt_count];
             t.envelope.rcpt_count++) {
            size_t n = t.envelope.rcpt_count;

            at[n] = (struct mail_rcpt){.addr = cases[i].addrs[n], .notify = MAIL_NOTIFY_FAILURE};
            rcpts[n] = &at[n];
        }
        run(&t);
        assert_reply(&t, "250 2.0.0 Ok: queued as " ID);
        assert_string_equal(rcpts_of(take(QUEUE_INCOMING, &out)), cases[i].out);
    }
}

static void test_maps_that_fail_or_explode(void **state)
{
    static const struct setting fails[] = {{"virtual_alias_maps", "fail:x"}, {NULL, NULL}};
    static const struct setting bcc_fails[] = {{"sender_bcc_maps", "fail:x"}, {NULL, NULL}};
    static const struct setting circle[] = MAPS("{user@far.example=b@x}, {b@x=user@far.example}");
    static const struct setting grows[] = MAPS("{user@far.example=user@far.example a@x b@x}");
    static const struct setting long_one[] = {
        {"virtual_alias_maps", "inline:{{user@far.example=abcdefghij@x}}"},
        {"virtual_alias_address_length_limit", "11"},
        {NULL, NULL},
    };
    static struct setting few[] = {{"virtual_alias_expansion_limit", "2"}, {NULL, NULL}, {NULL, NULL}};
    static const struct setting canonical_circle[] = {
        {"canonical_maps", "inline:{{user@far.example=b@x}, {b@x=user@far.example}}"}, {NULL, NULL}};
    const struct {
        const struct setting *more;
        const char *reply, *line;
    } cases[] = {
        {fails, "451 4.3.0 Error: queue file write error",
         "virtual_alias_maps map lookup problem for user@far.example -- message not accepted, try again "
         "later"},
        {bcc_fails, "451 4.3.0 Error: queue file write error", "sender_bcc_maps map lookup problem"},
        {circle, "451 4.6.0 Alias expansion error",
         "unreasonable virtual_alias_maps map nesting for user@far.example"},
        {few, "451 4.6.0 Alias expansion error",
         "unreasonable virtual_alias_maps map expansion size for user@far.example -- message not accepted, "
         "try again"},
        {long_one, "451 4.6.0 Alias expansion error", "virtual_alias_maps map address length"},
        {canonical_circle, "451 4.3.0 Error: queue file write error",
         "unreasonable canonical_maps map nesting"},
    };

    few[1] = grows[0];
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct talk t = talk_of(open_with(cases[i].more), "A: b\r\n\r\n");

        run(&t);
        assert_reply(&t, cases[i].reply);
        assert_logged(cases[i].line);
        assert_nothing_queued();
    }
}

static void test_null_sender_and_sender_maps(void **state)
{
    static const struct setting maps[] = {{"sender_canonical_maps", "inline:{{sender@example.org=changed}}"},
                                          {NULL, NULL}};
    struct talk t = talk_of(open_with(maps), "A: b\r\n\r\n");
    char *out;

    run(&t);
    assert_string_equal(take(QUEUE_INCOMING, &out)->sender, "changed@mx.example.com");
    mail_reply_deinit(&t.reply);
    t.envelope.sender = "";
    run(&t);
    assert_string_equal(take(QUEUE_INCOMING, &out)->sender, "");
    mail_reply_deinit(&t.reply);
}

/* ---- what hooks decided ---- */

static void test_actions(void **state)
{
    static const struct setting filter[] = {{"content_filter", "scan:default"}, {NULL, NULL}};
    const char *bcc[] = {"copy@x"};
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    struct queue_envelope *env;
    struct talk t;
    char *out, what = 0;

    snprintf(at.sun_path, sizeof(at.sun_path), "%s/public/qmgr", dir);
    assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof(at)), 0);

    t = talk_of(open_with(NULL), "A: b\r\n\r\n");
    t.envelope.discard = true;
    run(&t);
    assert_reply(&t, "250 2.0.0 Ok: queued as " ID);
    assert_logged(ID ": removed (discarded)");
    assert_nothing_queued();

    t = talk_of(open_with(NULL), "A: b\r\n\r\n");
    t.envelope.hold = "because";
    run(&t);
    assert_reply(&t, "250 2.0.0 Ok: queued as " ID);
    take(QUEUE_HOLD, &out);
    assert_int_equal(recv(fd, &what, 1, 0), -1); /* the scheduler was not told */

    t = talk_of(open_with(filter), "A: b\r\n\r\n");
    t.envelope.bcc = (struct mail_text_list){bcc, 1};
    run(&t);
    assert_reply(&t, "250 2.0.0 Ok: queued as " ID);
    env = take(QUEUE_INCOMING, &out);
    assert_string_equal(rcpts_of(env), "user@far.example/4/ copy@x/1/");
    assert_string_equal(env->filter, "scan:default");
    assert_int_equal(recv(fd, &what, 1, 0), 1);
    assert_int_equal(what, 'W');

    t.envelope.filter = "smtp:[::1]";
    t.envelope.redirect = "only@x";
    run(&t);
    assert_reply(&t, "250 2.0.0 Ok: queued as " ID);
    env = take(QUEUE_INCOMING, &out);
    assert_string_equal(rcpts_of(env), "only@x/0/");
    assert_string_equal(env->filter, "smtp:[::1]");
    close(fd);
}

/* ---- inspection ---- */

/* Doubles every 'x', holds the message back until the end, and says what `verdict` says. */
struct doubler {
    struct cleanup_inspect inspect;
    struct cleanup_verdict verdict;
};
struct doubling {
    struct buf held;
    void (*out)(void *arg, struct bytes piece);
    void *arg;
};

static int free_doubling(struct doubling *d)
{
    buf_deinit(&d->held);
    return 0;
}

static void *doubler_begin(struct cleanup_inspect *i, void *mem, const struct mail_client *client,
                           const struct mail_envelope *envelope, void (*out)(void *arg, struct bytes piece),
                           void *arg)
{
    struct doubling *d = mem_new(mem, struct doubling);

    d->out = out;
    d->arg = arg;
    talloc_set_destructor(d, free_doubling);
    return d;
}

static void doubler_content(struct cleanup_inspect *i, void *state, struct bytes piece)
{
    struct doubling *d = state;

    for (size_t at = 0; at < piece.n; at++)
        buf_add(&d->held, piece.p[at] == 'x' ? BYTES("xx") : bytes(piece.p + at, 1));
}

static void doubler_finish(struct cleanup_inspect *i, void *state, struct cleanup_verdict *verdict_r)
{
    struct doubling *d = state;

    d->out(d->arg, buf_bytes(&d->held));
    *verdict_r = ((struct doubler *)i)->verdict;
}

static const struct cleanup_inspect_ops doubler_ops = {"doubler", doubler_begin, doubler_content,
                                                       doubler_finish};

static void test_inspection(void **state)
{
    struct doubler doubler = {.inspect.ops = &doubler_ops};
    struct mail_action bcc = {.kind = MAIL_BCC, .text = "copy@x"};
    struct mail_action hold = {.kind = MAIL_HOLD, .next = &bcc};
    struct cleanup *c = open_with(NULL);
    struct talk t = talk_of(c, "Subject: x\r\n\r\nx\r\n");
    struct queue_envelope *env;
    char *out;

    cleanup_set_inspect(c, &doubler.inspect);
    doubler.verdict.actions = &hold;
    t.piece = 3;
    run(&t);
    assert_reply(&t, "250 2.0.0 Ok: queued as " ID);
    env = take(QUEUE_HOLD, &out);
    assert_string_equal(out, "Subject: xx\r\n\r\nxx\r\n");
    assert_string_equal(rcpts_of(env), "user@far.example/4/ copy@x/1/");
    doubler.verdict.reply = mail_reply(550, "5.7.1", "no %s here", "viruses");
    run(&t);
    assert_reply(&t, "550 5.7.1 no viruses here");
    assert_nothing_queued();
    doubler.verdict.reply = mail_reply(550, "5.7.1", "an aborted one is not told");
    t.is_aborted = true;
    run(&t);
    assert_nothing_queued();
    mail_reply_deinit(&doubler.verdict.reply);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        CASE(test_content),
        CASE(test_a_field_beyond_the_limit_is_cut),
        CASE(test_xforward_source_decides_who_is_local),
        CASE(test_hop_count),
        CASE(test_size_limit),
        CASE(test_no_room_at_begin),
        CASE(test_disk_full_while_writing),
        CASE(test_a_taken_id_is_a_temporary_refusal),
        CASE(test_abort_leaves_nothing),
        CASE(test_recipients),
        CASE(test_maps_that_fail_or_explode),
        CASE(test_null_sender_and_sender_maps),
        CASE(test_actions),
        CASE(test_inspection),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
