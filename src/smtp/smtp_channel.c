/* Lines over a stream. See smtp_await_line() and those that follow it in smtp.h. */
#include "smtp.h"

enum { SKIP_LIMIT = 65536 };

/* An overlong line goes, piece by piece, up to its LF; but not for ever. */
static co_fn enum io_end skip_line(struct io_stream *s, uint64_t deadline)
{
    size_t skipped = 0;

    for (;;) {
        struct bytes seen = io_buffered(s);
        size_t at = bytes_chr(seen, '\n');
        enum io_end end;

        if (at != SIZE_MAX) {
            io_consume(s, at + 1);
            return IO_FULL;
        }
        skipped += seen.n;
        io_consume(s, seen.n);
        if (skipped > SKIP_LIMIT)
            return IO_RESET;
        end = io_fill(s, deadline);
        if (end != IO_OK)
            return end;
    }
}

/* The next LF is at *at_r of what is buffered. IO_FULL: the line before it is longer than `limit`; so much of
 * it is buffered. */
static co_fn enum io_end find_end(struct io_stream *s, size_t limit, uint64_t deadline, size_t *at_r)
{
    size_t looked = 0;

    for (;;) {
        struct bytes seen = io_buffered(s);
        size_t at = bytes_chr(bytes_skip(seen, looked), '\n');
        enum io_end end;

        if (at != SIZE_MAX) {
            *at_r = at + looked;
            return *at_r > limit ? IO_FULL : IO_OK;
        }
        looked = seen.n;
        if (looked > limit)
            return IO_FULL;
        end = io_fill(s, deadline);
        if (end != IO_OK)
            return end;
    }
}

/* The bytes stay where they are until the next fill. */
static struct bytes take_line(struct io_stream *s, size_t at, bool *bare_lf_r)
{
    struct bytes seen = io_buffered(s);

    *bare_lf_r = at == 0 || seen.p[at - 1] != '\r';
    io_consume(s, at + 1);
    return bytes(seen.p, *bare_lf_r ? at : at - 1);
}

co_fn enum io_end smtp_await_line(struct io_stream *s, size_t limit, uint64_t deadline)
{
    size_t at;

    return find_end(s, limit, deadline, &at);
}

co_fn enum io_end smtp_read_line(struct io_stream *s, size_t limit, uint64_t deadline, struct bytes *line_r,
                                 bool *bare_lf_r)
{
    size_t at;
    enum io_end end = find_end(s, limit, deadline, &at);

    if (end == IO_FULL)
        return skip_line(s, deadline);
    if (end == IO_OK)
        *line_r = take_line(s, at, bare_lf_r);
    return end;
}

co_fn enum io_end smtp_read_reply_line(struct io_stream *s, size_t limit, uint64_t deadline,
                                       struct buf *start, struct bytes *line_r)
{
    size_t at;
    bool bare_lf;
    enum io_end end = find_end(s, limit, deadline, &at);

    if (end == IO_FULL) {
        buf_cut(start, 0);
        buf_add(start, bytes(io_buffered(s).p, limit));
        *line_r = buf_bytes(start);
        end = skip_line(s, deadline);
        return end == IO_FULL ? IO_OK : end;
    }
    if (end == IO_OK)
        *line_r = take_line(s, at, &bare_lf);
    return end;
}
