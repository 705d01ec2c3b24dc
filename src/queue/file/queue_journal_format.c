/*
 * Headers and records of a journal, read as if they were hostile: a disk can return anything. Pure, but for
 * the salt. See queue_journal.h.
 */
#include "queue_journal.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

enum { VERSION = 1, ORDER = 0x01020304, RECORD_MAGIC = 0x4a524543 };
#define MAGIC "SALLYJNL"
_Static_assert(sizeof(struct queue_journal_header) == 88 && sizeof(struct queue_journal_record) == 88,
               "no gaps: every byte is under the checksum");

static struct bytes head_bytes(const void *head, size_t n)
{
    return bytes(head, n);
}

static uint32_t header_crc(const struct queue_journal_header *header)
{
    return queue_crc(0, head_bytes(header, offsetof(struct queue_journal_header, crc)));
}

/* Of the image, which comes first because a head is complete only when its batch is, and the head. */
static uint32_t record_crc(const struct queue_journal_record *record, uint32_t image_crc)
{
    return queue_crc(image_crc, head_bytes(record, offsetof(struct queue_journal_record, crc)));
}

/* ---- headers ---- */

void queue_journal_renew(struct queue_journal_header *header, const char *boot_id, uint64_t half_size)
{
    header->generation++;
    header->half_size = half_size;
    memset(header->boot_id, 0, sizeof(header->boot_id));
    snprintf(header->boot_id, sizeof(header->boot_id), "%s", boot_id);
    if (getrandom(&header->salt, sizeof(header->salt), 0) != sizeof(header->salt))
        abort(); /* 8 bytes are never cut short once the kernel's generator is set up */
    queue_journal_format_header(header);
}

void queue_journal_format_header(struct queue_journal_header *header)
{
    memcpy(header->magic, MAGIC, sizeof(header->magic));
    header->version = VERSION;
    header->order = ORDER;
    header->spare = 0;
    header->crc = header_crc(header);
}

/* NULL, or what is wrong. */
static const char *check_header(const struct queue_journal_header *header)
{
    if (memcmp(header->magic, MAGIC, sizeof(header->magic)) != 0)
        return "not a journal";
    if (header->order != ORDER)
        return "journal of a machine with another byte order";
    if (header->version != VERSION)
        return "journal of another version";
    if (header->crc != header_crc(header) || memchr(header->boot_id, '\0', QUEUE_BOOT_ID_SIZE) == NULL ||
        header->half_size < QUEUE_JOURNAL_HALF_LEAST || header->half_size > QUEUE_JOURNAL_HALF_LIMIT ||
        header->half_size % QUEUE_JOURNAL_BLOCK != 0)
        return "journal header damaged";
    return NULL;
}

static bool is_zero(struct bytes text)
{
    while (text.n > 0 && text.p[0] == '\0')
        text = bytes_skip(text, 1);
    return text.n == 0;
}

static bool is_of(const struct queue_journal_record *record, const struct queue_journal_header *header)
{
    return record->magic == RECORD_MAGIC && record->generation == header->generation &&
           record->salt == header->salt;
}

enum queue_journal_state queue_journal_judge(struct bytes half, const char *boot_id,
                                             struct queue_journal_header *header_r, const char **why_r)
{
    struct queue_journal_record first;
    struct bytes rest = bytes_skip(half, QUEUE_JOURNAL_BLOCK);
    const char *why;

    if (half.n < sizeof(*header_r) || is_zero(bytes(half.p, sizeof(*header_r))))
        return QUEUE_JOURNAL_FRESH;
    memcpy(header_r, half.p, sizeof(*header_r));
    why = check_header(header_r);
    if (why != NULL) {
        *why_r = why;
        return QUEUE_JOURNAL_STRANGE;
    }
    if (rest.n < sizeof(first))
        return QUEUE_JOURNAL_EMPTY;
    memcpy(&first, rest.p, sizeof(first));
    if (!is_of(&first, header_r))
        return QUEUE_JOURNAL_EMPTY;
    return boot_id[0] != '\0' && strcmp(header_r->boot_id, boot_id) == 0 ? QUEUE_JOURNAL_DIRTY
                                                                         : QUEUE_JOURNAL_OWED;
}

/* ---- records ---- */

void queue_journal_format_record(struct queue_journal_record *record)
{
    record->magic = RECORD_MAGIC;
    record->spare = 0;
    record->crc = record_crc(record, record->crc);
}

static bool is_image(struct bytes image)
{
    return image.n >= QUEUE_HEADER_SIZE + QUEUE_END_SIZE &&
           memcmp(image.p + image.n - QUEUE_END_SIZE, QUEUE_END, QUEUE_END_SIZE) == 0;
}

static bool is_sound(const struct queue_journal_record *record, struct bytes image)
{
    const char *end = memchr(record->id, '\0', sizeof(record->id));

    if (end == NULL || !mail_id_is_valid(bytes(record->id, (size_t)(end - record->id))))
        return false;
    switch (record->kind) {
    case QUEUE_JOURNAL_INCOMING:
    case QUEUE_JOURNAL_HOLD:
        return is_image(image);
    case QUEUE_JOURNAL_VOID:
        return image.n == 0;
    default:
        return false;
    }
}

bool queue_journal_next(struct bytes half, const struct queue_journal_header *header, size_t *at,
                        struct queue_journal_record *record_r, struct bytes *image_r)
{
    struct bytes rest = bytes_skip(half, *at);

    if (rest.n < sizeof(*record_r))
        return false;
    memcpy(record_r, rest.p, sizeof(*record_r));
    rest = bytes_skip(rest, sizeof(*record_r));
    if (!is_of(record_r, header) || record_r->length > rest.n || record_r->padding >= QUEUE_JOURNAL_BLOCK)
        return false;
    *image_r = bytes(rest.p, record_r->length);
    if (record_r->crc != record_crc(record_r, queue_crc(0, *image_r)) || !is_sound(record_r, *image_r))
        return false;
    *at += sizeof(*record_r) + record_r->length + record_r->padding;
    return true;
}
