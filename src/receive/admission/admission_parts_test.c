/* The parts by themselves: prediction, limit, ladder, records, line, turns, room. */
#include "admission_core.h"
#include "admission_ladder.h"
#include "admission_line.h"
#include "admission_message.h"
#include "admission_order.h"
#include "admission_record.h"
#include "admission_room.h"
#include "mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const struct admission_settings settings = {
    .most = 10,
    .least = 1,
    .reserve_ms = 60000,
    .good_messages = 10,
    .good_reject_percent = 5,
    .good_age = 86400,
    .half_life = 7 * 86400,
    .patience_ms = {100000, 100000, 100000, 100000},
    .share = {40, 10, 25, 25},
};

static struct admission_shared *begin(void)
{
    struct admission_shared *s = mem_new(NULL, struct admission_shared);

    admission_core_init(s, 0);
    assert_int_equal(admission_core_pool(s, "filter", 1, 0, &settings, 1000), 0);
    return s;
}

static struct admission_key key(uint32_t n)
{
    struct admission_key k = {.pool = 1};

    memcpy(k.addr, &n, sizeof(n));
    return k;
}

/* ---- prediction ---- */

static void test_prediction_learns_a_line(void **state)
{
    struct admission_predict p = {0};

    assert_int_equal(admission_predict_ms(&p, 4096), ADMISSION_FIRST_GUESS_MS);
    for (uint32_t i = 0; i < 400; i++)
        admission_predict_add(&p, (1 + i % 100) * 1024, 200 + 3 * (1 + i % 100));
    assert_in_range(admission_predict_ms(&p, 10 * 1024), 228, 232);
    assert_in_range(admission_predict_ms(&p, 1000 * 1024), 3190, 3210);
    assert_in_range(admission_predict_ms(&p, 0), 330, 370);
    assert_in_range(admission_predict_error_ms(&p), 0, 20);
    assert_true(admission_predict_is_sane(&p));
}

static void test_prediction_bears_anything(void **state)
{
    struct admission_predict p = {0};

    for (int i = 0; i < 300; i++)
        admission_predict_add(&p, 4096, 500);
    assert_int_equal(admission_predict_ms(&p, 4096), 500);
    assert_int_equal(admission_predict_ms(&p, UINT64_MAX), 500); /* sizes have not mattered */
    admission_predict_add(&p, UINT64_MAX, UINT32_MAX);
    assert_in_range(admission_predict_ms(&p, UINT64_MAX), 1, ADMISSION_LONGEST_MS);
    assert_in_range(admission_predict_ms(&p, 1), 1, ADMISSION_LONGEST_MS);
    for (uint32_t i = 0; i < 1000; i++)
        admission_predict_add(&p, (100 - i % 100) * 10240, i % 100); /* larger is faster: not believed */
    assert_in_range(admission_predict_ms(&p, 1 << 30), 1, 60);
    p.xx = -1;
    assert_false(admission_predict_is_sane(&p));
}

static void test_prediction_follows_change(void **state)
{
    struct admission_predict p = {0};

    for (int i = 0; i < 1000; i++)
        admission_predict_add(&p, 4096, 100);
    for (int i = 0; i < 300; i++)
        admission_predict_add(&p, 4096, 1000);
    assert_in_range(admission_predict_ms(&p, 4096), 900, 1000);
}

/* ---- limit ---- */

/* A filter that does `capacity` scans at once at full speed; more share it. Each scan's time varies. */
static uint32_t settle(struct admission_limit *l, double capacity, uint32_t scans, uint64_t *now)
{
    uint64_t random = 7, sum = 0;
    double time = (double)*now;

    for (uint32_t i = 0; i < scans; i++) {
        double rate = (l->now < capacity ? l->now : capacity) / 500.0; /* a millisecond */

        random = random * 6364136223846793005u + 1442695040888963407u;
        time += (0.5 + (double)(random >> 40) / (1 << 24)) / rate;
        admission_limit_done(l, true, (uint64_t)time);
        assert_in_range(l->now, l->least, l->most);
        if (i >= scans / 2)
            sum += l->now;
    }
    *now = (uint64_t)time;
    return (uint32_t)(sum / (scans - scans / 2));
}

