/*
 * A client's conversation with an SMTP or LMTP server. See smtp.h.
 *
 * What the server says is data: bounded, masked, never parsed again. A line that is not "ddd[- ]text" spoils
 * the reply (code 0) without ending the reading of it, so a caller can never show it to anybody as an SMTP
 * reply.
 */
#include "smtp.h"

#include "clock.h"
#include "mem.h"

#include <stdarg.h>

enum { GARBAGE_SHOWN = 100 };

static int destroy(struct smtp_client *c)
{
    buf_deinit(&c->text);
    buf_deinit(&c->long_line);
    return 0;
}

struct smtp_client *smtp_client_new(const void *ctx, struct io_stream *stream, const char *peer)
{
    struct smtp_client *c = mem_new(ctx, struct smtp_client);

    talloc_set_destructor(c, destroy);
    c->stream = talloc_steal(c, stream);
    c->peer = mem_strdup(c, peer);
    return c;
}

/* ---- replies ---- */

static void mask(char *text, size_t n)
{
    for (size_t i = 0; i < n; i++)
        text[i] = ascii_is_print((unsigned char)text[i]) ? text[i] : '?';
}

static const char *garbage(struct smtp_client *c, struct bytes line)
{
    size_t n = line.n < GARBAGE_SHOWN ? line.n : GARBAGE_SHOWN;
    char *copy = bytes_dup(c, bytes(line.p, n));

    mask(copy, n);
    return copy;
}

struct reading {
    int code;
    bool is_garbage;
    size_t lines;
};

/* 200..599 when the line begins with "ddd", "ddd " or "ddd-"; else 0. */
static int code_of(struct bytes line)
{
    if (line.n < 3 || line.p[0] < '2' || line.p[0] > '5' || !ascii_is_digit(line.p[1]) ||
        !ascii_is_digit(line.p[2]) || (line.n > 3 && line.p[3] != ' ' && line.p[3] != '-'))
        return 0;
    return (line.p[0] - '0') * 100 + (line.p[1] - '0') * 10 + line.p[2] - '0';
}

/* "ddd", "ddd text" or "ddd-text"; true when it ends the reply. */
static bool take_line(struct smtp_client *c, struct reading *r, struct bytes line)
{
    int code = code_of(line);
    bool is_last = code != 0 && (line.n == 3 || line.p[3] == ' ');

    if (code == 0 || (r->lines > 0 && r->code != 0 && r->code / 100 != code / 100)) {
        r->is_garbage = true;
        c->garbage = garbage(c, line);
    }
    if (code != 0)
        line = bytes_skip(line, 4);
    if (r->lines++ > 0)
        buf_addc(&c->text, '\n');
    buf_add(&c->text, line);
    mask(c->text.p + c->text.n - line.n, line.n);
    if (code != 0)
        r->code = code;
    return is_last;
}

co_fn enum io_end smtp_client_read_reply(struct smtp_client *c, uint64_t deadline)
{
    struct reading r = {0};
    enum io_end end;
    bool is_last = false;
    struct bytes line;

    c->reply = (struct smtp_reply){0};
    buf_cut(&c->text, 0);
    c->garbage = NULL;
    while (!is_last) {
        end = smtp_read_reply_line(c->stream, SMTP_REPLY_LINE_LIMIT, deadline, &c->long_line, &line);
        if (end != IO_OK || r.lines == SMTP_REPLY_LINES || c->text.n + line.n > SMTP_REPLY_LIMIT)
            return end == IO_OK ? IO_FULL : end;
        is_last = take_line(c, &r, line);
    }
    c->reply.code = r.is_garbage ? 0 : r.code;
    c->reply.text = buf_text(&c->text);
    return IO_OK;
}

/* ---- commands ---- */

co_fn enum io_end smtp_client_send(struct smtp_client *c, struct bytes line, uint64_t deadline)
{
    enum io_end end = io_write(c->stream, line, deadline);

    return end == IO_OK ? io_write(c->stream, BYTES("\r\n"), deadline) : end;
}

co_fn enum io_end smtp_client_command(struct smtp_client *c, struct bytes line, uint64_t deadline)
{
    enum io_end end = smtp_client_send(c, line, deadline);

    if (end == IO_OK)
        end = io_flush(c->stream, deadline);
    return end == IO_OK ? smtp_client_read_reply(c, deadline) : end;
}

co_fn enum io_end smtp_client_commandf(struct smtp_client *c, uint64_t deadline, const char *fmt, ...)
{
    va_list args;
    char *line;
    enum io_end end;

    va_start(args, fmt);
    line = mem_vprintf(c, fmt, args);
    va_end(args);
    end = smtp_client_command(c, bytes_of(line), deadline);
    talloc_free(line);
    return end;
}

co_fn enum io_end smtp_client_greeting(struct smtp_client *c, uint64_t deadline)
{
    return smtp_client_read_reply(c, deadline);
}

/* ---- features ---- */

/* One line of an EHLO reply: keyword and its parameters, without case, in any place. */
static void take_feature(struct smtp_client *c, struct bytes line)
{
    struct bytes rest = line;
    struct bytes word = bytes_word(&rest, " \t=");
    struct bytes unknown;
    unsigned feature = smtp_features_parse(word, &unknown) & ~(unsigned)SMTP_SILENT_DISCARD;

    c->features |= feature;
    rest = bytes_trim(rest);
    if (feature == SMTP_SIZE)
        bytes_to_u64(rest, INT64_MAX, &c->size_limit);
    if (feature == SMTP_XFORWARD)
        c->xforward = smtp_xforward_parse_names(rest);
}

static co_fn enum io_end hello(struct smtp_client *c, const char *verb, const char *name, uint64_t deadline)
{
    enum io_end end = smtp_client_commandf(c, deadline, "%s %s", verb, name);

    c->features = 0;
    c->size_limit = 0;
    c->xforward = 0;
    return end;
}

co_fn enum io_end smtp_client_ehlo(struct smtp_client *c, const char *name, uint64_t deadline)
{
    enum io_end end = hello(c, c->is_lmtp ? "LHLO" : "EHLO", name, deadline);
    struct bytes rest;

    if (end != IO_OK || c->reply.code / 100 != 2)
        return end;
    rest = bytes_of(c->reply.text);
    bytes_cut(&rest, '\n'); /* the server's name */
    while (rest.n > 0)
        take_feature(c, bytes_cut(&rest, '\n'));
    return IO_OK;
}

co_fn enum io_end smtp_client_helo(struct smtp_client *c, const char *name, uint64_t deadline)
{
    return hello(c, "HELO", name, deadline);
}

/* ---- leaving ---- */

enum { QUIT_TIME_LIMIT_MS = 1000 };

co_fn void smtp_client_quit(struct smtp_client **c)
{
    uint64_t deadline = clock_ms() + QUIT_TIME_LIMIT_MS;

    if (*c == NULL)
        return;
    if (smtp_client_send(*c, BYTES("QUIT"), deadline) == IO_OK)
        io_flush((*c)->stream, deadline);
    smtp_client_close(c);
}

void smtp_client_close(struct smtp_client **c)
{
    talloc_free(*c);
    *c = NULL;
}
