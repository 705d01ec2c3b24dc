/*
 * kill -9 of scheduler and agents at random moments: every message arrives. The agent's "mailbox" is a file a
 * delivery; more than one of a recipient is a duplicate, which a kill between delivery and mark may cost, and
 * nothing else may.
 */
#include "clock.h"
#include "deliver_agent.h"
#include "log.h"
#include "mem.h"
#include "qmgr.h"

#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { MESSAGES = 150, RCPTS = 3, KILLS = 30, PATIENCE_MS = 60000 };

static char dir[64];
static void *ctx;
static struct queue *q;
static struct conf *conf;
static struct conf_service service = {
    .name = "fake", .type = CONF_UNIX, .is_private = true, .maxproc = 20, .command = "virtual"};
static struct conf_services services = {&service, 1};

static void no_line(const char *line, void *arg)
{
}

static void open_all(unsigned worker)
{
    static const char *const values[][2] = {
        {"default_transport", "fake"},  {"mydestination", ""},          {"local_recipient_maps", ""},
        {"queue_run_delay", "1s"},      {"minimal_backoff_time", "1s"}, {"maximal_backoff_time", "1s"},
        {"transport_retry_time", "1s"},
    };
    struct queue_conf queue_conf = {.directory = dir, .hash_depth = 1};
    struct conf_faults faults = {0};
    struct error *e;
    size_t i;

    ctx = faults.ctx = talloc_named_const(NULL, 0, "test");
    co_init(2);
    mail_id_setup(worker, false);
    log_capture(no_line, NULL);
    conf = conf_read(ctx, NULL, &faults);
    for (i = 0; i < sizeof(values) / sizeof(values[0]); i++)
        conf_set(conf, values[i][0], values[i][1], "test", 1);
    e = queue_open(ctx, &queue_conf, &q);
    if (e != NULL) {
        fprintf(stderr, "%s\n", e->text);
        _exit(2);
    }
}

/* ---- processes ---- */

static void write_messages(void *arg)
{
    struct queue_rcpt rcpts[RCPTS];
    struct error *e;
    int i, j;

    for (i = 0; i < MESSAGES; i++) {
        struct queue_envelope env = {
            .sender = (char *)"me@x", .rcpts = rcpts, .rcpt_count = RCPTS, .arrived_us = clock_real_us()};
        struct queue_writer *w = queue_writer_new(ctx, q);

        for (j = 0; j < RCPTS; j++)
            rcpts[j] = (struct queue_rcpt){.addr = mem_printf(ctx, "r%d.%d@d%d.example", i, j, j % 2),
                                           .state = QUEUE_RCPT_TODO};
        mail_id_new(env.id);
        e = queue_writer_commit(w, &env, QUEUE_INCOMING, clock_ms() + PATIENCE_MS);
        if (e != NULL)
            _exit(3);
        queue_notify(q, 'W');
        queue_writer_free(&w);
    }
}

static void file_deliver(struct deliver_agent *a, const void *c, const struct deliver_request *request,
                         struct deliver_result *results)
{
    static unsigned count;
    size_t i;
    int fd;

    co_sleep(clock_ms() + 3, "work");
    for (i = 0; i < request->rcpt_count; i++) {
        fd = open(mem_printf(c, "%s/box/%s.%d.%u", dir, request->rcpts[i]->addr, (int)getpid(), count++),
                  O_CREAT | O_EXCL | O_WRONLY, 0600);
        if (fd >= 0)
            close(fd);
        deliver_result_set(c, &results[i], fd >= 0 ? DELIVER_SENT : DELIVER_DEFERRED,
                           fd >= 0 ? "2.0.0" : "4.0.0", "fake", "ok");
    }
}

static const struct deliver_agent_ops file_ops = {.command = "virtual", .deliver = file_deliver};
static struct deliver_agent file_agent = {&file_ops};

static void serve(void *arg)
{
    struct io_stream *s = io_stream_new(ctx, *(int *)arg);

    deliver_serve(&file_agent, q, "fake", s);
    io_stream_close(&s);
}

static void run_agent(void *arg)
{
    struct io_address address, peer;
    struct io_listener *l;
    struct error *e = io_address_unix(mem_printf(ctx, "%s/private/fake", dir), &address);
    int fd = e == NULL ? io_listen(&address, 128, &e) : -1, code;

    if (fd < 0)
        _exit(4);
    l = io_listener_new(ctx, fd);
    for (;;) {
        int *connection = mem_new(ctx, int);

        if (io_accept(l, CO_NEVER, connection, &peer, &code) == IO_OK)
            co_spawn(serve, connection, "agent");
    }
}

