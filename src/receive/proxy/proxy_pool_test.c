/* The pool in a worker: names that change, messages that wait, connections that are kept. Listeners are this
 * process's own; the resolver is the test's. */
#include "proxy_pool.h"

#include "clock.h"
#include "log.h"
#include "mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

static struct conf *conf;

static struct proxy *open_pool(const char *endpoints)
{
    struct proxy *p;
    struct error *e = proxy_open(NULL, conf, endpoints, true, &p);

    assert_null(e);
    return p;
}

static void run(void (*fn)(void *arg))
{
    co_init(2);
    co_spawn(fn, NULL, "test");
    co_run();
    co_deinit();
}

static struct proxy_target *take(struct proxy *p, uint64_t ms)
{
    return proxy_pool_take(p, &(struct proxy_need){.deadline = clock_ms() + ms, .is_patient = true});
}

static void give(struct proxy *p, struct proxy_target *t, enum proxy_outcome outcome)
{
    proxy_pool_give(p, t, &(struct proxy_work){.outcome = outcome, .ms = 8});
}

/* ---- what a parameter says ---- */

static void test_endpoints_of_a_parameter(void **state)
{
    static const struct {
        const char *text;
        size_t targets, names;
        const char *first; /* as the log has it, and the host's key */
        const char *key;
    } cases[] = {
        {"127.0.0.1:10025", 1, 0, "127.0.0.1:10025", "127.0.0.1:10025"},
        {"inet:127.0.0.1:10025", 1, 0, "inet:127.0.0.1:10025", "127.0.0.1:10025"},
        {" [::1]:25 ,\tunix:/run/f, 127.0.0.1:1 ", 3, 0, "[::1]:25", "[::1]:25"},
        {"unix:/run/f 127.0.0.1:1", 2, 0, "unix:/run/f", "unix:/run/f"},
        {"127.0.0.1:1,127.0.0.1:1", 1, 0, "127.0.0.1:1", "127.0.0.1:1"},
        {"127.0.0.1:1 filter.example:25 10025", 1, 2, "127.0.0.1:1", "127.0.0.1:1"},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct proxy *p = open_pool(cases[i].text);

        assert_int_equal(p->target_count, cases[i].targets);
        assert_int_equal(p->name_count, cases[i].names);
        assert_string_equal(p->targets[0]->text, cases[i].first);
        assert_string_equal(p->entries[0]->key, cases[i].key);
        talloc_free(p);
    }
}

static void test_endpoints_that_are_none(void **state)
{
    static const char *const cases[] = {"", " , ", "127.0.0.1:", "unix:", "127.0.0.1:1, [::1]"};

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        void *ctx = talloc_new(NULL);
        struct proxy *p;
        struct error *e = proxy_open(ctx, conf, cases[i], true, &p);

        assert_non_null(e);
        assert_int_equal(e->kind, ERROR_CONF);
        error_free(&e);
        talloc_free(ctx);
    }
}

static void test_more_endpoints_than_there_is_room_for(void **state)
{
    void *ctx = talloc_new(NULL);
    char *text = talloc_strdup(ctx, "");
    struct proxy *p;
    struct error *e;

    for (int i = 0; i <= PROXY_TARGETS; i++)
        text = talloc_asprintf_append(text, "127.0.0.1:%d ", i + 1);
    e = proxy_open(ctx, conf, text, true, &p);
    assert_non_null(e);
    error_free(&e);
    talloc_free(ctx);
}

/* ---- names ---- */

/* What the resolver says: addresses 127.0.0.x by the letters of this text; "!": no such host; "?": not now.
 */
static const char *answer;
static unsigned asked;

