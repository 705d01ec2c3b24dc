/* See daemon_checks.h. */
#include "daemon_checks.h"

#include "engine_checks.h"
#include "log.h"
#include "mem.h"

enum { HELD_LIMIT = 4 * 1024 * 1024 }; /* of one header field: more than any mail has, less than harm */

struct checks {
    struct cleanup_inspect inspect;
    struct engine_checks *checks;
};

/* One message. */
struct checks_state {
    struct engine_checks_run run;
    struct engine_checks_walk walk;
    struct engine_result result;
    mail_waits void (*out)(void *arg, struct bytes piece);
    void *out_arg;
    struct buf held; /* content from `given` on that has not been passed on */
    uint64_t given;
};

static int state_free(struct checks_state *s)
{
    engine_checks_walk_deinit(&s->walk);
    mail_reply_deinit(&s->result.reply);
    buf_deinit(&s->held);
    return 0;
}

/* Passes on what is held up to this place in the content. */
static co_fn void give(struct checks_state *s, uint64_t to)
{
    size_t n = to > s->given ? (size_t)(to - s->given) : 0;

    if (n > s->held.n)
        n = s->held.n;
    if (n == 0)
        return;
    s->out(s->out_arg, bytes(s->held.p, n));
    buf_drop(&s->held, n);
    s->given += n;
}

static co_fn void edit(void *arg, uint64_t from, uint64_t to, struct bytes text)
{
    struct checks_state *s = arg;
    size_t skip;

    give(s, from);
    if (text.n > 0)
        s->out(s->out_arg, text);
    skip = to > s->given ? (size_t)(to - s->given) : 0;
    skip = skip < s->held.n ? skip : s->held.n;
    buf_drop(&s->held, skip);
    s->given += skip;
}

static void *checks_begin(struct cleanup_inspect *i, void *ctx, const struct mail_client *client,
                          const struct mail_envelope *envelope,
                          mail_waits void (*out)(void *arg, struct bytes piece), void *arg)
{
    struct checks *c = (struct checks *)i;
    struct checks_state *s = mem_new(ctx, struct checks_state);

    s->run = (struct engine_checks_run){
        .checks = c->checks, .ctx = s, .client = client, .envelope = envelope, .result = &s->result};
    s->out = out;
    s->out_arg = arg;
    engine_checks_walk_init(&s->walk, &s->run, edit, s);
    talloc_set_destructor(s, state_free);
    return s;
}

static void too_much(struct checks_state *s)
{
    log_warn("%s: a header field is longer than %d bytes", s->run.envelope->id, HELD_LIMIT);
    engine_result_reply(&s->result, mail_reply_fixed(552, "5.3.4", "Error: header field too big"));
    s->run.is_done = true;
    buf_deinit(&s->held);
}

static co_fn void checks_content(struct cleanup_inspect *i, void *state, struct bytes piece)
{
    struct checks_state *s = state;

    if (s->result.outcome != ENGINE_PASS)
        return; /* it goes nowhere */
    buf_add(&s->held, piece);
    if (!engine_checks_walk_is_idle(&s->walk))
        engine_mime_feed(&s->walk.mime, piece);
    if (engine_checks_walk_is_idle(&s->walk))
        give(s, s->given + s->held.n);
    else
        give(s, s->walk.mime.has_field ? s->walk.mime.field_from : s->walk.mime.offset);
    if (s->held.n > HELD_LIMIT)
        too_much(s);
}

static void add_action(struct checks_state *s, struct mail_action ***last, enum mail_action_kind kind,
                       const char *text)
{
    struct mail_action *a = mem_new(s, struct mail_action);

    a->kind = kind;
    a->text = text;
    **last = a;
    *last = &a->next;
}

static co_fn void checks_finish(struct cleanup_inspect *i, void *state, struct cleanup_verdict *verdict_r)
{
    struct checks_state *s = state;
    struct mail_action **last = &verdict_r->actions;

    if (s->result.outcome == ENGINE_PASS && !engine_checks_walk_is_idle(&s->walk))
        engine_mime_end(&s->walk.mime);
    give(s, s->given + s->held.n);
    verdict_r->reply = s->result.reply;
    s->result.reply = (struct mail_reply){0};
    if (s->result.outcome == ENGINE_DISCARD)
        add_action(s, &last, MAIL_DISCARD, NULL);
    if (s->result.hold != NULL)
        add_action(s, &last, MAIL_HOLD, s->result.hold);
    if (s->result.redirect != NULL)
        add_action(s, &last, MAIL_REDIRECT, s->result.redirect);
    if (s->result.filter != NULL)
        add_action(s, &last, MAIL_FILTER, s->result.filter);
    for (size_t k = 0; k < s->result.bcc.n; k++)
        add_action(s, &last, MAIL_BCC, s->result.bcc.at[k]);
}

static const struct cleanup_inspect_ops checks_ops = {
    .name = "checks",
    .begin = checks_begin,
    .content = checks_content,
    .finish = checks_finish,
};

static bool list_has(const struct conf *conf, const char *name, const char *wanted)
{
    const char *rest = conf_text(conf, name);
    void *ctx = talloc_new(NULL);
    bool found = false;
    char *word;

    while (!found && (word = conf_list_next(ctx, &rest)) != NULL)
        found = strcmp(word, wanted) == 0;
    talloc_free(ctx);
    return found;
}

static bool are_overridden(const struct conf *conf)
{
    return list_has(conf, "receive_override_options", "no_header_body_checks");
}

struct error *daemon_checks_open(const void *ctx, const struct conf *conf, struct cleanup_inspect **inspect_r)
{
    struct checks *c = mem_new(ctx, struct checks);
    struct error *e = engine_checks_open(c, conf, &c->checks);

    c->inspect.ops = &checks_ops;
    *inspect_r = e == NULL && engine_checks_is_needed(c->checks) ? &c->inspect : NULL;
    return e;
}

struct error *daemon_checks_plug(const void *ctx, const struct conf *conf, struct cleanup *cleanup)
{
    struct cleanup_inspect *inspect;
    struct error *e;

    if (are_overridden(conf))
        return NULL;
    e = daemon_checks_open(ctx, conf, &inspect);
    if (e == NULL && inspect != NULL)
        cleanup_set_inspect(cleanup, inspect);
    return e;
}

struct error *daemon_checks_plug_beside(const void *ctx, const struct conf *conf, struct cleanup *cleanup)
{
    if (conf_text(conf, "filter_engines")[0] == '\0' || list_has(conf, "filter_engines", "checks"))
        return NULL;
    return daemon_checks_plug(ctx, conf, cleanup);
}

const struct conf *daemon_checks_of_engines(const void *ctx, const struct conf *conf)
{
    static const char *const tables[] = {"header_checks", "mime_header_checks", "nested_header_checks",
                                         "body_checks"};
    struct conf *own;

    if (!are_overridden(conf))
        return conf;
    own = conf_derive(ctx, conf);
    for (size_t i = 0; i < sizeof(tables) / sizeof(tables[0]); i++)
        conf_set(own, tables[i], "", "receive_override_options", 0);
    return own;
}
