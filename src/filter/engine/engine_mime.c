/*
 * The MIME walk. Two layers: bytes become lines (or parts of long lines), then lines become headers and body.
 *
 * Memory is bounded by header_limit + 2 * line_limit + nesting * line_limit, whatever comes in.
 */
#include "engine_mime.h"

#include "mail_header.h"
#include "mem.h"

#include <stdlib.h>

enum { TYPE_OTHER, TYPE_MULTIPART, TYPE_MESSAGE };

struct engine_mime_boundary {
    struct engine_mime_boundary *outer;
    int part_type; /* of parts without Content-Type */
    size_t n;
    char text[];
};

/* ---- Content-Type, RFC 2045 5.1 ---- */

/* Blanks, line ends and comments (RFC 5322 3.2.2); an unfinished comment reaches to the end. */
static void skip_cfws(struct bytes *b)
{
    int depth = 0;

    while (b->n > 0) {
        char c = b->p[0];

        if (c == '(')
            depth++;
        else if (c == ')' && depth > 0)
            depth--;
        else if (c == '\\' && depth > 0 && b->n > 1)
            *b = bytes_skip(*b, 1);
        else if (depth == 0 && !ascii_is_blank(c) && c != '\n')
            return;
        *b = bytes_skip(*b, 1);
    }
}

static bool is_token_char(unsigned char c)
{
    return c > 32 && c != 127 && strchr("()<>@,;:\\\"/[]?=", c) == NULL;
}

static struct bytes take_token(struct bytes *b)
{
    struct bytes token = {b->p, 0};

    while (token.n < b->n && is_token_char((unsigned char)b->p[token.n]))
        token.n++;
    *b = bytes_skip(*b, token.n);
    skip_cfws(b);
    return token;
}

/* A quoted string without its quotes and backslashes, or a token; readers take more than RFC 2045 allows in
 * an unquoted boundary, so everything up to a blank or semicolon is taken here. */
static void take_value(struct bytes *b, struct buf *out)
{
    bool is_quoted = b->n > 0 && b->p[0] == '"';

    if (is_quoted)
        *b = bytes_skip(*b, 1);
    while (b->n > 0) {
        char c = b->p[0];

        if (is_quoted ? c == '"' : ascii_is_blank(c) || c == ';' || c == '\n')
            break;
        if (is_quoted && c == '\\' && b->n > 1)
            *b = bytes_skip(*b, 1);
        if (b->p[0] != '\n')
            buf_addc(out, b->p[0]);
        *b = bytes_skip(*b, 1);
    }
    if (is_quoted)
        *b = bytes_skip(*b, 1);
    skip_cfws(b);
}

/* The boundary parameter; empty when there is none. */
static void take_boundary(struct bytes params, struct buf *out)
{
    while (bytes_chr(params, ';') != SIZE_MAX) {
        struct bytes name;

        params = bytes_skip(params, bytes_chr(params, ';') + 1);
        skip_cfws(&params);
        name = take_token(&params);
        if (params.n == 0 || params.p[0] != '=')
            continue;
        params = bytes_skip(params, 1);
        skip_cfws(&params);
        buf_cut(out, 0);
        take_value(&params, out);
        if (bytes_ieq(name, BYTES("boundary")))
            return;
    }
    buf_cut(out, 0);
}

static void push_boundary(struct engine_mime *m, struct bytes text, int part_type)
{
    struct engine_mime_boundary *b;

    /* A line is seen in parts of limits.line bytes, so no longer boundary could be found in one. */
    if (text.n > m->limits.line - 2)
        text.n = m->limits.line - 2;
    if (text.n == 0)
        return;
    if (m->depth >= m->limits.nesting) {
        m->is_too_deep = true;
        return;
    }
    b = mem_malloc(sizeof(*b) + text.n);
    *b = (struct engine_mime_boundary){.outer = m->innermost, .part_type = part_type, .n = text.n};
    memcpy(b->text, text.p, text.n);
    m->innermost = b;
    m->depth++;
}

static void pop_boundary(struct engine_mime *m)
{
    struct engine_mime_boundary *b = m->innermost;

    m->innermost = b->outer;
    m->depth--;
    free(b);
}

