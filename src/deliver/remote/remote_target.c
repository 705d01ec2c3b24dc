/* The forms of a next hop. See remote.h. */
#include "remote.h"

#include "mem.h"

#include <netdb.h>

static const char default_service[] = "25";

/* A port, or its name in /etc/services. */
static bool is_service(const char *name)
{
    uint64_t port;

    if (bytes_to_u64(bytes_of(name), UINT16_MAX, &port))
        return port > 0;
    return getservbyname(name, "tcp") != NULL;
}

static bool parse_bracketed(const void *ctx, struct bytes text, struct remote_target *out_r)
{
    size_t end = bytes_chr(text, ']');
    struct bytes host, rest;

    if (end == SIZE_MAX)
        return false;
    host = bytes(text.p + 1, end - 1);
    rest = bytes_skip(text, end + 1);
    if (bytes_has_iprefix(host, BYTES("ipv6:")))
        host = bytes_skip(host, 5);
    if (host.n == 0 || (rest.n > 0 && (rest.p[0] != ':' || rest.n == 1)))
        return false;
    out_r->host = bytes_dup(ctx, host);
    out_r->service = rest.n > 0 ? bytes_dup(ctx, bytes_skip(rest, 1)) : mem_strdup(ctx, default_service);
    out_r->wants_mx = false;
    return is_service(out_r->service);
}

bool remote_target_parse(const void *ctx, const char *text, struct remote_target *out_r)
{
    struct bytes rest = bytes_trim(bytes_of(text)), host;

    if (rest.n > 0 && rest.p[0] == '[')
        return parse_bracketed(ctx, rest, out_r);
    if (bytes_chr(rest, ':') != SIZE_MAX && bytes_rchr(rest, ':') + 1 == rest.n)
        return false;
    host = bytes_cut(&rest, ':');
    if (host.n == 0 || bytes_chr(rest, ':') != SIZE_MAX)
        return false;
    out_r->host = bytes_dup(ctx, host);
    out_r->service = rest.n > 0 ? bytes_dup(ctx, rest) : mem_strdup(ctx, default_service);
    out_r->wants_mx = true;
    return is_service(out_r->service);
}
