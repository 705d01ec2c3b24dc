/*
 * The SMTP protocol, both ends, without policy: grammar, replies, the DATA and BDAT codec, XFORWARD, a
 * channel that reads lines with limits, and a client's conversation.
 */
#ifndef SMTP_SMTP_H
#define SMTP_SMTP_H

#include "buf.h"
#include "io.h"
#include "mail.h"

/* ---- extensions, RFC 1869; those a peer announced and those we announce ---- */

enum smtp_feature {
    SMTP_PIPELINING = 1 << 0,
    SMTP_SIZE = 1 << 1,
    SMTP_VRFY = 1 << 2,
    SMTP_ETRN = 1 << 3,
    SMTP_STARTTLS = 1 << 4,
    SMTP_AUTH = 1 << 5,
    SMTP_XFORWARD = 1 << 6,
    SMTP_XCLIENT = 1 << 7,
    SMTP_ENHANCEDSTATUSCODES = 1 << 8,
    SMTP_8BITMIME = 1 << 9,
    SMTP_DSN = 1 << 10,
    SMTP_SMTPUTF8 = 1 << 11,
    SMTP_CHUNKING = 1 << 12,
    SMTP_VERP = 1 << 13,
    SMTP_REQUIRETLS = 1 << 14,
    SMTP_SILENT_DISCARD = 1 << 30,
};
/* A list as in smtpd_discard_ehlo_keywords ("8bitmime, dsn silent-discard"). Unknown words: in *unknown_r
 * (borrowed from list, empty when none). */
unsigned smtp_features_parse(struct bytes list, struct bytes *unknown_r);

/* ---- grammar ---- */

/* "MAIL FROM:<a> SIZE=1" cut into its verb and the rest (leading blanks gone). */
struct smtp_line {
    struct bytes whole;
    struct bytes verb;
    struct bytes rest;
};
struct smtp_line smtp_line_parse(struct bytes line);

/* Parses the rest of MAIL or RCPT. On failure the reply to send is in *why_r and false is returned.
 * `features` are those announced to this client: a parameter of another one is "555 5.5.4 Unsupported
 * option". */
struct smtp_parse_rules {
    unsigned features;
    bool strict;         /* strict_rfc821_envelopes */
    uint64_t size_limit; /* message_size_limit; 0: none */
};
bool smtp_parse_mail(const void *ctx, const struct smtp_line *line, const struct smtp_parse_rules *rules,
                     struct mail_envelope *out_r, struct mail_reply *why_r);
bool smtp_parse_rcpt(const void *ctx, const struct smtp_line *line, const struct smtp_parse_rules *rules,
                     bool smtputf8, struct mail_rcpt *out_r, struct mail_reply *why_r);

/* xchar, RFC 3461 4: what xtext leaves as it is. */
static inline bool smtp_is_xchar(unsigned char c)
{
    return c > 32 && c < 127 && c != '+' && c != '=';
}
/* xtext, RFC 3461 4: encode appends; decode returns NULL on malformed text. */
void smtp_xtext_encode(struct buf *out, struct bytes text);
char *smtp_xtext_decode(const void *ctx, struct bytes text);
bool smtp_xtext_decode_to(char *out, struct bytes text); /* text.n + 1 bytes */

/* ---- replies ---- */

/* "250-2.1.0 one\r\n250 2.1.0 two\r\n"; control characters in the text become '?'. */
void smtp_reply_format(struct buf *out, const struct mail_reply *r);

/* A reply as another server sent it. */
struct smtp_reply {
    int code; /* 200..599, of the last line */
    const char
        *text; /* all lines, '\n' between, each without code and separator; masked to printable ASCII */
};
enum { SMTP_REPLY_LINE_LIMIT = 2048, SMTP_REPLY_LIMIT = 16384, SMTP_REPLY_LINES = 100 };

/* ---- end of data: the one place where wire bytes become content, and content wire bytes (DESIGN section 5)
 * ---- */

enum smtp_bare_newline {
    SMTP_BARE_NEWLINE_NORMALIZE, /* LF alone ends a line of content, never the data */
    SMTP_BARE_NEWLINE_REJECT,    /* counted; the session answers 550 at the end */
    SMTP_BARE_NEWLINE_NOTE,      /* as normalize, and logged */
};
/* RFC 5321 4.5.2 backwards. Zeroed memory with `bare` set is a decoder at the start of data. */
struct smtp_data_decoder {
    enum smtp_bare_newline bare;
    int state;
    bool has_bare_lf; /* a LF without CR was seen */
    bool has_bare_cr;
    bool is_end;
};
/*
 * Decodes from `in`; content is appended to `out` (dots unstuffed; CR LF at each line's end; a lone CR
 * becomes a space, a lone LF becomes CR LF). Returns how much of `in` was used; less than all only when the
 * end was reached (d->is_end). At most in.n + 4 bytes are appended.
 */
size_t smtp_data_decode(struct smtp_data_decoder *d, struct bytes in, struct buf *out);
/* The same line-end rules for a BDAT chunk, which has no dots and no end marker. `is_last`: nothing follows;
 * content that does not end in CR LF gets one. */
