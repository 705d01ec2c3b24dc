/*
 * A kept verdict as the bytes of a database record, big-endian:
 *
 *     u8 version | 16 bytes of SHA-256 over key and all that follows | u64 kept, us since 1970 | u32 hint
 *     | u16 code | u8 n, n bytes of dsn | u16 n, n bytes of text
 *
 * The checksum binds a record to its key: a flipped bit must not make an acceptance of a refusal.
 */
#ifndef VERDICT_VERDICT_RECORD_H
#define VERDICT_VERDICT_RECORD_H

#include "bytes.h"
#include "mail.h"
#include "verdict.h"

enum { VERDICT_TEXT_LIMIT = 2048, VERDICT_RECORD_LIMIT = VERDICT_TEXT_LIMIT + 64 };

struct verdict_record {
    uint64_t kept_us;
    uint32_t hint;
    int code; /* 2xx or 5xx */
    char dsn[12];
    struct bytes text; /* borrowed from the record; no control character but '\n' */
};

/* Only these are kept. */
bool verdict_record_is_worth(const struct mail_reply *reply);
/* Writes the record, at most VERDICT_RECORD_LIMIT bytes, and returns its length. Text beyond
 * VERDICT_TEXT_LIMIT is cut, at the end of a line where there is one; control characters become '?'. */
size_t verdict_record_format(const struct verdict_key *key, const struct mail_reply *reply, uint64_t kept_us,
                             unsigned char *out);
/* False when it is not what format wrote for this hash. */
bool verdict_record_parse(struct bytes record, const unsigned char hash[32], struct verdict_record *r);

/* For the fuzzer: makes the checksum right, whatever else is wrong. */
void verdict_record_seal(unsigned char *record, size_t n, const unsigned char hash[32]);

#endif
