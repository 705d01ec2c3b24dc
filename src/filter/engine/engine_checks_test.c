/*
 * header_checks and body_checks, the line-wise core: each action, each part, folding, MIME structure, limits.
 * Every case runs with the content in one piece and cut at each byte, with the same bytes and the same log as
 * the result.
 */
#include "engine_checks.h"

#include "log.h"
#include "mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { ANY_HEADER = -1, RULES = 4 };

struct rule {
    int part;           /* enum engine_checks_part, or ANY_HEADER */
    const char *needle; /* the text holds this */
    const char *value;  /* NULL: the table fails */
};

struct checks_case {
    const char *name;
    struct rule rules[RULES];
    const char *input;
    const char *output; /* NULL: no edit at all */
    const char *log;    /* lines, each ended by '\n'; NULL: none */
    struct engine_limits {
        size_t header, line, nesting, body;
        bool is_flat;
    } limits;
};

#define TAIL " from mx.example[192.0.2.1]; from=<s@a.test> to=<r@b.test> proto=ESMTP helo=<mx>"

static co_fn enum table_end find(void *arg, enum engine_checks_part part, const void *ctx, struct bytes text,
                                 char **value_r)
{
    const struct checks_case *c = arg;

    for (size_t i = 0; i < RULES && c->rules[i].needle != NULL; i++) {
        const struct rule *r = &c->rules[i];
        bool is_part = r->part == ANY_HEADER ? part != ENGINE_CHECKS_BODY : r->part == (int)part;

        if (!is_part || bytes_find(text, bytes_of(r->needle)) == SIZE_MAX)
            continue;
        if (r->value == NULL)
            return TABLE_FAILED;
        *value_r = mem_strdup(ctx, r->value);
        return TABLE_FOUND;
    }
    return TABLE_ABSENT;
}

/* ---- one run ---- */

struct outcome {
    struct buf output;
    struct buf log;
    struct bytes input;
    uint64_t done;
    bool has_edit;
    bool was_idle;
    struct engine_result result;
    void *ctx;
};

static void on_edit(void *arg, uint64_t from, uint64_t to, struct bytes text)
{
    struct outcome *o = arg;

    assert_true(o->done <= from && from <= to && to <= o->input.n);
    buf_add(&o->output, bytes(o->input.p + o->done, (size_t)(from - o->done)));
    buf_add(&o->output, text);
    o->done = to;
    o->has_edit = true;
}

static void on_log(const char *line, void *arg)
{
    struct outcome *o = arg;

    buf_addf(&o->log, "%s\n", line);
}

static struct mail_rcpt rcpt = {.addr = "r@b.test"};
static struct mail_rcpt *rcpts[] = {&rcpt};
static const struct mail_client client = {
    .name = "mx.example", .addr = "192.0.2.1", .port = "1", .helo = "mx", .proto = "ESMTP"};
static const struct mail_envelope envelope = {
    .id = "ID", .sender = "s@a.test", .rcpts = rcpts, .rcpt_count = 1};

static struct engine_checks checks_of(const struct checks_case *c)
{
    struct engine_checks checks = {
        .find = find,
        .arg = (void *)c,
        .has = {true, true, true, true},
        .body_limit = c->limits.body,
        .limits = {.header = c->limits.header ? c->limits.header : 102400,
                   .line = c->limits.line ? c->limits.line : 2048,
                   .nesting = c->limits.nesting ? c->limits.nesting : 100,
                   .is_flat = c->limits.is_flat},
    };

    return checks;
}

