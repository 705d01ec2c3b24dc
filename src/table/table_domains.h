/*
 * Address classes (Postfix's ADDRESS_CLASS_README): whose domain is it, and is there such a user.
 *
 *     local            mydestination, or [an own address] (inet_interfaces, proxy_interfaces)
 *     virtual alias    virtual_alias_domains
 *     virtual mailbox  virtual_mailbox_domains
 *     relay            relay_domains
 *     default          everything else: mail for it is relayed to strangers
 *
 * The lists are bound once at open. Used by access control and by address resolving, which must agree.
 */
#ifndef TABLE_TABLE_DOMAINS_H
#define TABLE_TABLE_DOMAINS_H

#include "table.h"

enum table_class {
    TABLE_CLASS_DEFAULT,
    TABLE_CLASS_LOCAL,
    TABLE_CLASS_VIRTUAL_ALIAS,
    TABLE_CLASS_VIRTUAL_MAILBOX,
    TABLE_CLASS_RELAY,
};
/* "local recipient table", ...; NULL for the default class. */
const char *table_class_user_table(enum table_class which);

struct table_domains;
struct error *table_domains_open(const void *ctx, const struct conf *conf, struct table_domains **d_r);

/* TABLE_FOUND and the class, or TABLE_FAILED. The domain may end in one dot, or be "[literal]"; "" is
 * myorigin. */
co_fn enum table_end table_domains_class(const struct table_domains *d, struct bytes domain,
                                         enum table_class *class_r);
/*
 * Is there such a recipient? addr is the internal form; without domain it is one of myorigin. TABLE_FOUND:
 * yes, or its class has no table that could tell, or it is one that this host makes itself (postmaster,
 * double-bounce); TABLE_ABSENT: no. *class_r is set unless the lookup failed.
 */
co_fn enum table_end table_domains_has_user(const struct table_domains *d, const char *addr,
                                            enum table_class *class_r);

/* An address of this host, "192.0.2.1" or "2001:db8::1": one it listens on, or (has_proxy) of
 * proxy_interfaces. */
bool table_domains_is_own_address(const struct table_domains *d, const char *addr, bool has_proxy);
/* The local-part-only table keys apply: the domain is myorigin, mydestination or an own literal. */
co_fn enum table_end table_domains_is_local(const struct table_domains *d, struct bytes domain);

#endif
