/*
 * The memory of verdicts that nobody heard (RFC 1047). A message whose client left while the filter worked is
 * scanned to the end all the same; what the filter said is kept here, and the client that comes back with the
 * same message is answered from memory: it is neither scanned nor queued a second time. Once a client has
 * heard the reply the memory of it is gone: the next copy is a new message, however alike.
 *
 *     content begins to come            verdict_copy_new()
 *     whole message received            verdict_copy_wait()
 *       verdict_may_know()  no: scan it                             (the usual way: no key is computed)
 *         yes: verdict_key_begin .. _add .. _end, verdict_start()
 *           VERDICT_FRESH       scan it
 *           VERDICT_RUNNING     verdict_wait(), then as told
 *           VERDICT_REMEMBERED  send the reply; verdict_heard() when it was heard, nothing when it was not
 *     client left, whenever             verdict_copy_left(), at once
 *     client left during the scan       key, if there is none yet; verdict_abandon(); let the scan go on
 *     scan ended                        verdict_end(), when there is a key or the reply was not heard
 *
 * "Heard" is what a command that came after the reply was sent proves, or the client's orderly close after
 * it. A write that succeeded proves nothing, nor does a command that was pipelined behind the content; a
 * reset, or a close that came before the reply was sent, proves the contrary. So the caller holds the
 * content, or its key, until then.
 *
 * Kept are 2xx and 5xx, which end a message's way. A 4xx is not: nothing was queued, so no second copy can
 * come of it, and from memory it would only make the sender wait for one turn more.
 *
 * The message is known by the filter asked, sender, recipients in order, their parameters and the content as
 * the client sent it. Left out are SIZE (an estimate of what is hashed anyway; hosts of one sender's pool may
 * differ in it), the client's address (retries come from any host of a pool; who knows the message byte for
 * byte and its envelope can at worst hear what became of it, and cause one duplicate), and what our hooks
 * decided.
 *
 * A retry may come to its gate before the worker that has the first copy knows that the client is gone: the
 * client's end came before the retry began, but that worker waits for a processor, or computes the key. So
 * from the beginning of its content until its reply was heard, or it is known here, or it has failed, each
 * message is in hand (verdict_copy.c), for all workers to see. A retry waits for those that have copies of
 * its envelope until they have looked at what came before the retry's MAIL, and then until no older copy is
 * in hand whose client has left. What is in hand with its client there is another message. Three gaps remain:
 * a worker that hangs for a second is not waited for; a client that does not wait for any reply (MAIL, RCPT
 * and BDAT in one go) may be gone before we have seen its MAIL; one that vanished without a word, with its
 * host or its network, is taken to be there for three minutes (io_listen()). They cost a duplicate.
 *
 * Several clients may hear one verdict when they retry at once; the message is queued once.
 *
 * Messages in hand, and running scans without a client, are in memory shared by all workers, kept verdicts in
 * LMDB, in $data_directory/verdicts. A worker that dies takes its part along: the next retry is scanned. A
 * commit is one fdatasync on a thread; the loss of power may undo the last one: a duplicate at worst, or a
 * verdict that was heard already. The same holds for a worker that dies while a full disk keeps it from
 * forgetting what was heard. A database that is damaged is moved aside to verdicts.bad, with a warning, and a
 * new one begun, also when a worker has died of it; while there is none nothing is remembered, and mail
 * flows.
 *
 * smtpd_proxy_verdict_memory, _verdict_lifetime, _verdict_memory_limit.
 */
#ifndef VERDICT_VERDICT_H
#define VERDICT_VERDICT_H

#include "co.h"
#include "conf.h"
#include "mail.h"

/* ---- for master ---- */

/* Maps the shared memory, proves the database and counts what is in it, in a child of its owner's rights;
 * once, before the first fork. Waits for that child, 20 s at most; a disk that is slower proves nothing. */
void verdict_prepare(const struct conf *conf);
/* A worker of this id has died: its running scans and what it had in hand are forgotten, and who waits for
 * them is told. If it was at work on the database just then, the next worker proves that before it opens it.
 */
void verdict_forget(unsigned worker);

/* ---- for a worker ---- */

struct verdict;

/* The memory as one service uses it: at most one in a process, opened after the fork. filter: the text of
 * smtpd_proxy_filter, part of every key. worker: its id, below 256. The loop tells others how far it is, from
 * now on. Never fails: without a database it warns.
 * When smtpd_proxy_verdict_memory is off it is always empty, and keeps nothing. Owned by ctx, which must
 * outlive every coroutine that uses it. */
struct verdict *verdict_open(const void *ctx, const struct conf *conf, const char *filter, unsigned worker);

/* Waits until what was told so far is on disk, and messages whose clients have left are known; for a worker's
 * orderly end. */
