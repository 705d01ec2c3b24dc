/* deliver/virtual: bytes of maildir and mbox, limits, locks, failures, paths that lead out, owners. As root
 * the mailboxes belong to another user; as an ordinary user, to that one. */
#include "buf.h"
#include "clock.h"
#include "log.h"
#include "mem.h"
#include "virtual_agent.h"
#include "virtual_mailbox.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

enum { OWNER = 12345 };

static void *ctx;
static char dir[64];
static struct deliver_agent *agent;
static struct deliver_result result;
static struct conf *conf;

static void no_line(const char *line, void *arg)
{
}

static void open_agent(void)
{
    struct error *e = virtual_agent_ops.open(ctx, "virtual", conf, &agent);

    if (e != NULL)
        fail_msg("%s", e->text);
}

static void set(const char *name, const char *value)
{
    conf_set(conf, name, value, "test", 1);
}

static int setup(void **state)
{
    struct conf_faults faults = {0};

    snprintf(dir, sizeof(dir), "/tmp/virtual_test.XXXXXX");
    if (mkdtemp(dir) == NULL)
        return -1;
    if (geteuid() == 0 && chown(dir, OWNER, OWNER) != 0)
        return -1;
    ctx = faults.ctx = talloc_named_const(NULL, 0, "test");
    co_init(4);
    log_capture(no_line, NULL);
    conf = conf_read(ctx, NULL, &faults);
    set("virtual_mailbox_base", dir);
    set("virtual_mailbox_maps",
        "inline:{ {dir@x=x/dir/} {box@x=x/box} {up@x=../evil} {..@x=../evil/} {low@x=low} }");
    set("virtual_uid_maps", "inline:{ {low@x=99} } static:12345");
    set("virtual_gid_maps", "static:12345");
    set("deliver_lock_attempts", "2");
    set("deliver_lock_delay", "1s");
    set("myhostname", "host.example");
    open_agent();
    return 0;
}

static int teardown(void **state)
{
    char command[128];

    talloc_free(ctx);
    co_deinit();
    log_capture(NULL, NULL);
    snprintf(command, sizeof(command), "rm -rf %s", dir);
    return system(command);
}

/* ---- one delivery ---- */

struct delivery {
    const char *rcpt, *sender;
    struct bytes content;
    struct deliver_result result;
};

static void run_delivery(void *arg)
{
    struct delivery *d = arg;
    struct queue_rcpt rcpt = {.addr = (char *)d->rcpt, .orig = (char *)"orig@x"}, *rcpts[] = {&rcpt};
    struct queue_envelope env = {
        .id = "ABCDEF123456", .sender = (char *)d->sender, .content_offset = 7, .content_size = d->content.n};
    struct deliver_request request = {
        .envelope = &env, .transport = "virtual", .nexthop = "x", .rcpts = rcpts, .rcpt_count = 1};
    FILE *file = tmpfile();

    assert_non_null(file);
    fputs("prefix:", file);
    fwrite(d->content.p, 1, d->content.n, file);
    fputs("suffix that is not content", file);
    fflush(file);
    request.fd = fileno(file);
    agent->ops->deliver(agent, ctx, &request, &d->result);
    fclose(file);
}

static void deliver(const char *rcpt, struct bytes content)
{
    struct delivery d = {.rcpt = rcpt, .sender = "me@x", .content = content};

    co_spawn(run_delivery, &d, "delivery");
    co_run();
    result = d.result;
}

static void expect(enum deliver_status status, const char *dsn)
{
    if (result.status != status || strcmp(result.dsn, dsn) != 0)
        fail_msg("status %d %s (%s) instead of %d %s", result.status, result.dsn, result.text, status, dsn);
}

static char *path_of(const char *name)
{
    return mem_printf(ctx, "%s/%s", dir, name);
}

static char *contents(const char *path)
{
    struct buf text = {0};
    FILE *file = fopen(path, "r");
    int c;

    assert_non_null(file);
    while ((c = getc(file)) != EOF)
        buf_addc(&text, (char)c);
    fclose(file);
    return text.p != NULL ? text.p : strdup("");
}

/* The only entry of a folder, or NULL. */
static char *only_entry(const char *folder, size_t *n_r)
{
    DIR *at = opendir(folder);
    struct dirent *entry;
    char *name = NULL;

    *n_r = 0;
    assert_non_null(at);
    while ((entry = readdir(at)) != NULL) {
        if (entry->d_name[0] == '.')
            continue;
        name = mem_printf(ctx, "%s/%s", folder, entry->d_name);
        ++*n_r;
    }
    closedir(at);
    return name;
}

/* ---- maildir ---- */

