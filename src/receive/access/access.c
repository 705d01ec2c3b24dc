/*
 * The hook: which lists are walked at which stage, and what comes of it. See access.h.
 *
 * With smtpd_delay_reject the lists of client, HELO and sender are walked at each RCPT; without it, at their
 * own stage, and a defer_if_permit that they left is kept for the stages behind. Nothing else is remembered.
 */
#include "access.h"

#include "access_own.h"
#include "mem.h"

#include <strings.h>

static const struct {
    const char *param;
    const char *check; /* what a bare type:table means */
} places[ACCESS_PLACES] = {
    [ACCESS_CLIENT] = {"smtpd_client_restrictions", "check_client_access"},
    [ACCESS_HELO] = {"smtpd_helo_restrictions", "check_helo_access"},
    [ACCESS_SENDER] = {"smtpd_sender_restrictions", "check_sender_access"},
    [ACCESS_RELAY] = {"smtpd_relay_restrictions", "check_recipient_access"},
    [ACCESS_RECIPIENT] = {"smtpd_recipient_restrictions", "check_recipient_access"},
    [ACCESS_DATA] = {"smtpd_data_restrictions", NULL},
    [ACCESS_END_OF_DATA] = {"smtpd_end_of_data_restrictions", NULL},
    [ACCESS_ETRN] = {"smtpd_etrn_restrictions", "check_etrn_access"},
};

/* ---- what is kept for a session ---- */

/* Without smtpd_delay_reject; else NULL. */
struct session {
    struct access_deferral client, helo, sender; /* defer_if_permit left by that list and those before it */
};

static void keep(struct session *s, struct access_deferral *kept, const struct access_deferral *now)
{
    char *text = now->is_active ? mem_strdup(s, now->text) : NULL;

    talloc_free(kept->text);
    *kept = *now;
    kept->text = text;
}

/* ---- a run ---- */

static void run_init(struct access_run *r, const struct access *a, enum mail_stage stage,
                     const struct mail_view *view)
{
    *r = (struct access_run){.a = a, .view = view, .stage = stage};
    r->actions_end = &r->actions;
    if (view->envelope != NULL && view->envelope->sender != NULL && stage != MAIL_AT_CONNECT &&
        stage != MAIL_AT_HELO && stage != MAIL_AT_ETRN)
        r->sender = view->envelope->sender;
    if (view->rcpt != NULL)
        r->rcpt = view->rcpt->addr;
    else if ((stage == MAIL_AT_DATA || stage == MAIL_AT_END_OF_DATA) && view->envelope->rcpt_count == 1)
        r->rcpt = view->envelope->rcpts[0]->addr;
    if (r->rcpt != NULL && strchr(r->rcpt, '@') == NULL)
        r->rcpt = mem_printf(view->ctx, "%s@%s", r->rcpt, a->myorigin);
}

static struct mail_verdict verdict_of(struct access_run *r, enum access_end end)
{
    struct mail_verdict v = {.kind = MAIL_PASS, .actions = r->actions, .accepts_rcpt = r->discards};

    if (end == ACCESS_HANGUP)
        v.kind = MAIL_HANGUP;
    else if (end == ACCESS_REJECT) {
        v.kind = MAIL_ANSWER;
        v.reply = r->reply;
    }
    return v;
}

static bool is_over(enum access_end end)
{
    return end == ACCESS_REJECT || end == ACCESS_HANGUP;
}

static const char *what_of(struct access_run *r, enum access_place place)
{
    switch (place) {
    case ACCESS_CLIENT:
        return access_client_what(r);
    case ACCESS_HELO:
        return r->view->client->helo != NULL ? r->view->client->helo : "";
    case ACCESS_SENDER:
        return r->sender != NULL ? r->sender : "";
    case ACCESS_RELAY:
    case ACCESS_RECIPIENT:
        return r->view->rcpt != NULL ? r->view->rcpt->addr : "";
    case ACCESS_DATA:
        return "DATA";
    case ACCESS_END_OF_DATA:
        return mail_stage_name(MAIL_AT_END_OF_DATA);
    default:
        return r->view->etrn_domain != NULL ? r->view->etrn_domain : "";
    }
}

static const char *class_of(enum access_place place)
{
    static const char *const names[ACCESS_PLACES] = {
        [ACCESS_CLIENT] = access_class_client,  [ACCESS_HELO] = access_class_helo,
        [ACCESS_SENDER] = access_class_sender,  [ACCESS_RELAY] = access_class_rcpt,
        [ACCESS_RECIPIENT] = access_class_rcpt, [ACCESS_DATA] = "Data command",
        [ACCESS_END_OF_DATA] = "End-of-data",   [ACCESS_ETRN] = "Etrn command",
    };

    return names[place];
}

