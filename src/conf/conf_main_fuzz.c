/* main.cf from any bytes: read, tried, looked at, printed and asked for; a value found good must be readable.
 */
#include "conf_own.h"
#include "mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static FILE *nowhere;

/* What a service may ask for once conf_validate found no error. */
static void ask(const struct conf *c)
{
    size_t n;
    const struct conf_param *params = conf_params(&n);

    for (size_t i = 0; i < n; i++) {
        switch (params[i].type) {
        case CONF_BOOL:
            conf_bool(c, params[i].name);
            break;
        case CONF_INT:
        case CONF_SIZE:
            conf_size(c, params[i].name);
            break;
        case CONF_TIME:
            conf_time_ms(c, params[i].name);
            break;
        case CONF_TEXT:
        case CONF_RAW_TEXT:
            conf_text(c, params[i].name);
            break;
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct conf_faults faults = {.ctx = talloc_new(NULL)};
    struct conf *c = conf_read(faults.ctx, NULL, &faults);
    struct conf_services services;
    struct conf *stressed;

    if (nowhere == NULL)
        nowhere = fopen("/dev/null", "w");
    conf_main_parse(c, bytes((const char *)data, size), "main.cf", &faults);
    conf_validate(c, &faults);
    services = conf_services_parse(faults.ctx, c, BYTES("smtp inet n - n - - smtpd\n"), "master.cf", &faults);
    conf_lint(c, &services, &faults);
    if (!conf_faults_has_error(&faults)) {
        ask(c);
        ask(services.at[0].conf);
        stressed = conf_derive(faults.ctx, c);
        conf_set(stressed, "stress", "yes", "fuzz", 1);
        ask(stressed);
    }
    conf_print(c, CONF_PRINT_ALL, false, NULL, nowhere);
    talloc_free(faults.ctx);
    return 0;
}
