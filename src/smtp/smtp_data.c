/*
 * End of data: the one place where wire bytes become content, and content wire bytes (RFC
 * 5321 4.1.1.4, 4.5.2).
 *
 * Coming in, only CR LF . CR LF ends the data. A LF alone ends a line of content but never the data, on
 * either side of the dot; a CR alone becomes a blank. Going out, whatever the content holds, no CR or LF
 * leaves alone and no line begins with an unstuffed dot. So what one server takes for content, the next one
 * cannot take for commands: mail cannot be smuggled through us.
 */
#include "smtp.h"

/* ---- plain text, which needs no second look ---- */

enum { BLOCK = 128 };

#define INLINE static inline __attribute__((always_inline)) /* compiled for each kind of processor */

/* Of the block and the byte behind it: each CR has its LF, each LF but one that comes first has its CR, and
 * no dot stands behind a LF. Without branches, so that compilers look at many bytes at once. */
INLINE bool is_plain(const char *p)
{
    unsigned char odd = 0;

    for (int i = 0; i < BLOCK; i++) {
        odd |= (unsigned char)((p[i] == '\r') ^ (p[i + 1] == '\n'));
        odd |= (unsigned char)((p[i] == '\n') & (p[i + 1] == '.'));
    }
    return odd == 0;
}

INLINE size_t plain_run(struct bytes text)
{
    size_t n = 0;

    while (n + BLOCK < text.n && is_plain(text.p + n))
        n += BLOCK;
    return n;
}

/* For processors with wider vectors than every one of their kind has. */
#ifdef __x86_64__
#define FOR_WIDE __attribute__((target("avx2")))
#define IS_WIDE  __builtin_cpu_supports("avx2")
#else
#define FOR_WIDE
#define IS_WIDE false
#endif

FOR_WIDE static size_t plain_run_wide(struct bytes text)
{
    return plain_run(text);
}

/* How much of the text is plain, in whole blocks; a CR at their end is left to its LF. The text begins inside
 * a line, or with a line that has no dot. */
static size_t plain_blocks(struct bytes text)
{
    size_t n;

    if (text.n > 0 && text.p[0] == '\n')
        return 0;
    n = IS_WIDE ? plain_run_wide(text) : plain_run(text);
    return n > 0 && text.p[n - 1] == '\r' ? n - 1 : n;
}

/* ---- wire to content ---- */

/* Where the decoder stands. */
enum {
    AT_LINE,      /* behind CR LF, or at the start of data */
    AT_BARE_LINE, /* behind a LF alone: a dot here ends nothing */
    DOT,          /* one dot behind CR LF */
    DOT_CR,
    BARE_DOT, /* one dot behind a LF alone */
    BARE_DOT_CR,
    INSIDE,
    INSIDE_CR,
};

/* Copies unremarkable bytes in runs: `in` from run_start on is still to be appended. */
struct decoding {
    struct smtp_data_decoder *d;
    struct bytes in;
    size_t run_start;
    struct buf *out;
};

static void end_run(struct decoding *w, size_t at, size_t skip)
{
    buf_add(w->out, bytes(w->in.p + w->run_start, at - w->run_start));
    w->run_start = at + skip;
}

/* A LF at `at` that had no CR before it. */
static void bare_lf(struct decoding *w, size_t at)
{
    end_run(w, at, 1);
    buf_adds(w->out, "\r\n");
    w->d->has_bare_lf = true;
    w->d->state = AT_BARE_LINE;
}

/* The rest of a line. Returns the index of the next byte to look at. */
static size_t rest_of_line(struct decoding *w, size_t at)
{
    const char *p = w->in.p;
    const char *lf = memchr(p + at, '\n', w->in.n - at);
    size_t end = lf ? (size_t)(lf - p) : w->in.n;
    const char *cr = memchr(p + at, '\r', end - at);

    if (cr != NULL) { /* its meaning depends on the next byte: hold it back */
        size_t where = (size_t)(cr - p);

        if (where + 1 < w->in.n && p[where + 1] == '\n') {
            w->d->state = AT_LINE;
            return where + 2;
        }
        end_run(w, where, 1);
        w->d->state = INSIDE_CR;
        return where + 1;
    }
    if (lf == NULL) {
        w->d->state = INSIDE;
        return w->in.n;
    }
    bare_lf(w, end);
    return end + 1;
}

