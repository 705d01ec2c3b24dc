/* What the tests of conf/ share: a configuration from a text, and looking for a fault. */
#ifndef CONF_TEST_OWN_H
#define CONF_TEST_OWN_H

#include "conf_own.h"
#include "mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

struct world {
    struct conf_faults faults;
    struct conf *conf;
    struct conf_services services;
};

/* main.cf and master.cf (NULL: none) from texts; everything is owned by w->faults.ctx. */
static inline void world_init(struct world *w, const char *main_text, const char *master_text)
{
    *w = (struct world){.faults.ctx = talloc_new(NULL)};
    w->conf = conf_read(w->faults.ctx, NULL, &w->faults);
    conf_main_parse(w->conf, bytes_of(main_text), "main.cf", &w->faults);
    conf_validate(w->conf, &w->faults);
    if (master_text != NULL)
        w->services =
            conf_services_parse(w->faults.ctx, w->conf, bytes_of(master_text), "master.cf", &w->faults);
}

static inline void world_deinit(struct world *w)
{
    talloc_free(w->faults.ctx);
}

/* Whether a fault of this severity stands at file:line and has the text in it. */
static inline bool world_has(const struct world *w, enum conf_severity severity, const char *file,
                             unsigned line, const char *text)
{
    for (size_t i = 0; i < w->faults.n; i++) {
        const struct conf_fault *f = &w->faults.at[i];

        if (f->severity == severity && strcmp(f->file, file) == 0 && f->line == line && strstr(f->text, text))
            return true;
    }
    return false;
}

static inline void world_show(const struct world *w)
{
    for (size_t i = 0; i < w->faults.n; i++)
        print_message("  %d %s:%u %s\n", w->faults.at[i].severity, w->faults.at[i].file, w->faults.at[i].line,
                      w->faults.at[i].text);
}

#endif
