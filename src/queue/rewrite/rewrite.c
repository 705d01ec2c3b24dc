/* Standard form of addresses, transport and next hop of recipients. See rewrite.h. */
#include "rewrite.h"

#include "mail_address.h"
#include "mem.h"
#include "table.h"

#include <stdio.h>

enum { DOMAIN_LIMIT = 255 };

struct rewrite {
    const char *myorigin, *mydomain;
    bool append_myorigin, append_mydomain;
    const char *local_transport, *virtual_transport, *relay_transport, *default_transport;
    const char *relayhost;
    const char *filter_nexthop;
    const char *delimiter;
    bool transport_parents; /* transport_maps keys: "example.com" also for its subdomains, else ".example.com"
                             */
    struct table_maps transport_maps;
    struct table_domains *domains;
};

struct error *rewrite_open(const void *ctx, const struct conf *conf, struct rewrite **rw_r)
{
    struct rewrite *rw = mem_new(ctx, struct rewrite);
    struct error *e;

    rw->myorigin = conf_text(conf, "myorigin");
    rw->mydomain = conf_text(conf, "mydomain");
    rw->append_myorigin = conf_bool(conf, "append_at_myorigin");
    rw->append_mydomain = conf_bool(conf, "append_dot_mydomain");
    rw->local_transport = conf_text(conf, "local_transport");
    rw->virtual_transport = conf_text(conf, "virtual_transport");
    rw->relay_transport = conf_text(conf, "relay_transport");
    rw->default_transport = conf_text(conf, "default_transport");
    rw->relayhost = conf_text(conf, "relayhost");
    rw->filter_nexthop = conf_text(conf, "default_filter_nexthop");
    rw->delimiter = conf_text(conf, "recipient_delimiter");
    rw->transport_parents = table_parents_match(conf, "transport_maps");
    e = table_maps_open(rw, conf_text(conf, "transport_maps"), conf, &rw->transport_maps);
    e = error_prepend(e, "transport_maps");
    if (e == NULL)
        e = table_domains_open(rw, conf, &rw->domains);
    if (e != NULL)
        talloc_free(rw);
    else
        *rw_r = rw;
    return e;
}

/* ---- standard form ---- */

static struct bytes without_last_dot(struct bytes domain)
{
    if (domain.n > 1 && domain.p[domain.n - 1] == '.')
        domain.n--;
    return domain;
}

char *rewrite_standard_form(const struct rewrite *rw, const void *ctx, const char *addr)
{
    struct bytes local, given, domain;
    bool add_mydomain;

    if (addr[0] == '\0')
        return mem_strdup(ctx, "");
    mail_address_split(addr, &local, &given);
    domain = without_last_dot(given);
    if (domain.n == 0) {
        if (!rw->append_myorigin)
            return bytes_dup(ctx, local);
        domain = bytes_of(rw->myorigin);
    }
    add_mydomain = rw->append_mydomain && domain.p[0] != '[' && bytes_chr(domain, '.') == SIZE_MAX;
    if (domain.p == given.p && domain.n == given.n && !add_mydomain)
        return mem_strdup(ctx, addr);
    return mem_printf(ctx, "%.*s@%.*s%s%s", BYTES_FMT(local), BYTES_FMT(domain), add_mydomain ? "." : "",
                      add_mydomain ? rw->mydomain : "");
}

co_fn enum table_end rewrite_is_local(const struct rewrite *rw, const char *addr)
{
    struct bytes local, domain;

    mail_address_split(addr, &local, &domain);
    return table_domains_is_local(rw->domains, without_last_dot(domain));
}

/* ---- resolving ---- */

/* RFC 5321 4.1.2, as far as it matters for finding a next hop; underscores exist in the wild. */
static bool is_domain(struct bytes domain)
{
    if (domain.n == 0 || domain.n > DOMAIN_LIMIT)
        return false;
    if (domain.p[0] == '[')
        return mail_address_is_literal(domain);
    if (domain.p[0] == '.' || domain.p[0] == '-' || bytes_find(domain, BYTES("..")) != SIZE_MAX)
        return false;
    for (size_t i = 0; i < domain.n; i++) {
        unsigned char c = (unsigned char)domain.p[i];

        if (c < 128 && !ascii_is_alpha(c) && !ascii_is_digit(c) && c != '.' && c != '-' && c != '_')
            return false;
    }
    return true;
}

static bool is_address(struct bytes local, struct bytes domain, const char *addr)
{
    if (local.n == 0 || strlen(addr) > MAIL_ADDRESS_LIMIT)
        return false;
    for (const char *p = addr; *p; p++)
        if ((unsigned char)*p < 32 || *p == 127)
            return false;
    return (domain.n == 0 && strchr(addr, '@') == NULL) || is_domain(domain);
}

static enum rewrite_end refuse(struct rewrite_route *out, enum rewrite_end end, const char *dsn,
                               const char *text)
{
    snprintf(out->dsn, sizeof(out->dsn), "%s", dsn);
    out->text = text;
    return end;
}

