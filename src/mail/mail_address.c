/*
 * Addresses, RFC 5321 4.1.2. See mail_address.h.
 *
 * One reader for the Path of MAIL and RCPT: a small cursor over the text, one function for each rule of the
 * grammar.
 */
#include "mail_address.h"

#include "mem.h"

#include <arpa/inet.h>

enum { IP_LIMIT = 62 }; /* an IPv6 address with its tag has at most 50 */

struct cursor {
    struct bytes left;
    bool utf8;
    char *out; /* internal form: room for MAIL_ADDRESS_LIMIT */
    size_t n;  /* how much of it is there */
};

static bool is_at(const struct cursor *c, char what)
{
    return c->left.n > 0 && c->left.p[0] == what;
}

static bool skip(struct cursor *c, char what)
{
    if (!is_at(c, what))
        return false;
    c->left = bytes_skip(c->left, 1);
    return true;
}

/* Takes the next n bytes of the text. */
static bool take(struct cursor *c, size_t n)
{
    if (n > MAIL_ADDRESS_LIMIT - c->n)
        return false;
    if (n > 0)
        memcpy(c->out + c->n, c->left.p, n);
    c->n += n;
    c->left = bytes_skip(c->left, n);
    return true;
}

/* RFC 5322 atext, RFC 6531 with bytes above 127. */
static bool is_atext(const struct cursor *c, unsigned char ch)
{
    if (ch > 127)
        return c->utf8;
    return ascii_is_alpha(ch) || ascii_is_digit(ch) || (ch != 0 && strchr("!#$%&'*+-/=?^_`{|}~", ch) != NULL);
}

/* Characters between quotes: printable ASCII and blanks, RFC 5321 qtextSMTP; no control characters in any
 * case. */
static bool is_qtext(const struct cursor *c, unsigned char ch)
{
    return ch > 127 ? c->utf8 : ch >= 32 && ch < 127;
}

static bool read_quoted(struct cursor *c)
{
    skip(c, '"');
    while (c->left.n > 0 && !is_at(c, '"')) {
        skip(c, '\\');
        if (c->left.n == 0 || !is_qtext(c, (unsigned char)c->left.p[0]) || !take(c, 1))
            return false;
    }
    return skip(c, '"');
}

/* Dot-string or quoted-string; dots at the ends and in a row are let pass, as Postfix does: they exist in the
 * wild. */
static bool read_local(struct cursor *c)
{
    size_t start = c->n;

    for (;;) {
        size_t n = 0;

        while (n < c->left.n && (c->left.p[n] == '.' || is_atext(c, (unsigned char)c->left.p[n])))
            n++;
        if (!take(c, n))
            return false;
        if (!is_at(c, '"'))
            return c->n - start <= MAIL_LOCAL_PART_LIMIT;
        if (!read_quoted(c))
            return false;
    }
}

static bool is_domain_char(const struct cursor *c, unsigned char ch)
{
    return ch > 127 ? c->utf8
                    : ascii_is_alpha(ch) || ascii_is_digit(ch) || ch == '-' || ch == '.' || ch == '_';
}

static bool read_literal(struct cursor *c)
{
    size_t close = bytes_chr(c->left, ']');
    struct bytes literal;

    if (close == SIZE_MAX)
        return false;
    literal = bytes(c->left.p, close + 1);
    return mail_address_is_literal(literal) && take(c, literal.n);
}

static bool read_domain(struct cursor *c)
{
    size_t n = 0;

    if (is_at(c, '['))
        return read_literal(c);
    for (; n < c->left.n && is_domain_char(c, (unsigned char)c->left.p[n]); n++)
        if (c->left.p[n] == '.' && (n == 0 || c->left.p[n - 1] == '.'))
            return false;
    return n > 0 && n <= 255 && c->left.p[0] != '-' && take(c, n);
}

/* RFC 5321 4.1.2 A-d-l: "@one,@two:" before the mailbox; to be accepted and ignored (appendix C). */
static bool skip_route(struct cursor *c)
{
    if (!is_at(c, '@'))
        return true;
    while (skip(c, '@')) {
        if (!read_domain(c))
            return false;
        c->n = 0;
        skip(c, ',');
    }
    return skip(c, ':');
}

/* A quoted '@' in a local part that has no domain would be taken for the address's '@' later. */
static bool read_mailbox(struct cursor *c)
{
    if (!skip_route(c) || !read_local(c))
        return false;
    if (!is_at(c, '@'))
        return bytes_chr(bytes(c->out, c->n), '@') == SIZE_MAX;
    return c->n > 0 && take(c, 1) && read_domain(c);
}

