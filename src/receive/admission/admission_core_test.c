/* Who is let in, places of messages, pools, and what repair makes of them. */
#include "admission_core.h"
#include "admission_line.h"
#include "admission_message.h"
#include "admission_record.h"
#include "admission_test.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { USUAL = 4096, LARGE = 10240000 };

/* ---- places ---- */

static struct admission_answer try_size(struct admission_shared *s, uint32_t who, bool is_own, uint64_t bytes,
                                        uint64_t ms, struct admission_ticket *t)
{
    struct admission_client c = {.key = admission_test_key(who), .is_own = is_own};
    struct admission_news news = {0};

    return admission_core_judge(s, 0, 0, &c, bytes, (struct admission_time){ms, TODAY}, t, &news);
}

static struct admission_answer try(struct admission_shared *s, uint32_t who, bool is_own, uint64_t ms,
                                   struct admission_ticket *t)
{
    return try_size(s, who, is_own, USUAL, ms, t);
}

static enum admission_end take_size(struct admission_shared *s, uint64_t bytes, uint64_t ms,
                                    struct admission_ticket *t)
{
    struct admission_news news = {0};
    uint64_t until;

    return admission_core_take(s, 0, 0, bytes, UINT64_MAX, (struct admission_time){ms, TODAY}, t, &until,
                               &news);
}

static enum admission_end take(struct admission_shared *s, uint64_t ms, struct admission_ticket *t)
{
    return take_size(s, USUAL, ms, t);
}

static void give(struct admission_shared *s, enum admission_outcome outcome, uint32_t service_ms, uint64_t ms,
                 struct admission_ticket *t)
{
    struct admission_news news = {0};

    admission_core_give(s, t, outcome, service_ms, USUAL, (struct admission_time){ms, TODAY}, &news);
}

/* A message of an own client for each slot. */
static void take_all_slots(struct admission_shared *s, uint64_t ms, struct admission_ticket *t)
{
    for (uint32_t i = 0; i < admission_test_settings.most; i++) {
        assert_true(try(s, i, true, ms, &t[i]).is_admitted);
        assert_int_equal(take(s, ms, &t[i]), ADMISSION_GRANTED);
    }
}

/* Bodies that never end keep nobody out for longer than the reserve time, and cost no more than a place that
 * the next one may have; a message that comes after all is taken all the same. */
