/*
 * The scheduler: who is tried when, by which agent. One process, one loop, one coroutine for each delivery
 * under way.
 *
 *     incoming --take--> active --resolve, group by next hop--> agents --> removed
 *        deferred <-- some recipients have to wait --'     '--> bounce: failed for good, or out of time
 *
 * Only active messages are in memory (qmgr_message_active_limit, qmgr_message_recipient_limit); the others
 * wait as files, found by their mtime. What was delivered is marked in the file by the agent, so this process
 * may be killed at any instant: its successor takes back what was active and goes on.
 */
#ifndef QUEUE_QMGR_QMGR_H
#define QUEUE_QMGR_QMGR_H

#include "co.h"
#include "conf.h"
#include "queue_file.h"

/*
 * Recovers the queue and schedules it until the running coroutine is cancelled. Listens on public/qmgr below
 * the queue's directory; reaches agents at private/NAME (public/NAME when master.cf says so). Waits up to a
 * minute for another scheduler of this queue to end. NULL after cancellation; else why it could not begin.
 */
co_fn struct error *qmgr_run(const struct conf *conf, const struct conf_services *services,
                             struct queue *queue);

#endif
