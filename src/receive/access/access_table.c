/*
 * Tables: which keys are asked, and what the values mean, access(5).
 *
 * The first key that is there decides, DUNNO too. Tables of patterns see only the whole name, address or mail
 * address. An action is a row in one table of words; what is no action is a list of restrictions.
 */
#include "access_own.h"
#include "log.h"
#include "mem.h"

#include <arpa/inet.h>
#include <strings.h>

/* ---- keys ---- */

co_fn static enum access_end ask(struct access_run *r, struct access_subject *s, struct bytes key,
                                 bool is_part)
{
    void *mine = talloc_new(NULL);
    enum access_end end = ACCESS_DUNNO;
    enum table_end found;
    char *value;

    if (is_part && table_wants_whole_key(s->table)) {
        talloc_free(mine);
        return ACCESS_DUNNO;
    }
    found = table_find(s->table, mine, key, &value);
    s->found = found != TABLE_ABSENT;
    if (found == TABLE_FAILED)
        end = access_reject_lookup(r, s->what);
    else if (found == TABLE_FOUND)
        end = access_action(r, s, bytes_dup(mine, key), value);
    talloc_free(mine);
    return end;
}

static bool is_numeric(const char *name)
{
    unsigned char bits[16];

    return inet_pton(AF_INET, name, bits) == 1 || inet_pton(AF_INET6, name, bits) == 1;
}

/* name, then parent.dom, dom (or .parent.dom, .dom). */
co_fn static enum access_end ask_name(struct access_run *r, struct access_subject *s, const char *name,
                                      bool is_part)
{
    enum access_end end = ask(r, s, bytes_of(name), is_part);
    const char *dot = name;

    if (is_numeric(name))
        return end;
    while (!s->found && *dot != '\0' && (dot = strchr(dot + 1, '.')) != NULL) {
        struct bytes key = bytes_of(r->a->parents ? dot + 1 : dot);

        if (key.n > (r->a->parents ? 0 : 1))
            end = ask(r, s, key, true);
    }
    return end;
}

co_fn enum access_end access_table_host(struct access_run *r, struct access_subject *s, const char *name)
{
    return ask_name(r, s, name, false);
}

co_fn enum access_end access_table_addr(struct access_run *r, struct access_subject *s, const char *addr)
{
    char separator = strchr(addr, ':') != NULL ? ':' : '.';
    struct bytes key = bytes_of(addr);
    enum access_end end = ask(r, s, key, false);
    size_t at;

    while (!s->found && (at = bytes_rchr(key, separator)) != SIZE_MAX) {
        key.n = at;
        if (key.n > 0 && key.p[key.n - 1] != separator)
            end = ask(r, s, key, true);
    }
    return end;
}

/* user+ext@dom, user@dom, dom and its parents, user+ext@, user@. */
co_fn enum access_end access_table_mail(struct access_run *r, struct access_subject *s, const char *address)
{
    const char *at = strrchr(address, '@');
    enum access_end end = ask(r, s, bytes_of(address), false);
    void *mine;
    char *bare = NULL;
    size_t ext;

    if (s->found || at == NULL)
        return end;
    mine = talloc_new(NULL);
    ext = table_extension_at(bytes(address, (size_t)(at - address)), r->a->delimiter);
    if (ext != SIZE_MAX)
        bare = mem_printf(mine, "%.*s%s", (int)ext, address, at);
    if (bare != NULL)
        end = ask(r, s, bytes_of(bare), true);
    if (!s->found)
        end = ask_name(r, s, at + 1, true);
    if (!s->found)
        end = ask(r, s, bytes(address, (size_t)(at - address) + 1), true);
    if (!s->found && bare != NULL)
        end = ask(r, s, bytes(bare, ext + 1), true);
    talloc_free(mine);
    return end;
}

/* ---- actions ---- */

struct action {
    struct access_run *r;
    const struct access_subject *s;
    const char *name; /* as in the table below */
    const char *key;
    const char *text; /* behind the word, trimmed; "" when there is none */
};

co_fn static enum access_end act_permit(const struct action *a)
{
    return access_permit(a->r, a->name, a->s->what, a->s->class_name, table_spec(a->s->table));
}

static enum access_end act_dunno(const struct action *a)
{
    return ACCESS_DUNNO;
}

static bool is_dsn_text(const char *text, size_t n)
{
    size_t dots = 0, digits = 0;

    if (n < 5 || n > 9 || (text[0] != '2' && text[0] != '4' && text[0] != '5') || text[1] != '.')
        return false;
    for (size_t i = 1; i < n; i++) {
        if (text[i] == '.' ? (i > 1 && digits == 0) : !ascii_is_digit(text[i]) || ++digits > 3)
            return false;
        if (text[i] == '.') {
            dots++;
            digits = 0;
        }
    }
    return dots == 2 && digits > 0;
}

