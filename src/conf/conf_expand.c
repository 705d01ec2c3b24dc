/*
 * $name and its relatives, expanded when a value is used, so that the order of definitions does not matter.
 *
 *     $name ${name} $(name)          the value, itself expanded; nothing when there is none
 *     ${name?text} ${name?{text}}    text when the value is not empty
 *     ${name:text} ${name:{text}}    text when it is empty
 *     ${name?{a}:{b}}                one or the other
 *     ${{l} op {r} ? {a} : {b}}      by comparing: == != < <= >= >, as numbers when both are digits; with
 * "level" behind the operator as compatibility levels (3.6 < 3.10)
 *     ${function{text}}              domain_to_ascii, domain_to_utf8: names that are ASCII already
 *     $$                             a dollar
 *
 * A value that leads to itself ends at the nesting limit; one that multiplies (a=$b$b, b=$c$c ...) at a limit
 * of steps and bytes.
 */
#include "conf_own.h"
#include "mem.h"

struct expansion {
    const struct conf *c;
    unsigned names; /* values inside values */
    unsigned depth; /* those, and branches inside branches */
    unsigned steps;
    struct error *error; /* the first; everything stops at it */
};

static void expand_text(struct expansion *x, struct bytes text, struct buf *out);

static int shown(struct bytes b)
{
    return b.n > 80 ? 80 : (int)b.n;
}

static void fail(struct expansion *x, const char *what, struct bytes where)
{
    if (x->error == NULL)
        x->error = error_new(ERROR_CONF, "%s: \"%.*s\"", what, shown(where), where.p);
}

static bool is_name_char(char c)
{
    return ascii_is_alpha(c) || ascii_is_digit(c) || c == '_';
}

