/* verdict: a damaged database, none at all, a disk in trouble, owners. */
#include "verdict_test_host.h"

#include "clock.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <cmocka.h>
#include <lmdb.h>

/* ---- damage ---- */

static void spoil(const char *name, off_t at, off_t cut)
{
    char path[128], junk[4096];
    int fd;

    snprintf(path, sizeof(path), "%s/verdicts/%s", dir, name);
    fd = open(path, O_RDWR);
    CHECK(fd >= 0);
    memset(junk, 0x5a, sizeof(junk));
    if (cut >= 0)
        CHECK(ftruncate(fd, cut) == 0);
    else
        for (int i = 0; i < 64; i++, at += (off_t)sizeof(junk))
            CHECK(pwrite(fd, junk, sizeof(junk), at) == sizeof(junk));
    close(fd);
}

static bool exists(const char *name)
{
    char path[128];

    snprintf(path, sizeof(path), "%s/%s", dir, name);
    return access(path, F_OK) == 0;
}

static co_fn void begin_anew(struct verdict *m, void *arg)
{
    CHECK(verdict_is_empty(m) && start(m, 1) == VERDICT_FRESH);
    keep(m, 1);
    CHECK(start(m, 1) == VERDICT_REMEMBERED && warnings == 1);
}

static void beginner(void *arg)
{
    work(1, begin_anew, NULL);
}

static void test_a_damaged_database_is_moved_aside(void **state)
{
    static const struct {
        off_t at, cut;
    } cases[] = {{0, -1}, {2 * 4096, -1}, {0, 2 * 4096}, {0, 3 * 4096}, {0, 100}};

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(host(keeper, NULL), 0);
        spoil("data.mdb", cases[i].at, cases[i].cut);
        assert_int_equal(host(beginner, NULL), 0);
        assert_true(exists("verdicts.bad/data.mdb"));
        assert_int_equal(host(keeper, NULL), 0);
    }
}

/* Records whose bytes have changed are no verdicts; the database they are in is good. */
static void flip_in_records(void)
{
    char path[128], page[4096];
    int fd;
    unsigned flipped = 0;

    snprintf(path, sizeof(path), "%s/verdicts/data.mdb", dir);
    fd = open(path, O_RDWR);
    for (off_t at = 0; pread(fd, page, sizeof(page), at) == sizeof(page); at += (off_t)sizeof(page)) {
        char *text = memmem(page, sizeof(page), "queued as 1", 11);

        if (text == NULL)
            continue;
        text[10] = '7';
        flipped += pwrite(fd, page, sizeof(page), at) == sizeof(page);
    }
    close(fd);
    assert_true(flipped > 0);
}

static co_fn void skip_the_flipped(struct verdict *m, void *arg)
{
    CHECK(start(m, 1) == VERDICT_FRESH && start(m, 2) == VERDICT_REMEMBERED && warnings == 0);
    keep(m, 1);
    CHECK(start(m, 1) == VERDICT_REMEMBERED);
    clock_skip_ms((uint64_t)5 * 24 * 3600 * 1000);
    may_know(m, 1);
    verdict_flush(m, clock_ms() + 30000);
    CHECK(verdict_is_empty(m) && numbers().entries == 0);
}

static void skipper(void *arg)
{
    work(1, skip_the_flipped, NULL);
}

static void test_a_damaged_record_is_no_verdict(void **state)
{
    assert_int_equal(host(keeper, NULL), 0);
    flip_in_records();
    assert_int_equal(host(skipper, NULL), 0);
}

static co_fn void do_without(struct verdict *m, void *arg)
{
    abandon(m, 1);
    CHECK(start(m, 1) == VERDICT_RUNNING);
    keep(m, 1);
    CHECK(start(m, 1) == VERDICT_FRESH && verdict_is_empty(m));
    heard(m, 1);
    CHECK(warnings == 1);
}

static void without_database(void *arg)
{
    work(1, do_without, NULL);
}

static void test_without_a_database_mail_flows(void **state)
{
    char path[128];
    int fd;

    snprintf(path, sizeof(path), "%s/verdicts", dir);
    fd = open(path, O_WRONLY | O_CREAT, 0600); /* a file where the folder should be */
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(host(without_database, NULL), 0);
}

/* ---- master is root, workers are not ---- */

enum { NOBODY = 65534 };

static void keeper_as_nobody(void *arg)
{
    CHECK(setresgid(NOBODY, NOBODY, NOBODY) == 0 && setresuid(NOBODY, NOBODY, NOBODY) == 0);
    work(1, arg == NULL ? keep_two : begin_anew, NULL);
}

static void root_host(void *arg)
{
    verdict_prepare(conf);
    CHECK(end_of(spawn(keeper_as_nobody, arg)) == 0);
    CHECK(numbers().kept > 0);
}

