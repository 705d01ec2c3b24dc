/* XFORWARD: who the original client was, told from server to server for their logs. See smtp.h. */
#include "smtp.h"

#include "mail_address.h"
#include "mem.h"

enum { VALUE_LIMIT = 255, PAYLOAD_LIMIT = 498 };

static bool is_any(struct bytes value)
{
    return true;
}

static bool is_addr(struct bytes value)
{
    return mail_address_is_ip(value);
}

static bool is_port(struct bytes value)
{
    uint64_t port;

    return value.n <= 5 && bytes_to_u64(value, 65535, &port);
}

static bool is_proto(struct bytes value)
{
    return value.n > 0 && value.n <= 64;
}

/* How often it may have come before. */
static bool is_retry(struct bytes value)
{
    uint64_t retry;

    return value.n <= 4 && bytes_to_u64(value, MAIL_RETRY_LIMIT, &retry);
}

static bool is_source(struct bytes value)
{
    return bytes_ieq(value, BYTES("LOCAL")) || bytes_ieq(value, BYTES("REMOTE"));
}

static const struct attribute {
    struct bytes name;
    bool (*is_good)(struct bytes value);
    size_t offset;
} attributes[SMTP_XFORWARD_COUNT] = {
    [SMTP_XFORWARD_NAME] = {BYTES("NAME"), mail_address_is_hostname, offsetof(struct mail_forward, name)},
    [SMTP_XFORWARD_ADDR] = {BYTES("ADDR"), is_addr, offsetof(struct mail_forward, addr)},
    [SMTP_XFORWARD_PORT] = {BYTES("PORT"), is_port, offsetof(struct mail_forward, port)},
    [SMTP_XFORWARD_HELO] = {BYTES("HELO"), is_any, offsetof(struct mail_forward, helo)},
    [SMTP_XFORWARD_IDENT] = {BYTES("IDENT"), is_any, offsetof(struct mail_forward, ident)},
    [SMTP_XFORWARD_PROTO] = {BYTES("PROTO"), is_proto, offsetof(struct mail_forward, proto)},
    [SMTP_XFORWARD_SOURCE] = {BYTES("SOURCE"), is_source, offsetof(struct mail_forward, source)},
    [SMTP_XFORWARD_RETRY] = {BYTES("RETRY"), is_retry, offsetof(struct mail_forward, retry)},
};

static const struct attribute *attribute_find(struct bytes name)
{
    for (size_t i = 0; i < SMTP_XFORWARD_COUNT; i++)
        if (bytes_ieq(name, attributes[i].name))
            return &attributes[i];
    return NULL;
}

unsigned smtp_xforward_parse_names(struct bytes list)
{
    struct bytes word;
    unsigned names = 0;

    while ((word = bytes_word(&list, " \t")).n > 0) {
        const struct attribute *a = attribute_find(word);

        if (a != NULL)
            names |= 1u << (a - attributes);
    }
    return names;
}

static const char **member(struct mail_forward *f, const struct attribute *a)
{
    return (const char **)((char *)f + a->offset);
}

/* Only what may stand in a log line and a header. */
static bool is_shown(const char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text < 32 || *text == 127)
            return false;
    return true;
}

static bool refuse(struct mail_reply *why, const char *text, struct bytes what)
{
    *why = mail_reply(501, "5.5.4", "%s%.*s", text, (int)(what.n < 100 ? what.n : 100), what.p);
    return false;
}

