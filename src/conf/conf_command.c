/* What each command of a master.cf is to this version. */
#include "conf_own.h"

#include <stdlib.h>
#include <string.h>

static const struct known {
    const char *name;
    enum conf_command what;
} commands[] = {
    /* sorted */
    {"anvil", CONF_COMMAND_SERVED},
    {"bounce", CONF_COMMAND_OURS},
    {"cleanup", CONF_COMMAND_OURS},
    {"discard", CONF_COMMAND_OURS},
    {"dnsblog", CONF_COMMAND_LATER},
    {"error", CONF_COMMAND_OURS},
    {"filter", CONF_COMMAND_OURS},
    {"flush", CONF_COMMAND_SERVED},
    {"lmtp", CONF_COMMAND_LATER},
    {"local", CONF_COMMAND_LATER},
    {"nqmgr", CONF_COMMAND_LATER},
    {"oqmgr", CONF_COMMAND_LATER},
    {"pickup", CONF_COMMAND_LATER},
    {"pipe", CONF_COMMAND_LATER},
    {"postlogd", CONF_COMMAND_SERVED},
    {"postscreen", CONF_COMMAND_LATER},
    {"proxymap", CONF_COMMAND_SERVED},
    {"qmgr", CONF_COMMAND_OURS},
    {"qmqpd", CONF_COMMAND_LATER},
    {"scache", CONF_COMMAND_SERVED},
    {"showq", CONF_COMMAND_SERVED},
    {"smtp", CONF_COMMAND_OURS},
    {"smtpd", CONF_COMMAND_OURS},
    {"spawn", CONF_COMMAND_LATER},
    {"tlsmgr", CONF_COMMAND_SERVED},
    {"tlsproxy", CONF_COMMAND_LATER},
    {"trivial-rewrite", CONF_COMMAND_SERVED},
    {"verify", CONF_COMMAND_LATER},
    {"virtual", CONF_COMMAND_OURS},
};

static int compare(const void *name, const void *entry)
{
    return strcmp(name, ((const struct known *)entry)->name);
}

enum conf_command conf_command(const char *name)
{
    const struct known *k =
        bsearch(name, commands, sizeof(commands) / sizeof(commands[0]), sizeof(commands[0]), compare);

    return k ? k->what : CONF_COMMAND_UNKNOWN;
}

const char *conf_suggest_command(const char *name)
{
    struct conf_nearest nearest;

    conf_nearest_begin(&nearest, name);
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
        conf_nearest_offer(&nearest, commands[i].name);
    return nearest.found;
}