static void run(const struct checks_case *c, size_t step, struct outcome *o)
{
    struct engine_checks checks = checks_of(c);
    struct engine_checks_run r = {.checks = &checks, .client = &client, .envelope = &envelope};
    struct engine_checks_walk w;

    *o = (struct outcome){.input = bytes_of(c->input), .ctx = talloc_new(NULL)};
    r.ctx = o->ctx;
    r.result = &o->result;
    log_capture(on_log, o);
    engine_checks_walk_init(&w, &r, on_edit, o);
    for (size_t at = 0; at < o->input.n; at += step)
        engine_mime_feed(&w.mime, bytes(o->input.p + at, at + step < o->input.n ? step : o->input.n - at));
    engine_mime_end(&w.mime);
    o->was_idle = engine_checks_walk_is_idle(&w);
    engine_checks_walk_deinit(&w);
    log_capture(NULL, NULL);
    on_edit(o, o->input.n, o->input.n, bytes("", 0));
    buf_addc(&o->log, '\0');
}

static void end(struct outcome *o)
{
    mail_reply_deinit(&o->result.reply);
    buf_deinit(&o->output);
    buf_deinit(&o->log);
    talloc_free(o->ctx);
}

static void check_case(const struct checks_case *c, size_t step)
{
    const char *want = c->output != NULL ? c->output : c->input;
    struct outcome o;

    run(c, step, &o);
    if (strcmp(buf_text(&o.output), want) != 0)
        fail_msg("%s, step %zu:\n--- wanted\n%s\n--- got\n%s", c->name, step, want, buf_text(&o.output));
    if (strcmp(buf_text(&o.log), c->log != NULL ? c->log : "") != 0)
        fail_msg("%s, step %zu, log:\n--- wanted\n%s--- got\n%s", c->name, step, c->log != NULL ? c->log : "",
                 buf_text(&o.log));
    end(&o);
}

#define MULTI                                                                                                \
    "Subject: top\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed;\r\n boundary=\"b "                  \
    "1\"\r\n\r\npreamble\r\n"                                                                                \
    "--b 1\r\nContent-Type: text/plain\r\nX-Part: one\r\n\r\nbody one\r\n"                                   \
    "--b 1\r\nContent-Type: message/rfc822\r\n\r\nSubject: inner\r\nContent-Type: text/html\r\n\r\nbody "    \
    "two\r\n"                                                                                                \
    "--b 1--\r\nepilogue\r\n"

