/*
 * Workers as master sees them: started, heard, told, and collected when they end.
 *
 * A worker that dies gives its session places back and is replaced as master_backoff.h says. A worker that
 * fails before it was ready fails the start of the whole when that is still under way; later, it is tried
 * again.
 */
#include "master_private.h"

#include "clock.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/* The lowest that is free. */
static bool take_id(const struct master *m, unsigned *id_r)
{
    bool used[MASTER_TOOL_ID] = {false};

    for (const struct master_proc *p = m->procs; p != NULL; p = p->next)
        used[p->id] = true;
    for (*id_r = 0; *id_r < MASTER_TOOL_ID; ++*id_r)
        if (!used[*id_r])
            return true;
    return false;
}

static void cannot_start(struct master_service *s, const char *why)
{
    log_warn("service \"%s\": cannot start a worker: %s", s->conf->name, why);
    s->backoff.not_before = clock_ms() + 1000;
}

void master_proc_start(struct master *m, struct master_service *s)
{
    struct master_proc *p;
    int pair[2];
    unsigned id;
    pid_t pid;

    if (!take_id(m, &id)) {
        cannot_start(s, "too many workers");
        return;
    }
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) {
        cannot_start(s, strerror(errno));
        return;
    }
    log_flush();
    pid = fork();
    if (pid == 0) {
        close(pair[0]);
        master_child_run(m, s, id, pair[1]);
    }
    close(pair[1]);
    if (pid < 0) {
        cannot_start(s, strerror(errno));
        close(pair[0]);
        return;
    }
    p = mem_new(m, struct master_proc);
    *p = (struct master_proc){.next = m->procs,
                              .service = s,
                              .pid = pid,
                              .id = id,
                              .generation = s->generation,
                              .control = pair[0]};
    p->name = mem_printf(p, "%s (service %s)", s->conf->command, s->conf->name);
    m->procs = p;
}

size_t master_procs_of(const struct master *m, const struct master_service *s, bool serving_only)
{
    size_t n = 0;

    for (const struct master_proc *p = m->procs; p != NULL; p = p->next)
        n += p->service == s && (!serving_only || (!p->is_draining && p->generation == s->generation));
    return n;
}

/* A worker that cannot be told has died or will hear of it by the end of the channel. */
void master_proc_tell(struct master_proc *p, char order)
{
    if (send(p->control, &order, 1, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
        log_debug("process %s pid %d cannot be told: %s", p->name, (int)p->pid, strerror(errno));
}

void master_proc_drain(struct master_proc *p)
{
    if (!p->is_draining)
        master_proc_tell(p, ORDER_DRAIN);
    p->is_draining = true;
}

static void fail_start(struct master *m, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void fail_start(struct master *m, const char *fmt, ...)
{
    va_list args;

    if (!m->is_starting || m->failure != NULL)
        return;
    va_start(args, fmt);
    m->failure = mem_vprintf(m, fmt, args);
    va_end(args);
}

static void limit_reached(const struct master_service *s)
{
    bool is_public = false;

    for (size_t i = 0; !s->is_removed && i < s->listener_count; i++)
        is_public |= !master_address_is_loopback(&s->listeners[i]->address);
    if (!is_public || s->conf->maxproc <= 1)
        return;
    log_warn("service \"%s\" (%u) has reached its process limit \"%ld\": new clients may experience "
             "noticeable delays",
             s->conf->name, io_address_port(&s->listeners[0]->address), s->conf->maxproc);
    log_warn("to avoid this condition, increase the process count in master.cf or reduce the service time "
             "per client");
}

static void obey_news(struct master *m, struct master_proc *p, const char *news)
{
    switch (news[0]) {
    case NEWS_READY:
        p->ready_ms = clock_ms();
        if (p->generation == p->service->generation)
            master_service_was_ready(m, p->service);
        break;
    case NEWS_DRAINS:
        p->is_draining = true;
        break;
    case NEWS_LIMIT:
        limit_reached(p->service);
        break;
    case NEWS_FAILED:
        p->has_told = true;
        fail_start(m, "%s: %s", p->name, news + 1);
        break;
    }
}

void master_proc_hear(struct master *m, struct master_proc *p)
{
    char news[NEWS_SIZE + 1];
    ssize_t n;

    while ((n = recv(p->control, news, NEWS_SIZE, MSG_DONTWAIT)) > 0) {
        news[n] = '\0';
        obey_news(m, p, news);
    }
    if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
        close(p->control); /* it is ending; waitpid tells how */
        p->control = -1;
    }
}

static void log_end(const struct master_proc *p, int status)
{
    if (WIFSIGNALED(status))
        log_warn("process %s pid %d killed by signal %d", p->name, (int)p->pid, WTERMSIG(status));
    else if (WEXITSTATUS(status) != 0)
        log_warn("process %s pid %d exit status %d", p->name, (int)p->pid, WEXITSTATUS(status));
}

/* What its end means for the service. */
static void settle(struct master *m, struct master_proc *p, int status)
{
    struct master_service *s = p->service;
    bool is_killed = WIFSIGNALED(status) && (WTERMSIG(status) == SIGKILL || WTERMSIG(status) == SIGTERM);
    uint64_t now = clock_ms(), lived = p->ready_ms ? now - p->ready_ms : 0, wait;

    master_quota_forget(s->quota, p->id);
    if (m->options->died != NULL)
        m->options->died(p->id);
    if (m->stop_ms == 0 || status != 0)
        log_end(p, status);
    if (status == 0 && (p->ready_ms != 0 || p->is_draining))
        return;
    if (p->ready_ms == 0)
        fail_start(m, "%s: the worker ended before it was ready", p->name);
    if (p->is_draining || p->generation != s->generation || s->is_removed || m->stop_ms != 0)
        return;
    wait = master_backoff_failed(&s->backoff, now, lived, is_killed,
                                 conf_time_ms(s->conf->conf, "service_throttle_time"));
    if (wait > 0)
        log_warn("service \"%s\": a new worker starts in %u s -- throttling", s->conf->name,
                 (unsigned)(wait / 1000));
}

static void collect(struct master *m, pid_t pid, int status)
{
    for (struct master_proc **at = &m->procs, *p; (p = *at) != NULL; at = &p->next) {
        if (p->pid != pid)
            continue;
        if (p->control >= 0)
            master_proc_hear(m, p);
        *at = p->next;
        settle(m, p, status);
        if (p->control >= 0)
            close(p->control);
        talloc_free(p);
        return;
    }
}

void master_procs_reap(struct master *m)
{
    int status;
    pid_t pid;

    while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
        collect(m, pid, status);
    master_services_sweep(m);
}
