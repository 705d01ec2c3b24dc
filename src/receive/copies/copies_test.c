/* The sink of copies before a fake one: what goes on, what is answered, and how long it waits. */
#include "copies.h"

#include "clock.h"
#include "co.h"
#include "format.h"
#include "mem.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { WAIT_MS = 100000 };

static struct buf story;                /* what the sinks behind were told */
static struct mail_reply commit_answer; /* of all of them */
static uint64_t commit_ms;              /* how long it takes */
static bool is_in_queue;

/* ---- behind ---- */

static struct mail_reply fake_begin(struct mail_sink *s, const struct mail_client *client,
                                    const struct mail_envelope *envelope)
{
    buf_addf(&story, "begin<%s> ", envelope->id);
    return mail_reply_fixed(250, "2.1.0", "Ok");
}

static struct mail_reply fake_recipient(struct mail_sink *s, const struct mail_rcpt *rcpt)
{
    buf_adds(&story, "rcpt ");
    return mail_reply_fixed(250, "2.1.5", "Ok");
}

static struct mail_reply fake_content_begin(struct mail_sink *s)
{
    buf_adds(&story, "data ");
    return mail_reply_fixed(354, "", "go on");
}

static void fake_content(struct mail_sink *s, struct bytes piece)
{
    buf_addf(&story, "%.*s ", BYTES_FMT(piece));
}

static co_fn struct mail_reply fake_commit(struct mail_sink *s)
{
    if (commit_ms > 0)
        co_sleep(clock_ms() + commit_ms, "the test");
    buf_adds(&story, "commit ");
    return mail_reply_copy(&commit_answer);
}

static void fake_abort(struct mail_sink *s)
{
    buf_adds(&story, "abort ");
}

static const struct mail_sink_ops fake_ops = {"fake",       fake_begin,  fake_recipient, fake_content_begin,
                                              fake_content, fake_commit, fake_abort};

static struct mail_sink *fake_sink(void *arg, void *ctx)
{
    struct mail_sink *s = mem_new(ctx, struct mail_sink);

    s->ops = &fake_ops;
    return s;
}

static bool is_queued(void *arg, const char *id)
{
    buf_addf(&story, "ask<%s> ", id);
    return is_in_queue;
}

/* ---- before ---- */

static struct copies *copies;

struct message {
    struct mail_forward forward;
    struct mail_client client;
    struct mail_envelope envelope;
    struct mail_rcpt rcpts[2], *rcpt_at[2];
    struct mail_sink *sink;
};

static struct message *message_new(const char *id, const char *ident, const char *retry)
{
    struct message *m = mem_new(copies, struct message);

    m->forward = (struct mail_forward){.ident = ident, .retry = retry};
    m->client.forward = &m->forward;
    format_print(m->envelope.id, MAIL_ID_SIZE, "%s", id);
    m->envelope.sender = "sender@example.org";
    m->rcpts[0].addr = "one@example.org";
    m->rcpts[1].addr = "two@example.org";
    m->rcpt_at[0] = &m->rcpts[0];
    m->rcpt_at[1] = &m->rcpts[1];
    m->envelope.rcpts = m->rcpt_at;
    m->sink = copies_sink(m, copies);
    return m;
}

static co_fn void until_content(struct message *m)
{
    const struct mail_sink_ops *ops = m->sink->ops;

    assert_int_equal(ops->begin(m->sink, &m->client, &m->envelope).code, 250);
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(ops->recipient(m->sink, m->rcpt_at[i]).code, 250);
        m->envelope.rcpt_count++;
    }
    assert_int_equal(ops->content_begin(m->sink).code, 354);
    ops->content(m->sink, BYTES("text"));
}

static co_fn void end_wants(struct message *m, const char *want)
{
    struct mail_reply r = m->sink->ops->commit(m->sink);

    assert_string_equal(mail_reply_log(m, &r), want);
    mail_reply_deinit(&r);
    talloc_free(m);
}

