/*
 * The engines of a service in order, and the engine "checks" over real tables and spools, in memory and in
 * files.
 */
#include "engine_checks.h"

#include "log.h"
#include "mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <cmocka.h>

static char *folder;
static struct buf seen_log;

static void on_log(const char *line, void *arg)
{
    buf_addf(&seen_log, "%s\n", line);
}

struct set_case {
    const char *params[6][2];
    const char *message;
    size_t engines;

    void *ctx;
    struct engine_set *set;
    struct error *error;
    struct engine_result result;
    char *content;
};

static const struct mail_client client = {.name = "mx", .addr = "192.0.2.1", .port = "1", .proto = "SMTP"};
static const struct mail_envelope envelope = {.id = "ID", .sender = ""};

static co_fn void scan(void *arg)
{
    struct set_case *c = arg;
    struct engine_input in = {.ctx = c->ctx, .client = &client, .envelope = &envelope};
    struct buf all = {0};
    struct bytes piece;

    in.content = io_spool_new(c->ctx, engine_set_spool(c->set));
    c->error = io_spool_write(in.content, bytes_of(c->message));
    engine_set_scan(c->set, &in, &c->result);
    if (c->result.changed == NULL)
        return;
    while (io_spool_read(c->result.changed, all.n, &piece) == NULL && piece.n > 0)
        buf_add(&all, piece);
    c->content = mem_strdup(c->ctx, buf_text(&all));
    buf_deinit(&all);
}

/* %s in a value is the folder. A table is opened once a process: each rules file has one content. */
static void begin(struct set_case *c)
{
    struct conf_faults faults = {.ctx = talloc_new(NULL)};
    struct conf *conf = conf_derive(faults.ctx, conf_read(faults.ctx, NULL, &faults));

    c->ctx = faults.ctx;
    buf_cut(&seen_log, 0);
    conf_set(conf, "queue_directory", folder, "test", 1);
    conf_set(conf, "filter_exec_user", "nobody", "test", 1);
    for (size_t i = 0; i < 6 && c->params[i][0] != NULL; i++) {
        struct bytes value = bytes_of(c->params[i][1]);
        size_t at = bytes_find(value, BYTES("%s"));

        if (at == SIZE_MAX)
            conf_set(conf, c->params[i][0], c->params[i][1], "test", 1);
        else
            conf_set(conf, c->params[i][0],
                     mem_printf(c->ctx, "%.*s%s%s", (int)at, value.p, folder, value.p + at + 2), "test", 1);
    }
    c->error = engine_set_open(c->ctx, conf, &c->set);
}

static void run(struct set_case *c)
{
    begin(c);
    if (c->error != NULL)
        fail_msg("%s", c->error->text);
    assert_int_equal(engine_set_count(c->set), c->engines);
    co_spawn(scan, c, "scan");
    co_run();
    assert_null(c->error);
}

static void end(struct set_case *c)
{
    mail_reply_deinit(&c->result.reply);
    talloc_free(c->ctx);
}

static void write_file(const char *name, const char *text)
{
    char *path = mem_printf(NULL, "%s/%s", folder, name);
    FILE *f = fopen(path, "w");

    assert_non_null(f);
    fputs(text, f);
    fclose(f);
    talloc_free(path);
}

/* ---- which engines ---- */

static void test_default_is_none(void **state)
{
    struct set_case c = {.message = "A: 1\r\n\r\n"};

    run(&c);
    assert_int_equal(c.result.outcome, ENGINE_PASS);
    assert_null(c.result.changed);
    end(&c);
}

static void test_default_is_checks_when_set(void **state)
{
    struct set_case c = {.params = {{"body_checks", "inline:{{x = REJECT no x}}"}},
                         .message = "A: 1\r\n\r\nx\r\n",
                         .engines = 1};

    run(&c);
    assert_int_equal(c.result.outcome, ENGINE_REPLY);
    assert_string_equal(c.result.reply.text, "no x");
    assert_string_equal(buf_text(&seen_log),
                        "ID: reject: body x from mx[192.0.2.1]; from=<> proto=SMTP: 5.7.1 no x\n");
    end(&c);
}