/* One list. A defer_if_reject of an earlier list is forgotten; relay and recipient are one group. */
co_fn static enum access_end run_place(struct access_run *r, enum access_place place)
{
    const struct access_list *list = &r->a->lists[place];

    if (place != ACCESS_RELAY && place != ACCESS_RECIPIENT)
        r->if_reject.is_active = false;
    if (list->n == 0)
        return ACCESS_DUNNO;
    r->what = what_of(r, place);
    r->class_name = class_of(place);
    return access_list_run(r, list);
}

static enum access_end settle_deferral(struct access_run *r, enum access_end end)
{
    if (is_over(end) || !r->if_permit.is_active)
        return end;
    return access_reject(r, 450, r->if_permit.dsn, "%s", r->if_permit.text);
}

co_fn static enum access_end run_sender(struct access_run *r)
{
    enum access_end end = run_place(r, ACCESS_SENDER);

    if (!is_over(end) && r->a->lists_sender && !r->sender_checked && !r->discards)
        end = access_unlisted_sender(r);
    return end;
}

co_fn static enum access_end run_delayed(struct access_run *r)
{
    enum access_end end = run_place(r, ACCESS_CLIENT);

    if (!is_over(end))
        end = run_place(r, ACCESS_HELO);
    if (!is_over(end) && r->stage != MAIL_AT_ETRN)
        end = run_sender(r);
    return end;
}

/* ---- stages ---- */

co_fn static enum access_end at_rcpt(struct access_run *r, const struct session *s)
{
    static const enum access_place orders[2][2] = {
        {ACCESS_RECIPIENT, ACCESS_RELAY},
        {ACCESS_RELAY, ACCESS_RECIPIENT},
    };
    const enum access_place *order = orders[r->a->relay_first];
    bool discards_all = r->view->envelope != NULL && r->view->envelope->discard;
    enum access_end end = ACCESS_DUNNO;

    if (r->a->delays)
        end = run_delayed(r);
    else
        r->if_permit = s->sender;
    r->if_reject.is_active = false;
    for (int i = 0; i < 2 && !is_over(end); i++)
        end = run_place(r, order[i]);
    end = settle_deferral(r, end);
    if (!is_over(end) && r->a->lists_rcpt && !r->rcpt_checked && !r->discards && !discards_all)
        end = access_unlisted_rcpt(r);
    return end;
}

co_fn static enum access_end at_helo(struct access_run *r, struct session *s)
{
    enum access_end end;

    if (r->a->delays)
        return ACCESS_DUNNO;
    r->if_permit = s->client;
    end = run_place(r, ACCESS_HELO);
    keep(s, &s->helo, &r->if_permit);
    return end;
}

co_fn static enum access_end at_mail(struct access_run *r, struct session *s)
{
    enum access_end end;

    if (r->a->delays)
        return ACCESS_DUNNO;
    r->if_permit = s->helo.is_active ? s->helo : s->client;
    end = run_sender(r);
    keep(s, &s->sender, &r->if_permit);
    return end;
}

co_fn static enum access_end at_etrn(struct access_run *r, const struct session *s)
{
    enum access_end end = ACCESS_DUNNO;

    if (r->a->delays)
        end = run_delayed(r);
    else
        r->if_permit = s->helo.is_active ? s->helo : s->client;
    if (!is_over(end))
        end = run_place(r, ACCESS_ETRN);
    return settle_deferral(r, end);
}

co_fn static enum access_end walk(struct access_run *r, struct session *s)
{
    switch (r->stage) {
    case MAIL_AT_HELO:
        return at_helo(r, s);
    case MAIL_AT_MAIL:
        return at_mail(r, s);
    case MAIL_AT_RCPT:
    case MAIL_AT_VRFY:
        return at_rcpt(r, s);
    case MAIL_AT_DATA:
        return settle_deferral(r, run_place(r, ACCESS_DATA));
    case MAIL_AT_END_OF_DATA:
        return settle_deferral(r, run_place(r, ACCESS_END_OF_DATA));
    case MAIL_AT_ETRN:
        return at_etrn(r, s);
    default:
        return ACCESS_DUNNO;
    }
}

/* RFC 5321 4.5.1: "postmaster" without domain is always accepted. */
static bool is_postmaster(enum mail_stage stage, const struct mail_view *view)
{
    return (stage == MAIL_AT_RCPT || stage == MAIL_AT_VRFY) &&
           strcasecmp(view->rcpt->addr, "postmaster") == 0;
}

/* ---- the hook ---- */

co_fn static struct mail_verdict access_begin(struct mail_hook *h, const struct mail_view *view,
                                              void **state_r)
{
    const struct access *a = (const struct access *)h;
    struct session *s = a->delays ? NULL : mem_new(NULL, struct session);
    enum access_end end = ACCESS_DUNNO;
    struct access_run r;

    *state_r = s;
    run_init(&r, a, MAIL_AT_CONNECT, view);
    if (!a->delays) {
        end = run_place(&r, ACCESS_CLIENT);
        keep(s, &s->client, &r.if_permit);
    }
    return verdict_of(&r, end);
}

