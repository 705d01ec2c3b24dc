/* base/shared: memory and files that processes share, and a lock whose owner dies. */
#include "shared.h"

#include "bytes.h"
#include "log.h"
#include "mem.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

struct common {
    struct shared_head head;
    struct shared_lock lock;
    int value;
};
static const struct shared_head head = {0x54534554, 1, sizeof(struct common)};

static char dir[] = "/tmp/shared-test-XXXXXX";
static char *path, *fresh;
static char said[256];

static void take_line(const char *line, void *arg)
{
    strncpy(said, line, sizeof(said) - 1);
}

/* fn in a child, which ends by itself or by SIGKILL from its own hand. */
static void in_child(void (*fn)(struct common *c), struct common *c, bool is_killed)
{
    pid_t pid = fork();
    int status;

    assert_true(pid >= 0);
    if (pid == 0) {
        fn(c);
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(is_killed, WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

/* ---- memory ---- */

static void set_value(struct common *c)
{
    c->value = 42;
}

static void test_children_see_the_same(void **state)
{
    struct common *c = shared_map(sizeof(*c), "a test");

    assert_int_equal(c->value, 0);
    in_child(set_value, c, false);
    assert_int_equal(c->value, 42);
    munmap(c, sizeof(*c));
}

/* ---- the lock ---- */

static void die_inside(struct common *c)
{
    shared_lock(&c->lock);
    c->value = 1;
    raise(SIGKILL);
}

static void die_while_mending(struct common *c)
{
    if (shared_lock(&c->lock))
        c->value = 2;
    raise(SIGKILL);
}

static void lock_and_count(struct common *c)
{
    for (int i = 0; i < 100000; i++) {
        if (shared_lock(&c->lock))
            abort();
        c->value++;
        shared_unlock(&c->lock);
    }
}

static struct common *new_common(void)
{
    struct common *c = shared_map(sizeof(*c), "a test");

    shared_lock_init(&c->lock);
    return c;
}

static void test_next_owner_is_told_of_a_death(void **state)
{
    struct common *c = new_common();

    assert_false(shared_lock(&c->lock));
    shared_unlock(&c->lock);
    in_child(die_inside, c, true);
    assert_int_equal(c->value, 1);
    assert_true(shared_lock(&c->lock));
    shared_unlock(&c->lock);
    assert_false(shared_lock(&c->lock)); /* told once */
    shared_unlock(&c->lock);
    munmap(c, sizeof(*c));
}

static void test_death_while_mending(void **state)
{
    struct common *c = new_common();

    in_child(die_inside, c, true);
    in_child(die_while_mending, c, true);
    assert_int_equal(c->value, 2);
    assert_true(shared_lock(&c->lock));
    shared_unlock(&c->lock);
    in_child(lock_and_count, c, false);
    assert_int_equal(c->value, 100002);
    munmap(c, sizeof(*c));
}

static void test_one_owner_at_a_time(void **state)
{
    struct common *c = new_common();
    pid_t pid = fork();
    int status;

    assert_true(pid >= 0);
    lock_and_count(c);
    if (pid == 0)
        _exit(0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_int_equal(c->value, 200000);
    munmap(c, sizeof(*c));
}

/* ---- its file ---- */

static bool exists(const char *name)
{
    struct stat st;

    return lstat(name, &st) == 0;
}

static void wants_error(struct error *e, int code, const char *part)
{
    assert_non_null(e);
    assert_int_equal(e->code, code);
    assert_non_null(strstr(e->text, part));
    error_free(&e);
}

static void test_others_read_the_file(void **state)
{
    struct common *c = shared_map_file(path, &head, "a test"), seen;
    struct stat st, folder;

    in_child(set_value, c, false);
    assert_null(shared_file_read(path, &head, &seen, sizeof(seen)));
    assert_int_equal(seen.value, 42);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0640);
    assert_int_equal(stat(dir, &folder), 0);
    assert_int_equal(st.st_gid, folder.st_gid);
    assert_true(st.st_blocks * 512 >= st.st_size);
    assert_false(exists(fresh));
    munmap(c, sizeof(*c));
}

/* Workers of a master that was killed keep theirs. */
static void test_a_new_one_does_not_change_the_old(void **state)
{
    struct common *old = shared_map_file(path, &head, "a test"), *c, seen;

    old->value = 1;
    c = shared_map_file(path, &head, "a test");
    assert_int_equal(c->value, 0);
    c->value = 2;
    assert_int_equal(old->value, 1);
    assert_null(shared_file_read(path, &head, &seen, sizeof(seen)));
    assert_int_equal(seen.value, 2);
    munmap(old, sizeof(*old));
    munmap(c, sizeof(*c));
}

static void test_nobody_sees_a_file_before_it_is_shown(void **state)
{
    struct common c = {.head = head, .value = 7}, seen;
    int fd;

    unlink(path);
    assert_null(shared_file_make(path, sizeof(c), &fd));
    assert_int_equal(pwrite(fd, &c, sizeof(c), 0), sizeof(c));
    wants_error(shared_file_read(path, &head, &seen, sizeof(seen)), ENOENT, path);
    assert_null(shared_file_show(path));
    assert_null(shared_file_read(path, &head, &seen, sizeof(seen)));
    assert_int_equal(seen.value, 7);
    close(fd);
}

static void test_strange_files_are_not_read(void **state)
{
    static const struct shared_head others[] = {
        {0x54534555, 1, sizeof(struct common)},
        {0x54534554, 2, sizeof(struct common)},
        {0x54534554, 1, sizeof(struct common) - 1},
    };
    struct common *c = shared_map_file(path, &head, "a test"), seen;

    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
        wants_error(shared_file_read(path, &others[i], &seen, sizeof(seen)), 0, "another version");
    munmap(c, sizeof(*c));
    assert_int_equal(truncate(path, sizeof(head)), 0);
    wants_error(shared_file_read(path, &head, &seen, sizeof(seen)), 0, "damaged");
    unlink(path);
    assert_int_equal(mkfifo(path, 0600), 0); /* does not wait for a writer */
    wants_error(shared_file_read(path, &head, &seen, sizeof(seen)), 0, "damaged");
    unlink(path);
    assert_int_equal(symlink("/etc/passwd", path), 0);
    wants_error(shared_file_read(path, &head, &seen, sizeof(seen)), ELOOP, path);
}

/* What stands under either name is replaced, and not followed. */
static void test_links_are_not_followed(void **state)
{
    char *elsewhere = mem_printf(NULL, "%s/elsewhere", dir);
    struct common *c;
    struct stat st;

    close(open(elsewhere, O_WRONLY | O_CREAT, 0600));
    unlink(path);
    assert_int_equal(symlink("elsewhere", path), 0);
    assert_int_equal(symlink("elsewhere", fresh), 0);
    c = shared_map_file(path, &head, "a test");
    c->value = 1;
    assert_int_equal(stat(elsewhere, &st), 0);
    assert_int_equal(st.st_size, 0);
    assert_int_equal(lstat(path, &st), 0);
    assert_true(S_ISREG(st.st_mode));
    munmap(c, sizeof(*c));
    unlink(elsewhere);
    talloc_free(elsewhere);
}

/* The folder cannot be written, the disk is full, the name is taken by a folder: the memory is nameless. */
static void test_without_a_file(void **state)
{
    struct rlimit before, small;
    struct common *c;
    int fd;

    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    small = (struct rlimit){.rlim_cur = 4096, .rlim_max = before.rlim_max}; /* stands for a full disk */
    log_capture(take_line, NULL);
    c = shared_map_file("/nonexistent/x", &head, "the number");
    in_child(set_value, c, false);
    assert_int_equal(c->value, 42);
    assert_non_null(
        strstr(said, "/nonexistent/x.new: No such file or directory: the number cannot be shown"));
    munmap(c, sizeof(*c));
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    wants_error(shared_file_make(path, 1 << 20, &fd), EFBIG, "room");
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_int_equal(fd, -1);
    assert_false(exists(fresh));
    unlink(path);
    assert_int_equal(mkdir(path, 0700), 0);
    c = shared_map_file(path, &head, "the number");
    assert_non_null(strstr(said, "Is a directory: the number cannot be shown"));
    in_child(set_value, c, false);
    assert_int_equal(c->value, 42);
    munmap(c, sizeof(*c));
    assert_false(exists(fresh));
    rmdir(path);
    log_capture(NULL, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_children_see_the_same),
        cmocka_unit_test(test_next_owner_is_told_of_a_death),
        cmocka_unit_test(test_death_while_mending),
        cmocka_unit_test(test_one_owner_at_a_time),
        cmocka_unit_test(test_others_read_the_file),
        cmocka_unit_test(test_a_new_one_does_not_change_the_old),
        cmocka_unit_test(test_nobody_sees_a_file_before_it_is_shown),
        cmocka_unit_test(test_strange_files_are_not_read),
        cmocka_unit_test(test_links_are_not_followed),
        cmocka_unit_test(test_without_a_file),
    };
    int failed;

    if (mkdtemp(dir) == NULL)
        return 1;
    path = mem_printf(NULL, "%s/common", dir);
    fresh = mem_printf(path, "%s.new", path);
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(path);
    rmdir(dir);
    talloc_free(path);
    return failed;
}
