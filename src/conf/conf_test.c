/* conf: logical lines, main.cf, expansion, values, lists. */
#include "conf_test_own.h"

/* ---- lines and main.cf ---- */

static void test_lines(void **state)
{
    static const struct {
        const char *text;
        const char *value; /* of "a"; NULL: not set */
    } cases[] = {
        {"a=b", "b"},
        {"a = b", "b"},
        {"a\t=\tb \t\n", "b"},
        {"a = b\r\n", "b"},
        {"a =\n", ""},
        {"a = b\n c\n", "b c"},
        {"a = b\n\n c\n", "b c"},
        {"a = b\n# comment\n   # another\n\tc\n", "b\tc"},
        {"a =\n  b,\n  c\n", "b,\n  c"},
        {"a = b # c\n", "b # c"},
        {"a = \"b\"\n", "\"b\""},
        {"a = b = c\n", "b = c"},
        {"# a = b\n", NULL},
        {"  # x\n\na = b", "b"},
        {"a = b\na = c\n", "c"},
        {"a = b\nx = y\n c\n", "b"},
        {" a = b\n", NULL},
        {" a = b\n  more\na = c\n", "c"},
    };

    for (size_t i = 0; i < COUNT(cases); i++) {
        struct world w;
        const struct conf_entry *e;

        world_init(&w, cases[i].text, NULL);
        e = conf_entry_find(w.conf, "a");
        if (cases[i].value == NULL) {
            assert_null(e);
        } else {
            assert_non_null(e);
            if (strchr(cases[i].value, '\n') == NULL)
                assert_string_equal(e->value, cases[i].value);
            else
                assert_string_equal(e->value, "b,  c");
        }
        world_deinit(&w);
    }
}

static void test_line_faults(void **state)
{
    static const struct {
        const char *text;
        enum conf_severity severity;
        unsigned line;
        const char *fault;
    } cases[] = {
        {"\n myhostname = x\n", CONF_WARNING, 2,
         "logical line must not start with whitespace: \"myhostname = x\""},
        {"myhostname\n", CONF_ERROR, 1, "missing '=' after attribute name"},
        {"#\n\nmyhostname x = y\n", CONF_ERROR, 3, "missing '=' after attribute name"},
        {"= x\n", CONF_ERROR, 1, "missing attribute name"},
        {"biff = no\nmail_name = x\nbiff = yes\n", CONF_WARNING, 3, "overriding earlier entry: biff=yes"},
        {"mail_nmae = x\n", CONF_WARNING, 1, "unused parameter: mail_nmae=x (did you mean mail_name?)"},
        {"zzzzzzzzzz = x\n", CONF_WARNING, 1, "unused parameter: zzzzzzzzzz=x"},
        {"smtpd_tls_ciphers = x\n", CONF_WARNING, 1, "Postfix has this parameter"},
    };

    for (size_t i = 0; i < COUNT(cases); i++) {
        struct world w;

        world_init(&w, cases[i].text, NULL);
        if (!world_has(&w, cases[i].severity, "main.cf", cases[i].line, cases[i].fault)) {
            world_show(&w);
            fail_msg("case %zu", i);
        }
        world_deinit(&w);
    }
}

static void test_nul_byte(void **state)
{
    static const char text[] = "mail_name = a\0b\nmydomain = c\n";
    struct world w;

    world_init(&w, "", NULL);
    conf_main_parse(w.conf, bytes(text, sizeof(text) - 1), "main.cf", &w.faults);
    assert_true(world_has(&w, CONF_WARNING, "main.cf", 1, "text after null byte may be ignored"));
    assert_string_equal(conf_text(w.conf, "mail_name"), "a");
    assert_string_equal(conf_text(w.conf, "mydomain"), "c");
    world_deinit(&w);
}

