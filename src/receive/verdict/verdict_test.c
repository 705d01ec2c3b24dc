/* verdict: the whole memory, over forked workers: retries answered once, waits, deaths, restarts, limits,
 * damage. */
#include "verdict.h"

#include "clock.h"
#include "log.h"
#include "mem.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* Assertions run in children, which cannot longjmp into the parent's runner. */
#define CHECK(condition)                                                                                     \
    do {                                                                                                     \
        if (!(condition)) {                                                                                  \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                                  \
            _exit(1);                                                                                        \
        }                                                                                                    \
    } while (0)

static char dir[64];
static struct conf *conf;
static unsigned warnings;

static void count_line(const char *line, void *arg)
{
    if (strncmp(line, "warning: ", 9) == 0)
        warnings++;
}

static int setup(void **state)
{
    struct conf_faults faults = {0};

    snprintf(dir, sizeof(dir), "/tmp/verdict_test.XXXXXX");
    if (mkdtemp(dir) == NULL)
        return -1;
    conf = conf_read(NULL, NULL, &faults);
    conf_set(conf, "data_directory", dir, "test", 1);
    warnings = 0;
    log_capture(count_line, NULL);
    return 0;
}

static int teardown(void **state)
{
    char command[128];

    TALLOC_FREE(conf);
    log_capture(NULL, NULL);
    snprintf(command, sizeof(command), "rm -rf %s", dir);
    return system(command);
}

/* ---- a host is a process that prepares; its workers are its children ---- */

static pid_t spawn(void (*fn)(void *arg), void *arg)
{
    pid_t pid;

    fflush(stderr);
    pid = fork();
    if (pid == 0) {
        alarm(60);
        fn(arg);
        _exit(0);
    }
    return pid;
}

static int end_of(pid_t pid)
{
    int status = -1;

    waitpid(pid, &status, 0);
    return status;
}

static void host(void (*fn)(void *arg), void *arg)
{
    assert_int_equal(end_of(spawn(fn, arg)), 0);
}

struct work {
    co_fn void (*fn)(struct verdict *m, void *arg);
    void *arg;
    struct verdict *m;
};

static co_fn void work_in_coroutine(void *arg)
{
    struct work *w = arg;

    w->fn(w->m, w->arg);
    verdict_flush(w->m, clock_ms() + 30000);
}

/* A worker's life in this process. */
static void work(unsigned id, co_fn void (*fn)(struct verdict *m, void *arg), void *arg)
{
    struct work w = {.fn = fn, .arg = arg};

    verdict_prepare(conf);
    co_init(2);
    w.m = verdict_open(NULL, conf, "127.0.0.1:10025", id);
    co_spawn(work_in_coroutine, &w, "test");
    co_run();
    talloc_free(w.m);
    co_deinit();
}

/* ---- messages ---- */

static struct mail_rcpt rcpt = {.addr = "to@example.com"};
static struct mail_rcpt *rcpts[] = {&rcpt};

static struct mail_envelope envelope(void)
{
    rcpt.command = BYTES("RCPT TO:<to@example.com>");
    return (struct mail_envelope){.command = BYTES("MAIL FROM:<from@example.com> SIZE=100"),
                                  .sender = "from@example.com",
                                  .rcpts = rcpts,
                                  .rcpt_count = 1};
}

/* Message n; all have the same envelope and size, so that they share a hint. */
static char *content(unsigned n)
{
    static char text[64];

    snprintf(text, sizeof(text), "Subject: %08u\r\n\r\nx\r\n", n);
    return text;
}

static struct verdict_key key_of(struct verdict *m, unsigned n)
{
    struct mail_envelope e = envelope();
    struct verdict_digest *d = verdict_key_begin(NULL, m, &e);

    verdict_key_add(d, bytes_of(content(n)));
    return verdict_key_end(&d);
}

static bool may_know(struct verdict *m, unsigned n)
{
    struct mail_envelope e = envelope();

    return verdict_may_know(m, &e, strlen(content(n)));
}

static enum verdict_found start(struct verdict *m, unsigned n)
{
    struct verdict_key key = key_of(m, n);
    struct mail_reply reply = {0};
    enum verdict_found found = verdict_start(m, &key, &reply);

    if (found == VERDICT_REMEMBERED) {
        char text[64];

        snprintf(text, sizeof(text), "Ok: queued as %u", n);
        CHECK(reply.code == 250 && strcmp(reply.dsn, "2.0.0") == 0 && strcmp(reply.text, text) == 0);
    }
    mail_reply_deinit(&reply);
    return found;
}