void smtp_bdat_decode(struct smtp_data_decoder *d, struct bytes in, bool is_last, struct buf *out);

/* Content to wire: dots stuffed. Zeroed memory is an encoder at the start. */
struct smtp_data_encoder {
    bool is_inside_line;
    bool holds_cr; /* the last piece ended in CR: what it is, the next byte tells */
};
/* Writes the piece through the stream. */
co_fn enum io_end smtp_data_encode(struct smtp_data_encoder *e, struct io_stream *s, struct bytes piece,
                                   uint64_t deadline);
/* ".\r\n", after a CR LF if the last line lacks it. Not flushed. */
co_fn enum io_end smtp_data_encode_end(struct smtp_data_encoder *e, struct io_stream *s, uint64_t deadline);

/* ---- XFORWARD ---- */

enum smtp_xforward_name {
    SMTP_XFORWARD_NAME,
    SMTP_XFORWARD_ADDR,
    SMTP_XFORWARD_PORT,
    SMTP_XFORWARD_HELO,
    SMTP_XFORWARD_IDENT,
    SMTP_XFORWARD_PROTO,
    SMTP_XFORWARD_SOURCE,
    SMTP_XFORWARD_RETRY, /* Sallyport's */
    SMTP_XFORWARD_COUNT,
};
/* "NAME ADDR PROTO" of an EHLO line as bits (1 << SMTP_XFORWARD_NAME...). Unknown words are passed over. */
unsigned smtp_xforward_parse_names(struct bytes list);
/* One XFORWARD command's arguments into *f (texts live as long as ctx). The first command of a series presets
 * all to unknown: the caller clears *f then. False: *why_r is the 501. */
bool smtp_xforward_parse(const void *ctx, struct bytes args, struct mail_forward *f,
                         struct mail_reply *why_r);
/* Appends the command lines (each with CR LF) that tell f to a server that takes `names`; 498 bytes of
 * payload each. What is unknown is told as such, but RETRY only when there is one. */
void smtp_xforward_format(struct buf *out, const struct mail_forward *f, unsigned names);

/* ---- channel: command lines and replies over a stream ---- */

/* Waits until a line, or more than `limit` bytes of one (IO_FULL), is there, and leaves it there. */
co_fn enum io_end smtp_await_line(struct io_stream *s, size_t limit, uint64_t deadline);
/*
 * Reads one line ending in LF (CR before it is removed; *bare_lf_r tells when it was missing). The line is
 * borrowed until the next read. IO_FULL: it was longer than `limit` and is gone; IO_RESET: it went on for 64
 * KB more.
 */
co_fn enum io_end smtp_read_line(struct io_stream *s, size_t limit, uint64_t deadline, struct bytes *line_r,
                                 bool *bare_lf_r);
/* The same for a line of a reply, of which something is better than nothing: of one that is longer than
 * `limit` that many bytes, kept in *start, are *line_r, and the rest is gone. */
co_fn enum io_end smtp_read_reply_line(struct io_stream *s, size_t limit, uint64_t deadline,
                                       struct buf *start, struct bytes *line_r);

/* ---- client ---- */

/*
 * A conversation with another server (or LMTP server). Each call has an absolute deadline. After an end other
 * than IO_OK the connection is useless; smtp_client_close() it.
 */
struct smtp_client {
    struct io_stream *stream; /* owned */
    char *peer;               /* "127.0.0.1:10025", for the log */
    unsigned features;        /* of the last EHLO */
    uint64_t size_limit;      /* of SIZE; 0: not told */
    unsigned xforward;        /* names of its XFORWARD line */
    struct smtp_reply reply;  /* the last one; its text stands in `text` until the next */
    struct buf text, long_line;
    const char *garbage; /* the last line that was not "ddd[- ]", or NULL: then reply.code is 0 */
    bool is_lmtp;
};
/* Over a connected stream, which it takes. */
struct smtp_client *smtp_client_new(const void *ctx, struct io_stream *stream, const char *peer);
/* Waits for the greeting; reply.code tells. */
co_fn enum io_end smtp_client_greeting(struct smtp_client *c, uint64_t deadline);
co_fn enum io_end smtp_client_ehlo(struct smtp_client *c, const char *name, uint64_t deadline);
co_fn enum io_end smtp_client_helo(struct smtp_client *c, const char *name, uint64_t deadline);
/* Sends one line and waits for its reply. */
co_fn enum io_end smtp_client_command(struct smtp_client *c, struct bytes line, uint64_t deadline);
co_fn enum io_end smtp_client_commandf(struct smtp_client *c, uint64_t deadline, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* Puts a line in the buffer; the reply is read later (pipelining). */
co_fn enum io_end smtp_client_send(struct smtp_client *c, struct bytes line, uint64_t deadline);
co_fn enum io_end smtp_client_read_reply(struct smtp_client *c, uint64_t deadline);
/* QUIT without waiting for its reply, then closes. NULLs. */
co_fn void smtp_client_quit(struct smtp_client **c);
/* Closes at once: inside DATA this is the only right way out, so that nothing is taken for a message. NULLs.
 */
void smtp_client_close(struct smtp_client **c);

#endif