/* Names that are somebody's own are not unused. */
static void test_used_names(void **state)
{
    struct world w;

    world_init(&w,
               "smtpd_restriction_classes = greylist, from_home\ngreylist = permit\nfrom_home = reject\n"
               "mine = x\nmail_name = ${other?{$mine}}\nother = y\nvirtual_alias_maps = ldap:staff\n"
               "staff_server_host = h\nslow_destination_concurrency_limit = 3\nold_time_limit = 3h\n",
               NULL);
    if (w.faults.n != 0)
        world_show(&w);
    assert_int_equal(w.faults.n, 0);
    assert_int_equal(conf_int_for(w.conf, "slow", "_destination_concurrency_limit",
                                  "default_destination_concurrency_limit"),
                     3);
    assert_int_equal(conf_int_for(w.conf, "fast", "_destination_concurrency_limit",
                                  "default_destination_concurrency_limit"),
                     20);
    assert_int_equal(conf_int_for(w.conf, "local", "_destination_concurrency_limit",
                                  "default_destination_concurrency_limit"),
                     2);
    assert_int_equal(conf_time_ms_for(w.conf, "old", "_time_limit", "command_time_limit"), 3 * 3600 * 1000);
    assert_string_equal(
        conf_text_for(w.conf, "slow", "_destination_recipient_limit", "default_destination_recipient_limit"),
        "50");
    world_deinit(&w);
}

/* ---- expansion; each checked against postconf -x of Postfix 3.7, functions apart ---- */

static void test_expand(void **state)
{
    static const struct {
        const char *text;
        const char *want; /* "!..." : an error with this text */
    } cases[] = {
        {"", ""},
        {"plain", "plain"},
        {"$n", "5"},
        {"${n}", "5"},
        {"$(n)", "5"},
        {"${ n }", "5"},
        {"$n$n", "55"},
        {"$n.x", "5.x"},
        {"$n_x", ""},
        {"$unknown|", "|"},
        {"$deep", "x5y"},
        {"$$n", "$n"},
        {"$$$n", "$5"},
        {"${n?x}", "x"},
        {"$(n?x)", "x"},
        {"${n?{x}}z", "xz"},
        {"${empty?x}", ""},
        {"${empty?{x}}", ""},
        {"${hollow?x}", "x"}, /* set, although to something empty */
        {"${n:x}", ""},
        {"${empty:x}", "x"},
        {"${empty:{x}}", "x"},
        {"${empty:${n}}", "5"},
        {"${unknown:{$n}}", "5"},
        {"${n?{x}:{y}}", "x"},
        {"${n ? {x} : {y}}", "x"},
        {"${empty?{x}:{y}}", "y"},
        {"${empty?{x}:y}", "y"},
        {"$(n?{x}:{y})", "x"},
        {"${n?x:y}", "x:y"},
        {"${n??}", "?"},
        {"${n?}", ""},
        {"${n?{$n}}", "5"},
        {"${n?{${empty:{a}}}}", "a"},
        {"${empty?{10}:{300}}s", "300s"},
        {"${n?(a}b)}", "(ab)}"},
        {"${{$n} == {5}}", "true"},
        {"${{$n} == {6}}", ""},
        {"${{$n} > {10} ? {big} : {small}}", "small"},
        {"${{10} > {9} ? {number} : {text}}", "number"},
        {"${{10x} > {9x} ? {number} : {text}}", "text"},
        {"${{005}=={5}?{a}:{b}}", "a"},
        {"${{ 5 }=={5}?{a}:{b}}", "b"},
        {"${{}=={}?{e}:{f}}", "e"},
        {"${{a} != {b}?{x}}", "x"},
        {"${{a} < {b} ? yes}", " yes"},
        {"${{a} <= {a} ? {1}}", "1"},
        {"${{b} >= {a} ? {1}}", "1"},
        {"${{a} >= {b} ? {1}}", ""},
        {"${{ab} > {a} ? {1}}", "1"},
        {"${{a} == {b}:no}", "no"},
        {"${ {a}=={a} ? {1} : {2} }", "1"},
        {"${{3.6} <level {3.10} ? {a}:{b}}", "a"},
        {"${{3.10} <level {3.6} ? {a}:{b}}", "b"},
        {"${{3.6.1} >level {3.6} ? {a}:{b}}", "a"},
        {"${{3} ==level {3.0.0} ? {a}:{b}}", "a"},
        {"${{3} !=level {3.0.0} ? {a}:{b}}", "b"},
        {"${{2} <=level {3.6} ? {a}:{b}}", "a"},
        {"${{2} >=level {3.6} ? {a}:{b}}", "b"},
        {"${domain_to_ascii{x.example}}", "x.example"},
        {"${domain_to_utf8{$n}}", "5"},
        {"$", "!empty macro name: \"$\""},
        {"x$ y", "!empty macro name"},
        {"${}", "!empty macro name: \"${}\""},
        {"${n", "!truncated macro reference: \"${n\""},
        {"${n)", "!truncated macro reference"},
        {"$(n}", "!truncated macro reference"},
        {"${{a} == {b}?{x}", "!truncated macro reference"},
        {"$self", "!unreasonable macro call nesting: \"self\""},
        {"$ping", "!unreasonable macro call nesting"},
        {"$bomb0", "!unreasonable amount of macro expansion"},
        {"${n-x}", "!attribute name syntax error at: \"-x\""},
        {"${n.x}", "!attribute name syntax error"},
        {"${n{x}}", "!attribute name syntax error"},
        {"${n?{x}:{y}z}", "!unexpected input at: \"z\""},
        {"${n?{x}y}", "!\":\" expected at: \"y\""},
        {"${n:{x}:{y}}", "!unexpected input at: \":{y}\""},
        {"${{a} =< {b}?{x}}", "!expected at: \"=< {b}?{x}\""},
        {"${{a} == b}", "!\"{expression}\" expected"},
        {"${{a} ==nivel {b}}", "!bad operator suffix"},
        {"${{a}=={a} x}", "!\"?\" or \":\" expected"},
        {"${{x} >=level {3.6}}", "!malformed compatibility level syntax: \"x\""},
        {"${{1.2.3.4} >=level {3.6}}", "!malformed compatibility level syntax"},
        {"${domain_to_ascii{\xc3\xa4}}", "!only ASCII domain names"},
    };
    static const char main_text[] =
        "n = 5\nempty =\nhollow = $empty\ndeep = x${n}y\nself = x$self\nping = $pong\npong = ${ping}\n"
        "bomb0 = $bomb1$bomb1\nbomb1 = $bomb2$bomb2\nbomb2 = $bomb3$bomb3\nbomb3 = $bomb4$bomb4\n"
        "bomb4 = $bomb5$bomb5\nbomb5 = $bomb6$bomb6\nbomb6 = $bomb7$bomb7\nbomb7 = $bomb8$bomb8\n"
        "bomb8 = $bomb9$bomb9$bomb9$bomb9\nbomb9 = $bomb10$bomb10$bomb10$bomb10\n"
        "bomb10 = $bomb11$bomb11$bomb11$bomb11$bomb11$bomb11$bomb11$bomb11\nbomb11 = $n$n$n$n$n$n$n$n\n";
    struct world w;

    world_init(&w, main_text, NULL);
    for (size_t i = 0; i < COUNT(cases); i++) {
        char *out = NULL;
        struct error *e = conf_expand(w.faults.ctx, w.conf, cases[i].text, &out);

        if (cases[i].want[0] == '!') {
            if (e == NULL || strstr(e->text, cases[i].want + 1) == NULL)
                fail_msg("%s: %s", cases[i].text, e ? e->text : out);
        } else if (e != NULL || strcmp(out, cases[i].want) != 0) {
            fail_msg("%s: %s", cases[i].text, e ? e->text : out);
        }
        error_free(&e);
    }
    world_deinit(&w);
}

