/* Socket addresses and the endpoint syntax of Postfix's parameters. See io.h. */
#include "io.h"

#include "format.h"
#include "mem.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/un.h>

/* Each connection's address is written; inet_ntop() takes its time for it. */
static void write_ipv4(const unsigned char *a, char text[46])
{
    format_print(text, 46, "%u.%u.%u.%u", a[0], a[1], a[2], a[3]);
}

const char *io_address_host(const struct io_address *a, char text[46])
{
    const struct sockaddr_in *v4 = (const struct sockaddr_in *)&a->sa;
    const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)&a->sa;

    text[0] = '\0';
    if (a->sa.ss_family == AF_INET)
        write_ipv4((const unsigned char *)&v4->sin_addr, text);
    else if (a->sa.ss_family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr))
        write_ipv4((const unsigned char *)&v6->sin6_addr + 12, text);
    else if (a->sa.ss_family == AF_INET6)
        inet_ntop(AF_INET6, &v6->sin6_addr, text, 46);
    return text;
}

unsigned io_address_port(const struct io_address *a)
{
    if (a->sa.ss_family == AF_INET)
        return ntohs(((const struct sockaddr_in *)&a->sa)->sin_port);
    if (a->sa.ss_family == AF_INET6)
        return ntohs(((const struct sockaddr_in6 *)&a->sa)->sin6_port);
    return 0;
}

bool io_address_parse(const char *host, unsigned port, struct io_address *out_r)
{
    struct sockaddr_in *v4 = (struct sockaddr_in *)&out_r->sa;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&out_r->sa;

    *out_r = (struct io_address){0};
    if (inet_pton(AF_INET, host, &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET;
        v4->sin_port = htons((uint16_t)port);
        out_r->length = sizeof(*v4);
        return true;
    }
    if (inet_pton(AF_INET6, host, &v6->sin6_addr) == 1) {
        v6->sin6_family = AF_INET6;
        v6->sin6_port = htons((uint16_t)port);
        out_r->length = sizeof(*v6);
        return true;
    }
    return false;
}

struct error *io_address_unix(const char *path, struct io_address *out_r)
{
    struct sockaddr_un *un = (struct sockaddr_un *)&out_r->sa;

    *out_r = (struct io_address){0};
    if (strlen(path) >= sizeof(un->sun_path))
        return error_new(ERROR_CONF, "unix socket path of %zu bytes is longer than %zu: %s", strlen(path),
                         sizeof(un->sun_path) - 1, path);
    un->sun_family = AF_UNIX;
    strcpy(un->sun_path, path);
    out_r->length = sizeof(*un);
    return NULL;
}

/* ---- endpoints ---- */

/* "host:port", "[v6]:port", ":port", "port". */
static struct error *parse_inet(const void *ctx, struct bytes text, struct io_endpoint *out_r)
{
    struct bytes host = BYTES("");
    size_t colon;

    if (text.n > 0 && text.p[0] == '[') {
        size_t close = bytes_chr(text, ']');

        if (close == SIZE_MAX || close + 1 >= text.n || text.p[close + 1] != ':')
            return error_new(ERROR_CONF, "bad endpoint \"%s\": expected [address]:port", out_r->text);
        host = bytes(text.p + 1, close - 1);
        text = bytes_skip(text, close + 2);
    } else if ((colon = bytes_rchr(text, ':')) != SIZE_MAX) {
        host = bytes(text.p, colon);
        text = bytes_skip(text, colon + 1);
    }
    if (text.n == 0)
        return error_new(ERROR_CONF, "bad endpoint \"%s\": no port", out_r->text);
    if (bytes_has_iprefix(host, BYTES("IPv6:")))
        host = bytes_skip(host, 5);
    out_r->host = host.n > 0 ? bytes_dup(ctx, host) : mem_strdup(ctx, "localhost");
    out_r->service = bytes_dup(ctx, text);
    return NULL;
}

struct error *io_endpoint_parse(const void *ctx, const char *text, const char *base_dir,
                                struct io_endpoint *out_r)
{
    struct bytes rest = bytes_trim(bytes_of(text));

    *out_r = (struct io_endpoint){.text = bytes_dup(ctx, rest)};
    if (bytes_has_iprefix(rest, BYTES("unix:"))) {
        rest = bytes_skip(rest, 5);
        if (rest.n == 0)
            return error_new(ERROR_CONF, "bad endpoint \"%s\": no path", text);
        if (rest.p[0] == '/' || base_dir == NULL)
            out_r->path = bytes_dup(ctx, rest);
        else
            out_r->path = mem_printf(ctx, "%s/%.*s", base_dir, BYTES_FMT(rest));
        return NULL;
    }
    if (bytes_has_iprefix(rest, BYTES("inet:")))
        rest = bytes_skip(rest, 5);
    return parse_inet(ctx, rest, out_r);
}
