/*
 * A real master with a tiny service: start, crash, reload, refused reload, second start, death of master,
 * stop. The service greets with its worker's pid and the banner of its configuration, and answers lines with
 * "ok".
 */
#include "clock.h"
#include "log.h"
#include "master.h"
#include "master_quota.h"
#include "mem.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { PATIENCE_MS = 10000 };

static char dir[64];
static unsigned port;
static int port_fd;

/* ---- the service ---- */

struct service {
    const struct master_worker *worker;
    struct co *acceptor;
    size_t sessions;
    bool is_draining;
};

struct conversation {
    struct service *service;
    int fd;
};

static co_fn void converse(void *arg)
{
    struct conversation *c = arg;
    struct service *s = c->service;
    struct io_stream *stream = io_stream_new(NULL, c->fd);

    io_writef(stream, CO_NEVER, "220 %d %s\n", (int)getpid(),
              conf_text(s->worker->service->conf, "smtpd_banner"));
    while (io_flush(stream, CO_NEVER) == IO_OK && io_fill(stream, CO_NEVER) == IO_OK) {
        io_consume(stream, io_buffered(stream).n);
        io_write(stream, BYTES("ok\n"), CO_NEVER);
    }
    io_stream_close(&stream);
    if (--s->sessions == 0 && s->is_draining)
        co_stop();
}

static co_fn void accept_all(void *arg)
{
    struct service *s = arg;
    struct io_listener *l = io_listener_new(NULL, s->worker->listeners[0]);
    struct io_address peer;
    int fd, code;

    while (io_accept(l, CO_NEVER, &fd, &peer, &code) == IO_OK) {
        struct conversation *c = mem_new(NULL, struct conversation);

        *c = (struct conversation){s, fd};
        s->sessions++;
        co_spawn(converse, c, "session");
    }
    io_listener_close(&l);
    close(s->worker->listeners[0]);
}

static co_fn void obey(void *arg)
{
    struct service *s = arg;

    while (master_worker_wait(s->worker) == MASTER_DRAIN) {
        if (!s->is_draining)
            co_cancel(s->acceptor);
        s->is_draining = true;
        if (s->sessions == 0)
            break;
    }
    co_sleep(clock_ms() + 1, "the acceptor");
    co_stop();
}

static void serve(const struct master_worker *w)
{
    struct service *s = mem_new(NULL, struct service);

    s->worker = w;
    co_init(1);
    s->acceptor = co_spawn(accept_all, s, "accept");
    co_spawn(obey, s, "orders");
    master_worker_ready(w);
    co_run();
}

/* ---- master and its configuration ---- */

static void write_file(const char *name, const char *text)
{
    char path[128];
    FILE *f;

    snprintf(path, sizeof(path), "%s/%s", dir, name);
    f = fopen(path, "w");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

static void write_main(const char *more)
{
    char text[1024];

    snprintf(text, sizeof(text),
             "compatibility_level = 3.6\nqueue_directory = %s/queue\ndata_directory = %s/data\n"
             "maillog_file = %s/log\nmail_owner = nobody\nworker_processes = 2\n%s\n",
             dir, dir, dir, more);
    write_file("main.cf", text);
}

static int bound_socket(struct sockaddr_in *at)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;

    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)), 0);
    assert_int_equal(bind(fd, (struct sockaddr *)at, sizeof(*at)), 0);
    return fd;
}

/* Ours until `port_fd` is closed, which never listens: a test beside this one is not given it. */
static unsigned own_port(void)
{
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(any);

    port_fd = bound_socket(&any);
    assert_int_equal(getsockname(port_fd, (struct sockaddr *)&any, &size), 0);
    return ntohs(any.sin_port);
}

/* The master's pid; its word about the start in result. */
static pid_t start(char result[256])
{
    static const struct master_program programs[] = {{"smtpd", MASTER_POOL, false, serve}};
    struct master_options options = {.dir = dir, .programs = programs, .program_count = 1};
    int pair[2];
    ssize_t n = 0, more;
    pid_t pid;

    assert_int_equal(pipe2(pair, O_CLOEXEC), 0);
    pid = fork();
    if (pid == 0) {
        close(pair[0]);
        prctl(PR_SET_PDEATHSIG, SIGKILL); /* a test that fails must not leave it behind */
        options.tell_fd = pair[1];
        _exit(master_run(&options));
    }
    close(pair[1]);
    while (n < 255 && (more = read(pair[0], result + n, (size_t)(255 - n))) > 0)
        n += more;
    result[n] = '\0';
    close(pair[0]);
    return pid;
}

static pid_t started(void)
{
    char result[256];
    pid_t pid = start(result);

    assert_string_equal(result, "ok");
    return pid;
}

