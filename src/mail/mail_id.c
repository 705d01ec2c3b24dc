/* One id for a message's whole way. See mail.h. */
#include "mail.h"

#include "clock.h"
#include "format.h"

#include <string.h>

/* Postfix's alphabet for long queue ids: no vowels, so no words. */
static const char digits52[] = "0123456789BCDFGHJKLMNPQRSTVWXYZbcdfghjklmnpqrstvwxyz";

static unsigned own_worker;
static bool use_long;
static uint64_t last_us;

void mail_id_setup(unsigned worker, bool is_long)
{
    own_worker = worker & 255;
    use_long = is_long;
}

/* At least `width` digits, most significant first; returns the number of digits. */
static size_t put_number(char *to, uint64_t value, unsigned base, size_t width)
{
    char reversed[16];
    size_t n = 0;

    while (value > 0 || n < width) {
        reversed[n++] = digits52[value % base];
        value /= base;
    }
    for (size_t i = 0; i < n; i++)
        to[i] = reversed[n - 1 - i];
    return n;
}

/* Short: five hex digits of microseconds, the seconds, the worker. Long: seconds, microseconds, 'z', the
 * worker, in base 52 (51 after the 'z', so that the 'z' is found). One worker never gives out the same
 * microsecond twice. */
void mail_id_new(char id[MAIL_ID_SIZE])
{
    uint64_t now = clock_real_us();
    size_t n;

    if (now <= last_us)
        now = last_us + 1;
    last_us = now;
    if (!use_long) {
        format_print(id, MAIL_ID_SIZE, "%05X%08X%02X", (unsigned)(now % 1000000), (unsigned)(now / 1000000),
                     own_worker);
        return;
    }
    n = put_number(id, now / 1000000, 52, 6);
    n += put_number(id + n, now % 1000000, 52, 4);
    id[n++] = 'z';
    n += put_number(id + n, own_worker, 51, 1);
    id[n] = '\0';
}

bool mail_id_is_valid(struct bytes id)
{
    if (id.n < 6 || id.n > MAIL_ID_SIZE - 2)
        return false;
    for (size_t i = 0; i < id.n; i++)
        if (!ascii_is_digit(id.p[i]) && !ascii_is_alpha(id.p[i]))
            return false;
    return true;
}

enum { MICROS_DIGITS = 5, SECONDS_DIGITS = 8, SHORT_SIZE = 15, LONG_SECONDS_DIGITS = 6, LONG_MARK = 10 };

static const char digits16[] = "0123456789ABCDEF";

/* 0 when one of them is no digit; nothing is given out in the second 0. */
static uint64_t number(struct bytes text, const char *digits, unsigned base)
{
    uint64_t value = 0;

    for (size_t i = 0; i < text.n; i++) {
        const char *digit = text.p[i] != '\0' ? strchr(digits, text.p[i]) : NULL;

        if (digit == NULL)
            return 0;
        value = value * base + (uint64_t)(digit - digits);
    }
    return value;
}

uint64_t mail_id_time(struct bytes id)
{
    if (id.n > LONG_MARK && id.p[LONG_MARK] == 'z')
        return number(bytes(id.p, LONG_SECONDS_DIGITS), digits52, 52);
    if (id.n == SHORT_SIZE)
        return number(bytes(id.p + MICROS_DIGITS, SECONDS_DIGITS), digits16, 16);
    return 0;
}
