/*
 * The scan sink between a client and fake sinks that record what they are told. The engine is "exec" with one
 * line of shell, which can give every result; what the checks engine adds is tested beside it.
 */
#include "scan.h"

#include "buf.h"
#include "clock.h"
#include "conf.h"
#include "log.h"
#include "mem.h"
#include "scan_private.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static struct buf story; /* what the sinks were told, in order */
static struct buf seen_log;

static void on_log(const char *line, void *arg)
{
    buf_addf(&seen_log, "%s\n", line);
}

/* ---- fake sinks ---- */

struct scan_case {
    const char *name;
    const char *answers; /* of the program, on descriptor 3; NULL: no engine at all */
    const char *then;    /* more shell */
    const char *refuse;  /* the command, "DATA" or "." of any sink that is refused */
    struct mail_reply refusal;
    const char *story; /* wanted */
    int code;          /* wanted at the end; */
    const char *text;
    const char *log;            /* a part; NULL: anything */
    struct mail_envelope hooks; /* what hooks decided: hold, discard, redirect, filter, bcc */
    bool has_no_outlets;        /* neither elsewhere nor quarantine */
    bool is_aborted;            /* by the client, before the end */
};

struct fake_sink {
    struct mail_sink sink;
    const struct scan_case *c;
    const struct mail_envelope *envelope;
    struct buf content;
};

static struct mail_reply answer(const struct scan_case *c, struct bytes command, int code)
{
    if (c->refuse != NULL && bytes_eq(command, bytes_of(c->refuse)))
        return mail_reply_copy(&c->refusal);
    return mail_reply(code, "2.0.0", "%s", "fine");
}

static struct mail_reply fake_begin(struct mail_sink *s, const struct mail_client *client,
                                    const struct mail_envelope *envelope)
{
    struct fake_sink *f = (struct fake_sink *)s;

    f->envelope = envelope;
    buf_addf(&story, "%s|", s->ops->name);
    buf_addf(&story, "%.*s|", BYTES_FMT(envelope->command));
    return answer(f->c, envelope->command, 250);
}

static struct mail_reply fake_recipient(struct mail_sink *s, const struct mail_rcpt *rcpt)
{
    struct fake_sink *f = (struct fake_sink *)s;

    buf_addf(&story, "%.*s|", BYTES_FMT(rcpt->command));
    return answer(f->c, rcpt->command, 250);
}

static struct mail_reply fake_content_begin(struct mail_sink *s)
{
    struct fake_sink *f = (struct fake_sink *)s;

    buf_adds(&story, "DATA");
    for (size_t i = 0; i < f->envelope->rcpt_count; i++)
        buf_addf(&story, " <%s>", f->envelope->rcpts[i]->addr);
    if (f->envelope->hold != NULL)
        buf_addf(&story, " hold=%s", f->envelope->hold);
    if (f->envelope->filter != NULL)
        buf_addf(&story, " filter=%s", f->envelope->filter);
    if (f->envelope->redirect != NULL || f->envelope->bcc.n > 0 || f->envelope->discard)
        buf_adds(&story, " UNDONE");
    buf_addc(&story, '|');
    return answer(f->c, BYTES("DATA"), 354);
}

static void fake_content(struct mail_sink *s, struct bytes piece)
{
    buf_add(&((struct fake_sink *)s)->content, piece);
}

static struct mail_reply fake_commit(struct mail_sink *s)
{
    struct fake_sink *f = (struct fake_sink *)s;

    for (size_t i = 0; i < f->content.n; i++)
        buf_addc(&story, f->content.p[i] == '\r' ? '\\' : f->content.p[i]);
    buf_adds(&story, ".|");
    return answer(f->c, BYTES("."), 250);
}

static void fake_abort(struct mail_sink *s)
{
    buf_addf(&story, "abort %s|", s->ops->name);
}

static int free_fake(struct fake_sink *f)
{
    buf_deinit(&f->content);
    return 0;
}

#define FAKE_OPS(name_)                                                                                      \
    {                                                                                                        \
        .name = name_, .begin = fake_begin, .recipient = fake_recipient,                                     \
        .content_begin = fake_content_begin, .content = fake_content, .commit = fake_commit,                 \
        .abort = fake_abort                                                                                  \
    }
static const struct mail_sink_ops next_ops = FAKE_OPS("next"), quarantine_ops = FAKE_OPS("quarantine"),
                                  elsewhere_ops = FAKE_OPS("elsewhere");

