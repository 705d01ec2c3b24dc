/*
 * How long a scan will take: a line through what scans took, fixed part and part per KB, in which old scans
 * fade. Pure.
 */
#ifndef ADMISSION_ADMISSION_PREDICT_H
#define ADMISSION_ADMISSION_PREDICT_H

#include <stdbool.h>
#include <stdint.h>

enum { ADMISSION_FIRST_GUESS_MS = 1000, ADMISSION_LONGEST_MS = 600000 };

/* Zeroed memory has seen nothing. */
struct admission_predict {
    double n, x, y, xx, xy; /* faded sums over scans: x is KB, y ms */
    double error;           /* average distance from the prediction, ms */
};

void admission_predict_add(struct admission_predict *p, uint64_t bytes, uint32_t ms);
/* bytes 0: a message of average size. At least 1, at most ADMISSION_LONGEST_MS. */
uint32_t admission_predict_ms(const struct admission_predict *p, uint64_t bytes);
/* How far off a prediction usually is. */
uint32_t admission_predict_error_ms(const struct admission_predict *p);
/* False: not what admission_predict_add leaves behind. */
bool admission_predict_is_sane(const struct admission_predict *p);

#endif
