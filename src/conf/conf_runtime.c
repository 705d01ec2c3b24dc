/*
 * Defaults that depend on the machine: its name, its domain, and the networks that mynetworks_style takes
 * from its interfaces.
 *
 * The names are looked up in the kernel only, never in DNS: a name server that is away must not hold up a
 * start.
 */
#include "conf_own.h"
#include "mem.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <unistd.h>

#define NO_DOMAIN "localdomain"

/* The text kept under a key until a value of c changes. */
static struct conf_cached *remembered(const struct conf *c, const char *key)
{
    struct conf_cached *cached;

    HASH_FIND_STR(c->cache, key, cached);
    return cached;
}

static struct conf_cached *remember(const struct conf *c, const char *key, const char *text)
{
    struct conf *memory = (struct conf *)c;
    struct conf_cached *cached = mem_new(memory, struct conf_cached);

    cached->name = mem_strdup(cached, key);
    cached->text = mem_strdup(cached, text);
    HASH_ADD_KEYPTR(hh, memory->cache, cached->name, strlen(cached->name), cached);
    return cached;
}

/* The expansion of a value that may itself be wrong: conf_validate reports that one by its own name. */
static char *expand_or_empty(const struct conf *c, const char *name)
{
    const char *raw = conf_raw(c, name);
    char *text = NULL;
    struct error *e = conf_expand(NULL, c, raw ? raw : "", &text);

    if (e == NULL)
        return text;
    error_free(&e);
    return mem_strdup(NULL, "");
}

static char *find_hostname(const struct conf *c)
{
    char name[256];
    const struct conf_entry *domain = conf_entry_find(c, "mydomain");

    if (gethostname(name, sizeof(name)) != 0 || name[0] == '\0')
        strcpy(name, "localhost");
    name[sizeof(name) - 1] = '\0';
    if (strchr(name, '.') != NULL)
        return mem_strdup(NULL, name);
    return mem_printf(NULL, "%s.%s", name, domain && *domain->value ? domain->value : NO_DOMAIN);
}

static char *find_domain(const struct conf *c)
{
    char *host = expand_or_empty(c, "myhostname");
    const char *dot = strchr(host, '.');
    char *domain = mem_strdup(NULL, dot ? dot + 1 : NO_DOMAIN);

    talloc_free(host);
    return domain;
}

/* ---- mynetworks ---- */

enum style { STYLE_HOST, STYLE_SUBNET, STYLE_CLASS };

struct network {
    int family;
    unsigned char address[16];
    unsigned bits;
};

static unsigned mask_bits(const unsigned char *mask, size_t n)
{
    unsigned bits = 0;

    for (size_t i = 0; i < n; i++)
        bits += (unsigned)__builtin_popcount(mask[i]);
    return bits;
}

static unsigned class_bits(unsigned char first)
{
    return first < 128 ? 8 : first < 192 ? 16 : first < 224 ? 24 : 32;
}

static void clear_host_part(struct network *n)
{
    size_t size = n->family == AF_INET ? 4 : 16;

    for (unsigned i = n->bits; i < size * 8; i++)
        n->address[i / 8] &= (unsigned char)~(0x80 >> i % 8);
}

static bool network_of(const struct ifaddrs *i, enum style style, struct network *out)
{
    const void *mask = NULL;

    if (i->ifa_addr == NULL || !(i->ifa_flags & IFF_UP))
        return false;
    *out = (struct network){.family = i->ifa_addr->sa_family};
    if (out->family == AF_INET) {
        memcpy(out->address, &((const struct sockaddr_in *)(const void *)i->ifa_addr)->sin_addr, 4);
        if (i->ifa_netmask != NULL)
            mask = &((const struct sockaddr_in *)(const void *)i->ifa_netmask)->sin_addr;
        out->bits = style == STYLE_SUBNET && mask ? mask_bits(mask, 4) : 32;
        if (style == STYLE_CLASS)
            out->bits = class_bits(out->address[0]);
    } else if (out->family == AF_INET6) {
        memcpy(out->address, &((const struct sockaddr_in6 *)(const void *)i->ifa_addr)->sin6_addr, 16);
        if (i->ifa_netmask != NULL)
            mask = &((const struct sockaddr_in6 *)(const void *)i->ifa_netmask)->sin6_addr;
        out->bits = style != STYLE_HOST && mask ? mask_bits(mask, 16) : 128;
    } else {
        return false;
    }
    clear_host_part(out);
    return true;
}

/* IPv4 before IPv6, then by address: the same machine gives the same text. */
static int compare_networks(const void *left, const void *right)
{
    const struct network *a = left, *b = right;
    int order;

    if (a->family != b->family)
        return a->family == AF_INET ? -1 : 1;
    order = memcmp(a->address, b->address, sizeof(a->address));
    return order ? order : (int)a->bits - (int)b->bits;
}

