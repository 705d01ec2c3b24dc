/* The two clocks. See clock.h. */
#include "clock.h"
#include "format.h"

#include <stdlib.h>

static uint64_t skipped_ms;

void clock_skip_ms(uint64_t ms)
{
    skipped_ms += ms;
}

uint64_t clock_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000 + skipped_ms;
}

uint64_t clock_us(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000 + skipped_ms * 1000;
}

uint64_t clock_real_us(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000 + skipped_ms * 1000;
}

/* Day and month names are English whatever the locale: strftime() would translate them. */
const char *clock_mail_date(time_t when)
{
    static const char days[7][4] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
    static const char months[12][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                       "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    static char text[80];
    static time_t last = -1;
    struct tm tm;
    long offset;

    if (when == last)
        return text;
    localtime_r(&when, &tm);
    offset = labs(tm.tm_gmtoff) / 60;
    format_print(text, sizeof(text), "%s, %02d %s %04d %02d:%02d:%02d %c%02ld%02ld (%.10s)", days[tm.tm_wday],
                 tm.tm_mday, months[tm.tm_mon], tm.tm_year + 1900, tm.tm_hour, tm.tm_min, tm.tm_sec,
                 tm.tm_gmtoff < 0 ? '-' : '+', offset / 60, offset % 60, tm.tm_zone ? tm.tm_zone : "");
    last = when;
    return text;
}
