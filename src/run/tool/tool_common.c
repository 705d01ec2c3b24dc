/* What the subcommands share. See tool.h. */
#include "tool.h"

#include "master.h"
#include "mem.h"

#include <stdarg.h>
#include <stdio.h>
#include <sysexits.h>

int tool_fail(int status, const char *fmt, ...)
{
    va_list args;

    fprintf(stderr, "sallyport: ");
    va_start(args, fmt);
    vfprintf(stderr, fmt, args);
    va_end(args);
    fputc('\n', stderr);
    return status;
}

int tool_fail_error(struct error **e)
{
    tool_fail(0, "%s", (*e)->text);
    error_free(e);
    return 1;
}

void tool_print_faults(const struct conf_faults *faults, enum conf_severity least, FILE *out)
{
    static const char *const names[] = {"error", "warning", "note"};

    for (size_t i = 0; i < faults->n; i++) {
        const struct conf_fault *f = &faults->at[i];

        if (f->severity > least)
            continue;
        if (f->line > 0)
            fprintf(out, "%s:%u: %s: %s\n", f->file, f->line, names[f->severity], f->text);
        else
            fprintf(out, "%s: %s: %s\n", f->file, names[f->severity], f->text);
    }
}

struct conf *tool_conf(struct tool *t, struct conf_services *services_r)
{
    struct conf_faults faults = {.ctx = t->memory};
    struct conf_services services;
    struct conf *conf = master_conf_read(t->memory, t->dir, &services, &faults);

    if (conf_faults_has_error(&faults)) {
        tool_print_faults(&faults, CONF_ERROR, stderr);
        return NULL;
    }
    if (services_r != NULL)
        *services_r = services;
    return conf;
}
