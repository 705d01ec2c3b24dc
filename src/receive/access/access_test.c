/* access: every restriction and action, by the hook alone: two structs in, a verdict and log lines out. */
#include "access.h"

#include "access_own.h"
#include "co.h"
#include "log.h"
#include "mem.h"
#include "table.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

/* ---- the scene ---- */

static char logged[16384];

static void take_log(const char *line, void *arg)
{
    size_t n = strlen(logged);

    snprintf(logged + n, sizeof(logged) - n, "%s\n", line);
}

/* "name=value" lines over the defaults, and settings that keep the tests away from this machine. */
static struct conf *make_conf(const char *settings)
{
    static const char base[] = "myhostname=here.test\nmyorigin=here.test\nmydestination=here.test\n"
                               "mynetworks=127.0.0.0/8\ninet_interfaces=loopback-only\nproxy_interfaces=\n"
                               "local_recipient_maps=inline:{{user=x}}\nrelay_domains=relay.test\n"
                               "recipient_delimiter=+\ncompatibility_level=3.6\n"
                               "smtpd_relay_restrictions=permit_mynetworks, reject_unauth_destination\n";
    struct conf_faults faults = {0};
    struct conf *conf = conf_read(NULL, NULL, &faults);
    char *all = mem_printf(conf, "%s%s", base, settings);
    struct bytes rest = bytes_of(all);

    while (rest.n > 0) {
        struct bytes value = bytes_cut(&rest, '\n'), name = bytes_cut(&value, '=');

        conf_set(conf, bytes_dup(conf, name), bytes_dup(conf, value), "test", 1);
    }
    return conf;
}

static struct mail_client client;
static struct mail_rcpt rcpt, other_rcpt;
static struct mail_rcpt *rcpts[2];
static struct mail_envelope envelope;

static void set_scene(void)
{
    client = (struct mail_client){.name = "c.sub.test",
                                  .reverse_name = "r.test",
                                  .addr = "192.0.2.7",
                                  .port = "99",
                                  .family = AF_INET,
                                  .helo = "helo.test",
                                  .proto = "ESMTP"};
    rcpt = (struct mail_rcpt){.addr = "user@here.test"};
    other_rcpt = (struct mail_rcpt){.addr = "other@here.test"};
    rcpts[0] = &rcpt;
    rcpts[1] = &other_rcpt;
    envelope = (struct mail_envelope){.sender = "s@from.test", .rcpts = rcpts, .rcpt_count = 0};
    logged[0] = '\0';
}

static struct mail_view view_at(enum mail_stage stage, void *ctx)
{
    struct mail_view view = {.ctx = ctx, .client = &client, .log_id = "4F1C065F3A1C201"};

    if (stage >= MAIL_AT_MAIL && stage <= MAIL_AT_END_OF_DATA)
        view.envelope = &envelope;
    if (stage == MAIL_AT_RCPT || stage == MAIL_AT_VRFY)
        view.rcpt = &rcpt;
    if (stage == MAIL_AT_ETRN)
        view.etrn_domain = "etrn.test";
    return view;
}

/* "PASS", "HANGUP" or the reply, then the actions: "450 4.7.1 text | hold:reason". */
static char *show(void *ctx, const struct mail_verdict *v)
{
    static const char *const kinds[] = {"discard", "hold", "redirect", "filter", "bcc", "prepend"};
    char *text = v->kind == MAIL_PASS     ? mem_strdup(ctx, "PASS")
                 : v->kind == MAIL_HANGUP ? mem_strdup(ctx, "HANGUP")
                                          : mail_reply_log(ctx, &v->reply);

    for (const struct mail_action *a = v->actions; a != NULL; a = a->next)
        text = mem_printf(ctx, "%s | %s:%s", text, kinds[a->kind], a->text != NULL ? a->text : "");
    return text;
}

struct job {
    struct mail_hook *hook;
    const enum mail_stage *stages;
    size_t n;
    char *answers[8];
    bool accepts;
    void *ctx;
};

/* The connection, then each stage in turn; answers[0] is the one to the connection. */
static void run_job(void *arg)
{
    struct job *job = arg;
    struct mail_view view = view_at(MAIL_AT_CONNECT, job->ctx);
    struct mail_verdict v;
    void *state;

    v = job->hook->ops->begin(job->hook, &view, &state);
    job->answers[0] = show(job->ctx, &v);
    mail_reply_deinit(&v.reply);
    for (size_t i = 0; i < job->n; i++) {
        view = view_at(job->stages[i], job->ctx);
        v = job->hook->ops->ask(job->hook, state, job->stages[i], &view);
        job->answers[i + 1] = show(job->ctx, &v);
        job->accepts = v.accepts_rcpt;
        mail_reply_deinit(&v.reply);
    }
    job->hook->ops->end(job->hook, state);
}

static struct mail_hook *must_open(const char *settings, bool is_proxied, struct conf **conf_r)
{
    struct mail_hook *hook = NULL;
    struct error *e;

    *conf_r = make_conf(settings);
    e = access_open(*conf_r, *conf_r, is_proxied, &hook);
    if (e != NULL)
        fail_msg("%s: %s", settings, e->text);
    return hook;
}

static struct job run(struct mail_hook *hook, void *ctx, const enum mail_stage *stages, size_t n)
{
    struct job job = {.hook = hook, .stages = stages, .n = n, .ctx = ctx};

    log_capture(take_log, NULL);
    co_spawn(run_job, &job, "access");
    co_run();
    log_capture(NULL, NULL);
    return job;
}

static const char *ask_one(struct conf *conf, struct mail_hook *hook, enum mail_stage stage)
{
    return run(hook, conf, &stage, 1).answers[1];
}