static const struct checks_case cases[] = {
    {"nothing matches", {{ANY_HEADER, "zzz", "REJECT"}}, "A: b\r\n\r\nbody\r\n", NULL, NULL},
    {"empty content", {{ANY_HEADER, "", "IGNORE"}}, "", NULL, NULL},
    {"DUNNO and OK",
     {{ANY_HEADER, "A", "DUNNO"}, {ANY_HEADER, "B", "ok"}},
     "A: 1\r\nB: 2\r\n\r\n",
     NULL,
     NULL},
    {"IGNORE",
     {{0, "B:", "IGNORE"}},
     "A: 1\r\nB: 2\r\n c\r\nC: 3\r\n\r\nx\r\n",
     "A: 1\r\nC: 3\r\n\r\nx\r\n",
     NULL},
    {"STRIP",
     {{0, "B:", "STRIP why"}},
     "A: 1\r\nB: 2\r\n\r\nx\r\n",
     "A: 1\r\n\r\nx\r\n",
     "ID: strip: header B: 2" TAIL ": why\n"},
    {"REPLACE",
     {{0, "B:", "REPLACE C: new"}},
     "A: 1\r\nB: 2\r\n\r\nx\r\n",
     "A: 1\r\nC: new\r\n\r\nx\r\n",
     "ID: replace: header B: 2" TAIL ": C: new\n"},
    {"REPLACE with folds",
     {{0, "B:", "REPLACE C: x\n y\nz"}},
     "B: 2\r\n\r\nx\r\n",
     "C: x\r\n y\r\n\tz\r\n\r\nx\r\n",
     "ID: replace: header B: 2" TAIL ": C: x? y??z\n"},
    {"REPLACE by no header",
     {{0, "B:", "REPLACE just text"}},
     "B: 2\r\n\r\nx\r\n",
     NULL,
     "warning: ID: REPLACE text in header_checks is no \"name: value\" header: \"just text\"\n"},
    {"REPLACE by nothing",
     {{0, "B:", "REPLACE"}},
     "B: 2\r\n\r\nx\r\n",
     NULL,
     "warning: ID: REPLACE without text in header_checks\n"},
    {"PREPEND",
     {{0, "B:", "PREPEND X: y"}},
     "A: 1\r\nB: 2\r\n\r\nx\r\n",
     "A: 1\r\nX: y\r\nB: 2\r\n\r\nx\r\n",
     "ID: prepend: header B: 2" TAIL ": X: y\n"},
    {"PREPEND of no header",
     {{0, "B:", "PREPEND text"}},
     "B: 2\r\n\r\nx\r\n",
     NULL,
     "warning: ID: PREPEND text in header_checks is no \"name: value\" header: \"text\"\n"},
    {"WARN and INFO",
     {{0, "A:", "WARN careful"}, {0, "B:", "INFO"}},
     "A: 1\r\nB: 2\r\n\r\n",
     NULL,
     "ID: warning: header A: 1" TAIL ": careful\nID: info: header B: 2" TAIL "\n"},
    {"folded header is one line",
     {{0, "1\n 2\n\t3", "WARN"}},
     "A: 1\r\n 2\r\n\t3\r\n\r\n",
     NULL,
     "ID: warning: header A: 1? 2??3" TAIL "\n"},
    {"REJECT ends the checks",
     {{0, "A:", "REJECT no thanks"}, {0, "B:", "IGNORE"}},
     "A: 1\r\nB: 2\r\n\r\n",
     NULL,
     "ID: reject: header A: 1" TAIL ": 5.7.1 no thanks\n"},
    {"REJECT without text",
     {{0, "A:", "REJECT"}},
     "A: 1\r\n\r\n",
     NULL,
     "ID: reject: header A: 1" TAIL ": 5.7.1 message content rejected\n"},
    {"REJECT with 4.x.x",
     {{0, "A:", "REJECT 4.7.9 later"}},
     "A: 1\r\n\r\n",
     NULL,
     "ID: reject: header A: 1" TAIL ": 4.7.9 later\n"},
    {"DISCARD ends the checks",
     {{0, "A:", "DISCARD spam"}, {0, "B:", "IGNORE"}},
     "A: 1\r\nB: 2\r\n\r\n",
     NULL,
     "ID: discard: header A: 1" TAIL ": spam\n"},
    {"PASS ends the checks",
     {{0, "A:", "PASS fine"}, {3, "x", "IGNORE"}},
     "A: 1\r\nB: 2\r\n\r\nx\r\n",
     NULL,
     "ID: pass: header A: 1" TAIL ": fine\n"},
    {"HOLD once, go on",
     {{0, "A:", "HOLD first"}, {0, "B:", "HOLD second"}, {0, "C:", "IGNORE"}},
     "A: 1\r\nB: 2\r\nC: 3\r\n\r\n",
     "A: 1\r\nB: 2\r\n\r\n",
     "ID: hold: header A: 1" TAIL ": first\n"},
    {"REDIRECT, FILTER, BCC",
     {{0, "A:", "REDIRECT x@y.test"}, {0, "B:", "FILTER smtp:[::1]:25"}, {0, "C:", "BCC z@y.test"}},
     "A: 1\r\nB: 2\r\nC: 3\r\n\r\n",
     NULL,
     "ID: redirect: header A: 1" TAIL ": x@y.test\nID: filter: header B: 2" TAIL
     ": smtp:[::1]:25\nID: bcc: header C: 3" TAIL ": z@y.test\n"},
    {"bad arguments",
     {{0, "A:", "REDIRECT nobody"}, {0, "B:", "FILTER x"}, {0, "C:", "BCC <a@b>"}},
     "A: 1\r\nB: 2\r\nC: 3\r\n\r\n",
     NULL,
     "warning: ID: REDIRECT without user@domain in header_checks: \"nobody\"\n"
     "warning: ID: FILTER without transport:destination in header_checks: \"x\"\n"
     "warning: ID: BCC without user@domain in header_checks: \"<a@b>\"\n"},
    {"unknown action",
     {{0, "A:", "FROBNICATE x"}},
     "A: 1\r\n\r\n",
     NULL,
     "warning: ID: unsupported action \"FROBNICATE\" in header_checks\n"},
    {"table fails",
     {{0, "A:", NULL}, {0, "B:", "IGNORE"}},
     "A: 1\r\nB: 2\r\n\r\n",
     NULL,
     "warning: ID: header_checks map lookup problem -- message not accepted, try again later\n"},
    {"body: IGNORE, REPLACE, PREPEND",
     {{3, "two", "IGNORE"}, {3, "three", "REPLACE 3"}, {3, "four", "PREPEND before"}},
     "A: two\r\n\r\none\r\ntwo\r\nthree\r\nfour\r\n",
     "A: two\r\n\r\none\r\n3\r\nbefore\r\nfour\r\n",
     "ID: replace: body three" TAIL ": 3\nID: prepend: body four" TAIL ": before\n"},
    {"body: empty lines are not asked",
     {{3, "", "IGNORE"}},
     "A: 1\r\n\r\n\r\n\r\nx\r\n\r\n",
     "A: 1\r\n\r\n\r\n\r\n\r\n",
     NULL},
    {"body: REPLACE cannot start a line",
     {{3, "x", "REPLACE a\nb"}},
     "A: 1\r\n\r\nx\r\n",
     "A: 1\r\n\r\na b\r\n",
     "ID: replace: body x" TAIL ": a b\n"},
    {"body: last line without end",
     {{3, "x", "REPLACE y"}},
     "A: 1\r\n\r\nx",
     "A: 1\r\n\r\ny",
     "ID: replace: body x" TAIL ": y\n"},
    {"no header at all",
     {{3, "hello", "REPLACE bye"}, {ANY_HEADER, "", "REJECT"}},
     "hello\r\nA: 1\r\n",
     "bye\r\nA: 1\r\n",
     "ID: replace: body hello" TAIL ": bye\n"},
    {"a non-header line ends the header",
     {{3, "junk", "IGNORE"}, {0, "B:", "REJECT"}, {3, "B:", "IGNORE"}},
     "A: 1\r\njunk\r\nB: 2\r\n\r\nx\r\n",
     "A: 1\r\n\r\nx\r\n",
     NULL},
    {"blanks before the colon hide no header",
     {{0, "A: 1", "IGNORE"}, {1, "Content-Type: multipart/x", "WARN"}, {1, "B:", "PREPEND C: d"}},
     "A \t: 1\r\nContent-Type : multipart/x; boundary=b\r\nD : 1 : 2\r\n\r\n--b\r\nB\t: 2\r\n\r\nx\r\n",
     "Content-Type : multipart/x; boundary=b\r\nD : 1 : 2\r\n\r\n--b\r\nC: d\r\nB\t: 2\r\n\r\nx\r\n",
     "ID: warning: header Content-Type: multipart/x; boundary=b" TAIL "\n"
     "ID: prepend: header B: 2" TAIL ": C: d\n"},
    {"content begins with a blank", {{3, " x", "IGNORE"}}, " x: y\r\nA: 1\r\n", "A: 1\r\n", NULL},
    {"header ended by the end", {{0, "B:", "IGNORE"}}, "A: 1\r\nB: 2\r\n 3\r\n", "A: 1\r\n", NULL},
    {"header text is cut, the whole is dropped",
     {{0, "tail", "REJECT"}, {0, "B: 12345", "IGNORE"}},
     "A: 1\r\nB: 1234567890tail\r\n tail\r\nC: 3\r\n\r\n",
     "A: 1\r\nC: 3\r\n\r\n",
     NULL,
     {.header = 8}},
    {"multipart: parts of a message",
     {{0, "Subject: inner", "REJECT"},
      {1, "X-Part", "REPLACE X-Part: 2"},
      {2, "Subject", "IGNORE"},
      {3, "--b 1", "DUNNO"}},
     MULTI,
     "Subject: top\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed;\r\n boundary=\"b "
     "1\"\r\n\r\npreamble\r\n"
     "--b 1\r\nContent-Type: text/plain\r\nX-Part: 2\r\n\r\nbody one\r\n"
     "--b 1\r\nContent-Type: message/rfc822\r\n\r\nContent-Type: text/html\r\n\r\nbody two\r\n"
     "--b 1--\r\nepilogue\r\n",
     "ID: replace: header X-Part: one" TAIL ": X-Part: 2\n"},
    {"multipart: what is body",
     {{3, "preamble", "IGNORE"},
      {3, "body two", "IGNORE"},
      {3, "epilogue", "IGNORE"},
      {3, "--b 1--", "REPLACE --b 1--x"}},
     MULTI,
     "Subject: top\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed;\r\n boundary=\"b 1\"\r\n\r\n"
     "--b 1\r\nContent-Type: text/plain\r\nX-Part: one\r\n\r\nbody one\r\n"
     "--b 1\r\nContent-Type: message/rfc822\r\n\r\nSubject: inner\r\nContent-Type: text/html\r\n\r\n"
     "--b 1--x\r\n",
     "ID: replace: body --b 1--" TAIL ": --b 1--x\n"},
    {"MIME headers are always mime_header_checks",
     {{0, "Content-Type", "REJECT"}, {2, "Content-Type", "REJECT"}, {1, "text/html", "IGNORE"}},
     MULTI,
     "Subject: top\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed;\r\n boundary=\"b "
     "1\"\r\n\r\npreamble\r\n"
     "--b 1\r\nContent-Type: text/plain\r\nX-Part: one\r\n\r\nbody one\r\n"
     "--b 1\r\nContent-Type: message/rfc822\r\n\r\nSubject: inner\r\n\r\nbody two\r\n"
     "--b 1--\r\nepilogue\r\n",
     NULL},
    {"MIME off: everything after the header is body",
     {{1, "", "REJECT"}, {2, "", "REJECT"}, {3, "X-Part", "IGNORE"}},
     MULTI,
     "Subject: top\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed;\r\n boundary=\"b "
     "1\"\r\n\r\npreamble\r\n"
     "--b 1\r\nContent-Type: text/plain\r\n\r\nbody one\r\n"
     "--b 1\r\nContent-Type: message/rfc822\r\n\r\nSubject: inner\r\nContent-Type: text/html\r\n\r\nbody "
     "two\r\n"
     "--b 1--\r\nepilogue\r\n",
     NULL,
     {.is_flat = true}},
    {"digest: parts are messages",
     {{2, "Subject: in", "IGNORE"}},
     "Content-Type: Multipart/Digest; boundary=x\r\n\r\n--x\r\n\r\nSubject: in\r\n\r\nb\r\n--x--\r\n",
     "Content-Type: Multipart/Digest; boundary=x\r\n\r\n--x\r\n\r\n\r\nb\r\n--x--\r\n",
     NULL},
    {"inner parts end with the outer boundary",
     {{1, "X: 1", "IGNORE"}, {3, "--in", "IGNORE"}},
     "Content-Type: multipart/mixed; boundary=out\r\n\r\n--out\r\nContent-Type: multipart/mixed; "
     "boundary=in\r\n\r\n"
     "--in\r\nX: 1\r\n\r\na\r\n--out\r\nX: 1\r\n\r\nb\r\n--in\r\nX: 1\r\n\r\n",
     "Content-Type: multipart/mixed; boundary=out\r\n\r\n--out\r\nContent-Type: multipart/mixed; "
     "boundary=in\r\n\r\n"
     "\r\na\r\n--out\r\n\r\nb\r\nX: 1\r\n\r\n",
     NULL},
    {"comments and quotes in Content-Type",
     {{1, "X: 1", "IGNORE"}},
     "Content-Type: (a (b\\) c)) multipart / mixed (x) ; charset=\"a;boundary=no\" ; Boundary = "
     "\"q\\\"q\"\r\n\r\n--q\"q\r\nX: 1\r\n\r\n",
     "Content-Type: (a (b\\) c)) multipart / mixed (x) ; charset=\"a;boundary=no\" ; Boundary = "
     "\"q\\\"q\"\r\n\r\n--q\"q\r\n\r\n",
     NULL},
    {"two Content-Types: both boundaries count",
     {{1, "X: 1", "IGNORE"}},
     "Content-Type: multipart/mixed; boundary=a\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
     "--b\r\nX: 1\r\n\r\n--a\r\nX: 1\r\n\r\n",
     "Content-Type: multipart/mixed; boundary=a\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
     "--b\r\n\r\n--a\r\n\r\n",
     NULL},
    {"multipart without boundary is body",
     {{1, "X: 1", "REJECT"}, {3, "X: 1", "IGNORE"}},
     "Content-Type: multipart/mixed\r\n\r\n--\r\nX: 1\r\n",
     "Content-Type: multipart/mixed\r\n\r\n--\r\n",
     NULL},
    {"too deep: a warning, the outer parts go on",
     {{1, "X: 1", "IGNORE"}},
     "Content-Type: multipart/mixed; boundary=out\r\n\r\n--out\r\nContent-Type: multipart/mixed; "
     "boundary=in\r\n\r\n"
     "--in\r\nX: 1\r\n\r\n--out\r\nX: 1\r\n\r\n",
     "Content-Type: multipart/mixed; boundary=out\r\n\r\n--out\r\nContent-Type: multipart/mixed; "
     "boundary=in\r\n\r\n"
     "--in\r\nX: 1\r\n\r\n--out\r\n\r\n",
     "warning: ID: MIME nesting exceeds mime_nesting_limit 1\n",
     {.nesting = 1}},
    {"size limit counts each part anew",
     {{3, "x", "IGNORE"}},
     "Content-Type: multipart/mixed; boundary=b\r\n\r\nx1\r\nx2\r\nx3\r\n--b\r\n\r\nx1\r\nx2\r\nx3\r\n",
     "Content-Type: multipart/mixed; boundary=b\r\n\r\nx3\r\n--b\r\n\r\nx3\r\n",
     NULL,
     {.body = 4}},
    {"long lines in parts: one dropped",
     {{3, "b", "IGNORE"}},
     "A: 1\r\n\r\naaaabbbbcc\r\nx\r\n",
     "A: 1\r\n\r\naaaacc\r\nx\r\n",
     NULL,
     {.line = 4}},
    {"long lines in parts: the last dropped",
     {{3, "c", "IGNORE"}},
     "A: 1\r\n\r\naaaabbbbcc\r\nx\r\n",
     "A: 1\r\n\r\naaaabbbb\r\nx\r\n",
     NULL,
     {.line = 4}},
    {"long lines in parts: all dropped",
     {{3, "a", "IGNORE"}},
     "A: 1\r\n\r\naaaaaaaa\r\nx\r\n",
     "A: 1\r\n\r\nx\r\n",
     NULL,
     {.line = 4}},
    {"long lines in parts: PREPEND breaks the line",
     {{3, "bb", "PREPEND p"}},
     "A: 1\r\n\r\naaaabbbb\r\n",
     "A: 1\r\n\r\naaaa\r\np\r\nbbbb\r\n",
     "ID: prepend: body bbbb" TAIL ": p\n",
     {.line = 4}},
    {"a part may not start a header",
     {{0, "A: 1B: 2", "WARN"}},
     "A: 1B: 2\r\n\r\n",
     NULL,
     "ID: warning: header A: 1B: 2" TAIL "\n",
     {.line = 4}},
};

