/* sallyport check: every fault of the configuration; exit 1 when one of them would refuse to start. */
#include "daemon.h"
#include "master.h"
#include "master_quota.h"
#include "mem.h"
#include "tool.h"

#include <stdio.h>
#include <string.h>

/* Host and port names that do not resolve are found only by trying. */
static void check_listeners(struct tool *t, const struct conf_services *services, struct conf_faults *faults)
{
    for (size_t i = 0; i < services->n; i++) {
        const struct conf_service *s = &services->at[i];
        struct io_address *at;
        struct error *e;
        size_t n;

        if (s->type != CONF_INET || conf_command(s->command) != CONF_COMMAND_OURS)
            continue;
        e = master_addresses(t->memory, s, &at, &n);
        if (e != NULL) {
            size_t place = (size_t)snprintf(NULL, 0, "%s:%u: ", s->file, s->line);

            conf_fault_add(faults, CONF_ERROR, s->file, s->line, "%s", e->text + place);
        }
        error_free(&e);
    }
}

static bool is_run(const struct conf_service *s)
{
    size_t n;
    const struct master_program *programs = daemon_programs(&n);

    for (size_t i = 0; i < n; i++)
        if (strcmp(programs[i].command, s->command) == 0)
            return true;
    return false;
}

static void check_count(const struct conf_services *services, struct conf_faults *faults)
{
    size_t n = 0;

    for (size_t i = 0; i < services->n; i++)
        if (is_run(&services->at[i]) && ++n > MASTER_SERVICES) {
            conf_fault_add(faults, CONF_ERROR, services->at[i].file, services->at[i].line,
                           "more than %d services", MASTER_SERVICES);
            return;
        }
}

/* Told where it is set; a default, at the file as a whole. */
static void check_owner(const struct tool *t, const struct conf *conf, struct conf_faults *faults)
{
    struct error *e = master_owner_check(conf);
    char *main_cf = mem_printf(NULL, "%s/main.cf", t->dir);
    const char *file = main_cf;
    unsigned line = 0;

    conf_place(conf, "mail_owner", &file, &line);
    if (e != NULL)
        conf_fault_add(faults, CONF_ERROR, file, line, "%s", e->text);
    error_free(&e);
    talloc_free(main_cf);
}

static bool is_known(const struct conf_faults *faults, const char *text)
{
    for (size_t i = 0; i < faults->n; i++)
        if (strlen(faults->at[i].text) >= strlen(text) &&
            strcmp(faults->at[i].text + strlen(faults->at[i].text) - strlen(text), text) == 0)
            return true;
    return false;
}

/* What a service stumbles over names the parameter before its first colon. It is mended where it was set: in
 * main.cf or in the service's own line. */
static void find_place(const struct conf_service *s, const char *text, const char **file_r, unsigned *line_r)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyz0123456789_";
    const char *end = text + strcspn(text, ":"), *word = text;
    char name[80];

    *file_r = s->file;
    *line_r = s->line;
    while (word < end) {
        size_t n = strspn(word, letters);

        snprintf(name, sizeof(name), "%.*s", (int)n, word);
        if (n < sizeof(name) && conf_place(s->conf, name, file_r, line_r))
            return;
        word += n;
        word += strcspn(word, letters);
    }
}

/* Tables, restriction lists, engines: found by opening them. What several services stumble over is told once.
 */
static void try_services(const struct conf_services *services, struct conf_faults *faults)
{
    for (size_t i = 0; i < services->n; i++) {
        const struct conf_service *s = &services->at[i];
        struct error *e = daemon_try(s);
        const char *file;
        unsigned line;

        if (e != NULL && !is_known(faults, e->text)) {
            find_place(s, e->text, &file, &line);
            conf_fault_add(faults, CONF_ERROR, file, line, "service %s: %s", s->name, e->text);
        }
        error_free(&e);
    }
}

bool tool_try(struct tool *t, const struct conf_services *services)
{
    struct conf_faults faults = {.ctx = t->memory};

    check_count(services, &faults);
    check_listeners(t, services, &faults);
    try_services(services, &faults);
    tool_print_faults(&faults, CONF_ERROR, stderr);
    return !conf_faults_has_error(&faults);
}

int tool_check(struct tool *t)
{
    struct conf_faults faults = {.ctx = t->memory};
    struct conf_services services;
    const struct conf *conf = master_conf_read(t->memory, t->dir, &services, &faults);

    if (!conf_faults_has_error(&faults)) {
        check_owner(t, conf, &faults);
        check_count(&services, &faults);
        check_listeners(t, &services, &faults);
        try_services(&services, &faults);
    }
    tool_print_faults(&faults, CONF_NOTE, stdout);
    return conf_faults_has_error(&faults) ? 1 : 0;
}