static void test_order(void **state)
{
    struct set_case c = {.params = {{"filter_engines", "exec, checks"},
                                    {"filter_exec_command", "/bin/sed s/one/two/"},
                                    {"body_checks", "inline:{{one = REJECT} {two = REPLACE three}}"}},
                         .message = "A: 1\r\n\r\none\r\n",
                         .engines = 2};

    run(&c);
    assert_int_equal(c.result.outcome, ENGINE_PASS);
    assert_string_equal(c.content, "A: 1\r\n\r\nthree\r\n");
    end(&c);
    c.params[0][1] = "checks exec";
    c.content = NULL;
    run(&c);
    assert_int_equal(c.result.outcome, ENGINE_REPLY);
    end(&c);
}

static void test_merge(void **state)
{
    struct set_case c = {
        .params = {{"filter_engines", "exec exec"},
                   {"filter_exec_command",
                    "/bin/sh -c {n=$$(grep -c seen); printf '%b' \"HOLD h$$n\\nREDIRECT r$$n@x.test\\n"
                    "FILTER f$$n:1\\nBCC b$$n@x.test\\nPREPEND X: seen\\n\" >&3}"}},
        .message = "A: 1\r\n\r\n",
        .engines = 2};

    run(&c);
    assert_int_equal(c.result.outcome, ENGINE_PASS);
    assert_string_equal(c.result.hold, "h0");
    assert_string_equal(c.result.redirect, "r1@x.test");
    assert_string_equal(c.result.filter, "smtp:f1:1");
    assert_int_equal(c.result.bcc.n, 2);
    assert_string_equal(c.result.bcc.at[0], "b0@x.test");
    assert_string_equal(c.result.bcc.at[1], "b1@x.test");
    assert_string_equal(c.content, "X: seen\r\nX: seen\r\nA: 1\r\n\r\n");
    end(&c);
}

static void test_faults(void **state)
{
    static const struct {
        const char *param, *value, *error;
    } bad[] = {
        {"filter_engines", "checks, bogo",
         "filter_engines: no engine is named \"bogo\" (there are: checks, exec)"},
        {"filter_engines", "exec", "filter_exec_command is empty, and filter_engines asks for \"exec\""},
        {"header_checks", "regexp:/nonexistent/x", "header_checks: "},
        {"nested_header_checks", "nosuchtype:x", "nested_header_checks: "},
    };

    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        struct set_case c = {.params = {{bad[i].param, bad[i].value}}};

        begin(&c);
        assert_non_null(c.error);
        assert_int_equal(c.error->kind, ERROR_CONF);
        if (strncmp(c.error->text, bad[i].error, strlen(bad[i].error)) != 0)
            fail_msg("%s", c.error->text);
        error_free(&c.error);
        talloc_free(c.ctx);
    }
}

/* ---- checks over spools ---- */

static const char rules[] = "/^Subject: (.*)/   REPLACE Subject: [x] $1\n"
                            "/^X-Drop:/         IGNORE\n"
                            "/^X-Reject:/       REJECT\n"
                            "/^To:.*\\n\\s+(.*)/  PREPEND X-Second: $1\n";

static void test_regexp(void **state)
{
    struct set_case c = {.params = {{"header_checks", "pcre:%s/rules"}},
                         .message =
                             "Subject: a\r\n b\r\nX-Drop: 1\r\nTo: a@x,\r\n\tb@x\r\n\r\nSubject: body\r\n",
                         .engines = 1};

    write_file("rules", rules);
    run(&c);
    assert_string_equal(
        c.content, "Subject: [x] a\r\n b\r\nX-Second: b@x\r\nTo: a@x,\r\n\tb@x\r\n\r\nSubject: body\r\n");
    end(&c);
    c.params[0][1] = "regexp:%s/rules";
    c.message = "A: 1\r\nX-drop: 1\r\n\r\n";
    run(&c);
    assert_string_equal(c.content, "A: 1\r\n\r\n");
    end(&c);
    c.message = "A: 1\r\n\r\nX-Drop: 1\r\n";
    run(&c);
    assert_null(c.result.changed);
    end(&c);
}

static char *long_message(const char *odd, const char *even)
{
    struct buf text = {0};
    char *copy;

    buf_adds(&text, "A: 1\r\n\r\n");
    for (int i = 0; i < 20000; i++)
        buf_addf(&text, "%s%030d\r\n", i % 2 ? odd : even, i);
    copy = mem_strdup(NULL, buf_text(&text));
    buf_deinit(&text);
    return copy;
}

