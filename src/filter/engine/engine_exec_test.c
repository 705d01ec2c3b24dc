/*
 * The exec engine with real little programs, most of them one line of shell: answers, exit statuses, crashes,
 * stalls, floods, programs that do not read or leave others behind, the environment, limits. No program
 * outlives its test.
 */
#include "engine_exec_private.h"

#include "clock.h"
#include "log.h"
#include "mem.h"

#include <dirent.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define MESSAGE "Subject: x\r\n\r\nbody\r\n.dot\r\n"

static char *folder; /* for files of the programs; anybody may write there */
static struct io_spool_conf spool_conf = {.memory_limit = 1 << 20};
static struct buf seen_log;

static void on_log(const char *line, void *arg)
{
    buf_addf(&seen_log, "%s\n", line);
}

/* ---- one scan ---- */

struct scan_case {
    const char *command;
    const char *message;    /* NULL: MESSAGE */
    const char *time_limit; /* NULL: 20s */
    const char *output_limit;
    unsigned times; /* at the same time; 0: one */
    uint64_t cancel_after_ms;

    /* found, of the last that ended */
    void *ctx;
    struct engine *engine;
    struct engine_result result;
    char *content; /* of result.changed */
    uint64_t ms;
    unsigned left;
    uint64_t started;
};

static const char long_addr[] = "a b\n@c.test";
static struct mail_rcpt rcpts_[] = {
    {.addr = "r@b.test"}, {.addr = long_addr}, {.addr = "-f$(id)`id`@b.test"}};
static struct mail_rcpt *rcpts[] = {&rcpts_[0], &rcpts_[1], &rcpts_[2]};
static const struct mail_client client = {
    .name = "mx.example", .addr = "192.0.2.1", .port = "4711", .helo = "mx\x7f'; id", .proto = "ESMTP"};
static const struct mail_envelope envelope = {
    .id = "ID", .sender = "s@a.test", .rcpts = rcpts, .rcpt_count = 3, .body = MAIL_BODY_8BITMIME};

static co_fn char *read_all(void *ctx, struct io_spool *spool)
{
    struct buf all = {0};
    struct bytes piece;
    char *text;

    while (io_spool_read(spool, all.n, &piece) == NULL && piece.n > 0)
        buf_add(&all, piece);
    text = bytes_dup(ctx, bytes(all.p != NULL ? all.p : "", all.n));
    buf_deinit(&all);
    return text;
}

static co_fn void scan_one(void *arg)
{
    struct scan_case *c = arg;
    struct engine_input in = {.ctx = c->ctx, .client = &client, .envelope = &envelope};
    struct engine_result result = {0};

    in.content = io_spool_new(c->ctx, &spool_conf);
    error_free(
        &(struct error *){io_spool_write(in.content, bytes_of(c->message != NULL ? c->message : MESSAGE))});
    engine_exec_ops.scan(c->engine, &in, &result);
    if (result.changed != NULL)
        c->content = read_all(c->ctx, result.changed);
    mail_reply_deinit(&c->result.reply);
    c->result = result;
    c->ms = clock_ms() - c->started;
    c->left--;
}

static co_fn void cancel_later(void *arg)
{
    struct scan_case *c = arg;
    struct co *scan = co_spawn(scan_one, c, "scan");

    co_sleep(clock_ms() + c->cancel_after_ms, "time to cancel");
    co_cancel(scan);
}

/* A value of main.cf: "$" is written "$$". */
static char *escape(void *ctx, const char *text)
{
    struct buf out = {0};
    char *copy;

    for (; *text != '\0'; text++) {
        if (*text == '$')
            buf_addc(&out, '$');
        buf_addc(&out, *text);
    }
    copy = mem_strdup(ctx, buf_text(&out));
    buf_deinit(&out);
    return copy;
}

static struct conf *conf_of(struct scan_case *c)
{
    struct conf_faults faults = {.ctx = c->ctx};
    struct conf *base = conf_read(c->ctx, NULL, &faults);
    struct conf *conf = conf_derive(c->ctx, base);

    conf_set(conf, "filter_exec_command", escape(c->ctx, c->command), "test", 1);
    conf_set(conf, "filter_exec_user", "nobody", "test", 1);
    conf_set(conf, "filter_exec_time_limit", c->time_limit != NULL ? c->time_limit : "20s", "test", 1);
    conf_set(conf, "filter_exec_output_limit", c->output_limit != NULL ? c->output_limit : "1000000", "test",
             1);
    conf_set(conf, "filter_exec_process_limit", "2", "test", 1);
    return conf;
}

