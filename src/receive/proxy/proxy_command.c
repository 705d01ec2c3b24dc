/* Commands to the server behind the proxy, one by one or in groups (RFC 2920), and what its replies mean. See
 * proxy_talk.h. */
#include "proxy_talk.h"

#include "clock.h"
#include "log.h"
#include "mem.h"

static const struct {
    const char *phase; /* in the log */
    int want;          /* first digit of the reply that goes on */
    bool is_private;   /* between us and the server: a refusal is our trouble, not the client's */
} steps[] = {
    [PROXY_GREETING] = {"greeting", 2, true}, [PROXY_EHLO] = {"EHLO", 2, true},
    [PROXY_RSET] = {"RSET", 2, true},         [PROXY_XFORWARD] = {"XFORWARD", 2, true},
    [PROXY_MAIL] = {"MAIL", 2, false},        [PROXY_RCPT] = {"RCPT", 2, false},
    [PROXY_DATA] = {"DATA", 3, false},        [PROXY_DOT] = {"END-OF-MESSAGE", 2, false},
};

/* ---- what went wrong, for the log and for the client ---- */

struct mail_reply proxy_trouble(struct proxy_talk *t, enum proxy_fault fault)
{
    smtp_client_close(&t->server);
    t->awaited_count = 0;
    t->is_in_content = false;
    t->fault = fault;
    return mail_reply_trouble();
}

/* A kept connection that fails before the transaction began has failed while nobody looked, or has had enough
 * messages. `may_have_it`: the server may have the message, for all we know. */
static void note_stale(struct proxy_talk *t, bool is_gone, bool may_have_it)
{
    t->is_stale = is_gone && t->is_reused && !t->is_under_way && !may_have_it;
    t->wants_fresh |= is_gone && t->is_reused;
}

static enum proxy_fault fault_of(const struct proxy_talk *t, enum io_end end)
{
    if (end == IO_CLOSED || end == IO_RESET)
        return PROXY_LOST;
    return end == IO_TIMEOUT && !t->is_dot_sent ? PROXY_LOST : PROXY_SENSELESS;
}

struct mail_reply proxy_lost(struct proxy_talk *t, const char *phase, uint64_t since, enum io_end end)
{
    const char *server = t->target->text;
    unsigned long long ms = clock_ms() - since;

    note_stale(t, end == IO_CLOSED || end == IO_RESET, t->is_dot_sent);
    if (t->is_stale)
        log_debug("lost connection with proxy %s: %s; it was kept", server, io_end_text(end));
    else if (end == IO_TIMEOUT)
        log_warn("timeout talking to proxy %s; id=%s phase=%s after=%llums", server, t->envelope->id, phase,
                 ms);
    else if (end == IO_FULL)
        log_warn("%s: response longer than %d; id=%s phase=%s after=%llums", server, SMTP_REPLY_LIMIT,
                 t->envelope->id, phase, ms);
    else
        log_warn("lost connection with proxy %s: %s; id=%s phase=%s after=%llums", server, io_end_text(end),
                 t->envelope->id, phase, ms);
    return proxy_trouble(t, fault_of(t, end));
}

/* 421, or any refusal to begin, is about the server and not about the message. */
static bool is_about_itself(const struct proxy_await *a, int code)
{
    return code == PROXY_GOING_AWAY || (a->step == PROXY_GREETING && code >= 400);
}

static struct mail_reply refused(struct proxy_talk *t, const struct proxy_await *a)
{
    const struct smtp_reply *r = &t->server->reply;

    note_stale(t, r->code == PROXY_GOING_AWAY, false);
    if (t->is_stale)
        return proxy_trouble(t, PROXY_LOST);
    log_warn("proxy %s rejected \"%.*s\": \"%d %s\"; id=%s phase=%s after=%llums", t->target->text,
             BYTES_FMT(a->command), r->code, r->text, t->envelope->id, steps[a->step].phase,
             (unsigned long long)(clock_ms() - t->since));
    if (r->code < 400)
        return proxy_trouble(t, PROXY_SENSELESS);
    if (is_about_itself(a, r->code)) {
        t->fault = PROXY_UNREACHED;
        t->is_spoilt = true;
    }
    return mail_reply(r->code, "", "%s", r->text);
}

/* As far as it has come. */
static bool begins_with(struct bytes reply, struct bytes code)
{
    return bytes_has_prefix(code, bytes(reply.p, reply.n < code.n ? reply.n : code.n));
}

/* A verdict is one even when the server closes behind it, or answers our QUIT already. */
static bool is_goodbye(struct proxy_talk *t, const struct proxy_await *a)
{
    struct bytes next = io_buffered(t->server->stream);

    if (t->is_quit_sent)
        return begins_with(next, BYTES("221")) || begins_with(next, BYTES("421"));
    if (a->step != PROXY_DOT || !bytes_has_prefix(next, BYTES("421 ")))
        return false;
    t->is_spoilt = true;
    return true;
}

/* 421 may come at any time, also just before the reply that was asked for. */
static struct mail_reply out_of_turn(struct proxy_talk *t, const struct proxy_await *a)
{
    bool is_closing = t->server->reply.code == PROXY_GOING_AWAY ||
                      bytes_has_prefix(io_buffered(t->server->stream), BYTES("421 "));

