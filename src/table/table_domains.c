/* Address classes. See table_domains.h. */
#include "table_domains.h"

#include "log.h"
#include "mem.h"
#include "table_type.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <strings.h>

struct addresses {
    struct table_net *at;
    size_t n;
};

struct table_domains {
    const char *myorigin, *delimiter, *double_bounce;
    struct table_list *local, *virtual_alias, *virtual_mailbox, *relay;
    struct table_maps local_users, relay_users, mailbox_users, rcpt_canonical, canonical, aliases;
    struct addresses own, proxy;
};

static const char *const user_tables[] = {
    [TABLE_CLASS_LOCAL] = "local recipient table",
    [TABLE_CLASS_VIRTUAL_ALIAS] = "virtual alias table",
    [TABLE_CLASS_VIRTUAL_MAILBOX] = "virtual mailbox table",
    [TABLE_CLASS_RELAY] = "relay recipient table",
};

const char *table_class_user_table(enum table_class which)
{
    return user_tables[which];
}

/* ---- own addresses ---- */

static void add_address(const void *ctx, struct addresses *a, const struct sockaddr *sa)
{
    char text[INET6_ADDRSTRLEN] = "";
    struct table_net net;

    if (sa->sa_family == AF_INET)
        inet_ntop(AF_INET, &((const struct sockaddr_in *)(const void *)sa)->sin_addr, text, sizeof(text));
    else if (sa->sa_family == AF_INET6)
        inet_ntop(AF_INET6, &((const struct sockaddr_in6 *)(const void *)sa)->sin6_addr, text, sizeof(text));
    if (!table_addr_parse(text, &net))
        return;
    a->at = mem_grow(ctx, a->at, a->n + 1);
    a->at[a->n++] = net;
}

static struct error *add_interfaces(const void *ctx, struct addresses *a, bool only_loopback)
{
    struct ifaddrs *list;

    if (getifaddrs(&list) != 0)
        return error_errno(errno, "list the network interfaces");
    for (struct ifaddrs *i = list; i != NULL; i = i->ifa_next)
        if (i->ifa_addr != NULL && (!only_loopback || (i->ifa_flags & IFF_LOOPBACK) != 0))
            add_address(ctx, a, i->ifa_addr);
    freeifaddrs(list);
    return NULL;
}

static struct error *add_name(const void *ctx, struct addresses *a, const char *name)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list;
    struct table_net net;
    int code;

    if (table_addr_parse(name, &net)) {
        a->at = mem_grow(ctx, a->at, a->n + 1);
        a->at[a->n++] = net;
        return NULL;
    }
    if ((code = getaddrinfo(name, NULL, &hints, &list)) != 0)
        return error_new(ERROR_CONF, "host \"%s\": %s", name, gai_strerror(code));
    for (struct addrinfo *i = list; i != NULL; i = i->ai_next)
        add_address(ctx, a, i->ai_addr);
    freeaddrinfo(list);
    return NULL;
}

static struct error *read_addresses(const void *ctx, const struct conf *conf, const char *param,
                                    struct addresses *a)
{
    const char *rest = conf_text(conf, param);
    void *mine = talloc_new(NULL);
    struct error *e = NULL;
    char *item;

    while (e == NULL && (item = conf_list_next(mine, &rest)) != NULL) {
        if (strcasecmp(item, "all") == 0)
            e = add_interfaces(ctx, a, false);
        else if (strcasecmp(item, "loopback-only") == 0)
            e = add_interfaces(ctx, a, true);
        else
            e = add_name(ctx, a, item);
    }
    talloc_free(mine);
    return error_prepend(e, "%s", param);
}

static bool has_address(const struct addresses *a, const struct table_net *addr)
{
    for (size_t i = 0; i < a->n; i++)
        if (table_net_has(&a->at[i], addr))
            return true;
    return false;
}

bool table_domains_is_own_address(const struct table_domains *d, const char *addr, bool has_proxy)
{
    struct table_net net;

    return table_addr_parse(addr, &net) &&
           (has_address(&d->own, &net) || (has_proxy && has_address(&d->proxy, &net)));
}

/* ---- open ---- */