/* ---- one restriction, one answer ---- */

static void test_restrictions_at_rcpt(void **state)
{
    static const struct {
        const char *settings;
        const char *client_addr, *sender, *rcpt; /* NULL: as the scene has it */
        const char *answer;
    } cases[] = {
        /* relay control */
        {"", NULL, NULL, NULL, "PASS"},
        {"", NULL, NULL, "a@else.test", "554 5.7.1 <a@else.test>: Relay access denied"},
        {"", "127.0.0.9", NULL, "a@else.test", "PASS"},
        {"", NULL, NULL, "a@sub.relay.test", "PASS"},
        {"", NULL, NULL, "a%else.test@relay.test", "554 5.7.1 <a%else.test@relay.test>: Relay access denied"},
        {"", NULL, NULL, "else.test!a@relay.test", "554 5.7.1 <else.test!a@relay.test>: Relay access denied"},
        {"", NULL, NULL, "a@else.test@relay.test", "554 5.7.1 <a@else.test@relay.test>: Relay access denied"},
        {"allow_untrusted_routing=yes", NULL, NULL, "a%else.test@relay.test", "PASS"},
        {"smtpd_relay_restrictions=defer_unauth_destination", NULL, NULL, "a@else.test",
         "454 4.7.1 <a@else.test>: Relay access denied"},
        {"smtpd_relay_restrictions=permit_auth_destination, reject", NULL, NULL, "a@relay.test", "PASS"},
        {"smtpd_relay_restrictions=permit_auth_destination, reject", NULL, NULL, "a@else.test",
         "554 5.7.1 <a@else.test>: Recipient address rejected: Access denied"},
        {"smtpd_relay_restrictions=permit_inet_interfaces reject", "127.0.0.1", NULL, NULL, "PASS"},
        {"smtpd_relay_restrictions=permit_inet_interfaces reject", "127.0.0.2", NULL, NULL,
         "554 5.7.1 <user@here.test>: Recipient address rejected: Access denied"},
        {"smtpd_relay_restrictions=permit_sasl_authenticated,reject", NULL, NULL, NULL,
         "554 5.7.1 <user@here.test>: Recipient address rejected: Access denied"},
        {"relay_domains=fail:x", NULL, NULL, "a@else.test",
         "451 4.3.0 <a@else.test>: Temporary lookup failure"},
        /* unknown users */
        {"", NULL, NULL, "nobody@here.test",
         "550 5.1.1 <nobody@here.test>: Recipient address rejected: User unknown in local recipient table"},
        {"show_user_unknown_table_name=no", NULL, NULL, "nobody@here.test",
         "550 5.1.1 <nobody@here.test>: Recipient address rejected: User unknown"},
        {"smtpd_reject_unlisted_recipient=no", NULL, NULL, "nobody@here.test", "PASS"},
        {"receive_override_options=no_unknown_recipient_checks", NULL, NULL, "nobody@here.test", "PASS"},
        {"unknown_local_recipient_reject_code=450", NULL, NULL, "nobody@here.test",
         "450 4.1.1 <nobody@here.test>: Recipient address rejected: User unknown in local recipient table"},
        {"relay_recipient_maps=inline:{{a@relay.test=x}}", NULL, NULL, "b@relay.test",
         "550 5.1.1 <b@relay.test>: Recipient address rejected: User unknown in relay recipient table"},
        {"local_recipient_maps=fail:x", NULL, NULL, NULL,
         "451 4.3.0 <user@here.test>: Temporary lookup failure"},
        {"local_recipient_maps=", NULL, NULL, "nobody@here.test", "PASS"},
        {"", NULL, NULL, "nobody",
         "550 5.1.1 <nobody>: Recipient address rejected: User unknown in local recipient table"},
        {"", NULL, NULL, "PostMaster", "PASS"},
        {"smtpd_client_restrictions=reject", NULL, NULL, "postmaster", "PASS"},
        {"smtpd_client_restrictions=reject", NULL, NULL, "postmaster@here.test",
         "554 5.7.1 <c.sub.test[192.0.2.7]>: Client host rejected: Access denied"},
        {"smtpd_recipient_restrictions=reject_unlisted_recipient,permit\nsmtpd_reject_unlisted_recipient=no",
         NULL, NULL, "nobody@here.test",
         "550 5.1.1 <nobody@here.test>: Recipient address rejected: User unknown in local recipient table"},
        {"smtpd_reject_unlisted_sender=yes", NULL, "nobody@here.test", NULL,
         "550 5.1.0 <nobody@here.test>: Sender address rejected: User unknown in local recipient table"},
        {"smtpd_reject_unlisted_sender=yes", NULL, "", NULL, "PASS"},
        {"smtpd_sender_restrictions=reject_unlisted_sender", NULL, "user@here.test", NULL, "PASS"},
        /* generic */
        {"smtpd_sender_restrictions=reject", NULL, NULL, NULL,
         "554 5.7.1 <s@from.test>: Sender address rejected: Access denied"},
        {"smtpd_helo_restrictions=defer", NULL, NULL, NULL,
         "450 4.3.2 <helo.test>: Helo command rejected: Try again later"},
        {"reject_code=521\nsmtpd_helo_restrictions=REJECT", NULL, NULL, NULL,
         "521 5.7.1 <helo.test>: Helo command rejected: Access denied"},
        {"smtpd_client_restrictions=permit,reject", NULL, NULL, NULL, "PASS"},
        {"smtpd_client_restrictions=warn_if_reject reject", NULL, NULL, NULL, "PASS"},
        {"smtpd_client_restrictions=warn_if_reject reject, defer", NULL, NULL, NULL,
         "450 4.3.2 <c.sub.test[192.0.2.7]>: Client host rejected: Try again later"},
        {"smtpd_client_restrictions=defer_if_permit", NULL, NULL, NULL,
         "450 4.7.0 <c.sub.test[192.0.2.7]>: Client host rejected: defer_if_permit requested"},
        {"smtpd_client_restrictions=defer_if_permit", NULL, NULL, "a@else.test",
         "554 5.7.1 <a@else.test>: Relay access denied"},
        {"smtpd_relay_restrictions=defer_if_reject,reject_unauth_destination", NULL, NULL, "a@else.test",
         "450 4.7.0 <a@else.test>: Recipient address rejected: defer_if_reject requested"},
        {"smtpd_client_restrictions=defer_if_reject", NULL, NULL, "a@else.test",
         "554 5.7.1 <a@else.test>: Relay access denied"},
        {"smtpd_sender_restrictions=defer_if_reject", NULL, NULL, "a@else.test",
         "554 5.7.1 <a@else.test>: Relay access denied"},
        {"smtpd_client_restrictions=sleep 0, reject", NULL, NULL, NULL,
         "554 5.7.1 <c.sub.test[192.0.2.7]>: Client host rejected: Access denied"},
        {"smtpd_relay_restrictions=permit_mynetworks,reject\nsmtpd_recipient_restrictions=reject",
         "127.0.0.1", NULL, NULL, "554 5.7.1 <user@here.test>: Recipient address rejected: Access denied"},
        {"smtpd_relay_restrictions=reject\nsmtpd_recipient_restrictions=defer", NULL, NULL, NULL,
         "554 5.7.1 <user@here.test>: Recipient address rejected: Access denied"},
        {"smtpd_relay_before_recipient_restrictions=no\nsmtpd_relay_restrictions=reject\n"
         "smtpd_recipient_restrictions=defer",
         NULL, NULL, NULL, "450 4.3.2 <user@here.test>: Recipient address rejected: Try again later"},
        /* syntax */
        {"smtpd_sender_restrictions=reject_non_fqdn_sender", NULL, "s@local", NULL,
         "504 5.5.2 <s@local>: Sender address rejected: need fully-qualified address"},
        {"smtpd_sender_restrictions=reject_non_fqdn_sender", NULL, "s", NULL,
         "504 5.5.2 <s>: Sender address rejected: need fully-qualified address"},
        {"smtpd_sender_restrictions=reject_non_fqdn_sender", NULL, "", NULL, "PASS"},
        {"smtpd_sender_restrictions=reject_non_fqdn_sender", NULL, "s@[192.0.2.1]", NULL, "PASS"},
        {"smtpd_sender_restrictions=reject_non_fqdn_sender", NULL, "s@a.test.", NULL, "PASS"},
        {"smtpd_recipient_restrictions=reject_non_fqdn_recipient", NULL, NULL, "user",
         "504 5.5.2 <user>: Recipient address rejected: need fully-qualified address"},
        /* client tables */
        {"smtpd_client_restrictions=check_client_access inline:{{c.sub.test=REJECT}}", NULL, NULL, NULL,
         "554 5.7.1 <c.sub.test[192.0.2.7]>: Client host rejected: Access denied"},
        {"smtpd_client_restrictions=check_client_access inline:{{test=REJECT go away}}", NULL, NULL, NULL,
         "554 5.7.1 <c.sub.test[192.0.2.7]>: Client host rejected: go away"},
        {"smtpd_client_restrictions=check_client_access inline:{{192.0.2=DEFER 4.4.5 later}}", NULL, NULL,
         NULL, "450 4.4.5 <c.sub.test[192.0.2.7]>: Client host rejected: later"},
        {"smtpd_client_restrictions=check_client_access inline:{{2001:db8=521 no}}", "2001:db8::7", NULL,
         NULL, "521 5.7.1 <c.sub.test[2001:db8::7]>: Client host rejected: no"},
        {"smtpd_client_restrictions=check_client_access inline:{{sub.test=DUNNO}, {192.0.2.7=REJECT}}", NULL,
         NULL, NULL, "PASS"},
        {"smtpd_client_restrictions=check_client_access inline:{{sub.test=OK}}, reject", NULL, NULL, NULL,
         "PASS"},
        {"smtpd_client_restrictions=check_client_access inline:{{sub.test=relay}}, reject", NULL, NULL, NULL,
         "PASS"},
        {"smtpd_client_restrictions=check_client_access inline:{{sub.test=1234567}}, reject", NULL, NULL,
         NULL, "PASS"},
        {"smtpd_client_restrictions=check_client_access inline:{{sub.test=550}}, reject", NULL, NULL, NULL,
         "PASS"},
        {"smtpd_client_restrictions=check_client_access cidr:{{192.0.2.0/24 REJECT net}}", NULL, NULL, NULL,
         "554 5.7.1 <c.sub.test[192.0.2.7]>: Client host rejected: net"},
        {"smtpd_client_restrictions=check_client_access regexp:{{/^sub\\.test$$/ REJECT part}}", NULL, NULL,
         NULL, "PASS"},
        {"smtpd_client_restrictions=inline:{{test=REJECT}}", NULL, NULL, NULL,
         "554 5.7.1 <c.sub.test[192.0.2.7]>: Client host rejected: Access denied"},
        {"parent_domain_matches_subdomains=\n"
         "smtpd_client_restrictions=check_client_access inline:{{test=REJECT}}",
         NULL, NULL, NULL, "PASS"},
        {"parent_domain_matches_subdomains=\n"
         "smtpd_client_restrictions=check_client_access inline:{{.test=REJECT}}",
         NULL, NULL, NULL, "554 5.7.1 <c.sub.test[192.0.2.7]>: Client host rejected: Access denied"},
        {"smtpd_client_restrictions=check_reverse_client_hostname_access inline:{{r.test=REJECT}}", NULL,
         NULL, NULL, "554 5.7.1 <r.test>: Unverified Client host rejected: Access denied"},
        {"smtpd_client_restrictions=check_client_access fail:x", NULL, NULL, NULL,
         "451 4.3.0 <c.sub.test[192.0.2.7]>: Temporary lookup failure"},
        /* other tables */
        {"smtpd_helo_restrictions=check_helo_access inline:{{helo.test=REJECT}}", NULL, NULL, NULL,
         "554 5.7.1 <helo.test>: Helo command rejected: Access denied"},
        {"smtpd_sender_restrictions=check_sender_access inline:{{s@=REJECT}}", NULL, "s+x@from.test", NULL,
         "554 5.7.1 <s+x@from.test>: Sender address rejected: Access denied"},
        {"smtpd_sender_restrictions=check_sender_access inline:{{s@from.test=REJECT}}", NULL, "s+x@from.test",
         NULL, "554 5.7.1 <s+x@from.test>: Sender address rejected: Access denied"},
        {"smtpd_sender_restrictions=check_sender_access inline:{{s+x@=REJECT a}, {s@=REJECT b}}", NULL,
         "s+x@from.test", NULL, "554 5.7.1 <s+x@from.test>: Sender address rejected: a"},
        {"smtpd_sender_restrictions=check_sender_access inline:{{from.test=550 5.1.1 x}}", NULL, NULL, NULL,
         "550 5.1.7 <s@from.test>: Sender address rejected: x"},
        {"smtpd_sender_restrictions=check_sender_access inline:{{<>=REJECT}}", NULL, "", NULL,
         "554 5.7.1 <>: Sender address rejected: Access denied"},
        {"smtpd_sender_restrictions=check_recipient_access inline:{{user@=450 4.1.8 x}}", NULL, NULL, NULL,
         "450 4.1.2 <user@here.test>: Recipient address rejected: x"},
        {"smtpd_recipient_restrictions=check_recipient_access inline:{{user@here.test=REJECT}}", NULL, NULL,
         "user", "554 5.7.1 <user>: Recipient address rejected: Access denied"},
        {"smtpd_client_restrictions=check_client_access static:{550 5.1.1 x}", NULL, NULL, NULL,
         "550 5.0.0 <c.sub.test[192.0.2.7]>: Client host rejected: x"},
        {"smtpd_client_restrictions=check_client_access static:{550 4.7.9 x}", NULL, NULL, NULL,
         "550 5.7.9 <c.sub.test[192.0.2.7]>: Client host rejected: x"},
        {"smtpd_client_restrictions=check_client_access static:{DEFER_IF_PERMIT wait}", NULL, NULL, NULL,
         "450 4.7.1 <c.sub.test[192.0.2.7]>: Client host rejected: wait"},
        {"smtpd_recipient_restrictions=check_client_access static:DEFER_IF_REJECT, reject", NULL, NULL, NULL,
         "450 4.7.1 <c.sub.test[192.0.2.7]>: Client host rejected: Service unavailable"},
        {"smtpd_client_restrictions=check_client_access static:hangup", NULL, NULL, NULL, "HANGUP"},
        {"smtpd_client_restrictions=check_client_access static:{permit_mynetworks, defer}", NULL, NULL, NULL,
         "450 4.3.2 <c.sub.test[192.0.2.7]>: Client host rejected: Try again later"},
        {"smtpd_client_restrictions=check_client_access static:{bogus}", NULL, NULL, NULL,
         "451 4.3.5 Server configuration error"},
        {"smtpd_client_restrictions=check_client_access static:{check_client_access static:OK}", NULL, NULL,
         NULL, "451 4.3.5 Server configuration error"},
        {"smtpd_client_restrictions=check_client_access static:{static:OK}", NULL, NULL, NULL,
         "451 4.3.5 Server configuration error"},
        {"smtpd_client_restrictions=warn_if_reject check_client_access static:{REJECT no}", NULL, NULL, NULL,
         "PASS"},
        /* actions on the message */
        {"smtpd_client_restrictions=check_client_access static:HOLD", NULL, NULL, NULL,
         "PASS | hold:triggers HOLD action"},
        {"smtpd_client_restrictions=check_client_access static:{HOLD why not}, reject", NULL, NULL, NULL,
         "554 5.7.1 <c.sub.test[192.0.2.7]>: Client host rejected: Access denied | hold:why not"},
        {"smtpd_client_restrictions=check_client_access static:DISCARD, reject", NULL, NULL,
         "nobody@here.test", "PASS | discard:"},
        {"smtpd_client_restrictions=check_client_access static:{REDIRECT a@b.test}", NULL, NULL, NULL,
         "PASS | redirect:a@b.test"},
        {"smtpd_client_restrictions=check_client_access static:{REDIRECT nowhere}", NULL, NULL, NULL, "PASS"},
        {"smtpd_client_restrictions=check_client_access static:{FILTER smtp:[x]:25}", NULL, NULL, NULL,
         "PASS | filter:smtp:[x]:25"},
        {"smtpd_client_restrictions=check_client_access static:{FILTER x}", NULL, NULL, NULL, "PASS"},
        {"smtpd_client_restrictions=check_client_access static:{BCC a@b.test}, check_client_access "
         "static:{PREPEND X-A: b}",
         NULL, NULL, NULL, "PASS | bcc:a@b.test | prepend:X-A: b"},
        {"smtpd_client_restrictions=check_client_access static:{PREPEND no header}", NULL, NULL, NULL,
         "PASS"},
        {"smtpd_client_restrictions=check_client_access static:{INFO text}, check_client_access static:WARN",
         NULL, NULL, NULL, "PASS"},
        /* classes */
        {"smtpd_restriction_classes=one, two\none=check_client_access static:two\ntwo=defer\n"
         "smtpd_client_restrictions=one",
         NULL, NULL, NULL, "450 4.3.2 <c.sub.test[192.0.2.7]>: Client host rejected: Try again later"},
        {"smtpd_restriction_classes=one\none=permit\nsmtpd_client_restrictions=one, reject", NULL, NULL, NULL,
         "PASS"},
        {"smtpd_restriction_classes=one\none=check_client_access static:one\nsmtpd_client_restrictions=one",
         NULL, NULL, NULL, "451 4.3.5 Server configuration error"},
        {"smtpd_restriction_classes=one\none=one\nsmtpd_client_restrictions=one", NULL, NULL, NULL,
         "451 4.3.5 Server configuration error"},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct conf *conf;
        struct mail_hook *hook = must_open(cases[i].settings, false, &conf);
        const char *answer;

        set_scene();
        if (cases[i].client_addr != NULL)
            client.addr = cases[i].client_addr;
        if (cases[i].sender != NULL)
            envelope.sender = cases[i].sender;
        if (cases[i].rcpt != NULL)
            rcpt.addr = cases[i].rcpt;
        answer = ask_one(conf, hook, MAIL_AT_RCPT);
        if (strcmp(answer, cases[i].answer) != 0)
            fail_msg("case %zu: %s\n  got  %s\n  want %s", i, cases[i].settings, answer, cases[i].answer);
        talloc_free(conf);
    }
}