static void test_limit_is_found(void **state)
{
    static const double capacities[] = {2, 8, 20, 60};

    for (size_t i = 0; i < 4; i++) {
        struct admission_limit l = {0};
        uint64_t now = 1000;

        admission_limit_set(&l, true, 1, 100, now);
        assert_int_equal(l.now, 1);
        assert_in_range(settle(&l, capacities[i], 40000, &now), (uint32_t)(capacities[i] * 0.8),
                        (uint32_t)(capacities[i] * 1.5) + 1);
        assert_true(admission_limit_is_sane(&l));
    }
}

static void test_limit_follows_change(void **state)
{
    struct admission_limit l = {0};
    uint64_t now = 1000;

    admission_limit_set(&l, true, 2, 100, now);
    settle(&l, 40, 40000, &now);
    assert_in_range(settle(&l, 10, 60000, &now), 8, 16);
    assert_in_range(settle(&l, 40, 60000, &now), 30, 60);
}

static void test_limit_never_beyond_bounds(void **state)
{
    struct admission_limit l = {0};
    uint64_t now = 1000;

    admission_limit_set(&l, true, 4, 10, now);
    assert_in_range(settle(&l, 1000, 20000, &now), 9, 10);
    assert_in_range(settle(&l, 1, 20000, &now), 4, 6);
    admission_limit_set(&l, true, 1, 3, now);
    assert_int_equal(l.now, 3);
    admission_limit_set(&l, false, 1, 7, now);
    settle(&l, 1, 1000, &now);
    assert_int_equal(l.now, 7);
}

static void test_limit_learns_nothing_from_leisure(void **state)
{
    struct admission_limit l = {0};

    admission_limit_set(&l, true, 5, 50, 1000);
    for (uint64_t i = 0; i < 10000; i++)
        admission_limit_done(&l, false, 1000 + i * 10);
    assert_int_equal(l.now, 5);
}

/* ---- ladder ---- */

static void test_ladder_text(void **state)
{
    static const struct {
        const char *text;
        uint32_t mark[ADMISSION_STEPS];
        const char *fault;
    } cases[] = {
        {"", {0}, NULL},
        {"full", {0}, NULL},
        {"full, 451 100", {[ADMISSION_451] = 100}, NULL},
        {"cheap 50%, HOLD 80%, 451 150, 421 400", {0, 50, 80, 150, 400}, NULL},
        {"full, soft 3", {0}, "unknown step \"soft\""},
        {"hold 80, cheap 90", {0}, "step \"cheap\" is out of order"},
        {"hold 80, hold 90", {0}, "step \"hold\" is out of order"},
        {"hold", {0}, "step \"hold\" needs a percentage above 0"},
        {"hold 0", {0}, "step \"hold\" needs a percentage above 0"},
        {"hold -5", {0}, "step \"hold\" needs a percentage above 0"},
        {"hold 100001", {0}, "step \"hold\" needs a percentage above 0"},
        {"hold 99999999999999999999", {0}, "step \"hold\" needs a percentage above 0"},
        {"hold 80, 451 80", {0}, "step \"451\" needs a percentage above 80"},
        {"hold 80, full", {0}, "step \"full\" is out of order"},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct admission_ladder l;
        struct error *e = admission_ladder_parse(cases[i].text, &l);

        if (cases[i].fault != NULL) {
            assert_non_null(e);
            assert_string_equal(e->text, cases[i].fault);
            error_free(&e);
            continue;
        }
        assert_null(e);
        assert_memory_equal(l.mark, cases[i].mark, sizeof(l.mark));
    }
}

