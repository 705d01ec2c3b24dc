/* Restrictions about the shape and the table entries of sender and recipient. */
#include "access_own.h"
#include "mail_address.h"

#include <string.h>

static enum access_end reject_non_fqdn(struct access_run *r, const char *address, const char *class_name)
{
    const char *at = strrchr(address, '@');
    struct bytes domain = bytes_of(at != NULL ? at + 1 : "");

    if (domain.n > 0 && domain.p[0] == '[')
        return ACCESS_DUNNO;
    if (domain.n > 1 && domain.p[domain.n - 1] == '.' && domain.p[domain.n - 2] != '.')
        domain.n--;
    if (domain.n > 0 && mail_address_is_hostname(domain) && bytes_chr(domain, '.') != SIZE_MAX)
        return ACCESS_DUNNO;
    return access_reject(r, (int)conf_int(r->a->conf, "non_fqdn_reject_code"), "5.5.2",
                         "<%s>: %s rejected: need fully-qualified address", address, class_name);
}

static enum access_end reject_non_fqdn_sender(struct access_run *r, const struct access_step *step)
{
    if (r->sender == NULL || *r->sender == '\0')
        return ACCESS_DUNNO;
    return reject_non_fqdn(r, r->sender, access_class_sender);
}

/* As the client wrote it: without the domain that we would add. */
static enum access_end reject_non_fqdn_rcpt(struct access_run *r, const struct access_step *step)
{
    const char *address = r->view->rcpt != NULL ? r->view->rcpt->addr : r->rcpt;

    return address != NULL ? reject_non_fqdn(r, address, access_class_rcpt) : ACCESS_DUNNO;
}

co_fn static enum access_end check_sender(struct access_run *r, const struct access_step *step)
{
    struct access_subject s = {step->table, NULL, access_class_sender, false};

    if (r->sender == NULL)
        return ACCESS_DUNNO;
    s.what = r->sender;
    return access_table_mail(r, &s, *r->sender != '\0' ? r->sender : r->a->null_sender);
}

co_fn static enum access_end check_rcpt(struct access_run *r, const struct access_step *step)
{
    struct access_subject s = {step->table, NULL, access_class_rcpt, false};

    if (r->rcpt == NULL)
        return ACCESS_DUNNO;
    s.what = r->view->rcpt != NULL ? r->view->rcpt->addr : r->rcpt;
    return access_table_mail(r, &s, r->rcpt);
}

const struct access_word access_address_words[] = {
    {"reject_non_fqdn_sender", ACCESS_NO_ARG, reject_non_fqdn_sender, false},
    {"reject_non_fqdn_recipient", ACCESS_NO_ARG, reject_non_fqdn_rcpt, false},
    {"check_sender_access", ACCESS_TABLE_ARG, check_sender, false},
    {"check_recipient_access", ACCESS_TABLE_ARG, check_rcpt, false},
    {NULL},
};