static co_fn void end_scan(struct verdict *m, unsigned n, int code, bool heard)
{
    struct verdict_key key = key_of(m, n);
    struct mail_reply reply =
        code == 250 ? mail_reply(250, "2.0.0", "Ok: queued as %u", n) : mail_reply(code, "", "no");

    verdict_end(m, &key, &reply, heard, clock_ms() + 30000);
    mail_reply_deinit(&reply);
}

static co_fn void keep(struct verdict *m, unsigned n)
{
    end_scan(m, n, 250, false);
}

static void abandon(struct verdict *m, unsigned n)
{
    struct verdict_key key = key_of(m, n);

    verdict_abandon(m, &key);
}

static void heard(struct verdict *m, unsigned n)
{
    struct verdict_key key = key_of(m, n);

    verdict_heard(m, &key);
}

static co_fn enum verdict_found wait_for(struct verdict *m, unsigned n, uint64_t ms)
{
    struct verdict_key key = key_of(m, n);
    struct mail_reply reply = {0};
    enum verdict_found found = verdict_wait(m, &key, clock_ms() + ms, &reply);

    mail_reply_deinit(&reply);
    return found;
}

static struct verdict_snapshot numbers(void)
{
    struct verdict_snapshot n = {0};

    CHECK(verdict_snapshot(conf, &n));
    return n;
}

/* ---- one worker ---- */

static co_fn void live(struct verdict *m, void *arg)
{
    struct verdict_snapshot n;

    CHECK(verdict_is_empty(m) && !may_know(m, 1) && start(m, 1) == VERDICT_FRESH);
    abandon(m, 1);
    CHECK(!verdict_is_empty(m) && may_know(m, 1));
    CHECK(start(m, 1) == VERDICT_RUNNING && start(m, 2) == VERDICT_FRESH);
    keep(m, 1);
    CHECK(!verdict_is_empty(m) && may_know(m, 1));
    CHECK(start(m, 1) == VERDICT_REMEMBERED && start(m, 1) == VERDICT_REMEMBERED);
    n = numbers();
    CHECK(n.entries == 1 && n.running == 0 && n.kept == 1 && n.hits == 2 && n.heard == 0);
    heard(m, 1);
    CHECK(start(m, 1) == VERDICT_FRESH);
    CHECK(wait_for(m, 1, 0) == VERDICT_REMEMBERED); /* who waits came before it was heard */
    verdict_flush(m, clock_ms() + 30000);
    CHECK(start(m, 1) == VERDICT_FRESH && verdict_is_empty(m) && !may_know(m, 1));
    n = numbers();
    CHECK(n.entries == 0 && n.heard == 1);
}

static void one_worker(void *arg)
{
    work(1, live, NULL);
}

static void test_a_retry_is_answered_until_heard(void **state)
{
    host(one_worker, NULL);
}

static co_fn void judge(struct verdict *m, void *arg)
{
    abandon(m, 1);
    end_scan(m, 1, 451, false);
    CHECK(verdict_is_empty(m) && start(m, 1) == VERDICT_FRESH);
    abandon(m, 2);
    end_scan(m, 2, 250, true);
    CHECK(verdict_is_empty(m) && start(m, 2) == VERDICT_FRESH);
    keep(m, 3);
    end_scan(m, 3, 550, false); /* the copy that was queued counts */
    CHECK(start(m, 3) == VERDICT_REMEMBERED);
    end_scan(m, 4, 550, false);
    end_scan(m, 4, 250, false);
    CHECK(start(m, 4) == VERDICT_REMEMBERED);
    CHECK(numbers().entries == 2);
    end_scan(m, 4, 250, true); /* another copy was scanned and heard of */
    CHECK(start(m, 4) == VERDICT_FRESH && start(m, 3) == VERDICT_REMEMBERED);
}

static void one_judge(void *arg)
{
    work(1, judge, NULL);
}

static void test_only_what_ends_a_message_is_kept(void **state)
{
    host(one_judge, NULL);
}

static co_fn void is_off(struct verdict *m, void *arg)
{
    abandon(m, 1);
    CHECK(verdict_is_empty(m) && start(m, 1) == VERDICT_FRESH);
    keep(m, 1);
    CHECK(verdict_is_empty(m) && !may_know(m, 1) && start(m, 1) == VERDICT_FRESH);
    CHECK(wait_for(m, 1, 1000) == VERDICT_FRESH);
    heard(m, 1);
}