static struct error *open_lists(struct table_domains *d, const struct conf *conf)
{
    const struct {
        const char *param;
        enum table_list_kind kind;
        struct table_list **list_r;
    } lists[] = {
        {"mydestination", TABLE_LIST_TEXT, &d->local},
        {"virtual_alias_domains", TABLE_LIST_TEXT, &d->virtual_alias},
        {"virtual_mailbox_domains", TABLE_LIST_TEXT, &d->virtual_mailbox},
        {"relay_domains", TABLE_LIST_DOMAINS, &d->relay},
    };
    struct error *e = NULL;

    for (size_t i = 0; e == NULL && i < sizeof(lists) / sizeof(lists[0]); i++)
        e = table_list_open_param(d, lists[i].param, lists[i].kind, conf, lists[i].list_r);
    return e;
}

static struct error *open_maps(struct table_domains *d, const struct conf *conf)
{
    const struct {
        const char *param;
        struct table_maps *maps_r;
    } maps[] = {
        {"local_recipient_maps", &d->local_users},   {"relay_recipient_maps", &d->relay_users},
        {"virtual_mailbox_maps", &d->mailbox_users}, {"recipient_canonical_maps", &d->rcpt_canonical},
        {"canonical_maps", &d->canonical},           {"virtual_alias_maps", &d->aliases},
    };
    struct error *e = NULL;

    for (size_t i = 0; e == NULL && i < sizeof(maps) / sizeof(maps[0]); i++)
        e = error_prepend(table_maps_open(d, conf_text(conf, maps[i].param), conf, maps[i].maps_r), "%s",
                          maps[i].param);
    return e;
}

struct error *table_domains_open(const void *ctx, const struct conf *conf, struct table_domains **d_r)
{
    struct table_domains *d = mem_new(ctx, struct table_domains);
    struct error *e;

    d->myorigin = mem_strdup(d, conf_text(conf, "myorigin"));
    d->delimiter = mem_strdup(d, conf_text(conf, "recipient_delimiter"));
    d->double_bounce = mem_strdup(d, conf_text(conf, "double_bounce_sender"));
    if ((e = open_lists(d, conf)) != NULL || (e = open_maps(d, conf)) != NULL ||
        (e = read_addresses(d, conf, "inet_interfaces", &d->own)) != NULL ||
        (e = read_addresses(d, conf, "proxy_interfaces", &d->proxy)) != NULL) {
        talloc_free(d);
        return e;
    }
    *d_r = d;
    return NULL;
}

/* ---- the class of a domain ---- */

/* "[192.0.2.1]", "[IPv6:2001:db8::1]" of this host. */
static bool is_own_literal(const struct table_domains *d, struct bytes domain)
{
    char text[INET6_ADDRSTRLEN];
    struct bytes inside;

    if (domain.n < 2 || domain.p[0] != '[' || domain.p[domain.n - 1] != ']')
        return false;
    inside = bytes(domain.p + 1, domain.n - 2);
    if (bytes_has_iprefix(inside, BYTES("IPv6:")))
        inside = bytes_skip(inside, 5);
    if (inside.n >= sizeof(text))
        return false;
    memcpy(text, inside.p, inside.n);
    text[inside.n] = '\0';
    return table_domains_is_own_address(d, text, true);
}

static struct bytes clean_domain(const struct table_domains *d, struct bytes domain)
{
    if (domain.n > 1 && domain.p[domain.n - 1] == '.')
        domain.n--;
    return domain.n > 0 ? domain : bytes_of(d->myorigin);
}

co_fn static enum table_end is_destination(const struct table_domains *d, struct bytes domain)
{
    return is_own_literal(d, domain) ? TABLE_FOUND : table_list_has(d->local, domain);
}

co_fn enum table_end table_domains_is_local(const struct table_domains *d, struct bytes domain)
{
    domain = clean_domain(d, domain);
    return bytes_ieq(domain, bytes_of(d->myorigin)) ? TABLE_FOUND : is_destination(d, domain);
}

