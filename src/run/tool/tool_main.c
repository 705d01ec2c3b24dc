/*
 * sallyport -c DIR COMMAND: finds the configuration folder and the subcommand. See tool.h.
 */
#include "tool.h"

#include "mem.h"
#include "tool_main.h"

#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

static const struct command {
    const char *name;
    int (*run)(struct tool *t);
    const char *arguments;
    const char *about;
} commands[] = {
    {"run", tool_run, "", "run in the foreground; log to standard output unless maillog_file is set"},
    {"start", tool_start, "", "run in the background; returns when every listener answers"},
    {"stop", tool_stop, "", "end it; what is being committed is finished"},
    {"reload", tool_reload, "", "take the configuration into force anew; no connection is refused"},
    {"status", tool_status, "", "say whether it runs"},
    {"top", tool_top, "[-s SECONDS] [-n TIMES]",
     "show sessions, filter slots, waiting messages, endpoints, live"},
    {"metrics", tool_metrics, "", "print the same numbers as Prometheus takes them"},
    {"check", tool_check, "", "report every fault of the configuration with file and line"},
    {"config", tool_config, "[-d | -n] [-x] [NAME...]",
     "print parameters: all, -d defaults, -n those set; -x expanded"},
    {"queue", tool_queue,
     "list [--json] | count | show ID | flush [ID...] | hold|release|requeue|delete ID...|ALL [QUEUE]",
     "look at the mail queue and change it"},
    {"map", tool_map, "TYPE:FILE | -q KEY TYPE:NAME",
     "build a lookup table from its source; -q: look a key up"},
};
enum { COMMANDS = sizeof(commands) / sizeof(commands[0]) };

static void print_help(FILE *out)
{
    fprintf(out, "usage: sallyport [-c DIR] COMMAND\n\n");
    for (size_t i = 0; i < COMMANDS; i++)
        fprintf(out, "  %s%s%s\n        %s\n", commands[i].name, commands[i].arguments[0] ? " " : "",
                commands[i].arguments, commands[i].about);
    fprintf(out,
            "\n  -c DIR   folder of main.cf and master.cf; else $MAIL_CONFIG, else %s\n"
            "  --help, --version\n",
            TOOL_CONFIG_DIRECTORY);
}

static void print_usage(const struct tool *t, FILE *out)
{
    for (size_t i = 0; i < COMMANDS; i++)
        if (strcmp(commands[i].name, t->argv[0]) == 0)
            fprintf(out, "usage: sallyport [-c DIR] %s%s%s\n", commands[i].name,
                    commands[i].arguments[0] ? " " : "", commands[i].arguments);
}

int tool_usage(const struct tool *t)
{
    print_usage(t, stderr);
    return EX_USAGE;
}

static int run_command(struct tool *t)
{
    for (size_t i = 0; i < COMMANDS; i++)
        if (strcmp(commands[i].name, t->argv[0]) == 0) {
            if (t->argc == 2 && strcmp(t->argv[1], "--help") == 0) {
                print_usage(t, stdout);
                return 0;
            }
            if (commands[i].arguments[0] == '\0' && t->argc > 1)
                return tool_usage(t);
            return commands[i].run(t);
        }
    return tool_fail(EX_USAGE, "unknown command \"%s\"; sallyport --help tells them", t->argv[0]);
}

static const char *config_dir(const char *given)
{
    const char *environment = getenv("MAIL_CONFIG");

    if (given != NULL)
        return given;
    return environment != NULL && environment[0] != '\0' ? environment : TOOL_CONFIG_DIRECTORY;
}

int tool_main(int argc, char **argv)
{
    static const struct option options[] = {
        {"help", no_argument, NULL, 'H'}, {"version", no_argument, NULL, 'V'}, {NULL, 0, NULL, 0}};
    struct tool t = {.memory = talloc_new(NULL)};
    const char *dir = NULL;
    char path[PATH_MAX];
    int option, status;

    while ((option = getopt_long(argc, argv, "+c:", options, NULL)) != -1) {
        if (option == 'c') {
            dir = optarg;
        } else if (option == 'H') {
            print_help(stdout);
            return 0;
        } else if (option == 'V') {
            printf("sallyport %s\n", SALLYPORT_VERSION);
            return 0;
        } else {
            return EX_USAGE;
        }
    }
    if (optind == argc) {
        print_help(stderr);
        return EX_USAGE;
    }
    dir = config_dir(dir);
    if (realpath(dir, path) == NULL)
        return tool_fail(EX_CONFIG, "configuration folder %s: %m", dir);
    t.dir = path;
    t.argc = argc - optind;
    t.argv = argv + optind;
    status = run_command(&t);
    talloc_free(t.memory);
    return status;
}
