/*
 * Asking the hooks, in the profile's order, and making their verdicts the session's: actions go into the
 * envelope, an answer becomes the reply and its `reject:` line.
 */
#include "smtpd_session.h"

#include "log.h"
#include "mail_address.h"
#include "mem.h"

static void add_text(void *ctx, struct mail_text_list *list, const char *text)
{
    list->at = mem_grow(ctx, list->at, list->n + 1);
    list->at[list->n++] = text;
}

static void apply(struct smtpd_tx *tx, const struct mail_action *action)
{
    struct mail_envelope *e = &tx->envelope;

    switch (action->kind) {
    case MAIL_DISCARD:
        e->discard = true;
        break;
    case MAIL_HOLD:
        e->hold = action->text ? action->text : "";
        break;
    case MAIL_REDIRECT:
        e->redirect = action->text;
        break;
    case MAIL_FILTER:
        e->filter = action->text;
        break;
    case MAIL_BCC:
        add_text(tx, &e->bcc, action->text);
        break;
    case MAIL_PREPEND:
        add_text(tx, &e->prepend, action->text);
        break;
    }
}

/* "; from=<s> to=<r> proto=P helo=<h>": what is known, each in its external form. */
static char *context_text(struct smtpd_session *s, const struct mail_rcpt *rcpt)
{
    struct mail_origin origin = mail_client_origin(s->client);
    struct buf text = {0};
    char *copy;

    if (s->tx != NULL) {
        buf_adds(&text, " from=<");
        mail_address_quote(&text, s->tx->envelope.sender);
        buf_addc(&text, '>');
    }
    if (rcpt != NULL) {
        buf_adds(&text, " to=<");
        mail_address_quote(&text, rcpt->addr);
        buf_addc(&text, '>');
    }
    buf_addf(&text, " proto=%s", origin.proto);
    if (origin.helo != NULL)
        buf_addf(&text, " helo=<%s>", origin.helo);
    copy = bytes_dup(s->command, buf_bytes(&text));
    buf_deinit(&text);
    return copy;
}

static void log_refusal(struct smtpd_session *s, const char *word, enum mail_stage stage,
                        const struct mail_rcpt *rcpt, const char *text)
{
    const char *where = stage == MAIL_AT_HELO ? s->where : mail_stage_name(stage);

    log_info("%s: %s: %s from %s: %s;%s", smtpd_log_id(s), word, where, smtpd_client_text(s), text,
             context_text(s, rcpt));
}

void smtpd_gate_log_reject(struct smtpd_session *s, enum mail_stage stage, const struct mail_reply *why)
{
    log_refusal(s, "reject", stage, NULL, mail_reply_log(s->command, why));
}

static void take(struct smtpd_tx *tx, const struct mail_verdict *v)
{
    for (const struct mail_action *a = v->actions; a != NULL; a = a->next)
        apply(tx, a);
    if (v->ticket != NULL) {
        tx->envelope.ticket = v->ticket;
        tx->envelope.route = v->route;
    }
}

static bool settle(struct smtpd_session *s, struct mail_verdict *v, enum mail_stage stage,
                   const struct mail_rcpt *rcpt, struct mail_reply *why_r)
{
    if (s->tx != NULL)
        take(s->tx, v);
    if (v->kind == MAIL_PASS)
        return true;
    if (v->kind == MAIL_HANGUP) {
        log_refusal(s, "hangup", stage, rcpt, "");
        s->leave = SMTPD_HUNG_UP;
        *why_r = (struct mail_reply){0};
        return false;
    }
    *why_r = v->reply;
    log_refusal(s, "reject", stage, rcpt, mail_reply_log(s->command, why_r));
    return false;
}

static struct mail_view view_of(struct smtpd_session *s, const struct mail_rcpt *rcpt)
{
    return (struct mail_view){
        .ctx = s->tx ? (void *)s->tx : s->command,
        .client = s->client,
        .envelope = s->tx ? &s->tx->envelope : NULL,
        .rcpt = rcpt,
        .content_size = s->tx ? s->tx->content_size : 0,
        .log_id = smtpd_log_id(s),
    };
}

co_fn bool smtpd_gate_connect(struct smtpd_session *s, struct mail_reply *why_r)
{
    bool passes = true;

    s->hook_states = mem_array(s, void *, s->profile->hook_count);
    while (passes && s->hooks_begun < s->profile->hook_count) {
        struct mail_hook *hook = s->profile->hooks[s->hooks_begun];
        struct mail_view view = view_of(s, NULL);
        struct mail_verdict v = hook->ops->begin(hook, &view, &s->hook_states[s->hooks_begun]);

        s->hooks_begun++;
        passes = settle(s, &v, MAIL_AT_CONNECT, NULL, why_r);
    }
    return passes;
}

co_fn bool smtpd_gate(struct smtpd_session *s, enum mail_stage stage, const struct mail_rcpt *rcpt,
                      struct mail_reply *why_r)
{
    bool passes = true;

    for (size_t i = 0; passes && i < s->hooks_begun; i++) {
        struct mail_hook *hook = s->profile->hooks[i];
        struct mail_view view = view_of(s, rcpt);
        struct mail_verdict v = hook->ops->ask(hook, s->hook_states[i], stage, &view);

        passes = settle(s, &v, stage, rcpt, why_r);
    }
    return passes;
}

void smtpd_gate_end(struct smtpd_session *s)
{
    while (s->hooks_begun > 0) {
        struct mail_hook *hook = s->profile->hooks[--s->hooks_begun];

        hook->ops->end(hook, s->hook_states[s->hooks_begun]);
    }
}
