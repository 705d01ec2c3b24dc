/* DIR/admission: records over restarts, and nothing believed that is damaged or strange. */
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
#include <sys/mman.h>
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

static struct admission_shared *map(void)
{
    struct error *e = NULL;
    struct admission_shared *s;

    warnings = 0;
    log_capture(count_warning, NULL);
    s = admission_file_map(dir, &e);
    log_capture(NULL, NULL);
    assert_null(e);
    assert_non_null(s);
    return s;
}

static void unmap(struct admission_shared *s)
{
    munmap(s, sizeof(*s));
}

/* A file with records of n clients. */
static void leave_records(uint32_t n)
{
    static const struct admission_settings settings = {.half_life = 7 * 86400};
    struct admission_shared *s;

    unlink(path);
    s = map();
    for (uint32_t i = 0; i < n; i++) {
        struct admission_key k = key(i);
        uint32_t at = admission_record_need(s, &k, admission_now().real_s);

        admission_record_count(&s->records[at], &settings, ADMISSION_OK, admission_now().real_s);
    }
    unmap(s);
}

static uint32_t clients_after_restart(int expected_warnings)
{
    struct admission_shared *s = map();
    uint32_t n = s->clients;

    assert_int_equal(warnings, expected_warnings);
    assert_int_equal(s->untouched, 0);
    unmap(s);
    return n;
}

static void test_records_survive(void **state)
{
    struct admission_key k = key(77);
    struct admission_shared *s;
    struct stat st;

    leave_records(1000);
    assert_int_equal(clients_after_restart(0), 1000);
    s = map();
    assert_int_not_equal(admission_record_find(s, &k), ADMISSION_NOBODY);
    unmap(s);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0640);
    assert_int_equal(st.st_size, sizeof(struct admission_shared));
}

/* Workers of a master that was killed keep their memory: a new start does not change it under them. */
static void test_old_memory_is_left_alone(void **state)
{
    struct admission_shared *old, *fresh;
    struct admission_key k = key(5000);

    leave_records(10);
    old = map();
    fresh = map();
    admission_record_need(fresh, &k, 1);
    assert_int_equal(old->clients, 10);
    assert_int_equal(fresh->clients, 11);
    unmap(old);
    unmap(fresh);
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
        write_at((off_t)(offsetof(struct admission_shared, records) + at * sizeof(rubbish)), rubbish,
                 sizeof(rubbish));
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

    assert_null(admission_file_map("/nonexistent", &e));
    assert_non_null(e);
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
        cmocka_unit_test(test_records_survive),   cmocka_unit_test(test_old_memory_is_left_alone),
        cmocka_unit_test(test_strange_files),     cmocka_unit_test(test_rubbish_records),
        cmocka_unit_test(test_links_and_folders), cmocka_unit_test(test_no_file_to_be_had),
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