static void test_helo_syntax(void **state)
{
    static const struct {
        const char *restriction, *helo, *answer;
    } cases[] = {
        {"reject_invalid_helo_hostname", "good.test", "PASS"},
        {"reject_invalid_helo_hostname", "good", "PASS"},
        {"reject_invalid_helo_hostname", "bad..test",
         "501 5.5.2 <bad..test>: Helo command rejected: Invalid name"},
        {"reject_invalid_helo_hostname", "192.0.2.1", "PASS"},
        {"reject_invalid_helo_hostname", "[192.0.2.1]", "PASS"},
        {"reject_invalid_helo_hostname", "[192.0.2]",
         "501 5.5.2 <[192.0.2]>: Helo command rejected: invalid ip address"},
        {"reject_invalid_helo_hostname", NULL, "PASS"},
        {"reject_non_fqdn_helo_hostname", "good.test", "PASS"},
        {"reject_non_fqdn_helo_hostname", "good.test.", "PASS"},
        {"reject_non_fqdn_helo_hostname", "short",
         "504 5.5.2 <short>: Helo command rejected: need fully-qualified hostname"},
        {"reject_non_fqdn_helo_hostname", "192.0.2.1",
         "504 5.5.2 <192.0.2.1>: Helo command rejected: need fully-qualified hostname"},
        {"reject_non_fqdn_helo_hostname", "[192.0.2.1]", "PASS"},
        {"reject_non_fqdn_hostname", NULL, "PASS"},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char *settings = mem_printf(NULL, "smtpd_helo_restrictions=%s", cases[i].restriction);
        struct conf *conf;
        struct mail_hook *hook = must_open(settings, false, &conf);
        const char *answer;

        set_scene();
        client.helo = cases[i].helo;
        answer = ask_one(conf, hook, MAIL_AT_RCPT);
        if (strcmp(answer, cases[i].answer) != 0)
            fail_msg("%s %s: %s", cases[i].restriction, cases[i].helo, answer);
        talloc_free(conf);
        talloc_free(settings);
    }
}