static void begin(struct scan_case *c)
{
    buf_cut(&seen_log, 0);
    c->ctx = talloc_new(NULL);
    assert_null(engine_exec_ops.open(c->ctx, conf_of(c), &spool_conf, &c->engine));
    c->started = clock_ms();
    c->left = c->times > 0 ? c->times : 1;
}

static void end(struct scan_case *c)
{
    mail_reply_deinit(&c->result.reply);
    talloc_free(c->ctx);
}

static void scan(struct scan_case *c)
{
    begin(c);
    for (unsigned i = c->left; i > 0; i--)
        co_spawn(c->cancel_after_ms > 0 ? cancel_later : scan_one, c, "scan");
    co_run();
    assert_int_equal(c->left, 0);
}

static bool logged(const char *text)
{
    return strstr(buf_text(&seen_log), text) != NULL;
}

/* ---- answers ---- */

struct answer_case {
    const char *command;
    int code;               /* 0: pass; 1: discard */
    const char *dsn, *text; /* of the reply */
    const char *content;    /* NULL: unchanged */
    const char *log;        /* a part of it; NULL: nothing is logged */
};

#define TAIL "from mx.example[192.0.2.1]; from=<s@a.test> to=<-f$(id)`id`@b.test> proto=ESMTP helo=<mx?'; id>"

