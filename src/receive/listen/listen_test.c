/* The accept loop against real loopback connections, and the memory of peer names. */
#include "clock.h"
#include "listen.h"
#include "log.h"
#include "mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

enum { SOON_MS = 10000 };

/* ---- names ---- */

static void test_names(void **state)
{
    static const struct {
        const char *name;
        bool is_valid;
    } cases[] = {
        {"mail.example.com", true}, {"localhost", true},       {"a_b.example", true},
        {"x--y.example", true},     {"1.2.3.4", false},        {"", false},
        {".example", false},        {"a..b", false},           {"example.com.", false},
        {"-a.example", false},      {"a-.example", false},     {"a.example-", false},
        {"a b.example", false},     {"a\r\nb.example", false}, {"caf\xc3\xa9.example", false},
        {"[1.2.3.4]", false},       {"123.45", false},         {"1-2.3", false},
    };
    char label[128];

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        if (listen_name_is_valid(cases[i].name) != cases[i].is_valid)
            fail_msg("%s", cases[i].name);
    memset(label, 'a', sizeof(label));
    label[63] = '\0';
    assert_true(listen_name_is_valid(label));
    label[63] = 'a';
    label[64] = '\0';
    assert_false(listen_name_is_valid(label));
}

static void test_peers_are_remembered_for_a_while(void **state)
{
    struct listen_peers *p = listen_peers_new(NULL, true);
    struct listen_peer found = {.name = "a.example", .reverse_name = "a.example"};

    assert_null(listen_peers_get(p, "192.0.2.1"));
    listen_peers_put(p, "192.0.2.1", &found);
    found.name = "unknown";
    found.name_is_temp = true;
    listen_peers_put(p, "192.0.2.2", &found);
    assert_string_equal(listen_peers_get(p, "192.0.2.1")->name, "a.example");
    assert_true(listen_peers_get(p, "192.0.2.2")->name_is_temp);
    clock_skip_ms(LISTEN_PEER_LIFE_MS - 1000);
    assert_non_null(listen_peers_get(p, "192.0.2.1"));
    clock_skip_ms(1001);
    assert_null(listen_peers_get(p, "192.0.2.1"));
    assert_int_equal(listen_peers_count(p), 1);
    talloc_free(p);
}

static void test_peers_are_bounded(void **state)
{
    struct listen_peers *p = listen_peers_new(NULL, true);
    const struct listen_peer found = {.name = "unknown", .reverse_name = "unknown"};
    char addr[46];

    for (unsigned i = 0; i < LISTEN_PEERS + 100; i++) {
        snprintf(addr, sizeof(addr), "10.0.%u.%u", i / 256, i % 256);
        listen_peers_put(p, addr, &found);
        assert_true(listen_peers_count(p) <= LISTEN_PEERS);
    }
    assert_int_equal(listen_peers_count(p), LISTEN_PEERS);
    assert_null(listen_peers_get(p, "10.0.0.99"));
    assert_non_null(listen_peers_get(p, "10.0.0.100"));
    talloc_free(p);
}

/* ---- accepting ---- */

struct scene {
    struct listen *listen;
    struct io_address address;
    unsigned places, reached, served;
    unsigned spare; /* how often it is told that it is */
    size_t memory;  /* that each session has */
    bool takes;
    struct co *waiting;
    char name[64], port[8];
};

static bool try_take(void *arg)
{
    struct scene *s = arg;

    if (s->places == 0)
        return false;
    s->places--;
    return true;
}

static void give(void *arg)
{
    struct scene *s = arg;

    s->places++;
    if (s->waiting != NULL)
        co_wake(s->waiting);
}

static bool is_spare(void *arg)
{
    struct scene *s = arg;

    return s->spare > 0 && s->spare-- > 0;
}

static void takes(void *arg, bool takes)
{
    struct scene *s = arg;

    s->takes = takes;
}

static co_fn enum co_end wait_for_place(void *arg, uint64_t deadline)
{
    struct scene *s = arg;
    enum co_end end;

    s->waiting = co_self();
    end = co_park(clock_ms() + 20, "a place");
    s->waiting = NULL;
    return end;
}

static void reached(void *arg)
{
    struct scene *s = arg;

    s->reached++;
}

/* Greets, and stays until the client leaves. */
static co_fn void serve(void *arg, void *ctx, struct io_stream *stream, struct mail_client *client)
{
    struct scene *s = arg;
    uint64_t deadline = clock_ms() + 30000;

    s->served++;
    if (s->memory > 0)
        memset(mem_bytes(ctx, s->memory), 1, s->memory);
    snprintf(s->name, sizeof(s->name), "%s[%s]", client->name, client->addr);
    io_write(stream, BYTES("220\r\n"), deadline);
    io_flush(stream, deadline);
    io_fill(stream, deadline);
}