co_fn void verdict_flush(struct verdict *m, uint64_t deadline);

/* ---- in hand ---- */

/* A message whose content begins to come: its envelope is complete. Free it when the reply was heard, when
 * the message is known (verdict_abandon() or verdict_end() came to it, or what it waits for is a running
 * scan), or when it ended without a verdict. Owned by ctx. NULL when smtpd_proxy_verdict_memory is off. */
struct verdict_copy *verdict_copy_new(const void *ctx, struct verdict *m,
                                      const struct mail_envelope *envelope);
/* Its client was seen to leave. From the callback that tells so: retries wait for what follows. */
void verdict_copy_left(struct verdict_copy *c);
/* Before verdict_may_know(): until no worker can have an older copy of the envelope in hand whose client has
 * left. Mostly does not wait. False: the deadline has passed, or the coroutine was cancelled. */
co_fn bool verdict_copy_wait(const struct verdict_copy *c, uint64_t deadline);

/* ---- the key ---- */

struct verdict_key {
    unsigned char hash[32]; /* SHA-256 */
    uint32_t hint;          /* what verdict_may_know() goes by */
    uint64_t kept_us;       /* when the reply was kept that was told, or kept, by this key; 0: none was */
};

/* No verdict is kept and no scan runs without its client: a few loads, no lock. */
bool verdict_is_empty(const struct verdict *m);
/* False: verdict_start() would say VERDICT_FRESH. True: a message of this envelope and size, or by chance
 * another one, is known: compute the key. content_size: the sum of the pieces that would be added to the key.
 */
bool verdict_may_know(struct verdict *m, const struct mail_envelope *envelope, uint64_t content_size);

/* The key of a message: begin, then the content in pieces of any size, as the client sent it (lines with CR
 * LF, without dot-stuffing, without the trace headers that we put above it). Begin is cheap: the SHA-256
 * begins with add or end. The digest is ctx's until end has freed it, and may outlive the envelope, but not
 * *m; to give up, free its context. */
struct verdict_digest;
struct verdict_digest *verdict_key_begin(const void *ctx, const struct verdict *m,
                                         const struct mail_envelope *envelope);
void verdict_key_add(struct verdict_digest *d, struct bytes content);
struct verdict_key verdict_key_end(struct verdict_digest **d);

/* ---- a message ---- */

enum verdict_found {
    VERDICT_FRESH,      /* nothing is known: scan it */
    VERDICT_RUNNING,    /* it is being scanned, and its client has left */
    VERDICT_REMEMBERED, /* *reply_r is the answer, the caller's to send or deinit */
};

/* Before a scan. Reads the database in place; does not wait. A copy whose client is still there is another
 * message: FRESH. */
enum verdict_found verdict_start(struct verdict *m, struct verdict_key *key, struct mail_reply *reply_r);
/* Until the running scan has ended. FRESH: it ended without a verdict worth keeping, or its worker died;
 * RUNNING: the deadline has passed or the coroutine was cancelled. */
co_fn enum verdict_found verdict_wait(struct verdict *m, struct verdict_key *key, uint64_t deadline,
                                      struct mail_reply *reply_r);

/* The client left while this worker scans the message for it: copies that come now wait for the verdict.
 * Followed by verdict_end(), always; a scan that has not ended for an hour is not waited for. There is room
 * for some thousands; false: without room the call does nothing, and the copy stays in hand until
 * verdict_end(). */
bool verdict_abandon(struct verdict *m, const struct verdict_key *key);
/* The scan has ended. heard: forgets what is known of the message, and does not wait. Else 2xx and 5xx are
 * kept, also without verdict_abandon() before; waits until the verdict is on disk, or the deadline (the write
 * goes on without its caller). The reply stays the caller's. */
co_fn void verdict_end(struct verdict *m, struct verdict_key *key, const struct mail_reply *reply, bool heard,
                       uint64_t deadline);
/* A remembered reply, told by this key, was heard: from now on the next copy is FRESH, also while the
 * database cannot be written. Does not wait. */
void verdict_heard(struct verdict *m, const struct verdict_key *key);

/* ---- for `sallyport top` ---- */

struct verdict_snapshot {
    uint64_t entries; /* kept now */
    uint64_t running; /* scans without a client now */
    /* since master started */
    uint64_t kept;
    uint64_t hits;    /* replies given from memory */
    uint64_t heard;   /* of them, those that went by it */
    uint64_t expired; /* never asked for within the lifetime */
    uint64_t evicted; /* the oldest, when there were too many */
    uint64_t waits;   /* copies that waited for a running scan */
};

/* Reads the numbers from $data_directory; false when there are none. From any process that may read there. */
bool verdict_snapshot(const struct conf *conf, struct verdict_snapshot *out_r);

#endif
