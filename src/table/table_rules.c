/*
 * The reader and the walk of ordered rules. See table_rules.h.
 *
 * An `if` knows the rule behind its `endif`, so a block that does not apply is one jump. A result is cut into
 * pieces of text and group numbers once, at open; a rule that can never work is refused then, with file and
 * line.
 */
#include "table_rules.h"

#include "buf.h"
#include "log.h"
#include "mem.h"

#include <errno.h>
#include <strings.h>

enum { NESTING_LIMIT = 100, RULES_LIMIT = 1000000 };

enum rule_kind { RULE_RESULT, RULE_IF, RULE_ENDIF };

struct piece {
    const char *text; /* NULL: a group */
    unsigned group;
};

struct rule {
    enum rule_kind kind;
    bool negated;
    unsigned line;
    unsigned groups;
    void *pattern;
    size_t behind; /* RULE_IF: the rule after its endif */
    struct piece *pieces;
    size_t piece_n;
};

struct table_rules {
    const struct table_rules_type *type;
    const char *name;
    struct rule *at;
    size_t n, room;
    size_t open_ifs[NESTING_LIMIT];
    size_t depth;
};

/* ---- results ---- */

static void add_piece(const void *ctx, struct rule *rule, const char *text, unsigned group)
{
    rule->pieces = mem_grow(ctx, rule->pieces, rule->piece_n + 1);
    rule->pieces[rule->piece_n++] = (struct piece){text, group};
}

/* $1, ${1}, $(1) at *p, which is behind the '$'. */
static struct error *read_group(struct bytes *rest, const struct rule *rule, unsigned *group_r)
{
    char closing = rest->n == 0 ? '\0' : rest->p[0] == '{' ? '}' : rest->p[0] == '(' ? ')' : '\0';
    struct bytes digits;
    size_t n = 0;
    uint64_t group;

    if (closing != '\0')
        *rest = bytes_skip(*rest, 1);
    while (n < rest->n && ascii_is_digit(rest->p[n]))
        n++;
    digits = bytes(rest->p, n);
    *rest = bytes_skip(*rest, n);
    if (!bytes_to_u64(digits, TABLE_GROUPS_LIMIT - 1, &group))
        return error_new(ERROR_CONF, "bad replacement index after \"$\"; write \"$$\" for \"$\"");
    if (closing != '\0') {
        if (rest->n == 0 || rest->p[0] != closing)
            return error_new(ERROR_CONF, "missing \"%c\" after replacement index", closing);
        *rest = bytes_skip(*rest, 1);
    }
    if (group > rule->groups)
        return error_new(ERROR_CONF, "out of range replacement index \"%u\"", (unsigned)group);
    if (rule->negated)
        return error_new(ERROR_CONF, "$number is not allowed with a negative match");
    *group_r = (unsigned)group;
    return NULL;
}

static struct error *compile_result(struct table_rules *r, struct rule *rule, const char *text)
{
    struct bytes rest = bytes_of(text);
    struct error *e;
    unsigned group = 0;

    while (r->type->has_groups && bytes_chr(rest, '$') != SIZE_MAX) {
        struct bytes plain = bytes_cut(&rest, '$');

        if (plain.n > 0)
            add_piece(r, rule, bytes_dup(r, plain), 0);
        if (rest.n > 0 && rest.p[0] == '$') {
            add_piece(r, rule, "$", 0);
            rest = bytes_skip(rest, 1);
            continue;
        }
        if ((e = read_group(&rest, rule, &group)) != NULL)
            return e;
        add_piece(r, rule, NULL, group);
    }
    add_piece(r, rule, bytes_dup(r, rest), 0);
    return NULL;
}

static char *expand_result(const void *ctx, const struct rule *rule, const struct table_subject *s)
{
    struct buf out = {0};
    char *value;

    if (rule->piece_n == 1 && rule->pieces[0].text != NULL)
        return mem_strdup(ctx, rule->pieces[0].text);
    for (size_t i = 0; i < rule->piece_n; i++) {
        const struct piece *p = &rule->pieces[i];
        struct bytes group = p->text != NULL ? bytes_of(p->text) : s->groups[p->group];

        if (group.p != NULL)
            buf_add(&out, group);
    }
    value = bytes_dup(ctx, bytes(buf_text(&out), out.n));
    buf_deinit(&out);
    return value;
}

/* ---- rules ---- */

struct error *table_rules_delimited(char **text, char **body_r, struct bytes *flags_r)
{
    char *p = *text, delimiter = *p++;

    if (delimiter == '\0' || ascii_is_alpha(delimiter) || ascii_is_digit(delimiter) || delimiter == '\\')
        return error_new(ERROR_CONF, "need a pattern between delimiters, /pattern/");
    *body_r = p;
    for (; *p != '\0' && *p != delimiter; p++)
        if (*p == '\\' && p[1] != '\0')
            p++;
    if (*p == '\0')
        return error_new(ERROR_CONF, "no closing pattern delimiter \"%c\"", delimiter);
    *p++ = '\0';
    flags_r->p = p;
    flags_r->n = strcspn(p, " \t");
    *text = p + flags_r->n;
    return NULL;
}

static char *skip_blanks(char *p)
{
    return p + strspn(p, " \t");
}

static struct error *compile_pattern(struct table_rules *r, struct rule *rule, char **p)
{
    *p = skip_blanks(*p);
    for (; **p == '!'; *p = skip_blanks(*p + 1))
        rule->negated = !rule->negated;
    return r->type->compile(r, p, &rule->pattern, &rule->groups);
}

static struct error *read_if(struct table_rules *r, struct rule *rule, char *p)
{
    struct error *e = compile_pattern(r, rule, &p);