/* Brackets and values a hundred deep end in an error, ninety deep in a value. */
static void test_expand_depth(void **state)
{
    for (unsigned depth = 90; depth <= 1000; depth += 910) {
        struct world w;
        struct buf text = {0};
        char *out = NULL;
        struct error *e;

        for (unsigned i = 0; i < depth; i++)
            buf_addf(&text, "v%u = $v%u\n", i, i + 1);
        buf_addf(&text, "v%u = end\n", depth);
        world_init(&w, buf_text(&text), NULL);
        e = conf_expand(w.faults.ctx, w.conf, "$v0", &out);
        if (depth == 90)
            assert_string_equal(out, "end");
        else
            assert_non_null(e);
        error_free(&e);
        buf_cut(&text, 0);
        for (unsigned i = 0; i < 100 * depth; i++)
            buf_adds(&text, "${x:{");
        for (unsigned i = 0; i < 100 * depth; i++)
            buf_adds(&text, "}}");
        e = conf_expand(w.faults.ctx, w.conf, buf_text(&text), &out);
        assert_non_null(e);
        error_free(&e);
        buf_deinit(&text);
        world_deinit(&w);
    }
}

/* ---- values ---- */

static void test_value_faults(void **state)
{
    static const struct {
        const char *name, *value;
        const char *fault; /* NULL: good */
    } cases[] = {
        {"smtpd_delay_reject", "YES", NULL},
        {"smtpd_delay_reject", "No", NULL},
        {"smtpd_delay_reject", "${stress?{no}:{ yes }}", NULL},
        {"smtpd_delay_reject", "maybe", "bad boolean configuration: smtpd_delay_reject = maybe"},
        {"smtpd_delay_reject", "", "bad boolean configuration: smtpd_delay_reject = "},
        {"smtpd_recipient_limit", "1", NULL},
        {"smtpd_recipient_limit", "+7", NULL},
        {"smtpd_recipient_limit", "0", "invalid smtpd_recipient_limit parameter value 0 < 1"},
        {"smtpd_recipient_limit", "-5", "invalid smtpd_recipient_limit parameter value -5 < 1"},
        {"smtpd_recipient_limit", "", "bad numerical configuration: smtpd_recipient_limit = "},
        {"smtpd_recipient_limit", "5x", "bad numerical configuration: smtpd_recipient_limit = 5x"},
        {"smtpd_recipient_limit", "0x5", "bad numerical configuration: smtpd_recipient_limit = 0x5"},
        {"smtpd_recipient_limit", "99999999999999999999", "bad numerical configuration"},
        {"unverified_sender_reject_code", "600",
         "invalid unverified_sender_reject_code parameter value 600 > 599"},
        {"smtpd_timeout", "10", NULL},
        {"smtpd_timeout", "10sec", NULL},
        {"smtpd_timeout", "2w", NULL},
        {"smtpd_timeout", "10x", "parameter smtpd_timeout: bad time value or unit: 10x"},
        {"smtpd_timeout", "10S", "parameter smtpd_timeout: bad time value or unit: 10S"},
        {"smtpd_timeout", "-1s", "parameter smtpd_timeout: bad time value or unit: -1s"},
        {"smtpd_timeout", "s", "parameter smtpd_timeout: bad time value or unit: s"},
        {"smtpd_timeout", "99999999999w", "parameter smtpd_timeout: bad time value or unit: 99999999999w"},
        {"smtpd_timeout", "0", "invalid smtpd_timeout: 0 (min 1)"},
        {"in_flow_delay", "11s", "invalid in_flow_delay: 11s (max 10)"},
        {"mail_owner", "", "bad string length 0 < 1: mail_owner = "},
        {"mail_owner", "$nobody", "bad string length 0 < 1: mail_owner = "},
        {"mail_owner", "$mail_owner", "mail_owner: unreasonable macro call nesting"},
        {"mail_owner", "${x", "mail_owner: truncated macro reference"},
        {"smtpd_hard_error_limit", "${stress?{0}:{20}}",
         "invalid smtpd_hard_error_limit parameter value 0 < 1"},
        {"smtpd_expansion_filter", "$%${", NULL}, /* not expanded */
        {"slow_destination_concurrency_limit", "x",
         "bad numerical configuration: slow_destination_concurrency_limit"},
    };

    for (size_t i = 0; i < COUNT(cases); i++) {
        struct world w;
        char *text = mem_printf(NULL, "# nobody is not set\n%s = %s\n", cases[i].name, cases[i].value);

        world_init(&w, text, NULL);
        if (cases[i].fault == NULL ? conf_faults_has_error(&w.faults)
                                   : !world_has(&w, CONF_ERROR, "main.cf", 2, cases[i].fault)) {
            world_show(&w);
            fail_msg("%s", text);
        }
        talloc_free(text);
        world_deinit(&w);
    }
}

