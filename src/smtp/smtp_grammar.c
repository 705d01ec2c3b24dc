/*
 * Commands, RFC 5321 4.1: verb and rest; MAIL and RCPT with their parameters (RFC 1870 SIZE, 6152 8BITMIME,
 * 3461 DSN, 6531 SMTPUTF8). See smtp.h. Replies are Postfix's.
 */
#include "smtp.h"

#include "mail_address.h"
#include "mem.h"

enum { ENVID_LIMIT = 100, ORCPT_LIMIT = 500 };

struct smtp_line smtp_line_parse(struct bytes line)
{
    struct smtp_line l = {.whole = line};
    struct bytes rest = line;

    l.verb = bytes_word(&rest, " \t");
    l.rest = bytes_trim(rest);
    return l;
}

/* ---- xtext ---- */

void smtp_xtext_encode(struct buf *out, struct bytes text)
{
    for (size_t i = 0; i < text.n; i++) {
        unsigned char c = (unsigned char)text.p[i];

        if (smtp_is_xchar(c))
            buf_addc(out, (char)c);
        else
            buf_addf(out, "+%02X", c);
    }
}

static int hex_value(unsigned char c)
{
    if (ascii_is_digit(c))
        return c - '0';
    c = (unsigned char)ascii_upper(c);
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

bool smtp_xtext_decode_to(char *out, struct bytes text)
{
    size_t n = 0;

    for (size_t i = 0; i < text.n; i++) {
        unsigned char c = (unsigned char)text.p[i];

        if (c == '+') {
            int high = i + 2 < text.n ? hex_value((unsigned char)text.p[i + 1]) : -1;
            int low = i + 2 < text.n ? hex_value((unsigned char)text.p[i + 2]) : -1;

            c = high < 0 || low < 0 ? 0 : (unsigned char)(high << 4 | low);
            i += 2;
        }
        if (c == 0)
            return false;
        out[n++] = (char)c;
    }
    out[n] = '\0';
    return true;
}

char *smtp_xtext_decode(const void *ctx, struct bytes text)
{
    char *out = mem_bytes(ctx, text.n + 1);

    if (!smtp_xtext_decode_to(out, text))
        TALLOC_FREE(out);
    return out;
}

/* ---- parameters ---- */

struct parameter {
    const void *ctx;
    const struct smtp_parse_rules *rules;
    struct bytes whole, name, value;
    bool has_value;
    struct mail_reply *why;
};

static bool refuse(struct mail_reply *why, int code, const char *dsn, const char *text)
{
    *why = mail_reply_fixed(code, dsn, text);
    return false;
}

static bool unsupported(struct parameter *p)
{
    size_t shown = p->whole.n < 100 ? p->whole.n : 100;

    *p->why = mail_reply(555, "5.5.4", "Unsupported option: %.*s", (int)shown, p->whole.p);
    return false;
}

/* Text that came as xtext and may be shown: no control characters. */
static char *decode_shown(const void *ctx, struct bytes value, size_t limit)
{
    char *text = value.n > 0 && value.n <= limit ? smtp_xtext_decode(ctx, value) : NULL;

    for (const char *c = text; c != NULL && *c; c++)
        if (!ascii_is_print((unsigned char)*c) && !((unsigned char)*c & 0x80))
            return NULL;
    return text;
}

static bool take_size(struct parameter *p, struct mail_envelope *out)
{
    if (!bytes_to_u64(p->value, INT64_MAX, &out->size))
        return refuse(p->why, 501, "5.5.4", "Bad message size syntax");
    if (p->rules->size_limit > 0 && out->size > p->rules->size_limit)
        return refuse(p->why, 552, "5.3.4", "Message size exceeds fixed limit");
    return true;
}

static bool take_body(struct parameter *p, struct mail_envelope *out)
{
    if (bytes_ieq(p->value, BYTES("8BITMIME")))
        out->body = MAIL_BODY_8BITMIME;
    else if (!bytes_ieq(p->value, BYTES("7BIT")))
        return unsupported(p);
    out->has_body = true;
    return true;
}

static bool take_smtputf8(struct parameter *p, struct mail_envelope *out)
{
    out->smtputf8 = true;
    return !p->has_value || unsupported(p);
}

static bool take_ret(struct parameter *p, struct mail_envelope *out)
{
    if (out->ret != MAIL_RET_NONE)
        return refuse(p->why, 501, "5.5.4", "Bad RET parameter syntax"); /* once, RFC 5321 4.1.2 */
    if (bytes_ieq(p->value, BYTES("FULL")))
        out->ret = MAIL_RET_FULL;
    else if (bytes_ieq(p->value, BYTES("HDRS")))
        out->ret = MAIL_RET_HDRS;
    else
        return refuse(p->why, 501, "5.5.4", "Bad RET parameter syntax");
    return true;
}

static bool take_envid(struct parameter *p, struct mail_envelope *out)
{
    bool is_again = out->envid != NULL;

    out->envid = decode_shown(p->ctx, p->value, ENVID_LIMIT);
    return (out->envid != NULL && !is_again) || refuse(p->why, 501, "5.5.4", "Bad ENVID parameter syntax");
}

/* RFC 4954 5: believed by nobody here, announced or not; passed on with the command line, since a server
 * before us may have taken it from a client of its own. */
static bool take_auth(struct parameter *p, struct mail_envelope *out)
{
    return p->has_value || unsupported(p);
}

static const struct mail_parameter {
    const char *name;
    unsigned feature; /* 0: taken always */
    bool (*take)(struct parameter *p, struct mail_envelope *out);
} mail_parameters[] = {
    {"SIZE", SMTP_SIZE, take_size},
    {"BODY", SMTP_8BITMIME, take_body},
    {"SMTPUTF8", SMTP_SMTPUTF8, take_smtputf8},
    {"RET", SMTP_DSN, take_ret},
    {"ENVID", SMTP_DSN, take_envid},
    {"AUTH", 0, take_auth},
};

static bool take_mail_parameter(struct parameter *p, struct mail_envelope *out)
{
    for (size_t i = 0; i < sizeof(mail_parameters) / sizeof(mail_parameters[0]); i++) {
        const struct mail_parameter *known = &mail_parameters[i];

        if (!bytes_ieq(p->name, bytes_of(known->name)))
            continue;
        if (known->feature == 0 || (p->rules->features & known->feature))
            return known->take(p, out);
        if (known->feature == SMTP_DSN)
            return refuse(p->why, 501, "5.7.1", "DSN support is disabled");
        return unsupported(p);
    }
    return unsupported(p);
}

static const struct {
    const char *name;
    unsigned bit;
} notify_words[] = {
    {"NEVER", MAIL_NOTIFY_NEVER},
    {"SUCCESS", MAIL_NOTIFY_SUCCESS},
    {"FAILURE", MAIL_NOTIFY_FAILURE},
    {"DELAY", MAIL_NOTIFY_DELAY},
};

/* RFC 3461 4.1: NEVER stands alone. */
static bool take_notify(struct parameter *p, struct mail_rcpt *out)
{
    struct bytes rest = p->value;
    bool is_more = out->notify == 0;

    if (!is_more)
        return refuse(p->why, 501, "5.5.4", "Error: Bad NOTIFY parameter syntax");
    while (is_more) {
        struct bytes word;
        unsigned bit = 0;

        is_more = bytes_chr(rest, ',') != SIZE_MAX;
        word = bytes_cut(&rest, ',');
        for (size_t i = 0; i < sizeof(notify_words) / sizeof(notify_words[0]); i++)
            if (bytes_ieq(word, bytes_of(notify_words[i].name)))
                bit = notify_words[i].bit;
        if (bit == 0 || (out->notify & bit))
            return refuse(p->why, 501, "5.5.4", "Error: Bad NOTIFY parameter syntax");
        out->notify |= bit;
    }
    if ((out->notify & MAIL_NOTIFY_NEVER) && out->notify != MAIL_NOTIFY_NEVER)
        return refuse(p->why, 501, "5.5.4", "Error: Bad NOTIFY parameter syntax");
    return true;
}

/* RFC 3461 4.2: address type, ';', address in xtext. */
static bool take_orcpt(struct parameter *p, struct mail_rcpt *out)
{
    size_t semicolon = bytes_chr(p->value, ';');

    if (out->orcpt != NULL)
        return refuse(p->why, 501, "5.5.4", "Error: Bad ORCPT parameter syntax");
    if (semicolon != SIZE_MAX && semicolon > 0 && semicolon + 1 < p->value.n)
        out->orcpt = decode_shown(p->ctx, p->value, ORCPT_LIMIT);
    return out->orcpt != NULL || refuse(p->why, 501, "5.5.4", "Error: Bad ORCPT parameter syntax");
}

static bool take_rcpt_parameter(struct parameter *p, struct mail_rcpt *out)
{
    bool is_notify = bytes_ieq(p->name, BYTES("NOTIFY"));

    if (!is_notify && !bytes_ieq(p->name, BYTES("ORCPT")))
        return unsupported(p);
    if (!(p->rules->features & SMTP_DSN))
        return refuse(p->why, 501, "5.7.1", "DSN support is disabled");
    return is_notify ? take_notify(p, out) : take_orcpt(p, out);
}

static bool next_parameter(struct bytes *rest, struct parameter *p)
{
    p->whole = bytes_word(rest, " \t");
    p->value = p->whole;
    p->has_value = bytes_chr(p->whole, '=') != SIZE_MAX;
    p->name = bytes_cut(&p->value, '=');
    return p->whole.n > 0;
}

/* ---- MAIL and RCPT ---- */

/* "FROM:" or "TO:" without case; blanks after it only when not strict (RFC 5321 3.3 forbids them). */
static bool skip_keyword(struct bytes *rest, struct bytes keyword, bool strict)
{
    if (!bytes_has_iprefix(*rest, keyword))
        return false;
    *rest = bytes_skip(*rest, keyword.n);
    if (!strict)
        while (rest->n > 0 && ascii_is_blank(rest->p[0]))
            *rest = bytes_skip(*rest, 1);
    return rest->n > 0;
}

static bool has_8bit(const char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text & 0x80)
            return true;
    return false;
}