static co_fn void send_wants(struct message *m, const char *want)
{
    until_content(m);
    end_wants(m, want);
}

static void story_wants(const char *want)
{
    assert_string_equal(buf_text(&story), want);
    buf_cut(&story, 0);
}

static struct copies *open_as(unsigned worker)
{
    struct conf_faults faults = {0};
    struct conf *conf = conf_read(NULL, NULL, &faults);
    struct copies *c =
        copies_open(NULL, conf, worker, &(struct copies_outlets){.next = fake_sink, .is_queued = is_queued});

    talloc_free(conf);
    return c;
}

static void in_loop(void (*fn)(void *arg))
{
    co_init(1);
    copies = open_as(1);
    commit_answer = mail_reply_fixed(250, "2.0.0", "Ok: queued as something");
    commit_ms = 0;
    co_spawn(fn, NULL, "test");
    co_run();
    TALLOC_FREE(copies);
    co_deinit();
    buf_deinit(&story);
}

#define ALL    "rcpt rcpt data text "
#define QUEUED "250 2.0.0 Ok: queued as something"

/* ---- tests ---- */

static co_fn void first_and_copy(void *arg)
{
    send_wants(message_new("AAAAAA1", "AAAAAA1", NULL), QUEUED);
    story_wants("begin<AAAAAA1> " ALL "commit ");
    send_wants(message_new("AAAAAA2", "AAAAAA1", "1"), "250 2.0.0 Ok: queued as AAAAAA1");
    story_wants("begin<AAAAAA2> " ALL "abort ");
}

static void test_first_and_copy(void **state)
{
    in_loop(first_and_copy);
}

/* No copy, no id, an id of another kind, another sender, another recipient; but recipients in any order. */
static co_fn void others(void *arg)
{
    struct message *m;

    send_wants(message_new("BBBBBB1", "BBBBBB1", NULL), QUEUED);
    send_wants(message_new("BBBBBB2", "BBBBBB1", NULL), QUEUED);
    send_wants(message_new("BBBBBB3", NULL, "1"), QUEUED);
    send_wants(message_new("BBBBBB4", "<x@y>", "1"), QUEUED);
    send_wants(message_new("BBBBBB5", "<x@y>", "2"), QUEUED);
    m = message_new("BBBBBB6", "BBBBBB1", "1");
    m->envelope.sender = "another@example.org";
    send_wants(m, QUEUED);
    m = message_new("BBBBBB7", "BBBBBB1", "1");
    m->rcpts[1].addr = "three@example.org";
    send_wants(m, QUEUED);
    m = message_new("BBBBBB8", "BBBBBB1", "1");
    m->rcpt_at[0] = &m->rcpts[1];
    m->rcpt_at[1] = &m->rcpts[0];
    send_wants(m, "250 2.0.0 Ok: queued as BBBBBB1");
    m = message_new("BBBBBB9", "BBBBBB9", "1");
    m->client.forward = NULL;
    send_wants(m, QUEUED);
}

static void test_others(void **state)
{
    in_loop(others);
}

static co_fn void refused_and_aborted(void *arg)
{
    struct message *m;

    commit_answer = mail_reply_fixed(554, "5.7.1", "No");
    send_wants(message_new("CCCCCC1", "CCCCCC1", NULL), "554 5.7.1 No");
    send_wants(message_new("CCCCCC2", "CCCCCC1", "1"), "554 5.7.1 No");
    commit_answer = mail_reply_fixed(250, "2.0.0", "Ok");
    m = message_new("CCCCCC3", "CCCCCC1", "2");
    until_content(m);
    m->sink->ops->abort(m->sink);
    talloc_free(m);
    send_wants(message_new("CCCCCC4", "CCCCCC1", "3"), "250 2.0.0 Ok");
    send_wants(message_new("CCCCCC5", "CCCCCC1", "4"), "250 2.0.0 Ok: queued as CCCCCC4");
}

static void test_refused_and_aborted(void **state)
{
    in_loop(refused_and_aborted);
}