static void test_cases(void **state)
{
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        check_case(&cases[i], SIZE_MAX / 2);
        for (size_t step = 1; step < 12; step++)
            check_case(&cases[i], step);
    }
}

/* In two pieces, at each byte. */
static void test_cut_anywhere(void **state)
{
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
        for (size_t cut = 1; cut < strlen(cases[i].input); cut++)
            check_case(&cases[i], cut);
}

static void test_reply(void **state)
{
    static const struct {
        const char *value;
        int code;
        const char *dsn, *text;
    } replies[] = {
        {"REJECT", 550, "5.7.1", "message content rejected"},
        {"reject go away", 550, "5.7.1", "go away"},
        {"REJECT 5.6.0 bad", 550, "5.6.0", "bad"},
        {"REJECT 4.7.1 wait", 451, "4.7.1", "wait"},
        {"REJECT 4.7.1", 451, "4.7.1", "message content rejected"},
        {"REJECT 2.0.0 odd", 550, "5.7.1", "2.0.0 odd"},
        {"REJECT 5.7.1x odd", 550, "5.7.1", "5.7.1x odd"},
        {"REJECT 5.7 odd", 550, "5.7.1", "5.7 odd"},
        {"REJECT 5.1234.1 odd", 550, "5.7.1", "5.1234.1 odd"},
        {"REJECT two\nlines\r\n250 Ok \xc3\xa9", 550, "5.7.1", "two?lines??250 Ok ??"},
        {NULL, 451, "4.3.0", "Error: queue file write error"},
    };

    for (size_t i = 0; i < sizeof(replies) / sizeof(*replies); i++) {
        struct checks_case c = {"reply", {{0, "A", replies[i].value}}, "A: 1\r\n\r\n"};
        struct outcome o;

        run(&c, 100, &o);
        assert_int_equal(o.result.outcome, ENGINE_REPLY);
        assert_int_equal(o.result.reply.code, replies[i].code);
        assert_string_equal(o.result.reply.dsn, replies[i].dsn);
        assert_string_equal(o.result.reply.text, replies[i].text);
        end(&o);
    }
}

