/* Client and stages. See mail.h. */
#include "mail.h"

static const char *known(const char *forwarded)
{
    return forwarded ? forwarded : "unknown";
}

struct mail_origin mail_client_origin(const struct mail_client *c)
{
    const struct mail_forward *f = c->forward;

    if (f == NULL)
        return (struct mail_origin){c->name, c->addr, c->port, c->helo, c->proto};
    return (struct mail_origin){known(f->name), known(f->addr), known(f->port), f->helo,
                                f->proto ? f->proto : c->proto};
}

unsigned mail_forward_retry(const struct mail_forward *f)
{
    uint64_t retry;

    if (f == NULL || f->retry == NULL || !bytes_to_u64(bytes_of(f->retry), MAIL_RETRY_LIMIT, &retry))
        return 0;
    return (unsigned)retry;
}

const char *mail_stage_name(enum mail_stage stage)
{
    static const char *const names[] = {
        [MAIL_AT_CONNECT] = "CONNECT", [MAIL_AT_HELO] = "HELO", [MAIL_AT_MAIL] = "MAIL",
        [MAIL_AT_RCPT] = "RCPT",       [MAIL_AT_DATA] = "DATA", [MAIL_AT_END_OF_DATA] = "END-OF-MESSAGE",
        [MAIL_AT_VRFY] = "VRFY",       [MAIL_AT_ETRN] = "ETRN",
    };

    return names[stage];
}
