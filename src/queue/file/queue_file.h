/*
 * Queue files: one file a message, envelope first, content after it byte for byte, recipients' states updated
 * in place.
 *
 *     incoming/ID   new, for the scheduler to take          active/ID   being delivered
 *     deferred/X/ID to be tried again at its mtime          hold/ID     parked by an administrator or a HOLD
 *     corrupt/ID    not readable; never deleted by us       defer/X/ID  why its recipients are deferred
 *     journal/N     what a process has promised and the disk may not have in its place yet
 *
 * (X: hash_queue_depth levels of one character of the id.) A file is complete when its mode is 0700; the
 * writer holds a lock (flock) until then, so a file of mode 0600 without a lock was never acknowledged and
 * start-up, when it has replayed the journals, removes it. A name is never overwritten: every move is
 * renameat2(RENAME_NOREPLACE).
 *
 * Durable means: the message is on disk, as a record of the process's journal (queue_journal.h), from which
 * start-up brings it back after the machine went down, or as file and directory entry. kill -9 or power loss
 * at any instant loses nothing for which queue_writer_commit() returned success; after power loss, mail that
 * was delivered some seconds before may be there again.
 */
#ifndef QUEUE_FILE_QUEUE_FILE_H
#define QUEUE_FILE_QUEUE_FILE_H

#include "co.h"
#include "error.h"
#include "mail.h"

#include <sys/types.h>
#include <time.h>

enum queue_place { QUEUE_INCOMING, QUEUE_ACTIVE, QUEUE_DEFERRED, QUEUE_HOLD, QUEUE_CORRUPT, QUEUE_PLACES };
const char *queue_place_name(enum queue_place place);

/* One queue on one disk. Opened once a process; directories are made when missing (mode 0700; public 0755)
 * and refused (ERROR_CONF) when they are links, belong to somebody else or can be written by others. */
struct queue;
struct queue_conf {
    const char *directory; /* queue_directory */
    unsigned hash_depth;   /* hash_queue_depth, 1..4 (more is taken for 4) */
    uid_t owner;           /* when root opens it: who gets the directories that are made; 0, 0: root */
    gid_t group;
    uint64_t journal_size; /* queue_journal_size, of a process that writes messages; 0: no journal */
    /* For tests, which imitate another boot and are in a hurry. */
    const char *boot_id;       /* NULL: the kernel's */
    uint64_t journal_delay_ms; /* from a journal's first record to its checkpoint; 0: ten seconds */
};
struct error *queue_open(const void *ctx, const struct queue_conf *conf, struct queue **queue_r);
const char *queue_directory(const struct queue *q);
/* At a process's orderly end, when its loop has ended: what was committed is on disk in its place, so that
 * the next start has nothing to bring back. Blocking; trouble is logged. */
void queue_settle(struct queue *q);

/* Before the processes that write messages are forked: memory of the host, in which they tell each other the
 * ids of queue files. Without it queue_id_is_free() looks into every place, and no message was taken. */
void queue_prepare(void);

/* No message of this id is anywhere in the queue. */
bool queue_id_is_free(struct queue *q, const char *id);
/* Free bytes on the queue's disk (statvfs, remembered for a second). */
uint64_t queue_free_bytes(struct queue *q);

/* ---- envelope as the queue keeps it ---- */

enum queue_rcpt_state {
    QUEUE_RCPT_TODO = 'R',
    QUEUE_RCPT_DONE = 'D', /* delivered, discarded, or bounced and the bounce is queued */
};
struct queue_rcpt {
    const char *addr;  /* internal form */
    const char *orig;  /* before alias expansion; NULL: same */
    unsigned notify;   /* enum mail_notify */
    const char *orcpt; /* NULL: none */
    enum queue_rcpt_state state;
    uint64_t offset; /* where the state byte is in the file */
};
struct queue_envelope {
    char id[MAIL_ID_SIZE];
    uint64_t arrived_us;
    const char *sender; /* "" is the null sender */
    const char *envid;  /* NULL: none */
    enum mail_ret ret;
    bool smtputf8, is_8bit;
    const char *filter; /* "transport:nexthop" from FILTER or content_filter; NULL */
    bool is_unscanned;  /* accepted before its filter saw it: what that refuses is held, not returned */
    const char *log_client_name, *log_client_addr, *log_client_port; /* NULL: unknown */
    const char *log_helo, *log_proto, *log_ident;
    struct queue_rcpt *rcpts;
    size_t rcpt_count;
    uint64_t content_offset, content_size;
};

/* ---- writing ---- */

enum {
    QUEUE_MEMORY_LIMIT = 256 * 1024
}; /* content kept in memory; more goes to the file in pieces of this size */

