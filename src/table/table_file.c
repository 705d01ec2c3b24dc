/*
 * Files behind tables: has it changed, the lock that postmap takes, and text files as logical lines.
 *
 * A logical line is a line with those after it that begin with a blank; comments and blank lines are dropped,
 * even between the parts of a logical line, as everywhere in Postfix's text files.
 */
#include "clock.h"
#include "log.h"
#include "mem.h"
#include "table_type.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/file.h>
#include <unistd.h>

enum { LOCK_WAIT_MS = 5000, LOCK_STEP_MS = 20 };

void table_file_note(struct table_file *f, const void *ctx, const char *path, const struct stat *st)
{
    f->path = mem_strdup(ctx, path);
    f->dev = st->st_dev;
    f->ino = st->st_ino;
    f->size = st->st_size;
    f->mtime = st->st_mtim;
}

bool table_file_differs(const struct table_file *f, const struct stat *st)
{
    return st->st_dev != f->dev || st->st_ino != f->ino || st->st_size != f->size ||
           st->st_mtim.tv_sec != f->mtime.tv_sec || st->st_mtim.tv_nsec != f->mtime.tv_nsec;
}

co_fn static bool wait_a_little(void)
{
    if (co_self() == NULL)
        return usleep(LOCK_STEP_MS * 1000) == 0;
    return co_sleep(clock_ms() + LOCK_STEP_MS, "table lock") == CO_OK;
}

/* The descriptor is asked for anew after each wait: a refresh by another coroutine may have closed it. */
co_fn static bool lock_shared(struct table *t)
{
    uint64_t deadline = clock_ms() + LOCK_WAIT_MS;

    while (flock(t->type->fd(t->state), LOCK_SH | LOCK_NB) != 0) {
        if (errno != EWOULDBLOCK && errno != EINTR) {
            log_warn("lock %s: %s", t->file.path, strerror(errno));
            return false;
        }
        if (clock_ms() >= deadline) {
            log_warn("lock %s: somebody has been writing it for %d seconds", t->file.path,
                     LOCK_WAIT_MS / 1000);
            return false;
        }
        if (!wait_a_little())
            return false;
    }
    return true;
}

void table_unlock(struct table *t)
{
    flock(t->type->fd(t->state), LOCK_UN);
}

co_fn bool table_lock_current(struct table *t)
{
    struct stat st;

    for (int tries = 0; tries < 3; tries++) {
        if (!lock_shared(t))
            return false;
        if (fstat(t->type->fd(t->state), &st) == 0 && !table_file_differs(&t->file, &st))
            return true;
        table_unlock(t);
        table_refresh(t);
    }
    log_warn("table %s: the file changes all the time", t->spec);
    return false;
}

/* ---- logical lines ---- */

static int lines_destroy(struct table_lines *l)
{
    if (l->file != NULL)
        fclose(l->file);
    free(l->line);
    free(l->ahead);
    return 0;
}

static struct table_lines *lines_new(const void *ctx, const char *name)
{
    struct table_lines *l = mem_new(ctx, struct table_lines);

    talloc_set_destructor(l, lines_destroy);
    l->name = mem_strdup(l, name);
    return l;
}

struct error *table_lines_open(const void *ctx, const char *path, struct table_lines **lines_r)
{
    struct table_lines *l = lines_new(ctx, path);
    struct error *e;

    l->file = fopen(path, "re");
    if (l->file == NULL || fstat(fileno(l->file), &l->st) != 0) {
        e = error_errno(errno, "open %s", path);
        talloc_free(l);
        return e;
    }
    if (!S_ISREG(l->st.st_mode) && !S_ISFIFO(l->st.st_mode) && !S_ISCHR(l->st.st_mode)) {
        talloc_free(l);
        return error_new(ERROR_CONF, "open %s: not a file", path);
    }
    *lines_r = l;
    return NULL;
}

