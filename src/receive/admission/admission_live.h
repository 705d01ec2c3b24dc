/* Admission as a worker has it, for tests: a file in a folder of its own, filters of two slots, one client.
 */
#ifndef ADMISSION_ADMISSION_LIVE_H
#define ADMISSION_ADMISSION_LIVE_H

#include "admission_shared.h"

enum { LIVE_SLOTS = 2, LIVE_SOON_MS = 10000 };

extern char live_dir[]; /* where the file is */

/* Around all tests of a program. */
void live_begin(void);
void live_end(void);

struct admission *live_open(unsigned worker, const char *filter);
struct admission_answer live_judge(struct admission *a, struct admission_ticket *t);
/* What the memory says, and what the file says. */
struct admission_snapshot live_snapshot(void);
struct admission_pool_numbers live_numbers(const char *filter);
struct admission_pool_numbers live_shown(const char *filter);
/* fn(arg) in a coroutine of a loop of its own. */
void live_run(void (*fn)(void *), void *arg);

/* Of the pool of the test that runs: every slot taken and given; and a message that waits, a coroutine. */
extern struct admission *live_pool;
extern struct admission_ticket live_ticket;
extern enum admission_end live_end_of_wait;
void live_hold_all(void);
void live_give_all(void);
co_fn void live_wait(void *arg);

#endif
