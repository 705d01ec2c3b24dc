/*
 * What start-up does with journals: a message that was promised and is not in the queue, whole, after the
 * machine went down is brought back. Then the queue itself is made durable, and the journal is marked empty;
 * cut off at any instant, the next start-up does the same again.
 *
 * A message is left alone when its file is in any place with the bytes of the record: recipients' states are
 * all that changes in a file. Another file under its id is either what the crash left of it, which goes to
 * corrupt (and nowhere when it is incomplete, so never promised in this shape), or a later message of the
 * same id, which a peer gave twice: then the record's own had left the queue.
 */
#include "queue_job.h"

#include "log.h"
#include "mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <unistd.h>

enum { CHUNK = 8192 }; /* on a coroutine's stack */

struct replay {
    struct queue *q;
    size_t journals, records, restored, failures;
};

/* ---- what is there ---- */

/* A byte of the image that delivery may have changed. */
static bool is_mark(struct bytes image, const struct queue_layout *envelope, size_t at, char found)
{
    return at >= envelope->envelope_offset && at - envelope->envelope_offset + 1 < envelope->envelope_size &&
           image.p[at - 1] == '\n' && image.p[at] == QUEUE_RCPT_TODO && image.p[at + 1] == ' ' &&
           found == QUEUE_RCPT_DONE;
}

static bool is_same_chunk(struct bytes image, const struct queue_layout *envelope, size_t at,
                          const char *chunk, size_t n)
{
    if (memcmp(image.p + at, chunk, n) == 0)
        return true;
    for (size_t i = 0; i < n; i++)
        if (chunk[i] != image.p[at + i] && !is_mark(image, envelope, at + i, chunk[i]))
            return false;
    return true;
}

/* The file is complete and has the image's bytes. */
static bool is_same(int fd, const struct stat *st, struct bytes image)
{
    struct queue_layout envelope = {0};
    char chunk[CHUNK];
    size_t at = 0;

    if (!queue_is_complete(st) || (uint64_t)st->st_size != image.n)
        return false;
    if (queue_parse_header(bytes(image.p, QUEUE_HEADER_SIZE), image.n, &envelope) != NULL)
        envelope = (struct queue_layout){0};
    while (at < image.n) {
        size_t want = image.n - at < sizeof(chunk) ? image.n - at : sizeof(chunk);
        ssize_t n = pread(fd, chunk, want, (off_t)at);

        if (n <= 0 || !is_same_chunk(image, &envelope, at, chunk, (size_t)n))
            return false;
        at += (size_t)n;
    }
    return true;
}

/* A whole message that arrived after the record was written. */
static bool is_later(int fd, const struct stat *st, const struct queue_journal_record *record)
{
    struct queue_envelope *env = NULL;
    struct error *e;
    bool is_it;

    if (!queue_is_complete(st))
        return false;
    e = queue_message_read(NULL, fd, &env);
    is_it = e == NULL && env->arrived_us > record->written_us;
    error_free(&e);
    talloc_free(env);
    return is_it;
}

enum found { NOTHING, REMAINS, THE_MESSAGE };