/* The byte at `at` inside a line, where no CR is pending. Returns the index of the next byte to look at. */
static size_t inside(struct decoding *w, size_t at)
{
    size_t plain = plain_blocks(bytes_skip(w->in, at));

    if (plain == 0)
        return rest_of_line(w, at);
    at += plain;
    w->d->state = w->in.p[at - 1] == '\n' ? AT_LINE : INSIDE;
    return at;
}

/* The byte behind a CR that was held back. The CR becomes a line end or a blank. */
static size_t after_cr(struct decoding *w, size_t at)
{
    if (w->in.p[at] == '\n') {
        end_run(w, at, 1);
        buf_adds(w->out, "\r\n");
        w->d->state = AT_LINE;
        return at + 1;
    }
    buf_addc(w->out, ' ');
    w->d->has_bare_cr = true;
    w->d->state = INSIDE;
    return at; /* look at this byte again, as one inside a line */
}

static size_t at_line(struct decoding *w, size_t at)
{
    if (w->in.p[at] != '.')
        return inside(w, at);
    end_run(w, at, 1); /* the stuffed dot goes */
    w->d->state = w->d->state == AT_LINE ? DOT : BARE_DOT;
    return at + 1;
}

/* Behind a dot that began a line. A dot alone on its line that does not end the data is content. */
static size_t after_dot(struct decoding *w, size_t at)
{
    char c = w->in.p[at];

    if (c == '\r') {
        end_run(w, at, 1);
        w->d->state = w->d->state == DOT ? DOT_CR : BARE_DOT_CR;
        return at + 1;
    }
    if (c == '\n') {
        buf_addc(w->out, '.');
        bare_lf(w, at);
        return at + 1;
    }
    w->d->state = INSIDE;
    return at;
}

static size_t after_dot_cr(struct decoding *w, size_t at)
{
    bool is_end = w->d->state == DOT_CR;

    if (w->in.p[at] != '\n') {
        w->d->state = INSIDE_CR;
        return at;
    }
    end_run(w, at, 1);
    if (is_end) {
        w->d->is_end = true;
        return at + 1;
    }
    buf_adds(w->out, ".\r\n");
    w->d->state = AT_LINE;
    return at + 1;
}

size_t smtp_data_decode(struct smtp_data_decoder *d, struct bytes in, struct buf *out)
{
    struct decoding w = {.d = d, .in = in, .out = out};
    size_t at = 0;

    buf_reserve(out, in.n + 4);
    while (at < in.n && !d->is_end) {
        switch (d->state) {
        case AT_LINE:
        case AT_BARE_LINE:
            at = at_line(&w, at);
            break;
        case DOT:
        case BARE_DOT:
            at = after_dot(&w, at);
            break;
        case DOT_CR:
        case BARE_DOT_CR:
            at = after_dot_cr(&w, at);
            break;
        case INSIDE_CR:
            at = after_cr(&w, at);
            break;
        default:
            at = inside(&w, at);
            break;
        }
    }
    if (!d->is_end)
        end_run(&w, in.n, 0);
    return at;
}

void smtp_bdat_decode(struct smtp_data_decoder *d, struct bytes in, bool is_last, struct buf *out)
{
    struct decoding w = {.d = d, .in = in, .out = out};
    size_t at = 0;

    buf_reserve(out, in.n + 4);
    while (at < in.n)
        at = d->state == INSIDE_CR ? after_cr(&w, at) : inside(&w, at);
    end_run(&w, in.n, 0);
    if (!is_last)
        return;
    if (d->state == INSIDE_CR || d->state == INSIDE)
        buf_adds(out, "\r\n");
    d->is_end = true;
}

