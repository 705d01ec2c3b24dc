/* What a conversation means for the recipients. See remote_session.h. */
#include "remote_session.h"

#include "log.h"
#include "mem.h"

static enum deliver_status status_of(const struct smtp_client *c)
{
    return c->reply.code / 100 == 5 ? DELIVER_BOUNCED : DELIVER_DEFERRED;
}

static void give(struct remote_session *s, size_t i, const struct deliver_result *result, bool is_final)
{
    struct deliver_result *to = &s->d->results[s->todo[i]];

    *to = *result;
    to->text = mem_strdup(s->d->ctx, result->text);
    to->connected_us = s->connected_us;
    s->d->is_final[s->todo[i]] = is_final;
    s->d->is_answered[s->todo[i]] = true;
}

void remote_site_failed(struct remote_session *s, enum deliver_status status, const char *dsn,
                        const char *text)
{
    struct deliver_result *site = &s->d->site;

    deliver_result_set(s->d->ctx, site, status, dsn, s->relay, "%s", text);
    site->is_site = true;
    log_debug("%s: %s", s->d->request->envelope->id, text);
}

void remote_lost(struct remote_session *s, enum io_end end, const char *while_doing)
{
    const char *text;

    if (end == IO_TIMEOUT)
        text = mem_printf(s->d->ctx, "conversation with %s timed out while %s", s->peer, while_doing);
    else
        text = mem_printf(s->d->ctx, "lost connection with %s while %s", s->peer, while_doing);
    remote_site_failed(s, DELIVER_DEFERRED, "4.4.2", text);
}

void remote_reply_failed(struct remote_session *s, size_t i, const char *command)
{
    struct deliver_result result = {
        .status = status_of(s->client), .relay = s->relay, .remote = s->host->name};
    size_t at;

    remote_reply_dsn(s->client, result.dsn);
    if (result.dsn[0] == '2') /* "yes" to DATA */
        snprintf(result.dsn, sizeof(result.dsn), "4.5.0");
    result.text = mem_printf(s->d->ctx, "host %s said: %s (in reply to %s)", s->peer,
                             remote_reply_text(s->d->ctx, s->client), command);
    for (at = 0; at < s->n; at++) {
        if (at == i || (i == SIZE_MAX && !s->d->is_final[s->todo[at]]))
            give(s, at, &result, result.status == DELIVER_BOUNCED);
    }
}

void remote_all_failed(struct remote_session *s, enum deliver_status status, const char *dsn,
                       const char *text)
{
    struct deliver_result result = {.status = status, .relay = s->relay, .text = (char *)text};
    size_t at;

    snprintf(result.dsn, sizeof(result.dsn), "%s", dsn);
    for (at = 0; at < s->n; at++) {
        if (!s->d->is_final[s->todo[at]])
            give(s, at, &result, status == DELIVER_BOUNCED);
    }
}

void remote_data_failed(struct remote_session *s, const char *command)
{
    size_t i;

    for (i = 0; i < s->n; i++) {
        if (s->is_taken[i])
            remote_reply_failed(s, i, command);
    }
}

void remote_in_doubt(struct remote_session *s, enum io_end end)
{
    size_t i;

    remote_lost(s, end, "sending end of data -- message may be sent more than once");
    for (i = 0; i < s->n; i++) {
        if (s->is_taken[i])
            give(s, i, &s->d->site, true);
    }
}

void remote_sent(struct remote_session *s)
{
    struct deliver_result result = {.status = DELIVER_SENT, .relay = s->relay, .remote = s->host->name};
    size_t i;

    remote_reply_dsn(s->client, result.dsn);
    result.text = remote_reply_text(s->d->ctx, s->client);
    for (i = 0; i < s->n; i++) {
        if (s->is_taken[i])
            give(s, i, &result, true);
    }
}