static void test_ladder_hysteresis(void **state)
{
    struct admission_ladder l;
    unsigned changes = 0;
    enum admission_step step = ADMISSION_FULL;
    uint64_t since = 0;

    assert_null(admission_ladder_parse("hold 80, 451 150, 421 400", &l));
    assert_int_equal(admission_ladder_step(&l, ADMISSION_FULL, 0, 79, 0), ADMISSION_FULL);
    assert_int_equal(admission_ladder_step(&l, ADMISSION_FULL, 0, 80, 0), ADMISSION_HOLD);
    assert_int_equal(admission_ladder_step(&l, ADMISSION_FULL, 0, 1000, 0), ADMISSION_421);
    assert_int_equal(admission_ladder_step(&l, ADMISSION_HOLD, 0, 60, ADMISSION_STEP_MS), ADMISSION_HOLD);
    assert_int_equal(admission_ladder_step(&l, ADMISSION_HOLD, 0, 59, ADMISSION_STEP_MS - 1), ADMISSION_HOLD);
    assert_int_equal(admission_ladder_step(&l, ADMISSION_HOLD, 0, 59, ADMISSION_STEP_MS), ADMISSION_FULL);
    assert_int_equal(admission_ladder_step(&l, ADMISSION_421, 0, 0, ADMISSION_STEP_MS), ADMISSION_451);
    assert_int_equal(admission_ladder_step(&l, ADMISSION_CHEAP, 0, 0, 0), ADMISSION_FULL); /* reload: gone */
    for (uint64_t now = 0; now < 60000; now += 10) {
        enum admission_step next = admission_ladder_step(&l, step, since, now % 20 ? 85 : 75, now);

        changes += next != step;
        since = next != step ? now : since;
        step = next;
    }
    assert_int_equal(changes, 1);
}

/* ---- records ---- */

enum { DAY = 86400, TODAY = 20000 * DAY };

static void test_good_record(void **state)
{
    struct admission_shared *s = begin();
    struct admission_key k = key(1);
    struct admission_record *r = &s->records[admission_record_need(s, &k, TODAY)];

    for (int i = 0; i < 20; i++) {
        assert_false(admission_record_is_good(r, &settings, TODAY));
        admission_record_count(r, &settings, ADMISSION_OK, TODAY);
    }
    assert_false(admission_record_is_good(r, &settings, TODAY + DAY - 1));
    assert_true(admission_record_is_good(r, &settings, TODAY + DAY));
    admission_record_count(r, &settings, ADMISSION_TEMPFAIL, TODAY + DAY);
    admission_record_count(r, &settings, ADMISSION_LOST, TODAY + DAY);
    admission_record_count(r, &settings, ADMISSION_REJECT, TODAY + DAY);
    assert_true(admission_record_is_good(r, &settings, TODAY + DAY));
    admission_record_count(r, &settings, ADMISSION_REJECT, TODAY + DAY);
    assert_false(admission_record_is_good(r, &settings, TODAY + DAY));
    assert_true(admission_record_is_good(r, &settings, TODAY + 8 * DAY)); /* 10 and 1 after half its life */
    assert_false(admission_record_is_good(r, &settings, TODAY + 15 * DAY));
    assert_false(admission_record_is_good(r, &settings, UINT32_MAX));
    talloc_free(s);
}

static void test_records_are_bounded(void **state)
{
    struct admission_shared *s = begin();
    struct admission_key good = key(UINT32_MAX);
    uint32_t at = admission_record_need(s, &good, TODAY);

    admission_record_count(&s->records[at], &settings, ADMISSION_OK, TODAY);
    for (uint32_t i = 0; i < 3 * ADMISSION_CLIENTS; i++) {
        struct admission_key k = key(i);

        assert_int_not_equal(admission_record_need(s, &k, TODAY + i / 1000), ADMISSION_NOBODY);
    }
    assert_int_equal(s->clients, ADMISSION_CLIENTS);
    assert_int_equal(admission_record_find(s, &good), at);
    for (uint32_t i = 0; i < ADMISSION_CLIENTS; i++)
        s->records[i].held = 1;
    good = key(UINT32_MAX - 1);
    assert_int_equal(admission_record_need(s, &good, TODAY), ADMISSION_NOBODY);
    talloc_free(s);
}

