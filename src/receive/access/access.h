/*
 * Access control: the hook of the eight restriction lists, smtpd_{client,helo,sender,relay,recipient,data,
 * end_of_data,etrn}_restrictions, as access(5) and postconf(5) tell.
 *
 * The lists are compiled once, at open: an unknown restriction, one that this version does not have, a table
 * that cannot be opened, or lists that would make an open relay are an ERROR_CONF that names list and
 * restriction.
 *
 * What a client sees is in the verdict; the session logs `reject:`. The hook logs the other words:
 * reject_warning, hold, discard, redirect, filter, bcc, info, warn, hangup, permit.
 */
#ifndef ACCESS_ACCESS_H
#define ACCESS_ACCESS_H

#include "conf.h"
#include "error.h"
#include "mail.h"

/*
 * The hook is owned by ctx; conf must outlive it. is_proxied: smtpd_proxy_filter is set, so HOLD, FILTER,
 * REDIRECT, DISCARD and BCC are refused with Postfix's warning.
 *
 * A verdict may carry actions also when it rejects: like Postfix, an action that was triggered for a
 * recipient that was then refused counts for the whole message.
 */
struct error *access_open(const void *ctx, const struct conf *conf, bool is_proxied,
                          struct mail_hook **hook_r);

#endif
