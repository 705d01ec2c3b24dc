/* Inside co: the event loop (co_loop.c), and what it knows of the coroutines it runs (co.c). */
#ifndef CO_CO_LOOP_H
#define CO_CO_LOOP_H

#include "co.h"

#include <uv.h>

/* The libuv loop, for timers and the thread pool. */
uv_loop_t *co_loop(void);

/* The first beat of this loop not before `when` (clock_ms()): ten a second, on which all is done together
 * that may wait for one. */
uint64_t co_beat_at(uint64_t when);

/* ---- co_work.c for co_loop.c ---- */

/* A new loop begins, with so many threads, and without anybody who waits for one. */
void co_work_begin(unsigned threads);

/* ---- co.c for co_loop.c ---- */

/* Runs those that are ready, and those whom they made ready, a few times over: then the loop must look at its
 * descriptors. */
void co_run_ready(void);
bool co_has_ready(void);
/* A new loop begins without coroutines; the stacks of a parent process are not freed. */
void co_forget_all(void);
/* Closes the timers of pooled stacks; the stacks go when the libuv loop has run. */
void co_free_pool(void);

#endif
