/* What the tests of the journal share: a crash, and what is there after start-up. See
 * queue_journal_test_boot.h. */
#ifndef QUEUE_FILE_QUEUE_JOURNAL_TEST_CRASH_H
#define QUEUE_FILE_QUEUE_JOURNAL_TEST_CRASH_H

#include "queue_journal_test_boot.h"

#include <dirent.h>
#include <fcntl.h>

/* ---- a crash, and start-up ---- */

static inline void damage(const char *path, char how)
{
    static const char zeros[64 * 1024];
    struct stat st;
    int fd;

    if (how == 'r') {
        assert_int_equal(unlink(path), 0);
        return;
    }
    fd = open(path, O_RDWR);
    assert_true(fd >= 0 && fstat(fd, &st) == 0);
    if (how == 'e')
        assert_int_equal(ftruncate(fd, 0), 0);
    else if (how == 'c')
        assert_int_equal(ftruncate(fd, st.st_size / 2), 0);
    else if (how == 'z')
        assert_int_equal(pwrite(fd, zeros, (size_t)st.st_size, 0), st.st_size);
    else if (how == 'm')
        assert_int_equal(fchmod(fd, 0600), 0);
    else if (how == 'b')
        assert_int_equal(pwrite(fd, "#", 1, st.st_size - 10), 1);
    close(fd);
}

static inline void remove_all(int n)
{
    for (int i = 0; i < n; i++) {
        char below[64];

        snprintf(below, sizeof(below), "incoming/%s", id_of(i));
        damage(path_of(below), 'r');
    }
}

static inline void recover(const char *boot)
{
    struct queue *other = queue_of(boot, 0);

    last_line[0] = '\0';
    assert_null(queue_recover(other));
    talloc_free(other);
}

static inline bool is_there(enum queue_place place, const char *id)
{
    struct queue *other = queue_of("x", 0);
    int fd = -1;
    struct error *e = queue_message_open(other, place, id, false, &fd);
    bool is_it = e == NULL;

    if (is_it)
        close(fd);
    error_free(&e);
    talloc_free(other);
    return is_it;
}

static inline void assert_whole(enum queue_place place, const char *id, size_t size)
{
    char *want = mem_malloc(size + 1), *have = mem_malloc(size + 1);
    struct queue *other = queue_of("x", 0);
    struct queue_envelope *env = NULL;
    int fd = -1;
    struct error *e = queue_message_open(other, place, id, true, &fd);

    if (e == NULL)
        e = queue_message_read(NULL, fd, &env);
    if (e != NULL)
        fail_msg("%s: %s", id, e->text);
    assert_string_equal(env->id, id);
    assert_int_equal(env->rcpt_count, 2);
    assert_int_equal(env->content_size, content_of(id, size, want));
    assert_int_equal(pread(fd, have, size, (off_t)env->content_offset), size);
    assert_memory_equal(want, have, size);
    close(fd);
    talloc_free(env);
    talloc_free(other);
    free(want);
    free(have);
}

static inline void assert_last_line(const char *want)
{
    if (strstr(last_line, want) == NULL)
        fail_msg("no \"%s\" in \"%s\"", want, last_line);
}

static inline int count_files(const char *sub)
{
    DIR *d = opendir(path_of(sub));
    struct dirent *at;
    int n = 0;

    assert_non_null(d);
    while ((at = readdir(d)) != NULL)
        n += at->d_name[0] != '.';
    closedir(d);
    return n;
}

/* ---- looking into a journal ---- */

struct held {
    int n;
    char ids[200][MAIL_ID_SIZE];
    enum queue_journal_state state[2];
    uint64_t generation[2];
};

/* The messages of journal/NAME, as `boot` sees them. */
static inline void look_into(const char *name, const char *boot, struct held *held)
{
    static char half[HALF];
    struct queue_journal_header header[2];
    struct queue_journal_record record;
    struct bytes image;
    const char *why;
    uint64_t size;
    char below[32];
    int fd;

    snprintf(below, sizeof(below), "journal/%s", name);
    fd = open(path_of(below), O_RDONLY);
    held->n = 0;
    queue_journal_look(fd, boot, header, held->state, &size, &why);
    for (unsigned i = 0; i < 2; i++) {
        ssize_t n = pread(fd, half, sizeof(half), (off_t)(i * size));
        size_t at = QUEUE_JOURNAL_BLOCK;

        held->generation[i] = header[i].generation;
        while (n > 0 && queue_journal_next(bytes(half, (size_t)n), &header[i], &at, &record, &image))
            snprintf(held->ids[held->n++], MAIL_ID_SIZE, "%s", record.id);
    }
    close(fd);
}

static inline co_fn void wait_until_empty(void)
{
    uint64_t end = clock_ms() + WAIT_MS;
    struct held held;

    do {
        MUST(clock_ms() < end);
        co_sleep(clock_ms() + 1, "the checkpoint");
        look_into("0", "boot-1", &held);
    } while (held.state[0] != QUEUE_JOURNAL_EMPTY || held.state[1] != QUEUE_JOURNAL_EMPTY);
}

static inline void commit_and_checkpoint(void *arg)
{
    wait_until_ready();
    must_commit(id_of(0), 5000, QUEUE_INCOMING);
    wait_until_empty();
    syncfs_waits = true;                         /* however slow the disk is, no checkpoint comes after */
    must_commit(id_of(1), 5000, QUEUE_INCOMING); /* the other half */
    _exit(0);
}

#endif
