/*
 * Proves the database before any worker maps it, and again after a worker died at work on it. LMDB trusts its
 * file, so one that was cut short or overwritten ends the process that reads it: the first to read all of it
 * is a child, of the rights of the folder's owner, that may die of it.
 */
#include "verdict_private.h"

#include "log.h"
#include "mem.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { TIME_LIMIT_S = 10 };

/* What the exit status of a child says. */
enum { GOOD, DAMAGED, TROUBLE };

static int said(int code)
{
    return code == 0 ? GOOD : verdict_store_is_damage(code) ? DAMAGED : TROUBLE;
}

static int walk(const char *directory, struct verdict_shared *shared)
{
    return said(verdict_store_walk(directory));
}

static int walk_and_count(const char *directory, struct verdict_shared *shared)
{
    int code = verdict_store_walk(directory);

    return said(code == 0 ? verdict_store_account(directory, shared) : code);
}

static int move_aside(const char *directory, struct verdict_shared *shared)
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

typedef int work(const char *directory, struct verdict_shared *shared);

static const int deaths_of_damage[] = {SIGSEGV, SIGBUS, SIGABRT, SIGFPE, SIGILL};
enum { DEATHS = sizeof(deaths_of_damage) / sizeof(deaths_of_damage[0]) };

static _Noreturn void child(work *fn, const char *directory, struct verdict_shared *shared,
                            const struct stat *st)
{
    const struct rlimit none = {0};
    int quiet = open("/dev/null", O_RDWR);
    sigset_t all;

    for (size_t i = 0; i < DEATHS; i++)
        signal(deaths_of_damage[i], SIG_DFL);
    signal(SIGALRM, SIG_DFL);
    sigemptyset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    setrlimit(RLIMIT_CORE, &none);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    dup2(quiet, STDERR_FILENO); /* where LMDB tells of a failed assertion */
    alarm(TIME_LIMIT_S);
    become_owner(st);
    _exit(fn(directory, shared));
}

/* Any other death is not of what was read: the disk was too slow, or somebody killed it. */
static int said_by_death(const char *directory, int signal)
{
    for (size_t i = 0; i < DEATHS; i++)
        if (signal == deaths_of_damage[i])
            return DAMAGED;
    log_warn("%s/verdicts is not proven: %s", directory,
             signal == SIGALRM ? "reading it took too long" : strsignal(signal));
    return TROUBLE;
}

static int run(work *fn, const char *directory, struct verdict_shared *shared)
{
    struct stat st;
    int status;
    pid_t pid;

    if (stat(directory, &st) != 0)
        return TROUBLE;
    log_flush();
    pid = fork();
    if (pid == 0)
        child(fn, directory, shared, &st);
    while (pid > 0 && waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return TROUBLE;
    if (pid < 0)
        return TROUBLE;
    return WIFEXITED(status) ? WEXITSTATUS(status) : said_by_death(directory, WTERMSIG(status));
}

static bool is_there(const char *directory)
{
    char *path = mem_printf(NULL, "%s/verdicts/data.mdb", directory);
    struct stat st;
    bool found = lstat(path, &st) == 0;

    talloc_free(path);
    return found;
}

bool verdict_check_finds_damage(const char *directory)
{
    return is_there(directory) && run(walk, directory, NULL) == DAMAGED;
}

void verdict_check(const char *directory, struct verdict_shared *shared)
{
    if (!is_there(directory) || run(walk_and_count, directory, shared) != DAMAGED)
        return;
    if (run(move_aside, directory, NULL) == GOOD)
        log_warn("%s/verdicts is damaged: moved to verdicts.bad; what it remembered is lost", directory);
    else
        log_warn("%s/verdicts is damaged and cannot be moved to verdicts.bad: no verdict is remembered",
                 directory);
}