/* ---- content to wire ---- */

static struct bytes without_cr(struct bytes line)
{
    while (line.n > 0 && line.p[line.n - 1] == '\r')
        line.n--;
    return line;
}

static co_fn enum io_end write_blanking_cr(struct io_stream *s, struct bytes text, uint64_t deadline)
{
    enum io_end end = IO_OK;

    while (text.n > 0 && end == IO_OK) {
        size_t cr = bytes_chr(text, '\r');
        size_t n = cr == SIZE_MAX ? text.n : cr;

        end = io_write(s, bytes(text.p, n), deadline);
        if (cr != SIZE_MAX && end == IO_OK)
            end = io_write(s, BYTES(" "), deadline);
        text = bytes_skip(text, cr == SIZE_MAX ? n : n + 1);
    }
    return end;
}

/* The first line of the text, with its LF if it has one. */
static struct bytes line_of(struct bytes text)
{
    size_t lf = bytes_chr(text, '\n');

    return bytes(text.p, lf == SIZE_MAX ? text.n : lf + 1);
}

/* A line as the contract of mail_sink promises it: one CR, just before the LF; or a part of one. */
static bool is_clean(struct bytes line)
{
    const char *cr = memchr(line.p, '\r', line.n);

    return line.p[line.n - 1] != '\n' ? cr == NULL : line.n >= 2 && cr == line.p + line.n - 2;
}

/* A line, or the last part of a piece that has no LF, that is not as it should be. */
static co_fn enum io_end write_mended(struct smtp_data_encoder *e, struct io_stream *s, struct bytes line,
                                      uint64_t deadline)
{
    bool has_lf = line.p[line.n - 1] == '\n';
    enum io_end end;

    if (has_lf)
        line = without_cr(bytes(line.p, line.n - 1));
    else if (line.p[line.n - 1] == '\r') {
        e->holds_cr = true;
        line.n--;
    }
    end = write_blanking_cr(s, line, deadline);
    return end == IO_OK && has_lf ? io_write(s, BYTES("\r\n"), deadline) : end;
}

co_fn enum io_end smtp_data_encode(struct smtp_data_encoder *e, struct io_stream *s, struct bytes piece,
                                   uint64_t deadline)
{
    size_t run_start = 0, at = 0;
    enum io_end end = IO_OK;

    if (e->holds_cr && piece.n > 0 && piece.p[0] != '\n')
        end = io_write(s, BYTES(" "), deadline);
    e->holds_cr = e->holds_cr && piece.n == 0;
    while (at < piece.n && end == IO_OK) {
        size_t plain = plain_blocks(bytes_skip(piece, at));
        struct bytes line = plain > 0 ? bytes(piece.p + at, plain) : line_of(bytes_skip(piece, at));

        if (!e->is_inside_line &&
            line.p[0] == '.') { /* the run ends with the dot, and the next one begins with it */
            end = io_write(s, bytes(piece.p + run_start, at + 1 - run_start), deadline);
            run_start = at;
        }
        if (end == IO_OK && plain == 0 && !is_clean(line)) {
            end = io_write(s, bytes(piece.p + run_start, at - run_start), deadline);
            if (end == IO_OK)
                end = write_mended(e, s, line, deadline);
            run_start = at + line.n;
        }
        e->is_inside_line = line.p[line.n - 1] != '\n';
        at += line.n;
    }
    if (end == IO_OK)
        end = io_write(s, bytes(piece.p + run_start, piece.n - run_start), deadline);
    return end;
}

co_fn enum io_end smtp_data_encode_end(struct smtp_data_encoder *e, struct io_stream *s, uint64_t deadline)
{
    return io_write(s, e->is_inside_line ? BYTES("\r\n.\r\n") : BYTES(".\r\n"), deadline);
}