static void learn_type(struct engine_mime *m, struct bytes header)
{
    struct bytes rest = bytes_skip(header, bytes_chr(header, ':') + 1);
    struct bytes type, subtype = {"", 0};
    struct buf boundary = {0};

    skip_cfws(&rest);
    type = take_token(&rest);
    if (rest.n > 0 && rest.p[0] == '/') {
        rest = bytes_skip(rest, 1);
        skip_cfws(&rest);
        subtype = take_token(&rest);
    }
    m->type = TYPE_OTHER;
    if (bytes_ieq(type, BYTES("multipart"))) {
        m->type = TYPE_MULTIPART;
        take_boundary(rest, &boundary);
        push_boundary(m, buf_bytes(&boundary),
                      bytes_ieq(subtype, BYTES("digest")) ? TYPE_MESSAGE : TYPE_OTHER);
    } else if (bytes_ieq(type, BYTES("message")) &&
               (bytes_ieq(subtype, BYTES("rfc822")) || bytes_ieq(subtype, BYTES("global")))) {
        m->type = TYPE_MESSAGE;
    }
    buf_deinit(&boundary);
}

/* ---- lines become headers and body ---- */

static bool is_mime_header(struct bytes name)
{
    static const char *const names[] = {"Content-Type",        "Content-Transfer-Encoding",
                                        "Content-Disposition", "Content-Description",
                                        "Content-ID",          "MIME-Version"};

    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
        if (bytes_ieq(name, bytes_of(names[i])))
            return true;
    return false;
}

/* Reports the field that was gathered; it reaches to `to`. */
static co_fn void end_field(struct engine_mime *m, uint64_t to)
{
    struct engine_mime_header h = {
        .kind = m->kind, .text = buf_bytes(&m->field), .from = m->field_from, .to = to};
    struct bytes name;

    if (!m->has_field)
        return;
    m->has_field = false;
    name = mail_header_name(h.text);
    if (!m->limits.is_flat && is_mime_header(name)) {
        h.kind = ENGINE_MIME_MULTIPART;
        if (bytes_ieq(name, BYTES("Content-Type")))
            learn_type(m, h.text);
    }
    m->header(m->arg, &h);
    buf_cut(&m->field, 0);
}

static void begin_header(struct engine_mime *m, enum engine_mime_kind kind, int type)
{
    m->is_body = false;
    m->kind = kind;
    m->type = type;
}

static void begin_body(struct engine_mime *m)
{
    m->is_body = true;
    m->part_offset = 0;
}

/* The beginning of a header, cut to the limit. */
static void gather(struct engine_mime *m, struct bytes text)
{
    size_t room = m->limits.header > m->field.n ? m->limits.header - m->field.n : 0;

    buf_add(&m->field, bytes(text.p, text.n < room ? text.n : room));
}

/* The first line of a field. Blanks before its colon (RFC 5322 4.5) are no way round a table. */
static void gather_first(struct engine_mime *m, struct bytes text)
{
    struct bytes name = mail_header_name(text);

    gather(m, name);
    gather(m, bytes_skip(text, bytes_chr(text, ':')));
}

/* RFC 2046 5.1.1: "--boundary" starts a part, "--boundary--" ends the last. The inner ones end with the
 * outer. */
static bool is_boundary(struct engine_mime *m, struct bytes line)
{
    struct engine_mime_boundary *b;
    struct bytes after;

    if (!bytes_has_prefix(line, BYTES("--")))
        return false;
    line = bytes_skip(line, 2);
    for (b = m->innermost; b != NULL; b = b->outer)
        if (bytes_has_prefix(line, bytes(b->text, b->n)))
            break;
    if (b == NULL)
        return false;
    while (m->innermost != b)
        pop_boundary(m);
    after = bytes_skip(line, b->n);
    if (bytes_has_prefix(after, BYTES("--"))) {
        pop_boundary(m);
        begin_body(m);
    } else {
        begin_header(m, ENGINE_MIME_MULTIPART, b->part_type);
    }
    return true;
}

static co_fn void body_line(struct engine_mime *m, struct engine_mime_body *b)
{
    b->part_offset = m->part_offset;
    m->part_offset += b->text.n;
    if (b->is_first && is_boundary(m, b->text))
        b->part_offset = 0;
    m->body(m->arg, b);
}

