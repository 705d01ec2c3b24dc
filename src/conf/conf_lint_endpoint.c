/*
 * The endpoints of filters, as they are written. A host may be unknown for now; a port that is none stays
 * one, and clients would wait for it.
 */
#include "conf_own.h"
#include "mem.h"

#include <strings.h>

char *conf_lint_inet(const void *ctx, const char *text, char **host_r, char **port_r)
{
    *host_r = *port_r = NULL;
    if (strncasecmp(text, "unix:", 5) == 0)
        return NULL;
    if (strncasecmp(text, "inet:", 5) == 0)
        text += 5;
    return conf_endpoint_parse(ctx, text, host_r, port_r);
}

void conf_lint_endpoints(const struct conf_service *s, const char *parameter, struct conf_faults *faults)
{
    void *ctx = talloc_new(NULL);
    const char *list = conf_lint_text(ctx, s->conf, parameter), *file = s->file;
    char *item, *host, *port;
    unsigned line = s->line;

    conf_place(s->conf, parameter, &file, &line);
    while (!conf_filter_is_direct(list) && (item = conf_list_next(ctx, &list)) != NULL) {
        char *wrong = conf_lint_inet(ctx, item, &host, &port);

        if (wrong != NULL)
            conf_fault_add(faults, CONF_ERROR, file, line,
                           "%s: \"%s\": %s ([inet:][host:]port or unix:path is wanted)", parameter, item,
                           wrong);
    }
    talloc_free(ctx);
}
