/*
 * For this folder: one message into one mailbox, as a job for the thread pool.
 *
 * A job holds all that it needs (a descriptor of its own, too), so that it may outlive the delivery that
 * began it. It never waits for a lock: it ends with VIRTUAL_LOCKED, and its coroutine comes back later.
 */
#ifndef DELIVER_VIRTUAL_VIRTUAL_MAILBOX_H
#define DELIVER_VIRTUAL_VIRTUAL_MAILBOX_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum { VIRTUAL_LOCK_FCNTL = 1, VIRTUAL_LOCK_FLOCK = 2, VIRTUAL_LOCK_DOTLOCK = 4 };

enum virtual_end {
    VIRTUAL_DELIVERED,
    VIRTUAL_LOCKED,   /* somebody else has the mailbox: try later */
    VIRTUAL_LOOP,     /* the content has our Delivered-To line already */
    VIRTUAL_FULL,     /* the message does not fit under the limit */
    VIRTUAL_NOT_OURS, /* the file belongs to somebody else, or is no plain file */
    VIRTUAL_FAILED,   /* code and step tell */
};

struct virtual_job {
    /* what to do; talloc memory of the job */
    int fd; /* queue file; closed with the job */
    uint64_t content_offset, content_size;
    bool is_maildir;
    char *path;         /* file, or folder without '/' at its end */
    char *from;         /* mbox: the From_ line without line end */
    char *head;         /* lines to put above the content, LF-ended */
    char *delivered_to; /* address of the Delivered-To line */
    char *host;         /* for names of maildir files */
    uint64_t limit;     /* bytes of the mbox file, or of one maildir file; 0: none */
    unsigned locks;
    uint64_t stale_us; /* a dotlock older than this is nobody's */
    bool is_other_user, checks_owner;
    uid_t uid;
    gid_t gid;

    /* what became of it */
    enum virtual_end end;
    int code;         /* errno */
    const char *step; /* "write", "fsync"... */
};

struct virtual_job *virtual_job_new(const void *ctx);
/* For co_work: does the job under its user's identity. */
void virtual_job_run(void *job);

/* ---- pieces ---- */

void virtual_maildir_deliver(struct virtual_job *job);
void virtual_mbox_deliver(struct virtual_job *job);
/* Sets the end to VIRTUAL_FAILED with errno. Returns false. */
bool virtual_job_fail(struct virtual_job *job, const char *step);

/* Makes the folder that `path` is in, and those above it, each durable. False: errno tells. */
bool virtual_make_parents(const char *path);
/* Makes one folder. */
bool virtual_make_folder(const char *path);
/* fsync of a folder. */
bool virtual_sync_folder(const char *path);

/* Writes head and content to out_fd, CR LF as LF; is_mbox: the From_ line first, ">From " quoting, an empty
 * line at the end. False: job failed. */
bool virtual_copy(struct virtual_job *job, int out_fd, bool is_mbox);
/* Size of what virtual_copy writes, at most. */
uint64_t virtual_copy_size(const struct virtual_job *job);
/* The content's header has a Delivered-To line with this job's address. */
bool virtual_is_loop(const struct virtual_job *job);

/* Takes on a user's file system identity for this thread alone (never another thread's), and gives it back.
 */
struct virtual_user {
    gid_t groups[256];
    int group_count;
    uid_t uid;
    gid_t gid;
};
bool virtual_user_become(struct virtual_user *before, uid_t uid, gid_t gid);
void virtual_user_return(const struct virtual_user *before);

#endif
