/* A session over memory. See smtpd_test_peer.h. */
#include "smtpd_test_peer.h"

#include "clock.h"
#include "mem.h"

#include <stdlib.h>

/* ---- a sink that records ---- */

static struct peer *peer_of(struct mail_sink *sink)
{
    return ((struct peer_sink *)sink)->peer;
}

static struct mail_reply or_yes(const struct mail_reply *r, int code)
{
    return r->code ? mail_reply_copy(r) : mail_reply_fixed(code, "2.0.0", "Ok");
}

struct peer_receipt {
    struct mail_receipt receipt;
    struct peer *peer;
};

static void settle(struct mail_receipt *r, bool was_heard)
{
    struct peer *p = ((struct peer_receipt *)r)->peer;

    p->heard += was_heard;
    p->unheard += !was_heard;
}

static void wake(void *arg)
{
    co_wake(arg);
}

/* The client's leaving wakes who waits for something else. */
static co_fn void wait_until_left(const struct mail_presence *presence)
{
    presence->watch(presence, wake, co_self());
    while (!presence->has_left(presence) && co_park(clock_ms() + 5000, "the client to leave") == CO_OK)
        continue;
    presence->watch(presence, NULL, NULL);
}

static struct mail_reply begin(struct mail_sink *s, const struct mail_client *c,
                               const struct mail_envelope *e)
{
    struct peer *p = peer_of(s);

    buf_addf(&p->calls, "begin<%s> ", e->sender);
    p->presence = c->presence;
    p->open++;
    buf_cut(&p->content, 0);
    return or_yes(&p->begin, 250);
}

static struct mail_reply recipient(struct mail_sink *s, const struct mail_rcpt *rcpt)
{
    buf_addf(&peer_of(s)->calls, "rcpt<%s> ", rcpt->addr);
    return or_yes(&peer_of(s)->recipient, 250);
}

static struct mail_reply content_begin(struct mail_sink *s)
{
    buf_adds(&peer_of(s)->calls, "data ");
    return or_yes(&peer_of(s)->content_begin, 354);
}

static void content(struct mail_sink *s, struct bytes piece)
{
    buf_add(&peer_of(s)->content, piece);
}

static struct mail_reply commit(struct mail_sink *s)
{
    struct peer *p = peer_of(s);
    struct peer_receipt *receipt = mem_new(s, struct peer_receipt);

    receipt->receipt = (struct mail_receipt){.settle = settle, .is_repeated = p->is_repeated};
    receipt->peer = p;
    s->receipt = &receipt->receipt;
    if (p->commits_after_left)
        wait_until_left(p->presence);
    buf_adds(&p->calls, "commit ");
    p->committed++;
    p->open--;
    return or_yes(&p->commit, 250);
}

static void abort_sink(struct mail_sink *s)
{
    struct peer *p = peer_of(s);

    buf_adds(&p->calls, "abort ");
    p->aborted++;
    p->open--;
}

static const struct mail_sink_ops sink_ops = {"peer",  begin,  recipient, content_begin,
                                              content, commit, abort_sink};

static struct mail_sink *sink_new(void *arg, void *ctx)
{
    struct peer_sink *s = mem_new(ctx, struct peer_sink);

    s->sink.ops = &sink_ops;
    s->peer = arg;
    return &s->sink;
}

/* ---- a hook that rejects at one stage ---- */

struct peer_hook {
    struct mail_hook hook;
    struct peer *peer;
};

static struct mail_verdict verdict(struct peer *p, enum mail_stage stage)
{
    if (p->reject.code != 0 && p->reject_at == stage)
        return (struct mail_verdict){.kind = MAIL_ANSWER, .reply = mail_reply_copy(&p->reject)};
    return (struct mail_verdict){.kind = MAIL_PASS};
}

static struct mail_verdict hook_begin(struct mail_hook *h, const struct mail_view *view, void **state_r)
{
    ((struct peer_hook *)h)->peer->hooks_open++;
    return verdict(((struct peer_hook *)h)->peer, MAIL_AT_CONNECT);
}

static struct mail_verdict hook_ask(struct mail_hook *h, void *state, enum mail_stage stage,
                                    const struct mail_view *view)
{
    return verdict(((struct peer_hook *)h)->peer, stage);
}

static void hook_end(struct mail_hook *h, void *state)
{
    ((struct peer_hook *)h)->peer->hooks_open--;
}

static const struct mail_hook_ops hook_ops = {"peer", hook_begin, hook_ask, hook_end};

/* ---- the session ---- */

static co_fn void talk(void *arg)
{
    struct peer *p = arg;
    void *ctx = talloc_new(NULL);
    struct conf *conf = conf_read(ctx, NULL, &(struct conf_faults){.ctx = ctx});
    struct peer_hook hook = {{&hook_ops}, p};
    struct mail_hook *hooks[] = {&hook.hook};
    struct smtpd_profile profile = {.name = "test",
                                    .hooks = hooks,
                                    .hook_count = 1,
                                    .sink = sink_new,
                                    .sink_arg = p,
                                    .adds_received = p->adds_received};
    struct mail_client client = {.name = "localhost",
                                 .reverse_name = "localhost",
                                 .addr = p->addr ? p->addr : "127.0.0.1",
                                 .port = "4711",
                                 .family = AF_INET,
                                 .server_addr = "127.0.0.1",
                                 .server_port = "25"};
    struct io_stream *stream = p->fd ? io_stream_new(ctx, p->fd) : io_memory_new(ctx, p->input, p->step);
    struct smtpd_conf *bound;
    struct error *e;

    conf_set(conf, "myhostname", "mail.example.com", "test", 1);
    conf_set(conf, "smtpd_error_sleep_time", "0", "test", 1);
    for (const char *const *s = p->settings; s != NULL && *s != NULL; s += 2)
        conf_set(conf, s[0], s[1], "test", 1);
    e = smtpd_conf_open(ctx, conf, &bound);
    if (e != NULL)
        abort();
    profile.conf = bound;
    if (p->fd == 0)
        io_memory_write_to(stream, &p->wire);
    smtpd_session_run(&profile, stream, &client);
    talloc_free(ctx);
}

void peer_run(struct peer *p)
{
    co_spawn(talk, p, "session");
    co_run();
}

void peer_deinit(struct peer *p)
{
    buf_deinit(&p->wire);
    buf_deinit(&p->content);
    buf_deinit(&p->calls);
    mail_reply_deinit(&p->reject);
}
