/*
 * Who the client is. See listen.h.
 *
 * A PTR record is its owner's claim; anybody may claim to be mail.example.com. So the name is asked for its
 * addresses, and only when the client's is among them is it a verified name. What came from DNS reaches logs
 * and headers, so it must be a host name by its characters.
 */
#include "listen.h"

#include "clock.h"
#include "format.h"
#include "log.h"
#include "mem.h"

#include <stdio.h>
#include <uthash.h>

enum { NAME_LIMIT = 255, LABEL_LIMIT = 63 };

struct known {
    UT_hash_handle hh;
    char addr[46];
    uint64_t until;
    struct listen_peer peer;
};

struct listen_peers {
    bool lookup_names;
    struct known *known; /* uthash keeps the order of adding: the first is the oldest */
};

/* The table's own memory is not talloc's. */
static int free_table(struct listen_peers *p)
{
    HASH_CLEAR(hh, p->known);
    return 0;
}

struct listen_peers *listen_peers_new(const void *ctx, bool lookup_names)
{
    struct listen_peers *p = mem_new(ctx, struct listen_peers);

    p->lookup_names = lookup_names;
    talloc_set_destructor(p, free_table);
    return p;
}

/* ---- memory ---- */

static void forget(struct listen_peers *p, struct known *k)
{
    HASH_DEL(p->known, k);
    talloc_free(k);
}

/* Both names are one text when the client's name is verified. */
static struct listen_peer copy_of(const struct listen_peer *peer, const void *ctx)
{
    struct listen_peer copy = *peer;

    copy.name = mem_strdup(ctx, peer->name);
    copy.reverse_name = peer->reverse_name == peer->name ? copy.name : mem_strdup(ctx, peer->reverse_name);
    return copy;
}

const struct listen_peer *listen_peers_get(struct listen_peers *p, const char *addr)
{
    struct known *k;

    HASH_FIND_STR(p->known, addr, k);
    if (k == NULL)
        return NULL;
    if (k->until <= clock_ms()) {
        forget(p, k);
        return NULL;
    }
    return &k->peer;
}

void listen_peers_put(struct listen_peers *p, const char *addr, const struct listen_peer *found)
{
    struct known *k;

    HASH_FIND_STR(p->known, addr, k);
    if (k != NULL)
        forget(p, k);
    while (p->known != NULL && (HASH_COUNT(p->known) >= LISTEN_PEERS || p->known->until <= clock_ms()))
        forget(p, p->known);
    k = mem_new(p, struct known);
    format_print(k->addr, sizeof(k->addr), "%s", addr);
    k->until = clock_ms() + LISTEN_PEER_LIFE_MS;
    k->peer = copy_of(found, k);
    HASH_ADD_STR(p->known, addr, k);
}

size_t listen_peers_count(const struct listen_peers *p)
{
    return HASH_COUNT(p->known);
}

/* ---- names ---- */

bool listen_name_is_valid(const char *name)
{
    size_t n = strlen(name), label = 0;
    bool has_letter = false;

    if (n == 0 || n > NAME_LIMIT)
        return false;
    for (size_t i = 0; i < n; i++) {
        char c = name[i];

        if (c == '.') {
            if (label == 0)
                return false;
            label = 0;
            continue;
        }
        if ((!ascii_is_alpha(c) && !ascii_is_digit(c) && c != '-' && c != '_') || ++label > LABEL_LIMIT)
            return false;
        if (c == '-' && (label == 1 || i + 1 == n || name[i + 1] == '.'))
            return false;
        has_letter |= !ascii_is_digit(c) && c != '-';
    }
    return has_letter && label > 0;
}

static bool is_among(const struct io_address *a, const struct io_address *at, size_t n)
{
    char wanted[46], text[46];

    io_address_host(a, wanted);
    for (size_t i = 0; i < n; i++)
        if (strcmp(io_address_host(&at[i], text), wanted) == 0)
            return true;
    return false;
}

/* Does the claimed name lead back? */
static co_fn void verify(void *ctx, const struct io_address *peer, const char *addr, uint64_t deadline,
                         struct listen_peer *found)
{
    struct io_address *at;
    size_t n = 0;
    struct error *e = io_resolve(ctx, found->reverse_name, "0", peer->sa.ss_family, deadline, &at, &n);

    if (e != NULL) {
        log_warn("hostname %s does not resolve to address %s: %s", found->reverse_name, addr, e->text);
        found->name_is_temp = e->kind == ERROR_TEMP;
    } else if (is_among(peer, at, n)) {
        found->name = found->reverse_name;
    } else {
        log_warn("hostname %s does not resolve to address %s", found->reverse_name, addr);
    }
    error_free(&e);
}

static co_fn void lookup(void *ctx, const struct io_address *peer, const char *addr,
                         struct listen_peer *found)
{
    uint64_t deadline = clock_ms() + LISTEN_LOOKUP_MS;
    bool is_temp = false;
    char *claimed = io_resolve_name(ctx, peer, deadline, &is_temp);

    if (claimed == NULL) {
        found->name_is_temp = found->reverse_is_temp = is_temp;
        return;
    }
    if (!listen_name_is_valid(claimed)) {
        log_warn("malformed hostname of address %s: %.100s", addr, claimed);
        return;
    }
    found->reverse_name = claimed;
    verify(ctx, peer, addr, deadline, found);
}

/* What the client's addresses are kept in. */
struct addresses {
    char addr[46], port[6], server_addr[46], server_port[6];
};

static void set_names(struct mail_client *client, const struct listen_peer *found)
{
    client->name = found->name;
    client->reverse_name = found->reverse_name;
    client->name_is_temp = found->name_is_temp;
    client->reverse_is_temp = found->reverse_is_temp;
}

static void set_addresses(void *ctx, const struct io_address *peer, const struct io_address *server,
                          struct mail_client *client)
{
    struct addresses *a;

    client->family = peer->sa.ss_family;
    client->proto = "SMTP";
    if (client->family == AF_UNIX) {
        client->addr = client->server_addr = "127.0.0.1";
        client->port = client->server_port = "0";
        return;
    }
    a = mem_new(ctx, struct addresses);
    client->addr = io_address_host(peer, a->addr);
    client->server_addr = io_address_host(server, a->server_addr);
    format_print(a->port, sizeof(a->port), "%u", io_address_port(peer));
    format_print(a->server_port, sizeof(a->server_port), "%u", io_address_port(server));
    client->port = a->port;
    client->server_port = a->server_port;
    if (strchr(client->addr, ':') == NULL)
        client->family = AF_INET; /* ::ffff:192.0.2.1 */
}

co_fn void listen_peers_name(struct listen_peers *p, void *ctx, const struct io_address *peer,
                             const struct io_address *server, struct mail_client *client_r)
{
    struct listen_peer found = {.name = "unknown", .reverse_name = "unknown"};
    const struct listen_peer *known;

    *client_r = (struct mail_client){0};
    set_addresses(ctx, peer, server, client_r);
    if (client_r->family == AF_UNIX) {
        found.name = found.reverse_name = "localhost";
    } else if (p->lookup_names && (known = listen_peers_get(p, client_r->addr)) != NULL) {
        found = copy_of(known, ctx);
    } else if (p->lookup_names) {
        lookup(ctx, peer, client_r->addr, &found);
        listen_peers_put(p, client_r->addr, &found);
    }
    set_names(client_r, &found);
}