co_fn static struct mail_verdict access_ask(struct mail_hook *h, void *state, enum mail_stage stage,
                                            const struct mail_view *view)
{
    struct access_run r;

    if (is_postmaster(stage, view))
        return (struct mail_verdict){.kind = MAIL_PASS, .accepts_rcpt = true};
    run_init(&r, (const struct access *)h, stage, view);
    return verdict_of(&r, walk(&r, state));
}

static void access_end_session(struct mail_hook *h, void *state)
{
    talloc_free(state);
}

static const struct mail_hook_ops access_ops = {
    .name = "access",
    .begin = access_begin,
    .ask = access_ask,
    .end = access_end_session,
};

/* ---- open ---- */

static bool list_has_word(const char *list, const char *word)
{
    void *mine = talloc_new(NULL);
    bool has = false;
    char *item;

    while (!has && (item = conf_list_next(mine, &list)) != NULL)
        has = strcasecmp(item, word) == 0;
    talloc_free(mine);
    return has;
}

/* Names first, so that classes may name each other in any order. */
static struct error *open_classes(struct access *a)
{
    const char *rest = conf_text(a->conf, "smtpd_restriction_classes");
    struct error *e = NULL;
    char *name, *text;

    while ((name = conf_list_next(a, &rest)) != NULL) {
        a->classes = mem_grow(a, a->classes, a->class_count + 1);
        a->classes[a->class_count++] = (struct access_list){.name = name};
    }
    for (size_t i = 0; e == NULL && i < a->class_count; i++) {
        struct access_list *list = &a->classes[i];

        text = mem_printf(a, "$%s", list->name);
        e = conf_expand(a, a->conf, text, &text);
        if (e == NULL)
            e = access_list_compile(a, a, text, NULL, false, list);
        error_prepend(e, "restriction class %s", list->name);
    }
    return e;
}

static struct error *open_lists(struct access *a)
{
    struct error *e = NULL;

    for (int i = 0; e == NULL && i < ACCESS_PLACES; i++) {
        a->lists[i].name = places[i].param;
        e = error_prepend(access_list_compile(a, a, conf_text(a->conf, places[i].param), places[i].check,
                                              false, &a->lists[i]),
                          "%s", places[i].param);
    }
    return e;
}

static struct error *check_relay(struct access *a)
{
    if (access_list_stops_relay(&a->lists[ACCESS_RELAY]) ||
        access_list_stops_relay(&a->lists[ACCESS_RECIPIENT]))
        return NULL;
    return error_new(
        ERROR_CONF,
        "in parameter smtpd_relay_restrictions or smtpd_recipient_restrictions, specify at least one "
        "working instance of: reject_unauth_destination, defer_unauth_destination, reject, defer, "
        "defer_if_permit");
}

static void read_settings(struct access *a, const struct conf *conf)
{
    a->delays = conf_bool(conf, "smtpd_delay_reject");
    a->relay_first = conf_bool(conf, "smtpd_relay_before_recipient_restrictions");
    a->lists_sender = conf_bool(conf, "smtpd_reject_unlisted_sender");
    a->lists_rcpt =
        conf_bool(conf, "smtpd_reject_unlisted_recipient") &&
        !list_has_word(conf_text(conf, "receive_override_options"), "no_unknown_recipient_checks");
    a->tells_table = conf_bool(conf, "show_user_unknown_table_name");
    a->trusts_routes = conf_bool(conf, "allow_untrusted_routing");
    a->parents = table_parents_match(conf, "smtpd_access_maps");
    a->delimiter = conf_text(conf, "recipient_delimiter");
    a->null_sender = conf_text(conf, "smtpd_null_access_lookup_key");
    a->myorigin = conf_text(conf, "myorigin");
}

struct error *access_open(const void *ctx, const struct conf *conf, bool is_proxied,
                          struct mail_hook **hook_r)
{
    struct access *a = mem_new(ctx, struct access);
    struct error *e;

    a->hook.ops = &access_ops;
    a->conf = conf;
    a->is_proxied = is_proxied;
    read_settings(a, conf);
    if ((e = table_list_open_param(a, "mynetworks", TABLE_LIST_HOSTS, conf, &a->mynetworks)) != NULL ||
        (e = table_list_open_param(a, "smtpd_log_access_permit_actions", TABLE_LIST_TEXT, conf,
                                   &a->logs_permit)) != NULL ||
        (e = table_domains_open(a, conf, &a->domains)) != NULL || (e = open_classes(a)) != NULL ||
        (e = open_lists(a)) != NULL || (e = check_relay(a)) != NULL) {
        e->kind = ERROR_CONF;
        talloc_free(a);
        return e;
    }
    *hook_r = &a->hook;
    return NULL;
}
