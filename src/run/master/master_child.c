/*
 * A worker's first moments and its end of the control channel.
 *
 * The child forgets every descriptor that is master's or another service's, becomes mail_owner for good, and
 * may gain nothing by running a set-uid program. SIGTERM from a stranger's hand means drain, as if master had
 * gone; a second one ends the worker.
 */
#include "master_private.h"

#include <errno.h>
#include <grp.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

static int control_fd; /* for the signal alone */

static void on_term(int signal)
{
    int saved = errno;

    shutdown(control_fd, SHUT_RD);
    errno = saved;
}

static void set_signals(int control)
{
    struct sigaction term = {.sa_handler = on_term, .sa_flags = SA_RESETHAND | SA_RESTART};
    sigset_t none;

    control_fd = control;
    signal(SIGCHLD, SIG_DFL);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    signal(SIGINT, SIG_IGN); /* Ctrl-C in the foreground is for master */
    signal(SIGUSR1, SIG_IGN);
    sigaction(SIGTERM, &term, NULL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

static bool is_own(const struct master_service *s, const struct master_listener *l)
{
    for (size_t i = 0; i < s->listener_count; i++)
        if (s->listeners[i] == l)
            return true;
    return false;
}

static void forget_others(struct master *m, struct master_service *s)
{
    close(m->signals);
    close(m->pid_file);
    if (m->tell >= 0)
        close(m->tell);
    for (const struct master_proc *p = m->procs; p != NULL; p = p->next)
        if (p->control >= 0)
            close(p->control);
    for (const struct master_listener *l = m->listeners; l != NULL; l = l->next)
        if (!is_own(s, l))
            close(l->fd);
    for (const struct master_service *other = m->services; other != NULL; other = other->next)
        if (other != s)
            master_quota_close(other->quota);
}

static struct error *drop_root(const struct master *m, const struct master_service *s)
{
    if (m->owner != NULL && !(s->program->may_keep_root && !s->conf->is_unprivileged)) {
        if (initgroups(m->owner, m->gid) != 0 || setresgid(m->gid, m->gid, m->gid) != 0 ||
            setresuid(m->uid, m->uid, m->uid) != 0)
            return error_errno(errno, "become mail_owner %s", m->owner);
        prctl(PR_SET_DUMPABLE, 1);
    }
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return error_errno(errno, "no_new_privs");
    return NULL;
}

static int *own_listeners(const struct master_service *s)
{
    int *fds = mem_array(NULL, int, s->listener_count + 1);

    for (size_t i = 0; i < s->listener_count; i++)
        fds[i] = s->listeners[i]->fd;
    return fds;
}

_Noreturn void master_child_run(struct master *m, struct master_service *s, unsigned id, int control)
{
    struct master_worker w = {.service = s->conf,
                              .services = m->services_conf,
                              .id = id,
                              .listener_count = s->listener_count,
                              .quota = s->quota,
                              .control = control,
                              .listeners = own_listeners(s)};
    char *title = mem_printf(NULL, "sp-%s", s->conf->command),
         *tag = mem_printf(NULL, "%s/%s", conf_text(s->conf->conf, "syslog_name"), s->conf->command);
    struct error *e;

    forget_others(m, s);
    set_signals(control);
    prctl(PR_SET_NAME, title); /* what ps -e and top show */
    log_set_tag(tag);
    log_set_verbose(s->conf->is_verbose);
    e = drop_root(m, s);
    if (e != NULL)
        master_worker_fail(&w, e);
    s->program->run(&w);
    log_flush();
    _exit(0);
}

/* ---- the worker's end of the channel ---- */

void master_worker_ready(const struct master_worker *w)
{
    char news = NEWS_READY;

    send(w->control, &news, 1, MSG_NOSIGNAL);
}

_Noreturn void master_worker_fail(const struct master_worker *w, struct error *e)
{
    char news[NEWS_SIZE];
    int n = snprintf(news, sizeof(news), "%c%s", NEWS_FAILED, e->text);

    send(w->control, news, n < NEWS_SIZE ? (size_t)n : NEWS_SIZE, MSG_NOSIGNAL);
    log_fatal("%s", e->text);
}

void master_worker_limit(const struct master_worker *w)
{
    char news = NEWS_LIMIT;

    if (master_quota_may_warn(w->quota))
        send(w->control, &news, 1, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* Once the channel has ended nobody can give another order. */
co_fn static enum master_order channel_ended(const struct master_worker *w)
{
    static bool is_told;
    char news = NEWS_DRAINS;

    while (is_told)
        co_park(CO_NEVER, "no master");
    is_told = true;
    send(w->control, &news, 1, MSG_NOSIGNAL | MSG_DONTWAIT);
    return MASTER_DRAIN;
}

co_fn enum master_order master_worker_wait(const struct master_worker *w)
{
    for (;;) {
        struct error *e;
        char order;
        ssize_t n = recv(w->control, &order, 1, MSG_DONTWAIT);

        if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
            return channel_ended(w);
        if (n < 0) {
            io_wait_readable(w->control, CO_NEVER, "orders");
            continue;
        }
        switch (order) {
        case ORDER_DRAIN:
            return MASTER_DRAIN;
        case ORDER_STOP:
            return MASTER_STOP;
        case ORDER_DUMP:
            co_dump();
            break;
        case ORDER_LOG:
            e = log_reopen();
            log_report(&e);
            break;
        }
    }
}