static void open_scene(struct scene *s, unsigned places)
{
    struct error *e = NULL;
    struct io_address any;
    static int fd;

    s->places = places;
    assert_true(io_address_parse("127.0.0.1", 0, &any));
    fd = io_listen(&any, 100, &e);
    assert_true(fd >= 0);
    s->address.length = sizeof(s->address.sa);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&s->address.sa, &s->address.length), 0);
    s->listen =
        listen_start(NULL, &(struct listen_conf){.name = "test",
                                                 .fds = &fd,
                                                 .fd_count = 1,
                                                 .lookup_names = false,
                                                 .session = serve,
                                                 .arg = s,
                                                 .limit = {.try_take = try_take,
                                                           .give = give,
                                                           .wait = wait_for_place,
                                                           .reached = reached,
                                                           .arg = s},
                                                 .order = {.is_spare = is_spare, .takes = takes, .arg = s}});
}

static void run(struct scene *s, void (*client)(void *arg), unsigned places)
{
    co_init(1);
    open_scene(s, places);
    co_spawn(client, s, "client");
    co_run();
    talloc_free(s->listen);
    co_deinit();
}

static co_fn struct io_stream *dial(struct scene *s)
{
    struct io_stream *to = NULL;
    struct error *e = io_connect(NULL, &s->address, clock_ms() + SOON_MS, &to);

    assert_null(e);
    return to;
}

static co_fn bool is_greeted(struct io_stream *to, unsigned ms)
{
    return io_buffered(to).n > 0 || io_fill(to, clock_ms() + ms) == IO_OK;
}

static void talk_and_drain(void *arg)
{
    struct scene *s = arg;
    struct io_stream *a = dial(s), *late = NULL;
    struct error *e;

    assert_true(is_greeted(a, SOON_MS));
    assert_string_equal(s->name, "unknown[127.0.0.1]");
    assert_int_equal(listen_sessions(s->listen), 1);
    assert_int_equal(listen_idle_since(s->listen), 0);
    listen_drain(s->listen);
    assert_int_equal(listen_wait(s->listen, clock_ms() + 30), CO_TIMEOUT);
    e = io_connect(NULL, &s->address, clock_ms() + SOON_MS, &late);
    assert_non_null(e);
    error_free(&e);
    io_stream_close(&a);
    assert_int_equal(listen_wait(s->listen, clock_ms() + SOON_MS), CO_OK);
    assert_true(listen_idle_since(s->listen) > 0);
    assert_int_equal(s->places, 5);
}

static void test_drain_lets_sessions_finish(void **state)
{
    struct scene s = {0};

    run(&s, talk_and_drain, 5);
    assert_int_equal(s.served, 1);
    assert_int_equal(s.reached, 0);
}

static void wait_for_turn(void *arg)
{
    struct scene *s = arg;
    struct io_stream *a = dial(s), *b, *c;

    assert_true(is_greeted(a, SOON_MS));
    b = dial(s);
    c = dial(s);
    assert_false(is_greeted(b, 100));
    assert_false(is_greeted(c, 1));
    assert_true(listen_sessions(s->listen) <= 2); /* the third is still the kernel's */
    io_stream_close(&a);
    assert_true(is_greeted(b, SOON_MS));
    assert_false(is_greeted(c, 50));
    io_stream_close(&b);
    assert_true(is_greeted(c, SOON_MS));
    io_stream_close(&c);
    listen_drain(s->listen);
    listen_wait(s->listen, clock_ms() + SOON_MS);
}

static void test_clients_wait_for_a_place(void **state)
{
    struct scene s = {0};

    run(&s, wait_for_turn, 1);
    assert_int_equal(s.served, 3);
    assert_int_equal(s.places, 1);
    assert_in_range(s.reached, 1, 2);
}

static void leave_while_waiting(void *arg)
{
    struct scene *s = arg;
    struct io_stream *a = dial(s), *b = dial(s), *c;

    assert_true(is_greeted(a, SOON_MS));
    assert_false(is_greeted(b, 50));
    io_stream_close(&b);
    c = dial(s);
    assert_false(is_greeted(c, 200));
    io_stream_close(&a);
    assert_true(is_greeted(c, SOON_MS));
    io_stream_close(&c);
    listen_drain(s->listen);
    listen_wait(s->listen, clock_ms() + SOON_MS);
}

