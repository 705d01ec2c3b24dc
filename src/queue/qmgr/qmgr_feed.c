/*
 * From files to messages: scans incoming when the doorbell rings, both places every queue_run_delay, and
 * takes what is due as long as there is room. Scans run on the thread pool and bring back a bounded list of
 * ids.
 */
#include "clock.h"
#include "log.h"
#include "mem.h"
#include "qmgr_state.h"

#include <stdlib.h>

enum {
    SCAN_LIMIT = 5000,    /* ids of one scan */
    FLUSH_LIMIT = 100000, /* of a flush, which looks only once */
    TURN = 64,            /* messages of one place before it is the other's turn */
    RESOLVING_LIMIT = 100,
    LATER_MS = 3000, /* for what was locked */
    SCAN_TIMEOUT_MS = 600 * 1000
};

static const enum queue_place places[2] = {QUEUE_INCOMING, QUEUE_DEFERRED};

bool qmgr_has_room(const struct qmgr *q)
{
    return q->message_count < q->message_limit && (q->message_count == 0 || q->rcpt_count < q->rcpt_limit) &&
           q->resolving < RESOLVING_LIMIT;
}

/* ---- scans ---- */

struct found {
    char id[MAIL_ID_SIZE];
    time_t due;
};
struct scan {
    struct qmgr *qmgr; /* the loop's; for the thread: */
    atomic_bool is_unwanted;
    struct queue *queue;
    enum queue_place place;
    time_t until; /* later ones are not due */
    size_t limit;
    struct found *at;
    size_t n, room;
    struct error *error;
};

/* When nobody waits for it any more: on the loop, after the thread. */
static int end_scan(struct scan *s)
{
    s->qmgr->scans--;
    if (s->is_unwanted)
        qmgr_wake(s->qmgr);
    error_free(&s->error);
    return 0;
}

static bool add_found(void *arg, const char *id, time_t mtime, uint64_t size)
{
    struct scan *s = arg;

    if (s->place == QUEUE_DEFERRED && mtime > s->until)
        return true;
    if (s->n == s->room) {
        s->room = s->room ? s->room * 2 : 64;
        s->at = mem_grow(s, s->at, s->room);
    }
    snprintf(s->at[s->n].id, sizeof(s->at[s->n].id), "%s", id);
    s->at[s->n++].due = mtime;
    return s->n < s->limit && !s->is_unwanted;
}

static int compare_found(const void *a, const void *b)
{
    const struct found *x = a, *y = b;

    return x->due != y->due ? (x->due > y->due) - (x->due < y->due) : strcmp(x->id, y->id);
}

static void run_scan(void *arg)
{
    struct scan *s = arg;

    s->error = queue_scan(s->queue, s->place, add_found, s);
    if (s->n > 0)
        qsort(s->at, s->n, sizeof(*s->at), compare_found);
}

static void fill_backlog(struct qmgr *q, int which, const struct scan *s)
{
    struct qmgr_backlog *b = &q->backlog[which];
    size_t i;

    talloc_free(b->ids);
    b->ids = (void *)mem_bytes(q, (s->n + 1) * sizeof(*b->ids));
    b->n = s->n;
    b->at = 0;
    for (i = 0; i < s->n; i++)
        memcpy(b->ids[i], s->at[i].id, sizeof(b->ids[i]));
}

static struct scan *new_scan(struct qmgr *q, int which, bool is_flush)
{
    struct scan *s = mem_new(NULL, struct scan);

    s->qmgr = q;
    s->queue = q->queue;
    s->place = places[which];
    s->until = is_flush ? (time_t)INT64_MAX : (time_t)qmgr_seconds(clock_real_us());
    s->limit = is_flush ? FLUSH_LIMIT : SCAN_LIMIT;
    q->scans++;
    talloc_set_destructor(s, end_scan);
    return s;
}

/* Fills the backlog of a place; there may be more when *is_cut_r. */
static co_fn void scan(struct qmgr *q, int which, bool *is_cut_r)
{
    bool is_flush = which == 1 && q->wants_flush;
    struct scan *s = new_scan(q, which, is_flush);

    q->wants[which] = false;
    if (is_flush)
        q->wants_flush = false;
    *is_cut_r = false;
    if (co_work(run_scan, s, clock_ms() + SCAN_TIMEOUT_MS, "queue scan") != CO_OK) {
        s->is_unwanted = true;
        return;
    }
    if (s->error != NULL)
        log_report(&s->error);
    *is_cut_r = s->n == s->limit && !is_flush;
    if (which == 1)
        q->is_flush = is_flush;
    fill_backlog(q, which, s);
    talloc_free(s);
}

/* ---- taking ---- */

struct feed {
    struct qmgr *qmgr;
    bool is_cut[2];   /* the last scan did not see everything */
    bool had_luck[2]; /* and something of it was taken */
    uint64_t next_run, look_again;
};

static bool has_more(const struct qmgr *q, int which)
{
    return q->wants[which] || q->backlog[which].at < q->backlog[which].n;
}

/* Some messages of one place. */
static co_fn void feed_place(struct feed *f, int which)
{
    struct qmgr *q = f->qmgr;
    struct qmgr_backlog *b = &q->backlog[which];
    enum qmgr_taken taken;
    int turn;

    if (!has_more(q, which))
        return;
    if (!qmgr_has_room(q)) {
        q->is_hungry = true;
        return;
    }
    if (b->at == b->n) {
        f->had_luck[which] = false;
        scan(q, which, &f->is_cut[which]);
    }
    for (turn = 0; turn < TURN && b->at < b->n && qmgr_has_room(q); turn++) {
        taken = qmgr_message_take(q, places[which], b->ids[b->at++]);
        f->had_luck[which] = f->had_luck[which] || taken == QMGR_TAKEN;
        if ((taken == QMGR_LATER || taken == QMGR_TROUBLE) && f->look_again == 0)
            f->look_again = clock_ms() + LATER_MS;
        if (taken == QMGR_TROUBLE)
            b->at = b->n; /* the others would fare no better now */
    }
    if (b->at == b->n && f->is_cut[which] && f->had_luck[which]) {
        f->is_cut[which] = false;
        q->wants[which] = true;
    }
}

static void look_at_clock(struct feed *f)
{
    struct qmgr *q = f->qmgr;
    uint64_t now = clock_ms();

    if (f->look_again != 0 && now >= f->look_again) {
        f->look_again = 0;
        q->wants[0] = true;
    }
    if (now < f->next_run)
        return;
    f->next_run = now + q->run_delay_ms;
    q->wants[0] = q->wants[1] = true;
    qmgr_transport_sweep(q);
}

static uint64_t next_look(const struct feed *f)
{
    return f->look_again != 0 && f->look_again < f->next_run ? f->look_again : f->next_run;
}

/* A scan's wait takes the doorbell's wake for itself, and the ring may be for the place fed before it: only
 * what is wanted after both says whether the feeder may wait. */
void qmgr_feed(struct qmgr *q)
{
    struct feed f = {.qmgr = q};

    while (!co_is_cancelled()) {
        look_at_clock(&f);
        q->is_hungry = false;
        if (q->wants_flush)
            q->backlog[1].at = q->backlog[1].n; /* the flush sees it all anew */
        feed_place(&f, 0);
        feed_place(&f, 1);
        if ((has_more(q, 0) || has_more(q, 1)) && !q->is_hungry)
            co_yield ();
        else
            co_park(next_look(&f), "mail");
    }
}
