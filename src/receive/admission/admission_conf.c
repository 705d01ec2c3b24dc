/* Parameters of a pool. See admission_conf.h. */
#include "admission_conf.h"

#include <string.h>

static const struct {
    const char *patience, *share, *steps;
} names[ADMISSION_CLASSES] = {
    {"smtpd_proxy_own_patience", "smtpd_proxy_own_share", "smtpd_proxy_own_steps"},
    {"smtpd_proxy_auth_patience", "smtpd_proxy_auth_share", "smtpd_proxy_auth_steps"},
    {"smtpd_proxy_good_patience", "smtpd_proxy_good_share", "smtpd_proxy_good_steps"},
    {"smtpd_proxy_stranger_patience", "smtpd_proxy_stranger_share", "smtpd_proxy_stranger_steps"},
};

const char *admission_class_name(enum admission_class class)
{
    static const char *const classes[ADMISSION_CLASSES] = {"own", "auth", "good", "stranger"};

    return (unsigned)class < ADMISSION_CLASSES ? classes[class] : "unknown";
}

static struct error *read_mode(const struct conf *conf, struct admission_settings *s)
{
    const char *mode = conf_text(conf, "smtpd_proxy_concurrency_mode");

    s->is_adaptive = strcmp(mode, "adaptive") == 0;
    if (!s->is_adaptive && strcmp(mode, "fixed") != 0)
        return error_new(ERROR_CONF, "unknown smtpd_proxy_concurrency_mode value \"%s\"", mode);
    return NULL;
}

static struct error *read_class(const struct conf *conf, unsigned class, struct admission_settings *s)
{
    uint64_t patience = conf_time_ms(conf, names[class].patience);
    uint64_t most = conf_time_ms(conf, "smtpd_proxy_timeout");

    s->patience_ms[class] = (uint32_t)(patience < most ? patience : most);
    s->share[class] = (uint32_t)conf_int(conf, names[class].share);
    return error_prepend(admission_ladder_parse(conf_text(conf, names[class].steps), &s->ladder[class]), "%s",
                         names[class].steps);
}

struct error *admission_conf_read(const struct conf *conf, struct admission_settings *s)
{
    struct error *e;

    memset(s, 0, sizeof(*s));
    s->most = (uint32_t)conf_int(conf, "smtpd_proxy_concurrency_limit");
    s->least = (uint32_t)conf_int(conf, "smtpd_proxy_concurrency_minimum");
    if (s->least > s->most && s->most > 0)
        s->least = s->most;
    s->reserve_ms = (uint32_t)conf_time_ms(conf, "smtpd_proxy_reserve_time");
    s->good_messages = (uint32_t)conf_int(conf, "smtpd_proxy_good_client_messages");
    s->good_reject_percent = (uint32_t)conf_int(conf, "smtpd_proxy_good_client_reject_percent");
    s->good_age = (uint32_t)(conf_time_ms(conf, "smtpd_proxy_good_client_age") / 1000);
    s->half_life = (uint32_t)(conf_time_ms(conf, "smtpd_proxy_client_half_life") / 1000);
    e = read_mode(conf, s);
    for (unsigned i = 0; e == NULL && i < ADMISSION_CLASSES; i++)
        e = read_class(conf, i, s);
    return e;
}
