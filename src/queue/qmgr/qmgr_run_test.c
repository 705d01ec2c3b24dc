/*
 * The scheduler at work in one process with agents that do what a recipient's local part says: sN is sent, dN
 * deferred, bN bounced, xN meets a dead next hop, kN kills the agent, hN hangs until the test lets go.
 */
#include "buf.h"
#include "clock.h"
#include "deliver_agent.h"
#include "log.h"
#include "mem.h"
#include "qmgr.h"

#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

enum { PATIENCE_MS = 10000 };

static void *ctx;
static char dir[64];
static struct queue *q;
static struct conf *conf;
static struct conf_service service_at[4];
static struct conf_services services = {service_at, 0};
static struct buf log_text;

static void take_line(const char *line, void *arg)
{
    buf_addf(&log_text, "%s\n", line);
}

static void set(const char *name, const char *value)
{
    conf_set(conf, name, value, "test", 1);
}

static void add_service(const char *name, const char *command)
{
    service_at[services.n++] = (struct conf_service){
        .name = name, .type = CONF_UNIX, .is_private = true, .maxproc = 50, .command = command, .conf = conf};
}

static int setup(void **state)
{
    struct conf_faults faults = {0};
    struct queue_conf queue_conf = {.directory = dir, .hash_depth = 1};
    struct error *e;

    snprintf(dir, sizeof(dir), "/tmp/qmgr_test.XXXXXX");
    if (mkdtemp(dir) == NULL)
        return -1;
    ctx = faults.ctx = talloc_named_const(NULL, 0, "test");
    co_init(2);
    mail_id_setup(1, false);
    log_capture(take_line, NULL);
    conf = conf_read(ctx, NULL, &faults);
    set("default_transport", "fake");
    set("mydestination", "");
    set("local_recipient_maps", "");
    services.n = 0;
    add_service("fake", "virtual");
    add_service("bounce", "bounce");
    add_service("later", "pipe");
    e = queue_open(ctx, &queue_conf, &q);
    return e == NULL && mkdir(mem_printf(ctx, "%s/private", dir), 0700) == 0 ? 0 : -1;
}

static int teardown(void **state)
{
    char command[128];

    talloc_free(ctx);
    co_deinit();
    log_capture(NULL, NULL);
    buf_deinit(&log_text);
    snprintf(command, sizeof(command), "rm -rf %s", dir);
    return system(command);
}

/* ---- agents ---- */

static struct {
    bool is_open; /* everything is sent */
    bool lets_go; /* hN go on */
    unsigned now, most, requests;
    struct buf order;    /* recipients as they were asked */
    struct buf reported; /* "recipient dsn text\n" of the bounce agent */
    bool bounce_fails;
} seen;

static void fake_one(const void *c, const struct queue_rcpt *rcpt, struct deliver_result *r)
{
    switch (seen.is_open ? 's' : rcpt->addr[0]) {
    case 'd':
        deliver_result_set(c, r, DELIVER_DEFERRED, "4.2.0", "fake", "not now");
        break;
    case 'b':
        deliver_result_set(c, r, DELIVER_BOUNCED, "5.1.1", "fake", "no such user");
        break;
    case 'x':
        deliver_result_set(c, r, DELIVER_DEFERRED, "4.4.1", "none", "connect to x: refused");
        r->is_site = true;
        break;
    default:
        deliver_result_set(c, r, DELIVER_SENT, "2.0.0", "fake", "ok");
        break;
    }
}

static void fake_deliver(struct deliver_agent *a, const void *c, const struct deliver_request *request,
                         struct deliver_result *results)
{
    uint64_t deadline = clock_ms() + PATIENCE_MS;
    size_t i;