struct table_lines *table_lines_of(const void *ctx, const char *name, struct bytes text)
{
    struct table_lines *l = lines_new(ctx, name);

    if (text.n > 0) {
        l->file = fmemopen((void *)(uintptr_t)text.p, text.n, "r");
        if (l->file == NULL)
            log_fatal("out of memory");
    }
    return l;
}

static bool is_comment(const char *line)
{
    line += strspn(line, " \t\r\n\f\v");
    return *line == '#' || *line == '\0';
}

static struct error *check_physical(const struct table_lines *l)
{
    if (memchr(l->ahead, '\0', (size_t)l->ahead_n) != NULL)
        return error_new(ERROR_CONF, "%s:%u: NUL byte in text", l->name, l->ahead_number);
    if (l->line_n + (size_t)l->ahead_n > TABLE_LINE_LIMIT)
        return error_new(ERROR_CONF, "%s:%u: line is longer than %d bytes", l->name, l->ahead_number,
                         TABLE_LINE_LIMIT);
    return NULL;
}

/* The next physical line that is text goes to l->ahead; ahead_n is -1 at the end. */
static struct error *read_ahead(struct table_lines *l)
{
    struct error *e;

    do {
        l->ahead_n = l->file == NULL ? -1 : getline(&l->ahead, &l->ahead_room, l->file);
        if (l->ahead_n < 0) {
            if (l->file != NULL && ferror(l->file))
                return error_errno(errno, "read %s", l->name);
            return NULL;
        }
        l->ahead_number++;
        if ((e = check_physical(l)) != NULL)
            return e;
    } while (is_comment(l->ahead));
    while (l->ahead_n > 0 && strchr("\r\n", l->ahead[l->ahead_n - 1]) != NULL)
        l->ahead[--l->ahead_n] = '\0';
    return NULL;
}

static void take_ahead(struct table_lines *l)
{
    size_t need = l->line_n + (size_t)l->ahead_n + 1;

    if (need > l->line_room) {
        l->line = mem_realloc(l->line, need * 2);
        l->line_room = need * 2;
    }
    memcpy(l->line + l->line_n, l->ahead, (size_t)l->ahead_n + 1);
    l->line_n += (size_t)l->ahead_n;
}

struct error *table_lines_next(struct table_lines *l, char **line_r)
{
    struct error *e;

    *line_r = NULL;
    l->line_n = 0;
    if (l->ahead_number == 0 && (e = read_ahead(l)) != NULL)
        return e;
    if (l->ahead_n < 0)
        return NULL;
    l->number = l->ahead_number;
    if (ascii_is_blank(l->ahead[0]))
        return error_new(ERROR_CONF, "%s:%u: logical line must not start with whitespace", l->name,
                         l->number);
    do {
        take_ahead(l);
        if ((e = read_ahead(l)) != NULL)
            return e;
    } while (l->ahead_n >= 0 && ascii_is_blank(l->ahead[0]));
    while (l->line_n > 0 && strchr(" \t", l->line[l->line_n - 1]) != NULL)
        l->line[--l->line_n] = '\0';
    *line_r = l->line;
    return NULL;
}

static char *end_of_key(char *p)
{
    bool quoted = false;

    for (; *p != '\0'; p++) {
        if (*p == '\\' && p[1] != '\0')
            p++;
        else if (*p == '"')
            quoted = !quoted;
        else if (ascii_is_blank(*p) && !quoted)
            break;
    }
    return p;
}

struct error *table_lines_split(const struct table_lines *l, char *line, char **key_r, char **value_r)
{
    char *end = end_of_key(line);

    *key_r = line;
    *value_r = end + strspn(end, " \t");
    if (**value_r == '\0')
        return error_new(ERROR_CONF, "%s:%u: expected format: key whitespace value", l->name, l->number);
    *end = '\0';
    if (end[-1] == ':')
        log_warn("%s:%u: record is in \"key: value\" format; is this an alias file?", l->name, l->number);
    return NULL;
}