static bool is_blank(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static void skip_blanks(struct bytes *b)
{
    while (b->n > 0 && is_blank(b->p[0]))
        *b = bytes_skip(*b, 1);
}

static struct bytes take_name(struct bytes *b)
{
    size_t n = 0;

    while (n < b->n && is_name_char(b->p[n]))
        n++;
    *b = bytes_skip(*b, n);
    return bytes(b->p - n, n);
}

/* What stands between the bracket at the start and the one that closes it; both are removed from *b. */
static bool take_bracketed(struct bytes *b, struct bytes *inside_r)
{
    char open = b->p[0], close = open == '{' ? '}' : ')';
    size_t depth = 0;

    for (size_t i = 0; i < b->n; i++) {
        if (b->p[i] == open)
            depth++;
        else if (b->p[i] == close && --depth == 0) {
            *inside_r = bytes(b->p + 1, i - 1);
            *b = bytes_skip(*b, i + 1);
            return true;
        }
    }
    return false;
}

/* Adds the expanded value of a name. */
static void expand_name(struct expansion *x, struct bytes name, struct buf *out)
{
    char *text = bytes_dup(NULL, name);
    const char *raw = conf_raw(x->c, text);
    const struct conf_param *p = conf_param_find(text);

    if (++x->names > CONF_NEST_LIMIT)
        fail(x, "unreasonable macro call nesting", name);
    else if (++x->steps > CONF_EXPAND_STEPS || out->n > CONF_EXPAND_BYTES)
        fail(x, "unreasonable amount of macro expansion", name);
    else if (raw != NULL && p != NULL && p->type == CONF_RAW_TEXT)
        buf_adds(out, raw);
    else if (raw != NULL)
        expand_text(x, bytes_of(raw), out);
    x->names--;
    talloc_free(text);
}

/* The text of one branch: braced, or all that is left. */
static bool take_branch(struct expansion *x, struct bytes *rest, struct bytes *text_r)
{
    struct bytes ahead = *rest;

    skip_blanks(&ahead);
    if (ahead.n == 0 || ahead.p[0] != '{') {
        *text_r = *rest;
        *rest = bytes_skip(*rest, rest->n);
        return true;
    }
    if (!take_bracketed(&ahead, text_r)) {
        fail(x, "\"}\" expected at", ahead);
        return false;
    }
    skip_blanks(&ahead);
    *rest = ahead;
    return true;
}

/* The part behind a name or a comparison: ?yes, :no, ?{yes}:{no}. Expands the branch that `is_true` selects.
 */
static void expand_branches(struct expansion *x, struct bytes rest, bool is_true, struct buf *out)
{
    struct bytes yes = bytes("", 0), no = bytes("", 0);

    if (rest.p[0] == '?') {
        rest = bytes_skip(rest, 1);
        if (!take_branch(x, &rest, &yes))
            return;
        if (rest.n > 0 && rest.p[0] != ':')
            return fail(x, "\":\" expected at", rest);
    }
    if (rest.n > 0) {
        rest = bytes_skip(rest, 1);
        if (!take_branch(x, &rest, &no))
            return;
        if (rest.n > 0)
            return fail(x, "unexpected input at", rest);
    }
    expand_text(x, is_true ? yes : no, out);
}

/* ---- comparing ---- */

enum op { OP_EQ, OP_NE, OP_LT, OP_LE, OP_GE, OP_GT, OP_NONE };

static enum op take_op(struct bytes *rest)
{
    static const struct {
        const char *text;
        enum op op;
    } ops[] = {
        {"==", OP_EQ}, {"!=", OP_NE}, {"<=", OP_LE}, {">=", OP_GE}, {"<", OP_LT}, {">", OP_GT},
    };

    for (size_t i = 0; i < sizeof(ops) / sizeof(ops[0]); i++) {
        if (bytes_has_prefix(*rest, bytes_of(ops[i].text))) {
            *rest = bytes_skip(*rest, strlen(ops[i].text));
            return ops[i].op;
        }
    }
    return OP_NONE;
}

static bool holds(enum op op, int order)
{
    switch (op) {
    case OP_EQ:
        return order == 0;
    case OP_NE:
        return order != 0;
    case OP_LT:
        return order < 0;
    case OP_LE:
        return order <= 0;
    case OP_GE:
        return order >= 0;
    case OP_GT:
        return order > 0;
    case OP_NONE:
        break;
    }
    return false;
}

static int order_u64(uint64_t a, uint64_t b)
{
    return a < b ? -1 : a > b;
}

/* major[.minor[.patch]] as one number. */
static bool parse_level(struct expansion *x, struct bytes text, uint64_t *level_r)
{
    struct bytes rest = text;
    uint64_t part, parts = 0;

    *level_r = 0;
    do {
        if (++parts > 3 || !bytes_to_u64(bytes_cut(&rest, '.'), 65535, &part)) {
            fail(x, "malformed compatibility level syntax", text);
            return false;
        }
        *level_r |= part << (16 * (3 - parts));
    } while (rest.n > 0);
    return true;
}

static int order_texts(struct bytes a, struct bytes b)
{
    uint64_t left, right;
    int order;

    if (bytes_to_u64(a, UINT64_MAX, &left) && bytes_to_u64(b, UINT64_MAX, &right))
        return order_u64(left, right);
    order = a.n && b.n ? memcmp(a.p, b.p, a.n < b.n ? a.n : b.n) : 0;
    return order ? order : order_u64(a.n, b.n);
}

static bool compare(struct expansion *x, enum op op, bool by_level, struct bytes a, struct bytes b)
{
    uint64_t left, right;

    if (!by_level)
        return holds(op, order_texts(a, b));
    if (!parse_level(x, bytes_trim(a), &left) || !parse_level(x, bytes_trim(b), &right))
        return false;
    return holds(op, order_u64(left, right));
}

/* {left} op {right}, cut from *rest. */
static bool take_comparison(struct expansion *x, struct bytes *rest, bool *is_true_r)
{
    struct bytes left, right, suffix, at;
    struct buf a = {0}, b = {0};
    enum op op;

    if (!take_bracketed(rest, &left))
        return fail(x, "\"}\" expected at", *rest), false;
    skip_blanks(rest);
    at = *rest;
    op = take_op(rest);
    if (op == OP_NONE)
        return fail(x, "\"==\" or \"!=\" or \"<\" or \"<=\" or \">=\" or \">\" expected at", at), false;
    suffix = take_name(rest);
    if (suffix.n > 0 && !bytes_eq(suffix, BYTES("level")))
        return fail(x, "bad operator suffix at", suffix), false;
    skip_blanks(rest);
    if (rest->n == 0 || rest->p[0] != '{')
        return fail(x, "\"{expression}\" expected at", *rest), false;
    if (!take_bracketed(rest, &right))
        return fail(x, "\"}\" expected at", *rest), false;
    skip_blanks(rest);
    expand_text(x, left, &a);
    expand_text(x, right, &b);
    *is_true_r = x->error == NULL && compare(x, op, suffix.n > 0, buf_bytes(&a), buf_bytes(&b));
    buf_deinit(&a);
    buf_deinit(&b);
    return x->error == NULL;
}

static void expand_comparison(struct expansion *x, struct bytes rest, struct buf *out)
{
    bool is_true;

    if (!take_comparison(x, &rest, &is_true))
        return;
    if (rest.n == 0)
        buf_adds(out, is_true ? "true" : "");
    else if (rest.p[0] != '?' && rest.p[0] != ':')
        fail(x, "\"?\" or \":\" expected at", rest);
    else
        expand_branches(x, rest, is_true, out);
}

/* ---- references ---- */

static void expand_function(struct expansion *x, struct bytes name, struct bytes rest, struct buf *out)
{
    struct bytes inside;
    size_t before = out->n;

    if (!bytes_eq(name, BYTES("domain_to_ascii")) && !bytes_eq(name, BYTES("domain_to_utf8")))
        return fail(x, "attribute name syntax error at", rest);
    if (!take_bracketed(&rest, &inside) || bytes_trim(rest).n > 0)
        return fail(x, "unexpected input at", rest);
    expand_text(x, inside, out);
    for (size_t i = before; i < out->n; i++)
        if ((unsigned char)out->p[i] >= 128)
            return fail(x, "only ASCII domain names can be converted here",
                        bytes_skip(buf_bytes(out), before));
}

static bool is_set(struct expansion *x, struct bytes name)
{
    char *text = bytes_dup(NULL, name);
    const char *raw = conf_raw(x->c, text);

    talloc_free(text);
    return raw != NULL && *raw != '\0';
}

/* What stands between the brackets of ${...} or $(...). */
static void expand_inside(struct expansion *x, struct bytes inside, struct bytes whole, struct buf *out)
{
    struct bytes rest = inside, name;

    skip_blanks(&rest);
    if (rest.n > 0 && rest.p[0] == '{')
        return expand_comparison(x, rest, out);
    name = take_name(&rest);
    if (name.n == 0)
        return fail(x, "empty macro name", whole);
    if (rest.n > 0 && rest.p[0] == '{')
        return expand_function(x, name, rest, out);
    skip_blanks(&rest);
    if (rest.n == 0)
        expand_name(x, name, out);
    else if (rest.p[0] == '?' || rest.p[0] == ':')
        expand_branches(x, rest, is_set(x, name), out);
    else
        fail(x, "attribute name syntax error at", rest);
}

/* One reference; *rest begins behind its dollar, which `whole` begins with. */
static void expand_reference(struct expansion *x, struct bytes whole, struct bytes *rest, struct buf *out)
{
    struct bytes inside;

    if (rest->n > 0 && rest->p[0] == '$') {
        buf_addc(out, '$');
        *rest = bytes_skip(*rest, 1);
    } else if (rest->n > 0 && (rest->p[0] == '{' || rest->p[0] == '(')) {
        if (!take_bracketed(rest, &inside))
            return fail(x, "truncated macro reference", whole);
        expand_inside(x, inside, whole, out);
    } else {
        inside = take_name(rest);
        if (inside.n == 0)
            return fail(x, "empty macro name", whole);
        expand_name(x, inside, out);
    }
}

/* Branches nest as deep as brackets do, so they count as depth too. */
static void expand_text(struct expansion *x, struct bytes text, struct buf *out)
{
    struct bytes rest = text;

    if (++x->depth > 2 * CONF_NEST_LIMIT)
        fail(x, "unreasonable macro call nesting", text);
    while (rest.n > 0 && x->error == NULL) {
        size_t dollar = bytes_chr(rest, '$');
        struct bytes whole;

        buf_add(out, bytes(rest.p, dollar == SIZE_MAX ? rest.n : dollar));
        if (dollar == SIZE_MAX)
            break;
        whole = bytes_skip(rest, dollar);
        rest = bytes_skip(whole, 1);
        expand_reference(x, whole, &rest, out);
    }
    x->depth--;
}

static struct error *expand_whole(const void *ctx, const struct conf *c, const char *text, bool trim,
                                  char **out_r)
{
    struct expansion x = {.c = c};
    struct buf out = {0};

    expand_text(&x, bytes_of(text), &out);
    if (x.error == NULL)
        *out_r = bytes_dup(ctx, trim ? bytes_trim(buf_bytes(&out)) : buf_bytes(&out));
    buf_deinit(&out);
    return x.error;
}

struct error *conf_expand(const void *ctx, const struct conf *c, const char *text, char **out_r)
{
    return expand_whole(ctx, c, text, false, out_r);
}

struct error *conf_expand_value(const void *ctx, const struct conf *c, const char *raw, char **out_r)
{
    return expand_whole(ctx, c, raw, true, out_r);
}
