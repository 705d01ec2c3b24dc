/*
 * A user's identity for one thread. The C library's setgroups() changes every thread of the process, so the
 * raw calls are used; setfsuid() alone decides about files, and takes root's powers over them away while it
 * lasts.
 */
#include "log.h"
#include "virtual_mailbox.h"

#include <errno.h>
#include <sys/fsuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifdef SYS_setgroups32
enum { SET_GROUPS = SYS_setgroups32, GET_GROUPS = SYS_getgroups32 };
#else
enum { SET_GROUPS = SYS_setgroups, GET_GROUPS = SYS_getgroups };
#endif

/* An id that nobody has: the call changes nothing and returns what is in force. */
static uid_t present_uid(void)
{
    return (uid_t)setfsuid((uid_t)-1);
}

static gid_t present_gid(void)
{
    return (gid_t)setfsgid((gid_t)-1);
}

bool virtual_user_become(struct virtual_user *before, uid_t uid, gid_t gid)
{
    before->uid = present_uid();
    before->gid = present_gid();
    before->group_count = (int)syscall(GET_GROUPS, 256, before->groups);
    if (before->group_count < 0 || syscall(SET_GROUPS, 1, &gid) != 0)
        return false;
    setfsgid(gid);
    setfsuid(uid);
    if (present_uid() == uid && present_gid() == gid)
        return true;
    virtual_user_return(before);
    errno = EPERM;
    return false;
}

void virtual_user_return(const struct virtual_user *before)
{
    setfsuid(before->uid);
    setfsgid(before->gid);
    if (present_uid() != before->uid || present_gid() != before->gid ||
        syscall(SET_GROUPS, (size_t)before->group_count, before->groups) != 0)
        log_panic("cannot return from a mailbox owner's identity");
}
