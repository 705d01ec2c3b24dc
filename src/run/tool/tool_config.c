/* sallyport config: parameters as postconf prints them. */
#include "mem.h"
#include "tool.h"

#include <getopt.h>
#include <stdio.h>

int tool_config(struct tool *t)
{
    struct conf_faults faults = {.ctx = t->memory};
    enum conf_print what = CONF_PRINT_ALL;
    bool expand = false;
    int option;
    struct conf *conf;

    optind = 1;
    while ((option = getopt(t->argc, t->argv, "dnx")) != -1) {
        if (option == 'd' && what != CONF_PRINT_SET)
            what = CONF_PRINT_DEFAULTS;
        else if (option == 'n' && what != CONF_PRINT_DEFAULTS)
            what = CONF_PRINT_SET;
        else if (option == 'x')
            expand = true;
        else
            return tool_usage(t);
    }
    /* What a default depends on has its default too. */
    conf = conf_read(t->memory, what == CONF_PRINT_DEFAULTS ? NULL : t->dir, &faults);
    conf_print(conf, what, expand, optind < t->argc ? (const char *const *)t->argv + optind : NULL, stdout);
    tool_print_faults(&faults, CONF_ERROR, stderr);
    return 0; /* an unknown name is a warning, as for postconf */
}