static void test_result(void **state)
{
    struct checks_case c = {"result",
                            {{0, "A", "HOLD why"},
                             {0, "B", "REDIRECT b@x.test"},
                             {0, "C", "BCC c@x.test"},
                             {0, "D", "FILTER smtp:d:1"}},
                            "A: 1\r\nB: 1\r\nC: 1\r\nC: 2\r\nD: 1\r\n\r\n"};
    struct outcome o;

    run(&c, 3, &o);
    assert_int_equal(o.result.outcome, ENGINE_PASS);
    assert_string_equal(o.result.hold, "why");
    assert_string_equal(o.result.redirect, "b@x.test");
    assert_string_equal(o.result.filter, "smtp:d:1");
    assert_int_equal(o.result.bcc.n, 1);
    assert_string_equal(o.result.bcc.at[0], "c@x.test");
    end(&o);
}

/* A line of any length is bounded in memory, and in the log. */
static void test_long(void **state)
{
    struct checks_case c = {"long", {{0, "A", "WARN"}, {3, "yyy", "WARN"}}};
    char *text = mem_printf(NULL, "A: %0100000d\r\n\r\n%0100000dyyy\r\n", 0, 0);
    struct outcome o;

    c.input = text;
    c.limits.header = 1000;
    run(&c, 7, &o);
    assert_true(o.log.n < 2 * 400);
    assert_int_equal(o.result.outcome, ENGINE_PASS);
    end(&o);
    talloc_free(text);
}