static const struct answer_case answers[] = {
    {"/bin/cat", 0, NULL, NULL, MESSAGE, NULL},
    {"/bin/true", 0, NULL, NULL, NULL, NULL},
    {"/bin/sh -c {sed 's/body/BODY/'}", 0, NULL, NULL, "Subject: x\r\n\r\nBODY\r\n.dot\r\n", NULL},
    {"/bin/sh -c {test $(tr -dc '\\r' | wc -c) = 0}", 0, NULL, NULL, NULL, NULL},
    {"/bin/sh -c {printf 'a\\r\\nb\\rc\\nd'}", 0, NULL, NULL, "a\r\nb c\r\nd\r\n", NULL},
    {"/bin/sh -c {printf 'a\\r'}", 0, NULL, NULL, "a \r\n", NULL},
    {"/bin/sh -c {echo PASS >&3}", 0, NULL, NULL, NULL, NULL},
    {"/bin/sh -c {echo REJECT 550 5.7.1 no spam >&3}", 550, "5.7.1", "no spam", NULL,
     "ID: reject: content " TAIL ": 5.7.1 no spam\n"},
    {"/bin/sh -c {echo reject >&3}", 550, "5.7.1", "message content rejected", NULL, "ID: reject: content"},
    {"/bin/sh -c {echo REJECT 4.7.0 later >&3}", 451, "4.7.0", "later", NULL, "4.7.0 later"},
    {"/bin/sh -c {echo REJECT 452 full >&3}", 452, "4.7.1", "full", NULL, "4.7.1 full"},
    {"/bin/sh -c {echo REJECT 452 5.1.0 full >&3}", 452, "4.1.0", "full", NULL, "4.1.0 full"},
    {"/bin/sh -c {printf 'REJECT 550 5.7.1 a\\001b\\303\\251\\n' >&3}", 550, "5.7.1", "a?b??", NULL, "a?b??"},
    {"/bin/sh -c {printf 'REJECT no end of line' >&3}", 550, "5.7.1", "no end of line", NULL,
     "no end of line"},
    {"/bin/sh -c {echo DISCARD because >&3}", 1, NULL, NULL, NULL,
     "ID: discard: content " TAIL ": because\n"},
    {"/bin/sh -c {echo INFO hello >&3; cat}", 0, NULL, NULL, MESSAGE, "ID: info: content " TAIL ": hello\n"},
    {"/bin/sh -c {echo WARN hello >&3}", 0, NULL, NULL, NULL, "ID: warning: content " TAIL ": hello\n"},
    {"/bin/sh -c {printf 'PREPEND X-A: 1\\r\\n\\nPREPEND X-B: 2\\n' >&3}", 0, NULL, NULL,
     "X-A: 1\r\nX-B: 2\r\n" MESSAGE, "ID: prepend: content " TAIL ": X-B: 2\n"},
    {"/bin/sh -c {echo PREPEND X-A: 1 >&3; echo new}", 0, NULL, NULL, "X-A: 1\r\nnew\r\n", "prepend"},
    {"/bin/sh -c {echo oops >&2}", 0, NULL, NULL, NULL, "warning: ID: filter command /bin/sh says: oops\n"},
    /* exit statuses */
    {"/bin/sh -c {exit 75}", 451, "4.3.0", "Error: message not accepted now, try again later", NULL,
     "ID: reject: content " TAIL
     ": 4.3.0 Error: message not accepted now, try again later (/bin/sh: exit status 75)\n"},
    {"/bin/sh -c {exit 71}", 451, "4.3.0", "Error: message not accepted now, try again later", NULL,
     "status 71"},
    {"/bin/sh -c {exit 69}", 554, "5.3.0", "Error: message content rejected", NULL,
     "(/bin/sh: exit status 69)"},
    {"/bin/sh -c {exit 65}", 554, "5.6.0", "Error: message content rejected", NULL, "status 65"},
    {"/bin/sh -c {exit 77}", 554, "5.7.0", "Error: message content rejected", NULL, "status 77"},
    {"/bin/sh -c {exit 78}", 554, "5.3.5", "Error: message content rejected", NULL, "status 78"},
    {"/bin/sh -c {echo 5.7.1 virus found; echo x; exit 69}", 554, "5.7.1", "virus found", NULL,
     "5.7.1 virus found"},
    {"/bin/sh -c {echo 4.7.1 come back; exit 69}", 451, "4.7.1", "come back", NULL, "4.7.1 come back"},
    {"/bin/sh -c {echo secret path; exit 69}", 554, "5.3.0", "Error: message content rejected", NULL,
     "status 69"},
    {"/bin/sh -c {echo DISCARD >&3; exit 69}", 554, "5.3.0", "Error: message content rejected", NULL,
     "status 69"},
/* trouble */
#define TROUBLE 451, "4.3.0", "Error: queue file write error", NULL
    {"/bin/sh -c {exit 1}", TROUBLE, "warning: ID: filter command /bin/sh: exit status 1 after "},
    {"/bin/sh -c {exit 63}", TROUBLE, "exit status 63"},
    {"/bin/sh -c {exit 79}", TROUBLE, "exit status 79"},
    {"/bin/sh -c {/nonexistent/x}", TROUBLE, "exit status 127"},
    {"/bin/sh -c {kill -SEGV $$}", TROUBLE,
     "warning: ID: filter command /bin/sh: killed by signal 11 after "},
    {"/bin/sh -c {echo half; kill -9 $$}", TROUBLE, "killed by signal 9"},
    {"/bin/sh -c {echo REJECTED >&3}", TROUBLE, "answered nonsense, not an answer: \"REJECTED\","},
    {"/bin/sh -c {echo INFO a >&3; echo '?' >&3}", TROUBLE, "not an answer: \"?\""},
    {"/bin/sh -c {echo REJECT 250 2.0.0 ok >&3}", TROUBLE,
     "not what this word takes: \"REJECT 250 2.0.0 ok\""},
    {"/bin/sh -c {echo REJECT 600 x >&3}", TROUBLE, "not what this word takes"},
    {"/bin/sh -c {echo REDIRECT nobody >&3}", TROUBLE, "not what this word takes"},
    {"/bin/sh -c {echo PREPEND no header >&3}", TROUBLE, "not what this word takes"},
    {"/bin/sh -c {printf 'PREPEND A: b\\001c\\n' >&3}", TROUBLE, "not what this word takes"},
    {"/bin/sh -c {echo FILTER nowhere >&3}", TROUBLE, "not what this word takes"},
    {"/bin/sh -c {echo PASS 1 >&3}", TROUBLE, "not what this word takes"},
    {"/bin/sh -c {echo REJECT a >&3; echo DISCARD >&3}", TROUBLE, "a second decision: \"DISCARD\""},
    {"/bin/sh -c {printf 'INFO a\\000b\\n' >&3}", TROUBLE, "not an answer"},
    {"/bin/sh -c {printf 'INFO %05000d\\n' 0 >&3}", TROUBLE, "not an answer"},
    {"/bin/sh -c {yes INFO | head -1001 >&3}", TROUBLE, "too many lines"},
};