/* The empty line after a header. What it describes begins: a message has a header of its own. */
static co_fn void end_header(struct engine_mime *m, const struct engine_mime_body *b)
{
    end_field(m, b->from);
    if (m->type == TYPE_MESSAGE && !m->limits.is_flat)
        begin_header(m, ENGINE_MIME_NESTED, TYPE_OTHER);
    else
        begin_body(m);
}

static co_fn void header_line(struct engine_mime *m, struct engine_mime_body *b)
{
    bool is_continued = m->has_field && (!b->is_first || (b->text.n > 0 && ascii_is_blank(b->text.p[0])));

    if (is_continued) {
        if (b->is_first)
            gather(m, BYTES("\n"));
        gather(m, b->text);
    } else if (b->is_first && b->is_last && b->text.n == 0) {
        end_header(m, b);
    } else if (b->is_first && mail_header_name(b->text).n > 0) {
        end_field(m, b->from);
        m->has_field = true;
        m->field_from = b->from;
        gather_first(m, b->text);
    } else {
        end_field(m, b->from);
        begin_body(m);
        body_line(m, b);
    }
}

/* ---- bytes become lines ---- */

/* Text of a line, or a part of it; `raw` bytes of content with its line end. */
static co_fn void line(struct engine_mime *m, struct bytes text, bool is_last, size_t raw)
{
    struct engine_mime_body b = {.text = text,
                                 .from = m->offset,
                                 .to = m->offset + raw,
                                 .is_first = !m->is_inside_line,
                                 .is_last = is_last};

    m->offset = b.to;
    m->is_inside_line = !is_last;
    if (m->is_body)
        body_line(m, &b);
    else
        header_line(m, &b);
}

static struct bytes without_line_end(struct bytes raw)
{
    if (raw.n > 0 && raw.p[raw.n - 1] == '\n')
        raw.n--;
    if (raw.n > 0 && raw.p[raw.n - 1] == '\r')
        raw.n--;
    return raw;
}

/* Reports what is held beyond one part; a CR may be half of a line end and stays. */
static co_fn void report_parts(struct engine_mime *m)
{
    size_t limit = m->limits.line;

    while (m->line.n > limit + 1 || (m->line.n == limit + 1 && m->line.p[limit] != '\r')) {
        line(m, bytes(m->line.p, limit), false, limit);
        buf_drop(&m->line, limit);
    }
}

/* Adds text without LF to the held line, in steps, so that a line of any length takes two parts of memory. */
static co_fn void hold(struct engine_mime *m, struct bytes text)
{
    while (text.n > 0) {
        size_t step = text.n < m->limits.line ? text.n : m->limits.line;

        buf_add(&m->line, bytes(text.p, step));
        text = bytes_skip(text, step);
        report_parts(m);
    }
}

co_fn void engine_mime_feed(struct engine_mime *m, struct bytes piece)
{
    while (piece.n > 0) {
        const char *lf = memchr(piece.p, '\n', piece.n);
        struct bytes raw = bytes(piece.p, lf != NULL ? (size_t)(lf - piece.p) + 1 : piece.n);
        struct bytes text = without_line_end(raw);

        piece = bytes_skip(piece, raw.n);
        if (lf != NULL && m->line.n == 0 && text.n <= m->limits.line) {
            line(m, text, true, raw.n);
            continue;
        }
        hold(m, bytes(raw.p, lf != NULL ? raw.n - 1 : raw.n));
        if (lf != NULL) {
            text = without_line_end(buf_bytes(&m->line));
            line(m, text, true, m->line.n + 1);
            buf_cut(&m->line, 0);
        }
    }
}

co_fn void engine_mime_end(struct engine_mime *m)
{
    if (m->line.n > 0) {
        line(m, buf_bytes(&m->line), true, m->line.n);
        buf_cut(&m->line, 0);
    }
    end_field(m, m->offset);
}

void engine_mime_deinit(struct engine_mime *m)
{
    while (m->innermost != NULL)
        pop_boundary(m);
    buf_deinit(&m->field);
    buf_deinit(&m->line);
}