    rule->kind = RULE_IF;
    if (e != NULL)
        return e;
    if (*skip_blanks(p) != '\0')
        return error_new(ERROR_CONF, "extra text after \"if\" statement");
    if (r->depth == NESTING_LIMIT)
        return error_new(ERROR_CONF, "more than %d \"if\" inside each other", NESTING_LIMIT);
    r->open_ifs[r->depth++] = r->n;
    return NULL;
}

static struct error *read_endif(struct table_rules *r, struct rule *rule, const char *p)
{
    rule->kind = RULE_ENDIF;
    if (p[strspn(p, " \t")] != '\0')
        return error_new(ERROR_CONF, "extra text after \"endif\" statement");
    if (r->depth == 0)
        return error_new(ERROR_CONF, "\"endif\" without \"if\"");
    r->at[r->open_ifs[--r->depth]].behind = r->n + 1;
    return NULL;
}

static struct error *read_result(struct table_rules *r, struct rule *rule, char *p)
{
    struct error *e = compile_pattern(r, rule, &p);

    if (e != NULL)
        return e;
    if (*p != '\0' && !ascii_is_blank(*p))
        return error_new(ERROR_CONF, "unexpected text after the pattern: \"%s\"", p);
    p = skip_blanks(p);
    if (*p == '\0')
        log_warn("%s:%u: no replacement text: using empty string", r->name, rule->line);
    return compile_result(r, rule, p);
}

static bool is_word(const char *line, const char *word)
{
    size_t n = strlen(word);

    return strncasecmp(line, word, n) == 0 && (line[n] == '\0' || strchr(" \t!/", line[n]) != NULL);
}

static struct error *read_rule(struct table_rules *r, char *line, unsigned number)
{
    struct rule *rule;
    struct error *e;

    if (r->n == RULES_LIMIT)
        return error_new(ERROR_CONF, "%s: more than %d rules", r->name, RULES_LIMIT);
    if (r->n == r->room) {
        r->room = r->room ? r->room * 2 : 16;
        r->at = mem_grow(r, r->at, r->room);
    }
    rule = &r->at[r->n];
    *rule = (struct rule){.line = number};
    if (is_word(line, "if"))
        e = read_if(r, rule, line + 2);
    else if (is_word(line, "endif"))
        e = read_endif(r, rule, line + 5);
    else
        e = read_result(r, rule, line);
    r->n++;
    return error_prepend(e, "%s:%u", r->name, number);
}

static struct table_rules *rules_new(const void *ctx, const struct table_rules_type *type, const char *name)
{
    struct table_rules *r = mem_new(ctx, struct table_rules);

    r->type = type;
    r->name = mem_strdup(r, name);
    return r;
}

static struct error *rules_end(const struct table_rules *r)
{
    if (r->depth == 0)
        return NULL;
    return error_new(ERROR_CONF, "%s:%u: \"if\" has no matching \"endif\"", r->name,
                     r->at[r->open_ifs[r->depth - 1]].line);
}

struct error *table_rules_read(const void *ctx, const struct table_rules_type *type,
                               struct table_lines *lines, struct table_rules **rules_r)
{
    struct table_rules *r = rules_new(ctx, type, lines->name);
    struct error *e;
    char *line;

    while ((e = table_lines_next(lines, &line)) == NULL && line != NULL)
        if ((e = read_rule(r, line, lines->number)) != NULL)
            break;
    if (e == NULL)
        e = rules_end(r);
    if (e != NULL)
        talloc_free(r);
    else
        *rules_r = r;
    return e;
}

static struct error *read_inline(const void *ctx, const struct table_rules_type *type, const char *inside,
                                 struct table_rules **rules_r)
{
    struct table_rules *r = rules_new(ctx, type, "inline");
    struct error *e = NULL;
    unsigned number = 0;
    char *item;

    while (e == NULL && (item = conf_list_next(r, &inside)) != NULL)
        e = read_rule(r, skip_blanks(item), ++number);
    if (e == NULL)
        e = number > 0 ? rules_end(r) : error_new(ERROR_CONF, "empty inline table");
    *rules_r = r;
    return e;
}

struct error *table_rules_open(struct table *t, const void *ctx, const struct table_rules_type *type,
                               void **state_r)
{
    char *inside = table_unbrace(ctx, t->name);
    struct table_rules *r = NULL;
    struct table_lines *lines;
    struct error *e;

    if (inside != NULL) {
        e = read_inline(ctx, type, inside, &r);
        talloc_free(inside);
    } else if ((e = table_lines_open(NULL, t->name, &lines)) == NULL) {
        e = table_rules_read(ctx, type, lines, &r);
        table_file_note(&t->file, t, t->name, &lines->st);
        talloc_free(lines);
    }
    *state_r = r;
    return e;
}

/* ---- the walk ---- */

enum table_end table_rules_find(const struct table_rules *r, const void *ctx, struct table_subject *s,
                                char **value_r)
{
    for (size_t i = 0; i < r->n;) {
        const struct rule *rule = &r->at[i];
        enum table_match match;

        if (rule->kind == RULE_ENDIF) {
            i++;
            continue;
        }
        match = r->type->match(rule->pattern, s);
        if (match == TABLE_MATCH_FAULT) {
            log_warn("%s:%u: the pattern cannot be tried on this text", r->name, rule->line);
            return TABLE_FAILED;
        }
        if ((match == TABLE_MATCH) == rule->negated) {
            i = rule->kind == RULE_IF ? rule->behind : i + 1;
        } else if (rule->kind == RULE_IF) {
            i++;
        } else {
            *value_r = expand_result(ctx, rule, s);
            return TABLE_FOUND;
        }
    }
    return TABLE_ABSENT;
}