bool smtp_parse_mail(const void *ctx, const struct smtp_line *line, const struct smtp_parse_rules *rules,
                     struct mail_envelope *out_r, struct mail_reply *why_r)
{
    struct parameter p = {.ctx = ctx, .rules = rules, .why = why_r};
    struct bytes rest = line->rest;
    char *sender;

    if (!skip_keyword(&rest, BYTES("FROM:"), rules->strict))
        return refuse(why_r, 501, "5.5.4", "Syntax: MAIL FROM:<address>");
    if (!mail_address_parse_path(ctx, rest, rules->features & SMTP_SMTPUTF8, rules->strict, &sender, &rest))
        return refuse(why_r, 501, "5.1.7", "Bad sender address syntax");
    out_r->sender = sender;
    while (next_parameter(&rest, &p))
        if (!take_mail_parameter(&p, out_r))
            return false;
    if (has_8bit(sender) && !out_r->smtputf8)
        return refuse(why_r, 553, "5.6.7", "Must declare SMTPUTF8 to send unicode address");
    out_r->command = bytes(bytes_dup(ctx, line->whole), line->whole.n);
    return true;
}

bool smtp_parse_rcpt(const void *ctx, const struct smtp_line *line, const struct smtp_parse_rules *rules,
                     bool smtputf8, struct mail_rcpt *out_r, struct mail_reply *why_r)
{
    struct parameter p = {.ctx = ctx, .rules = rules, .why = why_r};
    struct bytes rest = line->rest;
    char *addr;

    if (!skip_keyword(&rest, BYTES("TO:"), rules->strict))
        return refuse(why_r, 501, "5.5.4", "Syntax: RCPT TO:<address>");
    if (!mail_address_parse_path(ctx, rest, rules->features & SMTP_SMTPUTF8, rules->strict, &addr, &rest) ||
        addr[0] == '\0')
        return refuse(why_r, 501, "5.1.3", "Bad recipient address syntax");
    out_r->addr = addr;
    while (next_parameter(&rest, &p))
        if (!take_rcpt_parameter(&p, out_r))
            return false;
    if (has_8bit(addr) && !smtputf8)
        return refuse(why_r, 553, "5.6.7", "Must declare SMTPUTF8 to send unicode address");
    out_r->command = bytes(bytes_dup(ctx, line->whole), line->whole.n);
    return true;
}
