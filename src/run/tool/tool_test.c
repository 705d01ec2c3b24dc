/* `sallyport queue` on a queue of its own, as an ordinary user, each command in a process of its own. */
#include "clock.h"
#include "log.h"
#include "mem.h"
#include "queue_file.h"
#include "tool_main.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <jansson.h>

#include <cmocka.h>

enum { OUTPUT = 16384, NOBODY = 65534 };

static char dir[64];
static struct queue *queue;
static const char content[] = "Subject: x\r\n\r\none\r\n.two\r\n";

/* ---- a queue with mail ---- */

struct message {
    const char *id, *sender;
    enum queue_place place;
};

static co_fn void put(void *arg)
{
    const struct message *m = arg;
    void *ctx = talloc_new(NULL);
    struct queue_rcpt rcpts[] = {{.addr = (char[]){"done@example.test"}, .state = QUEUE_RCPT_DONE},
                                 {.addr = (char[]){"open@example.test"}, .state = QUEUE_RCPT_TODO}};
    struct queue_envelope env = {.arrived_us = 1700000000ull * 1000000, .rcpts = rcpts, .rcpt_count = 2};
    struct queue_writer *w = queue_writer_new(ctx, queue);
    struct error *e;

    snprintf(env.id, sizeof(env.id), "%s", m->id);
    env.sender = mem_strdup(ctx, m->sender);
    e = queue_writer_content(w, bytes(content, sizeof(content) - 1));
    assert_null(e);
    e = queue_writer_commit(w, &env, m->place == QUEUE_HOLD ? QUEUE_HOLD : QUEUE_INCOMING, clock_ms() + 5000);
    assert_null(e);
    if (m->place == QUEUE_DEFERRED) {
        const struct queue_reason why = {"open@example.test", "4.4.1", "no route"};

        assert_null(queue_reasons_write(queue, m->id, &why, 1));
        assert_null(queue_message_move(queue, m->id, QUEUE_INCOMING, QUEUE_DEFERRED, time(NULL) + 1000));
    }
    talloc_free(ctx);
}

static void put_all(void *arg)
{
    static const struct message messages[] = {{"AAAAAA1111", "a@example.test", QUEUE_INCOMING},
                                              {"BBBBBB2222", "", QUEUE_DEFERRED},
                                              {"CCCCCC3333", "c@example.test", QUEUE_HOLD}};

    for (size_t i = 0; i < 3; i++)
        put((void *)(uintptr_t)&messages[i]);
}

static int set_up(void **state)
{
    char path[128], directory[96];
    FILE *f;

    snprintf(dir, sizeof(dir), "/tmp/tool_test.XXXXXX");
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof(path), "%s/main.cf", dir);
    f = fopen(path, "w");
    assert_non_null(f);
    fprintf(f, "compatibility_level = 3.6\nqueue_directory = %s/queue\nmaillog_file = %s/log\n", dir, dir);
    fclose(f);
    snprintf(path, sizeof(path), "%s/master.cf", dir);
    f = fopen(path, "w");
    assert_non_null(f);
    fclose(f);
    snprintf(path, sizeof(path), "%s/log", dir);
    fclose(fopen(path, "w"));
    snprintf(directory, sizeof(directory), "%s/queue", dir);
    assert_int_equal(mkdir(directory, 0700), 0);
    assert_null(queue_open(NULL, &(struct queue_conf){.directory = directory, .hash_depth = 1}, &queue));
    co_init(1);
    co_spawn(put_all, NULL, "put");
    co_run();
    co_deinit();
    return 0;
}

static int tear_down(void **state)
{
    char command[128];

    talloc_free(queue);
    snprintf(command, sizeof(command), "rm -rf %s", dir);
    return system(command);
}

/* ---- the command ---- */

