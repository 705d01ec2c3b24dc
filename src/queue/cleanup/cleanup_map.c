/*
 * Addresses through canonical and virtual alias tables. What tables say is the administrator's, but the
 * address that is looked up is a stranger's: growth is bounded in number, depth and length.
 */
#include "cleanup_private.h"

#include "log.h"
#include "mail_address.h"
#include "mem.h"

#include <strings.h>

enum { CANONICAL_ROUNDS = 10, FOUND_LIMIT = 100000 };

/* One item of "a@b, \"c d\"@e f": up to a comma or blank outside quotes. */
static struct bytes next_item(struct bytes *rest)
{
    bool is_quoted = false;
    size_t n = 0;

    while (rest->n > 0 &&
           (rest->p[0] == ',' || ascii_is_blank(rest->p[0]) || rest->p[0] == '\r' || rest->p[0] == '\n'))
        *rest = bytes_skip(*rest, 1);
    for (; n < rest->n; n++) {
        char c = rest->p[n];

        if (c == '\\' && n + 1 < rest->n)
            n++;
        else if (c == '"')
            is_quoted = !is_quoted;
        else if (!is_quoted && (c == ',' || ascii_is_blank(c) || c == '\r' || c == '\n'))
            break;
    }
    struct bytes item = bytes(rest->p, n);

    *rest = bytes_skip(*rest, n);
    return item;
}

/* The item as an address in standard form: "@domain" keeps the local part that was looked up, the extension
 * that was not matched goes before the '@'. NULL: not an address. */
static const char *address_of(const struct cleanup *c, const void *ctx, struct bytes item,
                              const char *looked_up, const char *extension)
{
    struct bytes local, domain, rest;
    char *addr, *whole;

    if (item.p[0] == '@') {
        mail_address_split(looked_up, &local, &domain);
        addr = mem_printf(ctx, "%.*s%.*s", BYTES_FMT(local), BYTES_FMT(item));
        extension = NULL; /* the local part has it */
    } else if (!mail_address_parse_path(ctx, item, true, false, &addr, &rest) || rest.n > 0 ||
               addr[0] == '\0') {
        return NULL;
    }
    if (extension != NULL) {
        mail_address_split(addr, &local, &domain);
        whole = mem_printf(ctx, "%.*s%s%s%.*s", BYTES_FMT(local), extension, domain.n > 0 ? "@" : "",
                           BYTES_FMT(domain));
        addr = whole;
    }
    return rewrite_standard_form(c->rewrite, ctx, addr);
}

static enum cleanup_map_end parse_found(const struct cleanup *c, const void *ctx, const char *id,
                                        const char *name, const char *addr, const char *value,
                                        const char *extension, const char ***found_r, size_t *n_r)
{
    struct bytes rest = bytes_of(value), item;

    while ((item = next_item(&rest)).n > 0) {
        const char *one = address_of(c, ctx, item, addr, extension);

        if (one == NULL) {
            log_warn("%s: %s map entry for %s: not an address: %.*s", id, name, addr, BYTES_FMT(item));
            continue;
        }
        if (*n_r == FOUND_LIMIT)
            return CLEANUP_MAP_EXPLODED;
        *found_r = mem_grow(ctx, *found_r, *n_r + 1);
        (*found_r)[(*n_r)++] = one;
    }
    return CLEANUP_MAP_OK;
}

co_fn enum cleanup_map_end cleanup_map_find(const struct cleanup *c, const void *ctx, const char *id,
                                            const struct table_maps *maps, const char *name, const char *addr,
                                            bool extend, const char ***found_r, size_t *n_r)
{
    char *value = NULL, *extension = NULL;
    enum table_end end, local;

    *found_r = NULL;
    *n_r = 0;
    if (maps->n == 0)
        return CLEANUP_MAP_OK;
    local = rewrite_is_local(c->rewrite, addr);
    end = local == TABLE_FAILED ? TABLE_FAILED
                                : table_maps_find_address(maps, ctx, addr, c->delimiter, local == TABLE_FOUND,
                                                          &value, &extension);
    if (end == TABLE_FAILED) {
        log_warn("%s: %s map lookup problem for %s -- message not accepted, try again later", id, name, addr);
        return CLEANUP_MAP_FAILED;
    }
    if (end == TABLE_ABSENT)
        return CLEANUP_MAP_OK;
    return parse_found(c, ctx, id, name, addr, value, extend ? extension : NULL, found_r, n_r);
}

