/*
 * The registry of engines, a service's list of them, and what all of them need: the log line and texts for
 * replies.
 */
#include "engine.h"

#include "buf.h"
#include "log.h"
#include "mem.h"

const struct engine_ops *const engine_registry[] = {&engine_checks_ops, &engine_exec_ops, NULL};

struct engine_set {
    struct io_spool_conf spool;
    struct engine **at;
    size_t n;
};

/* ---- results ---- */

bool engine_result_add_bcc(void *ctx, struct engine_result *r, const char *addr)
{
    for (size_t i = 0; i < r->bcc.n; i++)
        if (strcmp(r->bcc.at[i], addr) == 0)
            return true;
    if (r->bcc.n >= ENGINE_BCC_LIMIT)
        return false;
    r->bcc.at = mem_grow(ctx, r->bcc.at, r->bcc.n + 1);
    r->bcc.at[r->bcc.n++] = mem_strdup(ctx, addr);
    return true;
}

void engine_result_reply(struct engine_result *r, struct mail_reply reply)
{
    mail_reply_deinit(&r->reply);
    r->outcome = ENGINE_REPLY;
    r->reply = reply;
}

/* ---- opening ---- */

static const struct engine_ops *find_engine(const char *name)
{
    for (size_t i = 0; engine_registry[i] != NULL; i++)
        if (strcmp(engine_registry[i]->name, name) == 0)
            return engine_registry[i];
    return NULL;
}

static struct error *add_engine(struct engine_set *set, const struct conf *conf, const struct engine_ops *ops)
{
    set->at = mem_grow(set, set->at, set->n + 1);
    return ops->open(set, conf, &set->spool, &set->at[set->n++]);
}

static struct error *unknown_engine(const char *name)
{
    struct buf known = {0};
    struct error *e;

    for (size_t i = 0; engine_registry[i] != NULL; i++)
        buf_addf(&known, "%s%s", i > 0 ? ", " : "", engine_registry[i]->name);
    e = error_new(ERROR_CONF, "filter_engines: no engine is named \"%s\" (there are: %s)", name,
                  buf_text(&known));
    buf_deinit(&known);
    return e;
}

static struct error *add_listed(struct engine_set *set, const struct conf *conf, const char *list)
{
    struct error *e = NULL;
    char *name;

    while (e == NULL && (name = conf_list_next(set, &list)) != NULL) {
        const struct engine_ops *ops = find_engine(name);

        e = ops != NULL ? add_engine(set, conf, ops) : unknown_engine(name);
    }
    return e;
}

struct error *engine_set_open(const void *ctx, const struct conf *conf, struct engine_set **set_r)
{
    struct engine_set *set = mem_new(ctx, struct engine_set);
    const char *list = conf_text(conf, "filter_engines");
    struct error *e;

    set->spool.dir = mem_printf(set, "%s/incoming", conf_text(conf, "queue_directory"));
    set->spool.memory_limit = (size_t)conf_size(conf, "smtpd_spool_memory_limit");
    e = add_listed(set, conf, list);
    for (size_t i = 0; e == NULL && set->n == 0 && *list == '\0' && engine_registry[i] != NULL; i++)
        if (engine_registry[i]->is_wanted(conf))
            e = add_engine(set, conf, engine_registry[i]);
    if (e != NULL)
        talloc_free(set);
    else
        *set_r = set;
    return e;
}

size_t engine_set_count(const struct engine_set *set)
{
    return set->n;
}

const struct io_spool_conf *engine_set_spool(const struct engine_set *set)
{
    return &set->spool;
}

/* ---- running ---- */

/* What the next engine adds to what those before it said. */
static void merge(void *ctx, struct engine_result *all, const struct engine_result *one)
{
    all->outcome = one->outcome;
    all->reply = one->reply;
    if (one->changed != NULL) {
        talloc_free(all->changed);
        all->changed = one->changed;
    }
    if (all->hold == NULL)
        all->hold = one->hold;
    if (one->redirect != NULL)
        all->redirect = one->redirect;
    if (one->filter != NULL)
        all->filter = one->filter;
    for (size_t i = 0; i < one->bcc.n; i++)
        engine_result_add_bcc(ctx, all, one->bcc.at[i]);
}

