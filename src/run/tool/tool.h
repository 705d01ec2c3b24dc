/*
 * The sallyport command: one file for each subcommand, told apart in tool_main.c.
 *
 * Exit codes are those of sysexits.h where one fits: 64 usage, 78 configuration, 69 not running; 1 for a
 * plain "no".
 */
#ifndef RUN_TOOL_TOOL_H
#define RUN_TOOL_TOOL_H

#include "conf.h"

#include <stdbool.h>

/* Where main.cf and master.cf are when neither -c nor MAIL_CONFIG says so. */
#define TOOL_CONFIG_DIRECTORY "/etc/postfix"

struct tool {
    const char *dir; /* absolute */
    int argc;        /* of the subcommand, argv[0] is its name */
    char **argv;
    void *memory;
};

int tool_run(struct tool *t);
int tool_start(struct tool *t);
int tool_stop(struct tool *t);
int tool_reload(struct tool *t);
int tool_status(struct tool *t);
int tool_check(struct tool *t);
int tool_config(struct tool *t);
int tool_queue(struct tool *t);
int tool_map(struct tool *t);
int tool_top(struct tool *t);
int tool_metrics(struct tool *t);

/* Reads the whole configuration. When it has errors: prints them to standard error and returns NULL.
 * services_r may be NULL. */
struct conf *tool_conf(struct tool *t, struct conf_services *services_r);
/* Would its services work? Prints what is in their way. */
bool tool_try(struct tool *t, const struct conf_services *services);
void tool_print_faults(const struct conf_faults *faults, enum conf_severity least, FILE *out);
/* "sallyport: TEXT" on standard error; returns status. */
int tool_fail(int status, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Prints the error, frees it, returns 1. */
int tool_fail_error(struct error **e);
/* The subcommand's usage on standard error; returns 64. */
int tool_usage(const struct tool *t);

#endif
