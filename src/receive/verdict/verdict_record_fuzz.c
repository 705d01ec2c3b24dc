/* Records of the database over arbitrary bytes: what is read back can be written, and is then the same. */
#include "verdict_record.h"

#include "mem.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void again(const struct verdict_key *key, const struct verdict_record *r)
{
    unsigned char out[VERDICT_RECORD_LIMIT];
    struct mail_reply reply = {.code = r->code, .text = bytes_dup(NULL, r->text)};
    struct verdict_record second;
    size_t n;

    memcpy(reply.dsn, r->dsn, sizeof(reply.dsn));
    n = verdict_record_format(key, &reply, r->kept_us, out);
    if (!verdict_record_parse(bytes((const char *)out, n), key->hash, &second) || second.code != r->code ||
        second.kept_us != r->kept_us || !bytes_eq(second.text, bytes_of(reply.text)) ||
        strcmp(second.dsn, r->dsn) != 0)
        abort();
    talloc_free((void *)(uintptr_t)reply.text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct verdict_key key = {.hash = {7}};
    unsigned char sealed[VERDICT_RECORD_LIMIT];
    struct verdict_record r;

    if (verdict_record_parse(bytes((const char *)data, size), key.hash, &r))
        again(&key, &r);
    if (size < 17 || size > sizeof(sealed))
        return 0;
    memcpy(sealed, data, size);
    verdict_record_seal(sealed, size, key.hash);
    if (verdict_record_parse(bytes((const char *)sealed, size), key.hash, &r)) {
        key.hint = r.hint;
        again(&key, &r);
    }
    return 0;
}
