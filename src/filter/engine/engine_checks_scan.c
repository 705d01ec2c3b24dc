/*
 * The engine "checks": the tables of header_checks and friends over a message in a spool.
 *
 * Content is walked once. Nothing is written until the first change; from then on what stays is copied behind
 * what changed, into a new spool.
 */
#include "engine_checks.h"

#include "log.h"
#include "mem.h"

enum { CHUNK = 16384 };

/* ---- tables ---- */

struct checks_tables {
    struct engine_checks checks;
    struct table_maps maps[ENGINE_CHECKS_PARTS];
};

static co_fn enum table_end find_in_tables(void *arg, enum engine_checks_part part, const void *ctx,
                                           struct bytes text, char **value_r)
{
    struct checks_tables *t = arg;

    return table_maps_find(&t->maps[part], ctx, text, value_r);
}

struct error *engine_checks_open(const void *ctx, const struct conf *conf, struct engine_checks **checks_r)
{
    struct checks_tables *t = mem_new(ctx, struct checks_tables);

    for (int i = 0; i < ENGINE_CHECKS_PARTS; i++) {
        const char *param = engine_checks_param(i);
        struct error *e = table_maps_open(t, conf_text(conf, param), conf, &t->maps[i]);

        if (e != NULL) {
            talloc_free(t);
            return error_prepend(e, "%s", param);
        }
        t->checks.has[i] = t->maps[i].n > 0;
    }
    t->checks.find = find_in_tables;
    t->checks.arg = t;
    t->checks.body_limit = (size_t)conf_size(conf, "body_checks_size_limit");
    t->checks.limits = (struct engine_mime_limits){
        .header = (size_t)conf_size(conf, "header_size_limit"),
        .line = (size_t)conf_size(conf, "line_length_limit"),
        .nesting = (size_t)conf_int(conf, "mime_nesting_limit"),
        .is_flat = conf_bool(conf, "disable_mime_input_processing"),
    };
    if (t->checks.limits.line < 100) /* less would take headers apart */
        t->checks.limits.line = 100;
    *checks_r = &t->checks;
    return NULL;
}

bool engine_checks_is_needed(const struct engine_checks *checks)
{
    for (int i = 0; i < ENGINE_CHECKS_PARTS; i++)
        if (checks->has[i])
            return true;
    return false;
}

/* ---- one message ---- */

struct rewrite {
    const struct engine_input *in;
    const struct io_spool_conf *conf;
    struct io_spool *out; /* NULL until something changed */
    uint64_t done;        /* of the input: copied, or left out */
    struct error *error;  /* the first; nothing is written after it */
};

static co_fn void copy_until(struct rewrite *r, uint64_t to)
{
    while (r->error == NULL && r->done < to) {
        struct bytes piece;

        r->error = io_spool_read(r->in->content, r->done, &piece);
        if (r->error != NULL || piece.n == 0)
            return;
        if (piece.n > to - r->done)
            piece.n = (size_t)(to - r->done);
        r->error = io_spool_write(r->out, piece);
        r->done += piece.n;
    }
}

static co_fn void apply_edit(void *arg, uint64_t from, uint64_t to, struct bytes text)
{
    struct rewrite *r = arg;

    if (r->out == NULL)
        r->out = io_spool_new(r->in->ctx, r->conf);
    copy_until(r, from);
    if (r->error == NULL && text.n > 0)
        r->error = io_spool_write(r->out, text);
    r->done = to;
}

/* The spool lends a piece only until its next call, and an edit reads from it, so pieces are copied. */
static co_fn struct error *walk_content(struct engine_checks_walk *w, struct rewrite *r, char *chunk)
{
    uint64_t offset = 0;

    while (r->error == NULL && !engine_checks_walk_is_idle(w)) {
        struct bytes piece;
        struct error *e = io_spool_read(r->in->content, offset, &piece);

        if (e != NULL)
            return e;
        if (piece.n == 0) {
            engine_mime_end(&w->mime);
            break;
        }
        if (piece.n > CHUNK)
            piece.n = CHUNK;
        memcpy(chunk, piece.p, piece.n);
        offset += piece.n;
        engine_mime_feed(&w->mime, bytes(chunk, piece.n));
    }
    return NULL;
}

static co_fn struct error *run_checks(const struct engine_checks *checks, struct rewrite *r,
                                      struct engine_result *out)
{
    struct engine_checks_run run = {
        .checks = checks,
        .ctx = r->in->ctx,
        .client = r->in->client,
        .envelope = r->in->envelope,
        .result = out,
    };
    struct engine_checks_walk w;
    char *chunk = mem_bytes(r->in->ctx, CHUNK);
    struct error *e;

    engine_checks_walk_init(&w, &run, apply_edit, r);
    e = walk_content(&w, r, chunk);
    engine_checks_walk_deinit(&w);
    talloc_free(chunk);
    if (e != NULL && r->error == NULL)
        r->error = e;
    else
        error_free(&e);
    if (r->out != NULL && out->outcome == ENGINE_PASS)
        copy_until(r, io_spool_size(r->in->content));
    return r->error;
}

struct checks_engine {
    struct engine engine;
    struct engine_checks *checks;
    const struct io_spool_conf *spool;
};

static co_fn void checks_scan(struct engine *e, const struct engine_input *in, struct engine_result *out)
{
    struct checks_engine *ce = (struct checks_engine *)e;
    struct rewrite r = {.in = in, .conf = ce->spool};
    struct error *error;

    if (!engine_checks_is_needed(ce->checks))
        return;
    error = run_checks(ce->checks, &r, out);
    if (error != NULL) {
        error = error_prepend(error, "%s: header/body checks", in->envelope->id);
        log_report(&error);
        engine_result_reply(out, mail_reply_trouble());
    }
    if (out->outcome == ENGINE_PASS)
        out->changed = r.out;
    else
        talloc_free(r.out);
}

static bool checks_is_wanted(const struct conf *conf)
{
    for (int i = 0; i < ENGINE_CHECKS_PARTS; i++)
        if (*conf_text(conf, engine_checks_param(i)) != '\0')
            return true;
    return false;
}

static struct error *checks_open(const void *ctx, const struct conf *conf, const struct io_spool_conf *spool,
                                 struct engine **engine_r)
{
    struct checks_engine *ce = mem_new(ctx, struct checks_engine);

    ce->engine.ops = &engine_checks_ops;
    ce->spool = spool;
    *engine_r = &ce->engine;
    return engine_checks_open(ce, conf, &ce->checks);
}

const struct engine_ops engine_checks_ops = {
    .name = "checks",
    .is_wanted = checks_is_wanted,
    .open = checks_open,
    .scan = checks_scan,
};