static void test_client_without_name(void **state)
{
    struct conf *conf;
    struct mail_hook *hook =
        must_open("smtpd_client_restrictions=reject_unknown_client_hostname, "
                  "reject_unknown_reverse_client_hostname\nunknown_client_reject_code=550",
                  false, &conf);

    set_scene();
    assert_string_equal(ask_one(conf, hook, MAIL_AT_RCPT), "PASS");
    client.name = "unknown";
    assert_string_equal(ask_one(conf, hook, MAIL_AT_RCPT),
                        "550 5.7.25 Client host rejected: cannot find your hostname, [192.0.2.7]");
    client.name_is_temp = true;
    assert_string_equal(ask_one(conf, hook, MAIL_AT_RCPT),
                        "450 4.7.25 Client host rejected: cannot find your hostname, [192.0.2.7]");
    client.name = "x.test";
    client.reverse_name = "unknown";
    assert_string_equal(ask_one(conf, hook, MAIL_AT_RCPT),
                        "550 5.7.1 Client host rejected: cannot find your reverse hostname, [192.0.2.7]");
    talloc_free(conf);
}

/* ---- stages ---- */

static const enum mail_stage all_stages[] = {MAIL_AT_HELO, MAIL_AT_MAIL,        MAIL_AT_RCPT,
                                             MAIL_AT_DATA, MAIL_AT_END_OF_DATA, MAIL_AT_ETRN};

