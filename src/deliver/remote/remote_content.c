/*
 * Content from the queue file to the wire. Lines beyond smtp_line_length_limit are broken by CR LF and a
 * blank, as RFC 5321 4.5.3.1.6 obliges a sender.
 */
#include "remote.h"

#include "clock.h"
#include "mem.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

enum { PIECE = 65536, READ_TIMEOUT_MS = 120 * 1000, HEADER_LIMIT = 102400 };

/* A large message is read on the thread pool; memory of its own, should the wait end before the read. */
struct read_job {
    int fd;
    uint64_t offset;
    size_t want;
    ssize_t got;
    int code;
    char *piece;
};

static int close_job(struct read_job *job)
{
    if (job->fd >= 0)
        close(job->fd);
    return 0;
}

static void read_piece(void *arg)
{
    struct read_job *job = arg;

    do {
        job->got = pread(job->fd, job->piece, job->want, (off_t)job->offset);
        job->code = errno;
    } while (job->got < 0 && job->code == EINTR);
}

static struct read_job *read_open(int fd)
{
    struct read_job *job = mem_new(NULL, struct read_job);

    job->fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    job->piece = mem_bytes(job, PIECE);
    talloc_set_destructor(job, close_job);
    return job;
}

/* Reads the next piece; *job_r becomes NULL when it is no longer ours. */
static co_fn struct error *read_next(struct read_job **job_r, const struct queue_envelope *env, uint64_t at)
{
    struct read_job *job = *job_r;
    uint64_t left = env->content_size - at;

    job->offset = env->content_offset + at;
    job->want = left < PIECE ? (size_t)left : PIECE;
    if (env->content_size <= PIECE) {
        read_piece(job);
    } else if (co_work(read_piece, job, clock_ms() + READ_TIMEOUT_MS, "read queue file") != CO_OK) {
        *job_r = NULL;
        return error_new(ERROR_TEMP, "read queue file: no answer from the disk");
    }
    if (job->got > 0)
        return NULL;
    return job->got < 0 ? error_errno(job->code, "read queue file")
                        : error_new(ERROR_TEMP, "queue file cut short");
}

struct sender {
    struct smtp_data_encoder encoder;
    struct io_stream *stream;
    size_t limit, column;
    uint64_t timeout_ms;
};

static co_fn enum io_end put(struct sender *w, struct bytes piece)
{
    return smtp_data_encode(&w->encoder, w->stream, piece, clock_ms() + w->timeout_ms);
}

/* Length of the text of the line that begins the piece, without its line end. */
static size_t line_text(struct bytes piece, size_t whole)
{
    size_t n = whole;

    if (n > 0 && piece.p[n - 1] == '\n')
        n--;
    if (n > 0 && piece.p[n - 1] == '\r')
        n--;
    return n;
}

static co_fn enum io_end put_lines(struct sender *w, struct bytes piece)
{
    enum io_end end = IO_OK;

    if (w->limit == 0)
        return put(w, piece);
    while (end == IO_OK && piece.n > 0) {
        size_t newline = bytes_chr(piece, '\n');
        size_t whole = newline == SIZE_MAX ? piece.n : newline + 1;
        size_t text = line_text(piece, whole);

        if (w->column + text <= w->limit) {
            w->column = newline == SIZE_MAX ? w->column + text : 0;
            end = put(w, bytes(piece.p, whole));
            piece = bytes_skip(piece, whole);
        } else {
            size_t fits = w->limit - w->column;

            end = put(w, bytes(piece.p, fits));
            if (end == IO_OK)
                end = put(w, BYTES("\r\n "));
            w->column = 1;
            piece = bytes_skip(piece, fits);
        }
    }
    return end;
}

struct error *remote_content_send(const struct remote_delivery *d, struct io_stream *s, enum io_end *end_r)
{
    const struct queue_envelope *env = d->request->envelope;
    struct sender w = {.stream = s, .limit = d->agent->line_limit, .timeout_ms = d->agent->data_xfer_ms};
    struct read_job *job = read_open(d->request->fd);
    struct error *e = NULL;
    uint64_t at = 0;

    *end_r = IO_OK;
    while (*end_r == IO_OK && at < env->content_size) {
        e = read_next(&job, env, at);
        if (e != NULL)
            break;
        *end_r = put_lines(&w, bytes(job->piece, (size_t)job->got));
        at += (uint64_t)job->got;
    }
    talloc_free(job);
    if (e == NULL && *end_r == IO_OK)
        *end_r = smtp_data_encode_end(&w.encoder, s, clock_ms() + w.timeout_ms);
    if (e == NULL && *end_r == IO_OK)
        *end_r = io_flush(s, clock_ms() + w.timeout_ms);
    return e;
}

static bool has_8bit(struct bytes text)
{
    size_t i;

    for (i = 0; i < text.n; i++) {
        if ((unsigned char)text.p[i] > 127)
            return true;
    }
    return false;
}

static bool header_has_8bit(const struct deliver_request *request)
{
    const struct queue_envelope *env = request->envelope;
    size_t want = env->content_size < HEADER_LIMIT ? (size_t)env->content_size : HEADER_LIMIT, end;
    char *text = mem_bytes(NULL, want + 1);
    ssize_t got = pread(request->fd, text, want, (off_t)env->content_offset);
    struct bytes header = bytes(text, got > 0 ? (size_t)got : 0);
    bool found;

    end = bytes_find(header, BYTES("\r\n\r\n"));
    found = has_8bit(bytes(header.p, end == SIZE_MAX ? header.n : end));
    talloc_free(text);
    return found;
}

bool remote_content_needs_utf8(const struct deliver_request *request)
{
    size_t i;

    if (has_8bit(bytes_of(request->envelope->sender)))
        return true;
    for (i = 0; i < request->rcpt_count; i++) {
        if (has_8bit(bytes_of(request->rcpts[i]->addr)))
            return true;
    }
    return header_has_8bit(request);
}