/* "transport:nexthop" over what is there: an empty transport leaves it, an empty next hop is `fallback`. */
static void apply(const void *ctx, const char *text, const char *fallback, struct rewrite_route *out)
{
    struct bytes rest = bytes_of(text), transport = bytes_cut(&rest, ':');

    if (transport.n == 0 && rest.n == 0)
        return;
    if (transport.n > 0)
        out->transport = bytes_dup(ctx, transport);
    out->nexthop = rest.n > 0 ? bytes_dup(ctx, rest) : transport.n > 0 ? fallback : out->nexthop;
}

/* What holds for the class without transport_maps. False: refused. */
static bool route_of_class(const struct rewrite *rw, const void *ctx, const char *domain,
                           struct rewrite_route *out)
{
    const char *off_host = rw->relayhost[0] != '\0' ? rw->relayhost : domain;

    switch (out->class) {
    case TABLE_CLASS_LOCAL:
        apply(ctx, rw->local_transport, domain, out);
        return true;
    case TABLE_CLASS_VIRTUAL_ALIAS:
        return false;
    case TABLE_CLASS_VIRTUAL_MAILBOX:
        apply(ctx, rw->virtual_transport, domain, out);
        return true;
    case TABLE_CLASS_RELAY:
        apply(ctx, rw->relay_transport, off_host, out);
        return true;
    default:
        apply(ctx, rw->default_transport, off_host, out);
        return true;
    }
}

/* One key in each table; tables of patterns are only asked for the whole address. */
static co_fn enum table_end find_key(const struct rewrite *rw, const void *ctx, struct bytes key,
                                     bool is_part, char **value_r)
{
    for (size_t i = 0; i < rw->transport_maps.n; i++) {
        struct table *t = rw->transport_maps.at[i];
        enum table_end end;

        if (is_part && table_wants_whole_key(t))
            continue;
        end = table_find(t, ctx, key, value_r);
        if (end != TABLE_ABSENT)
            return end;
    }
    return TABLE_ABSENT;
}

/* domain, then its parents: ".example.com", ".com" (or without the dot), last "*". */
static co_fn enum table_end find_domain(const struct rewrite *rw, const void *ctx, struct bytes domain,
                                        char **value_r)
{
    enum table_end end = find_key(rw, ctx, domain, true, value_r);

    while (end == TABLE_ABSENT) {
        size_t dot = bytes_chr(domain, '.');

        if (dot == SIZE_MAX || domain.p[0] == '[')
            break;
        domain = bytes_skip(domain, dot);
        end = find_key(rw, ctx, bytes_skip(domain, rw->transport_parents ? 1 : 0), true, value_r);
        domain = bytes_skip(domain, 1);
    }
    return end == TABLE_ABSENT ? find_key(rw, ctx, BYTES("*"), true, value_r) : end;
}

static co_fn enum table_end find_transport(const struct rewrite *rw, const void *ctx, const char *addr,
                                           struct bytes local, struct bytes domain, char **value_r)
{
    size_t extension = table_extension_at(local, rw->delimiter);
    enum table_end end = find_key(rw, ctx, bytes_of(addr), false, value_r);

    if (end == TABLE_ABSENT && extension != SIZE_MAX) {
        char *bare = mem_printf(ctx, "%.*s@%.*s", (int)extension, local.p, BYTES_FMT(domain));

        end = find_key(rw, ctx, bytes_of(bare), true, value_r);
    }
    return end == TABLE_ABSENT ? find_domain(rw, ctx, domain, value_r) : end;
}

co_fn enum rewrite_end rewrite_resolve(const struct rewrite *rw, const void *ctx, const char *sender,
                                       const char *recipient, struct rewrite_route *out_r)
{
    struct bytes local, domain;
    enum table_end end;
    const char *name;
    char *value = NULL;

    *out_r = (struct rewrite_route){.transport = "", .nexthop = ""};
    mail_address_split(recipient, &local, &domain);
    domain = without_last_dot(domain);
    if (!is_address(local, domain, recipient))
        return refuse(out_r, REWRITE_REFUSED, "5.1.3", "bad address syntax");
    if (table_domains_class(rw->domains, domain, &out_r->class) != TABLE_FOUND)
        return refuse(out_r, REWRITE_LATER, "4.3.0", "address resolver failure");
    name = domain.n > 0 ? bytes_dup_lower(ctx, domain) : rw->myorigin;
    if (!route_of_class(rw, ctx, name, out_r))
        return refuse(out_r, REWRITE_REFUSED, "5.1.1", "User unknown in virtual alias table");
    end = find_transport(rw, ctx, recipient, local, bytes_of(name), &value);
    if (end == TABLE_FAILED)
        return refuse(out_r, REWRITE_LATER, "4.3.0", "address resolver failure");
    if (end == TABLE_FOUND)
        apply(ctx, value, name, out_r);
    return REWRITE_ROUTE;
}

bool rewrite_filter_route(const struct rewrite *rw, const void *ctx, const char *filter,
                          const char *recipient, struct rewrite_route *out_r)
{
    struct bytes local, domain;

    mail_address_split(recipient, &local, &domain);
    *out_r = (struct rewrite_route){.transport = "", .nexthop = ""};
    apply(ctx, filter,
          rw->filter_nexthop[0] != '\0' ? rw->filter_nexthop
          : domain.n > 0                ? bytes_dup_lower(ctx, without_last_dot(domain))
                                        : rw->myorigin,
          out_r);
    return out_r->transport[0] != '\0';
}
