/* anvil: counts at once and in a time unit, over forked workers, and what a dead worker leaves. */
#include "anvil_table.h"
#include "clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { UNIT_MS = 60000 };

static struct anvil_key client(unsigned n)
{
    struct anvil_key key = {.service = 1};

    for (int i = 0; i < 4; i++)
        key.addr[i] = (unsigned char)(n >> (i * 8));
    return key;
}

static void test_connections_and_rates(void **state)
{
    struct anvil_table *t = anvil_table_new();
    struct anvil_key a = client(1), b = client(2);
    struct anvil_counts n;

    for (unsigned i = 1; i <= 5; i++) {
        assert_true(anvil_table_count(t, &a, 0, ANVIL_CONNECTION, UNIT_MS, &n));
        assert_int_equal(n.connections, i);
        assert_int_equal(n.rate[ANVIL_CONNECTION], i);
    }
    assert_true(anvil_table_count(t, &b, 0, ANVIL_CONNECTION, UNIT_MS, &n));
    assert_int_equal(n.connections, 1);
    anvil_table_leave(t, &a, 0);
    assert_true(anvil_table_count(t, &a, 0, ANVIL_MESSAGE, UNIT_MS, &n));
    assert_int_equal(n.connections, 4);
    assert_int_equal(n.rate[ANVIL_CONNECTION], 5);
    assert_int_equal(n.rate[ANVIL_MESSAGE], 1);
    clock_skip_ms(UNIT_MS);
    assert_true(anvil_table_count(t, &a, 0, ANVIL_RECIPIENT, UNIT_MS, &n));
    assert_int_equal(n.connections, 4);
    assert_int_equal(n.rate[ANVIL_CONNECTION], 0);
    assert_int_equal(n.rate[ANVIL_RECIPIENT], 1);
}

static void test_workers_count_together(void **state)
{
    struct anvil_table *t = anvil_table_new();
    struct anvil_key a = client(1);
    struct anvil_counts n;

    for (unsigned worker = 0; worker < 20; worker++) {
        pid_t pid = fork();

        if (pid == 0) {
            for (int i = 0; i < 100; i++)
                anvil_table_count(t, &a, worker, ANVIL_CONNECTION, UNIT_MS, &n);
            _exit(0);
        }
        waitpid(pid, NULL, 0);
    }
    assert_true(anvil_table_count(t, &a, 0, ANVIL_MESSAGE, UNIT_MS, &n));
    assert_int_equal(n.connections, 2000);
    anvil_table_forget(t, 3);
    assert_true(anvil_table_count(t, &a, 0, ANVIL_MESSAGE, UNIT_MS, &n));
    assert_int_equal(n.connections, 1900);
    for (int i = 0; i < 100; i++)
        anvil_table_leave(t, &a, 18);
    assert_true(anvil_table_count(t, &a, 0, ANVIL_MESSAGE, UNIT_MS, &n));
    assert_int_equal(n.connections, 1800);
}

static void test_room_is_bounded_and_reused(void **state)
{
    struct anvil_table *t = anvil_table_new();
    struct anvil_counts n;
    struct anvil_key key;

    for (unsigned i = 0; i < ANVIL_CLIENTS; i++) {
        key = client(i);
        assert_true(anvil_table_count(t, &key, 0, ANVIL_CONNECTION, UNIT_MS, &n));
    }
    key = client(ANVIL_CLIENTS);
    assert_false(anvil_table_count(t, &key, 0, ANVIL_CONNECTION, UNIT_MS, &n));
    for (unsigned i = 0; i < ANVIL_CLIENTS; i++) {
        struct anvil_key old = client(i);

        anvil_table_leave(t, &old, 0);
    }
    assert_false(anvil_table_count(t, &key, 0, ANVIL_CONNECTION, UNIT_MS, &n)); /* their rates still count */
    clock_skip_ms(UNIT_MS);
    assert_true(anvil_table_count(t, &key, 0, ANVIL_CONNECTION, UNIT_MS, &n));
    assert_int_equal(n.connections, 1);
    key = client(ANVIL_CLIENTS - 1);
    assert_true(anvil_table_count(t, &key, 0, ANVIL_CONNECTION, UNIT_MS, &n));
    assert_int_equal(n.connections, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_connections_and_rates),
        cmocka_unit_test(test_workers_count_together),
        cmocka_unit_test(test_room_is_bounded_and_reused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