static void test_stages(void **state)
{
    static const struct {
        const char *settings;
        const char *answers[7];
    } cases[] = {
        {"smtpd_client_restrictions=check_client_access static:{450 c}",
         {"PASS", "PASS", "PASS", "450 4.7.1 <c.sub.test[192.0.2.7]>: Client host rejected: c", "PASS",
          "PASS", "450 4.7.1 <c.sub.test[192.0.2.7]>: Client host rejected: c"}},
        {"smtpd_delay_reject=no\nsmtpd_client_restrictions=check_client_access static:{450 c}",
         {"450 4.7.1 <c.sub.test[192.0.2.7]>: Client host rejected: c", "PASS", "PASS", "PASS", "PASS",
          "PASS", "PASS"}},
        {"smtpd_delay_reject=no\nsmtpd_helo_restrictions=reject",
         {"PASS", "554 5.7.1 <helo.test>: Helo command rejected: Access denied", "PASS", "PASS", "PASS",
          "PASS", "PASS"}},
        {"smtpd_delay_reject=no\nsmtpd_sender_restrictions=reject",
         {"PASS", "PASS", "554 5.7.1 <s@from.test>: Sender address rejected: Access denied", "PASS", "PASS",
          "PASS", "PASS"}},
        {"smtpd_delay_reject=no\nsmtpd_client_restrictions=defer_if_permit",
         {"PASS", "PASS", "PASS",
          "450 4.7.0 <c.sub.test[192.0.2.7]>: Client host rejected: defer_if_permit requested", "PASS",
          "PASS", "450 4.7.0 <c.sub.test[192.0.2.7]>: Client host rejected: defer_if_permit requested"}},
        {"smtpd_delay_reject=no\nsmtpd_sender_restrictions=defer_if_permit",
         {"PASS", "PASS", "PASS",
          "450 4.7.0 <s@from.test>: Sender address rejected: defer_if_permit requested", "PASS", "PASS",
          "PASS"}},
        {"smtpd_delay_reject=no\nsmtpd_client_restrictions=check_client_access static:HOLD",
         {"PASS", "PASS", "PASS", "PASS", "PASS", "PASS", "PASS"}},
        {"smtpd_data_restrictions=reject",
         {"PASS", "PASS", "PASS", "PASS", "554 5.7.1 <DATA>: Data command rejected: Access denied", "PASS",
          "PASS"}},
        {"smtpd_end_of_data_restrictions=check_sender_access static:{REJECT big}",
         {"PASS", "PASS", "PASS", "PASS", "PASS", "554 5.7.1 <s@from.test>: Sender address rejected: big",
          "PASS"}},
        {"smtpd_end_of_data_restrictions=defer_if_permit",
         {"PASS", "PASS", "PASS", "PASS", "PASS",
          "450 4.7.0 <END-OF-MESSAGE>: End-of-data rejected: defer_if_permit requested", "PASS"}},
        {"smtpd_end_of_data_restrictions=check_sender_access static:{PREPEND X: y}",
         {"PASS", "PASS", "PASS", "PASS", "PASS", "PASS", "PASS"}},
        {"smtpd_etrn_restrictions=check_etrn_access inline:{{etrn.test=REJECT}}",
         {"PASS", "PASS", "PASS", "PASS", "PASS", "PASS",
          "554 5.7.1 <etrn.test>: Etrn command rejected: Access denied"}},
        {"smtpd_etrn_restrictions=permit_mynetworks, reject",
         {"PASS", "PASS", "PASS", "PASS", "PASS", "PASS",
          "554 5.7.1 <etrn.test>: Etrn command rejected: Access denied"}},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct conf *conf;
        struct mail_hook *hook = must_open(cases[i].settings, false, &conf);
        struct job job;

        set_scene();
        job = run(hook, conf, all_stages, 6);
        for (size_t k = 0; k < 7; k++)
            if (strcmp(job.answers[k], cases[i].answers[k]) != 0)
                fail_msg("case %zu, stage %zu: %s", i, k, job.answers[k]);
        talloc_free(conf);
    }
}