    seen.requests++;
    if (++seen.now > seen.most)
        seen.most = seen.now;
    co_sleep(clock_ms() + 1, "work");
    for (i = 0; i < request->rcpt_count; i++) {
        buf_addf(&seen.order, "%s ", request->rcpts[i]->addr);
        while (request->rcpts[i]->addr[0] == 'h' && !seen.lets_go && clock_ms() < deadline &&
               !co_is_cancelled())
            co_sleep(clock_ms() + 2, "hang");
        fake_one(c, request->rcpts[i], &results[i]);
    }
    seen.now--;
}

static void fake_bounce(struct deliver_agent *a, const void *c, const struct deliver_request *request,
                        struct deliver_result *results)
{
    size_t i;

    for (i = 0; i < request->rcpt_count; i++) {
        if (!seen.bounce_fails)
            buf_addf(&seen.reported, "%s %s %s\n", request->rcpts[i]->addr, request->reasons[i].dsn,
                     request->reasons[i].text);
        deliver_result_set(c, &results[i], seen.bounce_fails ? DELIVER_DEFERRED : DELIVER_SENT,
                           seen.bounce_fails ? "4.3.0" : "2.0.0", "none", "report");
    }
}

static const struct deliver_agent_ops fake_ops = {.command = "fake", .deliver = fake_deliver};
static const struct deliver_agent_ops bounce_ops = {
    .command = "bounce", .is_report = true, .deliver = fake_bounce};
static struct deliver_agent fake = {&fake_ops}, bounce = {&bounce_ops};

struct listener {
    const char *name;
    struct deliver_agent *agent;
    struct co *co;
    int fd;
    bool dies; /* reads nothing and closes */
};
struct connection {
    struct listener *listener;
    int fd;
};

static void serve(void *arg)
{
    struct connection *c = arg;
    struct io_stream *s = io_stream_new(ctx, c->fd);

    if (c->listener->dies)
        io_fill(s, clock_ms() + PATIENCE_MS);
    else
        deliver_serve(c->listener->agent, q, c->listener->name, s);
    io_stream_close(&s);
}

static void listen_at(void *arg)
{
    struct listener *l = arg;
    struct io_listener *listener = io_listener_new(ctx, l->fd);
    struct io_address peer;
    int fd, code;

    while (io_accept(listener, CO_NEVER, &fd, &peer, &code) == IO_OK) {
        struct connection *c = mem_new(ctx, struct connection);

        c->listener = l;
        c->fd = fd;
        co_spawn(serve, c, l->name);
    }
    io_listener_close(&listener);
    close(l->fd);
}

static void open_listener(struct listener *l)
{
    struct io_address address;
    struct error *e = io_address_unix(mem_printf(ctx, "%s/private/%s", dir, l->name), &address);

    assert_null(e);
    l->fd = io_listen(&address, 128, &e);
    assert_null(e);
    l->co = co_spawn(listen_at, l, l->name);
}

/* ---- messages ---- */

static void write_message(enum queue_place place, const char *id, const char *sender, const char *rcpts,
                          uint64_t age_s)
{
    struct queue_rcpt at[300];
    struct queue_envelope env = {
        .sender = (char *)sender, .rcpts = at, .arrived_us = clock_real_us() - age_s * 1000000};
    struct bytes rest = bytes_of(rcpts), word;
    struct queue_writer *w = queue_writer_new(ctx, q);

    while ((word = bytes_word(&rest, " ")).n > 0)
        at[env.rcpt_count++] = (struct queue_rcpt){.addr = bytes_dup(ctx, word), .state = QUEUE_RCPT_TODO};
    snprintf(env.id, sizeof(env.id), "%s", id);
    assert_null(queue_writer_content(w, BYTES("\r\nx\r\n")));
    assert_null(queue_writer_commit(w, &env, place, clock_ms() + PATIENCE_MS));
}

static void put_message_at(const char *id, const char *sender, const char *rcpts, uint64_t age_s)
{
    write_message(QUEUE_INCOMING, id, sender, rcpts, age_s);
    queue_notify(q, 'W');
}