static void run_scheduler(void *arg)
{
    struct error *e = qmgr_run(conf, &services, q);

    fprintf(stderr, "scheduler ended: %s\n", e ? e->text : "");
    _exit(5);
}

static pid_t start(void (*run)(void *arg), unsigned worker)
{
    pid_t pid = fork();

    assert_int_not_equal(pid, -1);
    if (pid == 0) {
        open_all(worker);
        co_spawn(run, NULL, "process");
        co_run();
        _exit(0);
    }
    return pid;
}

static void end(pid_t pid)
{
    int status;

    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (WIFEXITED(status))
        fail_msg("a process ended by itself with %d", WEXITSTATUS(status));
}

/* ---- counting ---- */

#define TO_BE_DELIVERED "incoming active deferred"

/* What moves meanwhile may be missed: exact only while nobody works. */
static int count_queue(const char *places)
{
    char *command = mem_printf(NULL, "cd %s && find %s -type f | wc -l", dir, places);
    FILE *pipe = popen(command, "r");
    int n = -1;

    assert_int_equal(fscanf(pipe, "%d", &n), 1);
    pclose(pipe);
    talloc_free(command);
    return n;
}

static int deliveries[MESSAGES][RCPTS];

static void count_deliveries(void)
{
    char *path = mem_printf(NULL, "%s/box", dir);
    DIR *box = opendir(path);
    struct dirent *entry;
    int i, j;

    assert_non_null(box);
    while ((entry = readdir(box)) != NULL) {
        if (sscanf(entry->d_name, "r%d.%d@", &i, &j) == 2)
            deliveries[i][j]++;
    }
    closedir(box);
    talloc_free(path);
}

static void nap(unsigned ms)
{
    struct timespec t = {.tv_nsec = (long)ms * 1000000};

    nanosleep(&t, NULL);
}

enum { AGENT, SCHEDULER, KINDS };

static pid_t pids[KINDS];

static void start_one(int kind)
{
    pids[kind] = start(kind == AGENT ? run_agent : run_scheduler, (unsigned)kind + 1);
}

/* Both stand still when it returns. */
static void deliver_the_rest(void)
{
    uint64_t until = clock_ms() + PATIENCE_MS;

    for (;;) {
        while (count_queue(TO_BE_DELIVERED) > 0 && clock_ms() < until)
            nap(50);
        end(pids[AGENT]);
        end(pids[SCHEDULER]);
        if (count_queue(TO_BE_DELIVERED) == 0 || clock_ms() >= until)
            break;
        start_one(AGENT);
        start_one(SCHEDULER);
    }
    assert_int_equal(count_queue(TO_BE_DELIVERED), 0);
}

static void test_nothing_is_lost(void **state)
{
    pid_t writer;
    int i, j, victim, status, twice = 0;

    srand(4711);
    writer = start(write_messages, 0);
    start_one(AGENT);
    start_one(SCHEDULER);
    for (i = 0; i < KILLS; i++) {
        nap(20 + (unsigned)rand() % 60);
        victim = rand() % 3 != 0 ? SCHEDULER : AGENT;
        end(pids[victim]);
        start_one(victim);
    }
    assert_int_equal(waitpid(writer, &status, 0), writer);
    assert_int_equal(status, 0);
    deliver_the_rest();
    assert_int_equal(count_queue("corrupt"), 0);
    count_deliveries();
    for (i = 0; i < MESSAGES; i++) {
        for (j = 0; j < RCPTS; j++) {
            if (deliveries[i][j] == 0)
                fail_msg("message %d never reached recipient %d", i, j);
            twice += deliveries[i][j] - 1;
        }
    }
    print_message("%d recipients, %d kills, %d duplicates\n", MESSAGES * RCPTS, KILLS, twice);
    assert_in_range(twice, 0, KILLS * 20 * RCPTS);
}

static int setup(void **state)
{
    char path[100];

    snprintf(dir, sizeof(dir), "/tmp/qmgr_kill_test.XXXXXX");
    if (mkdtemp(dir) == NULL)
        return -1;
    snprintf(path, sizeof(path), "%s/private", dir);
    if (mkdir(path, 0700) != 0)
        return -1;
    snprintf(path, sizeof(path), "%s/box", dir);
    return mkdir(path, 0700);
}

static int teardown(void **state)
{
    char command[100];

    snprintf(command, sizeof(command), "rm -rf %s", dir);
    return system(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_nothing_is_lost, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