static struct mail_sink *new_fake(void *arg, void *ctx, const struct mail_sink_ops *ops)
{
    struct fake_sink *f = mem_new(ctx, struct fake_sink);

    f->sink.ops = ops;
    f->c = arg;
    talloc_set_destructor(f, free_fake);
    return &f->sink;
}

static struct mail_sink *make_next(void *arg, void *ctx)
{
    return new_fake(arg, ctx, &next_ops);
}

static struct mail_sink *make_quarantine(void *arg, void *ctx)
{
    return new_fake(arg, ctx, &quarantine_ops);
}

static struct mail_sink *make_elsewhere(void *arg, void *ctx, const char *nexthop)
{
    buf_addf(&story, "to %s|", nexthop);
    return new_fake(arg, ctx, &elsewhere_ops);
}

/* ---- a transaction, as the session does it ---- */

#define MAIL  "MAIL FROM:<s@a.test> SIZE=99 BODY=8BITMIME"
#define RCPT1 "RCPT TO:<r1@b.test> NOTIFY=NEVER"
#define RCPT2 "RCPT TO:<r2@b.test>"
#define BEGUN "next|" MAIL "|" RCPT1 "|" RCPT2 "|"

static const struct mail_client client = {
    .name = "mx", .addr = "192.0.2.1", .port = "1", .helo = "h", .proto = "ESMTP"};

struct transaction {
    const struct scan_case *c;
    struct scan *scan;
    struct mail_reply reply;
    struct mail_envelope envelope;
    void *ctx;
    bool is_done;
};

/* The recipient is only kept, elsewhere in memory, after the sink took it. */
static mail_waits void offer(struct transaction *t, struct mail_sink *sink, const char *addr,
                             const char *command)
{
    struct mail_rcpt *rcpt = mem_new(t->ctx, struct mail_rcpt);
    struct mail_rcpt passing = {.addr = addr, .command = bytes_of(command)};
    struct mail_reply reply = sink->ops->recipient(sink, &passing);

    *rcpt = passing;
    memset(&passing, 0x55, sizeof(passing));
    if (mail_reply_is_ok(&reply)) {
        t->envelope.rcpts = mem_grow(t->ctx, t->envelope.rcpts, t->envelope.rcpt_count + 1);
        t->envelope.rcpts[t->envelope.rcpt_count++] = rcpt;
    }
    mail_reply_deinit(&reply);
}

static mail_waits void converse(struct transaction *t, struct mail_sink *sink)
{
    t->reply = sink->ops->begin(sink, &client, &t->envelope);
    if (!mail_reply_is_ok(&t->reply))
        return;
    offer(t, sink, "r1@b.test", RCPT1);
    offer(t, sink, "r2@b.test", RCPT2);
    t->envelope.hold = t->c->hooks.hold;
    t->envelope.discard = t->c->hooks.discard;
    t->envelope.redirect = t->c->hooks.redirect;
    t->envelope.filter = t->c->hooks.filter;
    t->envelope.bcc = t->c->hooks.bcc;
    mail_reply_deinit(&t->reply);
    t->reply = sink->ops->content_begin(sink);
    if (t->reply.code != 354)
        return;
    mail_reply_deinit(&t->reply);
    sink->ops->content(sink, BYTES("A: 1\r\n"));
    sink->ops->content(sink, BYTES("\r\n.body\r\n"));
    if (t->c->is_aborted)
        sink->ops->abort(sink);
    else
        t->reply = sink->ops->commit(sink);
}

static co_fn void transact(void *arg)
{
    struct transaction *t = arg;
    struct mail_sink *sink = scan_sink(t->ctx, t->scan);

    converse(t, sink);
    talloc_free(sink);
    t->is_done = true;
}

static struct conf *conf_of(const struct scan_case *c, void *ctx)
{
    struct conf_faults faults = {.ctx = ctx};
    struct conf *conf = conf_derive(ctx, conf_read(ctx, NULL, &faults));

    conf_set(conf, "queue_directory", "/tmp", "test", 1);
    conf_set(conf, "filter_exec_user", "nobody", "test", 1);
    if (c->answers == NULL)
        return conf;
    conf_set(conf, "filter_engines", "exec", "test", 1);
    conf_set(conf, "filter_exec_command",
             mem_printf(ctx, "/bin/sh -c {printf '%s' >&3; %s}", c->answers, c->then != NULL ? c->then : ":"),
             "test", 1);
    return conf;
}