static void put_message(const char *id, const char *rcpts)
{
    put_message_at(id, "me@x.example", rcpts, 0);
}

static bool is_in(enum queue_place place, const char *id)
{
    enum queue_place at;

    return queue_message_find(q, id, &at) && at == place;
}

static bool is_nowhere(const char *id)
{
    enum queue_place at;

    return !queue_message_find(q, id, &at);
}

static void give_up(const char *condition)
{
    fprintf(stderr, "never: %s\n%s", condition, buf_text(&log_text));
    abort();
}

#define WAIT_UNTIL(condition)                                                                                \
    do {                                                                                                     \
        uint64_t until = clock_ms() + PATIENCE_MS;                                                           \
        while (!(condition) && clock_ms() < until)                                                           \
            co_sleep(clock_ms() + 2, "test");                                                                \
        if (!(condition))                                                                                    \
            give_up(#condition);                                                                             \
    } while (0)

static bool logged(const char *text)
{
    return strstr(buf_text(&log_text), text) != NULL;
}

/* ---- the frame of a test ---- */

static struct co *scheduler;
static bool scheduler_runs;
static struct listener fake_listener, bounce_listener;

static void run_scheduler(void *arg)
{
    struct error *e = qmgr_run(conf, &services, q);

    if (e != NULL)
        fail_msg("%s", e->text);
    scheduler_runs = false;
}

static void start_scheduler(void)
{
    scheduler_runs = true;
    scheduler = co_spawn(run_scheduler, NULL, "qmgr");
}

static void stop_scheduler(void)
{
    co_cancel(scheduler);
    WAIT_UNTIL(!scheduler_runs);
}

static void run_story(void *story)
{
    memset(&seen, 0, sizeof(seen));
    fake_listener = (struct listener){.name = "fake", .agent = &fake};
    bounce_listener = (struct listener){.name = "bounce", .agent = &bounce};
    open_listener(&fake_listener);
    open_listener(&bounce_listener);
    start_scheduler();
    ((void (*)(void))story)();
    if (scheduler_runs)
        stop_scheduler();
    co_cancel(fake_listener.co);
    co_cancel(bounce_listener.co);
    buf_deinit(&seen.order);
    buf_deinit(&seen.reported);
}

static void run(void (*story)(void))
{
    co_spawn(run_story, (void *)story, "story");
    co_run();
}

/* ---- threads that are busy ---- */

struct hold {
    atomic_bool is_held;
    sem_t let_go;
};

static void wait_on_thread(void *arg)
{
    struct hold *h = arg;

    h->is_held = true;
    while (sem_wait(&h->let_go) != 0)
        ;
}

static void hold_thread(void *h)
{
    assert_int_equal(co_work(wait_on_thread, h, CO_NEVER, "hold"), CO_OK);
    talloc_free(h);
}

/* Takes one of the pool's two threads, when what was given to the pool before is done. */
static struct hold *hold_a_thread(void)
{
    struct hold *h = mem_new(ctx, struct hold);

    sem_init(&h->let_go, 0, 0);
    co_spawn(hold_thread, h, "hold");
    return h;
}

static void do_nothing(void *arg)
{
}

/* ---- stories ---- */

static void mixed_story(void)
{
    struct queue_reason *reasons;
    struct queue_envelope *env;
    struct stat st;
    size_t n;
    int fd;

    put_message("AAAAAA000001", "s1@a.example d1@a.example b1@a.example s2@b.example");
    WAIT_UNTIL(is_in(QUEUE_DEFERRED, "AAAAAA000001"));
    assert_true(logged("AAAAAA000001: from=<me@x.example>, size=5, nrcpt=4 (queue active)\n"));
    assert_string_equal(buf_text(&seen.reported), "b1@a.example 5.1.1 no such user\n");
    assert_int_equal(seen.requests, 2);
    assert_null(queue_reasons_read(ctx, q, "AAAAAA000001", &reasons, &n));
    assert_int_equal(n, 1);
    assert_string_equal(reasons[0].rcpt, "d1@a.example");
    assert_string_equal(reasons[0].dsn, "4.2.0");
    assert_string_equal(reasons[0].text, "not now");
    assert_null(queue_message_open(q, QUEUE_DEFERRED, "AAAAAA000001", false, &fd));
    assert_null(queue_message_read(ctx, fd, &env));
    assert_int_equal(env->rcpts[0].state, QUEUE_RCPT_DONE);
    assert_int_equal(env->rcpts[1].state, QUEUE_RCPT_TODO);
    assert_int_equal(env->rcpts[2].state, QUEUE_RCPT_DONE);
    assert_int_equal(env->rcpts[3].state, QUEUE_RCPT_DONE);
    assert_int_equal(fstat(fd, &st), 0);
    close(fd);
    assert_in_range((uint64_t)st.st_mtime, clock_real_us() / 1000000 + 290, clock_real_us() / 1000000 + 301);

    seen.is_open = true;
    queue_notify(q, 'F');
    WAIT_UNTIL(is_nowhere("AAAAAA000001"));
    assert_true(logged("AAAAAA000001: removed\n"));
    assert_int_equal(seen.requests, 3);
}

static void test_mixed(void **state)
{
    run(mixed_story);
}

static void expired_story(void)
{
    put_message_at("AAAAAA000001", "me@x.example", "d1@a.example", 6 * 86400);
    put_message_at("AAAAAA000002", "", "d2@a.example", 6 * 86400);
    WAIT_UNTIL(is_nowhere("AAAAAA000001") && is_nowhere("AAAAAA000002"));
    assert_true(logged("AAAAAA000001: from=<me@x.example>, status=expired, returned to sender\n"));
    assert_non_null(strstr(buf_text(&seen.reported), "d1@a.example 4.2.0 not now\n"));
}

static void test_expired(void **state)
{
    run(expired_story);
}

static void unreported_story(void)
{
    seen.bounce_fails = true;
    put_message("AAAAAA000001", "b1@a.example");
    WAIT_UNTIL(is_in(QUEUE_DEFERRED, "AAAAAA000001"));
    seen.bounce_fails = false;
    queue_notify(q, 'F');
    WAIT_UNTIL(is_nowhere("AAAAAA000001"));
    assert_string_equal(buf_text(&seen.reported), "b1@a.example 5.1.1 no such user\n");
}

static void test_failure_waits_until_it_is_reported(void **state)
{
    run(unreported_story);
}

static void transports_story(void)
{
    put_message("AAAAAA000001", "s1@later.example");
    put_message("AAAAAA000002", "s1@unknown.example");
    put_message("AAAAAA000003", "s1@nosocket.example s2@a.example");
    WAIT_UNTIL(is_in(QUEUE_DEFERRED, "AAAAAA000001") && is_in(QUEUE_DEFERRED, "AAAAAA000002") &&
               is_in(QUEUE_DEFERRED, "AAAAAA000003"));
    assert_true(
        logged("dsn=4.3.0, status=deferred (mail transport \"later\" needs the command pipe, which this "
               "version does not have)"));
    assert_true(
        logged("status=deferred (unknown mail transport error: no transport \"nobody\" in master.cf)"));
    assert_true(logged("AAAAAA000003: to=<s1@nosocket.example>, relay=none"));
    assert_true(logged("status=deferred (mail transport unavailable)"));
    assert_true(logged("AAAAAA000003: to=<s2@a.example>, relay=fake"));
}

static void test_transports_that_do_not_work(void **state)
{
    set("transport_maps",
        "inline:{ {later.example=later:} {unknown.example=nobody:} {nosocket.example=nosocket:} }");
    add_service("nosocket", "virtual");
    run(transports_story);
}

static void window_story(void)
{
    char id[MAIL_ID_SIZE];
    int i;

    for (i = 0; i < 60; i++) {
        snprintf(id, sizeof(id), "AAAAAA%06d", i);
        put_message(id, "h1@a.example");
    }
    WAIT_UNTIL(logged("AAAAAA000059: from="));
    WAIT_UNTIL(seen.now == 3);
    assert_int_equal(seen.most, 3);
    seen.lets_go = true;
    WAIT_UNTIL(seen.requests == 60 && seen.now == 0);
    WAIT_UNTIL(is_nowhere("AAAAAA000059"));
    assert_in_range(seen.most, 4, 8);
}

static void test_concurrency_limit(void **state)
{
    set("default_destination_concurrency_limit", "8");
    set("initial_destination_concurrency", "3");
    run(window_story);
}

static void dead_story(void)
{
    char id[MAIL_ID_SIZE];
    int i;

    put_message("AAAAAA000000", "x1@dead.example");
    WAIT_UNTIL(is_in(QUEUE_DEFERRED, "AAAAAA000000"));
    for (i = 1; i < 20; i++) {
        snprintf(id, sizeof(id), "AAAAAA%06d", i);
        put_message(id, i == 19 ? "s1@alive.example" : "s1@dead.example");
    }
    WAIT_UNTIL(is_nowhere("AAAAAA000019") && is_in(QUEUE_DEFERRED, "AAAAAA000018"));
    assert_int_equal(seen.requests, 2);
    assert_true(logged("AAAAAA000007: to=<s1@dead.example>, relay=none"));
    assert_true(logged("dsn=4.4.1, status=deferred (delivery temporarily suspended: connect to x: refused)"));
    seen.is_open = true;
    queue_notify(q, 'F'); /* and now it lives again */
    WAIT_UNTIL(is_nowhere("AAAAAA000018"));
}

static void test_dead_destination(void **state)
{
    set("initial_destination_concurrency", "1");
    run(dead_story);
}

static void fair_story(void)
{
    struct buf many = {0};
    const char *at;
    int i;

    for (i = 0; i < 250; i++)
        buf_addf(&many, "%s%d@a.example ", i == 0 ? "h" : "s", i);
    put_message("AAAAAA000001", many.p);
    WAIT_UNTIL(strstr(buf_text(&seen.order), "h0") != NULL);
    put_message("AAAAAA000002", "small@a.example");
    put_message("AAAAAA000003", "other@b.example");
    WAIT_UNTIL(is_nowhere("AAAAAA000003")); /* another destination does not wait at all */
    WAIT_UNTIL(logged("AAAAAA000002: from="));
    seen.lets_go = true;
    WAIT_UNTIL(is_nowhere("AAAAAA000001") && is_nowhere("AAAAAA000002"));
    at = strstr(seen.order.p, "small@");
    assert_non_null(at);
    assert_true(at < strstr(seen.order.p, "s30@"));
    buf_deinit(&many);
}

static void test_many_recipients_do_not_block(void **state)
{
    set("default_destination_recipient_limit", "10");
    set("default_destination_concurrency_limit", "1");
    set("initial_destination_concurrency", "1");
    run(fair_story);
}

static void dying_story(void)
{
    fake_listener.dies = true;
    put_message("AAAAAA000001", "s1@a.example s2@a.example");
    WAIT_UNTIL(is_in(QUEUE_DEFERRED, "AAAAAA000001"));
    assert_true(logged("status=deferred (the delivery agent ended before it was done)"));
    fake_listener.dies = false;
    queue_notify(q, 'F');
    WAIT_UNTIL(is_nowhere("AAAAAA000001"));
    assert_int_equal(seen.requests, 1);
}

static void test_agent_that_dies(void **state)
{
    run(dying_story);
}

static void touched_story(void)
{
    int fd;

    put_message("AAAAAA000001", "h1@a.example");
    put_message("AAAAAA000002", "h1@b.example");
    WAIT_UNTIL(seen.now == 2);
    assert_null(queue_message_remove(q, QUEUE_ACTIVE, "AAAAAA000001"));
    assert_null(queue_message_move(q, "AAAAAA000002", QUEUE_ACTIVE, QUEUE_HOLD, 0));
    seen.lets_go = true;
    put_message("AAAAAA000003", "s1@a.example");
    WAIT_UNTIL(is_nowhere("AAAAAA000003"));
    WAIT_UNTIL(seen.now == 0);
    assert_true(is_nowhere("AAAAAA000001"));
    assert_true(is_in(QUEUE_HOLD, "AAAAAA000002"));

    put_message("AAAAAA000004", "s1@a.example");
    WAIT_UNTIL(is_nowhere("AAAAAA000004"));
    stop_scheduler();
    put_message("AAAAAA000005", "s1@a.example");
    assert_null(queue_message_open(q, QUEUE_INCOMING, "AAAAAA000005", false, &fd));
    assert_int_equal(pwrite(fd, "rubbish", 7, 0), 7);
    close(fd);
    start_scheduler();
    WAIT_UNTIL(is_in(QUEUE_CORRUPT, "AAAAAA000005"));
}

static void test_files_that_others_touch(void **state)
{
    run(touched_story);
}

/* The scan of incoming has been and saw nothing; the doorbell rings while that of deferred waits for a
 * thread. */
static void ring_story(void)
{
    struct hold *first, *second, *third;
    void *nothing = talloc_named_const(ctx, 0, "nothing");

    write_message(QUEUE_HOLD, "AAAAAA000001", "me@x.example", "s1@a.example", 0);
    stop_scheduler();
    first = hold_a_thread();
    second = hold_a_thread();
    WAIT_UNTIL(first->is_held && second->is_held);
    start_scheduler();
    co_yield (); /* it gave the scan of incoming to the pool */
    third = hold_a_thread();
    sem_post(&second->let_go);
    assert_int_equal(co_work(do_nothing, nothing, CO_NEVER, "the scan before"), CO_OK);
    assert_null(queue_message_move(q, "AAAAAA000001", QUEUE_HOLD, QUEUE_INCOMING, 0));
    queue_notify(q, 'W');
    sem_post(&third->let_go);
    sem_post(&first->let_go);
    WAIT_UNTIL(is_nowhere("AAAAAA000001"));
}

static void test_doorbell_during_a_scan(void **state)
{
    run(ring_story);
}

/* The queue is its owner's again only when no thread reads it any more. */
static void last_scan_story(void)
{
    struct hold *first, *second;

    stop_scheduler();
    first = hold_a_thread();
    second = hold_a_thread();
    WAIT_UNTIL(first->is_held && second->is_held);
    start_scheduler();
    co_yield (); /* it gave a scan to the pool */
    co_cancel(scheduler);
    for (int turn = 0; turn < 10; turn++)
        co_yield ();
    assert_true(scheduler_runs);
    sem_post(&first->let_go);
    sem_post(&second->let_go);
    WAIT_UNTIL(!scheduler_runs);
}

static void test_end_during_a_scan(void **state)
{
    run(last_scan_story);
}

static bool count_one(void *arg, const char *id, time_t mtime, uint64_t size)
{
    ++*(unsigned *)arg;
    return true;
}

static void room_story(void)
{
    char id[MAIL_ID_SIZE];
    unsigned active = 0, incoming = 0;
    int i;

    for (i = 0; i < 40; i++) {
        snprintf(id, sizeof(id), "AAAAAA%06d", i);
        put_message(id, "h1@a.example");
    }
    WAIT_UNTIL(seen.now == 4);
    assert_null(queue_scan(q, QUEUE_ACTIVE, count_one, &active));
    assert_null(queue_scan(q, QUEUE_INCOMING, count_one, &incoming));
    assert_int_equal(active, 4);
    assert_int_equal(incoming, 36);
    seen.lets_go = true;
    for (i = 0; i < 40; i++) {
        snprintf(id, sizeof(id), "AAAAAA%06d", i);
        WAIT_UNTIL(is_nowhere(id));
    }
    assert_int_equal(seen.most, 4);
}

static void test_active_limit(void **state)
{
    set("qmgr_message_active_limit", "4");
    run(room_story);
}

static void deferred_transport_story(void)
{
    put_message("AAAAAA000001", "s1@a.example");
    WAIT_UNTIL(is_in(QUEUE_DEFERRED, "AAAAAA000001"));
    assert_true(logged("dsn=4.3.2, status=deferred (deferred transport)"));
    queue_notify(q, 'F');
    WAIT_UNTIL(is_nowhere("AAAAAA000001"));
    assert_int_equal(seen.requests, 1);
}

static void test_deferred_transport_waits_for_a_flush(void **state)
{
    set("defer_transports", "other fake");
    run(deferred_transport_story);
}

static void softly_story(void)
{
    put_message("AAAAAA000001", "b1@a.example <>@");
    WAIT_UNTIL(is_in(QUEUE_DEFERRED, "AAAAAA000001"));
    assert_true(logged("dsn=5.1.1, status=SOFTBOUNCE (no such user)"));
    assert_string_equal(buf_text(&seen.reported), "");
}

static void test_soft_bounce(void **state)
{
    set("soft_bounce", "yes");
    run(softly_story);
}

/* The scheduler ends with a delivery under way; its successor waits for that agent's lock, then goes on. */
static void restart_story(void)
{
    put_message("AAAAAA000001", "h1@a.example h2@a.example");
    put_message("AAAAAA000002", "d1@b.example");
    WAIT_UNTIL(seen.now == 1 && is_in(QUEUE_DEFERRED, "AAAAAA000002"));
    stop_scheduler();
    assert_true(is_in(QUEUE_ACTIVE, "AAAAAA000001"));
    start_scheduler();
    WAIT_UNTIL(is_in(QUEUE_INCOMING, "AAAAAA000001"));
    seen.lets_go = true;
    WAIT_UNTIL(is_nowhere("AAAAAA000001"));
    assert_string_equal(strstr(seen.order.p, "h2@"), "h2@a.example "); /* once, and last */
    assert_ptr_equal(strstr(strstr(seen.order.p, "h1@") + 1, "h1@"), NULL);
    assert_true(logged("AAAAAA000001: removed\n"));
}

static void test_restart(void **state)
{
    run(restart_story);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_mixed, setup, teardown),
        cmocka_unit_test_setup_teardown(test_expired, setup, teardown),
        cmocka_unit_test_setup_teardown(test_failure_waits_until_it_is_reported, setup, teardown),
        cmocka_unit_test_setup_teardown(test_transports_that_do_not_work, setup, teardown),
        cmocka_unit_test_setup_teardown(test_concurrency_limit, setup, teardown),
        cmocka_unit_test_setup_teardown(test_dead_destination, setup, teardown),
        cmocka_unit_test_setup_teardown(test_many_recipients_do_not_block, setup, teardown),
        cmocka_unit_test_setup_teardown(test_agent_that_dies, setup, teardown),
        cmocka_unit_test_setup_teardown(test_files_that_others_touch, setup, teardown),
        cmocka_unit_test_setup_teardown(test_doorbell_during_a_scan, setup, teardown),
        cmocka_unit_test_setup_teardown(test_end_during_a_scan, setup, teardown),
        cmocka_unit_test_setup_teardown(test_active_limit, setup, teardown),
        cmocka_unit_test_setup_teardown(test_deferred_transport_waits_for_a_flush, setup, teardown),
        cmocka_unit_test_setup_teardown(test_soft_bounce, setup, teardown),
        cmocka_unit_test_setup_teardown(test_restart, setup, teardown),
    };

    setenv("CMOCKA_TEST_ABORT", "1", 1); /* a failed check must not jump out of a coroutine */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
