/*
 * Lookup tables ("type:name") and the lists made of them.
 *
 * A table is opened once per worker and shared by all that name it. A key is text from the wire: it is folded
 * to lower case for tables that fold, and refused (absent) when it holds NUL. Lookups may wait (sockets,
 * databases); the value is a copy owned by the caller's ctx.
 */
#ifndef TABLE_TABLE_H
#define TABLE_TABLE_H

#include "bytes.h"
#include "co.h"
#include "conf.h"
#include "error.h"

#include <sys/socket.h>

enum table_end {
    TABLE_FOUND,
    TABLE_ABSENT,
    TABLE_FAILED, /* the table cannot be read now; logged by the table: answer 451, never "absent" */
};

struct table;

/*
 * "hash:/etc/postfix/x", "texthash:", "lmdb:", "inline:{...}", "static:", "regexp:", "pcre:", "cidr:",
 * "unionmap:{...}"; "proxy:" is served in-process. Opening a table that is missing or malformed is an
 * ERROR_CONF that names file and line. The same spec gives the same table. Lives until the process ends.
 */
struct error *table_open(const char *spec, const struct conf *conf, struct table **table_r);
co_fn enum table_end table_find(struct table *t, const void *ctx, struct bytes key, char **value_r);
/* regexp, pcre, cidr...: only the whole key is asked, never parts of it. */
bool table_wants_whole_key(const struct table *t);
const char *table_spec(const struct table *t);
/* The file behind it has changed since it was read. hash, btree and lmdb are opened anew by themselves at the
 * next lookup; texthash, regexp, pcre and cidr stay as they are until the process is replaced (reload). */
bool table_has_changed(const struct table *t);
/* Any open table of the second kind has. */
bool table_any_has_changed(void);
/* For tests and leak checks: every table is closed; nothing may hold one. */
void table_close_all(void);

/* ---- an ordered list of tables: the value of *_maps parameters ---- */

struct table_maps {
    struct table **at;
    size_t n;
};
struct error *table_maps_open(const void *ctx, const char *list, const struct conf *conf,
                              struct table_maps *out_r);
/* The key as it is, in each table in turn. */
co_fn enum table_end table_maps_find(const struct table_maps *m, const void *ctx, struct bytes key,
                                     char **value_r);
/*
 * The address search common to virtual, canonical and recipient tables: user+ext@dom, user@dom, user+ext,
 * user (the last two only when the domain is local: `is_local`), @dom. `addr` is the internal form; delimiter
 * is recipient_delimiter. *extension_r (may be NULL) is the extension that did not take part in the match
 * ("+ext", with its delimiter), or NULL.
 */
co_fn enum table_end table_maps_find_address(const struct table_maps *m, const void *ctx, const char *addr,
                                             const char *delimiter, bool is_local, char **value_r,
                                             char **extension_r);

/* Where the extension of a local part begins (at its delimiter); SIZE_MAX: it has none. */
size_t table_extension_at(struct bytes local, const char *delimiter);

/* ---- match lists: mynetworks, mydestination, relay_domains, ..._hosts ---- */

struct table_list;
enum table_list_kind { TABLE_LIST_HOSTS /* names, addresses, nets */, TABLE_LIST_DOMAINS, TABLE_LIST_TEXT };
/*
 * items: names, .domain, addresses, net/mask, !negated, /file, type:table. `parents`: a plain domain also
 * matches its subdomains (the parameter is in parent_domain_matches_subdomains). Faults name the parameter.
 */
struct error *table_list_open(const void *ctx, const char *param, const char *items,
                              enum table_list_kind kind, bool parents, const struct conf *conf,
                              struct table_list **list_r);
/* Convenience: the parameter's value from conf, with `parents` looked up in parent_domain_matches_subdomains.
 */
struct error *table_list_open_param(const void *ctx, const char *param, enum table_list_kind kind,
                                    const struct conf *conf, struct table_list **list_r);
bool table_parents_match(const struct conf *conf, const char *param);
co_fn enum table_end table_list_has(const struct table_list *l, struct bytes text); /* DOMAINS, TEXT */
co_fn enum table_end table_list_has_host(const struct table_list *l, const char *name,
                                         const char *addr); /* HOSTS */

/* `sallyport map`, postmap's job: build TYPE:FILE from FILE; query; delete. Used by the tool, blocking. */
struct error *table_build(const char *spec, const struct conf *conf);
struct error *table_remove(const char *spec, const char *key, bool *was_there_r);

#endif