static void one_off(void *arg)
{
    conf_set(conf, "smtpd_proxy_verdict_memory", "no", "test", 1);
    work(1, is_off, NULL);
}

static void test_off_by_one_parameter(void **state)
{
    host(one_off, NULL);
}

/* ---- waiting ---- */

static struct {
    int go[2], seen[2]; /* pipes between the processes of a test */
} steps;

static void tell(int fd)
{
    CHECK(write(fd, "x", 1) == 1);
}

static void hear(int fd)
{
    char c;

    CHECK(read(fd, &c, 1) == 1);
}

static co_fn void scan_slowly(struct verdict *m, void *arg)
{
    abandon(m, 1);
    tell(steps.seen[1]);
    hear(steps.go[0]);
    if (arg != NULL)
        keep(m, 1);
    else
        end_scan(m, 1, 451, false);
}

static void scanner(void *arg)
{
    work(1, scan_slowly, arg);
}

struct two {
    struct verdict *m;
    int n;
};

static co_fn void second_waiter(void *arg)
{
    struct two *t = arg;

    CHECK(wait_for(t->m, 1, 30000) == VERDICT_REMEMBERED);
    t->n++;
}

static co_fn void wait_both(struct verdict *m, void *arg)
{
    struct two t = {m, 0};

    CHECK(start(m, 1) == VERDICT_RUNNING);
    CHECK(wait_for(m, 1, 20) == VERDICT_RUNNING); /* the deadline */
    co_spawn(second_waiter, &t, "second");
    co_yield ();
    tell(steps.go[1]);
    CHECK(wait_for(m, 1, 30000) == VERDICT_REMEMBERED);
    heard(m, 1); /* the other retry, which came before, hears it all the same */
    while (t.n == 0)
        co_sleep(clock_ms() + 1, "second");
    CHECK(start(m, 1) == VERDICT_FRESH);
}

static co_fn void wait_in_vain(struct verdict *m, void *arg)
{
    tell(steps.go[1]);
    CHECK(wait_for(m, 1, 30000) == VERDICT_FRESH);
}

static void wait_host(void *arg)
{
    pid_t pid;

    CHECK(pipe(steps.go) == 0 && pipe(steps.seen) == 0);
    verdict_prepare(conf);
    pid = spawn(scanner, arg);
    hear(steps.seen[0]);
    work(2, arg != NULL ? wait_both : wait_in_vain, NULL);
    CHECK(end_of(pid) == 0);
    CHECK(numbers().running == 0);
}

static void test_a_retry_waits_for_the_scan_of_another_worker(void **state)
{
    host(wait_host, &steps); /* ends with a verdict */
    host(wait_host, NULL);
}

static co_fn void wait_for_the_dead(struct verdict *m, void *arg)
{
    pid_t *pid = arg;

    CHECK(start(m, 1) == VERDICT_RUNNING);
    kill(*pid, SIGKILL);
    end_of(*pid);
    CHECK(wait_for(m, 1, 50) == VERDICT_RUNNING);
    verdict_forget(1);
    CHECK(wait_for(m, 1, 30000) == VERDICT_FRESH);
    CHECK(verdict_is_empty(m));
}

static void killed_scanner(void *arg)
{
    pid_t pid;

    CHECK(pipe(steps.go) == 0 && pipe(steps.seen) == 0);
    verdict_prepare(conf);
    pid = spawn(scanner, arg);
    hear(steps.seen[0]);
    work(2, wait_for_the_dead, &pid);
}

static void test_the_scan_of_a_dead_worker_is_forgotten(void **state)
{
    host(killed_scanner, NULL);
}

static co_fn void leave_behind(struct verdict *m, void *arg)
{
    abandon(m, 1);
}

static co_fn void find_nothing(struct verdict *m, void *arg)
{
    CHECK(verdict_is_empty(m) && start(m, 1) == VERDICT_FRESH);
}

static void leaver(void *arg)
{
    work(3, leave_behind, NULL);
}

static void successor(void *arg)
{
    verdict_prepare(conf);
    CHECK(end_of(spawn(leaver, NULL)) == 0);
    CHECK(numbers().running == 1);
    work(3, find_nothing, NULL);
}

static void test_a_successor_begins_without_running_scans(void **state)
{
    host(successor, NULL);
}

/* ---- restarts, time, room ---- */

