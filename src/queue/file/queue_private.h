/*
 * Inside queue/file only: the queue's open directories, paths below them, and the file format.
 *
 * A queue file:
 *
 *     header      one line of QUEUE_HEADER_SIZE bytes: magic and version, offset and size of envelope and
 * content, count of recipients, checksum of all that and of the envelope envelope    lines "KEY VALUE"; the
 * fields of a recipient's line are separated by TAB. Bytes below 32, 127 and
 *                 '%' are %XX. A recipient's line begins with its state, the one byte that ever changes; the
 * checksum takes it for QUEUE_RCPT_TODO. content     byte for byte end mark    so that a file cut short is
 * recognised
 *
 * A large message, whose content was written before its envelope was complete, has the content first.
 */
#ifndef QUEUE_FILE_QUEUE_PRIVATE_H
#define QUEUE_FILE_QUEUE_PRIVATE_H

#include "buf.h"
#include "queue_file.h"

#include <sys/stat.h>
#include <sys/uio.h>

enum {
    QUEUE_HEADER_SIZE = 100,
    QUEUE_END_SIZE = 4,
    QUEUE_HASH_DEPTH_LIMIT = 4,
    QUEUE_PATH_SIZE = 2 * QUEUE_HASH_DEPTH_LIMIT + MAIL_ID_SIZE,
    QUEUE_TMP_SIZE = 48,
    QUEUE_ENVELOPE_LIMIT = 256 * 1024 * 1024,
    QUEUE_BOOT_ID_SIZE = 40,
};
#define QUEUE_END        "END\n"
#define QUEUE_TMP_PREFIX "tmp."

struct queue {
    char *directory;
    unsigned hash_depth;
    int root; /* descriptors of directories, open as long as the queue */
    int place[QUEUE_PLACES];
    int defer;
    int notify; /* datagram socket; -1: could not be made */
    uint64_t free_bytes, free_until_ms;
    struct queue_job *waiting;        /* for a batch, queue_commit.c */
    unsigned batches;                 /* under way */
    int journals;                     /* directory of the journals */
    struct queue_journal *journal;    /* NULL: queue files are synced one by one */
    char boot_id[QUEUE_BOOT_ID_SIZE]; /* "": not known */
};

/* ---- queue_job.c ---- */

/* Writes all of the parts at this offset of a file; they are changed meanwhile. 0 or errno. */
int queue_write_parts(int fd, struct iovec *part, int n, uint64_t offset);

/* ---- queue_dir.c ---- */

/* Where a message of this id is below the place's directory; false: not an id, so it names no file. */
bool queue_path(const struct queue *q, enum queue_place place, const char *id, char path[QUEUE_PATH_SIZE]);
/* The same below defer/. */
bool queue_reason_path(const struct queue *q, const char *id, char path[QUEUE_PATH_SIZE]);
/* Makes the subdirectories that lead to path below dir. 0 or errno. */
int queue_make_parents(int dir, const char *path);
/* Renames; an existing name is never overwritten (EEXIST). 0 or errno. */
int queue_rename(int from_dir, const char *from, int to_dir, const char *to);
/* A regular file with the mode of a complete message. */
bool queue_is_complete(const struct stat *st);

/* ---- queue_format.c ---- */

struct queue_layout {
    uint64_t envelope_offset, envelope_size, content_offset, content_size, rcpt_count;
};
/* Appends the envelope. NULL, or why it cannot be written. */
const char *queue_format_envelope(struct buf *out, const struct queue_envelope *env);
/* The header for this envelope text. */
void queue_format_header(char out[QUEUE_HEADER_SIZE], const struct queue_layout *layout,
                         struct bytes envelope);
/* NULL and *layout_r, or what is wrong with a file of this size. The checksum is not looked at. */
const char *queue_parse_header(struct bytes header, uint64_t file_size, struct queue_layout *layout_r);
/* Takes `text` (NUL-terminated, owned by env) apart in place; env's strings point into it. NULL, or what is
 * wrong. */
const char *queue_parse_envelope(struct queue_envelope *env, const struct queue_layout *layout,
                                 struct bytes header, char *text);
/* Texts of records and of reasons. unescape works in place and returns false on malformed text. */
void queue_escape(struct buf *out, const char *text);
bool queue_unescape(char *text);

/* ---- queue_seen.c ---- */

/* A queue file of this id is about to be made; or it is about to be moved, or was found: then another program
 * may have made it. */
void queue_seen_note(struct bytes id);
/* It is certain that there was none. False: there was, or nothing is known of it. */
bool queue_seen_is_new(struct bytes id);
/* The scheduler is about to take the message of this id. */
void queue_taken_note(struct bytes id);

#endif
