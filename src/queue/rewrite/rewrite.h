/*
 * Addresses on their way into the queue and out of it: standard form (cleanup), and which transport and next
 * hop a recipient has (the scheduler).
 *
 * Resolving follows the address classes of table_domains.h, then transport_maps. Left out on purpose:
 * rewriting of user%domain and site!user, because access control does not see them as remote and an address
 * must mean the same to both; and sender-dependent next hops.
 */
#ifndef QUEUE_REWRITE_REWRITE_H
#define QUEUE_REWRITE_REWRITE_H

#include "co.h"
#include "conf.h"
#include "error.h"
#include "table_domains.h"

struct rewrite;

/* Binds parameters and opens transport_maps; `conf` must outlive it. Shared by everything in a worker. */
struct error *rewrite_open(const void *ctx, const struct conf *conf, struct rewrite **rw_r);

/*
 * The address (internal form) with a complete domain: "@myorigin" appended to a bare name
 * (append_at_myorigin),
 * ".mydomain" to a domain of one label (append_dot_mydomain), one dot at the end of the domain removed.
 * Letters stay as they are. The null address "" stays empty. Owned by ctx.
 */
char *rewrite_standard_form(const struct rewrite *rw, const void *ctx, const char *addr);

/* The address is one of this host's local users (myorigin, mydestination, own literals): table keys without
 * domain apply to it. TABLE_FOUND, TABLE_ABSENT or TABLE_FAILED. */
co_fn enum table_end rewrite_is_local(const struct rewrite *rw, const char *addr);

enum rewrite_end {
    REWRITE_ROUTE,   /* transport and nexthop are set */
    REWRITE_REFUSED, /* dsn and text: for good ("5.1.3", "bad address syntax") */
    REWRITE_LATER,   /* dsn and text: for now; a table failed */
};
struct rewrite_route {
    const char *transport; /* name of a service in master.cf: "smtp", "error" */
    const char *nexthop;   /* "[127.0.0.1]:25", "example.com", the text of an error; never NULL */
    enum table_class class;
    char dsn[12];
    const char *text;
};
/* Texts are owned by ctx or live as long as rw. The recipient is one in standard form; the sender is for
 * sender-dependent routes, which do not exist yet. */
co_fn enum rewrite_end rewrite_resolve(const struct rewrite *rw, const void *ctx, const char *sender,
                                       const char *recipient, struct rewrite_route *out_r);
/*
 * The route that a FILTER action or content_filter ("transport:nexthop") puts in the place of the recipient's
 * own. An empty next hop is default_filter_nexthop, else the recipient's domain. False: no transport in the
 * text.
 */
bool rewrite_filter_route(const struct rewrite *rw, const void *ctx, const char *filter,
                          const char *recipient, struct rewrite_route *out_r);

#endif
