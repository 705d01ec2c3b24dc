/*
 * Texts into values: yes and no, numbers, times; and what is wrong with a text, in Postfix's words, which
 * administrators search for.
 */
#include "conf_own.h"
#include "mem.h"

#include <errno.h>
#include <stdlib.h>

char *conf_bool_parse(const void *ctx, const char *name, const char *text, bool *out_r)
{
    struct bytes value = bytes_of(text);

    *out_r = bytes_ieq(value, BYTES("yes"));
    if (*out_r || bytes_ieq(value, BYTES("no")))
        return NULL;
    return mem_printf(ctx, "bad boolean configuration: %s = %s", name, text);
}

/* A decimal number with an optional sign; *end_r is what follows. */
static bool parse_long(const char *text, long *out_r, const char **end_r)
{
    const char *digits = text + (*text == '-' || *text == '+');
    char *end;

    if (!ascii_is_digit(*digits))
        return false;
    errno = 0;
    *out_r = strtol(text, &end, 10);
    *end_r = end;
    return errno == 0;
}

char *conf_number_parse(const void *ctx, const struct conf_param *p, const char *name, const char *text,
                        long *out_r)
{
    const char *end;

    if (!parse_long(text, out_r, &end) || *end != '\0')
        return mem_printf(ctx, "bad numerical configuration: %s = %s", name, text);
    if (*out_r < p->min)
        return mem_printf(ctx, "invalid %s parameter value %ld < %ld", name, *out_r, p->min);
    if (p->max != 0 && *out_r > p->max)
        return mem_printf(ctx, "invalid %s parameter value %ld > %ld", name, *out_r, p->max);
    return NULL;
}

static long unit_seconds(char unit)
{
    switch (unit) {
    case 's':
        return 1;
    case 'm':
        return 60;
    case 'h':
        return 60 * 60;
    case 'd':
        return 24 * 60 * 60;
    case 'w':
        return 7 * 24 * 60 * 60;
    }
    return 0;
}

/* Only the first letter of the unit counts: "10sec" is ten seconds. */
static bool parse_seconds(const char *text, char default_unit, long *out_r)
{
    const char *end;
    long number, unit;

    if (!parse_long(text, &number, &end) || number < 0)
        return false;
    unit = unit_seconds(*end ? *end : default_unit);
    return unit != 0 && number <= INT32_MAX && !__builtin_mul_overflow(number, unit, out_r) &&
           *out_r <= INT32_MAX;
}

char *conf_time_parse(const void *ctx, const struct conf_param *p, const char *name, const char *text,
                      uint64_t *ms_r)
{
    long seconds;

    if (!parse_seconds(text, p->unit ? p->unit : 's', &seconds))
        return mem_printf(ctx, "parameter %s: bad time value or unit: %s", name, text);
    if (seconds < p->min)
        return mem_printf(ctx, "invalid %s: %s (min %ld)", name, text, p->min);
    if (p->max != 0 && seconds > p->max)
        return mem_printf(ctx, "invalid %s: %s (max %ld)", name, text, p->max);
    *ms_r = (uint64_t)seconds * 1000;
    return NULL;
}

char *conf_text_check(const void *ctx, const struct conf_param *p, const char *name, const char *text)
{
    long n = (long)strlen(text);

    if (n < p->min)
        return mem_printf(ctx, "bad string length %ld < %ld: %s = %s", n, p->min, name, text);
    if (p->max != 0 && n > p->max)
        return mem_printf(ctx, "bad string length %ld > %ld: %s = %s", n, p->max, name, text);
    return NULL;
}

char *conf_value_check(const void *ctx, const struct conf_param *p, const char *name, const char *text)
{
    bool yes;
    long number;
    uint64_t ms;

    switch (p->type) {
    case CONF_BOOL:
        return conf_bool_parse(ctx, name, text, &yes);
    case CONF_INT:
    case CONF_SIZE:
        return conf_number_parse(ctx, p, name, text, &number);
    case CONF_TIME:
        return conf_time_parse(ctx, p, name, text, &ms);
    case CONF_TEXT:
    case CONF_RAW_TEXT:
        break;
    }
    return conf_text_check(ctx, p, name, text);
}
