/*
 * Starting a filter program: vfork and exec, so that a worker with many sessions does not pay for a copy of
 * its page tables. The child shares our memory until exec: between vfork and exec it only makes system calls,
 * on its own variables, with every signal blocked; users are changed by the bare system calls, because the C
 * library's would change those of our threads too.
 *
 * What the program gets: descriptors 0 to 3 and no other, a process group of its own, default signals, "/" as
 * its folder, umask 077, no core dumps, a limit of processor time, the environment it is given; and it dies
 * with us.
 */
#include "engine_exec_private.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/close_range.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

struct pipes {
    int mine[4], its[4]; /* by the child's descriptor number */
};

static void close_all(int fds[4])
{
    for (int i = 0; i < 4; i++) {
        if (fds[i] >= 0)
            close(fds[i]);
        fds[i] = -1;
    }
}

/* The child's ends are moved above 3 (F_DUPFD) so that its dup2 calls never meet one another. */
static int open_pipe(struct pipes *p, int number)
{
    int ends[2], high;

    if (pipe2(ends, O_CLOEXEC) < 0)
        return -1;
    p->mine[number] = number == 0 ? ends[1] : ends[0];
    p->its[number] = number == 0 ? ends[0] : ends[1];
    if (fcntl(p->mine[number], F_SETFL, O_NONBLOCK) < 0)
        return -1;
    if (p->its[number] > 3)
        return 0;
    high = fcntl(p->its[number], F_DUPFD_CLOEXEC, 4);
    close(p->its[number]);
    p->its[number] = high;
    return high < 0 ? -1 : 0;
}

static void set_limit(int what, rlim_t soft, rlim_t hard)
{
    struct rlimit limit = {soft, hard};

    setrlimit(what, &limit);
}

static void default_signals(void)
{
    struct sigaction action = {.sa_handler = SIG_DFL};
    sigset_t none;

    for (int s = 1; s < NSIG; s++)
        sigaction(s, &action, NULL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

static int become_user(const struct engine_exec_program *program)
{
    if (!program->sets_user)
        return 0;
    if (syscall(SYS_setgroups, 0, NULL) < 0 ||
        syscall(SYS_setresgid, program->gid, program->gid, program->gid) < 0 ||
        syscall(SYS_setresuid, program->uid, program->uid, program->uid) < 0)
        return -1;
    return 0;
}

/* In the child, on borrowed memory. */
static void child_side(const struct engine_exec_program *program, char **env, const int its[4])
{
    if (setpgid(0, 0) < 0 || chdir("/") < 0)
        return;
    for (int i = 0; i < 4; i++)
        if (dup2(its[i], i) < 0)
            return;
    if (close_range(4, ~0U, 0) < 0)
        return;
    umask(077);
    set_limit(RLIMIT_CORE, 0, 0);
    set_limit(RLIMIT_CPU, program->cpu_seconds, program->cpu_seconds + 1);
    if (become_user(program) < 0)
        return;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    default_signals();
    execve(program->argv[0], program->argv, env);
}

static __attribute__((noinline)) pid_t spawn(const struct engine_exec_program *program, char **env,
                                             const int its[4], volatile int *failure)
{
    pid_t pid = vfork();

    if (pid == 0) {
        child_side(program, env, its);
        *failure = errno;
        _exit(127);
    }
    return pid;
}

static struct error *spawn_blocked(const struct engine_exec_program *program, char **env, const int its[4],
                                   pid_t *pid_r)
{
    volatile int failure = 0;
    sigset_t all, old;
    int saved;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    *pid_r = spawn(program, env, its, &failure);
    saved = errno;
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (*pid_r < 0)
        return error_errno(saved, "fork");
    if (failure != 0) {
        siginfo_t ended;

        waitid(P_PID, (id_t)*pid_r, &ended, WEXITED);
        return error_errno(failure, "cannot execute");
    }
    return NULL;
}

static struct error *watch_child(pid_t pid, int *pidfd_r)
{
    struct error *e;
    siginfo_t ended;

    *pidfd_r = (int)syscall(SYS_pidfd_open, pid, 0);
    if (*pidfd_r >= 0)
        return NULL;
    e = error_errno(errno, "pidfd_open");
    kill(-pid, SIGKILL);
    waitid(P_PID, (id_t)pid, &ended, WEXITED);
    return e;
}

struct error *engine_exec_start(const struct engine_exec_program *program, char **env,
                                struct engine_exec_child *child_r)
{
    struct pipes p = {{-1, -1, -1, -1}, {-1, -1, -1, -1}};
    struct error *e = NULL;

    for (int i = 0; i < 4 && e == NULL; i++)
        if (open_pipe(&p, i) < 0)
            e = error_errno(errno, "pipe");
    if (e == NULL)
        e = spawn_blocked(program, env, p.its, &child_r->pid);
    if (e == NULL)
        e = watch_child(child_r->pid, &child_r->pidfd);
    close_all(p.its);
    if (e != NULL) {
        close_all(p.mine);
        return e;
    }
    child_r->in = p.mine[0];
    child_r->out = p.mine[1];
    child_r->err = p.mine[2];
    child_r->reply = p.mine[3];
    return NULL;
}

void engine_exec_close(struct engine_exec_child *child)
{
    int all[4] = {child->in, child->out, child->reply, child->err};

    close_all(all);
    child->in = child->out = child->reply = child->err = -1;
    if (child->pidfd >= 0)
        close(child->pidfd);
    child->pidfd = -1;
}