static void format_networks(struct network *all, size_t n, struct buf *out)
{
    char text[INET6_ADDRSTRLEN];

    qsort(all, n, sizeof(*all), compare_networks);
    for (size_t i = 0; i < n; i++) {
        if (i > 0 && compare_networks(&all[i - 1], &all[i]) == 0)
            continue;
        inet_ntop(all[i].family, all[i].address, text, sizeof(text));
        buf_addf(out, all[i].family == AF_INET ? "%s%s/%u" : "%s[%s]/%u", out->n ? " " : "", text,
                 all[i].bits);
    }
}

static bool wants_family(const char *protocols, int family)
{
    bool any = strstr(protocols, "all") != NULL;

    return any || strstr(protocols, family == AF_INET ? "ipv4" : "ipv6") != NULL;
}

/* Whether inet_interfaces names this address: "all", "loopback-only", or the address itself. */
static bool wants_interface(const char *interfaces, const struct ifaddrs *i)
{
    char text[INET6_ADDRSTRLEN] = "";
    const char *rest = interfaces;
    char *item;
    bool found = false;

    if (i->ifa_addr->sa_family == AF_INET)
        inet_ntop(AF_INET, &((const struct sockaddr_in *)(const void *)i->ifa_addr)->sin_addr, text,
                  sizeof(text));
    else
        inet_ntop(AF_INET6, &((const struct sockaddr_in6 *)(const void *)i->ifa_addr)->sin6_addr, text,
                  sizeof(text));
    while (!found && (item = conf_list_next(NULL, &rest)) != NULL) {
        struct bytes name = bytes_of(item);

        if (name.n > 1 && name.p[0] == '[' && name.p[name.n - 1] == ']')
            name = bytes(name.p + 1, name.n - 2);
        found = bytes_ieq(name, BYTES("all")) || bytes_eq(name, bytes_of(text)) ||
                ((bytes_ieq(name, BYTES("loopback-only")) || bytes_ieq(name, BYTES("localhost"))) &&
                 (i->ifa_flags & IFF_LOOPBACK));
        talloc_free(item);
    }
    return found;
}

static char *find_networks(const struct conf *c)
{
    char *style_text = expand_or_empty(c, "mynetworks_style");
    char *interfaces = expand_or_empty(c, "inet_interfaces");
    char *protocols = expand_or_empty(c, "inet_protocols");
    enum style style = strcmp(style_text, "subnet") == 0  ? STYLE_SUBNET
                       : strcmp(style_text, "class") == 0 ? STYLE_CLASS
                                                          : STYLE_HOST;
    struct network *all = NULL;
    struct ifaddrs *list = NULL;
    struct buf out = {0};
    size_t n = 0;
    char *text;

    if (getifaddrs(&list) != 0)
        list = NULL;
    for (const struct ifaddrs *i = list; i != NULL; i = i->ifa_next) {
        all = mem_grow(NULL, all, n + 1);
        if (network_of(i, style, &all[n]) && wants_family(protocols, all[n].family) &&
            wants_interface(interfaces, i))
            n++;
    }
    if (list != NULL)
        freeifaddrs(list);
    format_networks(all, n, &out);
    text = mem_strdup(NULL, buf_text(&out));
    buf_deinit(&out);
    talloc_free(all);
    talloc_free(style_text);
    talloc_free(interfaces);
    talloc_free(protocols);
    return text;
}

/* The key is no parameter's name. What a value finds that asks for itself on the way (myhostname =
 * a.$mydomain, and mydomain is what follows the first dot of myhostname) is the last column. */
static const struct {
    const char *name, *key;
    char *(*find)(const struct conf *c);
    const char *meanwhile;
} found_here[] = {
    {"mydomain", " mydomain", find_domain, NO_DOMAIN},
    {"myhostname", " myhostname", find_hostname, "localhost." NO_DOMAIN},
    {"mynetworks", " mynetworks", find_networks, ""},
};

const char *conf_runtime_default(const struct conf *c, const char *name)
{
    for (size_t i = 0; i < sizeof(found_here) / sizeof(found_here[0]); i++) {
        struct conf_cached *kept;

        if (strcmp(name, found_here[i].name) != 0)
            continue;
        kept = remembered(c, found_here[i].key);
        if (kept == NULL) {
            char *text;

            kept = remember(c, found_here[i].key, found_here[i].meanwhile);
            text = found_here[i].find(c);
            talloc_free(kept->text);
            kept->text = talloc_steal(kept, text);
        }
        return kept->text;
    }
    return NULL;
}