static void test_restored_records_are_checked(void **state)
{
    struct admission_shared *s = begin();
    struct admission_record good = {.key = key(5),
                                    .first_seen = TODAY - 9,
                                    .last_seen = TODAY,
                                    .accepted = 3,
                                    .is_used = 1,
                                    .held = 9,
                                    .standing = ADMISSION_CALLED,
                                    .next = 12,
                                    .pool = 200};
    struct admission_record bad = good;

    assert_true(admission_record_restore(s, &good, TODAY));
    assert_int_equal(s->records[admission_record_find(s, &good.key)].accepted, 3);
    assert_int_equal(s->records[admission_record_find(s, &good.key)].held, 0);
    assert_int_equal(s->records[admission_record_find(s, &good.key)].standing, ADMISSION_NO_LINE);
    bad.key = key(6);
    bad.is_used = 7;
    assert_false(admission_record_restore(s, &bad, TODAY));
    bad.is_used = 1;
    bad.last_seen = TODAY + 3 * DAY;
    assert_false(admission_record_restore(s, &bad, TODAY));
    bad.last_seen = bad.first_seen - 1;
    assert_false(admission_record_restore(s, &bad, TODAY));
    bad.last_seen = TODAY;
    bad.accepted = UINT32_MAX;
    assert_false(admission_record_restore(s, &bad, TODAY));
    assert_int_equal(s->clients, 1);
    talloc_free(s);
}

/* ---- line ---- */

static struct admission_record *client(struct admission_shared *s, uint32_t n)
{
    struct admission_key k = key(n);

    return &s->records[admission_record_need(s, &k, TODAY)];
}

static void refuse(struct admission_shared *s, struct admission_record *r, uint64_t now)
{
    admission_line_tries(s, r, now);
    admission_line_join(s, r, 0, ADMISSION_STRANGER, now);
}

static void test_line_calls_in_order(void **state)
{
    struct admission_shared *s = begin();
    struct admission_class_numbers *n = &s->pools[0].n.classes[ADMISSION_STRANGER];

    for (uint32_t i = 0; i < 10; i++)
        refuse(s, client(s, i), 1000 + i);
    assert_int_equal(n->in_line, 0); /* they may be some that never come back */
    for (uint32_t i = 0; i < 10; i++)
        refuse(s, client(s, 9 - i), 2000 + i);
    assert_int_equal(n->in_line, 10);
    admission_line_call(s, 0, ADMISSION_STRANGER, 0, 4, 3000);
    assert_int_equal(n->in_line, 6);
    assert_int_equal(n->called, 4);
    for (uint32_t i = 0; i < 10; i++)
        assert_int_equal(client(s, i)->standing, i >= 6 ? ADMISSION_CALLED : ADMISSION_IN_LINE);
    admission_line_leave(s, client(s, 7));
    admission_line_leave(s, client(s, 3));
    assert_int_equal(n->called, 3);
    assert_int_equal(n->in_line, 5);
    admission_line_return(client(s, 7), 0, ADMISSION_STRANGER);
    assert_int_equal(client(s, 7)->standing, ADMISSION_WELCOME);
    talloc_free(s);
}

static void test_line_forgets_who_is_gone(void **state)
{
    struct admission_shared *s = begin();
    struct admission_class_numbers *n = &s->pools[0].n.classes[ADMISSION_STRANGER];
    uint64_t much_later = 1000 + 4 * 3600000 + 1;

    for (uint32_t i = 0; i < 4; i++) {
        refuse(s, client(s, i), 999);
        refuse(s, client(s, i), 1000);
    }
    admission_line_call(s, 0, ADMISSION_STRANGER, 0, 2, 2000);
    assert_int_equal(n->called, 2);
    admission_line_call(s, 0, ADMISSION_STRANGER, 0, 2, much_later);
    assert_int_equal(n->called, 0);
    assert_int_equal(n->in_line, 0);
    assert_int_equal(client(s, 0)->standing, ADMISSION_WELCOME);
    assert_int_equal(client(s, 3)->standing, ADMISSION_NO_LINE);
    assert_true(s->pools[0].queues[ADMISSION_STRANGER].line.returns < 1);
    admission_line_tries(s, client(s, 0), much_later + 5);
    assert_int_equal(client(s, 0)->standing, ADMISSION_CALLED);
    talloc_free(s);
}

/* ---- turns ---- */

static uint32_t add(struct admission_shared *s, unsigned class, uint32_t work_ms, uint64_t due)
{
    uint32_t at = admission_message_new(s);

    s->messages[at].class = (uint8_t)(class);
    s->messages[at].work_ms = work_ms;
    s->messages[at].due = due;
    s->messages[at].state = ADMISSION_WAITING;
    admission_order_add(s, &s->pools[0], at);
    return at;
}