/* The enhanced code at the start of the text, or the default; and the text behind it, or the default. */
static const char *split_dsn(const struct action *a, const char *dsn, const char *text, char dsn_r[12])
{
    size_t n = strcspn(a->text, " \t");
    char copy[12];

    if (!is_dsn_text(a->text, n)) {
        access_dsn_fix(dsn, a->s->class_name, dsn_r);
        return *a->text != '\0' ? a->text : text;
    }
    memcpy(copy, a->text, n);
    copy[n] = '\0';
    access_dsn_fix(copy, a->s->class_name, dsn_r);
    n += strspn(a->text + n, " \t");
    return a->text[n] != '\0' ? a->text + n : text;
}

static enum access_end reject_with(const struct action *a, int code, const char *default_dsn)
{
    char dsn[12];
    const char *text = split_dsn(a, default_dsn, "Access denied", dsn);

    return access_reject(a->r, code, dsn, "<%s>: %s rejected: %s", a->s->what, a->s->class_name, text);
}

static enum access_end act_reject(const struct action *a)
{
    return reject_with(a, (int)conf_int(a->r->a->conf, "access_map_reject_code"), "5.7.1");
}

static enum access_end act_defer(const struct action *a)
{
    return reject_with(a, (int)conf_int(a->r->a->conf, "access_map_defer_code"), "4.7.1");
}

static enum access_end act_defer_if_permit(const struct action *a)
{
    char dsn[12];
    const char *text = split_dsn(a, "4.7.1", "Service unavailable", dsn);

    return access_defer_if_permit(a->r, dsn, "<%s>: %s rejected: %s", a->s->what, a->s->class_name, text);
}

static enum access_end act_defer_if_reject(const struct action *a)
{
    char dsn[12];
    const char *text = split_dsn(a, "4.7.1", "Service unavailable", dsn);

    return access_defer_if_reject(a->r, dsn, "<%s>: %s rejected: %s", a->s->what, a->s->class_name, text);
}

static void log_action(const struct action *a, const char *word)
{
    if (*a->text != '\0')
        access_log(a->r, word, "<%s>: %s %s", a->s->what, a->s->class_name, a->text);
    else
        access_log(a->r, word, "<%s>: %s triggers %s action", a->s->what, a->s->class_name, a->name);
}

static void log_target(const struct action *a, const char *word)
{
    access_log(a->r, word, "<%s>: %s triggers %s %s", a->s->what, a->s->class_name, a->name, a->text);
}

static enum access_end act_hangup(const struct action *a)
{
    access_log(a->r, "hangup", "%s", a->text);
    return ACCESS_HANGUP;
}

/* Actions on the message need one: not before MAIL, and not where another server makes the queue file. */
static bool is_unavailable(const struct action *a)
{
    const char *table = table_spec(a->s->table);
    bool is_prepend = strcmp(a->name, "PREPEND") == 0;

    if (a->r->a->is_proxied && !is_prepend)
        log_warn("access table %s: with smtpd_proxy_filter specified, action %s is unavailable", table,
                 a->name);
    else if (a->r->stage == MAIL_AT_ETRN && !is_prepend)
        log_warn("access table %s: action %s is unavailable in smtpd_etrn_restrictions", table, a->name);
    else if (a->r->sender == NULL)
        log_warn("access table %s: with smtpd_delay_reject=no, action %s is always skipped in %s or %s "
                 "restrictions",
                 table, a->name, access_class_client, access_class_helo);
    else
        return false;
    return true;
}

static enum access_end act_hold(const struct action *a)
{
    if (is_unavailable(a))
        return ACCESS_DUNNO;
    log_action(a, "hold");
    access_add_action(a->r, MAIL_HOLD, *a->text != '\0' ? a->text : "triggers HOLD action");
    return ACCESS_DUNNO;
}

co_fn static enum access_end act_discard(const struct action *a)
{
    if (is_unavailable(a))
        return ACCESS_DUNNO;
    log_action(a, "discard");
    access_add_action(a->r, MAIL_DISCARD, NULL);
    a->r->discards = true;
    return act_permit(a);
}

static enum access_end with_target(const struct action *a, enum mail_action_kind kind, const char *word,
                                   char need, const char *needs)
{
    if (is_unavailable(a))
        return ACCESS_DUNNO;
    if (strchr(a->text, need) == NULL) {
        log_warn("access table %s entry \"%s\" requires %s", table_spec(a->s->table), a->key, needs);
        return ACCESS_DUNNO;
    }
    log_target(a, word);
    access_add_action(a->r, kind, a->text);
    return ACCESS_DUNNO;
}

