/* verdict: the shared memory and the database, each alone: deaths inside, accounts, moving aside under a
 * reader. */
#include "clock.h"
#include "log.h"
#include "mem.h"
#include "verdict_store.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static char dir[64];
static struct verdict_shared *shared;

static void no_line(const char *line, void *arg)
{
}

static int setup(void **state)
{
    snprintf(dir, sizeof(dir), "/tmp/verdict_store.XXXXXX");
    if (mkdtemp(dir) == NULL)
        return -1;
    log_capture(no_line, NULL);
    shared = verdict_shared_new(dir);
    return 0;
}

static int teardown(void **state)
{
    char command[128];

    munmap(shared, sizeof(*shared));
    log_capture(NULL, NULL);
    snprintf(command, sizeof(command), "rm -rf %s", dir);
    return system(command);
}

static struct verdict_key key_of(unsigned n)
{
    struct verdict_key key = {.hint = n * 2654435761u};

    for (int i = 0; i < 4; i++)
        key.hash[31 - i] = (unsigned char)(n >> (i * 8));
    key.hash[0] = (unsigned char)(key.hint >> 8);
    key.hash[1] = (unsigned char)key.hint;
    return key;
}

/* ---- runs ---- */

static void test_runs_and_tombstones(void **state)
{
    struct verdict_key a = key_of(1), b = key_of(2);

    assert_int_equal(verdict_shared_find(shared, &a), VERDICT_NONE);
    assert_true(verdict_shared_add(shared, &a, 1, VERDICT_GONE));
    assert_int_equal(verdict_shared_find(shared, &a), VERDICT_GONE);
    assert_true(verdict_shared_add(shared, &a, 2, VERDICT_SCANNED));
    assert_true(verdict_shared_add(shared, &a, 3, VERDICT_SCANNED));
    assert_int_equal(verdict_shared_find(shared, &a), VERDICT_SCANNED);
    assert_int_equal(verdict_shared_find(shared, &b), VERDICT_NONE);
    assert_int_equal(verdict_shared_get(shared, VERDICT_RUNS), 2);
    verdict_shared_remove(shared, &a, 2, VERDICT_SCANNED);
    verdict_shared_remove(shared, &a, 2, VERDICT_SCANNED); /* has none any more */
    assert_int_equal(verdict_shared_find(shared, &a), VERDICT_SCANNED);
    assert_true(verdict_shared_has(shared, &a, 3));
    assert_false(verdict_shared_has(shared, &a, 2));
    verdict_shared_forget(shared, 3);
    assert_int_equal(verdict_shared_find(shared, &a), VERDICT_GONE);
    verdict_shared_forget(shared, 1);
    assert_int_equal(verdict_shared_find(shared, &a), VERDICT_NONE);
    assert_int_equal(verdict_shared_get(shared, VERDICT_RUNS), 0);
    assert_int_equal(atomic_load(&shared->run_hints[verdict_shared_slot(a.hint)]), 0);
}

static void test_a_set_is_bounded_and_reused(void **state)
{
    struct verdict_key key = key_of(1);

    for (unsigned i = 0; i < VERDICT_WAYS; i++) {
        key.hash[20] = (unsigned char)i;
        assert_true(verdict_shared_add(shared, &key, 1, VERDICT_SCANNED));
    }
    key.hash[20] = VERDICT_WAYS;
    assert_false(verdict_shared_add(shared, &key, 1, VERDICT_SCANNED));
    clock_skip_ms(VERDICT_RUN_LIMIT_MS);
    key.hash[20] = 3;
    assert_int_equal(verdict_shared_find(shared, &key), VERDICT_NONE);
    key.hash[20] = VERDICT_WAYS;
    assert_true(verdict_shared_add(shared, &key, 1, VERDICT_SCANNED));
    assert_int_equal(verdict_shared_find(shared, &key), VERDICT_SCANNED);
}