static co_fn void keep_two(struct verdict *m, void *arg)
{
    keep(m, 1);
    keep(m, 2);
}

static co_fn void recall_two(struct verdict *m, void *arg)
{
    CHECK(!verdict_is_empty(m) && may_know(m, 1));
    CHECK(start(m, 1) == VERDICT_REMEMBERED && start(m, 2) == VERDICT_REMEMBERED);
    CHECK(numbers().entries == 2 && numbers().kept == 0);
    heard(m, 1);
}

static co_fn void recall_second(struct verdict *m, void *arg)
{
    CHECK(start(m, 1) == VERDICT_FRESH && start(m, 2) == VERDICT_REMEMBERED);
}

static void keeper(void *arg)
{
    work(1, keep_two, NULL);
}

static void recaller(void *arg)
{
    work(1, recall_two, NULL);
}

static void second_recaller(void *arg)
{
    work(7, recall_second, NULL);
}

static void test_verdicts_outlive_the_server(void **state)
{
    host(keeper, NULL);
    host(recaller, NULL);
    host(second_recaller, NULL);
}

/* A worker of a master that was killed goes on while the next master's workers are there. */
static co_fn void keep_when_told(struct verdict *m, void *arg)
{
    hear(steps.go[0]);
    keep(m, 1);
    tell(steps.seen[1]);
}

static void old_worker(void *arg)
{
    work(1, keep_when_told, NULL);
}

static co_fn void hear_of_the_old(struct verdict *m, void *arg)
{
    CHECK(verdict_is_empty(m));
    tell(steps.go[1]);
    hear(steps.seen[0]);
    CHECK(!verdict_is_empty(m) && may_know(m, 1) && start(m, 1) == VERDICT_REMEMBERED);
    verdict_flush(m, clock_ms() + 30000);
    CHECK(may_know(m, 1) && numbers().entries == 1);
}

static void new_worker(void *arg)
{
    work(1, hear_of_the_old, NULL);
}

static void test_what_a_former_masters_worker_keeps_is_known(void **state)
{
    pid_t old;

    assert_int_equal(pipe(steps.go), 0);
    assert_int_equal(pipe(steps.seen), 0);
    old = spawn(old_worker, NULL);
    host(new_worker, NULL);
    assert_int_equal(end_of(old), 0);
}

static co_fn void grow_old(struct verdict *m, void *arg)
{
    const uint64_t day = 24 * 3600 * 1000;

    keep(m, 1);
    clock_skip_ms(3 * day);
    keep(m, 2);
    CHECK(start(m, 1) == VERDICT_REMEMBERED);
    clock_skip_ms(day);
    CHECK(start(m, 1) == VERDICT_FRESH && start(m, 2) == VERDICT_REMEMBERED);
    may_know(m, 1);
    verdict_flush(m, clock_ms() + 30000);
    CHECK(numbers().entries == 1 && numbers().expired == 1);
    clock_skip_ms(3 * day);
    may_know(m, 2);
    verdict_flush(m, clock_ms() + 30000);
    CHECK(verdict_is_empty(m) && start(m, 2) == VERDICT_FRESH && numbers().expired == 2);
}

static void aging(void *arg)
{
    work(1, grow_old, NULL);
}

static void test_verdicts_expire(void **state)
{
    host(aging, NULL);
}

static co_fn void overflow(struct verdict *m, void *arg)
{
    for (unsigned i = 1; i <= 5; i++)
        keep(m, i);
    for (unsigned i = 1; i <= 5; i++)
        CHECK(start(m, i) == (i <= 2 ? VERDICT_FRESH : VERDICT_REMEMBERED));
    CHECK(numbers().entries == 3 && numbers().evicted == 2);
}

static void overflowing(void *arg)
{
    conf_set(conf, "smtpd_proxy_verdict_memory_limit", "3", "test", 1);
    work(1, overflow, NULL);
}

static void test_the_oldest_go_first(void **state)
{
    host(overflowing, NULL);
}

static co_fn void abandon_many(struct verdict *m, void *arg)
{
    enum { MANY = 20000 };

    for (unsigned i = 0; i < MANY; i++)
        abandon(m, i);
    CHECK(numbers().running > 4000 && numbers().running < MANY);
    keep(m, MANY - 1); /* had no place, perhaps; is kept all the same */
    CHECK(start(m, MANY - 1) == VERDICT_REMEMBERED);
    clock_skip_ms(3600 * 1000);
    CHECK(start(m, 1) == VERDICT_FRESH); /* nobody ended it for an hour */
    verdict_forget(1);
    CHECK(numbers().running == 0);
}