static void run(struct transaction *t, const struct scan_case *c)
{
    struct scan_outlets outlets = {make_next, make_elsewhere, make_quarantine, (void *)c};
    struct error *e;

    *t = (struct transaction){.c = c, .ctx = talloc_new(NULL)};
    t->envelope =
        (struct mail_envelope){.id = "ID", .sender = "s@a.test", .command = BYTES(MAIL), .size = 99};
    if (c->has_no_outlets) {
        outlets.elsewhere = NULL;
        outlets.quarantine = NULL;
    }
    buf_cut(&story, 0);
    buf_cut(&seen_log, 0);
    e = scan_open(t->ctx, conf_of(c, t->ctx), &outlets, &t->scan);
    if (e != NULL)
        fail_msg("%s: %s", c->name, e->text);
    co_spawn(transact, t, "transaction");
    co_run();
    assert_true(t->is_done);
}

#define CONTENT "A: 1\\\n\\\n.body\\\n"
#define BOTH    " <r1@b.test> <r2@b.test>"
#define REFUSAL(code_, dsn_, text_)                                                                          \
    {                                                                                                        \
        .code = code_, .dsn = dsn_, .text = text_                                                            \
    }
#define TROUBLE 451, "Error: queue file write error"

static const char *one_bcc[] = {"z@c.test"};

