/* conf: master.cf, every field, argument and complaint. */
#include "conf_test_own.h"

static void test_endpoints(void **state)
{
    static const struct {
        const char *name;
        const char *host, *port; /* port "!...": an error with this text */
    } cases[] = {
        {"25", NULL, "25"},
        {":25", NULL, "25"},
        {"smtp", NULL, "25"},
        {"smtps", NULL, "465"},
        {"submission", NULL, "587"},
        {"127.0.0.1:10026", "127.0.0.1", "10026"},
        {"127.0.0.1:smtp", "127.0.0.1", "25"},
        {"localhost:10025", "localhost", "10025"},
        {"[::1]:10026", "::1", "10026"},
        {"[127.0.0.1]:25", "127.0.0.1", "25"},
        {"65535", NULL, "65535"},
        {"65536", NULL, "!bad TCP port: 65536"},
        {"0", NULL, "!bad TCP port: 0"},
        {"25x", NULL, "!bad TCP port: 25x"},
        {"no-such-service-here", NULL, "!unknown TCP service name: no-such-service-here"},
        {"127.0.0.1:", NULL, "!missing port number or service name"},
        {"::1:25", NULL, "!an IPv6 address needs brackets"},
        {"[::1]", NULL, "!missing :port"},
        {"[::1]25", NULL, "!missing :port"},
        {"[::1", NULL, "!bad address between brackets"},
        {"[]:25", NULL, "!bad address between brackets"},
    };

    for (size_t i = 0; i < COUNT(cases); i++) {
        void *ctx = talloc_new(NULL);
        char *host = NULL, *port = NULL;
        char *wrong = conf_endpoint_parse(ctx, cases[i].name, &host, &port);

        if (cases[i].port[0] == '!') {
            assert_non_null(wrong);
            assert_non_null(strstr(wrong, cases[i].port + 1));
        } else {
            assert_null(wrong);
            assert_string_equal(port, cases[i].port);
            assert_true((host == NULL) == (cases[i].host == NULL));
            if (host != NULL)
                assert_string_equal(host, cases[i].host);
        }
        talloc_free(ctx);
    }
}

static void test_fields(void **state)
{
    static const struct {
        const char *line;
        struct conf_service want;
    } cases[] = {
        {"smtp inet n - n - 20 smtpd",
         {.name = "smtp",
          .type = CONF_INET,
          .is_unprivileged = true,
          .maxproc = 20,
          .command = "smtpd",
          .port = "25"}},
        {"127.0.0.1:10026\tinet  n  n  y  -  -  smtpd",
         {.name = "127.0.0.1:10026",
          .type = CONF_INET,
          .is_chroot = true,
          .maxproc = 77,
          .command = "smtpd",
          .host = "127.0.0.1",
          .port = "10026"}},
        {"qmgr unix n - n 300 1 qmgr",
         {.name = "qmgr",
          .type = CONF_UNIX,
          .is_unprivileged = true,
          .wakeup = 300,
          .maxproc = 1,
          .command = "qmgr"}},
        {"tlsmgr unix - y - 1000? 0 tlsmgr",
         {.name = "tlsmgr",
          .type = CONF_UNIX,
          .is_private = true,
          .is_unprivileged = true,
          .wakeup = 1000,
          .wakeup_if_used = true,
          .maxproc = 0,
          .command = "tlsmgr"}},
        {"pickup fifo y n n 60 1 pickup",
         {.name = "pickup",
          .type = CONF_FIFO,
          .is_private = true,
          .wakeup = 60,
          .maxproc = 1,
          .command = "pickup"}},
        {"smtpd pass - - n - - smtpd",
         {.name = "smtpd",
          .type = CONF_PASS,
          .is_private = true,
          .is_unprivileged = true,
          .maxproc = 77,
          .command = "smtpd"}},
        {"postlog unix-dgram n - n - 1 postlogd",
         {.name = "postlog",
          .type = CONF_UNIX_DGRAM,
          .is_unprivileged = true,
          .maxproc = 1,
          .command = "postlogd"}},
        {"a/b unix\n# comment\n\n  - - n - -\n smtp",
         {.name = "a/b",
          .type = CONF_UNIX,
          .is_private = true,
          .is_unprivileged = true,
          .maxproc = 77,
          .command = "smtp"}},
    };

    for (size_t i = 0; i < COUNT(cases); i++) {
        const struct conf_service *s, *want = &cases[i].want;
        struct world w;

        world_init(&w, "compatibility_level = 2\ndefault_process_limit = 77\n", cases[i].line);
        assert_int_equal(w.faults.n, 0);
        assert_int_equal(w.services.n, 1);
        s = w.services.at;
        assert_string_equal(s->name, want->name);
        assert_int_equal(s->type, want->type);
        assert_int_equal(s->is_private, want->is_private);
        assert_int_equal(s->is_unprivileged, want->is_unprivileged);
        assert_int_equal(s->is_chroot, want->is_chroot);
        assert_int_equal(s->wakeup, want->wakeup);
        assert_int_equal(s->wakeup_if_used, want->wakeup_if_used);
        assert_int_equal(s->maxproc, want->maxproc);
        assert_string_equal(s->command, want->command);
        assert_null(s->args[0]);
        assert_false(s->is_verbose);
        assert_true((s->host == NULL) == (want->host == NULL) && (s->port == NULL) == (want->port == NULL));
        if (want->host != NULL)
            assert_string_equal(s->host, want->host);
        if (want->port != NULL)
            assert_string_equal(s->port, want->port);
        assert_string_equal(conf_text(s->conf, "service_name"), want->name);
        assert_string_equal(conf_text(s->conf, "process_name"), want->command);
        world_deinit(&w);
    }
}

