/*
 * DIR/admission: what the shared memory says to other programs (numbers) and to the next start (records of
 * clients). The memory itself is not on disk: a page that is on its way there would make whoever changes it
 * wait. Each start makes a new file beside the old with that one's records in it, and puts it in the old
 * one's place; workers of an older master write theirs. Nothing in the old one is believed that was not
 * checked: a stranger's file, one of another version or one that was cut short costs the records, no more.
 */
#include "admission_record.h"
#include "admission_shared.h"

#include "log.h"
#include "mem.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

enum { VERSION = 4 }; /* counts changes of these structs */

struct begin {
    struct shared_head head;
    struct admission_snapshot numbers;
};
struct file {
    struct begin begin;
    struct admission_record records[ADMISSION_CLIENTS];
};
static const struct shared_head head = {0x53504144, VERSION, sizeof(struct file)}; /* "SPAD" */

char *admission_file_name(const void *ctx, const char *data_directory)
{
    return mem_printf(ctx, "%s/admission", data_directory);
}

/* ---- writing ---- */

static bool is_whole(ssize_t done, size_t n)
{
    if (done >= 0 && done != (ssize_t)n)
        errno = EIO;
    return done == (ssize_t)n;
}

static struct iovec part(const void *p, size_t n)
{
    return (struct iovec){.iov_base = (void *)(uintptr_t)p, .iov_len = n};
}

/* struct begin, from where its parts are. */
static bool write_begin(const struct admission_shared *s, int file)
{
    struct {
        struct shared_head head;
        uint64_t since_us;
        uint32_t clients, repairs;
    } first = {head, s->since_us, s->clients, s->repairs};
    struct iovec parts[1 + ADMISSION_POOLS] = {part(&first, sizeof(first))};

    _Static_assert(sizeof(first) == offsetof(struct begin, numbers.pools), "struct begin has other parts");
    for (size_t i = 0; i < ADMISSION_POOLS; i++)
        parts[1 + i] = part(&s->pools[i].n, sizeof(s->pools[i].n));
    return is_whole(pwritev(file, parts, 1 + ADMISSION_POOLS, 0), sizeof(struct begin));
}

/* Those behind the last that is used were never written. */
static bool write_records(const struct admission_shared *s, int file)
{
    size_t n = ADMISSION_CLIENTS;

    while (n > 0 && !s->records[n - 1].is_used)
        n--;
    n *= sizeof(s->records[0]);
    return is_whole(pwrite(file, s->records, n, offsetof(struct file, records)), n);
}

int admission_file_write(const struct admission_shared *s, int file, bool with_records)
{
    return write_begin(s, file) && (!with_records || write_records(s, file)) ? 0 : errno;
}

/* ---- taking over an old one ---- */

static void restore(struct admission_shared *s, const struct admission_record *records)
{
    uint32_t real_s = admission_now().real_s;

    for (uint32_t i = 0; i < ADMISSION_CLIENTS; i++)
        admission_record_restore(s, &records[i], real_s);
}

static void take_over(struct admission_shared *s, const char *path)
{
    struct file *old = mem_new(NULL, struct file);
    struct error *e = shared_file_read(path, &head, old, sizeof(*old));

    if (e == NULL)
        restore(s, old->records);
    else if (e->code != ENOENT)
        log_warn("%s: clients begin without record", e->text);
    error_free(&e);
    talloc_free(old);
}

/* ---- making a new one ---- */

static struct error *make(const struct admission_shared *s, const char *path, int *file_r)
{
    struct error *e = shared_file_make(path, sizeof(struct file), file_r);
    int code;

    if (e != NULL)
        return e;
    code = admission_file_write(s, *file_r, true);
    e = code != 0 ? error_errno(code, "write") : shared_file_show(path);
    if (e != NULL) {
        shared_file_drop(path);
        close(*file_r);
        *file_r = -1;
    }
    return e;
}

struct error *admission_file_make(struct admission_shared *s, const char *data_directory, int *file_r)
{
    char *path = admission_file_name(NULL, data_directory);
    struct error *e;

    take_over(s, path);
    e = make(s, path, file_r);
    error_prepend(e, "%s: without records and numbers for others", path);
    talloc_free(path);
    return e;
}

/* ---- numbers ---- */

struct error *admission_snapshot(const char *data_directory, struct admission_snapshot *out_r)
{
    char *path = admission_file_name(NULL, data_directory);
    struct begin *there = mem_new(path, struct begin);
    struct error *e = shared_file_read(path, &head, there, sizeof(*there));

    memset(out_r, 0, sizeof(*out_r));
    if (e == NULL)
        *out_r = there->numbers;
    for (size_t i = 0; i < ADMISSION_POOLS; i++)
        out_r->pools[i].name[ADMISSION_NAME - 1] = '\0';
    talloc_free(path);
    return e;
}