static void test_a_root_master_leaves_the_database_to_its_owner(void **state)
{
    static char damaged[] = "damaged";

    if (geteuid() != 0)
        skip();
    assert_int_equal(chown(dir, NOBODY, NOBODY), 0);
    assert_int_equal(host(root_host, NULL), 0);
    assert_int_equal(host(root_host, NULL), 0);
    spoil("data.mdb", 0, 2 * 4096);
    assert_int_equal(host(root_host, damaged), 0);
    assert_true(exists("verdicts.bad/data.mdb"));
}

/* ---- trouble while it runs ---- */

static void limit_files(rlim_t size)
{
    struct rlimit limit = {.rlim_cur = size, .rlim_max = RLIM_INFINITY};

    CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0);
}

static co_fn void live_through_trouble(struct verdict *m, void *arg)
{
    keep(m, 1);
    limit_files(4096); /* as a full disk */
    keep(m, 2);
    keep(m, 3);
    CHECK(warnings == 1);
    CHECK(start(m, 1) == VERDICT_REMEMBERED && start(m, 2) == VERDICT_FRESH && start(m, 3) == VERDICT_FRESH);
    limit_files(RLIM_INFINITY);
    keep(m, 2);
    CHECK(start(m, 2) == VERDICT_REMEMBERED && warnings == 1);
    limit_files(4096);
    keep(m, 3); /* closes the database */
    limit_files(RLIM_INFINITY);
    spoil("data.mdb", 0, -1);
    keep(m, 4);
    CHECK(start(m, 4) == VERDICT_REMEMBERED && start(m, 1) == VERDICT_FRESH &&
          exists("verdicts.bad/data.mdb"));
    CHECK(numbers().entries == 1 && numbers().running == 0);
}

static void troubled(void *arg)
{
    signal(SIGXFSZ, SIG_IGN);
    work(1, live_through_trouble, NULL);
}

static void test_trouble_of_the_disk_is_lived_through(void **state)
{
    assert_int_equal(host(troubled, NULL), 0);
}

/* A message like it that comes now is a new one, and stays one when the disk is good again. */
static co_fn void hear_in_trouble(struct verdict *m, void *arg)
{
    keep(m, 1);
    keep(m, 2);
    keep(m, 3);
    limit_files(4096);
    CHECK(start_and_hear(m, 1) == VERDICT_REMEMBERED);
    verdict_flush(m, clock_ms() + 30000);
    CHECK(start(m, 1) == VERDICT_FRESH && warnings == 1);
    CHECK(start_and_hear(m, 2) == VERDICT_REMEMBERED);
    verdict_flush(m, clock_ms() + 30000);
    clock_skip_ms((uint64_t)2 * 3600 * 1000);
    CHECK(may_know(m, 1) && start(m, 1) == VERDICT_FRESH && start(m, 2) == VERDICT_FRESH);
    limit_files(RLIM_INFINITY);
    CHECK(may_know(m, 3)); /* which writes again what failed */
    verdict_flush(m, clock_ms() + 30000);
    verdict_forget(1); /* with the tombstones */
    CHECK(start(m, 1) == VERDICT_FRESH && start(m, 2) == VERDICT_FRESH && start(m, 3) == VERDICT_REMEMBERED);
    CHECK(numbers().entries == 1);
}

static void troubled_hearer(void *arg)
{
    signal(SIGXFSZ, SIG_IGN);
    work(1, hear_in_trouble, NULL);
}

static void test_what_is_heard_while_the_disk_is_in_trouble_is_forgotten(void **state)
{
    assert_int_equal(host(troubled_hearer, NULL), 0);
}

/* Its reply was told before the database was lost. */
static co_fn void hear_without_a_database(struct verdict *m, void *arg)
{
    keep(m, 1);
    CHECK(start(m, 1) == VERDICT_REMEMBERED);
    limit_files(4096);
    keep(m, 2); /* closes it */
    CHECK(chmod(dir, 0) == 0);
    heard(m, 1);
    verdict_flush(m, clock_ms() + 30000);
    CHECK(chmod(dir, 0700) == 0);
    limit_files(RLIM_INFINITY);
    clock_skip_ms(10 * 1000);
    CHECK(start(m, 1) == VERDICT_FRESH);
    verdict_flush(m, clock_ms() + 30000);
    verdict_forget(1);
    CHECK(start(m, 1) == VERDICT_FRESH && numbers().entries == 0);
}

static void hearer_as_nobody(void *arg)
{
    CHECK(setresgid(NOBODY, NOBODY, NOBODY) == 0 && setresuid(NOBODY, NOBODY, NOBODY) == 0);
    signal(SIGXFSZ, SIG_IGN);
    work(1, hear_without_a_database, NULL);
}

static void test_what_is_heard_without_a_database_is_forgotten(void **state)
{
    if (geteuid() != 0)
        skip();
    assert_int_equal(chown(dir, NOBODY, NOBODY), 0);
    assert_int_equal(host(hearer_as_nobody, NULL), 0);
}

/* ---- damage while it runs ---- */

static co_fn void touch_the_damaged(struct verdict *m, void *arg)
{
    keep_two(m, arg);
    tell(steps.seen[1]);
    hear(steps.go[0]);
    start(m, 1);
}

