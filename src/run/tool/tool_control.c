/* sallyport run, start, stop, reload, status: life and death of master, and what is not as usual. */
#include "clock.h"
#include "daemon.h"
#include "master.h"
#include "mem.h"
#include "tool.h"
#include "tool_numbers.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

enum { START_MS = 60000, STOP_MS = 30000, STEP_MS = 20 };

static int run_master(struct tool *t, bool is_foreground, int tell_fd)
{
    struct master_options options = {.dir = t->dir, .is_foreground = is_foreground, .tell_fd = tell_fd};

    options.programs = daemon_programs(&options.program_count);
    options.prepare = daemon_prepare;
    options.died = daemon_died;
    options.try = daemon_try;
    return master_run(&options);
}

static pid_t running(const struct conf *conf)
{
    return master_pid(conf_text(conf, "queue_directory"));
}

/* The configuration, when it is good and nobody runs on it; else *status_r. */
static struct conf *conf_to_start(struct tool *t, int *status_r)
{
    struct conf *conf = tool_conf(t, NULL);
    pid_t pid = conf ? running(conf) : 0;

    *status_r = EX_CONFIG;
    if (pid == 0)
        return conf;
    *status_r = tool_fail(1, "the mail system is already running: pid %d", (int)pid);
    return NULL;
}

int tool_run(struct tool *t)
{
    int status;

    return conf_to_start(t, &status) ? run_master(t, true, -1) : status;
}

/* ---- start ---- */

static _Noreturn void be_master(struct tool *t, const struct conf *conf, int tell_fd)
{
    bool keep_stdout = strcmp(conf_text(conf, "maillog_file"), "/dev/stdout") == 0;
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);

    setsid();
    if (null < 0 || chdir("/") != 0)
        _exit(EX_OSERR);
    dup2(null, STDIN_FILENO);
    dup2(null, STDERR_FILENO);
    if (!keep_stdout)
        dup2(null, STDOUT_FILENO);
    close(null);
    _exit(run_master(t, keep_stdout, tell_fd));
}

/* "ok", why not, or "" when master died without a word. */
static void hear_result(int fd, char *text, size_t size)
{
    uint64_t until = clock_ms() + START_MS, now;
    size_t n = 0;

    while (n + 1 < size && (now = clock_ms()) < until) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        ssize_t more;

        if (poll(&p, 1, (int)(until - now)) <= 0)
            continue;
        more = read(fd, text + n, size - 1 - n);
        if (more <= 0)
            break;
        n += (size_t)more;
    }
    text[n] = '\0';
}

/* "ok" comes when every worker has said that it accepts. The listeners are not called up to hear their
 * greeting: that would be a client's connection, counted against its limits and logged. */
int tool_start(struct tool *t)
{
    int status, pair[2];
    struct conf *conf = conf_to_start(t, &status);
    char result[1024];
    pid_t pid;

    if (conf == NULL)
        return status;
    if (pipe2(pair, O_CLOEXEC) != 0 || (pid = fork()) < 0)
        return tool_fail(EX_OSERR, "start: %s", strerror(errno));
    if (pid == 0) {
        close(pair[0]);
        be_master(t, conf, pair[1]);
    }
    close(pair[1]);
    hear_result(pair[0], result, sizeof(result));
    close(pair[0]);
    if (strcmp(result, "ok") == 0)
        return 0;
    return tool_fail(1, "not started: %s",
                     result[0] ? result : "master ended without a word; its log says more");
}

/* ---- stop, reload, status ---- */

static int not_running(void)
{
    return tool_fail(1, "the mail system is not running");
}

/* Its queue folder is all that is needed, so a configuration that has become bad does not keep it from being
 * ended. */
static const struct conf *conf_to_end(struct tool *t)
{
    struct conf_faults faults = {.ctx = t->memory};

    return conf_read(t->memory, t->dir, &faults);
}

int tool_stop(struct tool *t)
{
    const struct conf *conf = conf_to_end(t);
    uint64_t until = clock_ms() + STOP_MS;
    pid_t pid = running(conf);

    if (pid == 0)
        return not_running();
    if (kill(pid, SIGTERM) != 0)
        return tool_fail(1, "stop: pid %d: %s", (int)pid, strerror(errno));
    while (running(conf) == pid) {
        struct timespec step = {.tv_nsec = STEP_MS * 1000000L};

        if (clock_ms() > until)
            return tool_fail(1, "pid %d has not ended after %d s", (int)pid, STOP_MS / 1000);
        nanosleep(&step, NULL);
    }
    return 0;
}

int tool_reload(struct tool *t)
{
    struct conf_services services;
    const struct conf *conf = tool_conf(t, &services);
    pid_t pid;

    if (conf == NULL || !tool_try(t, &services))
        return tool_fail(EX_CONFIG, "not reloaded: the old configuration stays in force");
    pid = running(conf);
    if (pid == 0)
        return not_running();
    return kill(pid, SIGHUP) == 0 ? 0 : tool_fail(1, "reload: pid %d: %s", (int)pid, strerror(errno));
}

static void show_steps(const struct admission_pool_numbers *p)
{
    for (int i = 0; i < ADMISSION_CLASSES; i++) {
        enum admission_class class = (enum admission_class)i;
        enum admission_step step = (enum admission_step)p->classes[i].step;

        if (p->name[0] != '\0' && step != ADMISSION_FULL)
            printf("filter %s: clients of class %s: step %s (pressure %u%%)\n", p->name,
                   admission_class_name(class), admission_step_name(step), p->classes[i].pressure);
    }
}

int tool_status(struct tool *t)
{
    const struct conf *conf = conf_to_end(t);
    pid_t pid = running(conf);
    struct numbers *n = mem_new(t->memory, struct numbers);
    struct error *none;

    if (pid == 0)
        return not_running();
    printf("the mail system is running: pid %d, configuration %s\n", (int)pid, t->dir);
    none = numbers_read(n, conf, n);
    error_free(&none);
    for (size_t i = 0; i < ADMISSION_POOLS; i++)
        show_steps(&n->admission.pools[i]);
    return 0;
}
