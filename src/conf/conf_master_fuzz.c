/* master.cf from any bytes over a small main.cf; what was read must be whole. */
#include "conf_own.h"
#include "mem.h"

#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void look(const struct conf_service *s)
{
    assert(s->name != NULL && *s->name != '\0');
    assert(s->command != NULL && *s->command != '\0');
    assert(s->args != NULL && s->conf != NULL && s->maxproc >= 0 && s->line > 0);
    assert((s->type == CONF_INET) == (s->port != NULL));
    for (size_t i = 0; s->args[i] != NULL; i++)
        assert(strlen(s->args[i]) <= CONF_FILE_LIMIT);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char main_text[] = "compatibility_level = 3.6\nmine = $yours\nmail_name = ${mine:{x}}\n"
                                    "smtpd_recipient_limit = ${many?{$many}:{10}}\n";
    struct conf_faults faults = {.ctx = talloc_new(NULL)};
    struct conf *c = conf_read(faults.ctx, NULL, &faults);
    struct conf_services services;

    conf_main_parse(c, BYTES(main_text), "main.cf", &faults);
    conf_validate(c, &faults);
    services = conf_services_parse(faults.ctx, c, bytes((const char *)data, size), "master.cf", &faults);
    conf_lint(c, &services, &faults);
    for (size_t i = 0; i < services.n; i++) {
        look(&services.at[i]);
        if (!conf_faults_has_error(&faults)) {
            conf_int(services.at[i].conf, "smtpd_recipient_limit");
            conf_text(services.at[i].conf, "mail_name");
            conf_time_ms(services.at[i].conf, "smtpd_timeout");
        }
    }
    talloc_free(faults.ctx);
    return 0;
}
