/* queue/rewrite: standard form; which transport and next hop a recipient has. */
#include "log.h"
#include "mem.h"
#include "rewrite.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

struct setting {
    const char *name, *value;
};

static const struct setting basis[] = {
    {"myhostname", "mx.example.com"},
    {"mydomain", "example.com"},
    {"mydestination", "mx.example.com, localhost"},
    {"virtual_alias_domains", "alias.example"},
    {"virtual_alias_maps", "inline:{{a@alias.example=b@elsewhere.example}}"},
    {"virtual_mailbox_domains", "box.example"},
    {"relay_domains", "relay.example"},
    {"recipient_delimiter", "+"},
    {"append_dot_mydomain", "no"},
    {"local_recipient_maps", ""},
    {NULL, NULL},
};

static void *ctx;

static int setup(void **state)
{
    ctx = talloc_new(NULL);
    co_init(1);
    return 0;
}

static int teardown(void **state)
{
    talloc_free(ctx);
    co_deinit();
    return 0;
}

static struct rewrite *open_with(const struct setting *more)
{
    struct conf_faults faults = {.ctx = ctx};
    struct conf *conf = conf_read(ctx, NULL, &faults);
    struct rewrite *rw = NULL;
    struct error *e;

    for (const struct setting *s = basis; s->name != NULL; s++)
        conf_set(conf, s->name, s->value, "test", 1);
    for (; more != NULL && more->name != NULL; more++)
        conf_set(conf, more->name, more->value, "test", 1);
    e = rewrite_open(ctx, conf, &rw);
    if (e != NULL)
        fail_msg("%s", e->text);
    return rw;
}

