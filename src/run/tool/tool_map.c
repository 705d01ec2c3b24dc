/* sallyport map: builds a table from its source file, or asks one, as postmap does. */
#include "clock.h"
#include "co.h"
#include "mem.h"
#include "table.h"
#include "tool.h"

#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>

struct query {
    struct tool *tool;
    struct table *table;
    const char *key;
    enum table_end end;
};

static void ask(void *arg)
{
    struct query *q = arg;
    char *value = NULL;

    q->end = table_find(q->table, q->tool->memory, bytes_of(q->key), &value);
    if (q->end == TABLE_FOUND)
        printf("%s\n", value);
}

static int find(struct tool *t, const struct conf *conf, const char *spec, const char *key)
{
    struct query q = {.tool = t, .key = key, .end = TABLE_FAILED};
    struct error *e;

    co_init(1);
    e = table_open(spec, conf, &q.table);
    if (e != NULL)
        return tool_fail_error(&e);
    co_spawn(ask, &q, "query");
    co_run();
    return q.end == TABLE_FOUND ? 0 : q.end == TABLE_ABSENT ? 1 : EX_TEMPFAIL;
}

int tool_map(struct tool *t)
{
    struct conf_faults faults = {.ctx = t->memory};
    const struct conf *conf = conf_read(t->memory, t->dir, &faults);
    const char *key = NULL;
    struct error *e;
    int option;

    optind = 1;
    while ((option = getopt(t->argc, t->argv, "q:")) != -1) {
        if (option != 'q')
            return tool_usage(t);
        key = optarg;
    }
    if (t->argc - optind != 1)
        return tool_usage(t);
    if (conf_faults_has_error(&faults)) {
        tool_print_faults(&faults, CONF_ERROR, stderr);
        return EX_CONFIG;
    }
    if (key != NULL)
        return find(t, conf, t->argv[optind], key);
    e = table_build(t->argv[optind], conf);
    return e ? tool_fail_error(&e) : 0;
}
