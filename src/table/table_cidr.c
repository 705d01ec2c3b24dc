/* cidr:, "net/mask result" for keys that are numeric addresses; every other key is absent. See table_rules.h.
 */
#include "mem.h"
#include "table_rules.h"

static struct error *cidr_compile(const void *ctx, char **text, void **pattern_r, unsigned *groups_r)
{
    size_t n = strcspn(*text, " \t");
    struct table_net *net = mem_new(ctx, struct table_net);
    char *copy = bytes_dup(net, bytes(*text, n));
    struct error *e = table_net_parse(copy, net);

    *text += n;
    *groups_r = 0;
    *pattern_r = net;
    talloc_free(copy);
    return e;
}

static enum table_match cidr_match(const void *pattern, struct table_subject *s)
{
    return table_net_has(pattern, &s->addr) ? TABLE_MATCH : TABLE_NO_MATCH;
}

static const struct table_rules_type cidr_rules = {
    .compile = cidr_compile,
    .match = cidr_match,
};

static struct error *cidr_open(struct table *t, const void *ctx, const struct conf *conf, void **state_r)
{
    return table_rules_open(t, ctx, &cidr_rules, state_r);
}

static enum table_end cidr_find(struct table *t, const void *ctx, struct bytes key, char **value_r)
{
    struct table_subject s;

    if (key.p[0] == '[' || !table_addr_parse(key.p, &s.addr))
        return TABLE_ABSENT;
    return table_rules_find(t->state, ctx, &s, value_r);
}

const struct table_type table_type_cidr = {
    .name = "cidr",
    .is_pattern = true,
    .open = cidr_open,
    .find = cidr_find,
};
