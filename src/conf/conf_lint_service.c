/*
 * The services as such: commands that nobody knows, or that do nothing here, and the one that no queue can do
 * without.
 */
#include "conf_own.h"

static void lint_command(const struct conf_service *s, struct conf_faults *faults)
{
    const char *meant;

    switch (conf_command(s->command)) {
    case CONF_COMMAND_OURS:
        break;
    case CONF_COMMAND_SERVED:
        conf_fault_add(faults, CONF_NOTE, s->file, s->line, "service \"%s\" (%s): needs no process here",
                       s->name, s->command);
        break;
    case CONF_COMMAND_LATER:
        conf_fault_add(
            faults, CONF_WARNING, s->file, s->line,
            "service \"%s\": this version does not have the command \"%s\"; mail for it waits in the queue",
            s->name, s->command);
        break;
    case CONF_COMMAND_UNKNOWN:
        meant = conf_suggest_command(s->command);
        conf_fault_add(faults, CONF_ERROR, s->file, s->line, "service \"%s\": unknown command \"%s\"%s%s%s",
                       s->name, s->command, meant ? " (did you mean " : "", meant ? meant : "",
                       meant ? "?)" : "");
        break;
    }
}

/* Told at the first service that may put mail into the queue. */
static void lint_scheduler(const struct conf_services *all, struct conf_faults *faults)
{
    const struct conf_service *first = NULL;

    for (size_t i = 0; i < all->n; i++) {
        if (strcmp(all->at[i].command, "qmgr") == 0)
            return;
        if (first == NULL && strcmp(all->at[i].command, "smtpd") == 0)
            first = &all->at[i];
    }
    if (first != NULL)
        conf_fault_add(
            faults, CONF_WARNING, first->file, first->line,
            "service \"%s\": there is no service with the command \"qmgr\"; what is queued stays there",
            first->name);
}

void conf_lint_services(const struct conf_services *all, struct conf_faults *faults)
{
    lint_scheduler(all, faults);
    for (size_t i = 0; i < all->n; i++)
        lint_command(&all->at[i], faults);
}
