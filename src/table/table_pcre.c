/*
 * pcre:, Perl's regular expressions by PCRE2.
 *
 *     /pattern/flags result
 *
 * Without regard to case and with "." matching newlines, until a flag turns that round: i case, m lines, s
 * dot, x extended, A anchored, E dollar at the very end, U ungreedy. A text that makes a pattern backtrack
 * beyond the limit is a failed lookup, never "no match". Compiled code runs on a stack of its own, not on the
 * coroutine's.
 */
#include "log.h"
#include "mem.h"
#include "table_rules.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

enum { MATCH_LIMIT = 1000000, HEAP_LIMIT_KB = 20000, JIT_STACK_MIN = 32 << 10, JIT_STACK_MAX = 1 << 20 };

struct pattern {
    pcre2_code *code;
    pcre2_match_data *data;
    unsigned groups;
};

/* Shared by all patterns: a match never waits. */
static pcre2_match_context *match_context;

static pcre2_match_context *the_match_context(void)
{
    if (match_context == NULL) {
        pcre2_jit_stack *stack = pcre2_jit_stack_create(JIT_STACK_MIN, JIT_STACK_MAX, NULL);

        match_context = pcre2_match_context_create(NULL);
        if (match_context == NULL || stack == NULL)
            log_fatal("out of memory");
        pcre2_set_match_limit(match_context, MATCH_LIMIT);
        pcre2_set_heap_limit(match_context, HEAP_LIMIT_KB);
        pcre2_jit_stack_assign(match_context, NULL, stack);
    }
    return match_context;
}

static int pattern_destroy(struct pattern *p)
{
    pcre2_match_data_free(p->data);
    pcre2_code_free(p->code);
    return 0;
}

static struct error *read_flags(struct bytes flags, uint32_t *options)
{
    static const struct {
        char letter;
        uint32_t option;
    } known[] = {
        {'i', PCRE2_CASELESS}, {'m', PCRE2_MULTILINE},      {'s', PCRE2_DOTALL},   {'x', PCRE2_EXTENDED},
        {'A', PCRE2_ANCHORED}, {'E', PCRE2_DOLLAR_ENDONLY}, {'U', PCRE2_UNGREEDY}, {'X', 0},
    };

    for (size_t i = 0; i < flags.n; i++) {
        size_t k = 0, n = sizeof(known) / sizeof(known[0]);

        while (k < n && known[k].letter != flags.p[i])
            k++;
        if (k == n)
            return error_new(ERROR_CONF, "unknown PCRE option \"%c\"", flags.p[i]);
        *options ^= known[k].option;
    }
    return NULL;
}

static struct error *compile_body(struct pattern *p, const char *body, uint32_t options)
{
    PCRE2_SIZE at;
    uint32_t groups;
    char why[256];
    int code;

    p->code = pcre2_compile((PCRE2_SPTR)body, strlen(body), options, &code, &at, NULL);
    if (p->code == NULL) {
        pcre2_get_error_message(code, (PCRE2_UCHAR *)why, sizeof(why));
        return error_new(ERROR_CONF, "error in regex at offset %zu: %s", (size_t)at, why);
    }
    pcre2_jit_compile(p->code, PCRE2_JIT_COMPLETE); /* no JIT here: it is interpreted */
    pcre2_pattern_info(p->code, PCRE2_INFO_CAPTURECOUNT, &groups);
    p->groups = groups < TABLE_GROUPS_LIMIT ? groups : TABLE_GROUPS_LIMIT - 1;
    p->data = pcre2_match_data_create(p->groups + 1, NULL);
    if (p->data == NULL)
        log_fatal("out of memory");
    return NULL;
}

static struct error *pcre_compile(const void *ctx, char **text, void **pattern_r, unsigned *groups_r)
{
    uint32_t options = PCRE2_CASELESS | PCRE2_DOTALL;
    struct bytes flags;
    struct pattern *p;
    struct error *e;
    char *body;

    if ((e = table_rules_delimited(text, &body, &flags)) != NULL || (e = read_flags(flags, &options)) != NULL)
        return e;
    p = mem_new(ctx, struct pattern);
    talloc_set_destructor(p, pattern_destroy);
    if ((e = compile_body(p, body, options)) != NULL)
        return e;
    *groups_r = p->groups;
    *pattern_r = p;
    return NULL;
}

static enum table_match pcre_match(const void *pattern, struct table_subject *s)
{
    const struct pattern *p = pattern;
    int code = pcre2_match(p->code, (PCRE2_SPTR)s->text.p, s->text.n, 0, 0, p->data, the_match_context());
    const PCRE2_SIZE *at = pcre2_get_ovector_pointer(p->data);

    if (code == PCRE2_ERROR_NOMATCH)
        return TABLE_NO_MATCH;
    if (code < 0)
        return TABLE_MATCH_FAULT;
    for (unsigned i = 0; i <= p->groups; i++)
        s->groups[i] = at[2 * i] == PCRE2_UNSET || at[2 * i + 1] < at[2 * i]
                           ? (struct bytes){NULL, 0}
                           : bytes(s->text.p + at[2 * i], at[2 * i + 1] - at[2 * i]);
    return TABLE_MATCH;
}

static const struct table_rules_type pcre_rules = {
    .has_groups = true,
    .compile = pcre_compile,
    .match = pcre_match,
};

static struct error *pcre_open(struct table *t, const void *ctx, const struct conf *conf, void **state_r)
{
    return table_rules_open(t, ctx, &pcre_rules, state_r);
}

static enum table_end pcre_find(struct table *t, const void *ctx, struct bytes key, char **value_r)
{
    struct table_subject s;

    s.text = key;
    return table_rules_find(t->state, ctx, &s, value_r);
}

const struct table_type table_type_pcre = {
    .name = "pcre",
    .is_pattern = true,
    .open = pcre_open,
    .find = pcre_find,
};
