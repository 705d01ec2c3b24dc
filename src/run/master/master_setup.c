/*
 * What must be there before the first worker: the owner, folders, descriptors, the log, the pid file.
 *
 * Folders are made only when missing, and only those are given to mail_owner: what an administrator made
 * stays as it is. The pid file is locked with fcntl, whose locks are not inherited: workers that outlive a
 * killed master do not hold it.
 */
#include "master_private.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static struct error *find_owner(const struct conf *conf, const struct passwd **pw_r)
{
    const char *name = conf_text(conf, "mail_owner");

    *pw_r = getpwnam(name);
    if (*pw_r == NULL)
        return error_new(
            ERROR_CONF,
            "mail_owner = %s: no such user; make one (adduser --system --group --no-create-home %s) "
            "or name another",
            name, name);
    if ((*pw_r)->pw_uid == 0)
        return error_new(ERROR_CONF, "mail_owner = %s: must not be the superuser", name);
    return NULL;
}

struct error *master_owner_check(const struct conf *conf)
{
    const struct passwd *pw;

    return geteuid() == 0 ? find_owner(conf, &pw) : NULL;
}

struct error *master_setup_owner(struct master *m, const struct conf *conf)
{
    const struct passwd *pw;
    struct error *e;

    if (geteuid() != 0)
        return NULL;
    e = find_owner(conf, &pw);
    if (e != NULL)
        return e;
    m->owner = mem_strdup(m, conf_text(conf, "mail_owner"));
    m->uid = pw->pw_uid;
    m->gid = pw->pw_gid;
    return NULL;
}

void master_setup_limits(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

/* ---- folders ---- */

static struct error *make_folder(const struct master *m, const char *path, mode_t mode, bool for_owner)
{
    if (mkdir(path, mode) != 0)
        return errno == EEXIST ? NULL : error_errno(errno, "make folder %s", path);
    if (chmod(path, mode) != 0 || (for_owner && m->owner != NULL && lchown(path, m->uid, m->gid) != 0))
        return error_errno(errno, "make folder %s", path);
    return NULL;
}

/* The folders that lead to path. */
static struct error *make_parents(const struct master *m, const char *path)
{
    char *copy = mem_strdup(NULL, path);
    struct error *e = NULL;

    for (char *p = copy + 1; e == NULL && (p = strchr(p, '/')) != NULL; p++) {
        *p = '\0';
        e = make_folder(m, copy, 0755, false);
        *p = '/';
    }
    talloc_free(copy);
    return e;
}

struct error *master_setup_folders(const struct master *m, const struct conf *conf)
{
    static const struct {
        const char *name;
        mode_t mode;
        bool for_owner;
    } folders[] = {
        {"pid", 0755, false},   {"private", 0700, true},  {"public", 0710, true},  {"incoming", 0700, true},
        {"active", 0700, true}, {"deferred", 0700, true}, {"hold", 0700, true},    {"corrupt", 0700, true},
        {"defer", 0700, true},  {"bounce", 0700, true},   {"journal", 0700, true},
    };
    const char *queue = conf_text(conf, "queue_directory"), *data = conf_text(conf, "data_directory");
    struct error *e = make_parents(m, queue);

    if (e == NULL)
        e = make_folder(m, queue, 0755, false);
    for (size_t i = 0; e == NULL && i < sizeof(folders) / sizeof(folders[0]); i++) {
        char *path = mem_printf(NULL, "%s/%s", queue, folders[i].name);

        e = make_folder(m, path, folders[i].mode, folders[i].for_owner);
        talloc_free(path);
    }
    if (e == NULL)
        e = make_parents(m, data);
    return e ? e : make_folder(m, data, 0700, true);
}

/* ---- log ---- */

/* The file is mail_owner's, so that workers can open it anew after it was moved away; a file that is there
 * keeps its owner, and a symbolic link is not followed to make one. */
static struct error *make_log(const struct master *m, const char *path)
{
    struct error *e = make_parents(m, path);
    int fd;

    if (e != NULL)
        return e;
    fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
    if (fd < 0)
        return errno == EEXIST ? NULL : error_errno(errno, "make log file %s", path);
    if (m->owner != NULL && fchown(fd, m->uid, m->gid) != 0)
        e = error_errno(errno, "make log file %s", path);
    close(fd);
    return e;
}

struct error *master_setup_log(const struct master *m, const struct conf *conf)
{
    const char *path = conf_text(conf, "maillog_file"), *facility = conf_text(conf, "syslog_facility");
    bool is_stdout = strcmp(path, "/dev/stdout") == 0 || (path[0] == '\0' && m->options->is_foreground);
    struct error *e;
    char *tag;

    if (is_stdout) {
        e = log_open(LOG_TO_STDOUT, NULL, facility);
    } else if (path[0] != '\0') {
        e = make_log(m, path);
        if (e == NULL)
            e = log_open(LOG_TO_FILE, path, facility);
    } else {
        e = log_open(LOG_TO_SYSLOG, NULL, facility);
    }
    tag = mem_printf(NULL, "%s/master", conf_text(conf, "syslog_name"));
    log_set_tag(tag);
    talloc_free(tag);
    return e;
}

/* ---- pid file ---- */

static char *pid_path(const void *ctx, const char *queue_directory)
{
    return mem_printf(ctx, "%s/pid/master.pid", queue_directory);
}

struct error *master_pid_lock(struct master *m)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    char *path = pid_path(m, m->queue_directory);

    m->pid_file = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
    if (m->pid_file < 0)
        return error_errno(errno, "%s", path);
    if (fcntl(m->pid_file, F_SETLK, &lock) != 0) {
        pid_t other = master_pid(m->queue_directory);

        return error_new(ERROR_PERM, "the mail system is already running: pid %d on queue %s", (int)other,
                         m->queue_directory);
    }
    if (ftruncate(m->pid_file, 0) != 0 || dprintf(m->pid_file, "%d\n", (int)getpid()) < 0)
        return error_errno(errno, "%s", path);
    return NULL;
}

/* Asks the lock, not the text: a pid in a stale file may be anybody's by now. Never called by master itself
 * while it holds the lock, since closing any descriptor of the file would give the lock away. */
pid_t master_pid(const char *queue_directory)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    char *path = pid_path(NULL, queue_directory);
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    pid_t pid = 0;

    talloc_free(path);
    if (fd < 0)
        return 0;
    lock.l_type = F_WRLCK;
    if (fcntl(fd, F_GETLK, &lock) == 0 && lock.l_type != F_UNLCK)
        pid = lock.l_pid;
    close(fd);
    return pid;
}
