/*
 * The actions of header_checks(5), one function each, in a table. The value of a lookup is an action word,
 * blanks, and text; words match without case. What an action cannot use (a REPLACE without text, a BCC
 * without address) is a warning that names the table's parameter, and the line stays.
 */
#include "engine_checks.h"

#include "log.h"
#include "mail_header.h"
#include "mem.h"

static const char *const part_params[ENGINE_CHECKS_PARTS] = {"header_checks", "mime_header_checks",
                                                             "nested_header_checks", "body_checks"};

const char *engine_checks_param(enum engine_checks_part part)
{
    return part_params[part];
}

/* A line that matched, and what its table says. */
struct match {
    struct engine_checks_run *run;
    enum engine_checks_part part;
    struct bytes line;
    struct bytes text; /* after the action word */
    struct engine_checks_line *out;
};

static void log_action(struct match *m, const char *action, const char *why)
{
    engine_log(m->run->client, m->run->envelope, action, m->part == ENGINE_CHECKS_BODY ? "body" : "header",
               m->line, why);
}

static void warn(struct match *m, const char *what)
{
    log_warn("%s: %s in %s: \"%.*s\"", m->run->envelope->id, what, part_params[m->part], BYTES_FMT(m->text));
}

/* For as long as this line lasts. */
static char *text_of(struct match *m)
{
    return bytes_dup(m->run->scratch, m->text);
}

/* For as long as the message lasts; the one before (of an earlier line) goes. */
static const char *keep_text(struct match *m, const char *before)
{
    talloc_free((char *)before);
    return bytes_dup(m->run->ctx, m->text);
}

static void do_bcc(struct match *m)
{
    if (!engine_is_address(m->text)) {
        warn(m, "BCC without user@domain");
        return;
    }
    if (!engine_result_add_bcc(m->run->ctx, m->run->result, text_of(m)))
        warn(m, "too many different BCC");
    else
        log_action(m, "bcc", text_of(m));
}

static void do_discard(struct match *m)
{
    log_action(m, "discard", text_of(m));
    m->run->result->outcome = ENGINE_DISCARD;
    m->run->is_done = true;
}

static void do_nothing(struct match *m)
{
}

static void do_filter(struct match *m)
{
    if (bytes_chr(m->text, ':') == SIZE_MAX) {
        warn(m, "FILTER without transport:destination");
        return;
    }
    m->run->result->filter = keep_text(m, m->run->result->filter);
    log_action(m, "filter", m->run->result->filter);
}

static void do_hold(struct match *m)
{
    if (m->run->result->hold != NULL)
        return;
    m->run->result->hold = keep_text(m, NULL);
    log_action(m, "hold", m->run->result->hold);
}

static void do_ignore(struct match *m)
{
    m->out->verdict = ENGINE_CHECKS_DROP;
}

static void do_info(struct match *m)
{
    log_action(m, "info", text_of(m));
}

static void do_pass(struct match *m)
{
    log_action(m, "pass", text_of(m));
    m->run->is_done = true;
}

static void do_redirect(struct match *m)
{
    if (!engine_is_address(m->text)) {
        warn(m, "REDIRECT without user@domain");
        return;
    }
    m->run->result->redirect = keep_text(m, m->run->result->redirect);
    log_action(m, "redirect", m->run->result->redirect);
}

static void do_reject(struct match *m)
{
    struct bytes text = m->text;
    char dsn[12] = "5.7.1";
    char *clean, *why;

    engine_take_dsn(&text, dsn);
    clean = engine_clean_text(m->run->scratch, text);
    if (*clean == '\0')
        clean = mem_strdup(m->run->scratch, "message content rejected");
    why = mem_printf(m->run->scratch, "%s %s", dsn, clean);
    log_action(m, "reject", why);
    engine_result_reply(m->run->result, mail_reply(dsn[0] == '4' ? 451 : 550, dsn, "%s", clean));
    m->run->is_done = true;
}

/*
 * Text of a table as lines of content. A folded header may come back through $1 with its '\n': each further
 * line starts with a blank, or it would be a header of its own. In a body nothing may start a line.
 */