static void test_values(void **state)
{
    static const struct {
        const char *name, *value;
        uint64_t ms;
    } times[] = {
        {"smtpd_timeout", "10", 10000},
        {"smtpd_timeout", "2m", 120000},
        {"smtpd_timeout", "1h", 3600000},
        {"delay_warning_time", "4", 4 * 3600000},
        {"delay_warning_time", "30m", 1800000},
        {"maximal_queue_lifetime", "1", 86400000},
        {"maximal_queue_lifetime", "1w", 7 * 86400000},
    };
    struct world w;

    world_init(&w, "smtpd_helo_required = Yes\nmessage_size_limit = 5000000000\nsmtpd_recipient_limit = 12\n",
               NULL);
    assert_false(conf_faults_has_error(&w.faults));
    assert_true(conf_bool(w.conf, "smtpd_helo_required"));
    assert_false(conf_bool(w.conf, "disable_vrfy_command"));
    assert_true(conf_size(w.conf, "message_size_limit") == 5000000000u);
    assert_int_equal(conf_int(w.conf, "smtpd_recipient_limit"), 12);
    assert_int_equal(conf_time_ms(w.conf, "smtpd_timeout"), 300000);
    assert_int_equal(conf_time_ms(w.conf, "smtpd_proxy_timeout"), 100000);
    assert_ptr_equal(conf_text(w.conf, "mail_name"), conf_text(w.conf, "mail_name"));
    for (size_t i = 0; i < COUNT(times); i++) {
        conf_set(w.conf, times[i].name, times[i].value, "t", 1);
        assert_int_equal(conf_time_ms(w.conf, times[i].name), times[i].ms);
    }
    world_deinit(&w);
}

