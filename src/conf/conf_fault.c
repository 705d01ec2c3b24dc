/* Faults of a configuration: gathered, not thrown, so that the administrator sees all of them at once. */
#include "conf_own.h"
#include "mem.h"

#include <stdarg.h>

/* Each service of master.cf tries main.cf's values again; one fault is told once. */
static bool is_known(const struct conf_faults *f, const char *file, unsigned line, const char *text)
{
    for (size_t i = 0; i < f->n; i++)
        if (f->at[i].line == line && strcmp(f->at[i].text, text) == 0 &&
            strcmp(f->at[i].file, file ? file : "") == 0)
            return true;
    return false;
}

void conf_fault_add(struct conf_faults *f, enum conf_severity severity, const char *file, unsigned line,
                    const char *fmt, ...)
{
    struct conf_fault *fault;
    va_list args;
    char *text;

    if (f->n >= CONF_FAULT_LIMIT && (severity != CONF_ERROR || conf_faults_has_error(f)))
        return;
    va_start(args, fmt);
    text = mem_vprintf(NULL, fmt, args);
    va_end(args);
    if (is_known(f, file, line, text)) {
        talloc_free(text);
        return;
    }
    if (f->n % 16 == 0)
        f->at = mem_grow(f->ctx, f->at, f->n + 16);
    fault = &f->at[f->n++];
    fault->severity = severity;
    fault->file = mem_strdup(f->at, file ? file : "");
    fault->line = line;
    fault->text = talloc_steal(f->at, text);
}

bool conf_faults_has_error(const struct conf_faults *f)
{
    for (size_t i = 0; i < f->n; i++)
        if (f->at[i].severity == CONF_ERROR)
            return true;
    return false;
}