static void abandoning(void *arg)
{
    work(1, abandon_many, NULL);
}

static void test_running_scans_are_bounded(void **state)
{
    host(abandoning, NULL);
}

/* ---- kill -9 at any instant ---- */

/* Tells, after the fact, each verdict that is on disk. */
static co_fn void keep_for_ever(struct verdict *m, void *arg)
{
    unsigned *n = arg;

    for (;; ++*n) {
        abandon(m, *n);
        keep(m, *n);
        CHECK(write(steps.seen[1], n, sizeof(*n)) == sizeof(*n));
        if (*n % 3 == 0) {
            heard(m, *n);
            co_yield ();
        }
    }
}

static void killed_keeper(void *arg)
{
    work(1, keep_for_ever, arg);
}

enum { TOLD = 4096 };
static bool told[TOLD]; /* on disk, and not heard */

static co_fn void recall_told(struct verdict *m, void *arg)
{
    for (unsigned i = 0; i < TOLD; i++)
        if (told[i])
            CHECK(may_know(m, i) && start(m, i) == VERDICT_REMEMBERED);
}

static void recalling(void *arg)
{
    work(2, recall_told, NULL);
}

static unsigned take_told(void)
{
    unsigned n, last = 0;

    while (read(steps.seen[0], &n, sizeof(n)) == sizeof(n) && n < TOLD) {
        told[n] = n % 3 != 0;
        last = n;
    }
    return last;
}

static void kill_host(void *arg)
{
    unsigned next = 1;

    CHECK(pipe(steps.seen) == 0);
    CHECK(fcntl(steps.seen[0], F_SETFL, O_NONBLOCK) == 0);
    verdict_prepare(conf);
    for (unsigned round = 0; round < 25; round++) {
        unsigned enough = next + round % 4, n;
        pid_t pid = spawn(killed_keeper, &next);

        while (take_told() < enough)
            usleep(100);
        usleep(round * 61 % 700);
        kill(pid, SIGKILL);
        end_of(pid);
        n = take_told();
        verdict_forget(1);
        CHECK(end_of(spawn(recalling, NULL)) == 0);
        next = (n > enough ? n : enough) + 100; /* the one after the last told may be on disk or not */
    }
    CHECK(numbers().running == 0);
}

static void test_a_kill_loses_nothing_that_was_kept(void **state)
{
    host(kill_host, NULL);
}

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
        host(keeper, NULL);
        spoil("data.mdb", cases[i].at, cases[i].cut);
        host(beginner, NULL);
        assert_true(exists("verdicts.bad/data.mdb"));
        host(keeper, NULL);
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
    host(keeper, NULL);
    flip_in_records();
    host(skipper, NULL);
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
    host(without_database, NULL);
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
    host(root_host, NULL);
    host(root_host, NULL);
    spoil("data.mdb", 0, 2 * 4096);
    host(root_host, damaged);
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
    host(troubled, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_retry_is_answered_until_heard, setup, teardown),
        cmocka_unit_test_setup_teardown(test_only_what_ends_a_message_is_kept, setup, teardown),
        cmocka_unit_test_setup_teardown(test_off_by_one_parameter, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_retry_waits_for_the_scan_of_another_worker, setup, teardown),
        cmocka_unit_test_setup_teardown(test_the_scan_of_a_dead_worker_is_forgotten, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_successor_begins_without_running_scans, setup, teardown),
        cmocka_unit_test_setup_teardown(test_verdicts_outlive_the_server, setup, teardown),
        cmocka_unit_test_setup_teardown(test_what_a_former_masters_worker_keeps_is_known, setup, teardown),
        cmocka_unit_test_setup_teardown(test_verdicts_expire, setup, teardown),
        cmocka_unit_test_setup_teardown(test_the_oldest_go_first, setup, teardown),
        cmocka_unit_test_setup_teardown(test_running_scans_are_bounded, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_kill_loses_nothing_that_was_kept, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_damaged_database_is_moved_aside, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_damaged_record_is_no_verdict, setup, teardown),
        cmocka_unit_test_setup_teardown(test_without_a_database_mail_flows, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_root_master_leaves_the_database_to_its_owner, setup, teardown),
        cmocka_unit_test_setup_teardown(test_trouble_of_the_disk_is_lived_through, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