static void test_earliest_first_in_a_class(void **state)
{
    struct admission_shared *s = begin();
    uint64_t last = 0;
    uint32_t at[1000];

    srand(1);
    for (int i = 0; i < 1000; i++)
        at[i] = add(s, ADMISSION_GOOD, 100, 1000000 + (uint64_t)rand() % 5000);
    for (int i = 0; i < 1000; i += 3)
        admission_order_remove(s, &s->pools[0], at[i]);
    assert_int_equal(admission_order_waiting(&s->pools[0]), 666);
    for (int i = 0; i < 666; i++) {
        uint32_t next = admission_order_next(s, &s->pools[0], 0);

        assert_true(s->messages[next].due >= last);
        last = s->messages[next].due;
    }
    assert_int_equal(admission_order_next(s, &s->pools[0], 0), ADMISSION_NOBODY);
    assert_int_equal(s->pools[0].queues[ADMISSION_GOOD].waiting_ms, 0);
    talloc_free(s);
}

/* Takes `turns` turns and counts whose they were. */
static void take_turns(struct admission_shared *s, int turns, int got[ADMISSION_CLASSES])
{
    memset(got, 0, sizeof(int) * ADMISSION_CLASSES);
    for (int i = 0; i < turns; i++)
        got[s->messages[admission_order_next(s, &s->pools[0], 0)].class]++;
}

static void test_shares(void **state)
{
    struct admission_shared *s = begin();
    int got[ADMISSION_CLASSES];

    for (int i = 0; i < 1000; i++) {
        add(s, ADMISSION_GOOD, 100, UINT32_MAX);
        add(s, ADMISSION_STRANGER, 100, UINT32_MAX);
    }
    take_turns(s, 100, got);
    assert_in_range(got[ADMISSION_GOOD], 49, 51);
    for (int i = 0; i < 1000; i++)
        add(s, ADMISSION_OWN, 100, UINT32_MAX); /* comes later: no turns saved up, none lost */
    take_turns(s, 900, got);
    assert_in_range(got[ADMISSION_OWN], 395, 405);
    assert_in_range(got[ADMISSION_GOOD], 245, 255);
    assert_in_range(got[ADMISSION_STRANGER], 245, 255);
    add(s, ADMISSION_AUTH, 100, 0); /* its time has come */
    take_turns(s, 1, got);
    assert_int_equal(got[ADMISSION_AUTH], 1);
    talloc_free(s);
}

/* ---- places ---- */

static struct admission_answer try(struct admission_shared *s, uint32_t who, bool is_own, uint64_t ms,
                                   struct admission_ticket *t)
{
    struct admission_client c = {.key = key(who), .is_own = is_own};
    struct admission_news news = {0};

    return admission_core_judge(s, 0, 0, &c, 4096, (struct admission_time){ms, TODAY}, t, &news);
}

static enum admission_end take(struct admission_shared *s, uint64_t ms, struct admission_ticket *t)
{
    struct admission_news news = {0};
    uint64_t until;

    return admission_core_take(s, 0, 0, 4096, UINT64_MAX, (struct admission_time){ms, TODAY}, t, &until,
                               &news);
}

/* Bodies that never end keep nobody out for longer than the reserve time, and cost no more than a place that
 * the next one may have; a message that comes after all is taken all the same. */
static void test_places_are_bounded(void **state)
{
    struct admission_shared *s = begin();
    struct admission_ticket first, t;
    uint64_t now = 1000;

    assert_true(try(s, 1, false, now, &first).is_admitted);
    for (uint32_t i = 0; i < 2 * ADMISSION_MESSAGES; i++) {
        now += settings.reserve_ms;
        assert_true(try(s, i, false, now, &t).is_admitted);
    }
    assert_int_equal(s->untouched, ADMISSION_MESSAGES);
    assert_int_equal(admission_message_find(s, &first), ADMISSION_NOBODY);
    assert_int_equal(take(s, now, &first), ADMISSION_GRANTED);
    assert_int_not_equal(admission_message_find(s, &first), ADMISSION_NOBODY);
    talloc_free(s);
}

