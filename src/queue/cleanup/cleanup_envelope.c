/*
 * The envelope on its way into the queue: sender and recipients in standard form, mapped, with the copies
 * that the configuration and the hooks ask for, each once.
 */
#include "cleanup_private.h"

#include "mail_address.h"
#include "mem.h"

#include <uthash.h>

struct seen {
    UT_hash_handle hh;
    char key[];
};

struct work {
    const struct cleanup *c;
    const void *ctx;
    const struct mail_envelope *envelope;
    struct queue_envelope *out;
    size_t room;
    struct seen *seen; /* of ctx; NULL until there are two recipients */
};

static char *key_of(const struct work *w, const struct queue_rcpt *rcpt)
{
    char *key = mem_printf(w->ctx, "%s\n%u\n%s\n%s", rcpt->orcpt ? rcpt->orcpt : "", rcpt->notify,
                           rcpt->orig ? rcpt->orig : "", rcpt->addr);

    for (char *p = key; *p; p++)
        *p = (char)ascii_lower((unsigned char)*p);
    return key;
}

static void remember(struct work *w, const char *key)
{
    size_t n = strlen(key);
    struct seen *fresh;

    if (w->c->duplicate_limit > 0 && HASH_COUNT(w->seen) >= w->c->duplicate_limit)
        return;
    fresh = (struct seen *)mem_bytes(w->ctx, sizeof(*fresh) + n + 1);
    memcpy(fresh->key, key, n + 1);
    HASH_ADD(hh, w->seen, key, n, fresh);
}

/* The same recipient twice costs two deliveries. Beyond duplicate_filter_limit nothing is remembered any
 * more; most messages have one recipient, with whom there is nothing to compare. */
static bool is_duplicate(struct work *w, const struct queue_rcpt *rcpt)
{
    struct seen *found;
    char *key;

    if (w->out->rcpt_count == 0)
        return false;
    if (w->seen == NULL && w->out->rcpt_count == 1) {
        key = key_of(w, &w->out->rcpts[0]);
        remember(w, key);
        talloc_free(key);
    }
    key = key_of(w, rcpt);
    HASH_FIND(hh, w->seen, key, strlen(key), found);
    if (found == NULL)
        remember(w, key);
    talloc_free(key);
    return found != NULL;
}

static void add(struct work *w, const struct queue_rcpt *rcpt)
{
    if (is_duplicate(w, rcpt))
        return;
    if (w->out->rcpt_count == w->room) {
        w->room = w->room ? w->room * 2 : w->envelope->rcpt_count + 1;
        w->out->rcpts = mem_grow(w->ctx, w->out->rcpts, w->room);
    }
    w->out->rcpts[w->out->rcpt_count++] = *rcpt;
}

/* One recipient in standard form, canonical already, through the aliases. */
static co_fn enum cleanup_map_end add_expanded(struct work *w, const struct queue_rcpt *rcpt)
{
    struct queue_rcpt one = *rcpt;
    enum cleanup_map_end end;
    const char **found;
    size_t n;

    if (!w->c->has_mappings || w->c->virtual_alias.n == 0) {
        add(w, rcpt);
        return CLEANUP_MAP_OK;
    }
    end = cleanup_map_aliases(w->c, w->ctx, w->envelope->id, rcpt->addr, &found, &n);
    for (size_t i = 0; i < n && end == CLEANUP_MAP_OK; i++) {
        one.addr = found[i];
        if (one.orig == NULL && w->c->keep_original && strcmp(found[i], rcpt->addr) != 0)
            one.orig = rcpt->addr;
        add(w, &one);
        one.orig = rcpt->orig;
    }
    return end;
}

static co_fn enum cleanup_map_end canonical(const struct work *w, const struct table_maps *own,
                                            const char *name, const char **addr)
{
    enum cleanup_map_end end;

    end = cleanup_map_canonical(w->c, w->ctx, w->envelope->id, own, name, addr);
    if (end == CLEANUP_MAP_OK)
        end = cleanup_map_canonical(w->c, w->ctx, w->envelope->id, &w->c->canonical, "canonical_maps", addr);
    return end;
}

/* RFC 3461 is not to tell strangers of copies: NOTIFY=NEVER. */
static co_fn enum cleanup_map_end add_copy(struct work *w, const char *addr)
{
    struct queue_rcpt rcpt = {.notify = MAIL_NOTIFY_NEVER, .state = QUEUE_RCPT_TODO};
    enum cleanup_map_end end = CLEANUP_MAP_OK;

    rcpt.addr = rewrite_standard_form(w->c->rewrite, w->ctx, addr);
    if (rcpt.addr[0] == '\0')
        return CLEANUP_MAP_OK;
    if (w->c->has_mappings && w->c->map_rcpt)
        end = canonical(w, &w->c->recipient_canonical, "recipient_canonical_maps", &rcpt.addr);
    return end == CLEANUP_MAP_OK ? add_expanded(w, &rcpt) : end;
}