static void check_answer(const struct answer_case *a)
{
    struct scan_case c = {.command = a->command};
    enum engine_outcome want = a->code == 0 ? ENGINE_PASS : a->code == 1 ? ENGINE_DISCARD : ENGINE_REPLY;

    scan(&c);
    if (c.result.outcome != want)
        fail_msg("%s: outcome %d, log: %s", a->command, c.result.outcome, buf_text(&seen_log));
    if (want == ENGINE_REPLY) {
        if (c.result.reply.code != a->code)
            fail_msg("%s: %d %s", a->command, c.result.reply.code, c.result.reply.text);
        assert_string_equal(c.result.reply.dsn, a->dsn);
        assert_string_equal(c.result.reply.text, a->text);
    }
    if ((a->content == NULL) != (c.content == NULL) ||
        (a->content != NULL && strcmp(a->content, c.content) != 0))
        fail_msg("%s: content %s", a->command, c.content);
    if (a->log != NULL ? !logged(a->log) : seen_log.n > 0)
        fail_msg("%s: log %s", a->command, buf_text(&seen_log));
    end(&c);
}

static void test_answers(void **state)
{
    for (size_t i = 0; i < sizeof(answers) / sizeof(*answers); i++)
        check_answer(&answers[i]);
}

static void test_destinations(void **state)
{
    struct scan_case c = {
        .command = "/bin/sh -c {printf 'HOLD odd\\nREDIRECT a@x.test\\nFILTER [::1]:25\\nBCC b@x.test\\n"
                   "bcc c@x.test\\n' >&3}"};

    scan(&c);
    assert_int_equal(c.result.outcome, ENGINE_PASS);
    assert_string_equal(c.result.hold, "odd");
    assert_string_equal(c.result.redirect, "a@x.test");
    assert_string_equal(c.result.filter, "smtp:[::1]:25");
    assert_int_equal(c.result.bcc.n, 2);
    assert_string_equal(c.result.bcc.at[0], "b@x.test");
    assert_string_equal(c.result.bcc.at[1], "c@x.test");
    assert_true(logged("ID: hold: content " TAIL ": odd\n"));
    end(&c);
}

/* ---- what it sees ---- */

static bool has_line(const char *text, const char *line)
{
    char *with_ends = mem_printf(NULL, "\r\n%s", text);
    char *wanted = mem_printf(NULL, "\r\n%s\r\n", line);
    bool has = strstr(with_ends, wanted) != NULL;

    talloc_free(with_ends);
    talloc_free(wanted);
    return has;
}

static void test_environment(void **state)
{
    static const char *const lines[] = {
        "SENDER=s@a.test",
        "QUEUE_ID=ID",
        "RECIPIENT_COUNT=3",
        "RECIPIENT_1=r@b.test",
        "RECIPIENT_2=a b?@c.test",
        "RECIPIENT_3=-f$(id)`id`@b.test",
        "RECIPIENTS=r@b.test\r\na b?@c.test\r\n-f$(id)`id`@b.test",
        "CLIENT_ADDRESS=192.0.2.1",
        "CLIENT_NAME=mx.example",
        "CLIENT_PORT=4711",
        "HELO=mx?'; id",
        "PROTOCOL=ESMTP",
        "MESSAGE_SIZE=26",
        "BODY=8BITMIME",
        "SMTPUTF8=no",
    };
    struct scan_case c = {.command = "/usr/bin/env"};

    setenv("SECRET_OF_OURS", "1", 1);
    scan(&c);
    for (size_t i = 0; i < sizeof(lines) / sizeof(*lines); i++)
        if (!has_line(c.content, lines[i]))
            fail_msg("no line %s in:\n%s", lines[i], c.content);
    assert_null(strstr(c.content, "SECRET_OF_OURS"));
    end(&c);
}

