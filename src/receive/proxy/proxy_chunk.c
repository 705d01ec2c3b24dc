/*
 * A whole message in one group: XFORWARD, MAIL, RCPT, and its content as one chunk (BDAT, RFC 3030). See
 * proxy_talk.h.
 *
 * DATA has a reply like no other's, and content leaves after it. Here nothing is known when the content
 * leaves, and the verdict looks like any other 250. So a connection must have shown, with a message that went
 * with DATA, that its server takes our XFORWARD, and that its reply to RCPT can be told from a verdict; and a
 * chunk of no bytes, asked for where none may stand, must have been out of place, and not unknown.
 */
#include "proxy_talk.h"

#include "clock.h"
#include "format.h"
#include "log.h"
#include "mem.h"

enum { LINE_SIZE = 40, QUESTION_MS = 2000 };

/* ---- what a connection has shown ---- */

bool proxy_is_of_address(const char *text)
{
    return bytes_has_prefix(bytes_of(text), BYTES("2.1."));
}

/* One of no bytes is out of place after a message, or the command is not known. A verdict waits meanwhile, so
 * a server that is silent is not asked over its other connections. */
static co_fn enum proxy_chunks ask(struct proxy_talk *t)
{
    enum io_end end = smtp_client_command(t->server, BYTES("BDAT 0 LAST"), clock_ms() + QUESTION_MS);
    int code = end == IO_OK ? t->server->reply.code : PROXY_GOING_AWAY;

    t->target->memo.ignores_chunks |= end == IO_TIMEOUT;
    t->is_spoilt |= code == PROXY_GOING_AWAY;
    return code == 503 || code == 554 ? PROXY_CHUNKS_TAKEN : PROXY_CHUNKS_UNKNOWN;
}

static bool may_ask(const struct proxy_talk *t)
{
    return t->chunks == PROXY_CHUNKS_UNASKED && !t->target->memo.ignores_chunks &&
           (t->deadline == 0 || clock_ms() + QUESTION_MS < t->deadline);
}

co_fn void proxy_chunk_learn(struct proxy_talk *t, const char *verdict)
{
    const struct proxy *p = t->proxy;

    if (p->chunks && p->is_whole && p->retries_after_dot && t->pipelines &&
        (t->server->features & SMTP_CHUNKING) && t->tells_rcpt && !proxy_is_of_address(verdict) && may_ask(t))
        t->chunks = ask(t);
}

bool proxy_chunk_may(const struct proxy_talk *t)
{
    return t->chunks == PROXY_CHUNKS_TAKEN && !t->needs_rset;
}

/* ---- the replies ---- */

/* Whether its refusal is no refusal of the message, which may have been taken all the same. */
static bool is_passed_over(const struct proxy_talk *t, const struct proxy_await *a)
{
    return proxy_is_private(a->step) && t->fault == PROXY_NO_FAULT;
}

static bool is_unknown_command(int code)
{
    return (code >= 500 && code <= 502) || code == 504 || code == 521;
}

/* The reply in the verdict's place; one that cannot be it is trouble. */
static struct mail_reply verdict(struct proxy_talk *t, struct mail_reply r)
{
    bool is_unknown = is_unknown_command(r.code);
    bool is_early = mail_reply_is_ok(&r) && proxy_is_of_address(r.text);

    if (t->fault != PROXY_NO_FAULT || (!is_unknown && !is_early))
        return r;
    mail_reply_deinit(&r);
    log_warn("proxy %s %s; id=%s phase=END-OF-MESSAGE", t->target->text,
             is_unknown ? "does not know BDAT" : "speaks out of turn", t->envelope->id);
    return proxy_trouble(t, PROXY_SENSELESS);
}

/* All replies; those before the verdict up to one that stands against the message, or shows trouble. A server
 * that refused what stood before the chunk has not taken it. */
static co_fn struct mail_reply settle(struct proxy_talk *t)
{
    size_t n = t->awaited_count, i = 0;
    bool is_in_doubt = false;
    struct mail_reply r = proxy_read_reply(t, &t->awaited[i], n == 1);

    t->awaited_count = 0;
    while (i + 1 < n && (mail_reply_is_ok(&r) || is_passed_over(t, &t->awaited[i]))) {
        is_in_doubt |= !mail_reply_is_ok(&r);
        mail_reply_deinit(&r);
        i++;
        r = proxy_read_reply(t, &t->awaited[i], i + 1 == n);
    }
    if (i + 1 == n)
        r = verdict(t, r);
    else if (t->fault == PROXY_NO_FAULT || t->fault == PROXY_UNREACHED)
        t->is_dot_sent = false;
    t->is_dot_answered = i + 1 == n && t->fault == PROXY_NO_FAULT && (mail_reply_is_ok(&r) || !is_in_doubt);
    t->is_spoilt |= is_in_doubt || !t->is_dot_answered;
    if (mail_reply_is_ok(&r) || !is_in_doubt)
        return r;
    mail_reply_deinit(&r);
    return mail_reply_trouble();
}

static co_fn struct mail_reply send_and_settle(struct proxy_talk *t, struct bytes content)
{
    char line[LINE_SIZE];
    int n = format_print(line, sizeof(line), "BDAT %zu LAST", content.n);
    enum io_end end;

    proxy_send(t, PROXY_DOT, bytes(line, (size_t)n));
    end = io_write(t->server->stream, content, proxy_until(t, clock_ms()));
    if (end == IO_OK)
        end = io_flush(t->server->stream, proxy_until(t, clock_ms()));
    return end == IO_OK ? settle(t) : proxy_lost(t, "content", t->content_since, end);
}

/* ---- the message ---- */

/* Once the chunk may have left, a server that is lost may have taken it. That a connection was lost before it
 * said anything is not the content's doing. */
co_fn struct mail_reply proxy_chunk(struct proxy_talk *t, struct bytes content)
{
    struct mail_reply r = proxy_talk_rcpts(t);

    if (!mail_reply_is_ok(&r))
        return r;
    mail_reply_deinit(&r);
    t->content_since = clock_ms();
    if (proxy_is_late(t))
        return proxy_lost(t, "content", t->content_since, IO_TIMEOUT);
    t->is_dot_sent = true;
    r = send_and_settle(t, content);
    t->has_sent_content = t->is_dot_sent && t->has_heard;
    t->has_begun = !mail_reply_is_ok(&r);
    proxy_talk_leave(t);
    return r;
}