    log_warn("proxy %s speaks out of turn; id=%s phase=%s", t->target->text, t->envelope->id,
             steps[a->step].phase);
    return proxy_trouble(t, is_closing ? PROXY_UNREACHED : PROXY_SENSELESS);
}

/* More than was asked for; or the answer to QUIT, which nobody waits for: no verdict on a message. */
static bool is_out_of_turn(struct proxy_talk *t, const struct proxy_await *a, bool is_last)
{
    if (t->server->reply.code == PROXY_GOODBYE)
        return true;
    return is_last && io_buffered(t->server->stream).n > 0 && !is_goodbye(t, a);
}

/* The server's reply as our client's. Of those that only let us go on, nobody reads the text. */
static struct mail_reply judge(struct proxy_talk *t, const struct proxy_await *a, bool is_last)
{
    const struct smtp_reply *r = &t->server->reply;

    if (t->server->garbage != NULL)
        log_warn("received garbage from proxy %s: %s; id=%s phase=%s", t->target->text, t->server->garbage,
                 t->envelope->id, steps[a->step].phase);
    if (a->step == PROXY_DATA)
        t->is_data_open = false;
    if (is_out_of_turn(t, a, is_last))
        return out_of_turn(t, a);
    if (r->code / 100 != steps[a->step].want)
        return refused(t, a);
    t->has_heard = true;
    t->is_under_way |= a->step >= PROXY_MAIL;
    t->tells_rcpt |= a->step == PROXY_RCPT && proxy_is_of_address(r->text);
    if (a->step != PROXY_DOT)
        return mail_reply_fixed(r->code, "", "");
    return mail_reply(r->code, "", "%s", r->text);
}

static struct mail_reply judge_or_lost(struct proxy_talk *t, const struct proxy_await *a, bool is_last,
                                       enum io_end end)
{
    return end == IO_OK ? judge(t, a, is_last) : proxy_lost(t, steps[a->step].phase, t->since, end);
}

co_fn struct mail_reply proxy_read_reply(struct proxy_talk *t, const struct proxy_await *a, bool is_last)
{
    return judge_or_lost(t, a, is_last, smtp_client_read_reply(t->server, proxy_until(t, clock_ms())));
}

bool proxy_is_private(enum proxy_step step)
{
    return steps[step].is_private;
}

co_fn struct mail_reply proxy_settle_one(struct proxy_talk *t, const struct proxy_await *a, bool is_last,
                                         enum io_end end)
{
    struct mail_reply r = judge_or_lost(t, a, is_last, end);

    if (!steps[a->step].is_private || mail_reply_is_ok(&r))
        return r;
    mail_reply_deinit(&r);
    t->is_spoilt = true;
    proxy_talk_leave(t);
    return mail_reply_trouble();
}

/* ---- sending and settling ---- */

co_fn void proxy_send(struct proxy_talk *t, enum proxy_step step, struct bytes line)
{
    uint64_t now = clock_ms();

    if (t->server == NULL)
        return;
    if (t->awaited_count == 0)
        t->since = now;
    t->has_begun |= step >= PROXY_MAIL;
    t->is_data_open = step == PROXY_DATA;
    t->awaited[t->awaited_count++] = (struct proxy_await){step, line};
    smtp_client_send(t->server, line, proxy_until(t, now)); /* how that ended, settle() learns */
}

/* What follows in the group was in vain, and nobody waits for the server's word on it. */
static co_fn void give_up(struct proxy_talk *t, const struct mail_reply *why)
{
    mail_reply_deinit(&t->failure);
    t->failure = mail_reply_copy(why);
    t->is_spoilt = true;
    proxy_talk_leave(t);
}

static co_fn struct mail_reply settle_next(struct proxy_talk *t, const struct proxy_await *a, bool is_last)
{
    return proxy_settle_one(t, a, is_last, smtp_client_read_reply(t->server, proxy_until(t, clock_ms())));
}

/* A refusal of the last command leaves the conversation as it was. */
co_fn struct mail_reply proxy_settle(struct proxy_talk *t)
{
    size_t n = t->awaited_count;
    enum io_end end;

    if (t->server == NULL)
        return t->failure.code != 0 ? mail_reply_copy(&t->failure) : mail_reply_trouble();
    end = io_flush(t->server->stream, proxy_until(t, clock_ms()));
    if (end != IO_OK)
        return proxy_lost(t, steps[t->awaited[0].step].phase, t->since, end);
    t->awaited_count = 0;
    for (size_t i = 0;; i++) {
        bool is_last = i + 1 == n;
        struct mail_reply r = settle_next(t, &t->awaited[i], is_last);

        if (is_last || !mail_reply_is_ok(&r)) {
            if (!is_last && t->server != NULL)
                give_up(t, &r);
            return r;
        }
        mail_reply_deinit(&r);
    }
}

co_fn struct mail_reply proxy_command(struct proxy_talk *t, enum proxy_step step, struct bytes line)
{
    proxy_send(t, step, line);
    return proxy_settle(t);
}

co_fn struct mail_reply proxy_command_in_group(struct proxy_talk *t, enum proxy_step step, struct bytes line)
{
    proxy_send(t, step, line);
    if (t->server == NULL || !t->pipelines || t->awaited_count == PROXY_AWAITED)
        return proxy_settle(t);
    return mail_reply_fixed(250, "", "");
}