co_fn enum table_end table_domains_class(const struct table_domains *d, struct bytes domain,
                                         enum table_class *class_r)
{
    const struct {
        const struct table_list *list;
        enum table_class which;
    } lists[] = {
        {d->virtual_alias, TABLE_CLASS_VIRTUAL_ALIAS},
        {d->virtual_mailbox, TABLE_CLASS_VIRTUAL_MAILBOX},
        {d->relay, TABLE_CLASS_RELAY},
    };
    enum table_end end;

    domain = clean_domain(d, domain);
    *class_r = TABLE_CLASS_LOCAL;
    if ((end = is_destination(d, domain)) != TABLE_ABSENT)
        return end;
    for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
        *class_r = lists[i].which;
        if ((end = table_list_has(lists[i].list, domain)) != TABLE_ABSENT)
            return end;
    }
    *class_r = TABLE_CLASS_DEFAULT;
    return TABLE_FOUND;
}

/* ---- users ---- */

/* Made by this host itself, whatever the tables say. */
static bool is_own_user(const struct table_domains *d, struct bytes local, struct bytes domain)
{
    return bytes_ieq(domain, bytes_of(d->myorigin)) &&
           (bytes_ieq(local, BYTES("postmaster")) || bytes_ieq(local, BYTES("mailer-daemon")) ||
            bytes_ieq(local, bytes_of(d->double_bounce)));
}

co_fn static enum table_end find(const struct table_domains *d, const struct table_maps *maps,
                                 const void *ctx, const char *addr, bool is_local)
{
    char *value;

    return table_maps_find_address(maps, ctx, addr, d->delimiter, is_local, &value, NULL);
}

/* Tables that give an address another destination: who is in one exists. */
co_fn static enum table_end is_mapped(const struct table_domains *d, const void *ctx, const char *addr,
                                      bool is_local)
{
    const struct table_maps *const maps[] = {&d->rcpt_canonical, &d->canonical, &d->aliases};
    enum table_end end = TABLE_ABSENT;

    for (size_t i = 0; end == TABLE_ABSENT && i < sizeof(maps) / sizeof(maps[0]); i++)
        end = find(d, maps[i], ctx, addr, is_local);
    return end;
}

/* NULL: the class has no table that tells. */
static const struct table_maps *users_of(const struct table_domains *d, enum table_class which)
{
    const struct table_maps *m = which == TABLE_CLASS_LOCAL             ? &d->local_users
                                 : which == TABLE_CLASS_RELAY           ? &d->relay_users
                                 : which == TABLE_CLASS_VIRTUAL_MAILBOX ? &d->mailbox_users
                                                                        : NULL;

    return m != NULL && m->n > 0 ? m : NULL;
}

/* addr: local@domain. */
co_fn static enum table_end has_user(const struct table_domains *d, const void *ctx, const char *addr,
                                     struct bytes local, struct bytes domain, enum table_class which)
{
    enum table_end end = table_domains_is_local(d, domain);
    const struct table_maps *users = users_of(d, which);
    bool is_local = end == TABLE_FOUND;

    if (end == TABLE_FAILED || (end = is_mapped(d, ctx, addr, is_local)) != TABLE_ABSENT)
        return end;
    if (which == TABLE_CLASS_VIRTUAL_ALIAS)
        return TABLE_ABSENT;
    if (users == NULL || (which == TABLE_CLASS_LOCAL && is_own_user(d, local, domain)))
        return TABLE_FOUND;
    return find(d, users, ctx, addr, is_local);
}

co_fn enum table_end table_domains_has_user(const struct table_domains *d, const char *addr,
                                            enum table_class *class_r)
{
    const char *at = strrchr(addr, '@');
    struct bytes local = bytes(addr, at != NULL ? (size_t)(at - addr) : strlen(addr));
    struct bytes domain = clean_domain(d, at != NULL ? bytes_of(at + 1) : bytes("", 0));
    enum table_end end = table_domains_class(d, domain, class_r);
    void *mine;

    if (end != TABLE_FOUND)
        return end;
    mine = talloc_new(NULL);
    if (at == NULL || domain.p != at + 1 || at[1 + domain.n] != '\0')
        addr = mem_printf(mine, "%.*s@%.*s", BYTES_FMT(local), BYTES_FMT(domain));
    end = has_user(d, mine, addr, local, domain, *class_r);
    talloc_free(mine);
    return end;
}
