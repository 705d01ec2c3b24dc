/* The table of programs. See daemon.h. */
#include "daemon_own.h"

#include "admission.h"
#include "anvil.h"
#include "copies.h"
#include "mem.h"
#include "proxy.h"
#include "queue_file.h"
#include "verdict.h"

#include <string.h>

static const struct master_program programs[] = {
    {"smtpd", MASTER_POOL, false, daemon_smtpd},          {"filter", MASTER_POOL, false, daemon_smtpd},
    {"qmgr", MASTER_SINGLE, false, daemon_qmgr},          {"smtp", MASTER_ON_DEMAND, false, daemon_deliver},
    {"virtual", MASTER_ON_DEMAND, true, daemon_deliver},  {"error", MASTER_ON_DEMAND, false, daemon_deliver},
    {"discard", MASTER_ON_DEMAND, false, daemon_deliver}, {"bounce", MASTER_ON_DEMAND, false, daemon_deliver},
};

static const struct {
    const char *command;
    struct error *(*open)(const void *ctx, const struct conf_service *service);
} tries[] = {
    {"smtpd", daemon_smtpd_try},     {"filter", daemon_smtpd_try},    {"qmgr", daemon_qmgr_try},
    {"smtp", daemon_deliver_try},    {"virtual", daemon_deliver_try}, {"error", daemon_deliver_try},
    {"discard", daemon_deliver_try}, {"bounce", daemon_deliver_try},
};

const struct master_program *daemon_programs(size_t *n_r)
{
    *n_r = sizeof(programs) / sizeof(programs[0]);
    return programs;
}

void daemon_prepare(const struct conf *conf)
{
    char *path = mem_printf(NULL, "%s/" DAEMON_ENDPOINTS, conf_text(conf, "data_directory"));

    anvil_prepare();
    queue_prepare();
    copies_prepare();
    proxy_prepare(path);
    admission_prepare(conf_text(conf, "data_directory"));
    verdict_prepare(conf);
    talloc_free(path);
}

void daemon_died(unsigned worker)
{
    anvil_forget(worker);
    copies_forget(worker);
    proxy_forget(worker);
    admission_forget(worker);
    verdict_forget(worker);
}

struct error *daemon_try(const struct conf_service *service)
{
    void *memory = talloc_new(NULL);
    struct error *e = NULL;

    proxy_enter(MASTER_TOOL_ID);
    for (size_t i = 0; i < sizeof(tries) / sizeof(tries[0]); i++)
        if (strcmp(service->command, tries[i].command) == 0)
            e = tries[i].open(memory, service);
    talloc_free(memory);
    proxy_forget(MASTER_TOOL_ID);
    return e;
}
