/* DIR/admission: records over restarts, and nothing believed that is damaged or strange. */
#include "admission_core.h"
#include "admission_record.h"
#include "admission_shared.h"

#include "log.h"
#include "mem.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char dir[] = "/tmp/admission-file-XXXXXX";
static char *path;
static int warnings;

static void count_warning(const char *line, void *arg)
{
    warnings++;
}

static struct admission_key key(uint32_t n)
{
    struct admission_key k = {.pool = 1};

    memcpy(k.addr, &n, sizeof(n));
    return k;
}

/* A start. */
struct running {
    struct admission_shared *s;
    int file;
};

static struct running start(void)
{
    struct running r = {.s = mem_new(NULL, struct admission_shared)};

    warnings = 0;
    admission_core_init(r.s, 1);
    log_capture(count_warning, NULL);
    assert_null(admission_file_make(r.s, dir, &r.file));
    log_capture(NULL, NULL);
    assert_true(r.file >= 0);
    return r;
}

static void stop(struct running *r)
{
    assert_int_equal(admission_file_write(r->s, r->file, true), 0);
    close(r->file);
    talloc_free(r->s);
}

/* A file with records of n clients. */
static void leave_records(uint32_t n)
{
    static const struct admission_settings settings = {.half_life = 7 * 86400};
    struct running r;

    unlink(path);
    r = start();
    for (uint32_t i = 0; i < n; i++) {
        struct admission_key k = key(i);
        uint32_t at = admission_record_need(r.s, &k, admission_now().real_s);

        admission_record_count(&r.s->records[at], &settings, ADMISSION_OK, admission_now().real_s);
    }
    stop(&r);
}

static uint32_t clients_after_restart(int expected_warnings)
{
    struct running r = start();
    uint32_t n = r.s->clients;

    assert_int_equal(warnings, expected_warnings);
    stop(&r);
    return n;
}

static void test_records_survive(void **state)
{
    struct admission_key k = key(77);
    struct running r;
    struct stat st;

    leave_records(1000);
    assert_int_equal(clients_after_restart(0), 1000);
    r = start();
    assert_int_not_equal(admission_record_find(r.s, &k), ADMISSION_NOBODY);
    stop(&r);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0640);
}

/* The machine stops before anything was written: the new file had the old one's records from the first. */
static void test_records_are_there_from_the_first(void **state)
{
    struct running r;

    leave_records(1000);
    r = start();
    memset(r.s->records, 0, sizeof(r.s->records));
    close(r.file);
    talloc_free(r.s);
    assert_int_equal(clients_after_restart(0), 1000);
}

/* Workers of a master that was killed go on, and do not write to the file of the next. */
static void test_old_workers_write_their_own_file(void **state)
{
    struct admission_snapshot seen;
    struct running old, fresh;

    leave_records(10);
    old = start();
    fresh = start();
    old.s->repairs = 7;
    stop(&old);
    assert_null(admission_snapshot(dir, &seen));
    assert_int_equal(seen.repairs, 0);
    assert_int_equal(seen.clients, 10);
    stop(&fresh);
}

static void test_numbers_are_shown(void **state)
{
    struct admission_snapshot seen;
    struct running r = start();

    for (int i = 0; i < ADMISSION_POOLS; i++) {
        snprintf(r.s->pools[i].n.name, sizeof(r.s->pools[i].n.name), "filter %d", i);
        r.s->pools[i].n.classes[ADMISSION_STRANGER].waits_ms = 1000 + (unsigned)i;
    }
    r.s->repairs = 3;
    assert_int_equal(admission_file_write(r.s, r.file, false), 0);
    assert_null(admission_snapshot(dir, &seen));
    assert_int_equal(seen.since_us, 1);
    assert_int_equal(seen.repairs, 3);
    for (int i = 0; i < ADMISSION_POOLS; i++)
        assert_memory_equal(&seen.pools[i], &r.s->pools[i].n, sizeof(seen.pools[i]));
    stop(&r);
}

