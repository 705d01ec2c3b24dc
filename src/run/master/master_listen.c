/*
 * From a service's name to open sockets: inet_interfaces, inet_protocols, host names, ports by name, unix
 * paths.
 *
 * Runs in master alone, before or between forks, so resolving may block. An address that is taken is tried
 * again for a while: after a master was killed, its workers close their listeners within moments, and the new
 * one must start.
 */
#include "master_private.h"

#include "clock.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <time.h>
#include <unistd.h>

enum { BACKLOG = 4096, TAKEN_MS = 3000, TAKEN_STEP_MS = 20, ADDRESS_LIMIT = 64 };

bool master_address_is_loopback(const struct io_address *a)
{
    if (a->sa.ss_family == AF_INET)
        return (ntohl(((const struct sockaddr_in *)&a->sa)->sin_addr.s_addr) >> 24) == 127;
    if (a->sa.ss_family == AF_INET6)
        return IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)&a->sa)->sin6_addr);
    return true;
}

char *master_address_text(const void *ctx, const struct io_address *a)
{
    char host[46];
    const char *fmt = a->sa.ss_family == AF_INET6 ? "[%s]:%u" : "%s:%u";

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    return mem_printf(ctx, fmt, io_address_host(a, host), io_address_port(a));
#pragma GCC diagnostic pop
}

char *master_socket_path(const void *ctx, const struct conf_service *service)
{
    return mem_printf(ctx, "%s/%s/%s", conf_text(service->conf, "queue_directory"),
                      service->is_private ? "private" : "public", service->name);
}

/* ---- addresses ---- */

struct found {
    const void *ctx;
    struct io_address *at;
    size_t n;
    bool v4, v6;
    unsigned port;
};

static bool same_address(const struct io_address *a, const struct io_address *b)
{
    return a->length == b->length && memcmp(&a->sa, &b->sa, a->length) == 0;
}

static void add(struct found *f, const struct io_address *a)
{
    if ((a->sa.ss_family == AF_INET && !f->v4) || (a->sa.ss_family == AF_INET6 && !f->v6) ||
        f->n == ADDRESS_LIMIT)
        return;
    for (size_t i = 0; i < f->n; i++)
        if (same_address(&f->at[i], a))
            return;
    f->at = mem_grow(f->ctx, f->at, f->n + 1);
    f->at[f->n++] = *a;
}

static void add_numeric(struct found *f, const char *host)
{
    struct io_address a;

    memset(&a, 0, sizeof(a));
    if (io_address_parse(host, f->port, &a))
        add(f, &a);
}

static struct error *add_host(struct found *f, const char *host)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_family = AF_UNSPEC}, *list;
    struct io_address a;
    char text[46];
    int why;

    memset(&a, 0, sizeof(a));
    if (io_address_parse(host, f->port, &a)) {
        add(f, &a);
        return NULL;
    }
    why = getaddrinfo(host, NULL, &hints, &list);
    if (why != 0)
        return error_new(ERROR_CONF, "host %s: %s", host, gai_strerror(why));
    for (const struct addrinfo *i = list; i != NULL; i = i->ai_next) {
        memset(&a, 0, sizeof(a));
        memcpy(&a.sa, i->ai_addr, i->ai_addrlen);
        a.length = i->ai_addrlen;
        add_numeric(f, io_address_host(&a, text));
    }
    freeaddrinfo(list);
    return NULL;
}

static struct error *add_interfaces(struct found *f, const char *list)
{
    struct error *e = NULL;
    char *item;

    while (e == NULL && (item = conf_list_next(f->ctx, &list)) != NULL) {
        if (strcasecmp(item, "all") == 0) {
            add_numeric(f, "0.0.0.0");
            add_numeric(f, "::");
        } else if (strcasecmp(item, "loopback-only") == 0) {
            add_numeric(f, "127.0.0.1");
            add_numeric(f, "::1");
        } else {
            size_t n = strlen(item);

            if (item[0] == '[' && item[n - 1] == ']') {
                item[n - 1] = '\0';
                item++;
            }
            e = error_prepend(add_host(f, item), "inet_interfaces");
        }
    }
    return e;
}

/* RFC 6335 names that a mail server needs even where /etc/services is missing. */
static struct error *find_port(const char *name, unsigned *port_r)
{
    static const struct {
        const char *name;
        unsigned port;
    } ours[] = {{"smtp", 25},   {"submission", 587}, {"submissions", 465},
                {"smtps", 465}, {"urd", 465},        {"lmtp", 24}};
    const struct servent *found;
    uint64_t number;

    if (bytes_to_u64(bytes_of(name), 65535, &number) && number > 0) {
        *port_r = (unsigned)number;
        return NULL;
    }
    found = getservbyname(name, "tcp");
    if (found != NULL) {
        *port_r = ntohs((uint16_t)found->s_port);
        return NULL;
    }
    for (size_t i = 0; i < sizeof(ours) / sizeof(ours[0]); i++)
        if (strcmp(ours[i].name, name) == 0) {
            *port_r = ours[i].port;
            return NULL;
        }
    return error_new(ERROR_CONF, "unknown port or service name \"%s\"", name);
}