/* At DATA and later one recipient is looked at, several are not. */
static void test_recipients_at_data(void **state)
{
    struct conf *conf;
    struct mail_hook *hook =
        must_open("smtpd_data_restrictions=check_recipient_access inline:{{user@=REJECT}}, "
                  "reject_multi_recipient_bounce",
                  false, &conf);

    set_scene();
    envelope.rcpt_count = 1;
    assert_string_equal(ask_one(conf, hook, MAIL_AT_DATA),
                        "554 5.7.1 <user@here.test>: Recipient address rejected: Access denied");
    envelope.rcpt_count = 2;
    assert_string_equal(ask_one(conf, hook, MAIL_AT_DATA), "PASS");
    envelope.sender = "";
    assert_string_equal(ask_one(conf, hook, MAIL_AT_DATA),
                        "550 5.5.3 <DATA>: Data command rejected: Multi-recipient bounce");
    talloc_free(conf);
}

static void test_accepts_rcpt(void **state)
{
    struct conf *conf;
    struct mail_hook *hook =
        must_open("smtpd_client_restrictions=check_client_access inline:{{192.0.2.7=DISCARD}}", false, &conf);
    enum mail_stage stage = MAIL_AT_RCPT;

    set_scene();
    assert_true(run(hook, conf, &stage, 1).accepts);
    client.addr = "192.0.2.8";
    assert_false(run(hook, conf, &stage, 1).accepts);
    rcpt.addr = "nobody@here.test"; /* the message is to be discarded already: no user is looked for */
    envelope.discard = true;
    assert_string_equal(ask_one(conf, hook, MAIL_AT_RCPT), "PASS");
    rcpt.addr = "Postmaster";
    assert_true(run(hook, conf, &stage, 1).accepts);
    talloc_free(conf);
}

/* ---- log ---- */