static co_fn void half_received(void *arg)
{
    struct message *slow = message_new("DDDDDD1", "DDDDDD1", NULL);

    until_content(slow);
    send_wants(message_new("DDDDDD2", "DDDDDD1", "1"), QUEUED);
    buf_cut(&story, 0);
    end_wants(slow, "451 4.3.0 Error: another copy has taken its place");
    story_wants("abort ");
}

static void test_half_received(void **state)
{
    in_loop(half_received);
}

static co_fn void slow_one(void *arg)
{
    send_wants(message_new("EEEEEE1", "EEEEEE1", NULL), mail_reply_log(copies, &commit_answer));
}

static co_fn void copy_meets_slow_one(void *arg)
{
    commit_ms = 100;
    co_spawn(slow_one, NULL, "slow");
    co_yield ();
    send_wants(message_new("EEEEEE2", "EEEEEE1", "1"), "250 2.0.0 Ok: queued as EEEEEE1");
}

static void test_copy_waits(void **state)
{
    in_loop(copy_meets_slow_one);
}

/* ---- workers that die; the test is worker 1 ---- */

static const char *dead; /* the id of what it was queueing */

static co_fn void commit_without_end(void *arg)
{
    commit_ms = WAIT_MS * 2;
    send_wants(message_new(dead, dead, NULL), "");
}

static co_fn void die_soon(void *arg)
{
    co_sleep(clock_ms() + 20, "death");
    raise(SIGKILL);
}

static void child(void)
{
    co_init(1);
    copies = open_as(2);
    co_spawn(commit_without_end, NULL, "commit");
    co_spawn(die_soon, NULL, "death");
    co_run();
}

static void let_worker_die(const char *id)
{
    pid_t pid;

    copies_prepare();
    dead = id;
    pid = fork();
    if (pid == 0)
        child();
    assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static co_fn void copy_of_orphan(void *arg)
{
    is_in_queue = true;
    send_wants(message_new("FFFFFF2", "FFFFFF1", "1"), "250 2.0.0 Ok: queued as FFFFFF1");
    story_wants("begin<FFFFFF2> " ALL "ask<FFFFFF1> abort ");
}

static co_fn void copy_of_lost_orphan(void *arg)
{
    is_in_queue = false;
    send_wants(message_new("FFFFFF4", "FFFFFF3", "1"), QUEUED);
    story_wants("begin<FFFFFF4> " ALL "ask<FFFFFF3> commit ");
    send_wants(message_new("FFFFFF5", "FFFFFF3", "2"), "250 2.0.0 Ok: queued as FFFFFF4");
}

static void test_worker_dies_while_it_queues(void **state)
{
    let_worker_die("FFFFFF1");
    copies_forget(2);
    in_loop(copy_of_orphan);
}

static void test_worker_dies_and_nothing_is_queued(void **state)
{
    let_worker_die("FFFFFF3");
    copies_forget(2);
    in_loop(copy_of_lost_orphan);
}

static co_fn void skip_time(void *arg)
{
    clock_skip_ms(WAIT_MS);
}

static co_fn void copy_of_stuck(void *arg)
{
    co_spawn(skip_time, NULL, "time");
    send_wants(message_new("FFFFFF7", "FFFFFF6", "1"), "451 4.3.0 Error: queue file write error");
    copies_forget(2);
}

/* Nobody says that the worker is dead: the copy waits for smtpd_proxy_timeout. */
static void test_wait_is_bounded(void **state)
{
    let_worker_die("FFFFFF6");
    in_loop(copy_of_stuck);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_first_and_copy),
        cmocka_unit_test(test_others),
        cmocka_unit_test(test_refused_and_aborted),
        cmocka_unit_test(test_half_received),
        cmocka_unit_test(test_copy_waits),
        cmocka_unit_test(test_worker_dies_while_it_queues),
        cmocka_unit_test(test_worker_dies_and_nothing_is_queued),
        cmocka_unit_test(test_wait_is_bounded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