static const struct scan_case cases[] = {
    {"no engine: straight through", .story = BEGUN "DATA" BOTH "|" CONTENT ".|", .code = 250, .text = "fine"},
    {"no engine: DATA refused", .refuse = "DATA", .refusal = REFUSAL(452, "4.3.1", "full"),
     .story = BEGUN "DATA" BOTH "|", .code = 452, .text = "full"},
    {"MAIL refused", "", .refuse = MAIL, .refusal = REFUSAL(550, "5.1.8", "no"),
     .story = "next|" MAIL "|abort next|", .code = 550, .text = "no"},
    {"one recipient refused", "", .refuse = RCPT1, .refusal = REFUSAL(550, "5.1.1", "no"),
     .story = BEGUN "DATA <r2@b.test>|" CONTENT ".|", .code = 250, .text = "fine"},
    {"aborted by the client", "", .story = BEGUN "abort next|", .code = 0, .is_aborted = true},
    {"unchanged", "PASS\\n", .story = BEGUN "DATA" BOTH "|" CONTENT ".|", .code = 250, .text = "fine"},
    {"unchanged, refused at the end", "", .refuse = ".", .refusal = REFUSAL(554, "", "5.7.1 no\nmore"),
     .story = BEGUN "DATA" BOTH "|" CONTENT ".|", .code = 554, .text = "5.7.1 no\nmore"},
    {"unchanged, DATA refused", "", .refuse = "DATA", .refusal = REFUSAL(452, "4.3.1", "full"),
     .story = BEGUN "DATA" BOTH "|abort next|", .code = 452, .text = "full"},
    {"changed content", "", .then = "sed s/body/BODY/", .story = BEGUN "DATA" BOTH "|A: 1\\\n\\\n.BODY\\\n.|",
     .code = 250, .text = "fine"},
    {"rejected", "REJECT 550 5.7.1 no spam\\n", .story = BEGUN "abort next|", .code = 550, .text = "no spam",
     .log = "ID: reject: content from mx[192.0.2.1]; from=<s@a.test> to=<r2@b.test> proto=ESMTP helo=<h>: "
            "5.7.1 no spam\n"},
    {"engine in trouble", "", .then = "exit 1", .story = BEGUN "abort next|", .code = 451,
     .text = "Error: queue file write error"},
    {"discarded", "DISCARD x\\n", .story = BEGUN "abort next|", .code = 250, .text = "Ok: queued as ID",
     .log = "ID: discard: content"},
    {"redirected", "REDIRECT q@c.test\\n",
     .story = BEGUN "abort next|next|" MAIL "|RCPT TO:<q@c.test>|DATA <q@c.test>|" CONTENT ".|", .code = 250,
     .text = "fine", .log = "ID: redirect: content"},
    {"redirected, with changed content and bcc", "REDIRECT q@c.test\\nBCC z@c.test\\n", .then = "echo new",
     .story = BEGUN
     "abort next|next|MAIL FROM:<s@a.test> BODY=8BITMIME|RCPT TO:<q@c.test>|DATA <q@c.test>|new\\\n.|",
     .code = 250, .text = "fine"},
    {"redirection refused", "REDIRECT q@c.test\\n", .refuse = "RCPT TO:<q@c.test>",
     .refusal = REFUSAL(550, "5.1.1", "secret"),
     .story = BEGUN "abort next|next|" MAIL "|RCPT TO:<q@c.test>|abort next|", TROUBLE,
     .log = "warning: ID: redirect to <q@c.test> refused: 550 5.1.1 secret\n"},
    {"bcc", "BCC z@c.test\\n",
     .story = BEGUN "RCPT TO:<z@c.test> NOTIFY=NEVER|DATA" BOTH " <z@c.test>|" CONTENT ".|", .code = 250,
     .text = "fine"},
    {"bcc to a server without DSN", "BCC z@c.test\\n", .refuse = "RCPT TO:<z@c.test> NOTIFY=NEVER",
     .refusal = REFUSAL(555, "5.5.4", "what"),
     .story =
         BEGUN "RCPT TO:<z@c.test> NOTIFY=NEVER|RCPT TO:<z@c.test>|DATA" BOTH " <z@c.test>|" CONTENT ".|",
     .code = 250, .text = "fine"},
    {"bcc refused", "BCC z@c.test\\n", .refuse = "RCPT TO:<z@c.test> NOTIFY=NEVER",
     .refusal = REFUSAL(550, "5.1.1", "secret"), .story = BEGUN "RCPT TO:<z@c.test> NOTIFY=NEVER|abort next|",
     TROUBLE, .log = "warning: ID: bcc to <z@c.test> refused: 550 5.1.1 secret\n"},
    {"elsewhere", "FILTER smtp:[127.0.0.1]:2525\\n",
     .story = BEGUN "to 127.0.0.1:2525|abort next|elsewhere|" MAIL "|" RCPT1 "|" RCPT2 "|DATA" BOTH
                    "|" CONTENT ".|",
     .code = 250, .text = "fine", .log = "ID: filter: content"},
    {"elsewhere, with bcc and changed content", "FILTER [::1]:25\\nBCC z@c.test\\n", .then = "echo new",
     .story = BEGUN "to [::1]:25|abort next|elsewhere|MAIL FROM:<s@a.test> BODY=8BITMIME|" RCPT1 "|" RCPT2
                    "|RCPT TO:<z@c.test> NOTIFY=NEVER|DATA" BOTH " <z@c.test>|new\\\n.|",
     .code = 250, .text = "fine"},
    {"elsewhere refuses a recipient", "FILTER x:25\\nBCC z@c.test\\n",
     .refuse = "RCPT TO:<z@c.test> NOTIFY=NEVER", .refusal = REFUSAL(450, "4.2.0", "later"),
     .story = BEGUN "to x:25|abort next|elsewhere|" MAIL "|" RCPT1 "|" RCPT2
                    "|RCPT TO:<z@c.test> NOTIFY=NEVER|abort elsewhere|",
     TROUBLE},
    {"no way elsewhere", "FILTER x:25\\n", .story = BEGUN "abort next|", TROUBLE,
     .log = "warning: ID: content filter: no way to send by FILTER smtp:x:25\n", .has_no_outlets = true},
    {"held", "HOLD odd\\nFILTER x:25\\n",
     .story = BEGUN "abort next|quarantine|" MAIL "|" RCPT1 "|" RCPT2 "|DATA" BOTH
                    " hold=odd filter=smtp:x:25|" CONTENT ".|",
     .code = 250, .text = "fine", .log = "ID: hold: content"},
    {"held, redirected", "HOLD odd\\nREDIRECT q@c.test\\n",
     .story =
         BEGUN "abort next|quarantine|" MAIL "|RCPT TO:<q@c.test>|DATA <q@c.test> hold=odd|" CONTENT ".|",
     .code = 250, .text = "fine"},
    {"no hold queue", "HOLD odd\\n", .story = BEGUN "abort next|", TROUBLE,
     .log = "warning: ID: content filter: no way to the hold queue\n", .has_no_outlets = true},
    {"hold queue full", "HOLD odd\\n", .refuse = ".", .refusal = REFUSAL(452, "4.3.1", "full"),
     .story = BEGUN "abort next|quarantine|" MAIL "|" RCPT1 "|" RCPT2 "|DATA" BOTH " hold=odd|" CONTENT ".|",
     .code = 452, .text = "full"},
    {"a hook held it",
     .story = BEGUN "abort next|quarantine|" MAIL "|" RCPT1 "|" RCPT2 "|DATA" BOTH " hold=h|" CONTENT ".|",
     .code = 250, .text = "fine", .hooks = {.hold = "h"}},
    {"a hook discarded it", "", .story = BEGUN "abort next|", .code = 250, .text = "Ok: queued as ID",
     .hooks = {.discard = true}},
    {"a hook redirected it and added bcc",
     .story = BEGUN "abort next|next|" MAIL "|RCPT TO:<q@c.test>|DATA <q@c.test>|" CONTENT ".|", .code = 250,
     .text = "fine", .hooks = {.redirect = "q@c.test", .bcc = {one_bcc, 1}}},
    {"a hook added bcc", "",
     .story = BEGUN "RCPT TO:<z@c.test> NOTIFY=NEVER|DATA" BOTH " <z@c.test>|" CONTENT ".|", .code = 250,
     .text = "fine", .hooks = {.bcc = {one_bcc, 1}}},
    {"a hook filters, the engine rejects", "REJECT\\n", .story = BEGUN "abort next|", .code = 550,
     .text = "message content rejected", .hooks = {.filter = "smtp:x:1"}},
};

