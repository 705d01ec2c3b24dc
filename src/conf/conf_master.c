/*
 * master.cf: one service a logical line,
 *
 *     name type private unprivileged chroot wakeup maxproc command arguments...
 *
 * "-" is a field's default. Among the arguments, up to the first that is no option, -o name=value and
 * -o { name = value } override main.cf for this service; { words with blanks } is one argument.
 */
#include "conf_own.h"
#include "mem.h"

#define MAXPROC_MOST 1000000
#define ARGS_MOST    1000
#define BLANKS       " \t\r\n\v\f"

/* One line on its way to a service. */
struct line {
    struct bytes rest;
    const char *file;
    unsigned at;
    struct conf_faults *faults;
    bool is_bad;
};

static void bad(struct line *l, char *text)
{
    conf_fault_add(l->faults, CONF_ERROR, l->file, l->at, "%s", text);
    talloc_free(text);
    l->is_bad = true;
}

/* The next field; empty after a fault. */
static struct bytes field(struct line *l, const char *name)
{
    struct bytes text = l->is_bad ? bytes("", 0) : bytes_word(&l->rest, BLANKS);

    if (text.n == 0 && !l->is_bad)
        bad(l, mem_printf(NULL, "missing \"%s\" field", name));
    return text;
}

static void bad_field(struct line *l, const char *name, struct bytes value)
{
    bad(l, mem_printf(NULL, "field \"%s\": bad value: \"%.*s\"", name, BYTES_FMT(value)));
}

static bool bool_field(struct line *l, const char *name, bool otherwise)
{
    struct bytes text = field(l, name);

    if (bytes_eq(text, BYTES("y")))
        return true;
    if (bytes_eq(text, BYTES("-")))
        return otherwise;
    if (!bytes_eq(text, BYTES("n")) && !l->is_bad)
        bad_field(l, name, text);
    return false;
}

static long int_field(struct line *l, const char *name, struct bytes text, long otherwise)
{
    uint64_t number;

    if (l->is_bad || bytes_eq(text, BYTES("-")))
        return otherwise;
    if (bytes_to_u64(text, MAXPROC_MOST, &number))
        return (long)number;
    bad_field(l, name, text);
    return otherwise;
}

static void type_field(struct line *l, struct conf_service *s)
{
    static const struct {
        const char *name;
        enum conf_service_type type;
    } types[] = {
        {"inet", CONF_INET},
        {"unix", CONF_UNIX},
        {"fifo", CONF_FIFO},
        {"pass", CONF_PASS},
        {"unix-dgram", CONF_UNIX_DGRAM},
    };
    struct bytes text = field(l, "transport type");

    if (l->is_bad)
        return;
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        if (bytes_eq(text, bytes_of(types[i].name))) {
            s->type = types[i].type;
            return;
        }
    }
    bad(l, mem_printf(NULL, "bad transport type: %.*s", BYTES_FMT(text)));
}

static void wakeup_field(struct line *l, struct conf_service *s)
{
    struct bytes text = field(l, "wakeup");
    struct bytes number = text;

    if (number.n > 1 && number.p[number.n - 1] == '?') {
        s->wakeup_if_used = true;
        number.n--;
    }
    s->wakeup = (unsigned)int_field(l, "wakeup", number, 0);
}

/* What `-` means in the chroot field: the old "yes" only for a configuration that says nothing or 0. */
static bool default_chroot(const struct conf *c)
{
    char *text = NULL;
    struct error *e = conf_expand(NULL, c, "${{$compatibility_level} <level {1} ? {y} : {n}}", &text);
    bool yes = e == NULL && strcmp(text, "y") == 0;

    error_free(&e);
    talloc_free(text);
    return yes;
}

static long default_maxproc(const struct conf *c)
{
    const struct conf_param *p = conf_param_find("default_process_limit");
    char *text = NULL, *fault = NULL;
    struct error *e = conf_expand_value(NULL, c, conf_raw(c, p->name), &text);
    long value = 100;

    if (e == NULL)
        fault = conf_number_parse(NULL, p, p->name, text, &value);
    if (e != NULL || fault != NULL)
        value = 100; /* conf_validate tells */
    error_free(&e);
    talloc_free(fault);
    talloc_free(text);
    return value;
}

static void fields(struct line *l, struct conf_service *s, const struct conf *c)
{
    struct bytes name = field(l, "service");
    char *wrong;

    s->name = bytes_dup(c, name);
    type_field(l, s);
    s->is_private = bool_field(l, "private", true);
    if (!l->is_bad && s->type == CONF_INET && s->is_private)
        bad(l, mem_strdup(NULL, "inet service cannot be private"));
    s->is_unprivileged = bool_field(l, "unprivileged", true);
    s->is_chroot = bool_field(l, "chroot", default_chroot(c));
    wakeup_field(l, s);
    s->maxproc = int_field(l, "process limit", field(l, "process limit"), default_maxproc(c));
    s->command = bytes_dup(c, field(l, "command"));
    if (!l->is_bad && s->type == CONF_INET) {
        char *host, *port = NULL;

        wrong = conf_endpoint_parse(c, s->name, &host, &port);
        if (wrong != NULL)
            return bad(l, wrong);
        s->host = host;
        s->port = port;
    }
}

/* ---- arguments ---- */

static size_t braced_length(struct bytes b)
{
    size_t depth = 0;

    for (size_t i = 0; i < b.n; i++) {
        if (b.p[i] == '{')
            depth++;
        else if (b.p[i] == '}' && --depth == 0)
            return i + 1;
    }
    return 0;
}

