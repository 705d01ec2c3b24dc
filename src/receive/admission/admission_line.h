/*
 * The line of refused clients of one class: nobody starves. Pure; the caller holds the lock.
 *
 * A client stands in line from its second refusal until it is let in: many are refused once and never come
 * back, and those must not keep others waiting. From the head of the line clients are
 * called, as many as must be on their way so that their messages keep the queue at its level: the filter's
 * rate times the time that a called client takes to come back, divided by the part of them that does come
 * back; both are measured. A called client that does not come in time is counted on no longer, and is still
 * welcome; so is one that has stood until its turn came and had not tried for long then.
 */
#ifndef ADMISSION_ADMISSION_LINE_H
#define ADMISSION_ADMISSION_LINE_H

#include "admission_layout.h"

void admission_line_init(struct admission_line *l);

/* The client is here, at MAIL. */
void admission_line_tries(struct admission_shared *s, struct admission_record *r, uint64_t now);
/* It was refused: the second time it is in line from now on. */
void admission_line_join(struct admission_shared *s, struct admission_record *r, unsigned pool,
                         unsigned class, uint64_t now);
/* It was let in. */
void admission_line_leave(struct admission_shared *s, struct admission_record *r);
/* It was let in, and got no verdict: as welcome as if it had been called and had not come. */
void admission_line_return(struct admission_record *r, unsigned pool, unsigned class);
/* Counts no longer on who seems to be gone, and calls. per_ms: messages that the class gets done in a
 * millisecond; lack: messages by which the queue is short (negative: beyond its level). */
void admission_line_call(struct admission_shared *s, unsigned pool, unsigned class, double per_ms,
                         double lack, uint64_t now);
/* Called clients that will come, on average. */
double admission_line_expected(const struct admission_shared *s, unsigned pool, unsigned class);
/* Makes the lists anew from the records. */
void admission_line_relist(struct admission_shared *s);
bool admission_line_is_sane(const struct admission_line *l);

#endif
