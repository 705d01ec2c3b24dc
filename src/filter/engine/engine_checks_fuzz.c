/*
 * The checks over any bytes. The input is content; what follows a '!' in a header or body line is what the
 * "table" says about it, so the fuzzer chooses the actions. First byte: limits. Found out: every edit lies in
 * order and inside; the same content in one piece and byte by byte gives the same output; content whose line
 * ends are in order stays so.
 */
#include "engine_checks.h"

#include "log.h"
#include "mem.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static co_fn enum table_end find(void *arg, enum engine_checks_part part, const void *ctx, struct bytes text,
                                 char **value_r)
{
    size_t mark = bytes_chr(text, '!');

    if (mark == SIZE_MAX)
        return TABLE_ABSENT;
    text = bytes_skip(text, mark + 1);
    if (bytes_has_prefix(text, BYTES("!")))
        return TABLE_FAILED;
    *value_r = bytes_dup(ctx, text);
    return TABLE_FOUND;
}

struct rewrite {
    struct bytes in;
    struct buf out;
    uint64_t done;
};

static void on_edit(void *arg, uint64_t from, uint64_t to, struct bytes text)
{
    struct rewrite *r = arg;

    if (r->done > from || from > to || to > r->in.n)
        abort();
    buf_add(&r->out, bytes(r->in.p + r->done, (size_t)(from - r->done)));
    buf_add(&r->out, text);
    r->done = to;
}

static void on_log(const char *line, void *arg)
{
}

static bool run(struct bytes content, size_t step, const struct engine_checks *checks, struct rewrite *r)
{
    static const struct mail_client client = {.name = "c", .addr = "192.0.2.1", .proto = "SMTP"};
    static const struct mail_envelope envelope = {.id = "ID", .sender = ""};
    struct engine_result result = {0};
    struct engine_checks_run cr = {checks, talloc_new(NULL), &client, &envelope, &result, false, NULL};
    struct engine_checks_walk w;
    bool is_pass;

    *r = (struct rewrite){.in = content};
    engine_checks_walk_init(&w, &cr, on_edit, r);
    for (size_t at = 0; at < content.n; at += step)
        engine_mime_feed(&w.mime, bytes(content.p + at, content.n - at < step ? content.n - at : step));
    engine_mime_end(&w.mime);
    engine_checks_walk_deinit(&w);
    on_edit(r, content.n, content.n, bytes("", 0));
    is_pass = result.outcome == ENGINE_PASS;
    mail_reply_deinit(&result.reply);
    talloc_free(cr.ctx);
    return is_pass;
}

/* CR and LF only together. */
static bool is_canonical(struct bytes b)
{
    for (size_t i = 0; i < b.n; i++) {
        if (b.p[i] == '\r' && (i + 1 == b.n || b.p[i + 1] != '\n'))
            return false;
        if (b.p[i] == '\n' && (i == 0 || b.p[i - 1] != '\r'))
            return false;
    }
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes content = bytes((const char *)data, size);
    unsigned bits = size > 0 ? data[0] : 0;
    struct engine_checks checks = {
        .find = find,
        .has = {true, true, true, true},
        .body_limit = bits & 1 ? 20 : 0,
        .limits = {.header = bits & 2 ? 10 : 102400,
                   .line = bits & 4 ? 8 : 2048,
                   .nesting = bits & 8 ? 1 : 100,
                   .is_flat = (bits & 48) == 48},
    };
    struct rewrite whole, bytewise;
    bool is_pass;

    log_capture(on_log, NULL);
    content = bytes_skip(content, 1);
    is_pass = run(content, SIZE_MAX / 2, &checks, &whole);
    if (run(content, 1, &checks, &bytewise) != is_pass)
        abort();
    if (!bytes_eq(buf_bytes(&whole.out), buf_bytes(&bytewise.out)))
        abort();
    if (is_canonical(content) && !is_canonical(buf_bytes(&whole.out)))
        abort();
    buf_deinit(&whole.out);
    buf_deinit(&bytewise.out);
    return 0;
}