static void victim(void *arg)
{
    signal(SIGBUS, SIG_DFL); /* not to the test's runner */
    work(2, touch_the_damaged, NULL);
}

static int later[2]; /* a pipe, too */

static co_fn void go_on(struct verdict *m, void *arg)
{
    tell(steps.seen[1]);
    hear(later[0]);
    keep(m, 3);
    CHECK(start(m, 3) == VERDICT_REMEMBERED && start(m, 2) == VERDICT_FRESH);
}

static void bystander(void *arg)
{
    work(3, go_on, NULL);
}

static void damaged_host(void *arg)
{
    pid_t dead, alive;

    verdict_prepare(conf);
    CHECK(pipe(steps.go) == 0 && pipe(steps.seen) == 0 && pipe(later) == 0);
    alive = spawn(bystander, NULL);
    hear(steps.seen[0]);
    dead = spawn(victim, NULL);
    hear(steps.seen[0]);
    spoil("data.mdb", 0, 2 * 4096);
    tell(steps.go[1]);
    CHECK(end_of(dead) != 0);
    verdict_forget(2);
    work(2, begin_anew, NULL);
    tell(later[1]);
    CHECK(end_of(alive) == 0 && exists("verdicts.bad/data.mdb"));
}

static void test_a_worker_that_dies_of_damage_is_the_last_one(void **state)
{
    assert_int_equal(host(damaged_host, NULL), 0);
}

/* ---- a slow disk ---- */

/* Keeps everybody from opening it. */
static void lock_out(void *arg)
{
    struct flock all = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    char path[128];
    int fd;

    snprintf(path, sizeof(path), "%s/verdicts/lock.mdb", dir);
    fd = open(path, O_RDWR);
    CHECK(fd >= 0 && fcntl(fd, F_SETLK, &all) == 0);
    tell(steps.seen[1]);
    hear(steps.go[0]);
}

static void prove_slowly(void *arg)
{
    signal(SIGALRM, SIG_IGN); /* not so the child that proves */
    CHECK(setpgid(0, 0) == 0);
    tell(steps.seen[1]);
    verdict_prepare(conf);
    CHECK(warnings == 1);
    tell(steps.go[1]);
}

static void test_a_disk_that_is_slow_is_not_damaged(void **state)
{
    pid_t locker, prover;

    assert_int_equal(host(keeper, NULL), 0);
    assert_int_equal(pipe(steps.go), 0);
    assert_int_equal(pipe(steps.seen), 0);
    locker = spawn(lock_out, NULL);
    hear(steps.seen[0]);
    prover = spawn(prove_slowly, NULL);
    hear(steps.seen[0]);
    usleep(200000); /* if it was not in the middle of it yet, ten seconds later it is */
    kill(-prover, SIGALRM);
    assert_int_equal(end_of(prover), 0);
    assert_int_equal(end_of(locker), 0);
    assert_false(exists("verdicts.bad"));
}

/* ---- a writer that hangs ---- */

static void hold_the_writers_lock(void *arg)
{
    char path[128];
    MDB_env *env;
    MDB_txn *txn;

    snprintf(path, sizeof(path), "%s/verdicts", dir);
    CHECK(mdb_env_create(&env) == 0 && mdb_env_set_maxdbs(env, 2) == 0);
    CHECK(mdb_env_set_mapsize(env, 1 << 30) == 0 && mdb_env_open(env, path, 0, 0600) == 0);
    CHECK(mdb_txn_begin(env, NULL, 0, &txn) == 0);
    tell(steps.seen[1]);
    hear(steps.go[0]);
}

static co_fn void read_past_the_writer(struct verdict *m, void *arg)
{
    CHECK(start(m, 1) == VERDICT_REMEMBERED && start(m, 2) == VERDICT_REMEMBERED);
    tell(steps.go[1]);
}

static void past_the_writer(void *arg)
{
    pid_t writer;

    verdict_prepare(conf);
    CHECK(pipe(steps.go) == 0 && pipe(steps.seen) == 0);
    writer = spawn(hold_the_writers_lock, NULL);
    hear(steps.seen[0]);
    alarm(5);
    work(1, read_past_the_writer, NULL);
    CHECK(end_of(writer) == 0);
}

static void test_a_worker_begins_while_another_ones_write_hangs(void **state)
{
    assert_int_equal(host(keeper, NULL), 0);
    assert_int_equal(host(past_the_writer, NULL), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_damaged_database_is_moved_aside, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_damaged_record_is_no_verdict, setup, teardown),
        cmocka_unit_test_setup_teardown(test_without_a_database_mail_flows, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_root_master_leaves_the_database_to_its_owner, setup, teardown),
        cmocka_unit_test_setup_teardown(test_trouble_of_the_disk_is_lived_through, setup, teardown),
        cmocka_unit_test_setup_teardown(test_what_is_heard_while_the_disk_is_in_trouble_is_forgotten, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_what_is_heard_without_a_database_is_forgotten, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_worker_that_dies_of_damage_is_the_last_one, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_disk_that_is_slow_is_not_damaged, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_worker_begins_while_another_ones_write_hangs, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