#define LOG_FROM(word, text)                                                                                 \
    "4F1C065F3A1C201: " word ": RCPT from c.sub.test[192.0.2.7]: " text                                      \
    "; from=<s@from.test> to=<user@here.test> proto=ESMTP helo=<helo.test>\n"
#define LOG_WHO "<c.sub.test[192.0.2.7]>: Client host "

static void test_log_lines(void **state)
{
    static const struct {
        const char *value;
        bool is_proxied;
        const char *line;
    } cases[] = {
        {"HOLD", false, LOG_FROM("hold", LOG_WHO "triggers HOLD action")},
        {"hold the line", false, LOG_FROM("hold", LOG_WHO "the line")},
        {"DISCARD", false, LOG_FROM("discard", LOG_WHO "triggers DISCARD action")},
        {"REDIRECT a@b", false, LOG_FROM("redirect", LOG_WHO "triggers REDIRECT a@b")},
        {"FILTER x:y", false, LOG_FROM("filter", LOG_WHO "triggers FILTER x:y")},
        {"BCC a@b", false, LOG_FROM("bcc", LOG_WHO "triggers BCC a@b")},
        {"INFO hello", false, LOG_FROM("info", "hello")},
        {"WARN hello", true, LOG_FROM("warn", "hello")},
        {"HANGUP", true, LOG_FROM("hangup", "")},
        {"OK", false, LOG_FROM("permit", "action=OK for Client host=c.sub.test[192.0.2.7] from static:OK")},
        {"REJECT", false, ""},
        {"DUNNO", false, ""},
        {"FILTER x", false,
         "warning: access table static:FILTER x entry \"c.sub.test\" requires transport:destination\n"},
        {"REDIRECT x", false,
         "warning: access table static:REDIRECT x entry \"c.sub.test\" requires user@domain target\n"},
        {"PREPEND x", false,
         "warning: access table static:PREPEND x entry \"c.sub.test\" requires header: text\n"},
        {"HOLD x", true,
         "warning: access table static:HOLD x: with smtpd_proxy_filter specified, action HOLD is "
         "unavailable\n"},
        {"DISCARD", true,
         "warning: access table static:DISCARD: with smtpd_proxy_filter specified, action DISCARD is "
         "unavailable\n"},
        {"PREPEND X: y", true, ""},
        {"bogus", false,
         "warning: access table static:bogus entry \"c.sub.test\": unknown smtpd restriction: \"bogus\"\n"},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char *settings = mem_printf(
            NULL,
            "smtpd_log_access_permit_actions=ok\nsmtpd_relay_restrictions=warn_if_reject "
            "reject_unauth_destination,reject_unauth_destination\n"
            "smtpd_client_restrictions=check_client_access static:%s%s%s",
            strchr(cases[i].value, ' ') ? "{" : "", cases[i].value, strchr(cases[i].value, ' ') ? "}" : "");
        struct conf *conf;
        struct mail_hook *hook = must_open(settings, cases[i].is_proxied, &conf);
        const char *line = cases[i].line, *spaced = strstr(line, "static:");

        set_scene();
        ask_one(conf, hook, MAIL_AT_RCPT);
        if (spaced != NULL && strchr(cases[i].value, ' ') != NULL) { /* the spec has its braces */
            char *want = mem_printf(conf, "%.*sstatic:{%s}%s", (int)(spaced - line), line, cases[i].value,
                                    spaced + 7 + strlen(cases[i].value));
            line = want;
        }
        if (strcmp(logged, line) != 0)
            fail_msg("%s\n  got  %s  want %s", cases[i].value, logged, line);
        talloc_free(conf);
        talloc_free(settings);
    }
}

static void test_reject_warning_is_logged(void **state)
{
    struct conf *conf;
    struct mail_hook *hook = must_open("smtpd_client_restrictions=warn_if_reject reject", false, &conf);

    set_scene();
    ask_one(conf, hook, MAIL_AT_RCPT);
    assert_string_equal(logged, LOG_FROM("reject_warning", "554 5.7.1 " LOG_WHO "rejected: Access denied"));
    talloc_free(conf);
}

static void test_actions_at_etrn(void **state)
{
    static const struct {
        const char *value, *line;
    } cases[] = {
        {"HOLD",
         "warning: access table static:HOLD: action HOLD is unavailable in smtpd_etrn_restrictions\n"},
        {"{PREPEND X: y}",
         "warning: access table static:{PREPEND X: y}: with smtpd_delay_reject=no, action PREPEND "
         "is always skipped in Client host or Helo command restrictions\n"},
        {"{INFO x}",
         "4F1C065F3A1C201: info: ETRN from c.sub.test[192.0.2.7]: x; proto=ESMTP helo=<helo.test>\n"},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char *settings =
            mem_printf(NULL, "smtpd_etrn_restrictions=check_client_access static:%s", cases[i].value);
        struct conf *conf;
        struct mail_hook *hook = must_open(settings, false, &conf);

        set_scene();
        assert_string_equal(ask_one(conf, hook, MAIL_AT_ETRN), "PASS");
        assert_string_equal(logged, cases[i].line);
        talloc_free(conf);
        talloc_free(settings);
    }
}