/* A NUL in a line does not hide it from the tables. */
static void test_nul(void **state)
{
    struct checks_case c = {"nul", {{3, "evil", "DISCARD"}}};
    struct engine_checks checks = checks_of(&c);
    struct engine_result result = {0};
    struct engine_checks_run r = {.checks = &checks,
                                  .ctx = talloc_new(NULL),
                                  .client = &client,
                                  .envelope = &envelope,
                                  .result = &result};

    assert_int_equal(engine_checks_line(&r, ENGINE_CHECKS_BODY, BYTES("\0\0")).verdict, ENGINE_CHECKS_KEEP);
    engine_checks_line(&r, ENGINE_CHECKS_BODY, BYTES("\0ev\0il\0"));
    assert_int_equal(result.outcome, ENGINE_DISCARD);
    talloc_free(r.ctx);
}

/* Many matches take no memory each, and one address is one recipient. */
static void test_many_matches(void **state)
{
    struct checks_case c = {"many",
                            {{3, "x", "BCC a@b.test"}, {3, "y", "REPLACE z"}, {3, "r", "REDIRECT a@b.test"}}};
    struct engine_checks checks = checks_of(&c);
    struct engine_result result = {0};
    struct engine_checks_run r = {.checks = &checks,
                                  .ctx = talloc_new(NULL),
                                  .client = &client,
                                  .envelope = &envelope,
                                  .result = &result};
    struct outcome o = {0};

    log_capture(on_log, &o);
    for (int i = 0; i < 3000; i++)
        engine_checks_line(&r, ENGINE_CHECKS_BODY,
                           i % 3 == 0   ? BYTES("x")
                           : i % 3 == 1 ? BYTES("y")
                                        : BYTES("r"));
    log_capture(NULL, NULL);
    assert_int_equal(result.bcc.n, 1);
    assert_true(talloc_total_blocks(r.ctx) < 12);
    for (int i = 0; i < ENGINE_BCC_LIMIT + 5; i++) {
        char addr[32];

        snprintf(addr, sizeof(addr), "%d@c.test", i);
        assert_int_equal(engine_result_add_bcc(r.ctx, &result, addr), i < ENGINE_BCC_LIMIT - 1);
    }
    buf_deinit(&o.log);
    talloc_free(r.ctx);
}