static enum access_end act_filter(const struct action *a)
{
    return with_target(a, MAIL_FILTER, "filter", ':', "transport:destination");
}

static enum access_end act_redirect(const struct action *a)
{
    return with_target(a, MAIL_REDIRECT, "redirect", '@', "user@domain target");
}

static enum access_end act_bcc(const struct action *a)
{
    return with_target(a, MAIL_BCC, "bcc", '@', "user@domain target");
}

/* RFC 5322 2.2: a field name is printable ASCII without colon, then a colon. */
static bool is_header(const char *text)
{
    size_t n = 0;

    while (ascii_is_print(text[n]) && text[n] != ':' && text[n] != ' ')
        n++;
    return n > 0 && text[n] == ':';
}

static enum access_end act_prepend(const struct action *a)
{
    const char *table = table_spec(a->s->table);

    if (a->r->stage == MAIL_AT_END_OF_DATA)
        log_warn("access table %s: action PREPEND must be used before smtpd_end_of_data_restrictions", table);
    else if (is_unavailable(a))
        return ACCESS_DUNNO;
    else if (!is_header(a->text))
        log_warn("access table %s entry \"%s\" requires header: text", table, a->key);
    else
        access_add_action(a->r, MAIL_PREPEND, a->text);
    return ACCESS_DUNNO;
}

static enum access_end act_info(const struct action *a)
{
    access_log(a->r, "info", "%s", a->text);
    return ACCESS_DUNNO;
}

static enum access_end act_warn(const struct action *a)
{
    access_log(a->r, "warn", "%s", a->text);
    return ACCESS_DUNNO;
}

static const struct {
    const char *name;
    co_fn enum access_end (*act)(const struct action *a);
} actions[] = {
    {"OK", act_permit},
    {"RELAY", act_permit},
    {"DUNNO", act_dunno},
    {"REJECT", act_reject},
    {"DEFER", act_defer},
    {"DEFER_IF_PERMIT", act_defer_if_permit},
    {"DEFER_IF_REJECT", act_defer_if_reject},
    {"HANGUP", act_hangup},
    {"HOLD", act_hold},
    {"DISCARD", act_discard},
    {"FILTER", act_filter},
    {"REDIRECT", act_redirect},
    {"BCC", act_bcc},
    {"PREPEND", act_prepend},
    {"INFO", act_info},
    {"WARN", act_warn},
};

/* Other words: restrictions and classes, compiled where they stand. */
co_fn static enum access_end run_restrictions(struct access_run *r, const struct access_subject *s,
                                              const char *key, const char *value)
{
    void *mine = talloc_new(NULL);
    struct access_list list = {.name = table_spec(s->table)};
    struct error *e = access_list_compile(mine, r->a, value, NULL, true, &list);
    enum access_end end;

    if (e != NULL) {
        log_warn("access table %s entry \"%s\": %s", table_spec(s->table), key, e->text);
        error_free(&e);
        end = access_reject_conf(r);
    } else {
        end = access_list_run(r, &list);
    }
    talloc_free(mine);
    return end;
}

static bool is_code(const char *word, size_t n)
{
    return n == 3 && (word[0] == '4' || word[0] == '5') && ascii_is_digit(word[1]) && ascii_is_digit(word[2]);
}

co_fn enum access_end access_action(struct access_run *r, const struct access_subject *s, const char *key,
                                    const char *value)
{
    struct action a = {.r = r, .s = s, .name = "OK", .key = key};
    size_t n;

    value += strspn(value, " \t");
    n = strcspn(value, " \t");
    a.text = value + n + strspn(value + n, " \t");
    if (n == 0) {
        log_warn("access table %s entry \"%s\" has empty value", table_spec(s->table), key);
        return act_permit(&a);
    }
    for (size_t i = 0; i < sizeof(actions) / sizeof(actions[0]); i++)
        if (strlen(actions[i].name) == n && strncasecmp(value, actions[i].name, n) == 0) {
            a.name = actions[i].name;
            return actions[i].act(&a);
        }
    if (value[strspn(value, "0123456789")] == '\0') /* a time stamp of pop-before-smtp */
        return act_permit(&a);
    if (is_code(value, n) && *a.text != '\0')
        return reject_with(&a, (value[0] - '0') * 100 + (value[1] - '0') * 10 + (value[2] - '0'),
                           value[0] == '4' ? "4.7.1" : "5.7.1");
    return run_restrictions(r, s, key, value);
}
