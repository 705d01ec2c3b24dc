/* Restrictions of any list: permit, reject, defer and their kind; and Postfix's that this version does not
 * have. */
#include "access_own.h"
#include "clock.h"

static int code_of(const struct access_run *r, const char *param)
{
    return (int)conf_int(r->a->conf, param);
}

co_fn static enum access_end permit(struct access_run *r, const struct access_step *step)
{
    return ACCESS_PERMIT;
}

static enum access_end reject(struct access_run *r, const struct access_step *step)
{
    return access_reject(r, code_of(r, "reject_code"), "5.7.1", "<%s>: %s rejected: Access denied", r->what,
                         r->class_name);
}

static enum access_end defer(struct access_run *r, const struct access_step *step)
{
    return access_reject(r, code_of(r, "defer_code"), "4.3.2", "<%s>: %s rejected: Try again later", r->what,
                         r->class_name);
}

static enum access_end defer_if_permit(struct access_run *r, const struct access_step *step)
{
    return access_defer_if_permit(r, "4.7.0", "<%s>: %s rejected: defer_if_permit requested", r->what,
                                  r->class_name);
}

static enum access_end defer_if_reject(struct access_run *r, const struct access_step *step)
{
    return access_defer_if_reject(r, "4.7.0", "<%s>: %s rejected: defer_if_reject requested", r->what,
                                  r->class_name);
}

co_fn static enum access_end sleep_for(struct access_run *r, const struct access_step *step)
{
    co_sleep(clock_ms() + step->number * 1000, "restriction: sleep");
    return ACCESS_DUNNO;
}

/* RFC 5321 4.5.5: a bounce has one recipient. At RCPT the one in question is not counted yet. */
static enum access_end reject_multi_recipient_bounce(struct access_run *r, const struct access_step *step)
{
    size_t allowed = r->stage == MAIL_AT_RCPT ? 0 : 1;

    if (r->sender == NULL || *r->sender != '\0' || r->view->envelope->rcpt_count <= allowed)
        return ACCESS_DUNNO;
    return access_reject(r, code_of(r, "multi_recipient_bounce_reject_code"), "5.5.3",
                         "<%s>: %s rejected: Multi-recipient bounce", r->what, r->class_name);
}

/* There are no logins yet. */
static enum access_end never(struct access_run *r, const struct access_step *step)
{
    return ACCESS_DUNNO;
}

const struct access_word access_generic_words[] = {
    {"permit", ACCESS_NO_ARG, permit, false},
    {"reject", ACCESS_NO_ARG, reject, true},
    {"defer", ACCESS_NO_ARG, defer, true},
    {"defer_if_permit", ACCESS_NO_ARG, defer_if_permit, true},
    {"defer_if_reject", ACCESS_NO_ARG, defer_if_reject, false},
    {"sleep", ACCESS_NUMBER_ARG, sleep_for, false},
    {"reject_multi_recipient_bounce", ACCESS_NO_ARG, reject_multi_recipient_bounce, false},
    {"permit_sasl_authenticated", ACCESS_NO_ARG, never, false},
    {NULL},
};

#define NOT_HERE(name)                                                                                       \
    {                                                                                                        \
        name, ACCESS_NOT_HERE, NULL, false                                                                   \
    }
const struct access_word access_words_not_here[] = {
    NOT_HERE("check_policy_service"),
    NOT_HERE("reject_plaintext_session"),
    NOT_HERE("reject_unauth_pipelining"),
    NOT_HERE("permit_tls_clientcerts"),
    NOT_HERE("permit_tls_all_clientcerts"),
    NOT_HERE("check_ccert_access"),
    NOT_HERE("check_sasl_access"),
    NOT_HERE("check_client_a_access"),
    NOT_HERE("check_client_mx_access"),
    NOT_HERE("check_client_ns_access"),
    NOT_HERE("check_reverse_client_hostname_a_access"),
    NOT_HERE("check_reverse_client_hostname_mx_access"),
    NOT_HERE("check_reverse_client_hostname_ns_access"),
    NOT_HERE("check_helo_a_access"),
    NOT_HERE("check_helo_mx_access"),
    NOT_HERE("check_helo_ns_access"),
    NOT_HERE("check_sender_a_access"),
    NOT_HERE("check_sender_mx_access"),
    NOT_HERE("check_sender_ns_access"),
    NOT_HERE("check_recipient_a_access"),
    NOT_HERE("check_recipient_mx_access"),
    NOT_HERE("check_recipient_ns_access"),
    NOT_HERE("reject_rbl_client"),
    NOT_HERE("reject_rhsbl_client"),
    NOT_HERE("reject_rhsbl_reverse_client"),
    NOT_HERE("reject_rhsbl_helo"),
    NOT_HERE("reject_rhsbl_sender"),
    NOT_HERE("reject_rhsbl_recipient"),
    NOT_HERE("permit_dnswl_client"),
    NOT_HERE("permit_rhswl_client"),
    NOT_HERE("reject_unknown_helo_hostname"),
    NOT_HERE("reject_unknown_hostname"),
    NOT_HERE("reject_unknown_sender_domain"),
    NOT_HERE("reject_unknown_recipient_domain"),
    NOT_HERE("reject_unverified_sender"),
    NOT_HERE("reject_unverified_recipient"),
    NOT_HERE("reject_sender_login_mismatch"),
    NOT_HERE("reject_authenticated_sender_login_mismatch"),
    NOT_HERE("reject_known_sender_login_mismatch"),
    NOT_HERE("reject_unauthenticated_sender_login_mismatch"),
    NOT_HERE("permit_mx_backup"),
    NOT_HERE("check_relay_domains"),
    NOT_HERE("reject_maps_rbl"),
    NOT_HERE("permit_naked_ip_address"),
    {NULL},
};
