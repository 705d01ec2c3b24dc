/*
 * Logical lines of main.cf and master.cf.
 *
 * A line that begins with a blank goes on with the one before. Lines that are blank, or whose first character
 * after blanks is '#', are no lines at all, not even between a line and its continuation. Nothing is quoted.
 */
#include "conf_own.h"
#include "mem.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

void conf_lines_init(struct conf_lines *l, struct bytes text, const char *file, struct conf_faults *faults)
{
    *l = (struct conf_lines){.rest = text, .line = 1, .file = file, .faults = faults};
}

static bool is_blank(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static struct bytes trim_left(struct bytes b)
{
    size_t i = 0;

    while (i < b.n && is_blank(b.p[i]))
        i++;
    return bytes_skip(b, i);
}

/* The next physical line that is neither blank nor a comment, left in place; false at the end. */
static bool skip_to_text(struct conf_lines *l)
{
    while (l->rest.n > 0) {
        struct bytes after = l->rest;
        struct bytes text = trim_left(bytes_cut(&after, '\n'));

        if (text.n > 0 && text.p[0] != '#')
            return true;
        l->rest = after;
        l->line++;
    }
    return false;
}

/* Adds one physical line to the logical one; what follows a NUL byte is not text. */
static void take(struct conf_lines *l, struct buf *out, bool *has_nul)
{
    struct bytes line = bytes_cut(&l->rest, '\n');
    size_t nul = bytes_chr(line, '\0');

    if (nul != SIZE_MAX && !*has_nul) {
        conf_fault_add(l->faults, CONF_WARNING, l->file, l->line, "text after null byte may be ignored");
        buf_add(out, bytes(line.p, nul));
        *has_nul = true;
    } else if (!*has_nul) {
        buf_add(out, line);
    }
    l->line++;
}

/* One logical line, whatever it begins with. */
static bool gather(struct conf_lines *l, struct buf *out, unsigned *line_r)
{
    bool has_nul = false;

    buf_cut(out, 0);
    if (!skip_to_text(l))
        return false;
    *line_r = l->line;
    do {
        take(l, out, &has_nul);
    } while (skip_to_text(l) && is_blank(l->rest.p[0]));
    return true;
}

bool conf_lines_next(struct conf_lines *l, struct buf *out, unsigned *line_r)
{
    while (gather(l, out, line_r)) {
        struct bytes text = bytes_trim(buf_bytes(out));

        if (text.n == 0)
            continue;
        if (!is_blank(out->p[0]))
            return true;
        conf_fault_add(l->faults, CONF_WARNING, l->file, *line_r,
                       "logical line must not start with whitespace: \"%.*s%s\"",
                       text.n > 30 ? 30 : (int)text.n, text.p, text.n > 30 ? "..." : "");
    }
    return false;
}

static struct error *read_all(int fd, char *out, size_t size)
{
    size_t have = 0;

    while (have < size) {
        ssize_t n = read(fd, out + have, size - have);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return error_errno(errno, "read");
        if (n == 0)
            return error_new(ERROR_TEMP, "the file became shorter while it was read");
        have += (size_t)n;
    }
    return NULL;
}

static struct error *open_and_read(const void *ctx, const char *file, char **text_r, size_t *n_r)
{
    struct error *e = NULL;
    struct stat st;
    int fd = open(file, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

    if (fd < 0)
        return error_errno(errno, "open");
    if (fstat(fd, &st) != 0)
        e = error_errno(errno, "fstat");
    else if (!S_ISREG(st.st_mode))
        e = error_new(ERROR_CONF, "not a regular file");
    else if (st.st_size > (off_t)CONF_FILE_LIMIT)
        e = error_new(ERROR_CONF, "larger than %u bytes", CONF_FILE_LIMIT);
    if (e == NULL) {
        *n_r = (size_t)st.st_size;
        *text_r = mem_bytes(ctx, *n_r + 1);
        (*text_r)[*n_r] = '\0';
        e = read_all(fd, *text_r, *n_r);
    }
    close(fd);
    return e;
}

char *conf_file_read(const void *ctx, const char *file, struct conf_faults *faults, size_t *n_r)
{
    char *text = NULL;
    struct error *e = open_and_read(ctx, file, &text, n_r);

    if (e == NULL)
        return text;
    conf_fault_add(faults, CONF_ERROR, file, 0, "%s", e->text);
    error_free(&e);
    talloc_free(text);
    return NULL;
}
