/* Numeric addresses and nets, "192.0.2.0/24", "[2001:db8::]/32", and text in braces. See table_type.h. */
#include "mem.h"
#include "table_type.h"

#include <arpa/inet.h>
#include <stdio.h>

enum { ADDR_TEXT_LIMIT = 64 };

static unsigned width(int family)
{
    return family == AF_INET ? 32 : 128;
}

bool table_addr_parse(const char *text, struct table_net *out_r)
{
    struct bytes b = bytes_of(text);
    char copy[ADDR_TEXT_LIMIT];

    if (b.n >= 2 && b.p[0] == '[' && b.p[b.n - 1] == ']')
        b = bytes(b.p + 1, b.n - 2);
    if (b.n == 0 || b.n >= sizeof(copy))
        return false;
    memcpy(copy, b.p, b.n);
    copy[b.n] = '\0';
    *out_r = (struct table_net){.family = bytes_chr(b, ':') == SIZE_MAX ? AF_INET : AF_INET6};
    out_r->mask = width(out_r->family);
    return inet_pton(out_r->family, copy, out_r->bits) == 1;
}

/* Clears the bits that the mask does not keep; true when one was set. */
static bool clear_host_bits(struct table_net *net)
{
    bool had = false;

    for (unsigned i = net->mask; i < width(net->family); i++) {
        unsigned char bit = (unsigned char)(0x80u >> (i % 8));

        had = had || (net->bits[i / 8] & bit) != 0;
        net->bits[i / 8] &= (unsigned char)~bit;
    }
    return had;
}

static struct error *host_bits_error(const char *text, const struct table_net *net)
{
    char good[INET6_ADDRSTRLEN];

    inet_ntop(net->family, net->bits, good, sizeof(good));
    return error_new(ERROR_CONF, "non-null host address bits in \"%s\"; use \"%s%s%s/%u\"", text,
                     text[0] == '[' ? "[" : "", good, text[0] == '[' ? "]" : "", net->mask);
}

struct error *table_net_parse(const char *text, struct table_net *out_r)
{
    struct bytes whole = bytes_of(text);
    size_t slash = bytes_rchr(whole, '/');
    char addr[ADDR_TEXT_LIMIT];
    uint64_t mask;

    if (slash == SIZE_MAX) {
        if (table_addr_parse(text, out_r))
            return NULL;
        return error_new(ERROR_CONF, "bad address \"%s\"", text);
    }
    snprintf(addr, sizeof(addr), "%.*s", (int)(slash < sizeof(addr) ? slash : 0), text);
    if (!table_addr_parse(addr, out_r) ||
        !bytes_to_u64(bytes_skip(whole, slash + 1), width(out_r->family), &mask))
        return error_new(ERROR_CONF, "bad net/mask pattern: \"%s\"", text);
    out_r->mask = (unsigned)mask;
    if (clear_host_bits(out_r))
        return host_bits_error(text, out_r);
    return NULL;
}

bool table_net_has(const struct table_net *net, const struct table_net *addr)
{
    unsigned whole = net->mask / 8, rest = net->mask % 8;

    if (net->family != addr->family || memcmp(net->bits, addr->bits, whole) != 0)
        return false;
    return rest == 0 || ((net->bits[whole] ^ addr->bits[whole]) & (unsigned char)(0xff00u >> rest)) == 0;
}

char *table_unbrace(const void *ctx, const char *text)
{
    struct bytes b = bytes_trim(bytes_of(text));

    if (b.n < 2 || b.p[0] != '{' || b.p[b.n - 1] != '}')
        return NULL;
    return bytes_dup(ctx, bytes(b.p + 1, b.n - 2));
}
