/*
 * What a message is known by. Fields are hashed with their lengths before them, and the content, which comes
 * last, with its length behind it: no byte can be moved from one field to its neighbour.
 *
 * Addresses go in as they are meant (internal form), parameters as they were typed, keywords in capitals, in
 * order.
 *
 * Most keys are begun in case somebody leaves, and never asked for: until then the envelope is only kept.
 */
#include "verdict_private.h"

#include "log.h"
#include "mail_address.h"
#include "mem.h"

#include <openssl/evp.h>

struct verdict_digest {
    const struct verdict *memory;
    struct buf kept; /* of the envelope: fields, each behind its length */
    size_t rcpt_count;
    uint64_t envelope_hash;
    EVP_MD_CTX *evp; /* NULL: nothing is hashed yet */
    uint64_t content_size;
};

/* ---- hint: cheap, without the content ---- */

static uint64_t mix(uint64_t hash, const void *data, size_t n)
{
    const unsigned char *p = data;

    for (size_t i = 0; i < n; i++)
        hash = (hash ^ p[i]) * 1099511628211u;
    return hash;
}

static uint64_t mix_text(uint64_t hash, const char *text)
{
    return mix(hash, text, strlen(text) + 1);
}

static uint64_t envelope_hash(const char *filter, const struct mail_envelope *e)
{
    uint64_t hash = mix_text(14695981039346656037u, filter);

    hash = mix_text(hash, e->sender);
    for (size_t i = 0; i < e->rcpt_count; i++)
        hash = mix_text(hash, e->rcpts[i]->addr);
    return hash;
}

static uint32_t hint_of(uint64_t hash, uint64_t content_size)
{
    hash = mix(hash, &content_size, sizeof(content_size));
    return (uint32_t)(hash >> 32 ^ hash);
}

uint32_t verdict_hint(const char *filter, const struct mail_envelope *e, uint64_t content_size)
{
    return hint_of(envelope_hash(filter, e), content_size);
}

/* ---- the envelope, kept ---- */

static void keep(struct buf *kept, struct bytes field)
{
    buf_add(kept, bytes((const char *)&field.n, sizeof(field.n)));
    buf_add(kept, field);
}

static struct bytes next_kept(struct bytes *rest)
{
    size_t n;

    memcpy(&n, rest->p, sizeof(n));
    *rest = bytes_skip(*rest, sizeof(n) + n);
    return bytes(rest->p - n, n);
}

static void keep_envelope(struct buf *kept, const struct mail_envelope *e)
{
    keep(kept, bytes_of(e->sender));
    keep(kept, e->command);
    for (size_t i = 0; i < e->rcpt_count; i++) {
        keep(kept, bytes_of(e->rcpts[i]->addr));
        keep(kept, e->rcpts[i]->command);
    }
}

/* ---- digest ---- */

static void update(struct verdict_digest *d, const void *data, size_t n)
{
    if (EVP_DigestUpdate(d->evp, data, n) != 1)
        log_fatal("no SHA-256 from libcrypto");
}

static void add_number(struct verdict_digest *d, uint64_t value)
{
    unsigned char out[8];

    for (int i = 0; i < 8; i++)
        out[i] = (unsigned char)(value >> (56 - i * 8));
    update(d, out, sizeof(out));
}

static void add_field(struct verdict_digest *d, struct bytes field)
{
    add_number(d, field.n);
    update(d, field.p, field.n);
}

static void add_param(struct verdict_digest *d, struct bytes word)
{
    size_t equals = bytes_chr(word, '=');
    size_t keyword = equals == SIZE_MAX ? word.n : equals;

    add_number(d, word.n);
    for (size_t i = 0; i < keyword; i++) {
        char c = (char)ascii_upper((unsigned char)word.p[i]);

        update(d, &c, 1);
    }
    update(d, word.p + keyword, word.n - keyword);
}

/* What follows the path of a MAIL or RCPT command; the whole command when no path is found in it. */
static struct bytes params_of(struct bytes command)
{
    size_t colon = bytes_chr(command, ':');
    struct bytes path = bytes_trim(bytes_skip(command, colon == SIZE_MAX ? command.n : colon + 1));
    struct bytes rest = command;
    char *address = NULL;

    if (path.n > 0 && mail_address_parse_path(NULL, path, true, false, &address, &rest))
        talloc_free(address);
    return rest;
}

/* The next parameter that counts. */
static struct bytes next_param(struct bytes *rest)
{
    struct bytes word;

    do
        word = bytes_word(rest, " \t");
    while (bytes_has_iprefix(word, BYTES("SIZE=")));
    return word;
}

static void add_params(struct verdict_digest *d, struct bytes command)
{
    struct bytes rest = params_of(command), count = rest, word;
    uint64_t n = 0;

    while (next_param(&count).n > 0)
        n++;
    add_number(d, n);
    while ((word = next_param(&rest)).n > 0)
        add_param(d, word);
}

static void add_party(struct verdict_digest *d, struct bytes *rest)
{
    add_field(d, next_kept(rest));
    add_params(d, next_kept(rest));
}

static void add_envelope(struct verdict_digest *d)
{
    struct bytes rest = buf_bytes(&d->kept);

    add_field(d, BYTES("sallyport verdict"));
    add_field(d, bytes_of(d->memory->filter));
    add_party(d, &rest);
    add_number(d, d->rcpt_count);
    for (size_t i = 0; i < d->rcpt_count; i++)
        add_party(d, &rest);
}

static void begin_hashing(struct verdict_digest *d)
{
    if (d->evp != NULL)
        return;
    d->evp = EVP_MD_CTX_new();
    if (d->evp == NULL || EVP_DigestInit_ex2(d->evp, d->memory->sha256, NULL) != 1)
        log_fatal("no SHA-256 from libcrypto");
    add_envelope(d);
}

/* ---- a key ---- */

static int destroy(struct verdict_digest *d)
{
    buf_deinit(&d->kept);
    EVP_MD_CTX_free(d->evp);
    return 0;
}

struct verdict_digest *verdict_key_begin(const void *ctx, const struct verdict *m,
                                         const struct mail_envelope *e)
{
    struct verdict_digest *d = mem_new(ctx, struct verdict_digest);

    talloc_set_destructor(d, destroy);
    d->memory = m;
    d->rcpt_count = e->rcpt_count;
    d->envelope_hash = envelope_hash(m->filter, e);
    keep_envelope(&d->kept, e);
    return d;
}

void verdict_key_add(struct verdict_digest *d, struct bytes content)
{
    begin_hashing(d);
    update(d, content.p, content.n);
    d->content_size += content.n;
}

struct verdict_key verdict_key_end(struct verdict_digest **d)
{
    struct verdict_key key = {.hint = hint_of((*d)->envelope_hash, (*d)->content_size)};

    begin_hashing(*d);
    add_number(*d, (*d)->content_size);
    if (EVP_DigestFinal_ex((*d)->evp, key.hash, NULL) != 1)
        log_fatal("no SHA-256 from libcrypto");
    TALLOC_FREE(*d);
    return key;
}
