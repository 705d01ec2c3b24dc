/*
 * What the files of conf/ share and nobody else sees: the inside of a configuration, logical lines, parsing
 * of values.
 */
#ifndef CONF_OWN_H
#define CONF_OWN_H

#include "buf.h"
#include "conf.h"

#include <uthash.h>

#define CONF_FILE_LIMIT   (4u << 20) /* bytes of main.cf or master.cf */
#define CONF_NEST_LIMIT   100        /* $a inside the value of $b inside ... */
#define CONF_EXPAND_STEPS 20000      /* references that one expansion may follow */
#define CONF_EXPAND_BYTES (1u << 20) /* of the expanded text */
#define CONF_FAULT_LIMIT  1000       /* more faults than anybody reads */

struct conf_entry {
    char *name;
    char *value; /* as written, trimmed */
    char *file;
    unsigned line;
    bool is_internal; /* set by us for each service (service_name), not by the administrator */
    UT_hash_handle hh;
};

struct conf_cached {
    char *name;
    char *text;
    UT_hash_handle hh;
};

struct conf {
    const struct conf *base; /* NULL: over the defaults */
    char *dir;
    struct conf_entry *set;
    struct conf_cached *cache; /* expanded texts */
};

/* ---- conf_lines.c ---- */

struct conf_lines {
    struct bytes rest;
    unsigned line; /* number of the first line in rest */
    const char *file;
    struct conf_faults *faults;
};
void conf_lines_init(struct conf_lines *l, struct bytes text, const char *file, struct conf_faults *faults);
/* The next logical line, without comments, joined, in out; its first line's number. False at the end. */
bool conf_lines_next(struct conf_lines *l, struct buf *out, unsigned *line_r);
/* The whole file; NULL after a fault was added. Free with talloc_free. */
char *conf_file_read(const void *ctx, const char *file, struct conf_faults *faults, size_t *n_r);

/* ---- conf_main.c ---- */

/* Cuts "name = value". NULL, or what is wrong (a constant). Both parts borrow from line. */
const char *conf_split(struct bytes line, struct bytes *name_r, struct bytes *value_r);
void conf_main_parse(struct conf *c, struct bytes text, const char *file, struct conf_faults *faults);

/* ---- conf.c ---- */

const struct conf_entry *conf_entry_find(const struct conf *c, const char *name);
/* Sets what we know better than the administrator: it is neither his setting nor his fault. */
void conf_set_internal(struct conf *c, const char *name, const char *value);
/* The value as written, or the default as declared (or found at run time); NULL: neither set nor declared. */
const char *conf_raw(const struct conf *c, const char *name);
/* Whether conf_text_for and its kin may be asked: "slow_destination_concurrency_limit"; the parameter that
 * gives type and default, or NULL. */
const struct conf_param *conf_param_of_transport(const char *name);

/* ---- conf_runtime.c ---- */

/* A default that depends on the machine: myhostname, mydomain, mynetworks. NULL: not such a one. */
const char *conf_runtime_default(const struct conf *c, const char *name);

/* ---- conf_value.c ---- */

/* NULL, or the fault in Postfix's words; free with talloc_free. */
char *conf_bool_parse(const void *ctx, const char *name, const char *text, bool *out_r);
char *conf_number_parse(const void *ctx, const struct conf_param *p, const char *name, const char *text,
                        long *out_r);
char *conf_time_parse(const void *ctx, const struct conf_param *p, const char *name, const char *text,
                      uint64_t *ms_r);
char *conf_text_check(const void *ctx, const struct conf_param *p, const char *name, const char *text);
/* Any of these, by type. */
char *conf_value_check(const void *ctx, const struct conf_param *p, const char *name, const char *text);

/* ---- conf_expand.c ---- */

/* conf_expand of a parameter's value: blanks at both ends, as from ${name?{ yes }}, are no part of it. */
struct error *conf_expand_value(const void *ctx, const struct conf *c, const char *raw, char **out_r);

/* ---- conf_validate.c, conf_used.c ---- */

struct conf_used;
/* Names that some value of c, or master.cf in its folder, refers to. */
struct conf_used *conf_used_new(const void *ctx, const struct conf *c);
bool conf_used_has(const struct conf_used *u, const char *name);