/* Every second line changes; input and output lie in files. */
static void test_files(void **state)
{
    static const char *const limits[] = {"1000", "10000000"};
    char *message = long_message("one", "two"), *wanted = long_message("three", "two");

    write_file("files", "/^one(.*)/ REPLACE three$1\n");
    for (size_t i = 0; i < 2; i++) {
        struct set_case c = {.params = {{"body_checks", "regexp:%s/files"},
                                        {"body_checks_size_limit", "0"},
                                        {"smtpd_spool_memory_limit", limits[i]}},
                             .message = message,
                             .engines = 1};

        run(&c);
        assert_int_equal(c.result.outcome, ENGINE_PASS);
        assert_string_equal(c.content, wanted);
        end(&c);
    }
    talloc_free(message);
    talloc_free(wanted);
}

static void test_reject_after_change(void **state)
{
    struct set_case c = {.params = {{"header_checks", "regexp:%s/rules"}},
                         .message = "X-Drop: 1\r\nX-Reject: 1\r\n\r\nbody\r\n",
                         .engines = 1};

    write_file("rules", rules);
    run(&c);
    assert_int_equal(c.result.outcome, ENGINE_REPLY);
    assert_int_equal(c.result.reply.code, 550);
    assert_null(c.result.changed);
    end(&c);
}

/* The spool of the changed content has no folder: 451, and the log says why. */
static void test_no_spool(void **state)
{
    struct set_case c = {.params = {{"header_checks", "regexp:%s/rules"},
                                    {"queue_directory", "/nonexistent"},
                                    {"smtpd_spool_memory_limit", "37"}},
                         .message = "Subject: 9012345678901234567890\r\n\r\n",
                         .engines = 1};

    write_file("rules", rules);
    run(&c);
    assert_int_equal(c.result.outcome, ENGINE_REPLY);
    assert_int_equal(c.result.reply.code, 451);
    assert_non_null(strstr(buf_text(&seen_log),
                           "warning: ID: header/body checks: message spool in /nonexistent/incoming: "));
    end(&c);
}

/* conf/examples/exec-filter is read without a fault, and its engines open. */
static void test_example(void **state)
{
    struct conf_faults faults = {.ctx = talloc_new(NULL)};
    char *relative = mem_printf(faults.ctx, "%.*s/../../../conf/examples/exec-filter",
                                (int)(strrchr(__FILE__, '/') - __FILE__), __FILE__);
    char *dir = realpath(relative, NULL);
    struct conf_services services;
    struct engine_set *set;
    struct error *e;

    if (dir == NULL)
        fail_msg("%s is not there (run the test in the build folder)", relative);
    services = conf_read_services(faults.ctx, conf_read(faults.ctx, dir, &faults), dir, &faults);
    for (size_t i = 0; i < faults.n; i++)
        if (faults.at[i].severity == CONF_ERROR)
            fail_msg("%s:%u: %s", faults.at[i].file, faults.at[i].line, faults.at[i].text);
    assert_string_equal(services.at[1].command, "filter");
    e = engine_set_open(faults.ctx, services.at[1].conf, &set);
    if (e != NULL)
        fail_msg("%s", e->text);
    assert_int_equal(engine_set_count(set), 2);
    talloc_free(faults.ctx);
    free(dir);
}

static int setup(void **state)
{
    char path[] = "/tmp/engine_test.XXXXXX";
    char *incoming;

    if (mkdtemp(path) == NULL)
        return -1;
    folder = mem_strdup(NULL, path);
    incoming = mem_printf(NULL, "%s/incoming", folder);
    mkdir(incoming, 0700);
    talloc_free(incoming);
    log_capture(on_log, NULL);
    co_init(2);
    return 0;
}

static int teardown(void **state)
{
    char *command = mem_printf(NULL, "rm -rf %s", folder);
    int end_ = system(command);

    talloc_free(command);
    talloc_free(folder);
    log_capture(NULL, NULL);
    buf_deinit(&seen_log);
    co_deinit();
    return end_;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_default_is_none), cmocka_unit_test(test_default_is_checks_when_set),
        cmocka_unit_test(test_order),           cmocka_unit_test(test_merge),
        cmocka_unit_test(test_faults),          cmocka_unit_test(test_regexp),
        cmocka_unit_test(test_files),           cmocka_unit_test(test_reject_after_change),
        cmocka_unit_test(test_no_spool),        cmocka_unit_test(test_example),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
