/*
 * The before-filter server that receives messages whole: its gate, and the ways that admission's ladder may
 * choose (enum mail_route).
 */
#ifndef RUN_DAEMON_DAEMON_FRONT_H
#define RUN_DAEMON_DAEMON_FRONT_H

#include "conf.h"
#include "proxy.h"
#include "queue_file.h"

struct daemon_front;

/* proxy: to smtpd_proxy_filter; gets the gate. worker: MASTER_TOOL_ID for a try, queue: NULL then. Owned by
 * ctx. */
struct error *daemon_front_open(const void *ctx, const struct conf *conf, unsigned worker,
                                struct queue *queue, struct proxy *proxy, struct daemon_front **front_r);
/* NULL: nothing is judged at MAIL. */
struct mail_hook *daemon_front_hook(const struct daemon_front *f);
/* The sink of one transaction, which takes the way that the envelope names. */
struct mail_sink *daemon_front_sink(void *ctx, struct daemon_front *f);

#endif