co_fn void engine_set_scan(struct engine_set *set, const struct engine_input *in, struct engine_result *out)
{
    struct engine_input next = *in;

    *out = (struct engine_result){0};
    for (size_t i = 0; i < set->n && out->outcome == ENGINE_PASS; i++) {
        struct engine_result one = {0};

        set->at[i]->ops->scan(set->at[i], &next, &one);
        merge(in->ctx, out, &one);
        if (out->changed != NULL)
            next.content = out->changed;
    }
}

/* ---- the log ---- */

static const char *or_unknown(const char *text)
{
    return text != NULL ? text : "unknown";
}

static void add_tail(struct buf *line, const struct mail_client *client, const struct mail_envelope *envelope)
{
    struct mail_origin o = mail_client_origin(client);

    buf_addf(line, "from %s[%s]; from=<%s>", or_unknown(o.name), or_unknown(o.addr), envelope->sender);
    if (envelope->rcpt_count > 0)
        buf_addf(line, " to=<%s>", envelope->rcpts[envelope->rcpt_count - 1]->addr);
    if (o.proto != NULL)
        buf_addf(line, " proto=%s", o.proto);
    if (o.helo != NULL)
        buf_addf(line, " helo=<%s>", o.helo);
}

void engine_log(const struct mail_client *client, const struct mail_envelope *envelope, const char *action,
                const char *part, struct bytes text, const char *why)
{
    struct buf line = {0};

    if (text.n > ENGINE_LOG_TEXT)
        text.n = ENGINE_LOG_TEXT;
    buf_addf(&line, "%s: %s: %s ", envelope->id, action, part);
    for (size_t i = 0; i < text.n; i++)
        buf_addc(&line, text.p[i] == '\0' ? '?' : text.p[i]);
    if (text.n > 0)
        buf_addc(&line, ' ');
    add_tail(&line, client, envelope);
    if (why != NULL && *why != '\0')
        buf_addf(&line, ": %s", why);
    log_info("%s", buf_text(&line));
    buf_deinit(&line);
}

/* ---- texts that become replies ---- */

/* "." and one to three digits at i; the index after them, or 0. */
static size_t dsn_field(struct bytes text, size_t i)
{
    size_t n = 0;

    if (i >= text.n || text.p[i] != '.')
        return 0;
    while (i + 1 + n < text.n && n < 4 && ascii_is_digit(text.p[i + 1 + n]))
        n++;
    return n >= 1 && n <= 3 ? i + 1 + n : 0;
}

/* RFC 3463 2. */
bool engine_take_dsn(struct bytes *text, char dsn[12])
{
    size_t end;

    if (text->n == 0 || (text->p[0] != '4' && text->p[0] != '5'))
        return false;
    end = dsn_field(*text, 1);
    if (end > 0)
        end = dsn_field(*text, end);
    if (end == 0 || (end < text->n && !ascii_is_blank(text->p[end])))
        return false;
    memcpy(dsn, text->p, end);
    dsn[end] = '\0';
    *text = bytes_trim(bytes_skip(*text, end));
    return true;
}

char *engine_clean_text(const void *ctx, struct bytes text)
{
    char *clean;

    text = bytes_trim(text);
    if (text.n > ENGINE_REPLY_TEXT)
        text.n = ENGINE_REPLY_TEXT;
    clean = mem_bytes(ctx, text.n + 1);
    for (size_t i = 0; i < text.n; i++)
        clean[i] = ascii_is_print((unsigned char)text.p[i]) ? text.p[i] : '?';
    clean[text.n] = '\0';
    return clean;
}

bool engine_is_address(struct bytes text)
{
    size_t at = bytes_rchr(text, '@');

    if (at == SIZE_MAX || at == 0 || at + 1 == text.n || text.n > 1024)
        return false;
    for (size_t i = 0; i < text.n; i++) {
        unsigned char c = (unsigned char)text.p[i];

        if (c <= 32 || c == 127 || c == '<' || c == '>')
            return false;
    }
    return true;
}