static void test_places_are_bounded(void **state)
{
    struct admission_shared *s = admission_test_begin();
    struct admission_ticket first, t;
    uint64_t now = 1000;

    assert_true(try(s, 1, false, now, &first).is_admitted);
    for (uint32_t i = 0; i < 2 * ADMISSION_MESSAGES; i++) {
        now += admission_test_settings.reserve_ms;
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
    struct admission_shared *s = admission_test_begin();
    struct admission_ticket t;

    for (uint32_t i = 0; i < ADMISSION_MESSAGES; i++) {
        memset(&t, 0, sizeof(t));
        assert_int_not_equal(take(s, 1000, &t), ADMISSION_FULL_UP);
    }
    memset(&t, 0, sizeof(t));
    assert_int_equal(take(s, 1000, &t), ADMISSION_FULL_UP);
    assert_int_equal(t.place, 0);
    assert_false(try(s, 1, true, 1000, &t).is_admitted);
    assert_int_equal(s->pools[0].n.used, admission_test_settings.most);
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
    struct admission_shared *s = admission_test_begin();
    struct admission_ticket t;
    uint32_t n = fill(s, 1000);

    assert_in_range(n, 100,
                    300); /* 10 slots, 100 s less a margin, a second each, a quarter of it, and slots */
    assert_true(try(s, 1, true, 1000, &t).is_admitted);
    assert_int_equal(s->pools[0].n.classes[ADMISSION_STRANGER].turned[ADMISSION_FULL], 1);
    talloc_free(s);
}

/* A line of clients that are gone for good does not let the filter run dry. */
static void test_line_of_ghosts(void **state)
{
    struct admission_shared *s = admission_test_begin();
    struct admission_ticket t;

    for (uint32_t i = 0; i < 12; i++) {
        memset(&t, 0, sizeof(t));
        take(s, 1000, &t);
    }
    for (uint32_t i = 0; i < 500; i++) {
        struct admission_key k = admission_test_key(5000 + i);
        struct admission_record *r = &s->records[admission_record_need(s, &k, TODAY)];

        admission_line_tries(s, r, 1000);
        admission_line_join(s, r, 0, ADMISSION_STRANGER, 1000);
        admission_line_join(s, r, 0, ADMISSION_STRANGER, 1000);
    }
    assert_true(try(s, 1, false, 1000, &t).is_admitted);
    assert_true(s->pools[0].n.classes[ADMISSION_STRANGER].in_line > 100);
    fill(s, 1000);
    assert_false(try(s, 2, false, 1000, &t).is_admitted);
    talloc_free(s);
}

static uint64_t ease_until(struct admission_shared *s, enum admission_step step, uint64_t now)
{
    struct admission_news news = {0};

    while (s->pools[0].n.classes[ADMISSION_STRANGER].step != step && now < 1000000) {
        now += 500;
        admission_core_ease(s, now, &news);
    }
    return now;
}

/* What goes by hold is part of the load: more of it than the step is for moves the class on, and is forgotten
 * as the clients would forget. */
static void test_what_goes_elsewhere_is_pressure(void **state)
{
    struct admission_shared *s = admission_test_begin();
    const struct admission_class_numbers *n = &s->pools[0].n.classes[ADMISSION_STRANGER];
    struct admission_ladder *ladder = &s->pools[0].set.ladder[ADMISSION_STRANGER];
    struct admission_news news = {0};
    struct admission_ticket t;
    uint32_t room, elsewhere = 0;
    uint64_t now;

    assert_null(admission_ladder_parse("full, hold 80, 451 300", ladder));
    room = fill(s, 1000) * 10 / 7; /* it fills up to the level */
    while (try(s, 5000 + elsewhere, false, 1000, &t).step == ADMISSION_HOLD && elsewhere < 10 * room)
        elsewhere++;
    assert_in_range(elsewhere, 2 * room, 3 * room);
    assert_int_equal(n->step, ADMISSION_451);
    admission_core_forget(s, 0, (struct admission_time){1000, TODAY}, &news);
    now = ease_until(s, ADMISSION_HOLD, 1000);
    assert_in_range(now, 5000, 60000);
    now = ease_until(s, ADMISSION_FULL, now);
    assert_in_range(now, 80000, 300000);
    talloc_free(s);
}

/* With a filter that gives no sign of life the prediction grows with the time. */
static void test_stalled_filter(void **state)
{
    struct admission_shared *s = admission_test_begin();
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
    struct admission_shared *s = admission_test_begin();
    struct admission_ticket t;

    for (int i = 0; i < 100; i++)
        admission_predict_add(&s->pools[0].predict, 4096, 500000);
    for (uint32_t i = 0; i < admission_test_settings.most; i++) {
        assert_true(try(s, i, false, 1000, &t).is_admitted);
        assert_int_equal(take(s, 1000, &t), ADMISSION_GRANTED);
    }
    assert_false(try(s, 99, false, 1000, &t).is_admitted);
    talloc_free(s);
}

/* ---- sizes ---- */

/* 9 ms a KB: by that a message of LARGE bytes takes as long as all patience. */
static struct admission_shared *begin_with_sizes(void)
{
    struct admission_shared *s = admission_test_begin();

    for (uint32_t i = 0; i < 400; i++)
        admission_predict_add(&s->pools[0].predict, (1 + i % 100) * 1024, 100 + 9 * (1 + i % 100));
    return s;
}

static void test_claimed_size_moves_no_step(void **state)
{
    struct admission_shared *s = begin_with_sizes();
    struct admission_ladder *ladder = &s->pools[0].set.ladder[ADMISSION_STRANGER];
    struct admission_ticket t, slots[10];

    assert_null(admission_ladder_parse("full, hold 80, 451 300, 421 1000", ladder));
    take_all_slots(s, 1000, slots);
    for (uint32_t i = 0; i < 20; i++)
        try_size(s, 100 + i, false, LARGE, 1000, &t);
    assert_in_range(s->pools[0].n.classes[ADMISSION_STRANGER].pressure, 1, 79);
    talloc_free(s);
}

/* Bodies that never come, for each slot of an idle filter. */
static void test_claimed_sizes_keep_nobody_out(void **state)
{
    struct admission_shared *s = begin_with_sizes();
    struct admission_ticket t;

    for (uint32_t i = 0; i < admission_test_settings.most; i++)
        assert_true(try_size(s, i, false, LARGE, 1000, &t).is_admitted);
    assert_true(try(s, 100, true, 1000, &t).is_admitted);
    assert_true(try(s, 101, false, 1000, &t).is_admitted);
    assert_int_equal(s->pools[0].n.used, 0);
    talloc_free(s);
}

/* However busy the filter is, the client of a large message has its turn as others have. */
static void test_large_message_finds_a_place(void **state)
{
    struct admission_shared *s = begin_with_sizes();
    struct admission_ticket t;
    uint32_t refused = 0;

    fill(s, 1000);
    while (refused < 10 && !try_size(s, 1, false, LARGE, 1000, &t).is_admitted)
        refused++;
    assert_in_range(refused, 1, 3);
    talloc_free(s);
}

/* It starts earlier than others of its class, not before the turns of all classes. */
static void test_large_message_waits_for_its_turn(void **state)
{
    struct admission_shared *s = begin_with_sizes();
    struct admission_ticket slots[10], large, own = {0};

    take_all_slots(s, 1000, slots);
    try_size(s, 50, false, 0, 1000, &large);
    assert_int_equal(take_size(s, LARGE, 1000, &large), ADMISSION_LATE);
    assert_int_equal(s->pools[0].queues[ADMISSION_STRANGER].waiting_ms, 50000); /* half of patience */
    try(s, 51, true, 1000, &own);
    assert_int_equal(take(s, 1000, &own), ADMISSION_LATE);
    give(s, ADMISSION_OK, 500, 1500, &slots[0]);
    assert_int_equal(s->messages[own.place - 1].state, ADMISSION_RUNNING);
    give(s, ADMISSION_OK, 500, 1500, &slots[1]);
    assert_int_equal(s->messages[large.place - 1].state, ADMISSION_RUNNING);
    talloc_free(s);
}

/* ---- a filter that does not answer ---- */

static struct admission_shared *begin_with_half_seconds(void)
{
    struct admission_shared *s = admission_test_begin();

    for (int i = 0; i < 100; i++)
        admission_predict_add(&s->pools[0].predict, USUAL, 500);
    return s;
}

/* As many as there are slots find out whether it is back; the others are told at MAIL that it is not. */
static void test_filter_that_is_down(void **state)
{
    struct admission_shared *s = begin_with_half_seconds();
    struct admission_ticket t[10], more;

    take_all_slots(s, 1000, t);
    for (uint32_t round = 1; round <= 6; round++) {
        uint64_t now = 1000 + round * 100500;

        for (uint32_t i = 0; i < 10; i++)
            give(s, ADMISSION_LOST, 100000, now - 500, &t[i]);
        take_all_slots(s, now, t);
        assert_false(try(s, 100 + round, false, now + 1, &more).is_admitted);
        assert_false(try(s, 200 + round, true, now + 50000, &more).is_admitted);
    }
    assert_int_equal(admission_predict_ms(&s->pools[0].predict, USUAL), 500);
    give(s, ADMISSION_OK, 500, 700000, &t[0]);
    for (uint32_t i = 0; i < 20; i++)
        assert_true(try(s, 300 + i, false, 700001, &more).is_admitted);
    talloc_free(s);
}

/* One that is lost while others are answered says something about itself only: it has had a slot for so long.
 */
static void test_lost_among_answered(void **state)
{
    struct admission_shared *s = begin_with_half_seconds();
    struct admission_ticket t[10], more;

    take_all_slots(s, 1000, t);
    for (uint32_t i = 1; i < 10; i++)
        give(s, ADMISSION_OK, 500, 1500, &t[i]);
    give(s, ADMISSION_LOST, 100000, 101000, &t[0]);
    assert_in_range(admission_predict_ms(&s->pools[0].predict, USUAL), 1000, 3000);
    take_all_slots(s, 200000, t);
    for (uint32_t i = 0; i < 20; i++)
        assert_true(try(s, 100 + i, false, 200001, &more).is_admitted);
    talloc_free(s);
}

/* What is no verdict teaches that the filter is slow, never that it is quick. */
static void test_deferred_and_lost_teach(void **state)
{
    struct admission_shared *s = begin_with_half_seconds();
    const struct admission_predict *p = &s->pools[0].predict;
    struct admission_ticket t[10];

    take_all_slots(s, 1000, t);
    give(s, ADMISSION_TEMPFAIL, 1, 1001, &t[0]);
    give(s, ADMISSION_LOST, 1, 1002, &t[1]);
    assert_int_equal(admission_predict_ms(p, USUAL), 500);
    give(s, ADMISSION_TEMPFAIL, 30000, 31000, &t[2]);
    assert_in_range(admission_predict_ms(p, USUAL), 700, 1500);
    assert_int_equal(s->pools[0].busy_since, 31000);
    talloc_free(s);
}

/* ---- pools ---- */

static void test_pools_are_reused(void **state)
{
    struct admission_shared *s = admission_test_begin();
    struct admission_ticket t;
    struct admission_news news = {0};
    char name[] = "filter0";

    assert_true(try(s, 1, false, 1000, &t).is_admitted);
    for (unsigned i = 1; i < ADMISSION_POOLS; i++) {
        name[6] = (char)('0' + i);
        assert_int_equal(admission_core_pool(s, name, i + 1, 3, &admission_test_settings, 1000), i);
    }
    assert_int_equal(admission_core_pool(s, "another", 99, 4, &admission_test_settings, 1000),
                     ADMISSION_POOLS);
    admission_core_forget(s, 3, (struct admission_time){1000, TODAY}, &news);
    assert_int_equal(admission_core_pool(s, "another", 99, 4, &admission_test_settings, 1000), 1);
    assert_int_equal(admission_core_pool(s, "filter", 1, 4, &admission_test_settings, 1000), 0);
    assert_int_equal(s->pools[0].n.classes[ADMISSION_STRANGER].coming, 1);
    talloc_free(s);
}

/* Workers of the old configuration have theirs as long as those of the new one open others. */
static void test_pools_are_enough_for_a_reload(void **state)
{
    struct admission_shared *s = mem_new(NULL, struct admission_shared);

    admission_core_init(s, 0);
    for (unsigned i = 0; i < 2 * CONF_SLOT_FILTERS; i++) {
        char name[] = {'a' + (char)i, '\0'};

        assert_in_range(
            admission_core_pool(s, name, i + 1, i / CONF_SLOT_FILTERS, &admission_test_settings, 0), 0,
            ADMISSION_POOLS - 1);
    }
    talloc_free(s);
}

static void test_long_names_differ(void **state)
{
    struct admission_shared *s = admission_test_begin();
    char name[200];
    unsigned a, b;

    memset(name, 'x', sizeof(name));
    name[ADMISSION_NAME - 1] = '\0';
    a = admission_core_pool(s, name, 5, 0, &admission_test_settings, 0);
    assert_string_equal(s->pools[a].n.name, name);
    name[ADMISSION_NAME - 1] = 'x';
    name[sizeof(name) - 1] = '\0';
    a = admission_core_pool(s, name, 6, 0, &admission_test_settings, 0);
    b = admission_core_pool(s, name, 7, 0, &admission_test_settings, 0);
    assert_int_equal(strlen(s->pools[a].n.name), ADMISSION_NAME - 1);
    assert_string_not_equal(s->pools[a].n.name, s->pools[b].n.name);
    talloc_free(s);
}

/* ---- repair ---- */

/* All that is made from what messages and records say of themselves comes out the same. */
static void test_repair_changes_nothing_that_is_right(void **state)
{
    struct admission_shared *s = admission_test_begin(), *copy = mem_new(NULL, struct admission_shared);
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
    assert_int_equal(s->pools[0].n.used, admission_test_settings.most);
    talloc_free(copy);
    talloc_free(s);
}

static void test_repair_of_rubbish(void **state)
{
    struct admission_shared *s = admission_test_begin();
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
        cmocka_unit_test(test_places_are_bounded),
        cmocka_unit_test(test_full_of_waiting_messages),
        cmocka_unit_test(test_strangers_leave_room_for_others),
        cmocka_unit_test(test_line_of_ghosts),
        cmocka_unit_test(test_what_goes_elsewhere_is_pressure),
        cmocka_unit_test(test_stalled_filter),
        cmocka_unit_test(test_free_slot_is_not_refused),
        cmocka_unit_test(test_claimed_size_moves_no_step),
        cmocka_unit_test(test_claimed_sizes_keep_nobody_out),
        cmocka_unit_test(test_large_message_finds_a_place),
        cmocka_unit_test(test_large_message_waits_for_its_turn),
        cmocka_unit_test(test_filter_that_is_down),
        cmocka_unit_test(test_lost_among_answered),
        cmocka_unit_test(test_deferred_and_lost_teach),
        cmocka_unit_test(test_pools_are_reused),
        cmocka_unit_test(test_pools_are_enough_for_a_reload),
        cmocka_unit_test(test_long_names_differ),
        cmocka_unit_test(test_repair_changes_nothing_that_is_right),
        cmocka_unit_test(test_repair_of_rubbish),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
