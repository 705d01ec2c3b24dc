/* One message into one mailbox, on the thread pool. See virtual_mailbox.h. */
#include "virtual_mailbox.h"

#include "bytes.h"
#include "mem.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

static int close_content(struct virtual_job *job)
{
    if (job->fd >= 0)
        close(job->fd);
    return 0;
}

struct virtual_job *virtual_job_new(const void *ctx)
{
    struct virtual_job *job = mem_new(ctx, struct virtual_job);

    job->fd = -1;
    talloc_set_destructor(job, close_content);
    return job;
}

bool virtual_job_fail(struct virtual_job *job, const char *step)
{
    job->end = VIRTUAL_FAILED;
    job->code = errno;
    job->step = step;
    return false;
}

bool virtual_sync_folder(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), code;
    bool is_good;

    if (fd < 0)
        return errno == EACCES; /* a folder that its owner may write but not read cannot be synced by him */
    is_good = fsync(fd) == 0 || errno == EINVAL;
    code = errno;
    close(fd);
    errno = code;
    return is_good;
}

static bool sync_parent(const char *path)
{
    const char *slash = strrchr(path, '/');
    char *parent =
        slash == NULL ? mem_strdup(NULL, ".") : mem_printf(NULL, "%.*s/", (int)(slash - path), path);
    bool is_good = virtual_sync_folder(parent);

    talloc_free(parent);
    return is_good;
}

bool virtual_make_folder(const char *path)
{
    if (mkdir(path, 0700) == 0)
        return sync_parent(path);
    return errno == EEXIST;
}

bool virtual_make_parents(const char *path)
{
    char *copy = mem_strdup(NULL, path), *slash;
    struct stat st;
    bool is_good = true;

    for (slash = strchr(copy + 1, '/'); is_good && slash != NULL; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        is_good = stat(copy, &st) == 0 || virtual_make_folder(copy);
        *slash = '/';
    }
    talloc_free(copy);
    return is_good;
}

void virtual_job_run(void *arg)
{
    struct virtual_job *job = arg;
    struct virtual_user before;

    job->end = VIRTUAL_FAILED;
    job->code = 0;
    job->step = "";
    if (virtual_is_loop(job)) {
        job->end = VIRTUAL_LOOP;
        return;
    }
    if (job->is_other_user && !virtual_user_become(&before, job->uid, job->gid)) {
        virtual_job_fail(job, "take on the owner's identity");
        return;
    }
    if (job->is_maildir)
        virtual_maildir_deliver(job);
    else
        virtual_mbox_deliver(job);
    if (job->is_other_user)
        virtual_user_return(&before);
}
