/*
 * Match lists: mynetworks, mydestination, relay_domains and their kind. See table.h.
 *
 * The items are read once, files included; the first one that matches decides, and a lookup that fails ends
 * the walk.
 */
#include "log.h"
#include "mem.h"
#include "table_type.h"

enum { FILE_DEPTH_LIMIT = 10, ITEMS_LIMIT = 1000000 };

enum item_kind { ITEM_NAME, ITEM_NET, ITEM_TABLE };

struct item {
    enum item_kind kind;
    bool negated;
    struct table_net net;
    struct table *table;
    const char *name;
};

struct table_list {
    const char *param;
    enum table_list_kind kind;
    bool parents;
    struct item *at;
    size_t n, room;
};

/* ---- reading ---- */

static struct error *add_items(struct table_list *l, const char *items, bool negated, unsigned depth,
                               const struct conf *conf);

static struct error *add_file(struct table_list *l, const char *path, bool negated, unsigned depth,
                              const struct conf *conf)
{
    struct table_lines *lines;
    struct error *e;
    char *line;

    if (depth == FILE_DEPTH_LIMIT)
        return error_new(ERROR_CONF, "%s: more than %d files inside each other", path, FILE_DEPTH_LIMIT);
    if ((e = table_lines_open(NULL, path, &lines)) != NULL)
        return e;
    while ((e = table_lines_next(lines, &line)) == NULL && line != NULL)
        if ((e = add_items(l, line, negated, depth + 1, conf)) != NULL) {
            error_prepend(e, "%s:%u", path, lines->number);
            break;
        }
    talloc_free(lines);
    return e;
}

/* Meant as an address or a net, well-formed or not. "hash:/file" has a colon and a slash too, but other
 * letters. */
static bool looks_numeric(const char *text)
{
    if (text[0] == '[' || text[strspn(text, "0123456789./")] == '\0')
        return true;
    return strchr(text, ':') != NULL && text[strspn(text, "0123456789abcdefABCDEF:./")] == '\0';
}

static enum item_kind kind_of(const struct table_list *l, const char *text)
{
    if (l->kind == TABLE_LIST_HOSTS && looks_numeric(text))
        return ITEM_NET;
    if (strchr(text, ':') != NULL && text[0] != '[')
        return ITEM_TABLE;
    return l->kind == TABLE_LIST_HOSTS && strchr(text, '/') != NULL ? ITEM_NET : ITEM_NAME;
}

static struct error *add_item(struct table_list *l, const char *text, bool negated, const struct conf *conf)
{
    struct item *item;

    if (l->n == ITEMS_LIMIT)
        return error_new(ERROR_CONF, "more than %d items", ITEMS_LIMIT);
    if (l->n == l->room) {
        l->room = l->room ? l->room * 2 : 8;
        l->at = mem_grow(l, l->at, l->room);
    }
    item = &l->at[l->n++];
    *item = (struct item){.kind = kind_of(l, text), .negated = negated, .name = mem_strdup(l, text)};
    if (item->kind == ITEM_NET)
        return table_net_parse(text, &item->net);
    if (item->kind == ITEM_TABLE)
        return table_open(text, conf, &item->table);
    return NULL;
}

static struct error *add_items(struct table_list *l, const char *items, bool negated, unsigned depth,
                               const struct conf *conf)
{
    void *mine = talloc_new(NULL);
    struct error *e = NULL;
    char *text;

    while (e == NULL && (text = conf_list_next(mine, &items)) != NULL) {
        bool is_negated = negated;

        for (; *text == '!'; text++)
            is_negated = !is_negated;
        if (*text == '\0')
            e = error_new(ERROR_CONF, "no pattern after '!'");
        else if (*text == '/')
            e = add_file(l, text, is_negated, depth, conf);
        else
            e = add_item(l, text, is_negated, conf);
    }
    talloc_free(mine);
    return e;
}

struct error *table_list_open(const void *ctx, const char *param, const char *items,
                              enum table_list_kind kind, bool parents, const struct conf *conf,
                              struct table_list **list_r)
{
    struct table_list *l = mem_new(ctx, struct table_list);
    struct error *e;

    *list_r = l;
    l->param = mem_strdup(l, param);
    l->kind = kind;
    l->parents = parents;
    if ((e = add_items(l, items, false, 0, conf)) == NULL)
        return NULL;
    e->kind = ERROR_CONF;
    talloc_free(l);
    *list_r = NULL;
    return error_prepend(e, "%s", param);
}

