/*
 * The master process: start, the loop, reload, stop. See master.h.
 *
 * No event loop of libuv here: master waits in poll(2) for signals, for what workers say, and for connections
 * to services that have no worker yet.
 */
#include "master_private.h"

#include "clock.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

enum { START_MS = 30000 };

struct conf *master_conf_read(const void *ctx, const char *dir, struct conf_services *services_r,
                              struct conf_faults *faults)
{
    struct conf *conf = conf_read(ctx, dir, faults);

    conf_validate(conf, faults);
    *services_r = conf_read_services(ctx, conf, dir, faults);
    conf_lint(conf, services_r, faults);
    return conf;
}

/* ---- signals ---- */

static void catch_signals(struct master *m)
{
    static const int caught[] = {SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGCHLD, SIGUSR1};
    sigset_t set;

    sigemptyset(&set);
    for (size_t i = 0; i < sizeof(caught) / sizeof(caught[0]); i++)
        sigaddset(&set, caught[i]);
    sigprocmask(SIG_SETMASK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    m->signals = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    if (m->signals < 0)
        log_fatal("signalfd: %s", strerror(errno));
}

/* ---- reload ---- */

static bool report_faults(const struct conf_faults *faults)
{
    for (size_t i = 0; i < faults->n; i++) {
        const struct conf_fault *f = &faults->at[i];

        char line[16] = "";

        if (f->line > 0)
            snprintf(line, sizeof(line), ":%u", f->line);
        if (f->severity == CONF_ERROR)
            log_error("%s%s: %s", f->file, line, f->text);
        else if (f->severity == CONF_WARNING)
            log_warn("%s%s: %s", f->file, line, f->text);
    }
    return conf_faults_has_error(faults);
}

/* What was set up for the workers in force, and for those that come: it is not made anew for a reload. */
static struct error *check_fixed(const struct master *m, const struct conf *conf)
{
    const char *const fixed[][2] = {
        {"queue_directory", m->queue_directory},
        {"data_directory", conf_text(m->conf, "data_directory")},
        {"mail_owner", m->owner}, /* NULL: it means nothing */
    };

    for (size_t i = 0; i < sizeof(fixed) / sizeof(fixed[0]); i++)
        if (fixed[i][1] != NULL && strcmp(conf_text(conf, fixed[i][0]), fixed[i][1]) != 0)
            return error_new(ERROR_CONF, "%s changes only with stop and start", fixed[i][0]);
    return NULL;
}

/* The first configuration's log is open already. One that is refused in the end leaves the log where it was.
 */
static struct error *take_services(struct master *m, void *memory, struct conf *conf,
                                   struct conf_services services)
{
    struct error *e = m->conf != NULL ? master_setup_log(m, conf) : NULL, *none;

    if (e == NULL)
        e = master_services_take(m, memory, conf, services);
    if (e != NULL && m->conf != NULL) {
        none = master_setup_log(m, m->conf);
        error_free(&none);
    }
    return e;
}

static struct error *take_conf(struct master *m)
{
    void *memory = talloc_new(m);
    struct conf_faults faults = {.ctx = memory};
    struct conf_services services;
    struct conf *conf = master_conf_read(memory, m->dir, &services, &faults);
    struct error *e = NULL;

    if (report_faults(&faults))
        e = error_new(ERROR_CONF, "errors in the configuration");
    else if (m->conf != NULL)
        e = check_fixed(m, conf);
    if (e == NULL && m->conf != NULL)
        e = master_trial(m, services);
    if (e == NULL)
        e = take_services(m, memory, conf, services);
    if (e != NULL)
        talloc_free(memory);
    return e;
}

static void tell_all(struct master *m, char order)
{
    for (struct master_proc *p = m->procs; p != NULL; p = p->next)
        master_proc_tell(p, order);
}

static void reload(struct master *m)
{
    struct error *e = take_conf(m);

    if (e != NULL) {
        log_error("reload refused, the old configuration stays in force: %s", e->text);
        error_free(&e);
        return;
    }
    tell_all(m, ORDER_LOG);
    log_info("reload -- version %s, configuration %s", SALLYPORT_VERSION, m->dir);
}

/* ---- stop ---- */

static void stop(struct master *m)
{
    if (m->stop_ms != 0)
        return;
    m->stop_ms = clock_ms() + MASTER_KILL_MS;
    tell_all(m, ORDER_STOP);
}

static void kill_rest(struct master *m)
{
    for (struct master_proc *p = m->procs; p != NULL; p = p->next) {
        log_warn("process %s pid %d did not end in time", p->name, (int)p->pid);
        kill(p->pid, SIGKILL);
    }
    m->stop_ms = clock_ms() + MASTER_KILL_MS;
}

static void obey_signal(struct master *m, int signal)
{
    switch (signal) {
    case SIGCHLD:
        master_procs_reap(m);
        break;
    case SIGHUP:
        if (m->stop_ms == 0)
            reload(m);
        break;
    case SIGUSR1:
        tell_all(m, ORDER_DUMP);
        break;
    case SIGQUIT:
        log_info("terminating on signal %d", signal);
        stop(m);
        kill_rest(m);
        break;
    default:
        if (m->stop_ms == 0)
            log_info("terminating on signal %d", signal);
        stop(m);
    }
}

static void take_signals(struct master *m)
{
    struct signalfd_siginfo info;

    while (read(m->signals, &info, sizeof(info)) == (ssize_t)sizeof(info))
        obey_signal(m, (int)info.ssi_signo);
}

/* ---- the loop ---- */

struct watch {
    struct pollfd *at;
    void **what;     /* the master_proc or master_service behind each */
    nfds_t n, procs; /* signals first, then processes, then services */
};

static void watch_add(struct watch *w, void *ctx, int fd, void *what)
{
    w->at = mem_grow(ctx, w->at, w->n + 1);
    w->what = mem_grow(ctx, w->what, w->n + 1);
    w->at[w->n] = (struct pollfd){.fd = fd, .events = POLLIN};
    w->what[w->n++] = what;
}

static void watch_all(struct master *m, void *ctx, struct watch *w)
{
    watch_add(w, ctx, m->signals, NULL);
    for (struct master_proc *p = m->procs; p != NULL; p = p->next)
        if (p->control >= 0)
            watch_add(w, ctx, p->control, p);
    w->procs = w->n;
    for (struct master_service *s = m->services; m->stop_ms == 0 && s != NULL; s = s->next)
        for (size_t i = 0; master_service_wants_demand(m, s) && i < s->listener_count; i++)
            watch_add(w, ctx, s->listeners[i]->fd, s);
}

static int patience(const struct master *m, uint64_t next)
{
    uint64_t now = clock_ms();

    if (m->stop_ms != 0 && m->stop_ms < next)
        next = m->stop_ms;
    if (next == UINT64_MAX)
        return -1;
    return next <= now ? 0 : next - now > 60000 ? 60000 : (int)(next - now) + 1;
}

/* One wait. Signals come last: they may free what the other entries speak of. */
static void turn(struct master *m, uint64_t until)
{
    void *ctx = talloc_new(NULL);
    struct watch w = {0};
    uint64_t next = m->stop_ms == 0 ? master_services_fill(m) : UINT64_MAX;

    watch_all(m, ctx, &w);
    log_flush();
    if (poll(w.at, w.n, patience(m, next < until ? next : until)) > 0) {
        for (nfds_t i = 1; i < w.procs; i++)
            if (w.at[i].revents != 0)
                master_proc_hear(m, w.what[i]);
        for (nfds_t i = w.procs; i < w.n; i++)
            if (w.at[i].revents != 0 && master_service_wants_demand(m, w.what[i]))
                master_proc_start(m, w.what[i]);
        if (w.at[0].revents != 0)
            take_signals(m);
    }
    if (m->stop_ms != 0 && clock_ms() >= m->stop_ms)
        kill_rest(m);
    talloc_free(ctx);
}

static bool are_ready(const struct master *m)
{
    for (const struct master_proc *p = m->procs; p != NULL; p = p->next)
        if (p->ready_ms == 0)
            return false;
    return true;
}

/* Every worker answers, or the first reason why not. */
static struct error *wait_for_start(struct master *m)
{
    uint64_t until = clock_ms() + START_MS;

    m->is_starting = true;
    do
        turn(m, until);
    while (m->failure == NULL && m->stop_ms == 0 && !are_ready(m) && clock_ms() < until);
    m->is_starting = false;
    if (m->failure != NULL)
        return error_new(ERROR_CONF, "%s", m->failure);
    if (m->stop_ms != 0)
        return error_new(ERROR_TEMP, "told to end");
    return are_ready(m) ? NULL : error_new(ERROR_TEMP, "workers are not ready after %d s", START_MS / 1000);
}

static void tell_result(struct master *m, const char *text)
{
    if (m->tell < 0)
        return;
    if (write(m->tell, text, strlen(text)) < 0)
        log_debug("nobody waits for the start");
    close(m->tell);
    m->tell = -1;
}

static struct error *open_all(struct master *m)
{
    void *first = talloc_new(m);
    struct conf_faults faults = {.ctx = first};
    struct conf *conf = conf_read(first, m->dir, &faults);
    struct error *e = NULL;

    conf_validate(conf, &faults);
    if (report_faults(&faults))
        e = error_new(ERROR_CONF, "errors in the configuration");
    m->queue_directory = e == NULL ? mem_strdup(m, conf_text(conf, "queue_directory")) : NULL;
    if (e == NULL)
        e = master_setup_owner(m, conf);
    if (e == NULL)
        e = master_setup_folders(m, conf);
    if (e == NULL)
        e = master_pid_lock(m);
    if (e == NULL)
        e = master_setup_log(m, conf);
    if (e == NULL)
        master_quota_prepare(conf_text(conf, "data_directory"));
    if (e == NULL && m->options->prepare != NULL)
        m->options->prepare(conf);
    talloc_free(first);
    return e ? e : take_conf(m);
}

static void finish(struct master *m)
{
    while (m->procs != NULL)
        turn(m, UINT64_MAX);
    for (struct master_listener *l = m->listeners; l != NULL; l = l->next)
        l->is_wanted = false;
    master_listeners_sweep(m);
    if (m->pid_file >= 0 && ftruncate(m->pid_file, 0) != 0)
        log_debug("pid file: %s", strerror(errno));
    log_flush();
}

int master_run(const struct master_options *options)
{
    struct master *m = mem_new(NULL, struct master);
    struct error *e;

    m->options = options;
    m->dir = mem_strdup(m, options->dir);
    m->pid_file = m->signals = -1;
    m->tell = options->tell_fd;
    catch_signals(m);
    master_setup_limits();
    e = open_all(m);
    if (e == NULL) {
        log_info("daemon started -- version %s, configuration %s", SALLYPORT_VERSION, m->dir);
        e = wait_for_start(m);
    }
    if (e != NULL) {
        log_error("%s", e->text);
        stop(m);
    } else {
        tell_result(m, "ok");
    }
    while (m->stop_ms == 0)
        turn(m, UINT64_MAX);
    finish(m);
    if (e != NULL)
        tell_result(m, e->text); /* only now: who hears it may start again */
    talloc_free(m);
    if (e == NULL)
        return 0;
    error_free(&e);
    return 1;
}