/* Dies with the lock, and with counts that are not what the places say. */
static void die_inside(const struct verdict_key *key)
{
    pid_t pid = fork();

    if (pid == 0) {
        verdict_shared_lock(shared);
        atomic_fetch_add(&shared->counters[VERDICT_RUNS], 5);
        atomic_store(&shared->run_hints[verdict_shared_slot(key->hint)], 0);
        atomic_store(&shared->run_hints[77], 9);
        kill(getpid(), SIGKILL);
    }
    waitpid(pid, NULL, 0);
}

static void test_a_death_with_the_lock_is_made_good(void **state)
{
    struct verdict_key key = key_of(1);

    assert_true(verdict_shared_add(shared, &key, 1, VERDICT_SCANNED));
    die_inside(&key);
    assert_int_equal(verdict_shared_find(shared, &key), VERDICT_SCANNED);
    assert_int_equal(verdict_shared_get(shared, VERDICT_RUNS), 1);
    assert_int_equal(atomic_load(&shared->run_hints[verdict_shared_slot(key.hint)]), 1);
    assert_int_equal(atomic_load(&shared->run_hints[77]), 0);
}

static void test_counters_are_read_from_the_file(void **state)
{
    uint64_t n[VERDICT_COUNTERS];
    char path[128];
    int fd;

    verdict_shared_count(shared, VERDICT_HITS);
    assert_true(verdict_shared_read(dir, n));
    assert_int_equal(n[VERDICT_HITS], 1);
    assert_false(verdict_shared_read("/nonexistent", n));
    snprintf(path, sizeof(path), "%s/verdicts.state", dir);
    fd = open(path, O_WRONLY);
    assert_int_equal(pwrite(fd, "x", 1, 0), 1); /* not the magic number */
    assert_false(verdict_shared_read(dir, n));
    assert_int_equal(ftruncate(fd, 10), 0);
    assert_false(verdict_shared_read(dir, n));
    assert_int_equal(ftruncate(fd, sizeof(*shared)), 0);
    close(fd);
}

/* ---- the database ---- */

static struct verdict_store_conf conf(size_t limit)
{
    return (struct verdict_store_conf){
        .directory = dir, .shared = shared, .lifetime_us = 1000 * 1000000ull, .limit = limit};
}

static struct verdict_store *open_store(size_t limit)
{
    struct verdict_store_conf c = conf(limit);
    struct verdict_store *s = NULL;

    assert_int_equal(verdict_store_open(NULL, &c, &s), 0);
    return s;
}

struct one {
    struct verdict_op op;
    unsigned char record[VERDICT_RECORD_LIMIT];
};

static void prepare(struct one *one, enum verdict_op_kind kind, unsigned n, int code)
{
    struct mail_reply reply = mail_reply(code, "", "reply %u", n);

    one->op = (struct verdict_op){
        .kind = kind, .key = key_of(n), .at_us = clock_real_us(), .code = code, .record = one->record};
    one->op.record_size = verdict_record_format(&one->op.key, &reply, one->op.at_us, one->record);
    mail_reply_deinit(&reply);
}

static int write_one(struct verdict_store *s, enum verdict_op_kind kind, unsigned n, int code)
{
    struct one one;

    prepare(&one, kind, n, code);
    return verdict_store_write(s, &one.op);
}

static int code_of(struct verdict_store *s, unsigned n)
{
    struct verdict_key key = key_of(n);
    struct mail_reply reply = {0};
    int code = verdict_store_get(s, &key, &reply) ? reply.code : 0;

    mail_reply_deinit(&reply);
    return code;
}

static unsigned hint_count(unsigned n)
{
    struct verdict_key key = key_of(n);

    return atomic_load(&shared->kept_hints[verdict_shared_slot(key.hint)]);
}