/* As Postfix 3.7 answered when asked. */
static void test_dsn_fix(void **state)
{
    static const struct {
        const char *class_name, *dsn, *fixed;
    } cases[] = {
        {access_class_sender, "5.1.0", "5.1.0"}, {access_class_sender, "5.1.1", "5.1.7"},
        {access_class_sender, "4.1.2", "4.1.8"}, {access_class_sender, "5.1.3", "5.1.7"},
        {access_class_sender, "5.1.4", "5.1.7"}, {access_class_sender, "5.1.5", "5.1.0"},
        {access_class_sender, "5.1.6", "5.1.7"}, {access_class_sender, "5.1.7", "5.1.7"},
        {access_class_sender, "5.1.8", "5.1.8"}, {access_class_sender, "5.1.9", "5.1.0"},
        {access_class_sender, "5.7.1", "5.7.1"}, {access_class_sender, "5.1.10", "5.1.0"},
        {access_class_rcpt, "5.1.1", "5.1.1"},   {access_class_rcpt, "5.1.6", "5.1.6"},
        {access_class_rcpt, "5.1.7", "5.1.3"},   {access_class_rcpt, "4.1.8", "4.1.2"},
        {access_class_rcpt, "5.1.9", "5.1.0"},   {access_class_client, "5.1.3", "5.0.0"},
        {access_class_client, "5.2.3", "5.2.3"}, {access_class_helo, "4.1.0", "4.0.0"},
    };
    char out[12];

    log_capture(take_log, NULL);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        access_dsn_fix(cases[i].dsn, cases[i].class_name, out);
        if (strcmp(out, cases[i].fixed) != 0)
            fail_msg("%s %s: %s", cases[i].class_name, cases[i].dsn, out);
    }
    log_capture(NULL, NULL);
}

/* ---- what is refused at start ---- */

static void test_open_refuses(void **state)
{
    static const struct {
        const char *settings, *why;
    } cases[] = {
        {"smtpd_client_restrictions=bogus",
         "smtpd_client_restrictions: unknown smtpd restriction: \"bogus\""},
        {"smtpd_client_restrictions=permit_mynetwork",
         "unknown smtpd restriction: \"permit_mynetwork\" (did you mean permit_mynetworks?)"},
        {"smtpd_sender_restrictions=permit_mynetworks reject_rbl_client x.test",
         "smtpd_sender_restrictions: restriction \"reject_rbl_client\" is not in this version"},
        {"smtpd_recipient_restrictions=check_policy_service inet:127.0.0.1:9",
         "smtpd_recipient_restrictions: restriction \"check_policy_service\" is not in this version"},
        {"smtpd_data_restrictions=reject_unauth_pipelining",
         "smtpd_data_restrictions: restriction \"reject_unauth_pipelining\" is not in this version"},
        {"smtpd_data_restrictions=static:OK",
         "smtpd_data_restrictions: unknown smtpd restriction: \"static:OK\""},
        {"smtpd_client_restrictions=check_client_access", "needs a type:table argument"},
        {"smtpd_client_restrictions=check_client_access permit", "needs a type:table argument"},
        {"smtpd_client_restrictions=check_client_access hash:/nowhere/x",
         "smtpd_client_restrictions: check_client_access: table hash:/nowhere/x: "},
        {"smtpd_client_restrictions=sleep", "restriction \"sleep\" needs a number"},
        {"smtpd_client_restrictions=sleep x", "restriction \"sleep\" needs a number"},
        {"smtpd_client_restrictions=warn_if_reject", "nothing behind it"},
        {"smtpd_restriction_classes=one\none=bogus", "restriction class one: unknown smtpd restriction"},
        {"smtpd_relay_restrictions=", "specify at least one working instance of: reject_unauth_destination"},
        {"smtpd_relay_restrictions=permit_mynetworks, warn_if_reject reject", "specify at least one working"},
        {"smtpd_relay_restrictions=permit, reject", "specify at least one working"},
        {"smtpd_relay_restrictions=check_client_access static:reject", "specify at least one working"},
        {"mynetworks=1.2.3.4/8",
         "mynetworks: non-null host address bits in \"1.2.3.4/8\"; use \"1.0.0.0/8\""},
        {"local_recipient_maps=bogus:x", "local_recipient_maps: unsupported dictionary type: bogus"},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct conf *conf = make_conf(cases[i].settings);
        struct mail_hook *hook = NULL;
        struct error *e = access_open(conf, conf, false, &hook);

        if (e == NULL || strstr(e->text, cases[i].why) == NULL)
            fail_msg("%s: %s", cases[i].settings, e != NULL ? e->text : "good");
        assert_int_equal(e->kind, ERROR_CONF);
        assert_null(hook);
        error_free(&e);
        talloc_free(conf);
    }
}

static void test_open_accepts(void **state)
{
    static const char *const cases[] = {
        "smtpd_relay_restrictions=\nsmtpd_recipient_restrictions=permit_mynetworks,reject",
        "smtpd_relay_restrictions=permit_mynetworks, permit_sasl_authenticated, defer_unauth_destination",
        "smtpd_restriction_classes=two,one\ntwo=one\none=reject\nsmtpd_relay_restrictions=two",
        "smtpd_relay_restrictions=Permit_MyNetworks Reject_Unauth_Destination",
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct conf *conf;

        assert_non_null(must_open(cases[i], false, &conf));
        talloc_free(conf);
    }
}

static int start(void **state)
{
    co_init(1);
    return 0;
}

static int stop(void **state)
{
    table_close_all();
    co_deinit();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_restrictions_at_rcpt),
        cmocka_unit_test(test_helo_syntax),
        cmocka_unit_test(test_client_without_name),
        cmocka_unit_test(test_stages),
        cmocka_unit_test(test_recipients_at_data),
        cmocka_unit_test(test_accepts_rcpt),
        cmocka_unit_test(test_log_lines),
        cmocka_unit_test(test_reject_warning_is_logged),
        cmocka_unit_test(test_actions_at_etrn),
        cmocka_unit_test(test_dsn_fix),
        cmocka_unit_test(test_open_refuses),
        cmocka_unit_test(test_open_accepts),
    };

    return cmocka_run_group_tests(tests, start, stop);
}