static bool read_path(struct cursor *c, bool strict)
{
    if (skip(c, '<')) {
        if (skip(c, '>'))
            return true;
        while (skip(c, ' ')) /* "< a@b >" is common enough to be let pass */
            ;
        if (!read_mailbox(c))
            return false;
        while (skip(c, ' '))
            ;
        return c->n > 0 && skip(c, '>');
    }
    return !strict && read_mailbox(c) && c->n > 0;
}

bool mail_address_parse_path(const void *ctx, struct bytes text, bool utf8, bool strict, char **internal_r,
                             struct bytes *rest_r)
{
    char out[MAIL_ADDRESS_LIMIT];
    struct cursor c = {.left = text, .utf8 = utf8, .out = out};

    if (!read_path(&c, strict) || (c.left.n > 0 && !ascii_is_blank(c.left.p[0])))
        return false;
    *internal_r = bytes_dup(ctx, bytes(out, c.n));
    *rest_r = c.left;
    return true;
}

void mail_address_split(const char *internal, struct bytes *local_r, struct bytes *domain_r)
{
    struct bytes all = bytes_of(internal);
    size_t at = bytes_rchr(all, '@');

    if (at == SIZE_MAX) {
        *local_r = all;
        *domain_r = bytes(all.p + all.n, 0);
        return;
    }
    *local_r = bytes(all.p, at);
    *domain_r = bytes_skip(all, at + 1);
}

/* A local part that is a dot-string needs no quotes. */
static bool needs_quotes(struct bytes local)
{
    struct cursor any = {.utf8 = true};

    if (local.n == 0 || local.p[local.n - 1] == '.')
        return true;
    for (size_t i = 0; i < local.n; i++)
        if (local.p[i] == '.' ? i == 0 || local.p[i - 1] == '.' : !is_atext(&any, (unsigned char)local.p[i]))
            return true;
    return false;
}

void mail_address_quote(struct buf *out, const char *internal)
{
    struct bytes local, domain;

    mail_address_split(internal, &local, &domain);
    if (local.n + domain.n == 0)
        return;
    if (!needs_quotes(local)) {
        buf_adds(out, internal);
        return;
    }
    buf_addc(out, '"');
    for (size_t i = 0; i < local.n; i++) {
        if (local.p[i] == '"' || local.p[i] == '\\')
            buf_addc(out, '\\');
        buf_addc(out, local.p[i]);
    }
    buf_addc(out, '"');
    if (domain.n > 0 || local.p + local.n < internal + strlen(internal))
        buf_addf(out, "@%.*s", BYTES_FMT(domain));
}

char *mail_address_external(const void *ctx, const char *internal)
{
    struct buf out = {0};
    char *text;

    mail_address_quote(&out, internal);
    text = bytes_dup(ctx, buf_bytes(&out));
    buf_deinit(&out);
    return text;
}

bool mail_address_is_ip(struct bytes text)
{
    char host[IP_LIMIT + 1];
    unsigned char binary[16];
    int family = AF_INET;

    if (text.n > IP_LIMIT || bytes_chr(text, '\0') != SIZE_MAX)
        return false;
    if (bytes_has_iprefix(text, BYTES("IPv6:"))) {
        text = bytes_skip(text, 5);
        family = AF_INET6;
    }
    if (text.n > 0)
        memcpy(host, text.p, text.n);
    host[text.n] = '\0';
    return inet_pton(family, host, binary) == 1;
}

bool mail_address_is_literal(struct bytes text)
{
    return text.n > 2 && text.p[0] == '[' && text.p[text.n - 1] == ']' &&
           mail_address_is_ip(bytes(text.p + 1, text.n - 2));
}

/* Letters, digits, '-' and '_' in labels of 1 to 63, 255 in all; not only digits and dots. */
bool mail_address_is_hostname(struct bytes name)
{
    size_t label = 0;
    bool has_letter = false;

    if (mail_address_is_literal(name))
        return true;
    if (name.n == 0 || name.n > 255)
        return false;
    for (size_t i = 0; i < name.n; i++) {
        unsigned char ch = (unsigned char)name.p[i];

        if (ch == '.') {
            if (label == 0 || name.p[i - 1] == '-')
                return false;
            label = 0;
            continue;
        }
        if (!(ascii_is_alpha(ch) || ascii_is_digit(ch) || ch == '_' || (ch == '-' && label > 0) || ch > 127))
            return false;
        has_letter |= !ascii_is_digit(ch);
        if (++label > 63)
            return false;
    }
    return has_letter && label > 0 && name.p[name.n - 1] != '-';
}
