/* Reading the live numbers. See tool_numbers.h. */
#include "tool_numbers.h"

#include "daemon.h"
#include "master.h"
#include "mem.h"

struct error *numbers_read(const void *ctx, const struct conf *conf, struct numbers *out_r)
{
    const char *data = conf_text(conf, "data_directory");
    char *endpoints;
    struct error *e, *none;

    *out_r = (struct numbers){0};
    if (master_pid(conf_text(conf, "queue_directory")) == 0)
        return error_new(ERROR_PERM, "the mail system is not running");
    endpoints = mem_printf(NULL, "%s/" DAEMON_ENDPOINTS, data);
    e = master_quota_snapshot(data, out_r->sessions);
    none = admission_snapshot(data, &out_r->admission);
    error_free(&none);
    verdict_snapshot(conf, &out_r->verdict);
    proxy_snapshot(ctx, endpoints, conf_time_ms(conf, "smtpd_proxy_slow_start_time"), &out_r->endpoints);
    talloc_free(endpoints);
    return e;
}
