/* local_header_rewrite_clients: whose mail is completed as mail of this site (missing headers, bare names).
 */
#ifndef RUN_DAEMON_DAEMON_LOCAL_H
#define RUN_DAEMON_DAEMON_LOCAL_H

#include "conf.h"
#include "mail.h"

struct daemon_local;

struct error *daemon_local_open(const void *ctx, const struct conf *conf, struct daemon_local **local_r);
mail_waits bool daemon_local_has(struct daemon_local *l, const struct mail_client *client);

#endif