static struct error *find_protocols(const struct conf *conf, struct found *f)
{
    const char *list = conf_text(conf, "inet_protocols");
    char *item;

    while ((item = conf_list_next(f->ctx, &list)) != NULL) {
        bool all = strcasecmp(item, "all") == 0;

        f->v4 |= all || strcasecmp(item, "ipv4") == 0;
        f->v6 |= all || strcasecmp(item, "ipv6") == 0;
        if (!all && strcasecmp(item, "ipv4") != 0 && strcasecmp(item, "ipv6") != 0)
            return error_new(ERROR_CONF, "bad value: inet_protocols = %s", conf_text(conf, "inet_protocols"));
    }
    return NULL;
}

struct error *master_addresses(const void *ctx, const struct conf_service *service, struct io_address **at_r,
                               size_t *n_r)
{
    struct found f = {.ctx = ctx};
    struct error *e = find_protocols(service->conf, &f);

    if (e == NULL)
        e = find_port(service->port, &f.port);
    if (e == NULL && service->host != NULL)
        e = add_host(&f, service->host);
    else if (e == NULL)
        e = add_interfaces(&f, conf_text(service->conf, "inet_interfaces"));
    if (e == NULL && f.n == 0)
        e = error_new(ERROR_CONF, "no address to listen on");
    *at_r = f.at;
    *n_r = f.n;
    return error_prepend(e, "%s:%u: service %s", service->file, service->line, service->name);
}

/* ---- sockets ---- */

static void pause_ms(unsigned ms)
{
    struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};

    nanosleep(&t, NULL);
}

struct master_listener *master_listener_get(struct master *m, const struct io_address *address,
                                            const char *text, struct error **error_r)
{
    uint64_t until = clock_ms() + TAKEN_MS;
    struct master_listener *l;
    int fd;

    for (l = m->listeners; l != NULL; l = l->next)
        if (same_address(&l->address, address))
            return l;
    while ((fd = io_listen(address, BACKLOG, error_r)) < 0 && (*error_r)->code == EADDRINUSE &&
           clock_ms() < until) {
        error_free(error_r);
        pause_ms(TAKEN_STEP_MS);
    }
    if (fd < 0)
        return NULL;
    l = mem_new(m, struct master_listener);
    l->address = *address;
    l->text = mem_strdup(l, text);
    l->fd = fd;
    l->next = m->listeners;
    m->listeners = l;
    return l;
}

void master_listeners_sweep(struct master *m)
{
    for (struct master_listener **at = &m->listeners, *l; (l = *at) != NULL;) {
        if (l->is_wanted) {
            at = &l->next;
            continue;
        }
        *at = l->next;
        close(l->fd);
        if (l->address.sa.ss_family == AF_UNIX)
            unlink(l->text);
        talloc_free(l);
    }
}

static struct error *listen_one(struct master *m, const struct io_address *a, const char *text,
                                struct master_listener **l_r)
{
    struct error *e = NULL;
    struct master_listener *l = master_listener_get(m, a, text, &e);

    if (l != NULL && l->is_wanted)
        return error_new(ERROR_CONF, "%s is another service's already", text);
    if (l != NULL)
        l->is_wanted = true;
    *l_r = l;
    return e;
}

static struct error *listen_unix(struct master *m, const void *ctx, const struct conf_service *conf,
                                 struct master_listener ***at_r, size_t *n_r)
{
    char *path = master_socket_path(ctx, conf);
    struct io_address address;
    struct error *e;

    memset(&address, 0, sizeof(address));
    e = io_address_unix(path, &address);
    *at_r = mem_array(ctx, struct master_listener *, 1);
    *n_r = 1;
    return e ? e : listen_one(m, &address, path, &(*at_r)[0]);
}

/* A host without IPv6 still has "all" protocols: its v6 addresses are left out as long as another one is
 * there. */
static bool is_missing_family(const struct io_address *a, const struct error *e, size_t others)
{
    return a->sa.ss_family == AF_INET6 && others > 0 && (e->code == EADDRNOTAVAIL || e->code == EAFNOSUPPORT);
}

struct error *master_listeners_of(struct master *m, const void *ctx, const struct conf_service *conf,
                                  struct master_listener ***at_r, size_t *n_r)
{
    struct io_address *address;
    struct error *e;
    size_t n;

    if (conf->type != CONF_INET)
        return error_prepend(listen_unix(m, ctx, conf, at_r, n_r), "%s:%u: service %s", conf->file,
                             conf->line, conf->name);
    e = master_addresses(ctx, conf, &address, &n);
    *at_r = mem_array(ctx, struct master_listener *, n + 1);
    *n_r = 0;
    for (size_t i = 0; e == NULL && i < n; i++) {
        e = listen_one(m, &address[i], master_address_text(ctx, &address[i]), &(*at_r)[*n_r]);
        if (e == NULL) {
            (*n_r)++;
        } else if (is_missing_family(&address[i], e, n - 1)) {
            error_free(&e);
        } else {
            error_prepend(e, "%s:%u: service %s: %s", conf->file, conf->line, conf->name,
                          master_address_text(ctx, &address[i]));
        }
    }
    return e;
}
