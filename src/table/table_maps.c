/*
 * An ordered list of tables, and the one search for addresses that virtual, canonical, recipient and mailbox
 * tables share (facts: user+ext@dom, user@dom, user+ext, user, @dom; each in the external form first, then
 * the internal).
 */
#include "buf.h"
#include "mem.h"
#include "table_type.h"

#include <strings.h>

struct error *table_maps_open(const void *ctx, const char *list, const struct conf *conf,
                              struct table_maps *out_r)
{
    struct table_maps m = {0};
    void *mine = talloc_new(NULL);
    struct error *e = NULL;
    char *spec;

    while (e == NULL && (spec = conf_list_next(mine, &list)) != NULL) {
        m.at = mem_grow(ctx, m.at, m.n + 1);
        e = table_open(spec, conf, &m.at[m.n++]);
    }
    talloc_free(mine);
    if (e != NULL) {
        talloc_free(m.at);
        return e;
    }
    *out_r = m;
    return NULL;
}

co_fn static enum table_end find_in_each(const struct table_maps *m, const void *ctx, struct bytes key,
                                         bool is_part, char **value_r)
{
    enum table_end end;

    *value_r = NULL;
    for (size_t i = 0; i < m->n; i++) {
        if (is_part && table_wants_whole_key(m->at[i]))
            continue;
        if ((end = table_find(m->at[i], ctx, key, value_r)) != TABLE_ABSENT)
            return end;
    }
    return TABLE_ABSENT;
}

co_fn enum table_end table_maps_find(const struct table_maps *m, const void *ctx, struct bytes key,
                                     char **value_r)
{
    return find_in_each(m, ctx, key, false, value_r);
}

/* ---- addresses ---- */

static bool is_reserved(struct bytes local)
{
    static const char *const names[] = {"postmaster", "mailer-daemon", "double-bounce"};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (bytes_ieq(local, bytes_of(names[i])))
            return true;
    return false;
}

size_t table_extension_at(struct bytes local, const char *delimiter)
{
    if (delimiter == NULL || *delimiter == '\0' || is_reserved(local))
        return SIZE_MAX;
    if (strchr(delimiter, '-') != NULL &&
        (bytes_has_iprefix(local, BYTES("owner-")) || bytes_has_isuffix(local, BYTES("-request"))))
        return SIZE_MAX;
    for (size_t i = 1; i < local.n; i++)
        if (local.p[i] != '\0' && strchr(delimiter, local.p[i]) != NULL)
            return i;
    return SIZE_MAX;
}

static bool is_atom_char(char c)
{
    return ascii_is_alpha(c) || ascii_is_digit(c) || (unsigned char)c >= 128 ||
           (c != '\0' && strchr("!#$%&'*+-/=?^_`{|}~", c) != NULL);
}

/* RFC 5321 4.1.2 Dot-string: what needs no quotes. */
static bool is_dot_string(struct bytes local)
{
    bool may_dot = false;

    for (size_t i = 0; i < local.n; i++) {
        if (local.p[i] == '.' ? !may_dot : !is_atom_char(local.p[i]))
            return false;
        may_dot = local.p[i] != '.';
    }
    return local.n > 0 && may_dot;
}

static void quote(struct buf *out, struct bytes local)
{
    buf_addc(out, '"');
    for (size_t i = 0; i < local.n; i++) {
        if (local.p[i] == '"' || local.p[i] == '\\')
            buf_addc(out, '\\');
        buf_addc(out, local.p[i]);
    }
    buf_addc(out, '"');
}

struct search {
    const struct table_maps *maps;
    const void *ctx;
    char **value_r;
    struct buf key;
};

/* "local@domain", with what is empty left away; quoted first when that differs. */
co_fn static enum table_end step(struct search *s, struct bytes local, const char *at_domain, bool is_part)
{
    enum table_end end = TABLE_ABSENT;

    if (local.n > 0 && !is_dot_string(local)) {
        buf_cut(&s->key, 0);
        quote(&s->key, local);
        buf_adds(&s->key, at_domain);
        end = find_in_each(s->maps, s->ctx, buf_bytes(&s->key), is_part, s->value_r);
    }
    if (end != TABLE_ABSENT)
        return end;
    buf_cut(&s->key, 0);
    buf_add(&s->key, local);
    buf_adds(&s->key, at_domain);
    return find_in_each(s->maps, s->ctx, buf_bytes(&s->key), is_part, s->value_r);
}

/* *without_ext_r: the match left the extension aside. */
co_fn static enum table_end walk(struct search *s, struct bytes local, struct bytes bare,
                                 const char *at_domain, bool is_local, bool *without_ext_r)
{
    bool has_ext = bare.n < local.n;
    enum table_end end = step(s, local, at_domain, false);

    *without_ext_r = false;
    if (end == TABLE_ABSENT && has_ext) {
        *without_ext_r = true;
        end = step(s, bare, at_domain, true);
    }
    if (end == TABLE_ABSENT && is_local && *at_domain != '\0') {
        *without_ext_r = false;
        end = step(s, local, "", true);
        if (end == TABLE_ABSENT && has_ext) {
            *without_ext_r = true;
            end = step(s, bare, "", true);
        }
    }
    if (end == TABLE_ABSENT && *at_domain != '\0') {
        *without_ext_r = has_ext;
        end = step(s, bytes("", 0), at_domain, true);
    }
    return end;
}

co_fn enum table_end table_maps_find_address(const struct table_maps *m, const void *ctx, const char *addr,
                                             const char *delimiter, bool is_local, char **value_r,
                                             char **extension_r)
{
    struct search s = {.maps = m, .ctx = ctx, .value_r = value_r};
    const char *at_domain = strrchr(addr, '@');
    struct bytes local, bare;
    bool without_ext = false;
    enum table_end end;
    size_t ext;

    *value_r = NULL;
    if (extension_r != NULL)
        *extension_r = NULL;
    if (m->n == 0)
        return TABLE_ABSENT;
    if (at_domain == NULL)
        at_domain = addr + strlen(addr);
    local = bytes(addr, (size_t)(at_domain - addr));
    ext = table_extension_at(local, delimiter);
    bare = ext == SIZE_MAX ? local : bytes(local.p, ext);
    end = walk(&s, local, bare, at_domain, is_local, &without_ext);
    if (end == TABLE_FOUND && without_ext && extension_r != NULL)
        *extension_r = bytes_dup(ctx, bytes_skip(local, bare.n));
    buf_deinit(&s.key);
    return end;
}
