/* Records of the database. See verdict_record.h. */
#include "verdict_record.h"

#include "log.h"

#include <openssl/evp.h>

enum { VERSION = 1, SUM_AT = 1, SUM_SIZE = 16, BODY_AT = SUM_AT + SUM_SIZE, HASH_SIZE = 32 };

/* ---- numbers ---- */

struct writer {
    unsigned char *p;
};

static void put(struct writer *w, uint64_t value, int size)
{
    while (size-- > 0)
        *w->p++ = (unsigned char)(value >> (size * 8));
}

static uint64_t take(struct bytes *left, size_t size)
{
    uint64_t value = 0;

    for (size_t i = 0; i < size; i++)
        value = value << 8 | (unsigned char)left->p[i];
    *left = bytes_skip(*left, size);
    return value;
}

/* ---- checksum ---- */

static void sum(const unsigned char *body, size_t n, const unsigned char hash[32],
                unsigned char out[SUM_SIZE])
{
    unsigned char all[HASH_SIZE + VERDICT_RECORD_LIMIT], digest[EVP_MAX_MD_SIZE];

    memcpy(all, hash, HASH_SIZE);
    memcpy(all + HASH_SIZE, body, n);
    if (EVP_Digest(all, HASH_SIZE + n, digest, NULL, EVP_sha256(), NULL) != 1)
        log_fatal("no SHA-256 from libcrypto");
    memcpy(out, digest, SUM_SIZE);
}

void verdict_record_seal(unsigned char *record, size_t n, const unsigned char hash[32])
{
    record[0] = VERSION;
    sum(record + BODY_AT, n - BODY_AT, hash, record + SUM_AT);
}

/* ---- format ---- */

bool verdict_record_is_worth(const struct mail_reply *reply)
{
    return reply->code / 100 == 2 || reply->code / 100 == 5;
}

static bool is_control(unsigned char c)
{
    return (c < 32 && c != '\n') || c == 127;
}

static struct bytes cut_text(const char *text)
{
    struct bytes all = bytes_of(text ? text : "");
    size_t line_end;

    if (all.n <= VERDICT_TEXT_LIMIT)
        return all;
    all.n = VERDICT_TEXT_LIMIT;
    line_end = bytes_rchr(all, '\n');
    return bytes(all.p, line_end != SIZE_MAX ? line_end : all.n);
}

size_t verdict_record_format(const struct verdict_key *key, const struct mail_reply *reply, uint64_t kept_us,
                             unsigned char *out)
{
    struct bytes text = cut_text(reply->text);
    struct writer w = {out + BODY_AT};
    size_t dsn = strlen(reply->dsn);

    put(&w, kept_us, 8);
    put(&w, key->hint, 4);
    put(&w, (uint64_t)reply->code, 2);
    put(&w, dsn, 1);
    memcpy(w.p, reply->dsn, dsn);
    w.p += dsn;
    put(&w, text.n, 2);
    for (size_t i = 0; i < text.n; i++)
        *w.p++ = is_control((unsigned char)text.p[i]) ? '?' : (unsigned char)text.p[i];
    verdict_record_seal(out, (size_t)(w.p - out), key->hash);
    return (size_t)(w.p - out);
}

/* ---- parse ---- */

static bool parse_dsn(struct bytes *left, char dsn[12])
{
    size_t n = left->n > 0 ? (size_t)take(left, 1) : SIZE_MAX;

    if (n > 11 || n > left->n)
        return false;
    for (size_t i = 0; i < n; i++)
        if (!ascii_is_digit(left->p[i]) && left->p[i] != '.')
            return false;
    memcpy(dsn, left->p, n);
    dsn[n] = '\0';
    *left = bytes_skip(*left, n);
    return true;
}

static bool parse_text(struct bytes left, struct bytes *text_r)
{
    size_t n = left.n >= 2 ? (size_t)take(&left, 2) : SIZE_MAX;

    if (n > VERDICT_TEXT_LIMIT || n != left.n)
        return false;
    for (size_t i = 0; i < n; i++)
        if (is_control((unsigned char)left.p[i]))
            return false;
    *text_r = left;
    return true;
}

static bool is_code(int code)
{
    return (code >= 200 && code < 300) || (code >= 500 && code < 600);
}

bool verdict_record_parse(struct bytes record, const unsigned char hash[32], struct verdict_record *r)
{
    struct bytes left = bytes_skip(record, BODY_AT);
    unsigned char expected[SUM_SIZE];

    if (left.n < 8 + 4 + 2 || record.n > VERDICT_RECORD_LIMIT || record.p[0] != VERSION)
        return false;
    sum((const unsigned char *)left.p, left.n, hash, expected);
    if (memcmp(expected, record.p + SUM_AT, SUM_SIZE) != 0)
        return false;
    r->kept_us = take(&left, 8);
    r->hint = (uint32_t)take(&left, 4);
    r->code = (int)take(&left, 2);
    return is_code(r->code) && parse_dsn(&left, r->dsn) && parse_text(left, &r->text);
}