static co_fn struct error *resolve(const void *ctx, const char *host, const char *service, int family,
                                   uint64_t deadline, struct io_address **found_r, size_t *n_r)
{
    asked++;
    co_sleep(clock_ms() + 5, "the test's resolver");
    if (strchr("!?", answer[0]) != NULL)
        return error_new(answer[0] == '!' ? ERROR_PERM : ERROR_TEMP, "%s: %s", host, answer);
    *n_r = strlen(answer);
    *found_r = mem_array(ctx, struct io_address, *n_r);
    for (size_t i = 0; i < *n_r; i++) {
        char text[16];

        snprintf(text, sizeof(text), "127.0.0.%d", answer[i]);
        io_address_parse(text, 25, &(*found_r)[i]);
    }
    return NULL;
}

static struct proxy *open_name(const char *first_answer)
{
    struct proxy *p = open_pool("filter.example:25");

    p->resolve = resolve;
    p->resolve_ms = 20;
    answer = first_answer;
    asked = 0;
    return p;
}

static co_fn void wait_for_targets(struct proxy *p, size_t n)
{
    uint64_t until = clock_ms() + 5000;

    while (p->target_count != n && clock_ms() < until)
        co_sleep(clock_ms() + 2, "targets");
    assert_int_equal(p->target_count, n);
}

static co_fn void addresses_come_and_go(void *arg)
{
    struct proxy *p = open_name("A");
    struct proxy_target *one = take(p, 5000), *two;

    assert_non_null(one);
    assert_string_equal(one->text, "filter.example:25");
    answer = "BC";
    wait_for_targets(p, 2);
    assert_true(one->is_gone); /* and still there for the message that it has */
    assert_string_equal(p->targets[0]->text, "filter.example[127.0.0.66]:25");
    two = take(p, 5000);
    assert_ptr_not_equal(two, one);
    give(p, one, PROXY_ANSWERED);
    answer = "!"; /* denied or silent: what is known stays */
    asked = 0;
    while (asked < 3)
        co_sleep(clock_ms() + 2, "look-ups");
    assert_int_equal(p->target_count, 2);
    give(p, two, PROXY_ANSWERED);
    talloc_free(p);
}

static void test_addresses_come_and_go(void **state)
{
    run(addresses_come_and_go);
}

static void count_line(const char *line, void *arg)
{
    *(unsigned *)arg += strstr(line, "messages wait for its addresses") != NULL;
}

static co_fn void unknown_name(void *arg)
{
    struct proxy *p = open_name("?");
    uint64_t since = clock_ms();
    unsigned lines = 0;

    assert_null(take(p, 1));
    assert_string_equal(proxy_pool_trouble(p), "its addresses are not known yet");
    log_capture(count_line, &lines);
    assert_null(proxy_pool_take(p, &(struct proxy_need){.deadline = since + 60000}));
    assert_true(clock_ms() - since < 10000); /* one that is not patient is told at once */
    assert_string_equal(proxy_pool_trouble(p), "filter.example: ?");
    assert_null(take(p, 20));
    log_capture(NULL, NULL);
    assert_int_equal(lines, 1); /* once, not at each look-up */
    answer = "A";
    assert_non_null(p->target_count ? p->targets[0] : take(p, 10000));
    assert_string_equal(proxy_pool_trouble(p), "");
    talloc_free(p);
}

static void test_unknown_name(void **state)
{
    run(unknown_name);
}

static co_fn void pool_that_ends_first(void *arg)
{
    struct proxy *p = open_name("A");

    proxy_names_start(p);
    talloc_free(p); /* before the look-up began */
    p = open_name("A");
    proxy_names_start(p);
    co_sleep(clock_ms() + 2, "the look-up to begin");
    talloc_free(p); /* while it is under way */
}

static void test_pool_that_ends_first(void **state)
{
    run(pool_that_ends_first);
}

/* ---- waiting ---- */

struct waiting {
    struct proxy *p;
    struct proxy_target *got;
    uint64_t ms;
};

static co_fn void wait_in_turn(void *arg)
{
    struct waiting *w = arg;
    uint64_t since = clock_ms();

    w->got = take(w->p, 10000);
    w->ms = clock_ms() - since;
}