/* The next argument: a word, or what stands between { and }, trimmed. False at the end or after a fault. */
static bool next_arg(struct line *l, struct bytes *arg_r)
{
    size_t n;

    l->rest = bytes_trim(l->rest);
    if (l->is_bad || l->rest.n == 0)
        return false;
    if (l->rest.p[0] != '{') {
        *arg_r = bytes_word(&l->rest, BLANKS);
        return arg_r->n > 0;
    }
    n = braced_length(l->rest);
    if (n == 0)
        return bad(l, mem_printf(NULL, "missing '}' in \"%.*s\"", BYTES_FMT(l->rest))), false;
    *arg_r = bytes_trim(bytes(l->rest.p + 1, n - 2));
    l->rest = bytes_skip(l->rest, n);
    if (l->rest.n > 0 && strchr(BLANKS, l->rest.p[0]) == NULL)
        return bad(l, mem_printf(NULL, "syntax error after '}' in \"%.*s\"", BYTES_FMT(l->rest))), false;
    return true;
}

static void override(struct line *l, struct conf_service *s, struct bytes text)
{
    struct bytes name, value;
    const char *wrong = conf_split(text, &name, &value);
    char *name_text, *value_text;

    if (wrong != NULL)
        return bad(l, mem_printf(NULL, "-o %.*s: %s", BYTES_FMT(text), wrong));
    name_text = bytes_dup(NULL, name);
    value_text = bytes_dup(NULL, value);
    conf_set(s->conf, name_text, value_text, l->file, l->at);
    talloc_free(name_text);
    talloc_free(value_text);
}

static bool is_all_v(struct bytes arg)
{
    for (size_t i = 1; i < arg.n; i++)
        if (arg.p[i] != 'v')
            return false;
    return arg.n > 1;
}

static void arguments(struct line *l, struct conf_service *s)
{
    size_t n = 0;
    bool is_option = true;
    struct bytes arg;

    s->args = mem_array(s->conf, const char *, 1);
    while (next_arg(l, &arg)) {
        is_option = is_option && arg.n > 1 && arg.p[0] == '-';
        if (is_option && arg.p[1] == 'o') {
            if (arg.n > 2)
                override(l, s, bytes_skip(arg, 2));
            else if (next_arg(l, &arg))
                override(l, s, arg);
            else if (!l->is_bad)
                bad(l, mem_strdup(NULL, "-o needs name=value"));
        } else if (is_option && is_all_v(arg)) {
            s->is_verbose = true;
        } else if (n >= ARGS_MOST) {
            bad(l, mem_printf(NULL, "more than %d arguments", ARGS_MOST));
        } else {
            s->args = mem_grow(s->conf, s->args, n + 2);
            s->args[n++] = bytes_dup(s->conf, arg);
            s->args[n] = NULL;
        }
    }
}

/* ---- the file ---- */

/* $service_name and $process_name, as syslog_name=postfix/$service_name needs them. */
static void name_service(struct conf_service *s)
{
    const char *const names[][2] = {{"service_name", s->name}, {"process_name", s->command}};

    for (size_t i = 0; i < 2; i++) {
        struct conf_entry *e;

        HASH_FIND_STR(s->conf->set, names[i][0], e);
        if (e != NULL)
            continue;
        conf_set_internal(s->conf, names[i][0], names[i][1]);
    }
}

/* A later line of the same name and type takes the place of the earlier one. */
static void add(const void *ctx, struct conf_services *all, struct conf_service *s,
                struct conf_faults *faults)
{
    for (size_t i = 0; i < all->n; i++) {
        if (all->at[i].type == s->type && strcmp(all->at[i].name, s->name) == 0) {
            conf_fault_add(faults, CONF_WARNING, s->file, s->line,
                           "duplicate master.cf entry for service \"%s\" (%s) -- using the last entry",
                           s->name, s->command);
            talloc_free(all->at[i].conf);
            all->at[i] = *s;
            return;
        }
    }
    if (all->n % 16 == 0)
        all->at = mem_grow(ctx, all->at, all->n + 16);
    all->at[all->n++] = *s;
}

struct conf_services conf_services_parse(const void *ctx, struct conf *main_conf, struct bytes text,
                                         const char *file, struct conf_faults *faults)
{
    struct conf_services all = {0};
    struct conf_lines lines;
    struct buf joined = {0};
    unsigned at;

    conf_lines_init(&lines, text, file, faults);
    while (conf_lines_next(&lines, &joined, &at)) {
        struct line l = {.rest = buf_bytes(&joined), .file = file, .at = at, .faults = faults};
        struct conf_service s = {.file = file, .line = at, .conf = conf_derive(ctx, main_conf)};

        fields(&l, &s, s.conf);
        if (!l.is_bad)
            arguments(&l, &s);
        if (l.is_bad) {
            talloc_free(s.conf);
            continue;
        }
        name_service(&s);
        conf_validate(s.conf, faults);
        add(ctx, &all, &s, faults);
    }
    buf_deinit(&joined);
    return all;
}

struct conf_services conf_read_services(const void *ctx, struct conf *main_conf, const char *dir,
                                        struct conf_faults *faults)
{
    struct conf_services all = {0};
    char *file = mem_printf(ctx, "%s/master.cf", dir);
    size_t n;
    char *text = conf_file_read(NULL, file, faults, &n);

    if (text != NULL)
        all = conf_services_parse(ctx, main_conf, bytes(text, n), file, faults);
    talloc_free(text);
    return all;
}