static enum found look(const struct queue *q, enum queue_place place, const char *path,
                       const struct queue_journal_record *record, struct bytes image, struct stat *st)
{
    int fd = openat(q->place[place], path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    enum found found = REMAINS;

    if (fd < 0) {
        memset(st, 0, sizeof(*st));
        return errno == ENOENT ? NOTHING : REMAINS;
    }
    if (fstat(fd, st) == 0 && (is_same(fd, st, image) || is_later(fd, st, record)))
        found = THE_MESSAGE;
    close(fd);
    return found;
}

/* ---- bringing back ---- */

/* Remains make room. False: they cannot. */
static bool put_aside(struct queue *q, enum queue_place place, const char *path, const char *id,
                      const struct stat *st)
{
    bool is_nothing = S_ISREG(st->st_mode) && (!queue_is_complete(st) || st->st_size == 0);
    int code = EEXIST;

    if (!is_nothing) {
        log_warn("%s: in %s, and not as it was written: brought back from the journal", id,
                 queue_place_name(place));
        code = queue_rename(q->place[place], path, q->place[QUEUE_CORRUPT], id);
    }
    if (code == EEXIST)
        code = unlinkat(q->place[place], path, 0) == 0 ? 0 : errno;
    if (code != 0)
        log_warn("%s: cannot move what is in %s: %s", id, queue_place_name(place), strerror(code));
    return code == 0;
}

static bool restore(struct queue *q, const struct queue_journal_record *record, struct bytes image)
{
    struct queue_job *job = queue_job_new(NULL, q->place[QUEUE_INCOMING]);
    int code;

    job->dir = q->place[record->kind == QUEUE_JOURNAL_HOLD ? QUEUE_HOLD : QUEUE_INCOMING];
    snprintf(job->name, sizeof(job->name), "%s", record->id);
    buf_add(&job->head, bytes(image.p, image.n - QUEUE_END_SIZE)); /* the end mark is the job's to write */
    code = queue_job_restore(job);
    if (code != 0)
        log_warn("%s: cannot bring it back from the journal: %s: %s", record->id, job->step, strerror(code));
    talloc_free(job);
    return code == 0;
}

static void redo(struct replay *r, const struct queue_journal_record *record, struct bytes image)
{
    enum found found[QUEUE_PLACES];
    struct stat st[QUEUE_PLACES];
    char path[QUEUE_PLACES][QUEUE_PATH_SIZE];
    bool is_clear = true;

    r->records++;
    for (int i = 0; i < QUEUE_PLACES; i++) {
        queue_path(r->q, i, record->id, path[i]);
        found[i] = look(r->q, i, path[i], record, image, &st[i]);
        if (found[i] == THE_MESSAGE)
            return;
    }
    for (int i = 0; i < QUEUE_PLACES; i++)
        if (found[i] == REMAINS && i != QUEUE_CORRUPT)
            is_clear &= put_aside(r->q, i, path[i], record->id, &st[i]);
    if (is_clear && restore(r->q, record, image))
        r->restored++;
    else
        r->failures++;
}

/* ---- journals ---- */

struct voided {
    uint64_t *at;
    size_t n;
};

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

static void find_voided(const void *ctx, struct bytes half, const struct queue_journal_header *header,
                        struct voided *v)
{
    struct queue_journal_record record;
    struct bytes image;
    size_t room = 0;

    for (size_t at = QUEUE_JOURNAL_BLOCK; queue_journal_next(half, header, &at, &record, &image);) {
        if (record.kind != QUEUE_JOURNAL_VOID)
            continue;
        if (v->n == room) {
            room = room ? 2 * room : QUEUE_BATCH_SIZE;
            v->at = mem_grow(ctx, v->at, room);
        }
        v->at[v->n++] = record.voided;
    }
    if (v->n > 1)
        qsort(v->at, v->n, sizeof(*v->at), compare);
}

static void redo_half(struct replay *r, struct bytes half, const struct queue_journal_header *header)
{
    void *ctx = talloc_new(NULL);
    struct voided voided = {0};
    struct queue_journal_record record;
    struct bytes image;
    uint64_t start = QUEUE_JOURNAL_BLOCK;

    find_voided(ctx, half, header, &voided);
    for (size_t at = start; queue_journal_next(half, header, &at, &record, &image); start = at)
        if (record.kind != QUEUE_JOURNAL_VOID &&
            (voided.n == 0 || bsearch(&start, voided.at, voided.n, sizeof(start), compare) == NULL))
            redo(r, &record, image);
    talloc_free(ctx);
}

/* True: all of it was replayed. */
static bool replay_half(struct replay *r, int fd, const char *name, uint64_t offset,
                        const struct queue_journal_header *header)
{
    char *half = mem_malloc((size_t)header->half_size);
    size_t n = 0, failures = r->failures;
    ssize_t got = 1;

    while (n < header->half_size && got > 0) {
        got = pread(fd, half + n, (size_t)header->half_size - n, (off_t)(offset + n));
        n += got > 0 ? (size_t)got : 0;
    }
    if (got < 0) {
        log_warn("queue journal %s: cannot read all of it: %s", name, strerror(errno));
        r->failures++;
    }
    redo_half(r, bytes(half, n), header);
    free(half);
    return r->failures == failures;
}

/* A journal that nobody has; the file is locked. */
static void replay_file(struct replay *r, int fd, const char *name)
{
    struct queue_journal_file f = {.fd = fd, .queue_dir = r->q->place[QUEUE_INCOMING]};
    enum queue_journal_state state[2];
    bool is_replayed[2];
    uint64_t half_size;
    const char *why = NULL;

    queue_journal_look(fd, r->q->boot_id, f.half, state, &half_size, &why);
    if (why != NULL)
        log_warn("queue journal %s: %s; left as it is", name, why);
    for (unsigned i = 0; i < 2; i++) {
        r->journals += state[i] == QUEUE_JOURNAL_OWED;
        is_replayed[i] =
            state[i] == QUEUE_JOURNAL_DIRTY ||
            (state[i] == QUEUE_JOURNAL_OWED && replay_half(r, fd, name, i * half_size, &f.half[i]));
    }
    if ((is_replayed[0] || is_replayed[1]) && !queue_journal_checkpoint(&f, is_replayed, r->q->boot_id))
        log_warn("queue journal %s: cannot %s: %s", name, f.step, strerror(f.code));
}

void queue_replay(struct queue *q)
{
    struct replay r = {.q = q};

    for (int i = 0; i < QUEUE_JOURNAL_FILES; i++) {
        char name[16];
        int fd;

        snprintf(name, sizeof(name), "%d", i);
        fd = openat(q->journals, name, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
        if (fd < 0)
            continue;
        if (flock(fd, LOCK_EX | LOCK_NB) == 0)
            replay_file(&r, fd, name);
        close(fd);
    }
    if (r.journals > 0)
        log_info(
            "queue journal: %zu messages looked for after the machine went down, %zu brought back, %zu not",
            r.records, r.restored, r.failures);
}
