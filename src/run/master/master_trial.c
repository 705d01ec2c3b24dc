/*
 * A trial of a configuration: a child opens what the workers of every service would open, and says what is
 * wrong. So a reload is refused as a whole, before any worker was told to go; and master itself never opens a
 * table.
 */
#include "master_private.h"

#include "clock.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { TRIAL_MS = 10000, TRIAL_TEXT = 1024 };

static _Noreturn void try_all(const struct master *m, struct conf_services services, int fd)
{
    signal(SIGTERM, SIG_DFL);
    for (size_t i = 0; i < services.n; i++) {
        const struct conf_service *s = &services.at[i];
        struct error *e = master_program_find(m->options, s) ? m->options->try(s) : NULL;
        char text[TRIAL_TEXT];
        int n;

        if (e == NULL)
            continue;
        n = snprintf(text, sizeof(text), "%s:%u: service %s: %s", s->file, s->line, s->name, e->text);
        if (write(fd, text, n < TRIAL_TEXT ? (size_t)n : TRIAL_TEXT - 1) < 0)
            _exit(2);
        _exit(1);
    }
    _exit(0);
}

/* What the child wrote until it ended; false: it did not end in time. */
static bool hear(int fd, char text[TRIAL_TEXT])
{
    uint64_t until = clock_ms() + TRIAL_MS, now;
    size_t n = 0;

    while ((now = clock_ms()) < until) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        ssize_t more;

        if (poll(&p, 1, (int)(until - now)) <= 0)
            continue;
        more = read(fd, text + n, TRIAL_TEXT - 1 - n);
        if (more <= 0) {
            text[n] = '\0';
            return true;
        }
        n += (size_t)more;
    }
    return false;
}

struct error *master_trial(struct master *m, struct conf_services services)
{
    char text[TRIAL_TEXT];
    bool has_ended;
    int pair[2], status;
    pid_t pid;

    if (m->options->try == NULL)
        return NULL;
    if (pipe2(pair, O_CLOEXEC) != 0)
        return error_errno(errno, "trial of the configuration");
    log_flush();
    pid = fork();
    if (pid == 0)
        try_all(m, services, pair[1]);
    close(pair[1]);
    has_ended = pid > 0 && hear(pair[0], text);
    close(pair[0]);
    if (pid < 0)
        return error_errno(errno, "trial of the configuration");
    if (!has_ended)
        kill(pid, SIGKILL);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (!has_ended)
        return error_new(ERROR_TEMP, "trial of the configuration did not end within %d s", TRIAL_MS / 1000);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return NULL;
    return error_new(ERROR_CONF, "%s", text[0] ? text : "trial of the configuration failed");
}