/* ---- conf_names.c ---- */

/* Whether Postfix has a parameter of this name that conf_params() does not declare. */
bool conf_is_postfix_name(const char *name);

/* ---- conf_lint.c ---- */

/* The expanded text, or "" for one that conf_validate has complained of. Owned by ctx. */
char *conf_lint_text(const void *ctx, const struct conf *c, const char *name);
/* The number, or 0 for one that conf_validate has complained of. */
long conf_lint_number(const struct conf *c, const char *name);
/* The time in milliseconds, likewise. */
uint64_t conf_lint_time_ms(const struct conf *c, const char *name);
/* Whether one of the words (NULL ends them) is an item of the list, without case. */
bool conf_lint_list_has(const char *list, const char *const *words);
/* Whether this is an item of the parameter, without case. */
bool conf_lint_has_item(const struct conf *c, const char *name, const char *item);
/* Whether it is an smtpd that gives mail to a filter in another server. */
bool conf_lint_has_filter(const struct conf_service *s);
/* Whether it is a filter that hands mail on to another server. */
bool conf_lint_has_nexthop(const struct conf_service *s);
/* The first of a list of endpoints that leads to the service, as "host:port"; NULL: none does. Owned by ctx.
 */
char *conf_lint_endpoint(const void *ctx, const struct conf_service *s, const char *list);

/* ---- conf_lint_admission.c ---- */

/* Faults of the slots of a before-filter server's filter, and of who may wait for one. */
void conf_lint_admission(const struct conf_service *s, const struct conf_services *all,
                         struct conf_faults *faults);
/* Whether it is an smtpd with a filter that takes so many messages at once. */
bool conf_lint_wants_slots(const struct conf_service *s);

/* ---- conf_lint_filters.c ---- */

/* A fault at the first service whose filter is one more than a host may have with slots; warnings about
 * services that do not agree about a filter that they share, and about ways beside it that no ladder takes.
 */
void conf_lint_filters(const struct conf_services *all, struct conf_faults *faults);

/* ---- conf_lint_cut.c ---- */

/* Warnings about settings of what speaks to a filter, or to the server behind one, that another one cuts. */
void conf_lint_cut(const struct conf_service *s, struct conf_faults *faults);

/* ---- conf_lint_needs.c ---- */

/* Warnings about settings of before-filter servers that have no effect as long as another one is off, and
 * about those of a filter that only such a server makes use of. */
void conf_lint_needs(const struct conf_services *all, struct conf_faults *faults);

/* ---- conf_lint_service.c ---- */

/* Faults of the commands, and a warning when there is no scheduler. */
void conf_lint_services(const struct conf_services *all, struct conf_faults *faults);

/* ---- conf_lint_direct.c ---- */

/* Faults of an smtpd whose smtpd_proxy_filter, expanded, is `filter`. looks: some engine or table is set for
 * it. */
void conf_lint_direct(const struct conf_service *s, const char *filter, bool looks,
                      struct conf_faults *faults);
/* Whether it looks into mail itself. */
bool conf_filter_is_direct(const char *filter);

/* ---- conf_lint_endpoint.c ---- */

/* One endpoint of a filter, [inet:][host:]port: what is wrong with it, or NULL. unix:path has no port. */
char *conf_lint_inet(const void *ctx, const char *text, char **host_r, char **port_r);
/* Those of a parameter that cannot be connected to as they are written. */
void conf_lint_endpoints(const struct conf_service *s, const char *parameter, struct conf_faults *faults);

/* ---- conf_suggest.c ---- */

/* The declared name nearest to `name`; NULL when none is near. */
const char *conf_suggest(const char *name);
/* The same for a command of master.cf. */
const char *conf_suggest_command(const char *name);

/* ---- conf_master.c ---- */

struct conf_services conf_services_parse(const void *ctx, struct conf *main_conf, struct bytes text,
                                         const char *file, struct conf_faults *faults);
/* conf_endpoint.c: cuts "host:port", "[v6]:port", ":port", "port". NULL, or what is wrong; owned by ctx. */
char *conf_endpoint_parse(const void *ctx, const char *name, char **host_r, char **port_r);

#endif
