/* A fading line through past scans. See admission_predict.h. */
#include "admission_predict.h"

/* A scan counts 1 % less with each later one. A size is only believed to matter when sizes differ by more
 * than SPREAD_KB. */
#define FADE      0.99
#define SPREAD_KB 4.0

static double kilobytes(uint64_t bytes)
{
    return (double)bytes / 1024;
}

/* Least squares; neither part is negative, since no scan is. */
static void line_of(const struct admission_predict *p, double *fixed_r, double *per_kb_r)
{
    double mean_x = p->x / p->n, mean_y = p->y / p->n;
    double spread = p->xx / p->n - mean_x * mean_x;
    double slope = spread > SPREAD_KB * SPREAD_KB ? (p->xy / p->n - mean_x * mean_y) / spread : 0;

    if (slope < 0)
        slope = 0;
    if (slope * mean_x > mean_y)
        slope = mean_y / mean_x;
    *per_kb_r = slope;
    *fixed_r = mean_y - slope * mean_x;
}

uint32_t admission_predict_ms(const struct admission_predict *p, uint64_t bytes)
{
    double fixed, per_kb, ms;

    if (p->n <= 0)
        return ADMISSION_FIRST_GUESS_MS;
    line_of(p, &fixed, &per_kb);
    ms = fixed + per_kb * (bytes > 0 ? kilobytes(bytes) : p->x / p->n);
    if (ms > ADMISSION_LONGEST_MS)
        return ADMISSION_LONGEST_MS;
    return ms < 1 ? 1 : (uint32_t)(ms + 0.5);
}

void admission_predict_add(struct admission_predict *p, uint64_t bytes, uint32_t ms)
{
    double x = kilobytes(bytes), y = ms < ADMISSION_LONGEST_MS ? ms : ADMISSION_LONGEST_MS;
    double off = y - admission_predict_ms(p, bytes);

    if (p->n > 0)
        p->error = FADE * p->error + (1 - FADE) * (off < 0 ? -off : off);
    p->n = FADE * p->n + 1;
    p->x = FADE * p->x + x;
    p->y = FADE * p->y + y;
    p->xx = FADE * p->xx + x * x;
    p->xy = FADE * p->xy + x * y;
}

uint32_t admission_predict_error_ms(const struct admission_predict *p)
{
    return (uint32_t)p->error;
}

static bool is_sum(double value)
{
    return value >= 0 && value < 1e30; /* a NaN is neither */
}

bool admission_predict_is_sane(const struct admission_predict *p)
{
    return is_sum(p->n) && is_sum(p->x) && is_sum(p->y) && is_sum(p->xx) && is_sum(p->xy) && p->error >= 0 &&
           p->error <= ADMISSION_LONGEST_MS;
}
