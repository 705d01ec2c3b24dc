/*
 * Two clocks. clock_ms() never jumps: deadlines and durations; clock_us() is the same clock, finer: what came
 * before what, also between processes of this host. clock_real_us() is the time of day: logs,
 * headers, queue ids, retry times.
 */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <stdint.h>
#include <time.h>

uint64_t clock_ms(void);      /* milliseconds since some fixed moment */
uint64_t clock_us(void);      /* microseconds since the same moment */
uint64_t clock_real_us(void); /* microseconds since 1970 UTC */

/* For tests: both clocks advance by this much, from now on. */
void clock_skip_ms(uint64_t ms);

/* RFC 5322 3.3 date-time in local time, "Fri, 20 Nov 2026 19:18:47 +0000 (UTC)". Borrowed until the next
 * call. */
const char *clock_mail_date(time_t when);

#endif
