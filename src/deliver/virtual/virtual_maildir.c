/*
 * A message into a maildir: written and synced as tmp/NAME, then linked as new/NAME, then the folder synced.
 * A reader never sees half a message, and what a crash leaves is a file in tmp/ that readers of maildirs
 * remove after 36 hours.
 */
#include "clock.h"
#include "mem.h"
#include "virtual_mailbox.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

/* Unique on this host as long as time or process differ: the counter tells apart what one process makes. */
static char *unique_name(const struct virtual_job *job)
{
    static atomic_uint count;
    uint64_t now = clock_real_us();

    return mem_printf(job, "%llu.M%06lluP%ldQ%u.%s", (unsigned long long)(now / 1000000),
                      (unsigned long long)(now % 1000000), (long)getpid(), atomic_fetch_add(&count, 1),
                      job->host);
}

static bool make_maildir(const struct virtual_job *job)
{
    static const char *const parts[] = {"tmp", "new", "cur"};
    bool is_good = virtual_make_parents(job->path) && virtual_make_folder(job->path);
    size_t i;

    for (i = 0; is_good && i < 3; i++)
        is_good = virtual_make_folder(mem_printf(job, "%s/%s", job->path, parts[i]));
    return is_good;
}

static int create(struct virtual_job *job, const char *path)
{
    int flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
    int fd = open(path, flags, 0600);

    if (fd < 0 && errno == ENOENT) {
        if (!make_maildir(job)) {
            virtual_job_fail(job, "make the folders");
            return -1;
        }
        fd = open(path, flags, 0600);
    }
    if (fd < 0)
        virtual_job_fail(job, "create a file");
    return fd;
}

static bool write_file(struct virtual_job *job, int fd)
{
    bool is_good = virtual_copy(job, fd, false);

    if (is_good && fsync(fd) != 0)
        is_good = virtual_job_fail(job, "fsync");
    if (close(fd) != 0 && is_good)
        is_good = virtual_job_fail(job, "close");
    return is_good;
}

/* link() never replaces a file; file systems without it get a rename to a name that is unique anyway. */
static bool publish(struct virtual_job *job, const char *tmp, const char *name)
{
    char *folder = mem_printf(job, "%s/new", job->path);
    char *path = mem_printf(job, "%s/%s", folder, name);

    if (link(tmp, path) != 0) {
        if (errno == EEXIST || errno == ENOENT || rename(tmp, path) != 0)
            return virtual_job_fail(job, "link into new");
    } else {
        unlink(tmp);
    }
    return virtual_sync_folder(folder) || virtual_job_fail(job, "fsync of the folder");
}

void virtual_maildir_deliver(struct virtual_job *job)
{
    char *name = unique_name(job);
    char *tmp = mem_printf(job, "%s/tmp/%s", job->path, name);
    int fd;

    if (job->limit != 0 && virtual_copy_size(job) > job->limit) {
        job->end = VIRTUAL_FULL;
        return;
    }
    fd = create(job, tmp);
    if (fd < 0)
        return;
    if (write_file(job, fd) && publish(job, tmp, name)) {
        job->end = VIRTUAL_DELIVERED;
        return;
    }
    unlink(tmp);
}
