/* Restrictions about the client: its names and its address. */
#include "access_own.h"
#include "mem.h"

#include <strings.h>

const char *access_client_what(struct access_run *r)
{
    const struct mail_client *c = r->view->client;

    if (r->client_what == NULL)
        r->client_what = mem_printf(r->view->ctx, "%s[%s]", c->name != NULL ? c->name : "unknown",
                                    c->addr != NULL ? c->addr : "unknown");
    return r->client_what;
}

/* A list that cannot be read is logged by the table and does not match: facts, hooks 30. */
co_fn static enum access_end permit_mynetworks(struct access_run *r, const struct access_step *step)
{
    const struct mail_client *c = r->view->client;

    return table_list_has_host(r->a->mynetworks, c->name, c->addr) == TABLE_FOUND ? ACCESS_PERMIT
                                                                                  : ACCESS_DUNNO;
}

static enum access_end permit_inet_interfaces(struct access_run *r, const struct access_step *step)
{
    const char *addr = r->view->client->addr;

    return addr != NULL && table_domains_is_own_address(r->a->domains, addr, false) ? ACCESS_PERMIT
                                                                                    : ACCESS_DUNNO;
}

static enum access_end reject_nameless(struct access_run *r, bool is_temp, const char *dsn, const char *text)
{
    const struct mail_client *c = r->view->client;

    return access_reject(r, is_temp ? 450 : (int)conf_int(r->a->conf, "unknown_client_reject_code"), dsn,
                         "%s rejected: %s, [%s]", access_class_client, text,
                         c->addr != NULL ? c->addr : "unknown");
}

static bool is_unknown(const char *name)
{
    return name == NULL || strcasecmp(name, "unknown") == 0;
}

static enum access_end reject_unknown_client(struct access_run *r, const struct access_step *step)
{
    const struct mail_client *c = r->view->client;

    return is_unknown(c->name) ? reject_nameless(r, c->name_is_temp, "4.7.25", "cannot find your hostname")
                               : ACCESS_DUNNO;
}

static enum access_end reject_unknown_reverse(struct access_run *r, const struct access_step *step)
{
    const struct mail_client *c = r->view->client;

    return is_unknown(c->reverse_name)
               ? reject_nameless(r, c->reverse_is_temp, "4.7.1", "cannot find your reverse hostname")
               : ACCESS_DUNNO;
}

co_fn static enum access_end check_host(struct access_run *r, struct access_subject *s, const char *name,
                                        const char *addr)
{
    enum access_end end = access_table_host(r, s, name != NULL ? name : "unknown");

    return s->found || addr == NULL ? end : access_table_addr(r, s, addr);
}

co_fn static enum access_end check_client(struct access_run *r, const struct access_step *step)
{
    const struct mail_client *c = r->view->client;
    struct access_subject s = {step->table, access_client_what(r), access_class_client, false};

    return check_host(r, &s, c->name, c->addr);
}

co_fn static enum access_end check_reverse(struct access_run *r, const struct access_step *step)
{
    const char *name = r->view->client->reverse_name;
    struct access_subject s = {step->table, name != NULL ? name : "unknown", "Unverified Client host", false};

    return access_table_host(r, &s, s.what);
}

co_fn static enum access_end check_etrn(struct access_run *r, const struct access_step *step)
{
    const char *domain = r->view->etrn_domain;
    struct access_subject s = {step->table, domain, "Etrn command", false};

    return domain != NULL ? access_table_host(r, &s, domain) : ACCESS_DUNNO;
}

const struct access_word access_client_words[] = {
    {"permit_mynetworks", ACCESS_NO_ARG, permit_mynetworks, false},
    {"permit_inet_interfaces", ACCESS_NO_ARG, permit_inet_interfaces, false},
    {"reject_unknown_client_hostname", ACCESS_NO_ARG, reject_unknown_client, false},
    {"reject_unknown_client", ACCESS_NO_ARG, reject_unknown_client, false},
    {"reject_unknown_reverse_client_hostname", ACCESS_NO_ARG, reject_unknown_reverse, false},
    {"check_client_access", ACCESS_TABLE_ARG, check_client, false},
    {"check_reverse_client_hostname_access", ACCESS_TABLE_ARG, check_reverse, false},
    {"check_etrn_access", ACCESS_TABLE_ARG, check_etrn, false},
    {NULL},
};