bool table_parents_match(const struct conf *conf, const char *param)
{
    const char *rest = conf_text(conf, "parent_domain_matches_subdomains");
    void *mine = talloc_new(NULL);
    bool match = false;
    char *name;

    while (!match && (name = conf_list_next(mine, &rest)) != NULL)
        match = strcmp(name, param) == 0;
    talloc_free(mine);
    return match;
}

struct error *table_list_open_param(const void *ctx, const char *param, enum table_list_kind kind,
                                    const struct conf *conf, struct table_list **list_r)
{
    return table_list_open(ctx, param, conf_text(conf, param), kind, table_parents_match(conf, param), conf,
                           list_r);
}

/* ---- matching ---- */

static bool name_matches(const struct table_list *l, const char *pattern, struct bytes name)
{
    struct bytes p = bytes_of(pattern);

    if (bytes_ieq(name, p))
        return true;
    if (l->kind == TABLE_LIST_TEXT || name.n <= p.n || !bytes_has_isuffix(name, p))
        return false;
    return l->parents ? name.p[name.n - p.n - 1] == '.' : pattern[0] == '.';
}

co_fn static enum table_end ask(struct table *t, struct bytes key)
{
    void *mine = talloc_new(NULL);
    char *value;
    enum table_end end = table_find(t, mine, key, &value);

    talloc_free(mine);
    return end;
}

/* The name, then its parents: "b.c" and "c", or ".b.c" and ".c". */
co_fn static enum table_end name_in_table(const struct table_list *l, struct table *t, struct bytes name)
{
    enum table_end end = ask(t, name);

    if (l->kind == TABLE_LIST_TEXT || table_wants_whole_key(t))
        return end;
    while (end == TABLE_ABSENT) {
        size_t dot = bytes_chr(bytes_skip(name, 1), '.');

        if (dot == SIZE_MAX)
            break;
        name = bytes_skip(name, dot + 1 + (l->parents ? 1 : 0));
        if (name.n > 0)
            end = ask(t, name);
    }
    return end;
}

static enum table_end found_if(bool match)
{
    return match ? TABLE_FOUND : TABLE_ABSENT;
}

co_fn static enum table_end item_has_name(const struct table_list *l, const struct item *item,
                                          struct bytes name)
{
    if (name.n == 0 || item->kind == ITEM_NET)
        return TABLE_ABSENT;
    if (item->kind == ITEM_TABLE)
        return name_in_table(l, item->table, name);
    return found_if(name_matches(l, item->name, name));
}

co_fn static enum table_end item_has_addr(const struct item *item, const char *text,
                                          const struct table_net *addr)
{
    if (item->kind == ITEM_NET)
        return found_if(addr->family != 0 && table_net_has(&item->net, addr));
    if (item->kind == ITEM_TABLE)
        return ask(item->table, bytes_of(text));
    return TABLE_ABSENT;
}

static enum table_end fault(const struct table_list *l, const struct item *item)
{
    log_warn("%s: %s: table lookup problem", l->param, item->name);
    return TABLE_FAILED;
}

co_fn enum table_end table_list_has(const struct table_list *l, struct bytes text)
{
    for (size_t i = 0; i < l->n; i++) {
        enum table_end end = item_has_name(l, &l->at[i], text);

        if (end == TABLE_FAILED)
            return fault(l, &l->at[i]);
        if (end == TABLE_FOUND)
            return found_if(!l->at[i].negated);
    }
    return TABLE_ABSENT;
}

co_fn enum table_end table_list_has_host(const struct table_list *l, const char *name, const char *addr)
{
    struct table_net net = {0};

    if (addr != NULL && !table_addr_parse(addr, &net))
        net.family = 0;
    for (size_t i = 0; i < l->n; i++) {
        enum table_end end = name != NULL ? item_has_name(l, &l->at[i], bytes_of(name)) : TABLE_ABSENT;

        if (end == TABLE_ABSENT && addr != NULL)
            end = item_has_addr(&l->at[i], addr, &net);
        if (end == TABLE_FAILED)
            return fault(l, &l->at[i]);
        if (end == TABLE_FOUND)
            return found_if(!l->at[i].negated);
    }
    return TABLE_ABSENT;
}
