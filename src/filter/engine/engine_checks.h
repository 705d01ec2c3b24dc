/*
 * header_checks, mime_header_checks, nested_header_checks and body_checks: one line at a time, without
 * streams.
 *
 * The content filter runs this over a spool (engine_checks_scan.c); cleanup behind the after-filter server
 * runs the same over the lines that it writes anyway. Whoever walks asks engine_checks_line() for each
 * logical header and each body line, and does what it says. What concerns the whole message gathers in the
 * result. header_checks(5).
 */
#ifndef FILTER_ENGINE_CHECKS_H
#define FILTER_ENGINE_CHECKS_H

#include "engine.h"
#include "engine_mime.h"
#include "table.h"

enum engine_checks_part {
    ENGINE_CHECKS_HEADER, /* in the order of enum engine_mime_kind */
    ENGINE_CHECKS_MIME_HEADER,
    ENGINE_CHECKS_NESTED_HEADER,
    ENGINE_CHECKS_BODY,
    ENGINE_CHECKS_PARTS,
};

/* "header_checks", ... */
const char *engine_checks_param(enum engine_checks_part part);

/* What is asked, the same for all messages of a worker. */
struct engine_checks {
    co_fn enum table_end (*find)(void *arg, enum engine_checks_part part, const void *ctx, struct bytes text,
                                 char **value_r);
    void *arg;
    bool has[ENGINE_CHECKS_PARTS]; /* a part that has no table is never asked */
    size_t body_limit;             /* body_checks_size_limit, of each body part; 0: none */
    struct engine_mime_limits limits;
};

/* Opens the tables that conf names. Without any, has[] is all false. */
struct error *engine_checks_open(const void *ctx, const struct conf *conf, struct engine_checks **checks_r);
bool engine_checks_is_needed(const struct engine_checks *checks);

/* One message. `result` gathers hold, redirect, filter, bcc, and the outcome. */
struct engine_checks_run {
    const struct engine_checks *checks;
    void *ctx; /* of the message; the result's texts live there */
    const struct mail_client *client;
    const struct mail_envelope *envelope;
    struct engine_result *result;
    bool is_done;  /* REJECT, DISCARD, PASS or a fault: nothing more is asked */
    void *scratch; /* texts of the last line; a child of ctx. NULL at the start */
};

enum engine_checks_verdict { ENGINE_CHECKS_KEEP, ENGINE_CHECKS_DROP, ENGINE_CHECKS_REPLACE };

struct engine_checks_line {
    enum engine_checks_verdict verdict;
    /* Lines without line end, separated by '\n' (a replaced header may be folded); NULL: none. Borrowed until
     * the next line of this run: a body of millions of lines takes no memory. */
    const char *replace;
    const char *prepend;
};

/*
 * What the tables say about a header (lines separated by '\n') or a body line. Logs what was done. A table
 * that cannot be read ends the message with 451 4.3.0. The body's size limit is the caller's:
 * engine_checks_wants_body(). Tables see the text without its NULs, which mail readers do not show either.
 */
co_fn struct engine_checks_line engine_checks_line(struct engine_checks_run *run,
                                                   enum engine_checks_part part, struct bytes text);

/* Whether a body line that starts at this offset of its part is still looked at. */
static inline bool engine_checks_wants_body(const struct engine_checks *c, uint64_t part_offset)
{
    return c->has[ENGINE_CHECKS_BODY] && (c->body_limit == 0 || part_offset < c->body_limit);
}

/* ---- a walk that makes edits of the verdicts ---- */

/*
 * Feed content with engine_mime_feed(&w.mime, ...), end it with engine_mime_end(&w.mime). Each change is told
 * in order: bytes from..to of the content give way to `text` (complete lines with CR LF, or nothing).
 */
struct engine_checks_walk {
    struct engine_mime mime;
    struct engine_checks_run *run;
    co_fn void (*edit)(void *arg, uint64_t from, uint64_t to, struct bytes text);
    void *arg;
    bool is_line_kept; /* some part of the present long line stays, so its line end stays */
};
void engine_checks_walk_init(struct engine_checks_walk *w, struct engine_checks_run *run,
                             void (*edit)(void *arg, uint64_t from, uint64_t to, struct bytes text),
                             void *arg);
void engine_checks_walk_deinit(struct engine_checks_walk *w);
/* Nothing that is still to come can be asked about. */
bool engine_checks_walk_is_idle(const struct engine_checks_walk *w);

#endif
