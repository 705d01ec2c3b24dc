/* The sink that lets each message through once (copies.h), before cleanup. */
#ifndef RUN_DAEMON_DAEMON_COPIES_H
#define RUN_DAEMON_DAEMON_COPIES_H

#include "cleanup.h"
#include "copies.h"
#include "queue_file.h"

/* queue: where cleanup queues; NULL for a try. */
struct copies *daemon_copies_open(const void *ctx, const struct conf *conf, unsigned worker,
                                  struct queue *queue, struct cleanup *cleanup);

#endif