static void test_maildir_bytes(void **state)
{
    char *text, *path;
    struct stat st;
    size_t n;

    deliver("dir@x", BYTES("Subject: x\r\n\r\nFrom here\r\nlast\r\n"));
    expect(DELIVER_SENT, "2.0.0");
    assert_string_equal(result.text, "delivered to maildir");
    path = only_entry(path_of("x/dir/new"), &n);
    assert_int_equal(n, 1);
    text = contents(path);
    assert_string_equal(text, "Return-Path: <me@x>\nX-Original-To: orig@x\nDelivered-To: dir@x\n"
                              "Subject: x\n\nFrom here\nlast\n");
    free(text);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_int_equal(st.st_uid, geteuid() == 0 ? OWNER : geteuid());
    only_entry(path_of("x/dir/tmp"), &n);
    assert_int_equal(n, 0);
    only_entry(path_of("x/dir/cur"), &n);
    assert_int_equal(n, 0);
    assert_non_null(strstr(path, ".host.example"));
}

/* Line ends at the borders of the pieces that content is read in. */
static void test_maildir_large_is_whole(void **state)
{
    struct buf content = {0}, want = {0};
    char *text, *path;
    size_t n, i;

    for (i = 0; i < 20000; i++) {
        buf_addf(&content, "%0*zu\r\n", (int)(i % 37), i);
        buf_addf(&want, "%0*zu\n", (int)(i % 37), i);
    }
    buf_adds(&content, "no end of line\r");
    buf_adds(&want, "no end of line\r\n");
    deliver("dir@x", buf_bytes(&content));
    expect(DELIVER_SENT, "2.0.0");
    path = only_entry(path_of("x/dir/new"), &n);
    text = contents(path);
    assert_string_equal(strstr(text, "Delivered-To: dir@x\n") + 20, want.p);
    free(text);
    buf_deinit(&content);
    buf_deinit(&want);
}

static void test_maildir_limit(void **state)
{
    size_t n;

    set("virtual_mailbox_limit", "100");
    open_agent();
    deliver("dir@x", BYTES("Subject: x\r\n\r\n0123456789012345678901234567890123456789\r\n"));
    expect(DELIVER_BOUNCED, "5.2.2");
    deliver("dir@x", BYTES("\r\nshort\r\n"));
    expect(DELIVER_SENT, "2.0.0");
    only_entry(path_of("x/dir/new"), &n);
    assert_int_equal(n, 1);
}

/* ---- mbox ---- */

/* The From_ line, whose date varies, is cut off: returns what follows it. */
static const char *after_from(const char *text, const char *sender)
{
    char *start = mem_printf(ctx, "From %s  ", sender);

    assert_int_equal(strncmp(text, start, strlen(start)), 0);
    assert_int_equal(strcspn(text, "\n"), strlen(start) + 24);
    return strchr(text, '\n') + 1;
}