/* Folder, umask, user, descriptors, process group, signals. */
static void test_surroundings(void **state)
{
    struct scan_case c = {.command = "/bin/sh -c {pwd; umask; id -un; ls -m /proc/$$/fd; "
                                     "cut -d' ' -f5 /proc/$$/stat; " /* its process group */
                                     "echo $$; grep -E '^Sig(Blk|Ign)' /proc/self/status; ulimit -c}"};
    int leaked = dup(2);
    char *rest, *group, *pid;

    scan(&c);
    close(leaked);
    assert_string_equal(strtok_r(c.content, "\r\n", &rest), "/");
    assert_string_equal(strtok_r(NULL, "\r\n", &rest), "0077");
    if (geteuid() == 0)
        assert_string_equal(strtok_r(NULL, "\r\n", &rest), "nobody");
    else
        strtok_r(NULL, "\r\n", &rest);
    assert_string_equal(strtok_r(NULL, "\r\n", &rest), "0, 1, 2, 3");
    group = strtok_r(NULL, "\r\n", &rest);
    pid = strtok_r(NULL, "\r\n", &rest);
    assert_string_equal(group, pid);
    assert_non_null(strstr(strtok_r(NULL, "\r\n", &rest), "SigBlk:\t0000000000000000"));
    assert_non_null(strstr(strtok_r(NULL, "\r\n", &rest), "SigIgn:\t0000000000000000"));
    assert_string_equal(strtok_r(NULL, "\r\n", &rest), "0");
    end(&c);
}

static void test_words(void **state)
{
    struct scan_case c = {.command = "/usr/bin/printf  {%s|%s|%s|%s} a,b { c  d }\t{{e}} {}"};

    scan(&c);
    assert_string_equal(c.content, "a,b|c  d|{e}|\r\n");
    end(&c);
}

/* ---- pipes ---- */

static char *big_message(size_t lines)
{
    struct buf text = {0};
    char *copy;

    buf_adds(&text, "Subject: big\r\n\r\n");
    for (size_t i = 0; i < lines; i++)
        buf_addf(&text, "%070zu\r\n", i);
    copy = mem_strdup(NULL, buf_text(&text));
    buf_deinit(&text);
    return copy;
}

/* More than any pipe holds, in both directions at once, from memory and from a file. */
static void test_big(void **state)
{
    char *message = big_message(60000);
    struct scan_case c = {.command = "/bin/cat", .message = message, .output_limit = "10000000"};

    scan(&c);
    assert_string_equal(c.content, message);
    end(&c);
    spool_conf.memory_limit = 1000;
    scan(&c);
    assert_string_equal(c.content, message);
    end(&c);
    spool_conf.memory_limit = 1 << 20;
    talloc_free(message);
}

/* Says everything before it reads anything, and the other way round. */
static void test_order(void **state)
{
    char *message = big_message(5000);
    struct scan_case c = {
        .command = "/bin/sh -c {head -c 300000 /dev/zero | tr '\\0' x; cat > /dev/null; echo INFO read >&3}",
        .message = message};

    scan(&c);
    assert_int_equal(c.result.outcome, ENGINE_PASS);
    assert_int_equal(strlen(c.content), 300002);
    assert_true(logged("read"));
    end(&c);
    talloc_free(message);
}

static void test_never_reads(void **state)
{
    char *message = big_message(5000);
    struct scan_case c = {.command = "/bin/sh -c {echo short}", .message = message};

    scan(&c);
    assert_int_equal(c.result.outcome, ENGINE_PASS);
    assert_string_equal(c.content, "short\r\n");
    end(&c);
    c = (struct scan_case){.command = "/bin/sh -c {exec < /dev/null; echo closed}", .message = message};
    scan(&c);
    assert_string_equal(c.content, "closed\r\n");
    end(&c);
    talloc_free(message);
}

/* ---- limits ---- */

static void assert_trouble(const struct scan_case *c, const char *log)
{
    if (c->result.outcome != ENGINE_REPLY || c->result.reply.code != 451)
        fail_msg("%s: outcome %d", c->command, c->result.outcome);
    assert_string_equal(c->result.reply.text, "Error: queue file write error");
    if (!logged(log))
        fail_msg("%s: log %s", c->command, buf_text(&seen_log));
}

static void test_stall(void **state)
{
    static const char *const stalls[] = {
        "/bin/sleep 100",
        "/bin/sh -c {trap '' TERM INT HUP; sleep 100; sleep 100}",
        "/bin/sh -c {exec >&- 3>&- 2>&- <&-; sleep 100}",
        "/bin/sh -c {sleep 100 & sleep 100 & wait}",
    };

    for (size_t i = 0; i < sizeof(stalls) / sizeof(*stalls); i++) {
        struct scan_case c = {.command = stalls[i], .time_limit = "1s"};

        scan(&c);
        assert_trouble(&c, "did not end within filter_exec_time_limit and was killed after ");
        assert_in_range(c.ms, 1000, 15000);
        end(&c);
    }
}

