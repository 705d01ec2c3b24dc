/*
 * Ordered rules: the syntax that regexp:, pcre: and cidr: share.
 *
 *     [!]PATTERN result
 *     if [!]PATTERN ... endif
 *
 * The first rule that matches answers. A reader takes rules from a file or from {{...}, {...}}; what a
 * pattern is, and whether the result may have $1 in it, the type says.
 */
#ifndef TABLE_TABLE_RULES_H
#define TABLE_TABLE_RULES_H

#include "table_type.h"

enum { TABLE_GROUPS_LIMIT = 100 }; /* $0 to $99 */

/* What is matched, and what matched: group 0 is the whole match; p NULL: the group took no part. */
struct table_subject {
    struct bytes text;
    struct table_net addr; /* cidr: the text as an address */
    struct bytes groups[TABLE_GROUPS_LIMIT];
};

enum table_match { TABLE_MATCH, TABLE_NO_MATCH, TABLE_MATCH_FAULT /* logged */ };

struct table_rules_type {
    bool has_groups; /* $1 in the result */
    /* Reads a pattern at *text and moves behind it. *groups_r: number of groups. The pattern is owned by ctx.
     */
    struct error *(*compile)(const void *ctx, char **text, void **pattern_r, unsigned *groups_r);
    enum table_match (*match)(const void *pattern, struct table_subject *s);
};

struct table_rules;
struct error *table_rules_read(const void *ctx, const struct table_rules_type *type,
                               struct table_lines *lines, struct table_rules **rules_r);
enum table_end table_rules_find(const struct table_rules *r, const void *ctx, struct table_subject *s,
                                char **value_r);
/* For a type's `open`: t->name is a file, or the rules themselves in braces. */
struct error *table_rules_open(struct table *t, const void *ctx, const struct table_rules_type *type,
                               void **state_r);

/* "/text/flags": *body_r is cut out of *text in place; *flags_r points at the flags, *text behind them. */
struct error *table_rules_delimited(char **text, char **body_r, struct bytes *flags_r);

#endif