static void test_idle(void **state)
{
    struct checks_case c = {"idle", {{0, "zz", "WARN"}}, "A: 1\r\n\r\n0123456789\r\n0123456789\r\n"};
    struct outcome o;

    c.limits.body = 15;
    run(&c, 5, &o);
    assert_true(o.was_idle);
    end(&o);
    c.limits.body = 25;
    run(&c, 5, &o);
    assert_false(o.was_idle);
    end(&o);
    c.limits.body = 15;
    c.input = "Content-Type: multipart/x; boundary=b\r\n\r\n0123456789\r\n0123456789\r\n";
    run(&c, 5, &o);
    assert_false(o.was_idle);
    end(&o);
}

/* Without tables nothing is asked. */
static void test_absent_tables(void **state)
{
    struct engine_checks checks = {.find = NULL};
    struct engine_result result = {0};
    struct engine_checks_run r = {.checks = &checks, .envelope = &envelope, .result = &result};

    assert_int_equal(engine_checks_line(&r, ENGINE_CHECKS_HEADER, BYTES("A: 1")).verdict, ENGINE_CHECKS_KEEP);
    assert_false(engine_checks_wants_body(&checks, 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cases),         cmocka_unit_test(test_cut_anywhere),
        cmocka_unit_test(test_reply),         cmocka_unit_test(test_result),
        cmocka_unit_test(test_long),          cmocka_unit_test(test_idle),
        cmocka_unit_test(test_absent_tables), cmocka_unit_test(test_nul),
        cmocka_unit_test(test_many_matches),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