static void test_flood(void **state)
{
    static const char *const floods[] = {"/usr/bin/yes", "/bin/sh -c {yes INFO >&3}",
                                         "/bin/sh -c {head -c 10001 /dev/zero}"};
    struct scan_case c;

    for (size_t i = 0; i < sizeof(floods) / sizeof(*floods); i++) {
        c = (struct scan_case){.command = floods[i], .output_limit = "10000"};
        scan(&c);
        assert_trouble(
            &c, "wrote more than it may (filter_exec_output_limit 10000, answers 65536) and was killed");
        end(&c);
    }
    c = (struct scan_case){.command = "/bin/sh -c {head -c 10000 /dev/zero}", .output_limit = "10000"};
    scan(&c);
    assert_int_equal(c.result.outcome, ENGINE_PASS);
    end(&c);
    c = (struct scan_case){.command = "/bin/sh -c {head -c 1000000 /dev/zero >&2}"};
    scan(&c);
    assert_int_equal(c.result.outcome, ENGINE_PASS);
    assert_true(seen_log.n < 1000);
    end(&c);
}

/* A child left in the background, in the group or out of it, does not hold us, and is killed when it is in
 * it. */
static void test_background(void **state)
{
    struct scan_case c = {.command = "/bin/sh -c {sleep 50 & echo INFO $! >&3; echo done}"};
    const char *info;
    pid_t left;

    scan(&c);
    assert_int_equal(c.result.outcome, ENGINE_PASS);
    assert_string_equal(c.content, "done\r\n");
    assert_true(c.ms < 10000);
    info = strrchr(buf_text(&seen_log), ' ');
    left = (pid_t)atoi(info + 1);
    assert_true(left > 1);
    for (int i = 0; i < 500 && kill(left, 0) == 0; i++) { /* a zombie until its new parent looks */
        char state_[64] = "", path[64];
        FILE *f;

        snprintf(path, sizeof(path), "/proc/%d/stat", (int)left);
        f = fopen(path, "r");
        if (f != NULL && fscanf(f, "%*d %*s %63s", state_) == 1 && state_[0] == 'Z')
            i = 500;
        if (f != NULL)
            fclose(f);
        usleep(10000);
        assert_int_not_equal(i, 499);
    }
    end(&c);
    c = (struct scan_case){.command = "/bin/sh -c {setsid sleep 15 & echo done}"};
    scan(&c);
    assert_string_equal(c.content, "done\r\n");
    assert_true(c.ms < 10000);
    end(&c);
}

/* Two at a time (filter_exec_process_limit 2); the last of five have to wait. */
static void test_slots(void **state)
{
    struct scan_case c = {.times = 5};

    c.command = mem_printf(NULL,
                           "/bin/sh -c {cd %s; f=run.$$; : > $f; n=$(ls run.* | wc -l); echo INFO running $n "
                           ">&3; sleep 0.2; rm $f}",
                           folder);
    scan(&c);
    assert_int_equal(c.result.outcome, ENGINE_PASS);
    assert_true(logged("running 2\n"));
    assert_false(logged("running 3\n"));
    assert_in_range(c.ms, 500, 15000);
    end(&c);
    talloc_free((char *)c.command);
}

/* All five have the same deadline: two run until then, and the turn does not come to all others. */
static void test_no_slot(void **state)
{
    struct scan_case c = {.command = "/bin/sleep 100", .times = 5, .time_limit = "3s"};

    scan(&c);
    assert_trouble(&c, "filter command /bin/sleep: no turn among filter_exec_process_limit 2 after ");
    assert_true(logged("did not end within"));
    end(&c);
}

struct slots_test {
    struct engine_exec_slots slots;
    enum co_end ends[3];
    struct co *waiter;
};

static co_fn void wait_cancelled(void *arg)
{
    struct slots_test *t = arg;

    t->ends[1] = engine_exec_slots_take(&t->slots, clock_ms() + 60000);
}

static co_fn void take_slots(void *arg)
{
    struct slots_test *t = arg;

    t->ends[0] = engine_exec_slots_take(&t->slots, clock_ms() + 60000);
    t->ends[2] = engine_exec_slots_take(&t->slots, clock_ms() + 20);
    t->waiter = co_spawn(wait_cancelled, t, "waiter");
    co_yield ();
    engine_exec_slots_give(&t->slots); /* the waiter has it now, and is cancelled before it knows */
    co_cancel(t->waiter);
}

