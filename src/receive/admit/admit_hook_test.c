/* Which way a message is sent for which the filter has no room. */
#include "admit.h"

#include "admission.h"
#include "co.h"
#include "mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

static char dir[] = "/tmp/admit-test-XXXXXX";
static void *all; /* owns what tests open */

static struct admit *open_front(const char *filter, const char *steps)
{
    struct conf_faults faults = {.ctx = all};
    struct conf *conf = conf_read(all, NULL, &faults);
    struct admit *a;

    conf_set(conf, "mynetworks", "127.0.0.0/8", "test", 1);
    conf_set(conf, "smtpd_proxy_concurrency_limit", "1", "test", 2);
    conf_set(conf, "smtpd_proxy_stranger_steps", steps, "test", 3);
    assert_null(admit_open(conf, conf, filter, 0, NULL, &a));
    return a;
}

/* A stranger's MAIL; its ticket, if there is one, is ctx's. */
static struct mail_verdict mail(const void *ctx, struct admit *a)
{
    const struct mail_client client = {.name = "unknown", .addr = "192.0.2.1", .family = AF_INET};
    const struct mail_envelope envelope = {.sender = ""};
    struct mail_view view = {.ctx = talloc_new(ctx), .client = &client, .envelope = &envelope};
    struct mail_hook *hook = admit_hook(a);
    struct mail_verdict verdict;
    void *state;

    hook->ops->begin(hook, &view, &state);
    verdict = hook->ops->ask(hook, state, MAIL_AT_MAIL, &view);
    hook->ops->end(hook, state);
    return verdict;
}

/* The first that is not let in. */
static struct mail_verdict mail_without_room(const void *ctx, struct admit *a)
{
    struct mail_verdict verdict;
    int n = 0;

    do {
        assert_true(n++ < 1000);
        verdict = mail(ctx, a);
    } while (verdict.kind == MAIL_PASS && verdict.route == MAIL_BY_FILTER);
    return verdict;
}

static void expect_refusal(const struct mail_verdict *verdict)
{
    assert_int_equal(verdict->kind, MAIL_ANSWER);
    assert_int_equal(verdict->reply.code, 451);
}

/* Two fronts of one filter, or two configurations of one front: the ladder is the last one's. */
static void ask_both(void *arg)
{
    struct admit *without = open_front("hold", "full"), *with = open_front("hold", "full, hold 100000");
    struct mail_verdict verdict;

    admit_set_hold(with);
    verdict = mail_without_room(arg, with);
    assert_int_equal(verdict.kind, MAIL_PASS);
    assert_int_equal(verdict.route, MAIL_BY_QUEUE);
    verdict = mail_without_room(arg, without);
    expect_refusal(&verdict);
}

static void ask_without_cheap(void *arg)
{
    struct admit *without = open_front("cheap", "full");
    struct mail_verdict verdict;

    open_front("cheap", "full, cheap 100000");
    verdict = mail_without_room(arg, without);
    expect_refusal(&verdict);
}

/* What the cheap filter has no room for. */
static void ask_cheap(void *arg)
{
    struct admit *with = open_front("full", "full, cheap 100000");
    struct admit *cheap = open_front("less", "full, hold 100000");
    struct mail_verdict verdict;

    admit_set_cheap(with, cheap);
    do
        verdict = mail_without_room(arg, with);
    while (verdict.kind == MAIL_PASS && verdict.route == MAIL_BY_CHEAP_FILTER);
    expect_refusal(&verdict);
    admit_set_hold(cheap);
    verdict = mail_without_room(arg, with);
    assert_int_equal(verdict.route, MAIL_BY_QUEUE);
}

static void run(void (*fn)(void *))
{
    void *messages = talloc_new(NULL);

    co_init(1);
    co_spawn(fn, messages, "test");
    co_run();
    talloc_free(messages);
    co_deinit();
}

static void test_ways_that_are_not_open(void **state)
{
    run(ask_both);
    run(ask_without_cheap);
    run(ask_cheap);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_ways_that_are_not_open)};
    char *file;
    int failed;

    if (mkdtemp(dir) == NULL)
        return 1;
    all = talloc_new(NULL);
    admission_prepare(dir);
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    file = mem_printf(all, "%s/admission", dir);
    unlink(file);
    rmdir(dir);
    talloc_free(all);
    return failed;
}