/* "queue ..." with blanks between the words; its status, and what it printed. */
static int run(const char *command, char out[OUTPUT])
{
    int pair[2], status;
    size_t n = 0;
    ssize_t more;
    pid_t pid;

    assert_int_equal(pipe(pair), 0);
    pid = fork();
    if (pid == 0) {
        char words[256], name[] = "sallyport", c[] = "-c", *argv[16] = {name, c, dir}, *rest = words;
        int argc = 3;

        snprintf(words, sizeof(words), "%s", command);
        while (argc < 15 && (argv[argc] = strsep(&rest, " ")) != NULL)
            argc++;
        dup2(pair[1], STDOUT_FILENO);
        dup2(pair[1], STDERR_FILENO);
        close(pair[0]);
        status = tool_main(argc, argv);
        fflush(stdout);
        _exit(status);
    }
    close(pair[1]);
    while (n < OUTPUT - 1 && (more = read(pair[0], out + n, OUTPUT - 1 - n)) > 0)
        n += (size_t)more;
    out[n] = '\0';
    close(pair[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static bool is_in(const char *id, enum queue_place place)
{
    enum queue_place found;

    return queue_message_find(queue, id, &found) && found == place;
}

/* ---- cases ---- */

static void test_list(void **state)
{
    char out[OUTPUT];

    assert_int_equal(run("queue list", out), 0);
    assert_non_null(strstr(out, "AAAAAA1111 "));
    assert_non_null(strstr(out, "CCCCCC3333!"));
    assert_non_null(strstr(out, "(no route)"));
    assert_non_null(strstr(out, "MAILER-DAEMON"));
    assert_null(strstr(out, "done@example.test"));
    assert_non_null(strstr(out, "in 3 Requests."));
    assert_int_equal(run("queue delete ALL", out), 0);
    assert_int_equal(run("queue list", out), 0);
    assert_string_equal(out, "Mail queue is empty\n");
}

static void test_json(void **state)
{
    char out[OUTPUT], *rest = out, *line;
    size_t lines = 0;

    assert_int_equal(run("queue list --json", out), 0);
    while ((line = strsep(&rest, "\n")) != NULL && *line != '\0') {
        json_t *m = json_loads(line, 0, NULL), *rcpts = json_object_get(m, "recipients");

        assert_non_null(m);
        assert_int_equal(json_object_size(m), 7);
        assert_int_equal(json_integer_value(json_object_get(m, "arrival_time")), 1700000000);
        assert_int_equal(json_integer_value(json_object_get(m, "message_size")), sizeof(content) - 1);
        assert_true(json_is_false(json_object_get(m, "forced_expire")));
        assert_int_equal(json_array_size(rcpts), 1);
        assert_string_equal(json_string_value(json_object_get(json_array_get(rcpts, 0), "address")),
                            "open@example.test");
        if (strcmp(json_string_value(json_object_get(m, "queue_id")), "BBBBBB2222") == 0) {
            assert_string_equal(json_string_value(json_object_get(m, "queue_name")), "deferred");
            assert_string_equal(json_string_value(json_object_get(m, "sender")), "MAILER-DAEMON");
            assert_string_equal(json_string_value(json_object_get(json_array_get(rcpts, 0), "delay_reason")),
                                "no route");
        }
        json_decref(m);
        lines++;
    }
    assert_int_equal(lines, 3);
}

static void test_hold_release_flush_delete(void **state)
{
    char out[OUTPUT];

    assert_int_equal(run("queue hold AAAAAA1111 BBBBBB2222", out), 0);
    assert_string_equal(out, "Placed on hold: 2 messages\n");
    assert_true(is_in("AAAAAA1111", QUEUE_HOLD) && is_in("BBBBBB2222", QUEUE_HOLD));
    assert_int_equal(run("queue release AAAAAA1111", out), 0);
    assert_true(is_in("AAAAAA1111", QUEUE_INCOMING));
    assert_int_equal(run("queue release AAAAAA1111", out), 1);
    assert_non_null(strstr(out, "not on hold"));
    assert_int_equal(run("queue delete ALL hold", out), 0);
    assert_string_equal(out, "Deleted: 2 messages\n");
    assert_true(is_in("AAAAAA1111", QUEUE_INCOMING));
}

static void test_flush_one(void **state)
{
    char out[OUTPUT];

    assert_int_equal(run("queue flush BBBBBB2222", out), 0);
    assert_true(is_in("BBBBBB2222", QUEUE_INCOMING));
    assert_int_equal(run("queue flush", out), 0);
}

static bool is_logged(const char *text)
{
    char path[128], log[4096];
    size_t n;
    FILE *f;

    snprintf(path, sizeof(path), "%s/log", dir);
    f = fopen(path, "r");
    assert_non_null(f);
    n = fread(log, 1, sizeof(log) - 1, f);
    fclose(f);
    log[n] = '\0';
    return strstr(log, text) != NULL;
}

static void test_requeue_keeps_content_and_open_recipients(void **state)
{
    char out[OUTPUT], new_id[MAIL_ID_SIZE], show[64], whole[128], line[128];

    assert_int_equal(run("queue requeue CCCCCC3333", out), 0);
    assert_int_equal(sscanf(out, "CCCCCC3333: requeued as %31s", new_id), 1);
    assert_false(is_in("CCCCCC3333", QUEUE_HOLD));
    assert_true(is_in(new_id, QUEUE_HOLD));
    snprintf(line, sizeof(line), ": CCCCCC3333: requeued as %s\n", new_id);
    assert_true(is_logged(line));
    snprintf(show, sizeof(show), "queue show %s", new_id);
    assert_int_equal(run(show, out), 0);
    snprintf(whole, sizeof(whole), "*** MESSAGE CONTENTS hold/%s ***\n%s", new_id, content);
    assert_non_null(strstr(out, whole));
    assert_null(strstr(out, "done@example.test"));
    assert_non_null(strstr(out, "recipient: open@example.test\n"));
}

static void test_count(void **state)
{
    char out[OUTPUT];

    assert_int_equal(run("queue count", out), 0);
    assert_string_equal(out, "incoming 1\nactive 0\ndeferred 1\nhold 1\ncorrupt 0\n");
}

static void check_here(void)
{
    char name[] = "sallyport", c[] = "-c", check[] = "check", *argv[] = {name, c, dir, check, NULL};

    assert_int_equal(tool_main(4, argv), 0);
    optind = 1;
}

/* What `check` opens it closes. The first time fills what lasts as long as the process. */
static void test_check_leaves_nothing(void **state)
{
    static const char services[] = "qmgr unix n - n 300 1 qmgr\n127.0.0.1:2525 inet n - n - - smtpd\n"
                                   " -o smtpd_proxy_filter=127.0.0.1:10025\n"
                                   "127.0.0.1:10025 inet n - n - - filter -o filter_nexthop=127.0.0.1:10026\n"
                                   "127.0.0.1:10026 inet n - n - - smtpd -o smtpd_client_restrictions=\n"
                                   "smtp unix - - n - - smtp\nbounce unix - - n - 0 bounce\n";
    char path[128];
    size_t blocks;
    FILE *f;

    snprintf(path, sizeof(path), "%s/master.cf", dir);
    f = fopen(path, "w");
    assert_non_null(f);
    fputs(services, f);
    fclose(f);
    snprintf(path, sizeof(path), "%s/main.cf", dir);
    f = fopen(path, "a");
    assert_non_null(f);
    fputs("alias_maps =\nlocal_recipient_maps =\nfilter_engines = checks\n", f);
    fclose(f);
    talloc_enable_null_tracking();
    check_here();
    blocks = talloc_total_blocks(NULL);
    check_here();
    assert_int_equal(talloc_total_blocks(NULL), blocks);
    talloc_disable_null_tracking();
}

static void test_what_is_not_there(void **state)
{
    static const char *const commands[] = {"queue show DDDDDD4444", "queue hold DDDDDD4444",
                                           "queue delete ../x", "queue requeue DDDDDD4444",
                                           "queue show AAAAAA1111/../x"};
    char out[OUTPUT];

    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
        if (run(commands[i], out) != 1)
            fail_msg("%s: %s", commands[i], out);
        assert_non_null(strstr(out, "not in the queue"));
    }
}

static void test_usage(void **state)
{
    static const char *const commands[] = {"queue",         "queue hold", "queue list --xml",
                                           "queue nothing", "nothing",    "queue delete ALL x",
                                           "status x",      "map",        "queue count 1"};
    char out[OUTPUT];

    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
        if (run(commands[i], out) != 64)
            fail_msg("%s: %s", commands[i], out);
    assert_true(is_in("AAAAAA1111", QUEUE_INCOMING));
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_list, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_json, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_hold_release_flush_delete, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_flush_one, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_requeue_keeps_content_and_open_recipients, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_count, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_check_leaves_nothing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_what_is_not_there, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_usage, set_up, tear_down),
    };

    if (geteuid() == 0 && (setgid(NOBODY) != 0 || setuid(NOBODY) != 0))
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
