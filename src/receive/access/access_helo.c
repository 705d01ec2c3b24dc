/* Restrictions about the name given with HELO or EHLO. Before it was given they do nothing. */
#include "access_own.h"
#include "mail_address.h"
#include "mem.h"

#include <arpa/inet.h>

static enum access_end reject_helo(struct access_run *r, const char *code, const char *text)
{
    return access_reject(r, (int)conf_int(r->a->conf, code), "5.5.2", "<%s>: %s rejected: %s",
                         r->view->client->helo, access_class_helo, text);
}

static bool is_hostname(const char *name)
{
    return name[0] != '[' && mail_address_is_hostname(bytes_of(name)) &&
           name[strspn(name, "0123456789.")] != '\0';
}

static bool is_bare_address(const char *name)
{
    unsigned char bits[16];

    return inet_pton(AF_INET, name, bits) == 1 || inet_pton(AF_INET6, name, bits) == 1;
}

/* The name without one dot at its end. */
static const char *tested_name(const struct access_run *r)
{
    struct bytes name = bytes_of(r->view->client->helo);

    if (name.n > 1 && name.p[name.n - 1] == '.' && name.p[name.n - 2] != '.')
        name.n--;
    return bytes_dup(r->view->ctx, name);
}

static enum access_end reject_invalid(struct access_run *r, const struct access_step *step)
{
    const char *name;

    if (r->view->client->helo == NULL)
        return ACCESS_DUNNO;
    name = tested_name(r);
    if (name[0] == '[')
        return mail_address_is_literal(bytes_of(name))
                   ? ACCESS_DUNNO
                   : reject_helo(r, "invalid_hostname_reject_code", "invalid ip address");
    return is_hostname(name) || is_bare_address(name)
               ? ACCESS_DUNNO
               : reject_helo(r, "invalid_hostname_reject_code", "Invalid name");
}

static enum access_end reject_non_fqdn(struct access_run *r, const struct access_step *step)
{
    const char *name;

    if (r->view->client->helo == NULL)
        return ACCESS_DUNNO;
    name = tested_name(r);
    if (name[0] == '[')
        return reject_invalid(r, step);
    return is_hostname(name) && strchr(name, '.') != NULL
               ? ACCESS_DUNNO
               : reject_helo(r, "non_fqdn_reject_code", "need fully-qualified hostname");
}

co_fn static enum access_end check_helo(struct access_run *r, const struct access_step *step)
{
    const char *helo = r->view->client->helo;
    struct access_subject s = {step->table, helo, access_class_helo, false};

    return helo != NULL ? access_table_host(r, &s, helo) : ACCESS_DUNNO;
}

const struct access_word access_helo_words[] = {
    {"reject_invalid_helo_hostname", ACCESS_NO_ARG, reject_invalid, false},
    {"reject_invalid_hostname", ACCESS_NO_ARG, reject_invalid, false},
    {"reject_non_fqdn_helo_hostname", ACCESS_NO_ARG, reject_non_fqdn, false},
    {"reject_non_fqdn_hostname", ACCESS_NO_ARG, reject_non_fqdn, false},
    {"check_helo_access", ACCESS_TABLE_ARG, check_helo, false},
    {NULL},
};