static void test_mbox_bytes(void **state)
{
    static const char want[] =
        "Return-Path: <me@x>\nX-Original-To: orig@x\nDelivered-To: box@x\nSubject: x\n\n"
        ">From me\n>>From you\n>>From\nFromage\n From \n>\n>From \n\nFrom ";
    char *text;
    struct stat st;
    const char *rest;

    deliver("box@x",
            BYTES("Subject: x\r\n\r\nFrom me\r\n>From you\r\n>>From\r\nFromage\r\n From \r\n>\r\nFrom \r\n"));
    expect(DELIVER_SENT, "2.0.0");
    assert_string_equal(result.text, "delivered to mailbox");
    deliver("box@x", BYTES("Subject: y\r\n\r\nno line end"));
    expect(DELIVER_SENT, "2.0.0");
    text = contents(path_of("x/box"));
    rest = after_from(text, "me@x");
    assert_int_equal(strncmp(rest, want, strlen(want)), 0);
    rest = after_from(strstr(rest, "\n\nFrom ") + 2, "me@x");
    assert_string_equal(rest,
                        "Return-Path: <me@x>\nX-Original-To: orig@x\nDelivered-To: box@x\nSubject: y\n\n"
                        "no line end\n\n");
    free(text);
    assert_int_equal(stat(path_of("x/box"), &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_int_not_equal(access(path_of("x/box.lock"), F_OK), 0);
}

static void put_file(const char *name, const char *text)
{
    FILE *file;

    virtual_make_parents(path_of(name));
    file = fopen(path_of(name), "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
    if (geteuid() == 0) {
        assert_int_equal(chown(path_of("x"), OWNER, OWNER), 0);
        assert_int_equal(chown(path_of(name), OWNER, OWNER), 0);
    }
}

static void test_mbox_after_a_crash(void **state)
{
    char *text;

    put_file("x/box", "From a  date\n\nhalf a li");
    deliver("box@x", BYTES("\r\nx\r\n"));
    expect(DELIVER_SENT, "2.0.0");
    text = contents(path_of("x/box"));
    assert_non_null(strstr(text, "half a li\n\nFrom me@x  "));
    free(text);
}

static void test_mbox_limit(void **state)
{
    char *text;

    put_file("x/box", "From a  date\n\n0123456789\n\n");
    set("virtual_mailbox_limit", "150");
    open_agent();
    deliver("box@x", BYTES("Subject: long enough\r\n\r\n0123456789\r\n"));
    expect(DELIVER_BOUNCED, "5.2.2");
    text = contents(path_of("x/box"));
    assert_string_equal(text, "From a  date\n\n0123456789\n\n");
    free(text);
}

static void with_file_limit(rlim_t limit, const char *rcpt, struct bytes content)
{
    struct rlimit before, small;

    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    small = before;
    small.rlim_cur = limit;
    {
        struct delivery d = {.rcpt = rcpt, .sender = "me@x", .content = content};

        /* the limit must not hit the message's own temporary file, so that is smaller */
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
        co_spawn(run_delivery, &d, "delivery");
        co_run();
        result = d.result;
    }
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
}

static void test_failed_write_is_cut_back(void **state)
{
    struct buf old = {0}, content = {0};
    char *text;
    size_t n;

    while (old.n < 3000)
        buf_adds(&old, "From a  date\n\n0123456789\n\n");
    while (content.n < 1500)
        buf_adds(&content, "0123456789\r\n");
    put_file("x/box", old.p);
    with_file_limit(4000, "box@x", buf_bytes(&content));
    expect(DELIVER_BOUNCED, "5.2.2");
    text = contents(path_of("x/box"));
    assert_string_equal(text, old.p);
    free(text);
    with_file_limit(1540, "dir@x", bytes(content.p, 1500));
    expect(DELIVER_SENT, "2.0.0");
    with_file_limit(1540, "dir@x", buf_bytes(&content));
    only_entry(path_of("x/dir/tmp"), &n);
    assert_int_equal(n, 0);
    buf_deinit(&old);
    buf_deinit(&content);
}

/* ---- locks ---- */

static void test_mbox_locked_by_dotlock(void **state)
{
    struct timespec old[2] = {{.tv_sec = 1000000}, {.tv_sec = 1000000}};

    put_file("x/box", "");
    put_file("x/box.lock", "");
    deliver("box@x", BYTES("\r\nx\r\n"));
    expect(DELIVER_DEFERRED, "4.2.0");
    assert_int_equal(access(path_of("x/box.lock"), F_OK), 0);
    assert_int_equal(utimensat(AT_FDCWD, path_of("x/box.lock"), old, 0), 0);
    deliver("box@x", BYTES("\r\nx\r\n"));
    expect(DELIVER_SENT, "2.0.0");
    assert_int_not_equal(access(path_of("x/box.lock"), F_OK), 0);
}

static void test_mbox_locked_by_fcntl(void **state)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    int fd;

    put_file("x/box", "");
    fd = open(path_of("x/box"), O_RDWR);
    assert_int_equal(fcntl(fd, F_OFD_SETLK, &lock), 0);
    deliver("box@x", BYTES("\r\nx\r\n"));
    expect(DELIVER_DEFERRED, "4.2.0");
    assert_int_not_equal(access(path_of("x/box.lock"), F_OK), 0);
    close(fd);
    deliver("box@x", BYTES("\r\nx\r\n"));
    expect(DELIVER_SENT, "2.0.0");
}

static void test_many_at_once_into_one_mbox(void **state)
{
    enum { MANY = 12 };
    struct delivery d[MANY];
    struct buf content = {0};
    char *text;
    const char *at;
    int i, n = 0;

    while (content.n < 100000)
        buf_adds(&content, "From the start to the end\r\n");
    set("deliver_lock_attempts", "60");
    open_agent();
    for (i = 0; i < MANY; i++) {
        d[i] = (struct delivery){.rcpt = "box@x", .sender = "", .content = buf_bytes(&content)};
        co_spawn(run_delivery, &d[i], "delivery");
    }
    co_run();
    for (i = 0; i < MANY; i++) {
        result = d[i].result;
        expect(DELIVER_SENT, "2.0.0");
    }
    text = contents(path_of("x/box"));
    for (at = text; (at = strstr(at, "From MAILER-DAEMON  ")) != NULL; at++) {
        assert_true(at == text || (at[-1] == '\n' && at[-2] == '\n'));
        assert_true(strncmp(strchr(at, '\n'), "\nReturn-Path: <>\n", 17) == 0);
        n++;
    }
    assert_int_equal(n, MANY);
    free(text);
    buf_deinit(&content);
}

/* ---- who and where ---- */

static void test_users_and_paths(void **state)
{
    static const struct {
        const char *rcpt;
        enum deliver_status status;
        const char *dsn;
    } cases[] = {
        {"nobody@x", DELIVER_BOUNCED, "5.1.1"},
        {"up@x", DELIVER_DEFERRED, "4.3.5"},
        {"..@x", DELIVER_BOUNCED, "5.1.3"},
    };
    size_t i;

    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        deliver(cases[i].rcpt, BYTES("\r\nx\r\n"));
        expect(cases[i].status, cases[i].dsn);
    }
    assert_int_not_equal(access(path_of("../evil"), F_OK), 0);
    deliver("low@x", BYTES("\r\nx\r\n"));
    if (geteuid() == 0)
        expect(DELIVER_DEFERRED, "4.3.5");
    else
        expect(DELIVER_SENT, "2.0.0");
}

static void test_loop(void **state)
{
    deliver("dir@x", BYTES("Received: x\r\ndelivered-to:  DIR@x\r\n\r\nx\r\n"));
    expect(DELIVER_BOUNCED, "5.4.6");
    deliver("dir@x", BYTES("Delivered-To: other@x\r\n\r\nDelivered-To: dir@x\r\n"));
    expect(DELIVER_SENT, "2.0.0");
}

static void test_links_are_not_followed(void **state)
{
    char *text;

    put_file("x/other", "");
    put_file("victim", "precious\n");
    assert_int_equal(symlink(path_of("victim"), path_of("x/box")), 0);
    deliver("box@x", BYTES("\r\nx\r\n"));
    assert_int_not_equal(result.status, DELIVER_SENT);
    assert_int_equal(unlink(path_of("x/box")), 0);
    assert_int_equal(link(path_of("victim"), path_of("x/box")), 0);
    deliver("box@x", BYTES("\r\nx\r\n"));
    expect(DELIVER_DEFERRED, "4.2.0");
    text = contents(path_of("victim"));
    assert_string_equal(text, "precious\n");
    free(text);
}

/* A map or a mailbox that an administrator can mend: the mail waits. */
static void test_what_stands_in_the_way(void **state)
{
    put_file("x/other", "");
    assert_int_equal(mkdir(path_of("x/box"), 0700), 0);
    deliver("box@x", BYTES("\r\nx\r\n")); /* a map without its '/' */
    expect(DELIVER_DEFERRED, "4.2.0");
    put_file("x/dir", "");
    deliver("dir@x", BYTES("\r\nx\r\n"));
    expect(DELIVER_DEFERRED, "4.2.0");
    assert_int_equal(rmdir(path_of("x/box")), 0);
    assert_int_equal(symlink(path_of("x/other"), path_of("x/box")), 0);
    deliver("box@x", BYTES("\r\nx\r\n"));
    expect(DELIVER_DEFERRED, "4.2.0");
}

static void test_folder_that_is_not_his(void **state)
{
    assert_int_equal(mkdir(path_of("x"), 0500), 0);
    deliver("dir@x", BYTES("\r\nx\r\n"));
    expect(DELIVER_DEFERRED, "4.2.0");
    assert_null(strstr(result.text, dir));
    /* the process is what it was */
    assert_int_equal(chmod(path_of("x"), 0700), 0);
    put_file("x/again", "");
    deliver("dir@x", BYTES("\r\nx\r\n"));
    expect(DELIVER_SENT, "2.0.0");
}

static void test_no_base(void **state)
{
    set("virtual_mailbox_base", "");
    open_agent();
    deliver("dir@x", BYTES("\r\nx\r\n"));
    expect(DELIVER_DEFERRED, "4.3.5");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_maildir_bytes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_maildir_large_is_whole, setup, teardown),
        cmocka_unit_test_setup_teardown(test_maildir_limit, setup, teardown),
        cmocka_unit_test_setup_teardown(test_mbox_bytes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_mbox_after_a_crash, setup, teardown),
        cmocka_unit_test_setup_teardown(test_mbox_limit, setup, teardown),
        cmocka_unit_test_setup_teardown(test_failed_write_is_cut_back, setup, teardown),
        cmocka_unit_test_setup_teardown(test_mbox_locked_by_dotlock, setup, teardown),
        cmocka_unit_test_setup_teardown(test_mbox_locked_by_fcntl, setup, teardown),
        cmocka_unit_test_setup_teardown(test_many_at_once_into_one_mbox, setup, teardown),
        cmocka_unit_test_setup_teardown(test_users_and_paths, setup, teardown),
        cmocka_unit_test_setup_teardown(test_loop, setup, teardown),
        cmocka_unit_test_setup_teardown(test_links_are_not_followed, setup, teardown),
        cmocka_unit_test_setup_teardown(test_what_stands_in_the_way, setup, teardown),
        cmocka_unit_test_setup_teardown(test_folder_that_is_not_his, setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_base, setup, teardown),
    };

    setenv("CMOCKA_TEST_ABORT", "1", 1); /* a failed check must not jump out of a coroutine */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
