/* For this folder: when a message is tried again, and when its time is over. Pure. */
#ifndef QUEUE_QMGR_QMGR_TIME_H
#define QUEUE_QMGR_QMGR_TIME_H

#include <stdbool.h>
#include <stdint.h>

/* Seconds to wait after an attempt at `now`: the message's age, within [min, max]. A clock that stepped back
 * counts as no age. */
uint64_t qmgr_backoff(uint64_t arrived, uint64_t now, uint64_t min, uint64_t max);
/* After an attempt: no further one. A lifetime of 0 means one attempt. */
bool qmgr_is_expired(uint64_t arrived, uint64_t now, uint64_t lifetime);

#endif