co_fn enum cleanup_map_end cleanup_map_canonical(const struct cleanup *c, const void *ctx, const char *id,
                                                 const struct table_maps *maps, const char *name,
                                                 const char **addr)
{
    for (int round = 0; round < CANONICAL_ROUNDS; round++) {
        enum cleanup_map_end end;
        const char **found;
        size_t n;

        end = cleanup_map_find(c, ctx, id, maps, name, *addr, c->extend_canonical, &found, &n);
        if (end != CLEANUP_MAP_OK || n == 0)
            return end;
        if (n > 1)
            log_warn("%s: multi-valued %s entry for %s", id, name, *addr);
        if (strcasecmp(found[0], *addr) == 0) {
            *addr = found[0];
            return CLEANUP_MAP_OK;
        }
        *addr = found[0];
    }
    log_warn("%s: unreasonable %s map nesting for %s -- message not accepted, try again later", id, name,
             *addr);
    return CLEANUP_MAP_FAILED;
}

/* ---- aliases ---- */

/* Addresses to look at, in order; those before `at` are final. */
struct expansion {
    const struct cleanup *cleanup;
    const void *ctx;
    const char *id;
    const char *root;
    const char **list;
    size_t n;
    const char **finals; /* each expanded into itself: not looked up again */
    size_t final_count;
};

static bool is_final(const struct expansion *x, const char *addr)
{
    for (size_t i = 0; i < x->final_count; i++)
        if (strcasecmp(x->finals[i], addr) == 0)
            return true;
    return false;
}

static enum cleanup_map_end explode(const struct expansion *x, const char *what)
{
    log_warn("%s: unreasonable virtual_alias_maps map %s for %s -- message not accepted, try again later",
             x->id, what, x->root);
    return CLEANUP_MAP_EXPLODED;
}

/* The address at list[at] gives way to what it expands to. */
static enum cleanup_map_end replace(struct expansion *x, size_t at, const char **found, size_t n)
{
    const char *old = x->list[at];

    if (x->n - 1 + n > x->cleanup->alias_expansion_limit)
        return explode(x, "expansion size");
    x->list = mem_grow(x->ctx, x->list, x->n + n - 1);
    for (size_t i = 0; i < n; i++) {
        if (strlen(found[i]) > x->cleanup->alias_length_limit)
            return explode(x, "address length");
        x->list[i == 0 ? at : x->n++] = found[i];
        if (strcasecmp(found[i], old) == 0) {
            x->finals = mem_grow(x->ctx, x->finals, x->final_count + 1);
            x->finals[x->final_count++] = old;
        }
    }
    return CLEANUP_MAP_OK;
}

/* Follows the address at list[at] until no table knows it. */
static co_fn enum cleanup_map_end follow(struct expansion *x, size_t at)
{
    for (size_t depth = 0; !is_final(x, x->list[at]); depth++) {
        const struct cleanup *c = x->cleanup;
        enum cleanup_map_end end;
        const char **found;
        size_t n;

        end = cleanup_map_find(c, x->ctx, x->id, &c->virtual_alias, "virtual_alias_maps", x->list[at],
                               c->extend_virtual, &found, &n);
        if (end == CLEANUP_MAP_EXPLODED)
            return explode(x, "expansion size");
        if (end != CLEANUP_MAP_OK || n == 0)
            return end;
        if (depth >= c->alias_recursion_limit)
            return explode(x, "nesting");
        end = replace(x, at, found, n);
        if (end != CLEANUP_MAP_OK)
            return end;
    }
    return CLEANUP_MAP_OK;
}

co_fn enum cleanup_map_end cleanup_map_aliases(const struct cleanup *c, const void *ctx, const char *id,
                                               const char *addr, const char ***found_r, size_t *n_r)
{
    struct expansion x = {.cleanup = c, .ctx = ctx, .id = id, .root = addr, .n = 1};
    enum cleanup_map_end end = CLEANUP_MAP_OK;

    x.list = mem_array(ctx, const char *, 1);
    x.list[0] = addr;
    for (size_t at = 0; at < x.n && end == CLEANUP_MAP_OK; at++)
        end = follow(&x, at);
    *found_r = x.list;
    *n_r = x.n;
    return end;
}
