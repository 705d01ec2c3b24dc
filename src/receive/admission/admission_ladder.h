/*
 * The ladder of a class: which step it stands on at which pressure. Pure.
 *
 * "full, hold 80, 451 150, 421 400": from a pressure of 80 % on the class stands on hold, and so on; full is
 * implied. A step is entered at once, and left, one step at a time, when the pressure was below three
 * quarters of its mark and the class has stood there for ADMISSION_STEP_MS; so a pressure that swings about a
 * mark does not make the step swing.
 */
#ifndef ADMISSION_ADMISSION_LADDER_H
#define ADMISSION_ADMISSION_LADDER_H

#include "admission.h"

enum { ADMISSION_STEP_MS = 5000, ADMISSION_PRESSURE_LIMIT = 100000 };

struct admission_ladder {
    uint32_t mark[ADMISSION_STEPS]; /* percent; 0: the ladder has no such step, or it is full */
};

/* Steps in the order of enum admission_step with rising marks; else ERROR_CONF. */
struct error *admission_ladder_parse(const char *text, struct admission_ladder *out_r);
/* Where a single message goes that finds no room on `step`: from full to the next step when that is another
 * way to be filtered (cheap, hold). */
enum admission_step admission_ladder_beside(const struct admission_ladder *l, enum admission_step step);
/* The step to stand on now, after `step`, entered at `since`. */
enum admission_step admission_ladder_step(const struct admission_ladder *l, enum admission_step step,
                                          uint64_t since, uint32_t pressure, uint64_t now);

#endif
