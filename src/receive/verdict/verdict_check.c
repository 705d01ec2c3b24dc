/*
 * Proves the database before any worker maps it. LMDB trusts its file, so one that was cut short or
 * overwritten ends the process that reads it: the first to read all of it is a child, of the rights of the
 * folder's owner, that may die of it.
 */
#include "verdict_private.h"

#include "log.h"
#include "mem.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { TIME_LIMIT_S = 10 };

/* What the exit status of a child says. */
enum { GOOD, DAMAGED, TROUBLE };

static int walk(const char *directory)
{
    int code = verdict_store_walk(directory);

    return code == 0 ? GOOD : verdict_store_is_damage(code) ? DAMAGED : TROUBLE;
}

static int move_aside(const char *directory)
{
    return verdict_store_move_aside(directory) ? GOOD : TROUBLE;
}

static void become_owner(const struct stat *st)
{
    if (geteuid() == 0 && st->st_uid != 0 &&
        (setgroups(0, NULL) != 0 || setresgid(st->st_gid, st->st_gid, st->st_gid) != 0 ||
         setresuid(st->st_uid, st->st_uid, st->st_uid) != 0))
        _exit(TROUBLE);
}

static _Noreturn void child(int (*fn)(const char *directory), const char *directory, const struct stat *st)
{
    static const int deaths[] = {SIGSEGV, SIGBUS, SIGABRT, SIGFPE, SIGILL, SIGALRM};
    const struct rlimit none = {0};
    int quiet = open("/dev/null", O_RDWR);
    sigset_t all;

    for (size_t i = 0; i < sizeof(deaths) / sizeof(deaths[0]); i++)
        signal(deaths[i], SIG_DFL);
    sigemptyset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    setrlimit(RLIMIT_CORE, &none);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    dup2(quiet, STDERR_FILENO); /* where LMDB tells of a failed assertion */
    alarm(TIME_LIMIT_S);
    become_owner(st);
    _exit(fn(directory));
}

static int run(int (*fn)(const char *directory), const char *directory)
{
    struct stat st;
    int status;
    pid_t pid;

    if (stat(directory, &st) != 0)
        return TROUBLE;
    log_flush();
    pid = fork();
    if (pid == 0)
        child(fn, directory, &st);
    while (pid > 0 && waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return TROUBLE;
    if (pid < 0)
        return TROUBLE;
    return WIFEXITED(status) ? WEXITSTATUS(status) : DAMAGED;
}

static bool is_there(const char *directory)
{
    char *path = mem_printf(NULL, "%s/verdicts/data.mdb", directory);
    struct stat st;
    bool found = lstat(path, &st) == 0;

    talloc_free(path);
    return found;
}

void verdict_check(const char *directory)
{
    if (!is_there(directory) || run(walk, directory) != DAMAGED)
        return;
    if (run(move_aside, directory) == GOOD)
        log_warn("%s/verdicts is damaged: moved to verdicts.bad; what it remembered is lost", directory);
    else
        log_warn("%s/verdicts is damaged and cannot be moved to verdicts.bad: no verdict is remembered",
                 directory);
}
