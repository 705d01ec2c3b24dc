/*
 * regexp:, POSIX regular expressions.
 *
 *     /pattern/flags result
 *
 * Extended and without regard to case, until a flag turns that round: i case, x extended, m newlines are line
 * ends for ^ and $. Matching uses some 20 KB of stack whatever the text (glibc 2.36), so it may run in a
 * coroutine.
 */
#include "log.h"
#include "mem.h"
#include "table_rules.h"

#include <regex.h>

struct pattern {
    regex_t re;
    size_t groups;
};

static int pattern_destroy(struct pattern *p)
{
    regfree(&p->re);
    return 0;
}

static struct error *read_flags(struct bytes flags, int *options)
{
    for (size_t i = 0; i < flags.n; i++)
        switch (flags.p[i]) {
        case 'i':
            *options ^= REG_ICASE;
            break;
        case 'm':
            *options ^= REG_NEWLINE;
            break;
        case 'x':
            *options ^= REG_EXTENDED;
            break;
        default:
            return error_new(ERROR_CONF, "unknown regexp option \"%c\"", flags.p[i]);
        }
    return NULL;
}

static struct error *regexp_compile(const void *ctx, char **text, void **pattern_r, unsigned *groups_r)
{
    int options = REG_EXTENDED | REG_ICASE, code;
    struct bytes flags;
    struct pattern *p;
    struct error *e;
    char *body, why[256];

    if ((e = table_rules_delimited(text, &body, &flags)) != NULL || (e = read_flags(flags, &options)) != NULL)
        return e;
    p = mem_new(ctx, struct pattern);
    if ((code = regcomp(&p->re, body, options)) != 0) {
        regerror(code, &p->re, why, sizeof(why));
        return error_new(ERROR_CONF, "\"%s\": %s", body, why);
    }
    talloc_set_destructor(p, pattern_destroy);
    p->groups = p->re.re_nsub < TABLE_GROUPS_LIMIT - 1 ? p->re.re_nsub : TABLE_GROUPS_LIMIT - 1;
    *groups_r = (unsigned)p->groups;
    *pattern_r = p;
    return NULL;
}

static enum table_match regexp_match(const void *pattern, struct table_subject *s)
{
    const struct pattern *p = pattern;
    regmatch_t m[TABLE_GROUPS_LIMIT];
    int code = regexec(&p->re, s->text.p, p->groups + 1, m, 0);

    if (code == REG_NOMATCH)
        return TABLE_NO_MATCH;
    if (code != 0)
        return TABLE_MATCH_FAULT;
    for (size_t i = 0; i <= p->groups; i++)
        s->groups[i] = m[i].rm_so < 0 ? (struct bytes){NULL, 0}
                                      : bytes(s->text.p + m[i].rm_so, (size_t)(m[i].rm_eo - m[i].rm_so));
    return TABLE_MATCH;
}

static const struct table_rules_type regexp_rules = {
    .has_groups = true,
    .compile = regexp_compile,
    .match = regexp_match,
};

static struct error *regexp_open(struct table *t, const void *ctx, const struct conf *conf, void **state_r)
{
    return table_rules_open(t, ctx, &regexp_rules, state_r);
}

static enum table_end regexp_find(struct table *t, const void *ctx, struct bytes key, char **value_r)
{
    struct table_subject s;

    s.text = key;
    return table_rules_find(t->state, ctx, &s, value_r);
}

const struct table_type table_type_regexp = {
    .name = "regexp",
    .is_pattern = true,
    .open = regexp_open,
    .find = regexp_find,
};
