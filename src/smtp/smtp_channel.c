/* Lines over a stream. See smtp_read_line() in smtp.h. */
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

co_fn enum io_end smtp_read_line(struct io_stream *s, size_t limit, uint64_t deadline, struct bytes *line_r,
                                 bool *bare_lf_r)
{
    size_t looked = 0;

    for (;;) {
        struct bytes seen = io_buffered(s);
        size_t at = bytes_chr(bytes_skip(seen, looked), '\n');
        enum io_end end;

        if (at != SIZE_MAX) {
            at += looked;
            if (at > limit)
                return skip_line(s, deadline);
            *bare_lf_r = at == 0 || seen.p[at - 1] != '\r';
            *line_r = bytes(seen.p, *bare_lf_r ? at : at - 1);
            io_consume(s, at + 1); /* the bytes stay where they are until the next fill */
            return IO_OK;
        }
        looked = seen.n;
        if (looked > limit)
            return skip_line(s, deadline);
        end = io_fill(s, deadline);
        if (end != IO_OK)
            return end;
    }
}