static void test_slots_alone(void **state)
{
    struct slots_test t = {.slots = {.limit = 1}};

    co_spawn(take_slots, &t, "slots");
    co_run();
    assert_int_equal(t.ends[0], CO_OK);
    assert_int_equal(t.ends[2], CO_TIMEOUT);
    assert_null(t.slots.first);
    assert_int_equal(t.slots.used, t.ends[1] == CO_OK ? 1 : 0);
}

static void test_cancel(void **state)
{
    struct scan_case c = {.command = "/bin/sleep 100", .cancel_after_ms = 100};

    scan(&c);
    assert_trouble(&c, "killed because the session ended");
    assert_true(c.ms < 5000);
    end(&c);
}

/* The program was there when we started, and is not now. */
static void test_vanished(void **state)
{
    char *path = mem_printf(NULL, "%s/prog", folder);
    FILE *f = fopen(path, "w");
    struct scan_case c = {.command = path};

    fputs("#!/bin/sh\n", f);
    fclose(f);
    chmod(path, 0755);
    begin(&c);
    unlink(path);
    co_spawn(scan_one, &c, "scan");
    co_run();
    assert_trouble(&c, "cannot execute: No such file or directory after ");
    end(&c);
    talloc_free(path);
}

static void test_descriptors(void **state)
{
    struct scan_case c = {.command = "/bin/cat"};
    size_t counts[2] = {0};

    for (int i = 0; i < 2; i++) {
        DIR *dir;

        scan(&c);
        end(&c);
        dir = opendir("/proc/self/fd");
        while (readdir(dir) != NULL)
            counts[i]++;
        closedir(dir);
    }
    assert_int_equal(counts[0], counts[1]);
}

static void test_user_without_root(void **state)
{
    struct scan_case c = {.command = "/bin/cat", .ctx = talloc_new(NULL)};
    struct conf *conf = conf_of(&c);

    if (geteuid() != 0)
        skip();
    buf_cut(&seen_log, 0);
    assert_int_equal(seteuid(65534), 0); /* nobody, as conf_of() has it */
    assert_null(engine_exec_ops.open(c.ctx, conf, &spool_conf, &c.engine));
    assert_int_equal(seen_log.n, 0);
    conf_set(conf, "filter_exec_user", "daemon", "test", 1);
    assert_null(engine_exec_ops.open(c.ctx, conf, &spool_conf, &c.engine));
    assert_int_equal(seteuid(0), 0);
    assert_true(
        logged("warning: filter_exec_user = daemon has no effect: this service does not run as root, so "
               "filter_exec_command runs as user id 65534\n"));
    talloc_free(c.ctx);
}

/* ---- the worked examples, conf/examples/exec-filter ---- */

static const struct {
    const char *program, *message;
    int code;            /* 0: pass */
    const char *content; /* NULL: unchanged */
    const char *log;     /* a part */
} examples[] = {
    {"filter.sh", MESSAGE, 0, "X-Filtered: ID (26 bytes)\r\n" MESSAGE, "prepend: content"},
    {"filter.sh", "A: 1\r\n\r\nContent-Type: x/y; name=\"a b.EXE\"\r\n", 554, NULL,
     "5.7.1 attachments that are programs are not accepted here"},
    {"filter.py", MESSAGE, 0, NULL, ""},
    {"filter.py",
     "Content-Transfer-Encoding: base64\r\n\r\nWDVPIVAlQEFQWzRcUFpYNTQoUF4pN0NDKTd9JEVJQ0FSLVNUQU5EQVJEL\r\n"
     "UFOVElWSVJVUy1URVNULUZJTEUhJEgrSCo=\r\n",
     554, NULL, "ID: info: content " TAIL ": test virus for r@b.test\n"},
    {"filter.py", "Subject: [archive] x\r\n\r\n", 0, NULL,
     "ID: bcc: content " TAIL ": archive@example.com\n"},
    {"filter.py", "A: 1\r\nX-Internal-Id: 1\r\n 2\r\nB: 2\r\n c\r\n\r\nX-Internal-Not: 1\r\n", 0,
     "A: 1\r\nB: 2\r\n c\r\n\r\nX-Internal-Not: 1\r\n", ""},
};