static void test_derived(void **state)
{
    struct world w;
    struct conf *d;

    world_init(&w, "x = main\nmail_name = a-$x\nmyhostname = mx.example.com\n", NULL);
    d = conf_derive(w.faults.ctx, w.conf);
    assert_string_equal(conf_text(d, "mail_name"), "a-main");
    conf_set(d, "x", "own", "master.cf", 1);
    assert_string_equal(conf_text(d, "mail_name"), "a-own");
    assert_string_equal(conf_text(w.conf, "mail_name"), "a-main");
    conf_set(d, "stress", "yes", "master.cf", 1);
    assert_int_equal(conf_time_ms(d, "smtpd_timeout"), 10000);
    assert_int_equal(conf_int(d, "smtpd_hard_error_limit"), 1);
    assert_int_equal(conf_int(w.conf, "smtpd_hard_error_limit"), 20);
    assert_string_equal(conf_text(d, "mydomain"), "example.com");
    world_deinit(&w);
}

/* An override that spoils a value of main.cf is found before a service starts. */
static void test_derived_faults(void **state)
{
    struct world w;
    struct conf *d;

    world_init(&w, "count = 7\nsmtpd_recipient_limit = $count\nslow_time_limit = ${count}s\n", NULL);
    assert_int_equal(w.faults.n, 0);
    d = conf_derive(w.faults.ctx, w.conf);
    conf_set(d, "count", "many", "master.cf", 9);
    conf_validate(d, &w.faults);
    assert_true(
        world_has(&w, CONF_ERROR, "main.cf", 2, "bad numerical configuration: smtpd_recipient_limit = many"));
    assert_true(world_has(&w, CONF_ERROR, "main.cf", 3, "bad time value or unit: manys"));
    assert_int_equal(w.faults.n, 2);
    world_deinit(&w);
}

static void test_levels(void **state)
{
    static const struct {
        const char *level, *name, *want;
    } cases[] = {
        {"0", "smtpd_relay_restrictions", ""},
        {"1", "smtpd_relay_restrictions",
         "permit_mynetworks, permit_sasl_authenticated, defer_unauth_destination"},
        {"1", "mynetworks_style", "subnet"},
        {"2", "mynetworks_style", "host"},
        {"0", "append_dot_mydomain", "yes"},
        {"3.6", "append_dot_mydomain", "no"},
        {"0", "relay_domains", "h.d, localhost.d, localhost"},
        {"2", "relay_domains", ""},
        {"3.5", "respectful_logging", "no"},
        {"3.10", "respectful_logging", "yes"},
        {"3.10", "smtp_tls_security_level", ""},
        {"3.11", "smtp_tls_security_level", "may"},
    };

    for (size_t i = 0; i < COUNT(cases); i++) {
        struct world w;
        char *text = mem_printf(NULL, "compatibility_level = %s\nmyhostname = h.d\n", cases[i].level);

        world_init(&w, text, NULL);
        assert_int_equal(w.faults.n, 0);
        assert_string_equal(conf_text(w.conf, cases[i].name), cases[i].want);
        talloc_free(text);
        world_deinit(&w);
    }
}

static void test_found_at_run_time(void **state)
{
    struct world w;

    world_init(&w, "mynetworks_style = host\ninet_interfaces = loopback-only\ninet_protocols = ipv4\n", NULL);
    assert_non_null(strchr(conf_text(w.conf, "myhostname"), '.'));
    assert_string_equal(conf_text(w.conf, "mydomain"), strchr(conf_text(w.conf, "myhostname"), '.') + 1);
    assert_string_equal(conf_text(w.conf, "mynetworks"), "127.0.0.1/32");
    conf_set(w.conf, "mynetworks_style", "subnet", "t", 1);
    assert_string_equal(conf_text(w.conf, "mynetworks"), "127.0.0.0/8");
    world_deinit(&w);
    world_init(&w, "myhostname = mx.$mydomain\n", NULL); /* each from the other */
    assert_string_equal(conf_text(w.conf, "myhostname"), "mx.localdomain");
    world_deinit(&w);
}

