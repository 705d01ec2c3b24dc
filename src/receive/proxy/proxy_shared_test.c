/* The shared table: processes that count together, die in the middle, and a reader from outside. */
#include "log.h"
#include "mem.h"
#include "proxy.h"
#include "proxy_shared.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static char folder[] = "/tmp/sp-proxy-XXXXXX";
static char path[64];

/* Runs in a child as the worker of this id, which ends by this signal (0: in good order). */
static void in_child(unsigned worker, void (*fn)(struct proxy_entry *e), struct proxy_entry *e, int sig)
{
    pid_t pid = fork();
    int status;

    if (pid == 0) {
        proxy_shared_enter(worker);
        fn(e);
        if (sig != 0)
            raise(sig);
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(WIFSIGNALED(status) ? WTERMSIG(status) : 0, sig);
}

static void take_three(struct proxy_entry *e)
{
    proxy_shared_hold(e->key);
    proxy_shared_lock();
    for (int i = 0; i < 3; i++)
        proxy_entry_take(e, 100);
    proxy_shared_unlock();
}

static void die_with_the_lock(struct proxy_entry *e)
{
    proxy_shared_lock();
    proxy_entry_take(e, 7);
    e->bytes = 12345; /* half done */
}

static void test_a_dead_worker_s_work_is_taken_back(void **state)
{
    struct proxy_entry *e = proxy_shared_hold("127.0.0.1:1");

    in_child(1, take_three, e, 0);
    in_child(2, take_three, e, SIGKILL);
    assert_int_equal(e->messages, 6);
    assert_int_equal(e->bytes, 600);
    proxy_shared_forget(2);
    assert_int_equal(e->messages, 3);
    assert_int_equal(e->bytes, 300);
    in_child(1, take_three, e, 0); /* its successor begins with nothing */
    assert_int_equal(e->messages, 3);
    proxy_shared_forget(1);
    assert_int_equal(e->messages, 0);
    assert_int_equal(e->users, 1);
    proxy_shared_drop(e);
}

static void test_the_lock_s_owner_dies(void **state)
{
    struct proxy_entry *e = proxy_shared_hold("127.0.0.1:2");

    in_child(3, die_with_the_lock, e, SIGKILL);
    proxy_shared_lock(); /* would wait for ever */
    assert_int_equal(e->bytes, 7);
    proxy_shared_unlock();
    proxy_shared_forget(3);
    assert_int_equal(e->messages, 0);
    proxy_shared_drop(e);
}

static void test_giving_back_too_much_changes_nothing(void **state)
{
    struct proxy_entry *e = proxy_shared_hold("127.0.0.1:3");

    proxy_shared_lock();
    proxy_entry_give(e, 5);
    assert_int_equal(e->messages, 0);
    proxy_entry_take(e, 5);
    proxy_entry_give(e, 6);
    assert_int_equal(e->messages, 1);
    proxy_entry_give(e, 5);
    assert_int_equal(e->messages + e->bytes, 0);
    proxy_shared_unlock();
    proxy_shared_drop(e);
}

static void test_held_entries_stay_others_make_room(void **state)
{
    struct proxy_entry *held[PROXY_ENDPOINTS];
    char key[PROXY_KEY_SIZE + 1];

    for (size_t i = 0; i < PROXY_ENDPOINTS; i++) {
        snprintf(key, sizeof(key), "192.0.2.1:%zu", i + 1);
        held[i] = proxy_shared_hold(key);
        assert_non_null(held[i]);
        assert_string_equal(held[i]->key, key);
    }
    assert_null(proxy_shared_hold("192.0.2.2:1"));
    assert_ptr_equal(proxy_shared_hold("192.0.2.1:8"), held[7]);
    proxy_shared_drop(held[7]);
    assert_null(proxy_shared_hold("192.0.2.2:1"));
    proxy_shared_drop(held[7]);
    assert_ptr_equal(proxy_shared_hold("192.0.2.2:1"), held[7]);
    for (size_t i = 0; i < PROXY_ENDPOINTS; i++)
        proxy_shared_drop(held[i]);
    memset(key, 'x', sizeof(key));
    key[PROXY_KEY_SIZE] = '\0';
    assert_null(proxy_shared_hold(key));
}

static void test_snapshot(void **state)
{
    void *ctx = talloc_new(NULL);
    struct proxy_entry *e = proxy_shared_hold("unix:/run/filter");
    struct proxy_endpoints seen;
    struct stat st;

    proxy_shared_lock();
    proxy_entry_take(e, 4096);
    proxy_shared_unlock();
    for (int i = 0; i < 2; i++) {
        assert_true(proxy_snapshot(ctx, i ? path : NULL, 5000, &seen));
        assert_int_equal(seen.n, 1);
        assert_string_equal(seen.at[0].name, "unix:/run/filter");
        assert_string_equal(seen.at[0].state, "up");
        assert_int_equal(seen.at[0].bytes, 4096);
    }
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0640);
    proxy_shared_lock();
    proxy_entry_give(e, 4096);
    proxy_shared_unlock();
    proxy_shared_drop(e);
    talloc_free(ctx);
}

/* A reader must not believe a file that something else has made. */
static void test_snapshot_of_a_file_that_is_none(void **state)
{
    static const char text[] = "sallyport-proxy";
    struct proxy_endpoints seen;
    char other[80];
    FILE *f;

    snprintf(other, sizeof(other), "%s/other", folder);
    assert_false(proxy_snapshot(NULL, other, 0, &seen));
    talloc_free(seen.at);
    f = fopen(other, "w");
    fwrite(text, 1, sizeof(text), f);
    fclose(f);
    assert_false(proxy_snapshot(NULL, other, 0, &seen));
    talloc_free(seen.at);
    assert_int_equal(truncate(other, 100 << 20), 0);
    assert_false(proxy_snapshot(NULL, other, 0, &seen));
    talloc_free(seen.at);
    unlink(other);
}

static int prepare(void **state)
{
    if (mkdtemp(folder) == NULL)
        return -1;
    snprintf(path, sizeof(path), "%s/proxy", folder);
    proxy_prepare(path);
    proxy_enter(0);
    return 0;
}

static int clean(void **state)
{
    unlink(path);
    return rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_dead_worker_s_work_is_taken_back),
        cmocka_unit_test(test_the_lock_s_owner_dies),
        cmocka_unit_test(test_giving_back_too_much_changes_nothing),
        cmocka_unit_test(test_held_entries_stay_others_make_room),
        cmocka_unit_test(test_snapshot),
        cmocka_unit_test(test_snapshot_of_a_file_that_is_none),
    };

    return cmocka_run_group_tests(tests, prepare, clean);
}