static void check_case(const struct scan_case *c)
{
    struct transaction t;

    run(&t, c);
    if (strcmp(buf_text(&story), c->story) != 0)
        fail_msg("%s:\n--- wanted\n%s\n--- got\n%s\n--- log\n%s", c->name, c->story, buf_text(&story),
                 buf_text(&seen_log));
    if (t.reply.code != c->code || (c->text != NULL && strcmp(t.reply.text, c->text) != 0))
        fail_msg("%s: reply %d %s", c->name, t.reply.code, t.reply.text);
    if (c->log != NULL && strstr(buf_text(&seen_log), c->log) == NULL)
        fail_msg("%s: log %s", c->name, buf_text(&seen_log));
    mail_reply_deinit(&t.reply);
    talloc_free(t.ctx);
}

static void test_cases(void **state)
{
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
        check_case(&cases[i]);
}

static void test_nexthop(void **state)
{
    static const struct {
        const char *filter, *nexthop;
    } nexthops[] = {
        {"smtp:[127.0.0.1]:2525", "127.0.0.1:2525"},
        {"smtp:127.0.0.1:2525", "127.0.0.1:2525"},
        {"smtp:[::1]:25", "[::1]:25"},
        {"smtp:[::1]", "[::1]:25"},
        {"amavis:mail.test", "mail.test:25"},
        {"relay:[mail.test]:smtp", "mail.test:smtp"},
        {"smtp:", NULL},
        {"smtp:[]:25", NULL},
        {"smtp::25", NULL},
        {"smtp:x:", NULL},
        {"lmtp:x:24", NULL},
        {"Discard:x", NULL},
        {"smtp", NULL},
    };
    void *ctx = talloc_new(NULL);

    for (size_t i = 0; i < sizeof(nexthops) / sizeof(*nexthops); i++) {
        char *nexthop = scan_nexthop(ctx, nexthops[i].filter);

        if (nexthops[i].nexthop == NULL)
            assert_null(nexthop);
        else
            assert_string_equal(nexthop, nexthops[i].nexthop);
    }
    talloc_free(ctx);
}

static void test_unknown_engine(void **state)
{
    struct scan_case c = {.name = "unknown"};
    struct scan_outlets outlets = {make_next, make_elsewhere, make_quarantine, NULL};
    void *ctx = talloc_new(NULL);
    struct conf *conf = conf_of(&c, ctx);
    struct scan *scan;
    struct error *e;

    conf_set(conf, "filter_engines", "exect", "test", 1);
    e = scan_open(ctx, conf, &outlets, &scan);
    assert_non_null(e);
    assert_int_equal(e->kind, ERROR_CONF);
    assert_string_equal(e->text, "filter_engines: no engine is named \"exect\" (there are: checks, exec)");
    error_free(&e);
    talloc_free(ctx);
}

static int setup(void **state)
{
    log_capture(on_log, NULL);
    co_init(2);
    return 0;
}

static int teardown(void **state)
{
    log_capture(NULL, NULL);
    co_deinit();
    buf_deinit(&story);
    buf_deinit(&seen_log);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cases),
        cmocka_unit_test(test_nexthop),
        cmocka_unit_test(test_unknown_engine),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
