/*
 * The write-ahead journal: it makes a batch of messages durable with one sync.
 *
 * Queue files are written and made visible as ever, but not synced; the same bytes go to this process's
 * journal, and one fdatasync there is the promise. After the death of a process the files are in the page
 * cache, so a journal is read only after the machine itself went down (queue_replay.c, at start-up).
 *
 *     journal/N   taken by flock, by each process that commits; two halves of the same size
 *     half        a block with the header, then records; each batch begins at a block, so that what is
 *                 durable is never written again
 *     record      its head, the queue file's bytes, and after the last of a batch zeros up to the next block
 *
 * A half holds the records that carry its header's generation and salt, in order, up to the first that is
 * not whole. The salt is random and never leaves the disk: a message whose text imitates a record is none.
 * One half takes records; the other one is checkpointed meanwhile: the queue's file system is synced as a
 * whole (syncfs; Linux 5.8 or later tells what could not be written), then the half gets a new header and is
 * empty. That happens when a half is full, and some seconds after its first record, so that a crash brings
 * little mail back that was delivered long ago.
 *
 * Whatever the journal cannot take (large messages, both halves full, no journal yet or any more) is synced
 * file by file, by queue_job.c.
 */
#ifndef QUEUE_FILE_QUEUE_JOURNAL_H
#define QUEUE_FILE_QUEUE_JOURNAL_H

#include "queue_private.h"

struct queue_job;

enum {
    QUEUE_JOURNAL_BLOCK = 4096,
    QUEUE_JOURNAL_FILES = 256,                    /* names: 0 to 255, one for each process at most */
    QUEUE_JOURNAL_HALF_LEAST = 64 * 1024,         /* a half; a smaller queue_journal_size is taken for this */
    QUEUE_JOURNAL_HALF_LIMIT = 512 * 1024 * 1024, /* a half; a larger one is taken for this */
    QUEUE_JOURNAL_SHARE = 8,                      /* a message may have this part of a half */
};

/* ---- queue_crc.c ---- */

/* CRC-32C (RFC 3720 B.4) of what `crc` is the sum of (0: of nothing) and the text after it. */
uint32_t queue_crc(uint32_t crc, struct bytes text);
/* The same without the processor's help, for tests. */
uint32_t queue_crc_by_table(uint32_t crc, struct bytes text);

/* ---- queue_journal_format.c: pure; numbers are in the machine's byte order, which the header tells ---- */

struct queue_journal_header {
    char magic[8];
    uint32_t version, order;
    char boot_id[QUEUE_BOOT_ID_SIZE]; /* "": must be replayed, in this boot too */
    uint64_t generation, salt, half_size;
    uint32_t spare, crc;
};

enum queue_journal_kind {
    QUEUE_JOURNAL_INCOMING = 'I',
    QUEUE_JOURNAL_HOLD = 'H',
    QUEUE_JOURNAL_VOID = 'V', /* the message at `voided` was given up after it had been written */
};
struct queue_journal_record {
    uint32_t magic, kind;
    uint64_t generation, salt, written_us;
    uint64_t voided;          /* where the record is within the half */
    uint32_t length, padding; /* of the image, and of what follows it */
    char id[MAIL_ID_SIZE];
    uint32_t spare, crc; /* over the image and all before */
};

/* What a half is to a process of this boot. */
enum queue_journal_state {
    QUEUE_JOURNAL_FRESH,   /* never prepared */
    QUEUE_JOURNAL_EMPTY,   /* no records */
    QUEUE_JOURNAL_DIRTY,   /* of this boot: all it holds is in the page cache */
    QUEUE_JOURNAL_OWED,    /* to be replayed */
    QUEUE_JOURNAL_STRANGE, /* not what we write, or by another version: left alone */
};

/* Another generation of the half, with a salt of its own. */
void queue_journal_renew(struct queue_journal_header *header, const char *boot_id, uint64_t half_size);
/* With magic, version and checksum, as it goes to the disk. */
void queue_journal_format_header(struct queue_journal_header *header);
/* Judges the first bytes of a half. *header_r is set unless it is fresh or strange; *why_r when it is
 * strange. */
enum queue_journal_state queue_journal_judge(struct bytes half, const char *boot_id,
                                             struct queue_journal_header *header_r, const char **why_r);
/* Completes a record's head: its magic, and its checksum, which so far is that of the image alone. */
void queue_journal_format_record(struct queue_journal_record *record);
/*
 * The record at *at, which then moves to the next; false when there is none that is whole. Of a message the
 * image borrows from `half`, is long enough for a queue file and ends in its end mark; the id is a valid one.
 */
bool queue_journal_next(struct bytes half, const struct queue_journal_header *header, size_t *at,
                        struct queue_journal_record *record_r, struct bytes *image_r);

/* ---- queue_journal_file.c: all of it blocks ---- */

struct queue_journal_file {
    int fd;        /* -1: none */
    int queue_dir; /* on the file system that is synced; borrowed */
    struct queue_journal_header half[2];
    int code; /* the last failure: 0 or errno, and what was tried */
    const char *step;
};

/* Judges both halves of an open file. Half i begins at i * *half_size_r. */
void queue_journal_look(int fd, const char *boot_id, struct queue_journal_header header_r[2],
                        enum queue_journal_state state_r[2], uint64_t *half_size_r, const char **why_r);
/*
 * Takes the first file that nobody has, checkpoints what a dead owner left there, and prepares it: both
 * halves allocated, written once, and empty. code EAGAIN: one waits to be replayed; try again later.
 */
bool queue_journal_take(struct queue_journal_file *f, int journal_dir, const char *boot_id,
                        uint64_t half_size);
/*
 * The queue itself becomes durable, then the halves that are named are marked empty. When the file system
 * cannot be synced they are kept, marked so that start-up replays them.
 */
bool queue_journal_checkpoint(struct queue_journal_file *f, const bool which[2], const char *boot_id);

/* Where a batch goes. */
struct queue_journal_slot {
    int fd; /* -1: no journal; each file is synced */
    unsigned half;
    uint64_t half_size, used; /* used: up to where the half is taken; advanced by what is written */
    uint64_t generation, salt;
    int code; /* the journal failed: errno, and what was tried */
    const char *step;
};
/* Bytes of a half that these messages may need, 0 when there is none among them that a journal takes. */
uint64_t queue_journal_need(uint64_t half_size, struct queue_job **jobs, size_t n);
/* Makes the messages durable that have not failed and are small enough: their `recorded_at` is set. None are
 * when it fails. */
void queue_journal_write(struct queue_journal_slot *slot, struct queue_job **jobs, size_t n);
/* Takes back those that were recorded and have failed since. */
void queue_journal_void(struct queue_journal_slot *slot, struct queue_job **jobs, size_t n);

/* ---- queue_journal.c: this process's journal, in the loop's thread ---- */

/* Memory of q; asked for and prepared when the first message is committed. */
struct queue_journal *queue_journal_new(struct queue *q, const struct queue_conf *conf);
/* Before and after a batch, of which there is one at a time. *slot_r has no journal when this batch must do
 * without. */
void queue_journal_begin(struct queue *q, struct queue_job **jobs, size_t n,
                         struct queue_journal_slot *slot_r);
void queue_journal_end(struct queue *q, const struct queue_journal_slot *slot);
/* For tests: it takes the next batch. */
bool queue_journal_is_ready(const struct queue *q);

/* ---- queue_replay.c ---- */

/* At start-up: brings back what journals of another boot hold and the queue does not, and checkpoints those
 * that dead processes of this boot left. Trouble is logged, and what could not be replayed is kept. */
void queue_replay(struct queue *q);

#endif