static void test_standard_form(void **state)
{
    static const struct setting bare[] = {{"append_at_myorigin", "no"}, {NULL, NULL}};
    static const struct setting dotted[] = {
        {"append_dot_mydomain", "yes"}, {"myorigin", "Origin"}, {NULL, NULL}};
    static const struct {
        const struct setting *more;
        const char *in, *out;
    } cases[] = {
        {NULL, "", ""},
        {NULL, "user", "user@mx.example.com"},
        {NULL, "User@Host", "User@Host"},
        {NULL, "user@host.example.", "user@host.example"},
        {NULL, "a@b@c", "a@b@c"},
        {NULL, "user@", "user@mx.example.com"},
        {NULL, "user@[192.0.2.1]", "user@[192.0.2.1]"},
        {NULL, "user%x.example", "user%x.example@mx.example.com"},
        {NULL, "x.example!user", "x.example!user@mx.example.com"},
        {bare, "user", "user"},
        {dotted, "user", "user@Origin.example.com"},
        {dotted, "user@host", "user@host.example.com"},
        {dotted, "user@host.", "user@host.example.com"},
        {dotted, "user@host.example", "user@host.example"},
        {dotted, "user@[::1]", "user@[::1]"},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_string_equal(rewrite_standard_form(open_with(cases[i].more), ctx, cases[i].in), cases[i].out);
}

/* ---- resolving ---- */

struct ask {
    const struct rewrite *rw;
    const char *recipient;
    struct rewrite_route route;
    enum rewrite_end end;
};

static void ask_in_co(void *arg)
{
    struct ask *ask = arg;

    ask->end = rewrite_resolve(ask->rw, ctx, "sender@example.com", ask->recipient, &ask->route);
}

static struct ask resolve(const struct setting *more, const char *recipient)
{
    struct ask ask = {.rw = open_with(more), .recipient = recipient};

    co_spawn(ask_in_co, &ask, "ask");
    co_run();
    return ask;
}

static const struct setting relayed[] = {{"relayhost", "[192.0.2.9]:587"}, {NULL, NULL}};
static const struct setting fixed[] = {
    {"relayhost", "[192.0.2.9]"},
    {"default_transport", "smtp:[127.0.0.1]:2525"},
    {"relay_transport", "lmtp:unix:/x"},
    {"local_transport", "virtual"},
    {"virtual_transport", "lmtp:inet:box:24"},
    {NULL, NULL},
};
static const struct setting mapped[] = {
    {"transport_maps",
     "inline:{{user@d.example=one:}, {user+ext@d.example=two:X:Y}, {d.example=:there}, "
     "{.d.example=sub:}, {*=last:}, {gone.example=error:5.1.2 Gone, Sir}, {same.example=:}, "
     "{box.example=lmtp:box}}"},
    {NULL, NULL},
};
static const struct setting parents[] = {
    {"transport_maps", "inline:{{d.example=one:}, {.e.example=two:}}"},
    {"parent_domain_matches_subdomains", "transport_maps"},
    {NULL, NULL},
};
static const struct setting patterns[] = {
    {"transport_maps", "regexp:{{/^user@d\\.example$$/ one:}, {/^d\\.example$$/ two:}, {/^\\*$$/ three:}}"},
    {NULL, NULL},
};

static void test_resolve(void **state)
{
    static const struct {
        const struct setting *more;
        const char *recipient, *transport, *nexthop;
    } cases[] = {
        {NULL, "user@mx.example.com", "local", "mx.example.com"},
        {NULL, "user@MX.example.com.", "local", "mx.example.com"},
        {NULL, "user", "local", "mx.example.com"},
        {NULL, "user@box.example", "virtual", "box.example"},
        {NULL, "user@Relay.example", "relay", "relay.example"},
        {NULL, "user@Far.Example", "smtp", "far.example"},
        {NULL, "user@[192.0.2.1]", "smtp", "[192.0.2.1]"},
        {relayed, "user@far.example", "smtp", "[192.0.2.9]:587"},
        {relayed, "user@relay.example", "relay", "[192.0.2.9]:587"},
        {relayed, "user@box.example", "virtual", "box.example"},
        {fixed, "user@far.example", "smtp", "[127.0.0.1]:2525"},
        {fixed, "user@relay.example", "lmtp", "unix:/x"},
        {fixed, "user@localhost", "virtual", "localhost"},
        {fixed, "user@box.example", "lmtp", "inet:box:24"},
        {mapped, "user@d.example", "one", "d.example"},
        {mapped, "USER@D.example", "one", "d.example"},
        {mapped, "user+ext@d.example", "two", "X:Y"},
        {mapped, "user+other@d.example", "one", "d.example"},
        {mapped, "else@d.example", "smtp", "there"},
        {mapped, "user@sub.d.example", "sub", "sub.d.example"},
        {mapped, "user@a.sub.d.example", "sub", "a.sub.d.example"},
        {mapped, "user@other.example", "last", "other.example"},
        {mapped, "user@localhost", "last", "localhost"},
        {mapped, "user@gone.example", "error", "5.1.2 Gone, Sir"},
        {mapped, "user@same.example", "smtp", "same.example"},
        {mapped, "user@box.example", "lmtp", "box"},
        {parents, "user@sub.d.example", "one", "sub.d.example"},
        {parents, "user@sub.e.example", "smtp", "sub.e.example"},
        {patterns, "user@d.example", "one", "d.example"},
        {patterns, "user+x@d.example", "smtp", "d.example"},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct ask ask = resolve(cases[i].more, cases[i].recipient);

        if (ask.end != REWRITE_ROUTE || strcmp(ask.route.transport, cases[i].transport) != 0 ||
            strcmp(ask.route.nexthop, cases[i].nexthop) != 0)
            fail_msg("case %zu, %s: %d %s:%s %s", i, cases[i].recipient, ask.end, ask.route.transport,
                     ask.route.nexthop, ask.route.text ? ask.route.text : "");
    }
}

static void test_what_cannot_be_resolved(void **state)
{
    static const struct setting broken[] = {{"transport_maps", "fail:x"}, {NULL, NULL}};
    static char long_one[2000];
    const struct {
        const struct setting *more;
        const char *recipient;
        enum rewrite_end end;
        const char *dsn;
    } cases[] = {
        {NULL, "user@alias.example", REWRITE_REFUSED, "5.1.1"},
        {NULL, "", REWRITE_REFUSED, "5.1.3"},
        {NULL, "@far.example", REWRITE_REFUSED, "5.1.3"},
        {NULL, "user@", REWRITE_REFUSED, "5.1.3"},
        {NULL, "user@.far.example", REWRITE_REFUSED, "5.1.3"},
        {NULL, "user@far..example", REWRITE_REFUSED, "5.1.3"},
        {NULL, "user@far example", REWRITE_REFUSED, "5.1.3"},
        {NULL, "us\ner@far.example", REWRITE_REFUSED, "5.1.3"},
        {NULL, "user@[not a literal]", REWRITE_REFUSED, "5.1.3"},
        {NULL, long_one, REWRITE_REFUSED, "5.1.3"},
        {broken, "user@far.example", REWRITE_LATER, "4.3.0"},
    };

    memset(long_one, 'x', sizeof(long_one) - 1);
    log_set_verbose(false);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct ask ask;

        ask = resolve(cases[i].more, cases[i].recipient);
        if (ask.end != cases[i].end || strcmp(ask.route.dsn, cases[i].dsn) != 0)
            fail_msg("case %zu, %s: %d %s", i, cases[i].recipient, ask.end, ask.route.dsn);
    }
}

static void test_filter_route(void **state)
{
    static const struct setting with_nexthop[] = {{"default_filter_nexthop", "filter.example"}, {NULL, NULL}};
    struct rewrite_route route;

    assert_true(rewrite_filter_route(open_with(NULL), ctx, "smtp:[127.0.0.1]:10025", "a@B.example", &route));
    assert_string_equal(route.transport, "smtp");
    assert_string_equal(route.nexthop, "[127.0.0.1]:10025");
    assert_true(rewrite_filter_route(open_with(NULL), ctx, "scan:", "a@B.example", &route));
    assert_string_equal(route.nexthop, "b.example");
    assert_true(rewrite_filter_route(open_with(with_nexthop), ctx, "scan", "a@B.example", &route));
    assert_string_equal(route.nexthop, "filter.example");
    assert_false(rewrite_filter_route(open_with(NULL), ctx, ":x", "a@B.example", &route));
    assert_false(rewrite_filter_route(open_with(NULL), ctx, "", "a@B.example", &route));
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        CASE(test_standard_form),
        CASE(test_resolve),
        CASE(test_what_cannot_be_resolved),
        CASE(test_filter_route),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
