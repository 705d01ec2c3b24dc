/*
 * Queue files: one file a message, envelope first, content after it byte for byte, recipients' states updated in
 * place.
 *
 *     incoming/ID   new, for the scheduler to take          active/ID   being delivered
 *     deferred/X/ID to be tried again at its mtime          hold/ID     parked by an administrator or a HOLD
 *     corrupt/ID    not readable; never deleted by us       defer/X/ID  why its recipients are deferred
 *
 * (X: hash_queue_depth levels of one character of the id.) A file is complete when its mode is 0700; the
 * writer holds a lock (flock) until then, so a file of mode 0600 without a lock was never acknowledged and start-up
 * removes it. A name is never overwritten: every move is renameat2(RENAME_NOREPLACE).
 *
 * Durable means: file and directory entry are on disk. kill -9 or power loss at any instant loses nothing for which
 * queue_writer_commit() returned success.
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

/* One queue on one disk. Opened once a process; directories are made when missing (mode 0700). */
struct queue;
struct queue_conf {
    const char *directory;      /* queue_directory */
    unsigned hash_depth;        /* hash_queue_depth */
};
struct error *queue_open(const void *ctx, const struct queue_conf *conf, struct queue **queue_r);
const char *queue_directory(const struct queue *q);

/* No message of this id is anywhere in the queue. */
bool queue_id_is_free(struct queue *q, const char *id);
/* Free bytes on the queue's disk (statvfs, remembered for a second). */
uint64_t queue_free_bytes(struct queue *q);

/* ---- envelope as the queue keeps it ---- */

enum queue_rcpt_state {
    QUEUE_RCPT_TODO = 'R',
    QUEUE_RCPT_DONE = 'D',      /* delivered, discarded, or bounced and the bounce is queued */
};
struct queue_rcpt {
    char *addr;                 /* internal form */
    char *orig;                 /* before alias expansion; NULL: same */
    unsigned notify;            /* enum mail_notify */
    char *orcpt;                /* NULL: none */
    enum queue_rcpt_state state;
    uint64_t offset;            /* where the state byte is in the file */
};
struct queue_envelope {
    char id[MAIL_ID_SIZE];
    uint64_t arrived_us;
    char *sender;               /* "" is the null sender */
    char *envid;                /* NULL: none */
    enum mail_ret ret;
    bool smtputf8, is_8bit;
    char *filter;               /* "transport:nexthop" from FILTER or content_filter; NULL */
    char *log_client_name, *log_client_addr, *log_client_port, *log_helo, *log_proto, *log_ident; /* NULL: unknown */
    struct queue_rcpt *rcpts;
    size_t rcpt_count;
    uint64_t content_offset, content_size;
};

/* ---- writing ---- */

struct queue_writer;
/*
 * A new message. Small ones stay in memory until commit and then cost one write; larger ones are written as they
 * come. The id is env->id. Memory of ctx; freeing an uncommitted writer removes what it wrote.
 */
struct queue_writer *queue_writer_new(const void *ctx, struct queue *q);
/* Appends content. Errors (disk full) are kept and told by commit too. */
co_fn struct error *queue_writer_content(struct queue_writer *w, struct bytes piece);
uint64_t queue_writer_size(const struct queue_writer *w);
/* Completes the message with its envelope (everything but the offsets), in QUEUE_INCOMING or QUEUE_HOLD, durable when
 * it returns NULL. */
co_fn struct error *queue_writer_commit(struct queue_writer *w, const struct queue_envelope *env,
                                        enum queue_place place, uint64_t deadline);
void queue_writer_free(struct queue_writer **w);

/* ---- reading and moving ---- */

/* Opens a complete message; *fd_r is the caller's (locked exclusively when `lock`: ERROR_TEMP if another has it).
 * A file that is not what we write is ERROR_PERM: the caller moves it to QUEUE_CORRUPT. Blocking: small reads only. */
struct error *queue_message_open(struct queue *q, enum queue_place place, const char *id, bool lock, int *fd_r);
/* The envelope, owned by ctx. */
struct error *queue_message_read(const void *ctx, int fd, struct queue_envelope **env_r);
/* Marks one recipient in place. */
struct error *queue_message_mark(int fd, const struct queue_rcpt *rcpt, enum queue_rcpt_state state);
/* Moves; for QUEUE_DEFERRED `retry_at` becomes the file's mtime. ENOENT: somebody else moved it. */
struct error *queue_message_move(struct queue *q, const char *id, enum queue_place from, enum queue_place to,
                                 time_t retry_at);
struct error *queue_message_remove(struct queue *q, enum queue_place place, const char *id);
/* Finds where an id is. */
bool queue_message_find(struct queue *q, const char *id, enum queue_place *place_r);

/* Every complete message of a place, in no order; the callback returns false to stop. mtime: retry time. */
struct error *queue_scan(struct queue *q, enum queue_place place,
                         bool (*found)(void *arg, const char *id, time_t mtime, uint64_t size), void *arg);
/* After a crash: active goes back to incoming, incomplete files without a writer are removed, each logged. */
struct error *queue_recover(struct queue *q);

/* ---- why recipients are deferred: defer/X/ID, rewritten as a whole at each attempt ---- */

struct queue_reason {
    char *rcpt;
    char *dsn;          /* "4.4.1" */
    char *text;
};
struct error *queue_reasons_write(struct queue *q, const char *id, const struct queue_reason *at, size_t n);
struct error *queue_reasons_read(const void *ctx, struct queue *q, const char *id, struct queue_reason **at_r,
                                 size_t *n_r);    /* none: n 0 */

/* ---- telling the scheduler ---- */

/* Writes 'W' (new mail), 'F' (flush) or 'I' (new mail in incoming, look again) to public/qmgr; never waits; that
 * nobody listens is no error (its periodic scan finds the mail). */
void queue_notify(struct queue *q, char what);

#endif
