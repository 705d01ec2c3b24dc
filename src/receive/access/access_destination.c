/*
 * Restrictions about where mail would go: whose domain a recipient has, and whether there is such a user.
 *
 * What stands between this host and an open relay is here. An address that names its own way
 * (user%elsewhere@here, elsewhere!user@here, user@elsewhere@here) is nobody's of ours, whatever domain it
 * ends in.
 */
#include "access_own.h"

#include <string.h>

static const char *shown_rcpt(const struct access_run *r)
{
    return r->view->rcpt != NULL ? r->view->rcpt->addr : r->rcpt;
}

/* TABLE_FOUND: ours to deliver or to relay for. */
co_fn static enum table_end is_destination(const struct access_run *r)
{
    const char *at = strrchr(r->rcpt, '@');
    struct bytes local = bytes(r->rcpt, (size_t)(at - r->rcpt));
    enum table_class which;
    enum table_end end;

    if (!r->a->trusts_routes)
        for (size_t i = 0; i < local.n; i++)
            if (strchr("%!@", local.p[i]) != NULL)
                return TABLE_ABSENT;
    end = table_domains_class(r->a->domains, bytes_of(at + 1), &which);
    if (end == TABLE_FOUND && which == TABLE_CLASS_DEFAULT)
        return TABLE_ABSENT;
    return end;
}

co_fn static enum access_end permit_auth_destination(struct access_run *r, const struct access_step *step)
{
    enum table_end end;

    if (r->rcpt == NULL)
        return ACCESS_DUNNO;
    end = is_destination(r);
    if (end == TABLE_FAILED)
        return access_reject_lookup(r, shown_rcpt(r));
    return end == TABLE_FOUND ? ACCESS_PERMIT : ACCESS_DUNNO;
}

co_fn static enum access_end refuse_relay(struct access_run *r, int code)
{
    enum table_end end;

    if (r->rcpt == NULL || (end = is_destination(r)) == TABLE_FOUND)
        return ACCESS_DUNNO;
    if (end == TABLE_FAILED)
        return access_reject_lookup(r, shown_rcpt(r));
    return access_reject(r, code, "5.7.1", "<%s>: Relay access denied", shown_rcpt(r));
}

co_fn static enum access_end reject_unauth_destination(struct access_run *r, const struct access_step *step)
{
    return refuse_relay(r, (int)conf_int(r->a->conf, "relay_domains_reject_code"));
}

co_fn static enum access_end defer_unauth_destination(struct access_run *r, const struct access_step *step)
{
    return refuse_relay(r, (int)conf_int(r->a->conf, "relay_domains_reject_code") - 100);
}

/* ---- is there such a user ---- */

static int unknown_code(const struct access_run *r, enum table_class which)
{
    static const char *const params[] = {
        [TABLE_CLASS_LOCAL] = "unknown_local_recipient_reject_code",
        [TABLE_CLASS_VIRTUAL_ALIAS] = "unknown_virtual_alias_reject_code",
        [TABLE_CLASS_VIRTUAL_MAILBOX] = "unknown_virtual_mailbox_reject_code",
        [TABLE_CLASS_RELAY] = "unknown_relay_recipient_reject_code",
    };

    return (int)conf_int(r->a->conf, params[which]);
}

co_fn static enum access_end unlisted(struct access_run *r, const char *address, const char *shown,
                                      const char *class_name, const char *dsn)
{
    enum table_class which;
    const char *table;

    switch (table_domains_has_user(r->a->domains, address, &which)) {
    case TABLE_FOUND:
        return ACCESS_DUNNO;
    case TABLE_FAILED:
        return access_reject_lookup(r, shown);
    default:
        table = r->a->tells_table ? table_class_user_table(which) : NULL;
        return access_reject(r, unknown_code(r, which), dsn, "<%s>: %s rejected: User unknown%s%s", shown,
                             class_name, table != NULL ? " in " : "", table != NULL ? table : "");
    }
}

co_fn enum access_end access_unlisted_rcpt(struct access_run *r)
{
    r->rcpt_checked = true;
    if (r->rcpt == NULL)
        return ACCESS_DUNNO;
    return unlisted(r, r->rcpt, shown_rcpt(r), access_class_rcpt, "5.1.1");
}

co_fn enum access_end access_unlisted_sender(struct access_run *r)
{
    r->sender_checked = true;
    if (r->sender == NULL || *r->sender == '\0')
        return ACCESS_DUNNO;
    return unlisted(r, r->sender, r->sender, access_class_sender, "5.1.0");
}

co_fn static enum access_end reject_unlisted_rcpt(struct access_run *r, const struct access_step *step)
{
    return access_unlisted_rcpt(r);
}

co_fn static enum access_end reject_unlisted_sender(struct access_run *r, const struct access_step *step)
{
    return access_unlisted_sender(r);
}

const struct access_word access_destination_words[] = {
    {"permit_auth_destination", ACCESS_NO_ARG, permit_auth_destination, false},
    {"reject_unauth_destination", ACCESS_NO_ARG, reject_unauth_destination, true},
    {"defer_unauth_destination", ACCESS_NO_ARG, defer_unauth_destination, true},
    {"reject_unlisted_recipient", ACCESS_NO_ARG, reject_unlisted_rcpt, false},
    {"check_recipient_maps", ACCESS_NO_ARG, reject_unlisted_rcpt, false},
    {"reject_unlisted_sender", ACCESS_NO_ARG, reject_unlisted_sender, false},
    {NULL},
};
