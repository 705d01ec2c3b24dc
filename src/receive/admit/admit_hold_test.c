/* The memory of verdicts as admit uses it: before the queue (step hold), and at the gate. */
#include "admit_private.h"

#include "clock.h"
#include "format.h"
#include "log.h"
#include "mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

enum { SOON_MS = 10000 };

static struct admit *admit;
static struct verdict *memory;
static struct buf story; /* what the queue was told */

/* ---- the queue ---- */

static struct mail_reply fake_begin(struct mail_sink *s, const struct mail_client *client,
                                    const struct mail_envelope *envelope)
{
    return mail_reply_fixed(250, "2.1.0", "Ok");
}

static struct mail_reply fake_recipient(struct mail_sink *s, const struct mail_rcpt *rcpt)
{
    return mail_reply_fixed(250, "2.1.5", "Ok");
}

static struct mail_reply fake_content_begin(struct mail_sink *s)
{
    return mail_reply_fixed(354, "", "go on");
}

static void fake_content(struct mail_sink *s, struct bytes piece)
{
    buf_add(&story, piece);
}

static struct mail_reply fake_commit(struct mail_sink *s)
{
    buf_adds(&story, "|commit ");
    return mail_reply_fixed(250, "2.0.0", "Ok: queued unfiltered");
}

static void fake_abort(struct mail_sink *s)
{
    buf_adds(&story, "|abort ");
}

static const struct mail_sink_ops fake_ops = {"fake",       fake_begin,  fake_recipient, fake_content_begin,
                                              fake_content, fake_commit, fake_abort};

static void story_wants(const char *want)
{
    assert_string_equal(buf_text(&story), want);
    buf_cut(&story, 0);
}

/* ---- messages ---- */

#define TRACE "Received: by us\r\n"
#define ONE   "Subject: 1\r\n\r\n"
#define TWO   "Subject: 2\r\n\r\n"

struct message {
    struct mail_client client;
    struct mail_envelope envelope;
    struct mail_rcpt rcpt, *rcpts[1];
    struct admission_ticket ticket;
};

static struct message *message_new(void)
{
    struct message *m = mem_new(NULL, struct message);

    m->rcpt = (struct mail_rcpt){.addr = "to@example.com", .command = BYTES("RCPT TO:<to@example.com>")};
    m->rcpts[0] = &m->rcpt;
    m->envelope = (struct mail_envelope){.sender = "from@example.com",
                                         .command = BYTES("MAIL FROM:<from@example.com>"),
                                         .rcpts = m->rcpts,
                                         .rcpt_count = 1,
                                         .ticket = &m->ticket,
                                         .began_us = clock_us()};
    m->ticket.patience_ms = SOON_MS;
    return m;
}

static struct verdict_key key_of(const char *content)
{
    struct message *m = message_new();
    struct verdict_digest *d = verdict_key_begin(m, memory, &m->envelope);
    struct verdict_key key;

    verdict_key_add(d, bytes_of(content));
    key = verdict_key_end(&d);
    talloc_free(m);
    return key;
}

/* The scan of a message whose client has left ends so. */
static co_fn void end_scan(const char *content, int code)
{
    struct verdict_key key = key_of(content);
    struct mail_reply reply = mail_reply_fixed(code, "", "as scanned");

    verdict_end(memory, &key, &reply, false, clock_ms() + SOON_MS);
}

/* By the step hold, in pieces of two bytes; whether the reply is heard. */
static co_fn void hold_wants(const char *content, bool is_heard, const char *want)
{
    struct message *m = message_new();
    struct mail_sink *queue = mem_new(m, struct mail_sink), *s = admit_hold_sink(m, admit, queue);
    struct mail_reply r;

    queue->ops = &fake_ops;
    assert_int_equal(s->ops->begin(s, &m->client, &m->envelope).code, 250);
    assert_int_equal(s->ops->recipient(s, &m->rcpt).code, 250);
    assert_int_equal(s->ops->content_begin(s).code, 354);
    m->envelope.trace_size = strlen(TRACE);
    s->ops->content(s, BYTES(TRACE));
    for (struct bytes left = bytes_of(content); left.n > 0; left = bytes_skip(left, 2))
        s->ops->content(s, bytes(left.p, 2));
    r = s->ops->commit(s);
    assert_string_equal(mail_reply_log(m, &r), want);
    mail_reply_deinit(&r);
    if (s->receipt != NULL)
        s->receipt->settle(s->receipt, is_heard);
    talloc_free(m);
}

