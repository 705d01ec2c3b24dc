/*
 * Which names are in use: those that some value refers to with $name, restriction classes, and the parameters
 * of database tables that live in main.cf (ldap:NAME reads NAME_server_host and so on). Such a name may be
 * set without being declared.
 */
#include "conf_own.h"
#include "mem.h"

struct conf_used {
    struct conf_entry *names; /* only the key counts */
    struct conf_entry *prefixes;
};

static int forget(struct conf_used *u)
{
    HASH_CLEAR(hh, u->names);
    HASH_CLEAR(hh, u->prefixes);
    return 0;
}

static struct conf_entry *add(struct conf_used *u, struct conf_entry *set, struct bytes name)
{
    struct conf_entry *e = NULL;
    char *text = bytes_dup(u, name);

    HASH_FIND_STR(set, text, e);
    if (e != NULL) {
        talloc_free(text);
        return set;
    }
    e = mem_new(u, struct conf_entry);
    e->name = text;
    HASH_ADD_KEYPTR(hh, set, e->name, strlen(e->name), e);
    return set;
}

static bool is_name_char(char c)
{
    return ascii_is_alpha(c) || ascii_is_digit(c) || c == '_';
}

static struct bytes name_at(struct bytes b)
{
    size_t n = 0;

    while (n < b.n && is_name_char(b.p[n]))
        n++;
    return bytes(b.p, n);
}

/* Every $name, ${name and $(name of a text. */
static void scan_references(struct conf_used *u, struct bytes text)
{
    size_t dollar;

    while ((dollar = bytes_chr(text, '$')) != SIZE_MAX) {
        text = bytes_skip(text, dollar + 1);
        if (text.n > 0 && text.p[0] == '$') {
            text = bytes_skip(text, 1);
            continue;
        }
        while (text.n > 0 && (text.p[0] == '{' || text.p[0] == '(' || text.p[0] == ' '))
            text = bytes_skip(text, 1);
        if (name_at(text).n > 0)
            u->names = add(u, u->names, name_at(text));
    }
}

/* Every type:NAME of a table whose parameters may stand in main.cf. */
static void scan_tables(struct conf_used *u, struct bytes text)
{
    static const char *const types[] = {"ldap:", "mysql:", "pgsql:", "sqlite:", "mongodb:", "memcache:"};

    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        struct bytes rest = text;
        size_t at;

        while ((at = bytes_find(rest, bytes_of(types[i]))) != SIZE_MAX) {
            rest = bytes_skip(rest, at + strlen(types[i]));
            if (name_at(rest).n > 0)
                u->prefixes = add(u, u->prefixes, name_at(rest));
        }
    }
}

static void scan(struct conf_used *u, struct bytes text)
{
    scan_references(u, text);
    scan_tables(u, text);
}

static void scan_set(struct conf_used *u, const struct conf *c)
{
    for (; c != NULL; c = c->base)
        for (const struct conf_entry *e = c->set; e != NULL; e = e->hh.next)
            scan(u, bytes_of(e->value));
}

static void scan_classes(struct conf_used *u, const struct conf *c)
{
    const struct conf_entry *e = conf_entry_find(c, "smtpd_restriction_classes");
    const char *rest;
    char *text = NULL, *item;
    struct error *error = e ? conf_expand(NULL, c, e->value, &text) : NULL;

    error_free(&error);
    rest = text ? text : "";
    while ((item = conf_list_next(NULL, &rest)) != NULL) {
        u->names = add(u, u->names, bytes_of(item));
        talloc_free(item);
    }
    talloc_free(text);
}

/* What master.cf refers to counts too; its faults are told when it is read for its own sake. */
static void scan_master(struct conf_used *u, const struct conf *c)
{
    struct conf_faults ignored = {.ctx = talloc_new(NULL)};
    char *file = mem_printf(ignored.ctx, "%s/master.cf", c->dir);
    size_t n;
    char *text = *c->dir ? conf_file_read(ignored.ctx, file, &ignored, &n) : NULL;

    if (text != NULL)
        scan(u, bytes(text, n));
    talloc_free(ignored.ctx);
}

struct conf_used *conf_used_new(const void *ctx, const struct conf *c)
{
    struct conf_used *u = mem_new(ctx, struct conf_used);
    size_t n;
    const struct conf_param *params = conf_params(&n);

    talloc_set_destructor(u, forget);
    for (size_t i = 0; i < n; i++)
        scan_references(u, bytes_of(params[i].value));
    scan_set(u, c);
    scan_classes(u, c);
    scan_master(u, c);
    return u;
}

bool conf_used_has(const struct conf_used *u, const char *name)
{
    const struct conf_entry *e = NULL;

    HASH_FIND_STR(u->names, name, e);
    if (e != NULL)
        return true;
    for (e = u->prefixes; e != NULL; e = e->hh.next) {
        size_t n = strlen(e->name);

        if (strncmp(name, e->name, n) == 0 && name[n] == '_')
            return true;
    }
    return false;
}