static co_fn void room_is_passed_on(void *arg)
{
    struct proxy *p = open_pool("127.0.0.1:1");
    struct proxy_target *t;
    struct waiting w = {.p = p};

    p->rules.concurrency = 1;
    t = take(p, 1000);
    assert_null(take(p, 20));
    co_spawn(wait_in_turn, &w, "waits");
    co_sleep(clock_ms() + 200, "its longer steps");
    give(p, t, PROXY_ANSWERED);
    co_yield ();
    co_yield ();
    assert_ptr_equal(w.got, t); /* at once, not at its next look */
    give(p, t, PROXY_ANSWERED);
    assert_int_equal(t->entry->latency_us, 8000);
    assert_int_equal(t->entry->messages, 0);
    talloc_free(p);
}

static void test_room_is_passed_on(void **state)
{
    run(room_is_passed_on);
}

/* ---- probes and health ---- */

struct listening {
    int fd;
    unsigned port, accepted;
    const char *greeting;
    struct co *co;
};

/* Until it is cancelled. */
static co_fn void greet(void *arg)
{
    struct listening *l = arg;
    struct io_listener *listener = io_listener_new(NULL, l->fd);
    struct io_address peer;
    int fd, code;

    while (io_accept(listener, CO_NEVER, &fd, &peer, &code) == IO_OK) {
        struct io_stream *s = io_stream_new(NULL, fd);

        l->accepted++;
        io_write(s, bytes_of(l->greeting), CO_NEVER);
        io_flush(s, CO_NEVER);
        while (io_fill(s, CO_NEVER) == IO_OK)
            ;
        io_stream_close(&s);
    }
    io_listener_close(&listener);
    close(l->fd);
}

static struct proxy *listen_and_open(struct listening *l)
{
    struct io_address a;
    struct error *e;
    socklen_t size = sizeof(a.sa);
    char text[64];

    assert_true(io_address_parse("127.0.0.1", 0, &a));
    l->fd = io_listen(&a, 8, &e);
    assert_true(l->fd >= 0);
    getsockname(l->fd, (struct sockaddr *)&a.sa, &size);
    l->port = io_address_port(&a);
    l->co = co_spawn(greet, l, "listener");
    snprintf(text, sizeof(text), "127.0.0.1:%u,127.0.0.1:1", l->port);
    return open_pool(text);
}

static co_fn void probe_brings_it_back(void *arg)
{
    struct listening l = {.greeting = "220 here\r\n"};
    struct proxy *p = listen_and_open(&l);
    struct proxy_entry *e = p->entries[0];
    struct proxy_target *t;
    uint64_t until;

    p->rules.ejection_ms = 60000;
    proxy_note_failed(e, &p->rules, "x");
    t = take(p, 100);
    assert_ptr_equal(t, p->targets[1]);
    give(p, t, PROXY_ANSWERED);
    assert_int_equal(l.accepted, 0); /* its time is not over */
    clock_skip_ms(p->rules.ejection_ms);
    until = clock_ms() + 10000;
    for (int i = 0; i < 3; i++)
        give(p, take(p, 100), PROXY_ANSWERED);
    while (e->ejected_until != 0 && clock_ms() < until)
        co_sleep(clock_ms() + 2, "the probe");
    assert_int_equal(e->ejected_until, 0);
    assert_int_equal(l.accepted, 1);
    talloc_free(p);
    co_cancel(l.co);
    while (co_count() > 1)
        co_yield ();
}

static void test_probe_brings_it_back(void **state)
{
    run(probe_brings_it_back);
}

static co_fn void wait_until_back(struct proxy_entry *e)
{
    uint64_t until = clock_ms() + 10000;

    while (e->ejected_until != 0 && clock_ms() < until)
        co_sleep(clock_ms() + 2, "the probe");
    assert_int_equal(e->ejected_until, 0);
}

static co_fn void end_listener(struct listening *l)
{
    co_cancel(l->co);
    while (co_count() > 1)
        co_yield ();
}