static void run(void (*fn)(void *arg))
{
    struct conf_faults faults = {0};
    struct conf *conf = conf_read(NULL, NULL, &faults);
    char dir[] = "/tmp/admit_hold_test.XXXXXX", command[64];

    assert_non_null(mkdtemp(dir));
    conf_set(conf, "data_directory", dir, "test", 1);
    co_init(1);
    memory = verdict_open(NULL, conf, "127.0.0.1:10025", 1);
    assert_null(admit_open(NULL, conf, "127.0.0.1:10025", 1, memory, &admit));
    co_spawn(fn, NULL, "test");
    co_run();
    talloc_free(admit);
    talloc_free(memory);
    talloc_free(conf);
    co_deinit();
    buf_deinit(&story);
    format_print(command, sizeof(command), "rm -rf %s", dir);
    assert_int_equal(system(command), 0);
}

#define QUEUED "250 2.0.0 Ok: queued unfiltered"

/* ---- tests ---- */

static co_fn void remembered(void *arg)
{
    hold_wants(ONE, true, QUEUED);
    story_wants(TRACE ONE "|commit ");
    end_scan(ONE, 250);
    hold_wants(TWO, true, QUEUED);
    story_wants(TRACE TWO "|commit ");
    hold_wants(ONE, false, "250 as scanned");
    story_wants(TRACE ONE "|abort ");
    hold_wants(ONE, true, "250 as scanned");
    story_wants(TRACE ONE "|abort ");
    hold_wants(ONE, true, QUEUED); /* it was heard: this is another message */
    end_scan(TWO, 550);
    hold_wants(TWO, true, "550 as scanned");
    verdict_flush(memory, clock_ms() + SOON_MS);
    assert_true(verdict_is_empty(memory));
}

static void test_hold_tells_what_is_remembered(void **state)
{
    run(remembered);
}

static co_fn void end_soon(void *arg)
{
    co_sleep(clock_ms() + 30, "the filter");
    end_scan(ONE, *(int *)arg);
}

static co_fn void running(void *arg)
{
    static int accepted = 250, deferred = 451;
    struct verdict_key key = key_of(ONE);

    verdict_abandon(memory, &key);
    co_spawn(end_soon, &accepted, "a scan without its client");
    hold_wants(ONE, true, "250 as scanned");
    story_wants(TRACE ONE "|abort ");
    verdict_abandon(memory, &key);
    co_spawn(end_soon, &deferred, "a scan without its client");
    hold_wants(ONE, true, QUEUED);
    story_wants(TRACE ONE "|commit ");
    verdict_flush(memory, clock_ms() + SOON_MS);
}

static void test_hold_waits_for_a_scan_that_goes_on(void **state)
{
    run(running);
}

/* ---- the gate ---- */

static struct mail_receipt *pass_gate(struct message *m, const char *content, void (*meanwhile)(void))
{
    static const struct io_spool_conf spool = {.dir = "/tmp", .memory_limit = 1 << 20};
    struct proxy_gate *gate = admit_gate(admit);
    struct proxy_passage *p = mem_new(m, struct proxy_passage);
    struct mail_reply r = mail_reply_fixed(250, "", "filtered");

    *p = (struct proxy_passage){.ctx = m, .client = &m->client, .envelope = &m->envelope};
    gate->ops->begin(gate, p);
    p->spool = io_spool_new(m, &spool);
    p->deadline = clock_ms() + SOON_MS;
    assert_null(io_spool_write(p->spool, bytes_of(content)));
    assert_true(gate->ops->enter(gate, p, &r));
    meanwhile();
    gate->ops->leave(gate, p, &r, true);
    return gate->ops->receipt(gate, p);
}

/* A message like it, whose client leaves, had come at the same time. */
static co_fn void keep_one(void)
{
    end_scan(ONE, 250);
}

static co_fn void heard_at_the_gate(void *arg)
{
    struct verdict_key key = key_of(ONE), other = key_of(TWO);
    struct message *m = message_new();
    struct mail_receipt *receipt;
    struct mail_reply r = {0};

    verdict_abandon(memory, &other); /* of the same size: now every one is looked up */
    receipt = pass_gate(m, ONE, keep_one);
    assert_non_null(receipt);
    assert_int_equal(verdict_start(memory, &key, &r), VERDICT_REMEMBERED);
    mail_reply_deinit(&r);
    receipt->settle(receipt, true);
    assert_int_equal(verdict_start(memory, &key, &r), VERDICT_FRESH);
    talloc_free(m);
    verdict_flush(memory, clock_ms() + SOON_MS);
}

static void test_what_was_filtered_and_heard_is_forgotten(void **state)
{
    run(heard_at_the_gate);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hold_tells_what_is_remembered),
        cmocka_unit_test(test_hold_waits_for_a_scan_that_goes_on),
        cmocka_unit_test(test_what_was_filtered_and_heard_is_forgotten),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
