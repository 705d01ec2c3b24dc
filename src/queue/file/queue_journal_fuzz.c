/*
 * Any bytes as a half of a journal: judged and read or refused, never more. Half of the inputs are given a
 * good header, and records whose checksums fit them, so that what comes after these is reached: the input's
 * bytes are then lengths, kinds, ids and images.
 */
#include "queue_journal.h"

#include <stddef.h>
#include <stdlib.h>

enum { LIMIT = 64 * 1024 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const struct queue_journal_record *record, struct bytes half, struct bytes image, size_t at)
{
    bool is_message = record->kind == QUEUE_JOURNAL_INCOMING || record->kind == QUEUE_JOURNAL_HOLD;

    if (!mail_id_is_valid(bytes_of(record->id)) || (!is_message && record->kind != QUEUE_JOURNAL_VOID))
        abort();
    if (image.p < half.p || image.p + image.n > half.p + half.n || at < QUEUE_JOURNAL_BLOCK + sizeof(*record))
        abort();
    if (is_message != (image.n >= QUEUE_HEADER_SIZE + QUEUE_END_SIZE))
        abort();
}

static void try(struct bytes half)
{
    struct queue_journal_header header;
    struct queue_journal_record record;
    struct bytes image;
    const char *why = NULL;
    size_t at = QUEUE_JOURNAL_BLOCK;
    enum queue_journal_state state = queue_journal_judge(half, "boot", &header, &why);

    if ((state == QUEUE_JOURNAL_STRANGE) != (why != NULL))
        abort();
    if (state == QUEUE_JOURNAL_STRANGE || state == QUEUE_JOURNAL_FRESH)
        return;
    while (queue_journal_next(half, &header, &at, &record, &image)) {
        if (state == QUEUE_JOURNAL_EMPTY)
            abort();
        check(&record, half, image, at);
    }
}

/* Makes the record at `at` one of this generation; returns where the next may be. */
static size_t complete(char *half, size_t n, size_t at, const struct queue_journal_header *header)
{
    struct queue_journal_record record;
    size_t room = n - at - sizeof(record);

    memcpy(&record, half + at, sizeof(record));
    record.generation = header->generation;
    record.salt = header->salt;
    record.length %= 4096;
    record.length = record.length < room ? record.length : (uint32_t)room;
    record.crc = queue_crc(0, bytes(half + at + sizeof(record), record.length));
    queue_journal_format_record(&record);
    memcpy(half + at, &record, sizeof(record));
    return at + sizeof(record) + record.length + record.padding;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct queue_journal_header header = {.boot_id = "boot", .generation = 7, .half_size = LIMIT};
    size_t n = QUEUE_JOURNAL_BLOCK + (size < LIMIT ? size : LIMIT) - 1;
    char *half;

    if (size < 2)
        return 0;
    if (data[0] & 1) {
        try(bytes((const char *)data + 1, size - 1));
        return 0;
    }
    half = calloc(1, n);
    if (half == NULL)
        abort();
    queue_journal_format_header(&header);
    memcpy(half, &header, sizeof(header));
    memcpy(half + QUEUE_JOURNAL_BLOCK, data + 1, n - QUEUE_JOURNAL_BLOCK);
    for (size_t at = QUEUE_JOURNAL_BLOCK; at < n && n - at >= sizeof(struct queue_journal_record);)
        at = complete(half, n, at, &header);
    try(bytes(half, n));
    free(half);
    return 0;
}