static void test_put_and_drop(void **state)
{
    struct verdict_store *s = open_store(100);
    struct verdict_op early = {.kind = VERDICT_DROP, .key = key_of(1), .at_us = clock_real_us()};

    assert_true(verdict_store_is_accounted(s));
    usleep(10);
    assert_int_equal(write_one(s, VERDICT_PUT, 1, 550), 0);
    assert_int_equal(code_of(s, 1), 550);
    assert_int_equal(write_one(s, VERDICT_PUT, 1, 250), 0);
    assert_int_equal(code_of(s, 1), 250);
    assert_int_equal(write_one(s, VERDICT_PUT, 1, 550), 0);
    assert_int_equal(code_of(s, 1), 250);
    assert_int_equal(hint_count(1), 1);
    assert_int_equal(verdict_store_write(s, &early), 0); /* was heard before this one was kept */
    assert_int_equal(code_of(s, 1), 250);
    assert_int_equal(write_one(s, VERDICT_DROP, 2, 250), 0);
    assert_int_equal(write_one(s, VERDICT_DROP, 1, 250), 0);
    assert_int_equal(code_of(s, 1), 0);
    assert_int_equal(hint_count(1), 0);
    assert_int_equal(verdict_shared_get(shared, VERDICT_ENTRIES), 0);
    assert_true(verdict_store_is_accounted(s));
    talloc_free(s);
}

static void test_accounts_are_made_right(void **state)
{
    struct verdict_store *s = open_store(100);

    for (unsigned i = 1; i <= 3; i++)
        assert_int_equal(write_one(s, VERDICT_PUT, i, 250), 0);
    atomic_store(&shared->accounted, 0); /* as a writer that was killed leaves it */
    atomic_store(&shared->kept_hints[verdict_shared_slot(key_of(2).hint)], 0);
    atomic_store(&shared->kept_hints[5], 4);
    assert_false(verdict_store_is_accounted(s));
    assert_int_equal(write_one(s, VERDICT_DROP, 1, 250), 0);
    assert_true(verdict_store_is_accounted(s));
    assert_int_equal(hint_count(1), 0);
    assert_int_equal(hint_count(2), 1);
    assert_int_equal(hint_count(3), 1);
    assert_int_equal(atomic_load(&shared->kept_hints[5]), 0);
    assert_int_equal(verdict_shared_get(shared, VERDICT_ENTRIES), 2);
    talloc_free(s);
}

/* Writes as fast as it can until it is killed. Each transaction takes the verdicts that stay away, works on
 * others for a while, and puts them back. */
static _Noreturn void write_for_ever(void)
{
    enum { STAY = 20, OTHERS = 200 };
    struct verdict_store *s = open_store(40);
    static struct one ops[STAY + OTHERS + STAY];

    for (unsigned round = 0;; round++) {
        for (unsigned i = 0; i < STAY; i++) {
            prepare(&ops[i], VERDICT_DROP, i, 250);
            prepare(&ops[STAY + OTHERS + i], VERDICT_PUT, i, 250);
        }
        for (unsigned i = 0; i < OTHERS; i++)
            prepare(&ops[STAY + i], i % 3 ? VERDICT_PUT : VERDICT_DROP, STAY + (i + round) % 13, 250);
        for (unsigned i = 0; i + 1 < sizeof(ops) / sizeof(ops[0]); i++)
            ops[i].op.next = &ops[i + 1].op;
        verdict_store_write(s, &ops[0].op);
    }
}

static bool is_right(struct verdict_store *s)
{
    unsigned entries = 0;

    for (unsigned i = 0; i < 33; i++) {
        bool is_there = code_of(s, i) == 250;

        entries += is_there;
        if (hint_count(i) != is_there)
            return false;
    }
    return verdict_shared_get(shared, VERDICT_ENTRIES) == entries;
}

static void kill_writers(unsigned round)
{
    pid_t pids[2];

    for (unsigned i = 0; i < 2; i++)
        if ((pids[i] = fork()) == 0)
            write_for_ever();
    usleep(1000 + round * 377 % 5000);
    for (int i = 0; i < 2; i++)
        kill(pids[i], SIGKILL);
    for (int i = 0; i < 2; i++)
        waitpid(pids[i], NULL, 0);
}

/* Nobody may miss a verdict that stays; whoever writes next makes the rest right. In a process of its own,
 * since no handle of LMDB may be inherited by the next writers. */