static void test_a_client_that_left_takes_no_place(void **state)
{
    struct scene s = {0};

    run(&s, leave_while_waiting, 1);
    assert_int_equal(s.served, 2);
    assert_int_equal(s.places, 1);
}

static void stop_at_once(void *arg)
{
    struct scene *s = arg;
    struct io_stream *a = dial(s), *b = dial(s);
    uint64_t before = clock_ms();

    assert_true(is_greeted(a, SOON_MS));
    assert_false(is_greeted(b, 50));
    listen_stop(s->listen);
    assert_int_equal(listen_wait(s->listen, clock_ms() + SOON_MS), CO_OK);
    assert_true(clock_ms() - before < SOON_MS); /* not when they have waited long enough */
    io_stream_close(&a);
    io_stream_close(&b);
}

static void test_stop_cancels_sessions(void **state)
{
    struct scene s = {0};

    run(&s, stop_at_once, 1);
    assert_int_equal(s.served, 1);
    assert_int_equal(s.places, 1);
}

static void come_after_each_other(void *arg)
{
    struct scene *s = arg;
    struct io_stream *a = dial(s), *b;
    uint64_t before = clock_ms();

    assert_true(is_greeted(a, SOON_MS));
    assert_true(s->takes);
    b = dial(s);
    assert_true(is_greeted(b, SOON_MS));
    assert_true(clock_ms() - before >= 4 * 49);
    assert_int_equal(s->spare, 0);
    io_stream_close(&a);
    io_stream_close(&b);
    listen_drain(s->listen);
    listen_wait(s->listen, clock_ms() + SOON_MS);
    assert_false(s->takes);
}

static void test_a_spare_worker_steps_back(void **state)
{
    struct scene s = {.spare = 4};

    run(&s, come_after_each_other, 5);
    assert_int_equal(s.served, 2);
}

static void drain_while_spare(void *arg)
{
    struct scene *s = arg;
    struct io_stream *a = dial(s), *b;

    assert_true(is_greeted(a, SOON_MS));
    b = dial(s);
    listen_drain(s->listen);
    assert_true(is_greeted(b, SOON_MS));
    io_stream_close(&a);
    io_stream_close(&b);
    listen_wait(s->listen, clock_ms() + SOON_MS);
}

static void test_a_spare_worker_drains(void **state)
{
    struct scene s = {.spare = 1000};

    run(&s, drain_while_spare, 5);
    assert_int_equal(s.served, 2);
}

/* ---- memory ---- */

enum { CROWD = 1200, EACH = 16384 };

static size_t resident_bytes(void)
{
    FILE *f = fopen("/proc/self/statm", "r");
    unsigned long size, resident;

    assert_non_null(f);
    assert_int_equal(fscanf(f, "%lu %lu", &size, &resident), 2);
    fclose(f);
    return resident * (size_t)sysconf(_SC_PAGESIZE);
}

static void crowd_comes_and_goes(void *arg)
{
    struct scene *s = arg;
    struct io_stream **all = mem_array(NULL, struct io_stream *, CROWD);
    size_t most;
    void *pin;

    for (size_t i = 0; i < CROWD; i++) {
        all[i] = dial(s);
        assert_true(is_greeted(all[i], SOON_MS));
    }
    pin = malloc(1000); /* above all that the sessions have */
    most = resident_bytes();
    for (size_t i = 0; i < CROWD; i++)
        io_stream_close(&all[i]);
    talloc_free(all);
    listen_drain(s->listen);
    listen_wait(s->listen, clock_ms() + SOON_MS);
    assert_true(most - resident_bytes() > (size_t)CROWD * EACH / 2);
    free(pin);
}

/* Its allocator keeps what was freed, to see who uses it. */
extern void __asan_init(void) __attribute__((weak));

static void test_a_crowds_memory_is_given_back(void **state)
{
    struct rlimit limit;
    struct scene s = {.memory = EACH};

    if (__asan_init != NULL)
        skip();
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    run(&s, crowd_comes_and_goes, CROWD);
    assert_int_equal(s.served, CROWD);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_peers_are_remembered_for_a_while),
        cmocka_unit_test(test_peers_are_bounded),
        cmocka_unit_test(test_drain_lets_sessions_finish),
        cmocka_unit_test(test_clients_wait_for_a_place),
        cmocka_unit_test(test_a_client_that_left_takes_no_place),
        cmocka_unit_test(test_stop_cancels_sessions),
        cmocka_unit_test(test_a_spare_worker_steps_back),
        cmocka_unit_test(test_a_spare_worker_drains),
        cmocka_unit_test(test_a_crowds_memory_is_given_back),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
