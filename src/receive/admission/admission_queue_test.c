/* Records, line and turns by themselves. */
#include "admission_line.h"
#include "admission_message.h"
#include "admission_order.h"
#include "admission_record.h"
#include "admission_test.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* ---- records ---- */

static void test_good_record(void **state)
{
    struct admission_shared *s = admission_test_begin();
    struct admission_key k = admission_test_key(1);
    struct admission_record *r = &s->records[admission_record_need(s, &k, TODAY)];

    for (int i = 0; i < 20; i++) {
        assert_false(admission_record_is_good(r, &admission_test_settings, TODAY));
        admission_record_count(r, &admission_test_settings, ADMISSION_OK, TODAY);
    }
    assert_false(admission_record_is_good(r, &admission_test_settings, TODAY + DAY - 1));
    assert_true(admission_record_is_good(r, &admission_test_settings, TODAY + DAY));
    admission_record_count(r, &admission_test_settings, ADMISSION_TEMPFAIL, TODAY + DAY);
    admission_record_count(r, &admission_test_settings, ADMISSION_LOST, TODAY + DAY);
    admission_record_count(r, &admission_test_settings, ADMISSION_REJECT, TODAY + DAY);
    assert_true(admission_record_is_good(r, &admission_test_settings, TODAY + DAY));
    admission_record_count(r, &admission_test_settings, ADMISSION_REJECT, TODAY + DAY);
    assert_false(admission_record_is_good(r, &admission_test_settings, TODAY + DAY));
    assert_false(admission_record_is_good(r, &admission_test_settings, TODAY + 8 * DAY)); /* 10 and 1 */
    for (int i = 0; i < 9; i++)
        admission_record_count(r, &admission_test_settings, ADMISSION_OK, TODAY + 8 * DAY);
    assert_true(admission_record_is_good(r, &admission_test_settings, TODAY + 8 * DAY));
    assert_false(admission_record_is_good(r, &admission_test_settings, TODAY + 30 * DAY));
    assert_false(admission_record_is_good(r, &admission_test_settings, UINT32_MAX));
    talloc_free(s);
}

static void test_records_are_bounded(void **state)
{
    struct admission_shared *s = admission_test_begin();
    struct admission_key good = admission_test_key(UINT32_MAX);
    uint32_t at = admission_record_need(s, &good, TODAY);

    admission_record_count(&s->records[at], &admission_test_settings, ADMISSION_OK, TODAY);
    for (uint32_t i = 0; i < 3 * ADMISSION_CLIENTS; i++) {
        struct admission_key k = admission_test_key(i);

        assert_int_not_equal(admission_record_need(s, &k, TODAY + i / 1000), ADMISSION_NOBODY);
    }
    assert_int_equal(s->clients, ADMISSION_CLIENTS);
    assert_int_equal(admission_record_find(s, &good), at);
    for (uint32_t i = 0; i < ADMISSION_CLIENTS; i++)
        s->records[i].held = 1;
    good = admission_test_key(UINT32_MAX - 1);
    assert_int_equal(admission_record_need(s, &good, TODAY), ADMISSION_NOBODY);
    talloc_free(s);
}

static void test_restored_records_are_checked(void **state)
{
    struct admission_shared *s = admission_test_begin();
    struct admission_record good = {.key = admission_test_key(5),
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
    bad.key = admission_test_key(6);
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
    struct admission_key k = admission_test_key(n);

    return &s->records[admission_record_need(s, &k, TODAY)];
}

static void refuse(struct admission_shared *s, struct admission_record *r, uint64_t now)
{
    admission_line_tries(s, r, now);
    admission_line_join(s, r, 0, ADMISSION_STRANGER, now);
}

static void test_line_calls_in_order(void **state)
{
    struct admission_shared *s = admission_test_begin();
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
    struct admission_shared *s = admission_test_begin();
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
    assert_int_equal(client(s, 3)->standing, ADMISSION_WELCOME);
    assert_true(s->pools[0].queues[ADMISSION_STRANGER].line.returns < 1);
    admission_line_tries(s, client(s, 0), much_later + 5);
    assert_int_equal(client(s, 0)->standing, ADMISSION_CALLED);
    talloc_free(s);
}

/* One that comes every ten minutes has stood in line like others, and is let in when it comes. */
static void test_seldom_retries_keep_their_turn(void **state)
{
    struct admission_shared *s = admission_test_begin();
    const struct admission_line *l = &s->pools[0].queues[ADMISSION_STRANGER].line;
    double return_ms = l->return_ms;

    refuse(s, client(s, 1), 1000);
    refuse(s, client(s, 1), 601000);
    admission_line_call(s, 0, ADMISSION_STRANGER, 0, 0, 602000);
    assert_int_equal(client(s, 1)->standing, ADMISSION_IN_LINE);
    admission_line_call(s, 0, ADMISSION_STRANGER, 0, 0, 1100000);
    assert_int_equal(client(s, 1)->standing, ADMISSION_WELCOME);
    admission_line_tries(s, client(s, 1), 1201000);
    assert_int_equal(client(s, 1)->standing, ADMISSION_CALLED);
    assert_true(l->return_ms > return_ms);
    assert_true(l->returns == 1);
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
    struct admission_shared *s = admission_test_begin();
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
    struct admission_shared *s = admission_test_begin();
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good_record),
        cmocka_unit_test(test_records_are_bounded),
        cmocka_unit_test(test_restored_records_are_checked),
        cmocka_unit_test(test_line_calls_in_order),
        cmocka_unit_test(test_line_forgets_who_is_gone),
        cmocka_unit_test(test_seldom_retries_keep_their_turn),
        cmocka_unit_test(test_earliest_first_in_a_class),
        cmocka_unit_test(test_shares),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
