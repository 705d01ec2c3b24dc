/* When DIR/admission is written, and by whom. */
#include "admission_live.h"

#include "clock.h"
#include "mem.h"

#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static uint64_t shown_admitted(const char *filter)
{
    return live_shown(filter).classes[ADMISSION_STRANGER].admitted;
}

/* One message of the worker's, which the filter passes. */
static void pass_one(void)
{
    struct admission_ticket t;

    assert_true(live_judge(live_pool, &t).is_admitted);
    assert_int_equal(admission_take(live_pool, &t, 4096, clock_ms() + LIVE_SOON_MS), ADMISSION_GRANTED);
    admission_give(live_pool, &t, ADMISSION_OK, 10, 4096);
}

static void wait_for_admitted(const char *filter, uint64_t n)
{
    uint64_t until = clock_ms() + LIVE_SOON_MS;

    while (shown_admitted(filter) != n) {
        assert_true(clock_ms() < until);
        co_sleep(clock_ms() + 5, "the file");
    }
}

/* ---- numbers ---- */

static void pass_some_and_look(void *arg)
{
    size_t before = co_count();
    const uint64_t *n = arg;

    for (int i = 0; i < 3; i++)
        pass_one();
    assert_int_equal(co_count(), before + 1); /* one writer for all of them */
    wait_for_admitted("soon", *n);
}

static void test_changes_are_shown_soon(void **state)
{
    live_pool = live_open(0, "soon");
    assert_int_equal(shown_admitted("soon"), 0); /* that the filter is there, at once */
    live_run(pass_some_and_look, &(uint64_t){3});
    live_run(pass_some_and_look, &(uint64_t){6});
    assert_int_equal(atomic_load(&admission_shared()->saving.taken_until), 0);
    admission_forget(0);
}

static void pass_one_and_die(void *arg)
{
    pass_one();
    raise(SIGKILL);
}

static void run_and_die(unsigned worker, const char *filter)
{
    pid_t pid = fork();
    int status;

    assert_true(pid >= 0);
    if (pid == 0) {
        live_pool = live_open(worker, filter);
        live_run(pass_one_and_die, NULL);
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static void test_master_writes_what_a_dead_worker_did_not(void **state)
{
    run_and_die(1, "dead");
    assert_true(atomic_load(&admission_shared()->saving.taken_until) > clock_ms());
    assert_int_equal(shown_admitted("dead"), 0);
    admission_forget(1);
    assert_int_equal(shown_admitted("dead"), 1);
    assert_int_equal(atomic_load(&admission_shared()->saving.taken_until), 0);
}

static void pass_one_and_look(void *arg)
{
    pass_one();
    wait_for_admitted("hangs", 1);
}

/* Who has taken it on itself does not come to it. */
static void test_another_worker_takes_over(void **state)
{
    live_pool = live_open(2, "hangs");
    atomic_store(&admission_shared()->saving.taken_until, clock_ms() + 50);
    while (atomic_load(&admission_shared()->saving.taken_until) > clock_ms())
        poll(NULL, 0, 5);
    live_run(pass_one_and_look, NULL);
    admission_forget(2);
}

/* ---- records ---- */

static void copy_file(const char *from, const char *to)
{
    static char bytes[1 << 16];
    int in = open(from, O_RDONLY), out = open(to, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    ssize_t n;

    assert_true(in >= 0 && out >= 0);
    while ((n = read(in, bytes, sizeof(bytes))) > 0)
        assert_int_equal(write(out, bytes, (size_t)n), n);
    close(in);
    close(out);
}

/* How many clients a start would know, from a copy of the file. */
static uint32_t records_on_disk(void)
{
    struct admission_shared *s = mem_new(NULL, struct admission_shared);
    char dir[] = "/tmp/admission-save-XXXXXX", *copy = admission_file_name(s, mkdtemp(dir));
    uint32_t n;
    int file;

    copy_file(admission_file_name(s, live_dir), copy);
    admission_core_init(s, 1);
    assert_null(admission_file_make(s, dir, &file));
    n = s->clients;
    close(file);
    unlink(copy);
    rmdir(dir);
    talloc_free(s);
    return n;
}

static void pass_two_a_minute_apart(void *arg)
{
    uint32_t before = records_on_disk();

    pass_one();
    wait_for_admitted("minute", 1);
    assert_int_equal(records_on_disk(), before);
    clock_skip_ms(60000);
    pass_one();
    wait_for_admitted("minute", 2);
    while (co_count() > 1)
        co_sleep(clock_ms() + 5, "the records");
    assert_int_equal(records_on_disk(), before + 1);
}

static void test_records_once_a_minute(void **state)
{
    live_pool = live_open(3, "minute");
    admission_save(true);
    live_run(pass_two_a_minute_apart, NULL);
    admission_forget(3);
}

static void test_records_when_the_last_has_ended(void **state)
{
    uint32_t before = records_on_disk();

    live_open(4, "last");
    run_and_die(5, "last");
    admission_forget(5);
    assert_int_equal(live_shown("last").outcomes[ADMISSION_OK], 1);
    assert_int_equal(records_on_disk(), before);
    admission_forget(4);
    assert_int_equal(records_on_disk(), before + 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_changes_are_shown_soon),
        cmocka_unit_test(test_master_writes_what_a_dead_worker_did_not),
        cmocka_unit_test(test_another_worker_takes_over),
        cmocka_unit_test(test_records_once_a_minute),
        cmocka_unit_test(test_records_when_the_last_has_ended),
    };
    int failed;

    live_begin();
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    live_end();
    return failed;
}