static char *content_lines(struct match *m)
{
    char *text = text_of(m);
    struct buf out = {0};
    char *lines;

    for (char *p = text; *p != '\0'; p++) {
        if (*p == '\n' && m->part != ENGINE_CHECKS_BODY && p[1] != '\0') {
            buf_addc(&out, '\n');
            if (!ascii_is_blank(p[1]))
                buf_addc(&out, '\t');
        } else {
            buf_addc(&out, *p == '\n' || *p == '\r' ? ' ' : *p);
        }
    }
    lines = mem_strdup(m->run->scratch, buf_text(&out));
    buf_deinit(&out);
    return lines;
}

/* The new lines, or NULL when the text cannot stand there. */
static char *new_lines(struct match *m, const char *action)
{
    if (m->text.n == 0) {
        log_warn("%s: %s without text in %s", m->run->envelope->id, action, part_params[m->part]);
        return NULL;
    }
    if (m->part != ENGINE_CHECKS_BODY && mail_header_name(m->text).n == 0) {
        log_warn("%s: %s text in %s is no \"name: value\" header: \"%.*s\"", m->run->envelope->id, action,
                 part_params[m->part], BYTES_FMT(m->text));
        return NULL;
    }
    return content_lines(m);
}

static void do_prepend(struct match *m)
{
    m->out->prepend = new_lines(m, "PREPEND");
    if (m->out->prepend != NULL)
        log_action(m, "prepend", m->out->prepend);
}

static void do_replace(struct match *m)
{
    m->out->replace = new_lines(m, "REPLACE");
    if (m->out->replace == NULL)
        return;
    m->out->verdict = ENGINE_CHECKS_REPLACE;
    log_action(m, "replace", m->out->replace);
}

static void do_strip(struct match *m)
{
    log_action(m, "strip", text_of(m));
    m->out->verdict = ENGINE_CHECKS_DROP;
}

static void do_warn(struct match *m)
{
    log_action(m, "warning", text_of(m));
}

static const struct {
    const char *word;
    void (*act)(struct match *m);
} actions[] = {
    {"BCC", do_bcc},         {"DISCARD", do_discard}, {"DUNNO", do_nothing},     {"FILTER", do_filter},
    {"HOLD", do_hold},       {"IGNORE", do_ignore},   {"INFO", do_info},         {"OK", do_nothing},
    {"PASS", do_pass},       {"PREPEND", do_prepend}, {"REDIRECT", do_redirect}, {"REJECT", do_reject},
    {"REPLACE", do_replace}, {"STRIP", do_strip},     {"WARN", do_warn},
};

static void act(struct match *m, struct bytes value)
{
    struct bytes word = bytes_word(&value, " \t\r\n");

    m->text = bytes_trim(value);
    for (size_t i = 0; i < sizeof(actions) / sizeof(*actions); i++) {
        if (bytes_ieq(word, bytes_of(actions[i].word))) {
            actions[i].act(m);
            return;
        }
    }
    log_warn("%s: unsupported action \"%.*s\" in %s", m->run->envelope->id, BYTES_FMT(word),
             part_params[m->part]);
}

static struct bytes without_nul(void *ctx, struct bytes text)
{
    char *copy;
    size_t n = 0;

    if (bytes_chr(text, '\0') == SIZE_MAX)
        return text;
    copy = mem_bytes(ctx, text.n);
    for (size_t i = 0; i < text.n; i++)
        if (text.p[i] != '\0')
            copy[n++] = text.p[i];
    return bytes(copy, n);
}

static void table_failed(struct engine_checks_run *run, enum engine_checks_part part)
{
    log_warn("%s: %s map lookup problem -- message not accepted, try again later", run->envelope->id,
             part_params[part]);
    engine_result_reply(run->result, mail_reply_trouble());
    run->is_done = true;
}

co_fn struct engine_checks_line engine_checks_line(struct engine_checks_run *run,
                                                   enum engine_checks_part part, struct bytes text)
{
    struct engine_checks_line out = {0};
    struct match m = {.run = run, .part = part, .out = &out};
    char *value = NULL;