static void test_full_of_waiting_messages(void **state)
{
    struct admission_shared *s = begin();
    struct admission_ticket t;

    for (uint32_t i = 0; i < ADMISSION_MESSAGES; i++) {
        memset(&t, 0, sizeof(t));
        assert_int_not_equal(take(s, 1000, &t), ADMISSION_FULL_UP);
    }
    memset(&t, 0, sizeof(t));
    assert_int_equal(take(s, 1000, &t), ADMISSION_FULL_UP);
    assert_int_equal(t.place, 0);
    assert_false(try(s, 1, true, 1000, &t).is_admitted);
    assert_int_equal(s->pools[0].n.used, settings.most);
    talloc_free(s);
}

/* Lets in and completes messages of strangers until one is refused. */
static uint32_t fill(struct admission_shared *s, uint64_t now)
{
    struct admission_ticket t;
    uint32_t n = 0;

    while (try(s, 1000 + n, false, now, &t).is_admitted) {
        take(s, now, &t);
        n++;
    }
    return n;
}

static void test_strangers_leave_room_for_others(void **state)
{
    struct admission_shared *s = begin();
    struct admission_ticket t;
    uint32_t n = fill(s, 1000);

    assert_in_range(n, 100,
                    300); /* 10 slots, 100 s less a margin, a second each, a quarter of it, and slots */
    assert_true(try(s, 1, true, 1000, &t).is_admitted);
    assert_int_equal(s->pools[0].n.classes[ADMISSION_STRANGER].refused[ADMISSION_FULL], 1);
    talloc_free(s);
}

/* With a filter that gives no sign of life the prediction grows with the time. */
static void test_stalled_filter(void **state)
{
    struct admission_shared *s = begin();
    struct admission_ticket t;

    for (uint32_t i = 0; i < 12; i++) {
        memset(&t, 0, sizeof(t));
        take(s, 1000, &t);
    }
    assert_true(try(s, 1, false, 2000, &t).is_admitted);
    assert_true(try(s, 2, false, 30000, &t).is_admitted);
    assert_true(s->pools[0].n.classes[ADMISSION_STRANGER].predicted_ms > 20000);
    assert_false(try(s, 3, false, 100000, &t).is_admitted);
    talloc_free(s);
}

/* However long scans take, a slot that is free is not refused. */
static void test_free_slot_is_not_refused(void **state)
{
    struct admission_shared *s = begin();
    struct admission_ticket t;

    for (int i = 0; i < 100; i++)
        admission_predict_add(&s->pools[0].predict, 4096, 500000);
    for (uint32_t i = 0; i < settings.most; i++) {
        assert_true(try(s, i, false, 1000, &t).is_admitted);
        assert_int_equal(take(s, 1000, &t), ADMISSION_GRANTED);
    }
    assert_false(try(s, 99, false, 1000, &t).is_admitted);
    talloc_free(s);
}

static void test_pools_are_reused(void **state)
{
    struct admission_shared *s = begin();
    struct admission_ticket t;
    struct admission_news news = {0};
    char name[] = "filter0";

    assert_true(try(s, 1, false, 1000, &t).is_admitted);
    for (unsigned i = 1; i < ADMISSION_POOLS; i++) {
        name[6] = (char)('0' + i);
        assert_int_equal(admission_core_pool(s, name, i + 1, 3, &settings, 1000), i);
    }
    assert_int_equal(admission_core_pool(s, "another", 99, 4, &settings, 1000), ADMISSION_POOLS);
    admission_core_forget(s, 3, (struct admission_time){1000, TODAY}, &news);
    assert_int_equal(admission_core_pool(s, "another", 99, 4, &settings, 1000), 1);
    assert_int_equal(admission_core_pool(s, "filter", 1, 4, &settings, 1000), 0);
    assert_int_equal(s->pools[0].n.classes[ADMISSION_STRANGER].coming, 1);
    talloc_free(s);
}

/* ---- repair ---- */