/* Into the folder where anybody may run it: the tree may lie where our user cannot go. */
static char *copy_example(const char *name)
{
    char *from = mem_printf(NULL, "%.*s/../../../conf/examples/exec-filter/%s",
                            (int)(strrchr(__FILE__, '/') - __FILE__), __FILE__, name);
    char *to = mem_printf(NULL, "%s/%s", folder, name);
    char *command = mem_printf(NULL, "cp %s %s && chmod 755 %s", from, to, to);

    if (system(command) != 0)
        fail_msg("%s is not there (run the test in the build folder)", from);
    talloc_free(from);
    talloc_free(command);
    return to;
}

static void test_examples(void **state)
{
    for (size_t i = 0; i < sizeof(examples) / sizeof(*examples); i++) {
        char *program = copy_example(examples[i].program);
        struct scan_case c = {.command = program, .message = examples[i].message};

        scan(&c);
        if (examples[i].code != (c.result.outcome == ENGINE_REPLY ? c.result.reply.code : 0) ||
            !logged(examples[i].log))
            fail_msg("example %zu: log %s", i, buf_text(&seen_log));
        if (examples[i].content == NULL)
            assert_null(c.content);
        else
            assert_string_equal(c.content, examples[i].content);
        end(&c);
        talloc_free(program);
    }
}

/* ---- opening ---- */

static void test_open(void **state)
{
    static const struct {
        const char *command, *error;
    } bad[] = {
        {"", "filter_exec_command is empty, and filter_engines asks for \"exec\""},
        {"cat", "filter_exec_command: \"cat\" is not an absolute path"},
        {"/nonexistent/cat x", "filter_exec_command: /nonexistent/cat: No such file or directory"},
        {"/etc/passwd", "filter_exec_command: /etc/passwd: Permission denied"},
    };

    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        struct scan_case c = {.command = bad[i].command, .ctx = talloc_new(NULL)};
        struct error *e = engine_exec_ops.open(c.ctx, conf_of(&c), &spool_conf, &c.engine);

        assert_non_null(e);
        assert_int_equal(e->kind, ERROR_CONF);
        assert_string_equal(e->text, bad[i].error);
        error_free(&e);
        talloc_free(c.ctx);
    }
}

static void test_root_needs_user(void **state)
{
    static const struct {
        const char *user, *owner, *error;
    } bad[] = {
        {"root", "nobody", "filter_exec_user: a filter program does not run as root"},
        {"", "root", "mail_owner: a filter program does not run as root"},
        {"no-such-user", "nobody", "filter_exec_user: no user is named \"no-such-user\""},
        {"", "nobody", NULL},
    };

    if (geteuid() != 0)
        skip();
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        struct scan_case c = {.command = "/bin/cat", .ctx = talloc_new(NULL)};
        struct conf *conf = conf_of(&c);
        struct error *e;

        conf_set(conf, "filter_exec_user", bad[i].user, "test", 1);
        conf_set(conf, "mail_owner", bad[i].owner, "test", 1);
        e = engine_exec_ops.open(c.ctx, conf, &spool_conf, &c.engine);
        assert_string_equal(e != NULL ? e->text : "", bad[i].error != NULL ? bad[i].error : "");
        error_free(&e);
        talloc_free(c.ctx);
    }
}

static int setup(void **state)
{
    char path[] = "/tmp/engine_exec_test.XXXXXX";

    if (mkdtemp(path) == NULL || chmod(path, 0777) < 0)
        return -1;
    folder = mem_strdup(NULL, path);
    spool_conf.dir = folder;
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
        cmocka_unit_test(test_answers),
        cmocka_unit_test(test_destinations),
        cmocka_unit_test(test_environment),
        cmocka_unit_test(test_surroundings),
        cmocka_unit_test(test_words),
        cmocka_unit_test(test_big),
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_never_reads),
        cmocka_unit_test(test_stall),
        cmocka_unit_test(test_flood),
        cmocka_unit_test(test_background),
        cmocka_unit_test(test_slots),
        cmocka_unit_test(test_no_slot),
        cmocka_unit_test(test_slots_alone),
        cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_vanished),
        cmocka_unit_test(test_descriptors),
        cmocka_unit_test(test_open),
        cmocka_unit_test(test_root_needs_user),
        cmocka_unit_test(test_examples),
        cmocka_unit_test(test_user_without_root),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