static void test_faults(void **state)
{
    static const struct {
        const char *text;
        unsigned line;
        const char *fault;
    } cases[] = {
        {"smtp", 1, "missing \"transport type\" field"},
        {"smtp inet", 1, "missing \"private\" field"},
        {"smtp inet n", 1, "missing \"unprivileged\" field"},
        {"smtp inet n -", 1, "missing \"chroot\" field"},
        {"smtp inet n - n", 1, "missing \"wakeup\" field"},
        {"smtp inet n - n -", 1, "missing \"process limit\" field"},
        {"# x\nsmtp inet n - n - -", 2, "missing \"command\" field"},
        {"smtp tcp n - n - - smtpd", 1, "bad transport type: tcp"},
        {"smtp INET n - n - - smtpd", 1, "bad transport type: INET"},
        {"smtp inet - - n - - smtpd", 1, "inet service cannot be private"},
        {"smtp inet y - n - - smtpd", 1, "inet service cannot be private"},
        {"smtp inet x - n - - smtpd", 1, "field \"private\": bad value: \"x\""},
        {"smtp inet n Y n - - smtpd", 1, "field \"unprivileged\": bad value: \"Y\""},
        {"smtp inet n - no - - smtpd", 1, "field \"chroot\": bad value: \"no\""},
        {"smtp inet n - n x - smtpd", 1, "field \"wakeup\": bad value: \"x\""},
        {"smtp inet n - n ? - smtpd", 1, "field \"wakeup\": bad value: \"?\""},
        {"smtp inet n - n - -1 smtpd", 1, "field \"process limit\": bad value: \"-1\""},
        {"smtp inet n - n - 99999999999 smtpd", 1, "field \"process limit\": bad value"},
        {"99999 inet n - n - - smtpd", 1, "bad TCP port: 99999"},
        {"smtp inet n - n - - smtpd -o", 1, "-o needs name=value"},
        {"smtp inet n - n - - smtpd -o biff", 1, "-o biff: missing '=' after attribute name"},
        {"smtp inet n - n - - smtpd\n -o =x", 1, "missing attribute name"},
        {"smtp inet n - n - - smtpd -o biff = no", 1, "-o biff: missing '=' after attribute name"},
        {"smtp inet n - n - - smtpd -o { biff = no", 1, "missing '}' in \"{ biff = no\""},
        {"smtp inet n - n - - smtpd -o {biff = no}x", 1, "syntax error after '}' in \"x\""},
        {"smtp inet n - n - - smtpd -o biff=perhaps", 1, "bad boolean configuration: biff = perhaps"},
        {"smtp inet n - n - - smtpd\n -o smtpd_timeout=5y", 1, "bad time value or unit: 5y"},
    };

    for (size_t i = 0; i < COUNT(cases); i++) {
        struct world w;

        world_init(&w, "compatibility_level = 2\n", cases[i].text);
        if (!world_has(&w, CONF_ERROR, "master.cf", cases[i].line, cases[i].fault)) {
            world_show(&w);
            fail_msg("%s", cases[i].text);
        }
        world_deinit(&w);
    }
}