static void write_at(off_t at, const void *from, size_t n)
{
    int fd = open(path, O_WRONLY);

    assert_int_equal(pwrite(fd, from, n, at), n);
    close(fd);
}

static void test_strange_files(void **state)
{
    static const uint32_t wrong = 99;
    uint64_t size = 5;

    leave_records(10);
    write_at(0, &wrong, sizeof(wrong));
    assert_int_equal(clients_after_restart(1), 0);
    leave_records(10);
    write_at(4, &wrong, sizeof(wrong));
    assert_int_equal(clients_after_restart(1), 0);
    leave_records(10);
    write_at(8, &size, sizeof(size));
    assert_int_equal(clients_after_restart(1), 0);
    leave_records(10);
    assert_int_equal(truncate(path, 1000), 0);
    assert_int_equal(clients_after_restart(1), 0);
    assert_int_equal(truncate(path, 0), 0);
    assert_int_equal(clients_after_restart(1), 0);
    unlink(path);
    assert_int_equal(clients_after_restart(0), 0);
}

static void test_rubbish_records(void **state)
{
    unsigned char rubbish[4096];

    srand(3);
    leave_records(100);
    for (uint32_t at = 0; at < 50; at++) {
        for (size_t i = 0; i < sizeof(rubbish); i++)
            rubbish[i] = (unsigned char)rand();
        write_at(
            (off_t)(sizeof(struct shared_head) + sizeof(struct admission_snapshot) + at * sizeof(rubbish)),
            rubbish, sizeof(rubbish));
    }
    assert_in_range(clients_after_restart(0), 0, 100);
}

static void test_links_and_folders(void **state)
{
    char *elsewhere = mem_printf(NULL, "%s/elsewhere", dir);
    struct stat st;
    int fd;

    unlink(path);
    fd = open(elsewhere, O_WRONLY | O_CREAT, 0600);
    assert_int_equal(write(fd, "precious", 8), 8);
    close(fd);
    assert_int_equal(symlink("elsewhere", path), 0);
    assert_int_equal(clients_after_restart(1), 0); /* not followed; replaced */
    assert_int_equal(lstat(path, &st), 0);
    assert_true(S_ISREG(st.st_mode));
    assert_int_equal(stat(elsewhere, &st), 0);
    assert_int_equal(st.st_size, 8);
    unlink(elsewhere);
    unlink(path);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_int_equal(clients_after_restart(1), 0); /* does not wait for a writer */
    talloc_free(elsewhere);
}

static void test_no_file_to_be_had(void **state)
{
    struct admission_snapshot all;
    struct error *e = NULL;
    struct admission_shared *s = mem_new(NULL, struct admission_shared);
    int file;

    e = admission_file_make(s, "/nonexistent", &file);
    assert_non_null(e);
    assert_int_equal(file, -1);
    talloc_free(s);
    assert_non_null(strstr(e->text, "/nonexistent/admission: without records"));
    error_free(&e);
    e = admission_snapshot("/nonexistent", &all);
    assert_int_equal(e->code, ENOENT);
    error_free(&e);
    assert_int_equal(truncate(path, 100), 0);
    e = admission_snapshot(dir, &all);
    assert_non_null(strstr(e->text, "damaged"));
    error_free(&e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_records_survive),
        cmocka_unit_test(test_records_are_there_from_the_first),
        cmocka_unit_test(test_old_workers_write_their_own_file),
        cmocka_unit_test(test_numbers_are_shown),
        cmocka_unit_test(test_strange_files),
        cmocka_unit_test(test_rubbish_records),
        cmocka_unit_test(test_links_and_folders),
        cmocka_unit_test(test_no_file_to_be_had),
    };
    int failed;

    if (mkdtemp(dir) == NULL)
        return 1;
    path = admission_file_name(NULL, dir);
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(path);
    rmdir(dir);
    talloc_free(path);
    return failed;
}