/* The other one is up, and has no room: who waits for it learns that this one is back. */
static co_fn void probe_while_the_other_is_full(void *arg)
{
    struct listening l = {.greeting = "220 here\r\n"};
    struct proxy *p = listen_and_open(&l);
    struct proxy_target *busy, *t;

    p->rules.concurrency = 1;
    p->rules.ejection_ms = 60000;
    proxy_note_failed(p->entries[0], &p->rules, "x");
    busy = take(p, 100);
    assert_ptr_equal(busy, p->targets[1]);
    assert_null(take(p, 20));
    clock_skip_ms(p->rules.ejection_ms);
    t = take(p, 10000);
    assert_ptr_equal(t, p->targets[0]);
    give(p, t, PROXY_ANSWERED);
    give(p, busy, PROXY_ANSWERED);
    talloc_free(p);
    end_listener(&l);
}

static void test_probe_while_the_other_is_full(void **state)
{
    run(probe_while_the_other_is_full);
}

/* It says nothing of the endpoint, and another one may ask soon. */
static co_fn void probe_without_descriptors(void *arg)
{
    struct proxy *p = open_pool("127.0.0.2:1");
    struct proxy_entry *e = p->entries[0];
    struct rlimit before, none;
    uint64_t ejected_until;

    proxy_note_failed(e, &p->rules, "x");
    ejected_until = e->ejected_until;
    clock_skip_ms(p->rules.ejection_ms);
    e->trial_until = clock_ms() + proxy_probe_ms(&p->rules);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    none = (struct rlimit){0, before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    proxy_probe_start(p, p->targets[0]);
    while (co_count() > 1)
        co_yield ();
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_int_equal(e->ejected_until, ejected_until);
    assert_false(proxy_wants_probe(e, clock_ms()));
    assert_true(proxy_wants_probe(e, clock_ms() + p->rules.ejection_ms));
    talloc_free(p);
}

static void test_probe_without_descriptors(void **state)
{
    run(probe_without_descriptors);
}

/* ---- what a client declares ---- */

static co_fn void begin_streamed(void *arg)
{
    static const struct mail_envelope envelope = {.id = "1A", .sender = "", .size = INT64_MAX};
    static const struct mail_client client = {.name = "unknown", .addr = "192.0.2.1"};
    struct mail_sink *sink = proxy_sink(NULL, arg);
    struct mail_reply r = sink->ops->begin(sink, &client, &envelope);

    mail_reply_deinit(&r);
    talloc_free(sink);
}

static co_fn void declared_size(void *arg)
{
    struct listening l = {.greeting = "220 here\r\n"};
    struct proxy *p = listen_and_open(&l);
    struct co *co;

    p->is_whole = false;
    p->target_count = 1;
    co = co_spawn(begin_streamed, p, "begins");
    for (int i = 0; i < 10000 && l.accepted == 0; i++)
        co_sleep(clock_ms() + 1, "the connection");
    assert_int_equal(p->entries[0]->messages, 1);
    assert_in_range(p->entries[0]->bytes, 1, 1 << 30);
    co_cancel(co);
    end_listener(&l);
    talloc_free(p);
}

static void test_declared_size(void **state)
{
    run(declared_size);
}

static co_fn void health_is_asked(void *arg)
{
    struct listening l = {.greeting = "554 no service\r\n"};
    struct proxy *p = listen_and_open(&l);
    uint64_t until = clock_ms() + 5000;

    p->health_ms = 50;
    give(p, take(p, 100), PROXY_ANSWERED);
    while ((p->entries[0]->ejected_until == 0 || p->entries[1]->ejected_until == 0) && clock_ms() < until)
        co_sleep(clock_ms() + 2, "the questions");
    assert_int_equal(p->entries[0]->fails, 1);
    assert_int_equal(p->entries[1]->fails, 1); /* nobody listens there */
    talloc_free(p);
    co_cancel(l.co);
    while (co_count() > 1)
        co_yield ();
}

static void test_health_is_asked(void **state)
{
    run(health_is_asked);
}

/* ---- kept connections ---- */

static struct smtp_client *memory_client(const char *unread)
{
    return smtp_client_new(NULL, io_memory_new(NULL, bytes_of(unread), 0), "x");
}

static co_fn void kept_connections(void *arg)
{
    struct proxy *p = open_pool("127.0.0.1:1");
    struct proxy_target *t = p->targets[0];
    struct listening l = {.greeting = "220 here\r\n"};
    struct proxy *other = listen_and_open(&l);
    struct smtp_client *server;
    struct io_stream *stream;
    struct proxy_kept *k;

    p->idle_ms = 30;
    server = memory_client("421 unasked\r\n");
    proxy_kept_put(p, t, &server, 1, false, PROXY_CHUNKS_UNASKED);
    assert_null(server);
    assert_null(proxy_kept_take(t)); /* it spoke, or is gone */
    assert_null(io_connect(NULL, &other->targets[0]->address, clock_ms() + 10000, &stream));
    server = smtp_client_new(NULL, stream, "x");
    assert_int_equal(smtp_client_greeting(server, clock_ms() + 10000), IO_OK);
    proxy_kept_put(p, t, &server, 3, true, PROXY_CHUNKS_UNASKED);
    k = proxy_kept_take(t);
    assert_non_null(k);
    assert_int_equal(k->used, 3);
    assert_true(k->is_dirty);
    server = talloc_steal(NULL, k->server);
    talloc_free(k);
    proxy_kept_put(p, t, &server, 4, false, PROXY_CHUNKS_UNASKED);
    for (int i = 0; i < 10000 && p->keeper != NULL; i++)
        co_sleep(clock_ms() + 1, "its idle time");
    assert_null(t->kept);
    assert_null(p->keeper); /* nothing is left to do */
    server = memory_client("");
    proxy_kept_put(p, t, &server, 1, false, PROXY_CHUNKS_UNASKED);
    talloc_free(p); /* with its connections */
    talloc_free(other);
    co_cancel(l.co);
    while (co_count() > 1)
        co_yield ();
}

static void test_kept_connections(void **state)
{
    run(kept_connections);
}

/* What goes over a kept connection hears no greeting. */
static co_fn void probe_beside_a_kept_connection(void *arg)
{
    struct listening l = {.greeting = "220 here\r\n"};
    struct proxy *p = listen_and_open(&l);
    struct smtp_client *server = memory_client("");
    struct proxy_target *t;

    p->target_count = 1;
    proxy_kept_put(p, p->targets[0], &server, 1, false, PROXY_CHUNKS_UNASKED);
    proxy_note_failed(p->entries[0], &p->rules, "x");
    clock_skip_ms(p->rules.ejection_ms);
    t = take(p, 1000);
    assert_ptr_equal(t, p->targets[0]);
    wait_until_back(t->entry);
    give(p, t, PROXY_ANSWERED);
    talloc_free(p);
    end_listener(&l);
}

static void test_probe_beside_a_kept_connection(void **state)
{
    run(probe_beside_a_kept_connection);
}

static int prepare(void **state)
{
    struct conf_faults faults = {.ctx = talloc_new(NULL)};

    conf = conf_read(faults.ctx, NULL, &faults);
    log_capture(NULL, NULL);
    proxy_enter(0);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_endpoints_of_a_parameter),
        cmocka_unit_test(test_endpoints_that_are_none),
        cmocka_unit_test(test_more_endpoints_than_there_is_room_for),
        cmocka_unit_test(test_addresses_come_and_go),
        cmocka_unit_test(test_unknown_name),
        cmocka_unit_test(test_pool_that_ends_first),
        cmocka_unit_test(test_room_is_passed_on),
        cmocka_unit_test(test_probe_brings_it_back),
        cmocka_unit_test(test_probe_while_the_other_is_full),
        cmocka_unit_test(test_probe_without_descriptors),
        cmocka_unit_test(test_health_is_asked),
        cmocka_unit_test(test_declared_size),
        cmocka_unit_test(test_kept_connections),
        cmocka_unit_test(test_probe_beside_a_kept_connection),
    };

    return cmocka_run_group_tests(tests, prepare, NULL);
}
