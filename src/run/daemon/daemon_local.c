/* See daemon_local.h. Compiled once a worker; permit_sasl_authenticated and the like never match without SASL
 * and TLS. */
#include "daemon_local.h"

#include "mem.h"
#include "table_domains.h"

#include <string.h>

enum kind { INTERFACES, NETWORKS, MAP, NOBODY };

struct step {
    enum kind kind;
    struct table *map;
};

struct daemon_local {
    struct table_domains *domains;
    struct table_list *networks;
    struct step *steps;
    size_t count;
};

static struct error *parse(struct daemon_local *l, const struct conf *conf, const char *word,
                           const char **rest, struct step *step)
{
    struct error *e = NULL;

    if (strcasecmp(word, "permit_inet_interfaces") == 0) {
        step->kind = INTERFACES;
    } else if (strcasecmp(word, "permit_mynetworks") == 0) {
        step->kind = NETWORKS;
    } else if (strcasecmp(word, "check_address_map") == 0) {
        char *spec = conf_list_next(l, rest);

        step->kind = MAP;
        e = spec ? table_open(spec, conf, &step->map)
                 : error_new(ERROR_CONF, "check_address_map needs a table");
    } else if (strcasecmp(word, "permit_sasl_authenticated") == 0 ||
               strcasecmp(word, "permit_tls_clientcerts") == 0 ||
               strcasecmp(word, "permit_tls_all_clientcerts") == 0) {
        step->kind = NOBODY;
    } else if (strchr(word, ':') != NULL) {
        step->kind = MAP;
        e = table_open(word, conf, &step->map);
    } else {
        e = error_new(ERROR_CONF, "unknown item \"%s\"", word);
    }
    return error_prepend(e, "local_header_rewrite_clients");
}

struct error *daemon_local_open(const void *ctx, const struct conf *conf, struct daemon_local **local_r)
{
    struct daemon_local *l = mem_new(ctx, struct daemon_local);
    const char *rest = conf_text(conf, "local_header_rewrite_clients");
    struct error *e = table_domains_open(l, conf, &l->domains);
    char *word;

    if (e == NULL)
        e = table_list_open_param(l, "mynetworks", TABLE_LIST_HOSTS, conf, &l->networks);
    while (e == NULL && (word = conf_list_next(l, &rest)) != NULL) {
        l->steps = mem_grow(l, l->steps, l->count + 1);
        l->steps[l->count] = (struct step){.kind = NOBODY};
        e = parse(l, conf, word, &rest, &l->steps[l->count++]);
    }
    *local_r = l;
    return e;
}

static co_fn bool step_has(struct daemon_local *l, const struct step *step, const struct mail_client *client)
{
    char *value = NULL;
    bool found;

    switch (step->kind) {
    case INTERFACES:
        return table_domains_is_own_address(l->domains, client->addr, false);
    case NETWORKS:
        return table_list_has_host(l->networks, client->name, client->addr) == TABLE_FOUND;
    case MAP:
        found = table_find(step->map, l, bytes_of(client->addr), &value) == TABLE_FOUND;
        talloc_free(value);
        return found;
    case NOBODY:
        break;
    }
    return false;
}

co_fn bool daemon_local_has(struct daemon_local *l, const struct mail_client *client)
{
    for (size_t i = 0; i < l->count; i++)
        if (step_has(l, &l->steps[i], client))
            return true;
    return false;
}