static co_fn enum cleanup_map_end add_mapped_copies(struct work *w, const struct table_maps *maps,
                                                    const char *name, const char *addr)
{
    enum cleanup_map_end end;
    const char **found;
    size_t n;

    end = cleanup_map_find(w->c, w->ctx, w->envelope->id, maps, name, addr, false, &found, &n);
    for (size_t i = 0; i < n && end == CLEANUP_MAP_OK; i++)
        end = add_copy(w, found[i]);
    return end;
}

static co_fn enum cleanup_map_end map_sender(struct work *w)
{
    const char *sender = w->envelope->sender;
    enum cleanup_map_end end = CLEANUP_MAP_OK;

    if (sender[0] != '\0') {
        sender = rewrite_standard_form(w->c->rewrite, w->ctx, sender);
        if (w->c->has_mappings && w->c->map_sender)
            end = canonical(w, &w->c->sender_canonical, "sender_canonical_maps", &sender);
    }
    w->out->sender = sender;
    return end;
}

static co_fn enum cleanup_map_end add_recipient(struct work *w, const struct mail_rcpt *from)
{
    const struct cleanup *c = w->c;
    struct queue_rcpt rcpt = {.notify = from->notify, .orcpt = from->orcpt, .state = QUEUE_RCPT_TODO};
    const char *given = from->addr[0] ? from->addr : c->empty_recipient;
    enum cleanup_map_end end = CLEANUP_MAP_OK;

    rcpt.addr = rewrite_standard_form(c->rewrite, w->ctx, given);
    if (c->has_mappings && c->map_rcpt)
        end = canonical(w, &c->recipient_canonical, "recipient_canonical_maps", &rcpt.addr);
    if (c->keep_original && strcmp(rcpt.addr, given) != 0)
        rcpt.orig = given;
    if (end == CLEANUP_MAP_OK)
        end = add_expanded(w, &rcpt);
    if (end == CLEANUP_MAP_OK && c->has_mappings)
        end = add_mapped_copies(w, &c->recipient_bcc, "recipient_bcc_maps", rcpt.addr);
    return end;
}

static co_fn enum cleanup_map_end add_copies(struct work *w, const struct cleanup_wishes *wishes)
{
    const struct cleanup *c = w->c;
    enum cleanup_map_end end = CLEANUP_MAP_OK;

    if (c->has_mappings && c->always_bcc[0] != '\0')
        end = add_copy(w, c->always_bcc);
    if (end == CLEANUP_MAP_OK && c->has_mappings && w->out->sender[0] != '\0')
        end = add_mapped_copies(w, &c->sender_bcc, "sender_bcc_maps", w->out->sender);
    for (size_t i = 0; i < wishes->bcc_count && end == CLEANUP_MAP_OK; i++)
        end = add_copy(w, wishes->bcc[i]);
    return end;
}

static const char *text_of(const char *text)
{
    return text && text[0] ? text : NULL;
}

/* What logs and agents will say of the client. */
static void set_origin(struct queue_envelope *out, const struct mail_client *client, const char *id)
{
    struct mail_origin origin = mail_client_origin(client);

    out->log_client_name = origin.name;
    out->log_client_addr = origin.addr;
    out->log_client_port = origin.port;
    out->log_helo = origin.helo;
    out->log_proto = origin.proto;
    out->log_ident = client->forward && client->forward->ident ? client->forward->ident : id;
}

static void set_plain(struct work *w, const struct mail_client *client, const struct cleanup_wishes *wishes)
{
    const struct mail_envelope *envelope = w->envelope;
    struct queue_envelope *out = w->out;

    memcpy(out->id, envelope->id, sizeof(out->id));
    out->arrived_us = envelope->arrived_us;
    out->envid = envelope->envid;
    out->ret = envelope->ret;
    out->smtputf8 = envelope->smtputf8;
    out->is_8bit = envelope->body == MAIL_BODY_8BITMIME;
    out->filter = text_of(wishes->filter ? wishes->filter : w->c->content_filter);
    out->is_unscanned = envelope->route == MAIL_BY_QUEUE;
    set_origin(out, client, envelope->id);
}

co_fn enum cleanup_map_end cleanup_envelope(const struct cleanup *c, const void *ctx,
                                            const struct mail_client *client,
                                            const struct mail_envelope *envelope,
                                            const struct cleanup_wishes *wishes, struct queue_envelope *out_r)
{
    struct work w = {.c = c, .ctx = ctx, .envelope = envelope, .out = out_r};
    enum cleanup_map_end end;

    *out_r = (struct queue_envelope){0};
    set_plain(&w, client, wishes);
    end = map_sender(&w);
    if (wishes->redirect != NULL) {
        struct queue_rcpt only = {.state = QUEUE_RCPT_TODO};

        only.addr = rewrite_standard_form(c->rewrite, ctx, wishes->redirect);
        add(&w, &only);
    } else {
        for (size_t i = 0; i < envelope->rcpt_count && end == CLEANUP_MAP_OK; i++)
            end = add_recipient(&w, envelope->rcpts[i]);
        if (end == CLEANUP_MAP_OK)
            end = add_copies(&w, wishes);
    }
    HASH_CLEAR(hh, w.seen);
    return end;
}