static _Noreturn void look_after_kill(unsigned round)
{
    struct verdict_store *s = NULL;
    struct verdict_store_conf c = conf(40);
    unsigned lost = 0;

    for (unsigned i = 0; i < 20; i++)
        lost += hint_count(i) == 0 && atomic_load(&shared->accounted) != 0;
    if (verdict_store_open(NULL, &c, &s) != 0)
        _exit(1);
    for (unsigned i = 0; i < 20; i++)
        if (code_of(s, i) != 250 || lost > 0)
            _exit(2);
    write_one(s, VERDICT_PUT, 20 + round % 13, 250);
    _exit(is_right(s) ? 0 : 3);
}

static void test_killed_writers_leave_a_whole_database(void **state)
{
    struct verdict_store *s = open_store(40);

    for (unsigned i = 0; i < 20; i++)
        assert_int_equal(write_one(s, VERDICT_PUT, i, 250), 0);
    talloc_free(s);
    for (unsigned round = 0; round < 30; round++) {
        int status = -1;
        pid_t pid;

        kill_writers(round);
        if ((pid = fork()) == 0)
            look_after_kill(round);
        waitpid(pid, &status, 0);
        if (status != 0)
            fail_msg("round %u: status %x", round, (unsigned)status);
    }
}

/* ---- moving aside ---- */

static int go[2], seen[2];

static void step(int tell, int hear)
{
    char c = 'x';

    if (tell >= 0 && write(tell, &c, 1) != 1)
        _exit(1);
    if (hear >= 0 && read(hear, &c, 1) != 1)
        _exit(1);
}

static _Noreturn void be_another_worker(void)
{
    struct verdict_store_conf c = conf(100);
    struct verdict_store *s = open_store(100);
    unsigned generation = verdict_store_generation(s);
    bool good = code_of(s, 1) == 250 && verdict_store_is_accounted(s);

    step(seen[1], go[0]); /* the other one moves it aside */
    good = good && !verdict_store_is_current(s) && !verdict_store_is_accounted(s) && code_of(s, 1) == 250;
    talloc_free(s);
    good = good && verdict_store_give_up(&c, generation); /* was done already */
    s = open_store(100);
    good = good && verdict_store_is_current(s) && code_of(s, 1) == 0 && code_of(s, 2) == 250 &&
           hint_count(1) == 0 && hint_count(2) == 1;
    talloc_free(s);
    _exit(!good);
}

static void test_one_worker_moves_aside_for_all(void **state)
{
    struct verdict_store *s = open_store(100);
    struct verdict_store_conf c = conf(100);
    unsigned generation = verdict_store_generation(s);
    char path[128];
    int status = -1;
    pid_t pid;

    assert_int_equal(pipe(go), 0);
    assert_int_equal(pipe(seen), 0);
    assert_int_equal(write_one(s, VERDICT_PUT, 1, 250), 0);
    talloc_free(s);
    if ((pid = fork()) == 0)
        be_another_worker();
    step(-1, seen[0]);
    assert_true(verdict_store_give_up(&c, generation));
    s = open_store(100);
    assert_int_equal(code_of(s, 1), 0);
    assert_int_equal(write_one(s, VERDICT_PUT, 2, 250), 0);
    step(go[1], -1);
    waitpid(pid, &status, 0);
    assert_int_equal(status, 0);
    snprintf(path, sizeof(path), "%s/verdicts.bad/data.mdb", dir);
    assert_int_equal(access(path, F_OK), 0);
    talloc_free(s);
    assert_true(verdict_store_give_up(&c, generation + 1)); /* once more: verdicts.bad is replaced */
    s = open_store(100);
    assert_int_equal(code_of(s, 2), 0);
    talloc_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_runs_and_tombstones, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_set_is_bounded_and_reused, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_death_with_the_lock_is_made_good, setup, teardown),
        cmocka_unit_test_setup_teardown(test_counters_are_read_from_the_file, setup, teardown),
        cmocka_unit_test_setup_teardown(test_put_and_drop, setup, teardown),
        cmocka_unit_test_setup_teardown(test_accounts_are_made_right, setup, teardown),
        cmocka_unit_test_setup_teardown(test_killed_writers_leave_a_whole_database, setup, teardown),
        cmocka_unit_test_setup_teardown(test_one_worker_moves_aside_for_all, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
