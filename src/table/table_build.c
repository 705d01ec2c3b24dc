/*
 * What postmap does: makes NAME.db or NAME.lmdb from the text file NAME.
 *
 * The new file is written beside the old one and takes its name when it is whole and on disk: whoever reads
 * meanwhile sees the old content or the new, and a fault leaves the old. It gets the mode and owner of the
 * source.
 */
#include "log.h"
#include "mem.h"
#include "table_type.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <unistd.h>

static struct error *put_line(struct table_writer *w, const struct table_lines *lines, char *line)
{
    char *key, *value;
    struct error *e = table_lines_split(lines, line, &key, &value);
    bool is_new;

    if (e != NULL)
        return e;
    for (char *p = key; *p != '\0'; p++)
        *p = (char)ascii_lower(*p);
    if ((e = w->put(w, key, value, &is_new)) != NULL)
        return error_prepend(e, "%s:%u", lines->name, lines->number);
    if (!is_new)
        log_warn("%s:%u: duplicate entry: \"%s\"", lines->name, lines->number, key);
    return NULL;
}

static struct error *put_all(struct table_writer *w, struct table_lines *lines)
{
    struct error *e;
    char *line;

    while ((e = table_lines_next(lines, &line)) == NULL && line != NULL)
        if ((e = put_line(w, lines, line)) != NULL)
            return e;
    return e != NULL ? e : w->finish(w);
}

static struct error *give_mode(const char *path, const struct stat *source)
{
    if (geteuid() == 0 && chown(path, source->st_uid, source->st_gid) != 0)
        return error_errno(errno, "chown %s", path);
    if (chmod(path, source->st_mode & 0666) != 0)
        return error_errno(errno, "chmod %s", path);
    return NULL;
}

static struct error *sync_folder_of(const void *ctx, const char *path)
{
    const char *slash = strrchr(path, '/');
    char *folder = slash == NULL   ? mem_strdup(ctx, ".")
                   : slash == path ? mem_strdup(ctx, "/")
                                   : bytes_dup(ctx, bytes(path, (size_t)(slash - path)));
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct error *e = NULL;

    if (fd < 0 || fsync(fd) != 0)
        e = error_errno(errno, "sync folder %s", folder);
    if (fd >= 0)
        close(fd);
    return e;
}

static struct error *write_file(const void *ctx, const struct table_type *type, struct table_lines *lines,
                                const char *path)
{
    struct table_writer *w;
    struct error *e = type->create(ctx, path, (uint64_t)lines->st.st_size, &w);

    if (e != NULL)
        return e;
    e = put_all(w, lines);
    talloc_free(w);
    return e != NULL ? e : give_mode(path, &lines->st);
}

static struct error *build_indexed(const void *ctx, const struct table_type *type, const char *name)
{
    char *path = mem_printf(ctx, "%s%s", name, type->suffix);
    char *temp = mem_printf(ctx, "%s.%ld.tmp", path, (long)getpid());
    struct table_lines *lines;
    struct error *e = table_lines_open(ctx, name, &lines);

    if (e != NULL)
        return e;
    unlink(temp);
    e = write_file(ctx, type, lines, temp);
    if (e == NULL && rename(temp, path) != 0)
        e = error_errno(errno, "rename %s to %s", temp, path);
    if (e != NULL)
        unlink(temp);
    return e != NULL ? e : sync_folder_of(ctx, path);
}

static struct error *split(const char *spec, const struct table_type **type_r, const char **name_r)
{
    struct bytes rest = bytes_of(spec), type = bytes_cut(&rest, ':');

    *type_r = table_type_find(type);
    *name_r = rest.p;
    if (*type_r == NULL || rest.n == 0)
        return error_new(ERROR_CONF, "unsupported map type: %s", spec);
    return NULL;
}

struct error *table_build(const char *spec, const struct conf *conf)
{
    const struct table_type *type = NULL;
    const char *name = NULL;
    struct table *t;
    struct error *e;
    void *ctx;

    if ((e = split(spec, &type, &name)) != NULL)
        return e;
    if (type->create == NULL)
        return table_open(spec, conf, &t); /* nothing to write: its text is checked */
    ctx = talloc_new(NULL);
    e = build_indexed(ctx, type, name);
    talloc_free(ctx);
    return e;
}

struct error *table_remove(const char *spec, const char *key, bool *was_there_r)
{
    const struct table_type *type = NULL;
    const char *name = NULL;
    struct error *e;
    char *path, *folded;
    int fd;

    *was_there_r = false;
    if ((e = split(spec, &type, &name)) != NULL)
        return e;
    if (type->remove == NULL)
        return error_new(ERROR_CONF, "table type \"%s\" is not written by this command", type->name);
    path = mem_printf(NULL, "%s%s", name, type->suffix);
    folded = bytes_dup_lower(path, bytes_of(key));
    fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0 || flock(fd, LOCK_EX) != 0)
        e = error_errno(errno, "open %s", path);
    else
        e = type->remove(path, folded, was_there_r);
    if (fd >= 0)
        close(fd);
    talloc_free(path);
    return e;
}
