/* What main.cf says to the SMTP server, bound once. See smtpd.h. */
#include "smtpd_session.h"

#include "log.h"
#include "mem.h"

static struct error *bind_bare_newline(const void *ctx, struct smtpd_conf *c, const struct conf *conf)
{
    struct bytes rest = bytes_of(conf_text(conf, "smtpd_forbid_bare_newline"));
    struct bytes word = bytes_word(&rest, " \t,");

    if (bytes_ieq(word, BYTES("reject")))
        c->bare_newline = SMTP_BARE_NEWLINE_REJECT;
    else if (bytes_ieq(word, BYTES("note")))
        c->bare_newline = SMTP_BARE_NEWLINE_NOTE;
    else if (bytes_ieq(word, BYTES("normalize")) || bytes_ieq(word, BYTES("yes")) ||
             bytes_ieq(word, BYTES("no")))
        c->bare_newline = SMTP_BARE_NEWLINE_NORMALIZE; /* "no": the end of data stays strict all the same */
    else
        return error_new(ERROR_CONF, "bad smtpd_forbid_bare_newline value: %.*s", BYTES_FMT(word));
    c->bare_newline_code = (int)conf_int(conf, "smtpd_forbid_bare_newline_reject_code");
    return table_list_open_param(ctx, "smtpd_forbid_bare_newline_exclusions", TABLE_LIST_HOSTS, conf,
                                 &c->bare_newline_exclusions);
}

static struct error *bind_features(const void *ctx, struct smtpd_conf *c, const struct conf *conf)
{
    const char *list = conf_text(conf, "smtpd_discard_ehlo_keywords");
    struct bytes unknown;

    c->features =
        SMTP_PIPELINING | SMTP_SIZE | SMTP_ENHANCEDSTATUSCODES | SMTP_8BITMIME | SMTP_DSN | SMTP_CHUNKING;
    if (conf_bool(conf, "smtputf8_enable"))
        c->features |= SMTP_SMTPUTF8;
    if (!c->is_vrfy_disabled)
        c->features |= SMTP_VRFY;
    c->discarded = smtp_features_parse(bytes_of(list), &unknown);
    if (unknown.n > 0)
        log_warn("unknown EHLO keyword \"%.*s\" in smtpd_discard_ehlo_keywords", BYTES_FMT(unknown));
    return table_maps_open(ctx, conf_text(conf, "smtpd_discard_ehlo_keyword_address_maps"), conf,
                           &c->discard_maps);
}

static struct error *bind_lists(const void *ctx, struct smtpd_conf *c, const struct conf *conf)
{
    struct error *e = table_list_open_param(ctx, "smtpd_authorized_xforward_hosts", TABLE_LIST_HOSTS, conf,
                                            &c->xforward_hosts);

    if (e == NULL)
        e = table_list_open_param(ctx, "smtpd_forbidden_commands", TABLE_LIST_TEXT, conf,
                                  &c->forbidden_commands);
    if (e == NULL)
        e = table_list_open_param(ctx, "smtpd_noop_commands", TABLE_LIST_TEXT, conf, &c->noop_commands);
    if (e == NULL)
        e = bind_bare_newline(ctx, c, conf);
    return e ? e : bind_features(ctx, c, conf);
}

static void bind_numbers(struct smtpd_conf *c, const struct conf *conf)
{
    c->timeout_ms = conf_time_ms(conf, "smtpd_timeout");
    c->min_data_rate = (uint64_t)conf_int(conf, "smtpd_min_data_rate");
    c->message_size_limit = conf_size(conf, "message_size_limit");
    c->line_length_limit = (size_t)conf_size(conf, "line_length_limit");
    c->recipient_limit = conf_int(conf, "smtpd_recipient_limit");
    c->recipient_overshoot_limit = conf_int(conf, "smtpd_recipient_overshoot_limit");
    c->soft_error_limit = conf_int(conf, "smtpd_soft_error_limit");
    c->hard_error_limit = conf_int(conf, "smtpd_hard_error_limit");
    c->junk_command_limit = conf_int(conf, "smtpd_junk_command_limit");
    c->error_sleep_ms = conf_time_ms(conf, "smtpd_error_sleep_time");
    c->is_helo_required = conf_bool(conf, "smtpd_helo_required");
    c->is_vrfy_disabled = conf_bool(conf, "disable_vrfy_command");
    c->is_strict = conf_bool(conf, "strict_rfc821_envelopes");
    c->is_soft_bounce = conf_bool(conf, "soft_bounce");
    c->opens_at_mail = !conf_bool(conf, "smtpd_delay_open_until_valid_rcpt");
    c->forbids_pipelining = conf_bool(conf, "smtpd_forbid_unauth_pipelining");
}

struct error *smtpd_conf_open(const void *ctx, const struct conf *conf, struct smtpd_conf **conf_r)
{
    struct smtpd_conf *c = mem_new(ctx, struct smtpd_conf);

    c->myhostname = mem_strdup(c, conf_text(conf, "myhostname"));
    c->mail_name = mem_strdup(c, conf_text(conf, "mail_name"));
    c->banner = mem_strdup(c, conf_text(conf, "smtpd_banner"));
    bind_numbers(c, conf);
    *conf_r = c;
    return bind_lists(c, c, conf);
}