/* All that is made from what messages and records say of themselves comes out the same. */
static void test_repair_changes_nothing_that_is_right(void **state)
{
    struct admission_shared *s = begin(), *copy = mem_new(NULL, struct admission_shared);
    struct admission_ticket t;

    for (uint32_t round = 0; round < 3; round++)
        for (uint32_t i = 0; i < 1000; i++)
            if (try(s, i, i % 5 == 0, 1000 + round * 2000 + i, &t).is_admitted && i % 3 > 0)
                take(s, 1000 + round * 2000 + i, &t);
    memcpy(copy, s, sizeof(*s));
    admission_core_repair(s);
    assert_int_equal(s->repairs, 1);
    assert_int_equal(s->clients, copy->clients);
    for (int i = 0; i < ADMISSION_CLASSES; i++) {
        assert_memory_equal(&s->pools[0].n.classes[i], &copy->pools[0].n.classes[i],
                            sizeof(copy->pools[0].n.classes[i]));
        assert_int_equal(s->pools[0].queues[i].waiting_ms, copy->pools[0].queues[i].waiting_ms);
        assert_int_equal(s->pools[0].queues[i].coming_ms, copy->pools[0].queues[i].coming_ms);
        assert_int_equal(s->pools[0].queues[i].running_ms, copy->pools[0].queues[i].running_ms);
        assert_int_equal(s->pools[0].queues[i].line.first, copy->pools[0].queues[i].line.first);
    }
    assert_true(s->pools[0].n.classes[ADMISSION_STRANGER].in_line > 100);
    assert_true(s->pools[0].n.classes[ADMISSION_OWN].waiting > 10);
    assert_int_equal(s->pools[0].n.used, settings.most);
    talloc_free(copy);
    talloc_free(s);
}

static void test_repair_of_rubbish(void **state)
{
    struct admission_shared *s = begin();
    unsigned char *p = (unsigned char *)s->messages;
    struct admission_ticket t;

    srand(2);
    s->untouched = ADMISSION_MESSAGES;
    for (size_t i = 0; i < sizeof(s->messages); i++)
        p[i] = (unsigned char)(rand() & rand() & rand());
    p = (unsigned char *)s->records;
    for (size_t i = 0; i < sizeof(s->records); i++)
        p[i] = (unsigned char)(rand() & rand() & rand());
    memset(&s->pools[0].predict, 0xff, sizeof(s->pools[0].predict));
    memset(&s->pools[0].limit, 0xff, sizeof(s->pools[0].limit));
    memset(s->pools[0].queues, 0xff, sizeof(s->pools[0].queues));
    admission_core_repair(s);
    for (uint32_t i = 0; i < 1000; i++)
        if (try(s, i, i % 2, 1000 + i, &t).is_admitted)
            take(s, 1000 + i, &t);
    admission_core_repair(s);
    talloc_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_prediction_learns_a_line),
        cmocka_unit_test(test_prediction_bears_anything),
        cmocka_unit_test(test_prediction_follows_change),
        cmocka_unit_test(test_limit_is_found),
        cmocka_unit_test(test_limit_follows_change),
        cmocka_unit_test(test_limit_never_beyond_bounds),
        cmocka_unit_test(test_limit_learns_nothing_from_leisure),
        cmocka_unit_test(test_ladder_text),
        cmocka_unit_test(test_ladder_hysteresis),
        cmocka_unit_test(test_good_record),
        cmocka_unit_test(test_records_are_bounded),
        cmocka_unit_test(test_restored_records_are_checked),
        cmocka_unit_test(test_line_calls_in_order),
        cmocka_unit_test(test_line_forgets_who_is_gone),
        cmocka_unit_test(test_earliest_first_in_a_class),
        cmocka_unit_test(test_shares),
        cmocka_unit_test(test_places_are_bounded),
        cmocka_unit_test(test_full_of_waiting_messages),
        cmocka_unit_test(test_strangers_leave_room_for_others),
        cmocka_unit_test(test_stalled_filter),
        cmocka_unit_test(test_free_slot_is_not_refused),
        cmocka_unit_test(test_pools_are_reused),
        cmocka_unit_test(test_repair_changes_nothing_that_is_right),
        cmocka_unit_test(test_repair_of_rubbish),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