static void stop(pid_t pid)
{
    int status;

    kill(pid, SIGTERM);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* ---- a client ---- */

/* A connection, or -1 when it was refused. */
static int dial(void)
{
    struct sockaddr_in to = {
        .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons((uint16_t)port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (connect(fd, (struct sockaddr *)&to, sizeof(to)) == 0)
        return fd;
    close(fd);
    return -1;
}

/* The next line without its end; false: none came. */
static bool hear(int fd, char line[128])
{
    size_t n = 0;

    while (n < 127) {
        struct pollfd p = {.fd = fd, .events = POLLIN};

        if (poll(&p, 1, PATIENCE_MS) <= 0 || read(fd, line + n, 1) != 1)
            return false;
        if (line[n] == '\n') {
            line[n] = '\0';
            return true;
        }
        n++;
    }
    return false;
}

/* Connects and reads the greeting: the worker's pid and its banner. */
static int greeted(pid_t *worker_r, char banner[64])
{
    char line[128];
    int fd = dial();

    assert_true(fd >= 0);
    assert_true(hear(fd, line));
    assert_int_equal(sscanf(line, "220 %d %63s", worker_r, banner), 2);
    return fd;
}

static bool answers(int fd)
{
    char line[128];

    return write(fd, "?\n", 2) == 2 && hear(fd, line) && strcmp(line, "ok") == 0;
}

/* Tries until the greeting has this banner; every connection must be taken. */
static void wait_for_banner(const char *wanted)
{
    uint64_t until = clock_ms() + PATIENCE_MS;
    char banner[64] = "";
    pid_t worker;

    while (strcmp(banner, wanted) != 0 && clock_ms() < until)
        close(greeted(&worker, banner));
    assert_string_equal(banner, wanted);
}

static bool log_has(const char *text)
{
    char path[128], line[1024];
    bool found = false;
    FILE *f;

    snprintf(path, sizeof(path), "%s/log", dir);
    f = fopen(path, "r");
    while (f != NULL && !found && fgets(line, sizeof(line), f) != NULL)
        found = strstr(line, text) != NULL;
    if (f != NULL)
        fclose(f);
    return found;
}

static void wait_for_log(const char *text)
{
    uint64_t until = clock_ms() + PATIENCE_MS;

    while (!log_has(text) && clock_ms() < until)
        poll(NULL, 0, 10);
    assert_true(log_has(text));
}

/* ---- cases ---- */

static int set_up(void **state)
{
    char text[128];

    snprintf(dir, sizeof(dir), "/tmp/master_test.XXXXXX");
    if (mkdtemp(dir) == NULL || chmod(dir, 0755) != 0)
        return -1;
    port = own_port();
    write_main("smtpd_banner = one");
    snprintf(text, sizeof(text), "127.0.0.1:%u inet n - n - - smtpd\n", port);
    write_file("master.cf", text);
    return 0;
}

static int tear_down(void **state)
{
    char command[128];

    close(port_fd);
    snprintf(command, sizeof(command), "rm -rf %s", dir);
    return system(command);
}

static void test_start_and_stop(void **state)
{
    char banner[64], queue[128];
    pid_t master = started(), worker;
    int fd = greeted(&worker, banner);

    assert_string_equal(banner, "one");
    assert_true(answers(fd));
    snprintf(queue, sizeof(queue), "%s/queue", dir);
    assert_int_equal(master_pid(queue), master);
    stop(master);
    assert_int_equal(dial(), -1);
    assert_int_equal(master_pid(queue), 0);
    assert_true(log_has("terminating on signal 15"));
    close(fd);
}

static void test_killed_worker_is_replaced(void **state)
{
    char banner[64], line[128];
    pid_t master = started(), first, second;
    uint64_t since = clock_ms();
    int fd = greeted(&first, banner);

    kill(first, SIGKILL);
    assert_false(hear(fd, line));
    close(fd);
    for (size_t i = 0; i < 20; i++) {
        close(greeted(&second, banner));
        assert_int_not_equal(first, second);
    }
    assert_true(clock_ms() - since < PATIENCE_MS);
    wait_for_log("killed by signal 9");
    stop(master);
}

static void test_reload_keeps_sessions_and_refuses_nobody(void **state)
{
    char banner[64];
    pid_t master = started(), worker;
    int fd = greeted(&worker, banner);

    write_main("smtpd_banner = two");
    kill(master, SIGHUP);
    wait_for_banner("two");
    assert_true(answers(fd));
    close(fd);
    stop(master);
}

static void test_bad_configuration_is_refused_at_reload(void **state)
{
    char banner[64];
    pid_t master = started(), worker;

    write_main("smtpd_banner = two\nsmtpd_timeout = soon");
    kill(master, SIGHUP);
    wait_for_log("reload refused");
    for (size_t i = 0; i < 10; i++) {
        close(greeted(&worker, banner));
        assert_string_equal(banner, "one");
    }
    stop(master);
}

static void test_fault_without_a_line_names_the_file(void **state)
{
    pid_t master = started();

    write_main("myhostname =");
    kill(master, SIGHUP);
    wait_for_log("/main.cf: bad string length 0 < 1");
    stop(master);
}

static void test_refused_reload_leaves_the_log_where_it_was(void **state)
{
    char more[256], line[256];
    pid_t master = started();

    snprintf(more, sizeof(more), "maillog_file = %s/other", dir);
    snprintf(line, sizeof(line), "%0120d unix n - n - - smtpd\n", 0); /* more than a socket's name may have */
    write_main(more);
    write_file("master.cf", line);
    kill(master, SIGHUP);
    wait_for_log("reload refused");
    stop(master);
    assert_true(log_has("terminating on signal 15"));
}

static void test_what_is_fixed_refuses_a_reload(void **state)
{
    static const char *const fixed[] = {"queue_directory", "data_directory", "mail_owner"};
    char more[128], said[128], banner[64];
    pid_t master = started(), worker;

    for (size_t i = 0; i < (geteuid() == 0 ? 3 : 2); i++) {
        snprintf(more, sizeof(more), "%s = %s\nsmtpd_banner = two", fixed[i], i < 2 ? dir : "daemon");
        snprintf(said, sizeof(said), "stays in force: %s changes only with stop and start", fixed[i]);
        write_main(more);
        kill(master, SIGHUP);
        wait_for_log(said);
        close(greeted(&worker, banner));
        assert_string_equal(banner, "one");
    }
    stop(master);
}

static void write_services(unsigned n)
{
    char *text = talloc_asprintf(NULL, "127.0.0.1:%u inet n - n - 1 smtpd\n", port);

    for (unsigned i = 1; i < n; i++)
        text = talloc_asprintf_append(text, "s%u unix n - n - 1 smtpd\n", i);
    write_file("master.cf", text);
    talloc_free(text);
}

static void test_too_many_services_are_refused(void **state)
{
    char banner[64], result[256];
    pid_t master = started(), worker;

    write_services(MASTER_SERVICES + 1);
    kill(master, SIGHUP);
    wait_for_log("stays in force: more than 128 services");
    close(greeted(&worker, banner));
    stop(master);
    master = start(result);
    assert_string_equal(result, "more than 128 services");
    assert_int_equal(waitpid(master, NULL, 0), master);
}

static void test_bad_configuration_is_refused_at_start(void **state)
{
    char result[256];
    pid_t pid;
    int status;

    write_main("smtpd_timeout = soon");
    pid = start(result);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_string_equal(result, "errors in the configuration");
    assert_int_equal(WEXITSTATUS(status), 1);
}

static void test_only_one_master_a_queue(void **state)
{
    char result[256];
    pid_t master = started(), second = start(result);
    int status;

    assert_int_equal(waitpid(second, &status, 0), second);
    assert_int_equal(WEXITSTATUS(status), 1);
    assert_non_null(strstr(result, "already running"));
    stop(master);
}

static void test_taken_port_is_told(void **state)
{
    struct sockaddr_in at = {
        .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons((uint16_t)port)};
    int fd = bound_socket(&at), status;
    char result[256];
    pid_t pid;

    assert_int_equal(listen(fd, 1), 0);
    pid = start(result);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_non_null(strstr(result, strerror(EADDRINUSE)));
    close(fd);
}

/* Sessions with both workers, so that neither ends by itself. */
static void test_dead_master_leaves_sessions_and_can_be_started_again(void **state)
{
    char banner[64];
    pid_t master = started(), first, worker, next;
    int fd = greeted(&first, banner), other = greeted(&worker, banner);
    uint64_t since;

    for (size_t i = 0; worker == first && i < 1000; i++) {
        close(other);
        other = greeted(&worker, banner);
    }
    kill(master, SIGKILL);
    assert_int_equal(waitpid(master, NULL, 0), master);
    since = clock_ms();
    next = started();
    assert_true(clock_ms() - since < PATIENCE_MS);
    assert_true(answers(fd));
    assert_true(answers(other));
    close(greeted(&worker, banner));
    close(fd);
    close(other);
    stop(next);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_start_and_stop, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_killed_worker_is_replaced, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_reload_keeps_sessions_and_refuses_nobody, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_bad_configuration_is_refused_at_reload, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_fault_without_a_line_names_the_file, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_refused_reload_leaves_the_log_where_it_was, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_what_is_fixed_refuses_a_reload, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_too_many_services_are_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_bad_configuration_is_refused_at_start, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_only_one_master_a_queue, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_taken_port_is_told, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_dead_master_leaves_sessions_and_can_be_started_again, set_up,
                                        tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