    if (run->is_done || !run->checks->has[part])
        return out;
    if (run->scratch == NULL)
        run->scratch = talloc_new(run->ctx);
    talloc_free_children(run->scratch);
    m.line = without_nul(run->scratch, text);
    if (m.line.n == 0)
        return out;
    switch (run->checks->find(run->checks->arg, part, run->scratch, m.line, &value)) {
    case TABLE_FOUND:
        act(&m, bytes_of(value));
        break;
    case TABLE_ABSENT:
        break;
    case TABLE_FAILED:
        table_failed(run, part);
        break;
    }
    return out;
}

/* ---- the walk ---- */

/* Lines of a table's text with CR LF. */
static void add_lines(struct buf *out, const char *text)
{
    for (; *text != '\0'; text++) {
        if (*text == '\n')
            buf_addc(out, '\r');
        buf_addc(out, *text);
    }
    buf_adds(out, "\r\n");
}

static co_fn void walk_header(void *arg, const struct engine_mime_header *h)
{
    struct engine_checks_walk *w = arg;
    struct engine_checks_line line = engine_checks_line(w->run, (enum engine_checks_part)h->kind, h->text);
    struct buf text = {0};

    if (line.prepend != NULL)
        add_lines(&text, line.prepend);
    if (line.verdict == ENGINE_CHECKS_REPLACE)
        add_lines(&text, line.replace);
    if (line.verdict != ENGINE_CHECKS_KEEP)
        w->edit(w->arg, h->from, h->to, buf_bytes(&text));
    else if (text.n > 0)
        w->edit(w->arg, h->from, h->from, buf_bytes(&text));
    buf_deinit(&text);
}

/*
 * A part of a long line is changed for itself: its line end goes only when no part before it stayed. A line
 * that is prepended in the middle of one breaks it in two, as Postfix's records do.
 */
static co_fn void edit_body(struct engine_checks_walk *w, const struct engine_mime_body *b,
                            const struct engine_checks_line *line)
{
    uint64_t text_to = b->from + b->text.n;
    uint64_t to = line->verdict == ENGINE_CHECKS_DROP && !w->is_line_kept ? b->to : text_to;
    struct buf text = {0};

    if (line->prepend != NULL) {
        if (w->is_line_kept)
            buf_adds(&text, "\r\n");
        add_lines(&text, line->prepend);
    }
    if (line->verdict == ENGINE_CHECKS_KEEP)
        to = b->from;
    else if (line->verdict == ENGINE_CHECKS_REPLACE)
        buf_adds(&text, line->replace);
    if (to > b->from || text.n > 0)
        w->edit(w->arg, b->from, to, buf_bytes(&text));
    buf_deinit(&text);
}

static co_fn void walk_body(void *arg, const struct engine_mime_body *b)
{
    struct engine_checks_walk *w = arg;
    struct engine_checks_line line = {0};

    if (b->is_first)
        w->is_line_kept = false;
    if (engine_checks_wants_body(w->run->checks, b->part_offset))
        line = engine_checks_line(w->run, ENGINE_CHECKS_BODY, b->text);
    edit_body(w, b, &line);
    if (line.verdict != ENGINE_CHECKS_DROP)
        w->is_line_kept = true;
}

void engine_checks_walk_init(struct engine_checks_walk *w, struct engine_checks_run *run,
                             void (*edit)(void *arg, uint64_t from, uint64_t to, struct bytes text),
                             void *arg)
{
    *w = (struct engine_checks_walk){
        .mime = {.limits = run->checks->limits, .header = walk_header, .body = walk_body},
        .run = run,
        .edit = edit,
        .arg = arg,
    };
    w->mime.arg = w;
}

void engine_checks_walk_deinit(struct engine_checks_walk *w)
{
    if (w->mime.is_too_deep)
        log_warn("%s: MIME nesting exceeds mime_nesting_limit %zu", w->run->envelope->id,
                 w->mime.limits.nesting);
    engine_mime_deinit(&w->mime);
}

bool engine_checks_walk_is_idle(const struct engine_checks_walk *w)
{
    return w->run->is_done ||
           (engine_mime_is_plain(&w->mime) && !engine_checks_wants_body(w->run->checks, w->mime.part_offset));
}