struct queue_writer;
/*
 * A new message. Small ones stay in memory until commit and then cost one write; larger ones are written as
 * they come. The id is env->id. Memory of ctx; freeing an uncommitted writer removes what it wrote.
 */
struct queue_writer *queue_writer_new(const void *ctx, struct queue *q);
/* Appends content. Errors (disk full) are kept and told by commit too; each call returns one of its own.
 * `code` of an error of these two functions: ENOSPC, EDQUOT, EFBIG (no room), EEXIST (the id is taken),
 * ETIMEDOUT, ECANCELED... */
co_fn struct error *queue_writer_content(struct queue_writer *w, struct bytes piece);
uint64_t queue_writer_size(const struct queue_writer *w);
/* Completes the message with its envelope (everything but the offsets), in QUEUE_INCOMING or QUEUE_HOLD,
 * durable when it returns NULL. After an error, deadline and cancellation included, nothing of it is or will
 * be in the queue; code EEXIST: there is a message of its id, which may have come since queue_id_is_free().
 * Once a writer. */
co_fn struct error *queue_writer_commit(struct queue_writer *w, const struct queue_envelope *env,
                                        enum queue_place place, uint64_t deadline);
void queue_writer_free(struct queue_writer **w);

/* ---- reading and moving ---- */

/* Opens a complete message for reading and marking; *fd_r is the caller's (locked exclusively when `lock`:
 * ERROR_TEMP with code EWOULDBLOCK if another has it, be it an agent or the writer that is not quite done: so
 * lock before you move). ERROR_PERM with code ENOENT: it is not there. ERROR_PERM with code EBADMSG: not what
 * we write; the caller moves it to QUEUE_CORRUPT. Blocking: small reads only. */
struct error *queue_message_open(struct queue *q, enum queue_place place, const char *id, bool lock,
                                 int *fd_r);
/* The envelope, owned by ctx, from a descriptor that need not come from queue_message_open. Damage:
 * ERROR_PERM with code EBADMSG. */
struct error *queue_message_read(const void *ctx, int fd, struct queue_envelope **env_r);
/* Marks one recipient in place (not synced: a power loss may cost a duplicate, never mail). */
struct error *queue_message_mark(int fd, const struct queue_rcpt *rcpt, enum queue_rcpt_state state);
/* Moves; for QUEUE_DEFERRED `retry_at` becomes the file's mtime. code ENOENT: somebody else moved it. code
 * EEXIST: the name is taken there (an id that a peer gave twice): try again later. */
struct error *queue_message_move(struct queue *q, const char *id, enum queue_place from, enum queue_place to,
                                 time_t retry_at);
/* The file and its reasons in defer. */
struct error *queue_message_remove(struct queue *q, enum queue_place place, const char *id);
/* Finds where an id is. */
bool queue_message_find(struct queue *q, const char *id, enum queue_place *place_r);
/* The scheduler has taken the message from incoming, since the servers were started: it was complete,
 * wherever it is now. A message that is not found is asked for by this afterwards, since it may have gone
 * meanwhile. More than 131072 messages later it may be forgotten. */
bool queue_was_taken(const char *id);

/* Every complete message of a place, in no order; the callback returns false to stop, and may move or remove
 * the message that it is given. mtime: retry time; size: of the whole file. Blocking. */
struct error *queue_scan(struct queue *q, enum queue_place place,
                         bool (*found)(void *arg, const char *id, time_t mtime, uint64_t size), void *arg);
/* After a crash, by the scheduler alone: what journals hold and the queue has not is brought back (after the
 * machine went down), active goes back to incoming, incomplete files without a writer are
 * removed, deferred files lie where hash_queue_depth says, each change logged. What cannot be repaired is
 * logged and left: an error only when a directory cannot be read. Writers of other processes may be at work
 * meanwhile. */
struct error *queue_recover(struct queue *q);

/* ---- why recipients are deferred: defer/X/ID, rewritten as a whole at each attempt; not synced ---- */

struct queue_reason {
    const char *rcpt;
    const char *dsn; /* "4.4.1" */
    const char *text;
};
struct error *queue_reasons_write(struct queue *q, const char *id, const struct queue_reason *at, size_t n);
struct error *queue_reasons_read(const void *ctx, struct queue *q, const char *id, struct queue_reason **at_r,
                                 size_t *n_r); /* none: n 0 */

/* ---- telling the scheduler ---- */

/* Writes 'W' (new mail), 'F' (flush) or 'I' (new mail in incoming, look again) to public/qmgr; never waits;
 * that nobody listens is no error (its periodic scan finds the mail). */
void queue_notify(struct queue *q, char what);

#endif
