/* Where an inet service of master.cf listens: "25", "smtp", ":25", "127.0.0.1:25", "[::1]:25",
 * "mx.example:smtp". */
#include "conf_own.h"
#include "mem.h"

#include <netdb.h>
#include <netinet/in.h>

/* Known without /etc/services, which a small system may lack. */
static const struct {
    const char *name;
    unsigned port;
} well_known[] = {
    {"smtp", 25},        {"smtps", 465}, {"submissions", 465}, {"ssmtp", 465},
    {"submission", 587}, {"lmtp", 24},   {"qmqp", 628},
};

static unsigned port_of_name(const char *name)
{
    struct servent found, *entry = NULL;
    char memory[1024];

    for (size_t i = 0; i < sizeof(well_known) / sizeof(well_known[0]); i++)
        if (strcmp(name, well_known[i].name) == 0)
            return well_known[i].port;
    if (getservbyname_r(name, "tcp", &found, memory, sizeof(memory), &entry) != 0 || entry == NULL)
        return 0;
    return ntohs((uint16_t)entry->s_port);
}

static char *take_port(const void *ctx, struct bytes port, char **port_r)
{
    uint64_t number;
    char *name;

    if (port.n == 0)
        return mem_strdup(ctx, "missing port number or service name");
    if (ascii_is_digit(port.p[0])) {
        if (!bytes_to_u64(port, 65535, &number) || number == 0)
            return mem_printf(ctx, "bad TCP port: %.*s", BYTES_FMT(port));
    } else {
        name = bytes_dup(ctx, port);
        number = port_of_name(name);
        talloc_free(name);
        if (number == 0)
            return mem_printf(ctx, "unknown TCP service name: %.*s", BYTES_FMT(port));
    }
    *port_r = mem_printf(ctx, "%u", (unsigned)number);
    return NULL;
}

char *conf_endpoint_parse(const void *ctx, const char *name, char **host_r, char **port_r)
{
    struct bytes all = bytes_of(name);
    size_t colon;

    *host_r = NULL;
    if (all.n > 0 && all.p[0] == '[') {
        size_t close = bytes_chr(all, ']');

        if (close == SIZE_MAX || close == 1)
            return mem_printf(ctx, "bad address between brackets: %s", name);
        if (bytes_skip(all, close + 1).n == 0 || all.p[close + 1] != ':')
            return mem_printf(ctx, "missing :port after the address: %s", name);
        *host_r = bytes_dup(ctx, bytes(all.p + 1, close - 1));
        return take_port(ctx, bytes_skip(all, close + 2), port_r);
    }
    colon = bytes_rchr(all, ':');
    if (colon == SIZE_MAX)
        return take_port(ctx, all, port_r);
    if (bytes_chr(all, ':') != colon)
        return mem_printf(ctx, "an IPv6 address needs brackets: %s", name);
    if (colon > 0)
        *host_r = bytes_dup(ctx, bytes(all.p, colon));
    return take_port(ctx, bytes_skip(all, colon + 1), port_r);
}
