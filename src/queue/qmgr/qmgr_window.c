/* Concurrency per destination. See qmgr_window.h. */
#include "qmgr_window.h"

#include "bytes.h"

#include <stdlib.h>

bool qmgr_feedback_parse(const char *text, struct qmgr_feedback *out_r)
{
    struct bytes divisor;
    char *end;

    out_r->base = strtod(text, &end);
    out_r->by = QMGR_FEEDBACK_FIXED;
    if (end == text || !(out_r->base >= 0 && out_r->base <= 1))
        return false;
    divisor = bytes_trim(bytes_of(end));
    if (divisor.n == 0)
        return true;
    if (divisor.p[0] != '/')
        return false;
    divisor = bytes_trim(bytes_skip(divisor, 1));
    out_r->by =
        bytes_ieq(divisor, BYTES("sqrt_concurrency")) ? QMGR_FEEDBACK_SQRT : QMGR_FEEDBACK_CONCURRENCY;
    return out_r->by == QMGR_FEEDBACK_SQRT || bytes_ieq(divisor, BYTES("concurrency"));
}

/* Heron's method: no mathematics library for one root. */
static double square_root(double x)
{
    double root = x > 1 ? x : 1;
    int i;

    for (i = 0; i < 40; i++)
        root = (root + x / root) / 2;
    return root;
}

static double feedback(const struct qmgr_feedback *f, long window)
{
    double size = window > 0 ? (double)window : 1;

    switch (f->by) {
    case QMGR_FEEDBACK_FIXED:
        return f->base;
    case QMGR_FEEDBACK_CONCURRENCY:
        return f->base / size;
    case QMGR_FEEDBACK_SQRT:
        return f->base / square_root(size);
    }
    return 0;
}

void qmgr_window_reset(struct qmgr_window *w, const struct qmgr_window_rules *rules)
{
    w->size = rules->initial;
    if (rules->limit > 0 && w->size > rules->limit)
        w->size = rules->limit;
    w->success = w->failure = w->cohorts = 0;
}

/* It grows only while it is used: not beyond what runs now and the start together. */
void qmgr_window_success(struct qmgr_window *w, const struct qmgr_window_rules *rules, long busy)
{
    w->cohorts = 0;
    w->success += feedback(&rules->positive, w->size);
    while (w->success + 1e-9 >= 1) {
        w->success -= 1;
        w->failure = 0;
        if ((rules->limit == 0 || w->size < rules->limit) && w->size < busy + rules->initial)
            w->size++;
    }
}

bool qmgr_window_failure(struct qmgr_window *w, const struct qmgr_window_rules *rules)
{
    w->cohorts += 1.0 / (double)(w->size > 0 ? w->size : 1);
    if (rules->cohort_limit > 0 && w->cohorts + 1e-9 >= rules->cohort_limit) {
        qmgr_window_reset(w, rules);
        return true;
    }
    w->failure += feedback(&rules->negative, w->size);
    while (w->failure + 1e-9 >= 1) {
        w->failure -= 1;
        w->success = 0;
        if (w->size > 1)
            w->size--;
    }
    return false;
}
