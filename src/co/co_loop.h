/* Inside co: the libuv loop, for timers and the thread pool. */
#ifndef CO_CO_LOOP_H
#define CO_CO_LOOP_H

#include "co.h"

#include <uv.h>

uv_loop_t *co_loop(void);

#endif
