/*
 * Where to connect: MX hosts in order of preference (RFC 5321 5.1), or the one host that was named, with
 * their addresses; never ourselves (a mail loop).
 */
#include "remote.h"

#include "clock.h"
#include "mem.h"

#include <ifaddrs.h>
#include <netinet/in.h>

enum { RESOLVE_TIMEOUT_MS = 60 * 1000, ADDRESS_COUNT_LIMIT = 100, SMTP_PORT = 25 };

static bool fail(const void *ctx, struct deliver_result *why_r, const char *dsn, const char *text)
{
    deliver_result_set(ctx, why_r, *dsn == '4' ? DELIVER_DEFERRED : DELIVER_BOUNCED, dsn, "none", "%s", text);
    why_r->is_site = true;
    return false;
}

static bool fail_lookup(const void *ctx, struct deliver_result *why_r, const char *name, const char *type,
                        struct error *e)
{
    const char *dsn = e->kind == ERROR_TEMP ? "4.4.3" : "5.4.4";

    fail(ctx, why_r, dsn,
         mem_printf(ctx, "Host or domain name not found. Name service error for name=%s type=%s: %s", name,
                    type, e->text));
    error_free(&e);
    return false;
}

static void add_host(const void *ctx, struct remote_hosts *hosts, const char *name,
                     const struct io_address *address, unsigned preference)
{
    if (hosts->n >= ADDRESS_COUNT_LIMIT)
        return;
    hosts->at = mem_grow(ctx, hosts->at, hosts->n + 1);
    hosts->at[hosts->n++] = (struct remote_host){mem_strdup(ctx, name), *address, preference};
}

/* Adds the addresses of one name; the error when it has none. */
static co_fn struct error *add_name(const void *ctx, const struct remote_agent *a, const char *name,
                                    const char *service, unsigned preference, struct remote_hosts *hosts)
{
    struct io_address *found;
    size_t i, n;
    struct error *e = io_resolve(ctx, name, service, a->family, clock_ms() + RESOLVE_TIMEOUT_MS, &found, &n);

    for (i = 0; e == NULL && i < n; i++)
        add_host(ctx, hosts, name, &found[i], preference);
    return e;
}

static bool is_same_address(const struct sockaddr *a, const struct sockaddr *b)
{
    if (a == NULL || a->sa_family != b->sa_family)
        return false;
    if (a->sa_family == AF_INET)
        return ((const struct sockaddr_in *)a)->sin_addr.s_addr ==
               ((const struct sockaddr_in *)b)->sin_addr.s_addr;
    return a->sa_family == AF_INET6 && memcmp(&((const struct sockaddr_in6 *)a)->sin6_addr,
                                              &((const struct sockaddr_in6 *)b)->sin6_addr, 16) == 0;
}

static bool is_own_host(const struct remote_agent *a, const struct ifaddrs *interfaces,
                        const struct remote_host *host)
{
    struct bytes name = bytes_of(host->name);
    const struct ifaddrs *at;

    if (name.n > 0 && name.p[name.n - 1] == '.')
        name.n--;
    if (bytes_ieq(name, bytes_of(a->myhostname)))
        return true;
    for (at = interfaces; at != NULL; at = at->ifa_next) {
        if (is_same_address(at->ifa_addr, (const struct sockaddr *)&host->address.sa))
            return true;
    }
    return false;
}

bool remote_hosts_cut_loop(struct remote_hosts *hosts, const bool *is_me)
{
    size_t i, n;

    for (i = 0; i < hosts->n && !is_me[i]; i++)
        ;
    if (i == hosts->n)
        return true;
    for (n = 0; n < hosts->n && hosts->at[n].preference < hosts->at[i].preference; n++)
        ;
    hosts->n = n;
    return n > 0;
}

/* Only on the port of mail exchange: another port of ours is another server. */
static bool cut_loop(const void *ctx, const struct remote_agent *a, struct remote_hosts *hosts)
{
    struct ifaddrs *interfaces = NULL;
    bool *is_me = mem_array(ctx, bool, hosts->n);
    size_t i;

    if (hosts->n == 0 || io_address_port(&hosts->at[0].address) != SMTP_PORT)
        return true;
    if (getifaddrs(&interfaces) != 0)
        interfaces = NULL;
    for (i = 0; i < hosts->n; i++)
        is_me[i] = is_own_host(a, interfaces, &hosts->at[i]);
    if (interfaces != NULL)
        freeifaddrs(interfaces);
    return remote_hosts_cut_loop(hosts, is_me);
}

static co_fn bool find_by_mx(const void *ctx, const struct remote_agent *a,
                             const struct remote_target *target, const struct io_mx *mx, size_t n,
                             struct remote_hosts *hosts_r, struct deliver_result *why_r)
{
    struct error *e = NULL;
    bool is_temp = false;
    size_t i;

    for (i = 0; i < n; i++) {
        error_free(&e);
        e = add_name(ctx, a, mx[i].host, target->service, mx[i].preference, hosts_r);
        is_temp = is_temp || (e != NULL && e->kind == ERROR_TEMP);
    }
    if (hosts_r->n > 0) {
        error_free(&e);
        return true;
    }
    fail(
        ctx, why_r, is_temp ? "4.4.4" : "5.4.4",
        mem_printf(ctx, "unable to look up host %s: %s", mx[n - 1].host, e != NULL ? e->text : "no address"));
    error_free(&e);
    return false;
}

static co_fn bool find_host(const void *ctx, const struct remote_agent *a, const struct remote_target *target,
                            struct remote_hosts *hosts_r, struct deliver_result *why_r)
{
    struct error *e = add_name(ctx, a, target->host, target->service, 0, hosts_r);

    return e == NULL ? true : fail_lookup(ctx, why_r, target->host, "A", e);
}

bool remote_hosts_find(const void *ctx, const struct remote_agent *a, const struct remote_target *target,
                       struct remote_hosts *hosts_r, struct deliver_result *why_r)
{
    struct error *e;
    struct io_mx *mx;
    size_t n = 0;
    bool is_found;

    *hosts_r = (struct remote_hosts){0};
    if (!target->wants_mx)
        return find_host(ctx, a, target, hosts_r, why_r);
    e = io_resolve_mx(ctx, target->host, clock_ms() + RESOLVE_TIMEOUT_MS, &mx, &n);
    if (e != NULL)
        return fail_lookup(ctx, why_r, target->host, "MX", e);
    if (n == 1 && (strcmp(mx[0].host, ".") == 0 || *mx[0].host == '\0'))
        return fail(ctx, why_r, "5.1.0",
                    mem_printf(ctx, "Domain %s does not accept mail (nullMX)", target->host));
    if (n == 0)
        is_found = find_host(ctx, a, target, hosts_r, why_r);
    else
        is_found = find_by_mx(ctx, a, target, mx, n, hosts_r, why_r);
    if (is_found && !cut_loop(ctx, a, hosts_r))
        return fail(ctx, why_r, "5.4.6", mem_printf(ctx, "mail for %s loops back to myself", target->host));
    return is_found;
}
