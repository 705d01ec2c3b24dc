/*
 * Why recipients are deferred: a small file a message, for `queue list` and for the bounce at the end.
 * Rewritten as a whole at each attempt and put in place by rename, so that a reader sees the old or the new
 * one. A line a recipient: address, status code and text, separated by TAB, escaped as in queue files.
 */
#include "queue_private.h"

#include "mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

enum { REASONS_LIMIT = 64 * 1024 * 1024 };

static int write_whole(int fd, struct bytes text)
{
    while (text.n > 0) {
        ssize_t n = write(fd, text.p, text.n);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno;
        text = bytes_skip(text, (size_t)n);
    }
    return 0;
}

/* Writes tmp.ID and renames it over the old file. 0 or errno. */
static int replace(struct queue *q, const char *id, const char *path, struct bytes text)
{
    char tmp[QUEUE_TMP_SIZE];
    int fd, code;

    snprintf(tmp, sizeof(tmp), QUEUE_TMP_PREFIX "%s", id);
    unlinkat(q->defer, tmp, 0); /* left by a crash: only one process writes these */
    fd = openat(q->defer, tmp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return errno;
    code = write_whole(fd, text);
    close(fd);
    if (code == 0 && renameat(q->defer, tmp, q->defer, path) != 0)
        code = errno;
    if (code == ENOENT && (code = queue_make_parents(q->defer, path)) == 0 &&
        renameat(q->defer, tmp, q->defer, path) != 0)
        code = errno;
    if (code != 0)
        unlinkat(q->defer, tmp, 0);
    return code;
}

struct error *queue_reasons_write(struct queue *q, const char *id, const struct queue_reason *at, size_t n)
{
    char path[QUEUE_PATH_SIZE];
    struct buf text = {0};
    int code;

    if (!queue_reason_path(q, id, path))
        return error_new(ERROR_PERM, "not a queue id");
    for (size_t i = 0; i < n && text.n < REASONS_LIMIT / 2; i++) {
        queue_escape(&text, at[i].rcpt);
        buf_addc(&text, '\t');
        queue_escape(&text, at[i].dsn);
        buf_addc(&text, '\t');
        queue_escape(&text, at[i].text);
        buf_addc(&text, '\n');
    }
    code = replace(q, id, path, buf_bytes(&text));
    buf_deinit(&text);
    return code == 0 ? NULL : error_errno(code, "write reasons of %s", id);
}

/* One line in place; false for what we did not write. */
static bool parse_line(char *line, struct queue_reason *reason)
{
    char *dsn = strchr(line, '\t'), *text = dsn ? strchr(dsn + 1, '\t') : NULL;

    if (text == NULL)
        return false;
    *dsn++ = '\0';
    *text++ = '\0';
    *reason = (struct queue_reason){.rcpt = line, .dsn = dsn, .text = text};
    return queue_unescape(line) && queue_unescape(dsn) && queue_unescape(text);
}

/* Damaged lines are passed over: the mail matters, not this. */
static void parse(char *text, size_t size, struct queue_reason **at_r, size_t *n_r)
{
    size_t room = 1;
    char *end = text + size;

    for (char *newline; text < end && (newline = memchr(text, '\n', (size_t)(end - text))) != NULL;
         text = newline + 1) {
        *newline = '\0';
        if (*n_r == room) {
            room *= 2;
            *at_r = mem_grow(talloc_parent(*at_r), *at_r, room);
        }
        if (parse_line(text, &(*at_r)[*n_r]))
            ++*n_r;
    }
}

static struct error *read_whole(int fd, const void *ctx, char **text_r, size_t *n_r)
{
    struct stat st;
    ssize_t n;

    if (fstat(fd, &st) != 0)
        return error_errno(errno, "stat");
    if (!S_ISREG(st.st_mode) || st.st_size > REASONS_LIMIT)
        return error_new(ERROR_PERM, "not a file of ours");
    *text_r = mem_bytes(ctx, (size_t)st.st_size + 1);
    n = read(fd, *text_r, (size_t)st.st_size);
    if (n < 0)
        return error_errno(errno, "read");
    *n_r = (size_t)n;
    return NULL;
}

struct error *queue_reasons_read(const void *ctx, struct queue *q, const char *id, struct queue_reason **at_r,
                                 size_t *n_r)
{
    char path[QUEUE_PATH_SIZE], *text = NULL;
    struct error *e;
    size_t size = 0;
    int fd;

    *n_r = 0;
    *at_r = NULL;
    if (!queue_reason_path(q, id, path))
        return error_new(ERROR_PERM, "not a queue id");
    fd = openat(q->defer, path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? NULL : error_errno(errno, "read reasons of %s", id);
    *at_r = mem_array(ctx, struct queue_reason, 1);
    e = read_whole(fd, *at_r, &text, &size);
    close(fd);
    if (e == NULL)
        parse(text, size, at_r, n_r);
    else
        TALLOC_FREE(*at_r);
    return error_prepend(e, "reasons of %s", id);
}
