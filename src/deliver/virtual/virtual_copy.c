/*
 * From queue file to mailbox: CR LF becomes LF, a mbox gets its From_ line and its quoting. Runs on the
 * thread pool.
 */
#include "bytes.h"
#include "mem.h"
#include "virtual_mailbox.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

enum { COPY_PIECE = 65536, LOOP_HEADER_LIMIT = 262144 };

static const struct bytes from_word = {"From ", 5};

struct copy {
    struct virtual_job *job;
    int fd;
    bool is_mbox;
    bool is_failed;
    char *out; /* COPY_PIECE bytes */
    size_t n;
    bool has_cr;      /* a CR that may belong to a CR LF */
    bool is_at_start; /* of a line: angles and matched count what is held back */
    uint64_t angles;  /* '>' since the line began */
    size_t matched;   /* characters of "From " after them */
    char last;
};

static void flush(struct copy *c)
{
    size_t done = 0;
    ssize_t got;

    while (done < c->n && !c->is_failed) {
        got = write(c->fd, c->out + done, c->n - done);
        if (got > 0)
            done += (size_t)got;
        else if (got < 0 && errno != EINTR)
            c->is_failed = !virtual_job_fail(c->job, "write");
    }
    c->n = 0;
}

static void put(struct copy *c, char ch)
{
    if (c->n == COPY_PIECE)
        flush(c);
    c->out[c->n++] = ch;
    c->last = ch;
}

static void put_text(struct copy *c, const char *text, size_t n)
{
    size_t i;

    for (i = 0; i < n; i++)
        put(c, text[i]);
}

/* The line turned out not to begin with >*From_: what was held back goes out as it was. */
static void release(struct copy *c)
{
    uint64_t i;

    c->is_at_start = false;
    for (i = 0; i < c->angles; i++)
        put(c, '>');
    put_text(c, from_word.p, c->matched);
    c->angles = c->matched = 0;
}

/* One character of content with LF line ends. */
static void take(struct copy *c, char ch)
{
    if (c->is_at_start) {
        if (ch == '>' && c->matched == 0) {
            c->angles++;
            return;
        }
        if (ch == from_word.p[c->matched]) {
            if (++c->matched == from_word.n) {
                put(c, '>');
                release(c);
            }
            return;
        }
        release(c);
    }
    put(c, ch);
    c->is_at_start = c->is_mbox && ch == '\n';
}

static void take_wire(struct copy *c, struct bytes piece)
{
    size_t i;

    for (i = 0; i < piece.n; i++) {
        if (c->has_cr && piece.p[i] != '\n')
            take(c, '\r');
        c->has_cr = piece.p[i] == '\r';
        if (!c->has_cr)
            take(c, piece.p[i]);
    }
}

/* At most n bytes at a place of the content; 0 at its end, -1 when the file is shorter than it says or
 * broken. */
static ssize_t read_content(const struct virtual_job *job, uint64_t at, char *to, size_t n)
{
    ssize_t got;

    if (at >= job->content_size)
        return 0;
    if (n > job->content_size - at)
        n = (size_t)(job->content_size - at);
    do {
        got = pread(job->fd, to, n, (off_t)(job->content_offset + at));
    } while (got < 0 && errno == EINTR);
    if (got == 0)
        errno = EIO;
    return got > 0 ? got : -1;
}

static void copy_content(struct copy *c)
{
    char *piece = mem_bytes(c->job, COPY_PIECE);
    uint64_t at = 0;
    ssize_t got;

    c->is_at_start = c->is_mbox;
    while (!c->is_failed && (got = read_content(c->job, at, piece, COPY_PIECE)) != 0) {
        if (got < 0) {
            c->is_failed = !virtual_job_fail(c->job, "read the queue file");
            break;
        }
        take_wire(c, bytes(piece, (size_t)got));
        at += (uint64_t)got;
    }
    if (c->has_cr)
        take(c, '\r');
    release(c);
    talloc_free(piece);
}

bool virtual_copy(struct virtual_job *job, int out_fd, bool is_mbox)
{
    struct copy c = {
        .job = job, .fd = out_fd, .is_mbox = is_mbox, .out = mem_bytes(job, COPY_PIECE), .last = '\n'};

    if (is_mbox) {
        put_text(&c, job->from, strlen(job->from));
        put(&c, '\n');
    }
    put_text(&c, job->head, strlen(job->head));
    copy_content(&c);
    if (c.last != '\n')
        put(&c, '\n');
    if (is_mbox)
        put(&c, '\n');
    flush(&c);
    talloc_free(c.out);
    return !c.is_failed;
}

uint64_t virtual_copy_size(const struct virtual_job *job)
{
    return job->content_size + strlen(job->head) + (job->is_maildir ? 0 : strlen(job->from) + 2);
}

static bool line_is_ours(struct bytes line, struct bytes name, const char *addr)
{
    return bytes_has_iprefix(line, name) && bytes_ieq(bytes_trim(bytes_skip(line, name.n)), bytes_of(addr));
}

bool virtual_is_loop(const struct virtual_job *job)
{
    char *text = mem_bytes(NULL, LOOP_HEADER_LIMIT);
    struct bytes rest = {text, 0}, line;
    bool is_loop = false;
    ssize_t got;

    while (rest.n < LOOP_HEADER_LIMIT &&
           (got = read_content(job, rest.n, text + rest.n, LOOP_HEADER_LIMIT - rest.n)) > 0)
        rest.n += (size_t)got;
    while (!is_loop && rest.n > 0) {
        line = bytes_trim(bytes_cut(&rest, '\n'));
        if (line.n == 0)
            break;
        is_loop = line_is_ours(line, BYTES("Delivered-To:"), job->delivered_to);
    }
    talloc_free(text);
    return is_loop;
}