/* ---- lists, suggestions, the table ---- */

static void test_list(void **state)
{
    static const struct {
        const char *text;
        const char *items[5];
    } cases[] = {
        {"", {NULL}},
        {" , ", {NULL}},
        {"a", {"a"}},
        {"a,b c\td\n", {"a", "b", "c", "d"}},
        {"a , ,b", {"a", "b"}},
        {"{ a b }, c", {"a b", "c"}},
        {"{a}{b}", {"{a}{b}"}},
        {"inline:{ {a=b}, {c=d} } x", {"inline:{ {a=b}, {c=d} }", "x"}},
        {"{ {a b} c }", {"{a b} c"}},
        {"{}", {""}},
        {"{a b", {"{a b"}},
        {"a} b", {"a}", "b"}},
    };

    for (size_t i = 0; i < COUNT(cases); i++) {
        const char *rest = cases[i].text;
        size_t n = 0;
        char *item;

        while ((item = conf_list_next(NULL, &rest)) != NULL) {
            assert_non_null(cases[i].items[n]);
            assert_string_equal(item, cases[i].items[n++]);
            talloc_free(item);
        }
        assert_null(cases[i].items[n]);
    }
}

static void test_suggest(void **state)
{
    static const struct {
        const char *name, *nearest;
    } cases[] = {
        {"smtpd_timout", "smtpd_timeout"},
        {"mynetwork", "mynetworks"},
        {"smtpd_proxy_fitler", "smtpd_proxy_filter"},
        {"message_size_limits", "message_size_limit"},
        {"smtpd_relay_restriction", "smtpd_relay_restrictions"},
        {"x", NULL},
        {"nothing_like_this_at_all", NULL},
    };

    for (size_t i = 0; i < COUNT(cases); i++) {
        const char *found = conf_suggest(cases[i].name);

        if (cases[i].nearest == NULL)
            assert_null(found);
        else
            assert_string_equal(found, cases[i].nearest);
    }
}

static void test_table(void **state)
{
    size_t n;
    const struct conf_param *params = conf_params(&n);

    assert_true(n > 400);
    for (size_t i = 0; i < n; i++) {
        const struct conf_param *p = &params[i];
        size_t length = strlen(p->about);

        if (i > 0 && strcmp(params[i - 1].name, p->name) >= 0)
            fail_msg("%s is out of order", p->name);
        assert_ptr_equal(conf_param_find(p->name), p);
        if (length < 10 || p->about[length - 1] != '.')
            fail_msg("%s: no sentence", p->name);
        if (p->type == CONF_TIME && (p->unit == 0 || strchr("smhdw", p->unit) == NULL))
            fail_msg("%s: no unit", p->name);
        if (p->max != 0 && p->max < p->min)
            fail_msg("%s: range", p->name);
    }
    assert_null(conf_param_find("no_such_parameter"));
    assert_true(conf_is_postfix_name("smtpd_tls_ciphers"));
}

/* The defaults alone are good, so a fault is always the administrator's. */
static void test_defaults_are_good(void **state)
{
    struct world w;
    size_t n;
    const struct conf_param *params = conf_params(&n);

    world_init(&w, "", NULL);
    world_show(&w);
    assert_int_equal(w.faults.n, 0);
    for (size_t i = 0; i < n; i++) {
        char *fault;

        if (strcmp(params[i].name, "virtual_mailbox_base") == 0)
            continue; /* has no default, and needs a value when it is used */
        fault = conf_value_check(NULL, &params[i], params[i].name, conf_text(w.conf, params[i].name));
        if (fault != NULL)
            fail_msg("%s", fault);
    }
    world_deinit(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines),        cmocka_unit_test(test_line_faults),
        cmocka_unit_test(test_nul_byte),     cmocka_unit_test(test_used_names),
        cmocka_unit_test(test_expand),       cmocka_unit_test(test_expand_depth),
        cmocka_unit_test(test_value_faults), cmocka_unit_test(test_values),
        cmocka_unit_test(test_derived),      cmocka_unit_test(test_derived_faults),
        cmocka_unit_test(test_levels),       cmocka_unit_test(test_found_at_run_time),
        cmocka_unit_test(test_list),         cmocka_unit_test(test_suggest),
        cmocka_unit_test(test_table),        cmocka_unit_test(test_defaults_are_good),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