/* *room: where the value goes; it takes less of it than the word is long. */
static bool take_word(char **room, struct bytes word, struct mail_forward *f, struct mail_reply *why_r)
{
    struct bytes value = word;
    struct bytes name = bytes_cut(&value, '=');
    const struct attribute *a = attribute_find(name);
    char *text = *room;
    struct bytes decoded;

    if (name.n == word.n)
        return refuse(why_r, "Error: attribute=value expected", BYTES(""));
    if (value.n > VALUE_LIMIT)
        return refuse(why_r, "Error: attribute value too long", BYTES(""));
    if (a == NULL)
        return refuse(why_r, "Bad XFORWARD attribute name: ", name);
    decoded = smtp_xtext_decode_to(text, value) ? bytes_of(text) : bytes(NULL, 0);
    if (bytes_ieq(decoded, BYTES("[UNAVAILABLE]"))) {
        *member(f, a) = NULL;
        return true;
    }
    if (decoded.p == NULL || !is_shown(text) || !a->is_good(decoded)) {
        *why_r = mail_reply(501, "5.5.4", "Bad %s syntax: %.*s", a->name.p,
                            (int)(value.n < 100 ? value.n : 100), value.p);
        return false;
    }
    if (a == &attributes[SMTP_XFORWARD_ADDR] && strncasecmp(text, "IPv6:", 5) == 0)
        text += 5;
    *member(f, a) = text;
    *room += decoded.n + 1;
    return true;
}

bool smtp_xforward_parse(const void *ctx, struct bytes args, struct mail_forward *f, struct mail_reply *why_r)
{
    struct bytes word;
    char *room;

    if (bytes_trim(args).n == 0)
        return refuse(why_r, "Syntax: XFORWARD attribute=value...", BYTES(""));
    room = mem_bytes(ctx, args.n + 1);
    while ((word = bytes_word(&args, " \t")).n > 0)
        if (!take_word(&room, word, f, why_r))
            return false;
    return true;
}

/* Postfix's encoding: xtext, but '=' stays, since only the first one separates. The length of what needs no
 * encoding, at most `most`. */
static size_t plain_run(const char *text, size_t most)
{
    size_t n = 0;

    while (n < most && (text[n] == '=' || smtp_is_xchar((unsigned char)text[n])))
        n++;
    return n;
}

/* At most what a server takes: a client's endless HELO must not make the filter refuse its mail. What means
 * nothing when it is cut is not told. */
static void add_value(struct buf *out, const struct attribute *a, const char *value)
{
    size_t start = out->n, limit = start + VALUE_LIMIT - 2; /* below it there is room for an encoded byte */

    while (*value != '\0' && out->n < limit) {
        size_t n = plain_run(value, limit - out->n);

        if (n > 0)
            buf_add(out, bytes(value, n));
        else
            smtp_xtext_encode(out, bytes(value, n = 1));
        value += n;
    }
    if (*value != '\0' && a->is_good != is_any) {
        buf_cut(out, start);
        buf_adds(out, "[UNAVAILABLE]");
    }
}

static void add_attribute(struct buf *out, const struct attribute *a, const char *value)
{
    buf_addc(out, ' ');
    buf_add(out, a->name);
    buf_addc(out, '=');
    if (value != NULL && a == &attributes[SMTP_XFORWARD_ADDR] && strchr(value, ':') != NULL)
        buf_adds(out, "IPv6:");
    add_value(out, a, value ? value : "[UNAVAILABLE]");
}

void smtp_xforward_format(struct buf *out, const struct mail_forward *f, unsigned names)
{
    struct buf one = {0};
    size_t start = 0; /* of the payload; 0: there is none yet */

    for (size_t i = 0; i < SMTP_XFORWARD_COUNT; i++) {
        const char *value = *(const char *const *)((const char *)f + attributes[i].offset);

        if (!(names & (1u << i)) || (i == SMTP_XFORWARD_RETRY && value == NULL))
            continue;
        buf_cut(&one, 0);
        add_attribute(&one, &attributes[i], value);
        if (start == 0 || out->n - start + one.n > PAYLOAD_LIMIT) {
            buf_adds(out, start > 0 ? "\r\nXFORWARD" : "XFORWARD");
            start = out->n;
        }
        buf_add(out, buf_bytes(&one));
    }
    if (start > 0)
        buf_adds(out, "\r\n");
    buf_deinit(&one);
}
