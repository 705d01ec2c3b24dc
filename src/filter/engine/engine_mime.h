/*
 * A walk through content that tells headers from body, as Postfix's MIME processor sees them: multipart
 * boundaries, message/rfc822 attachments whose headers are headers again, folded headers in one piece, long
 * lines in parts.
 *
 * It reads and reports; it changes nothing and decides nothing. RFC 5322 2.2, RFC 2045 5, RFC 2046 5.1
 * and 5.2. Broken MIME is no error: what has no shape is body. A boundary is recognized by its prefix and at
 * any depth, and every Content-Type of a header counts, because mail readers disagree on which of two is
 * meant.
 */
#ifndef FILTER_ENGINE_MIME_H
#define FILTER_ENGINE_MIME_H

#include "buf.h"
#include "co.h"

#include <stdint.h>

enum engine_mime_kind {
    ENGINE_MIME_PRIMARY,   /* the message's own header */
    ENGINE_MIME_MULTIPART, /* of a part; or a MIME header (Content-Type, MIME-Version...) anywhere */
    ENGINE_MIME_NESTED,    /* of an attached message */
};

struct engine_mime_header {
    enum engine_mime_kind kind;
    struct bytes text; /* name, colon, value; lines separated by '\n'; at most header_limit bytes of it */
    uint64_t from, to; /* where it stands in the content, with its last CR LF, in full */
};

struct engine_mime_body {
    struct bytes text;      /* a line without CR LF, or a part of one of line_limit bytes */
    uint64_t part_offset;   /* bytes of text before it in this body part */
    uint64_t from, to;      /* with CR LF when it is the line's last part */
    bool is_first, is_last; /* part of its line */
};

struct engine_mime_limits {
    size_t header;  /* header_size_limit */
    size_t line;    /* line_length_limit */
    size_t nesting; /* mime_nesting_limit: boundaries known at a time */
    bool is_flat;   /* disable_mime_input_processing: one header, one body */
};

/* Zeroed memory with the first four members set is a walk at the start. */
struct engine_mime {
    struct engine_mime_limits limits;
    co_fn void (*header)(void *arg, const struct engine_mime_header *h);
    co_fn void (*body)(void *arg, const struct engine_mime_body *b);
    void *arg;

    bool is_body;
    bool is_inside_line;        /* a part of the present line was reported */
    bool is_too_deep;           /* a boundary beyond limits.nesting was not learned */
    enum engine_mime_kind kind; /* of the header we are in */
    int type;                   /* what follows this header: enum in engine_mime.c */
    uint64_t offset;            /* of the first byte not yet reported or held */
    uint64_t part_offset;
    uint64_t field_from;
    bool has_field;
    struct buf field; /* the header field being gathered */
    struct buf line;  /* the line being gathered */
    struct engine_mime_boundary *innermost;
    size_t depth;
};

co_fn void engine_mime_feed(struct engine_mime *m, struct bytes piece);
/* The content ended: reports what is held. */
co_fn void engine_mime_end(struct engine_mime *m);
void engine_mime_deinit(struct engine_mime *m);

/* No header can come any more: body to the end, without boundaries. */
static inline bool engine_mime_is_plain(const struct engine_mime *m)
{
    return m->is_body && m->innermost == NULL;
}

#endif
