/*
 * For this folder: how many deliveries to one destination may run at once. Pure.
 *
 * The window begins at initial_destination_concurrency, grows by what a success feeds back, up to the
 * transport's limit, and shrinks by what a failure of the destination (not of a recipient) feeds back. When
 * failures amount to failed_cohort_limit windows in a row the destination is dead.
 */
#ifndef QUEUE_QMGR_QMGR_WINDOW_H
#define QUEUE_QMGR_QMGR_WINDOW_H

#include <stdbool.h>

enum qmgr_feedback_by { QMGR_FEEDBACK_FIXED, QMGR_FEEDBACK_CONCURRENCY, QMGR_FEEDBACK_SQRT };
struct qmgr_feedback {
    double base;
    enum qmgr_feedback_by by;
};
/* "1", "0.5", "1/concurrency", "1 / sqrt_concurrency"; base from 0 to 1. */
bool qmgr_feedback_parse(const char *text, struct qmgr_feedback *out_r);

struct qmgr_window_rules {
    long initial, limit; /* limit 0: none */
    struct qmgr_feedback positive, negative;
    double cohort_limit; /* 0: never dead */
};
struct qmgr_window {
    long size;
    double success, failure, cohorts;
};
void qmgr_window_reset(struct qmgr_window *w, const struct qmgr_window_rules *rules);
/* busy: deliveries to it that run now, this one included. */
void qmgr_window_success(struct qmgr_window *w, const struct qmgr_window_rules *rules, long busy);
/* True: the destination is dead; the window is as at the start for when it comes back. */
bool qmgr_window_failure(struct qmgr_window *w, const struct qmgr_window_rules *rules);

#endif