static void test_arguments(void **state)
{
    struct world w;
    const struct conf_service *s;

    world_init(&w, "compatibility_level = 2\nmail_name = main\n",
               "slow unix - - n - - smtp -v -o mail_name=own -obiff=no -o { syslog_name = a b }\n"
               "   -o {mydestination={x},y} -x { one arg } flags=DRhu -o mail_name=late argv=/bin/x -v "
               "${recipient}\n");
    assert_int_equal(w.faults.n, 0);
    s = w.services.at;
    assert_true(s->is_verbose);
    assert_string_equal(conf_text(s->conf, "mail_name"), "own");
    assert_string_equal(conf_text(s->conf, "syslog_name"), "a b");
    assert_string_equal(conf_text(s->conf, "mydestination"), "{x},y");
    assert_false(conf_bool(s->conf, "biff"));
    assert_true(conf_bool(w.conf, "biff"));
    assert_string_equal(s->args[0], "-x");
    assert_string_equal(s->args[1], "one arg");
    assert_string_equal(s->args[2], "flags=DRhu");
    assert_string_equal(s->args[3], "-o");
    assert_string_equal(s->args[4], "mail_name=late");
    assert_string_equal(s->args[5], "argv=/bin/x");
    assert_string_equal(s->args[6], "-v");
    assert_string_equal(s->args[7], "${recipient}");
    assert_null(s->args[8]);
    world_deinit(&w);
}

static void test_duplicates_and_names(void **state)
{
    struct world w;

    world_init(&w, "compatibility_level = 2\n",
               "smtp inet n - n - 1 smtpd\nsmtp unix - - n - - smtp -o syslog_name=postfix/$service_name\n"
               "smtp inet n - n - 2 smtpd\n");
    assert_int_equal(w.services.n, 2);
    assert_int_equal(w.services.at[0].maxproc, 2);
    assert_int_equal(w.services.at[0].line, 3);
    assert_true(world_has(&w, CONF_WARNING, "master.cf", 3,
                          "duplicate master.cf entry for service \"smtp\" (smtpd) -- using the last entry"));
    assert_string_equal(conf_text(w.services.at[1].conf, "syslog_name"), "postfix/smtp");
    world_deinit(&w);
}

/* chroot's default follows the compatibility level. */
static void test_chroot(void **state)
{
    static const struct {
        const char *main_text;
        bool chroot;
    } cases[] = {{"", true}, {"compatibility_level = 0\n", true}, {"compatibility_level = 1\n", false}};

    for (size_t i = 0; i < COUNT(cases); i++) {
        struct world w;

        world_init(&w, cases[i].main_text, "a unix - - - - - smtp\n");
        assert_int_equal(w.services.at[0].is_chroot, cases[i].chroot);
        world_deinit(&w);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_endpoints), cmocka_unit_test(test_fields),
        cmocka_unit_test(test_faults),    cmocka_unit_test(test_arguments),
        cmocka_unit_test(test_chroot),    cmocka_unit_test(test_duplicates_and_names),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
