/*
 * Coroutines on one event loop: a conversation written as a straight story on its own stack.
 *
 * A coroutine runs until it waits (co_park and all that is built on it) or returns; no other coroutine of the
 * process runs meanwhile, so plain data needs no lock. Every wait has an absolute deadline (clock_ms()) given
 * by its caller and a label that co_dump() shows. Cancelling makes the present wait and every later one
 * return CO_CANCELLED: the function unwinds by itself, as after any other failed wait, and frees what it
 * owns.
 *
 * `co_fn` marks what may wait. Waiting outside a coroutine is a bug and ends the process. Stacks are 64 KB:
 * no large arrays, no deep recursion; errno does not survive a wait.
 */
#ifndef CO_CO_H
#define CO_CO_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define co_fn

enum co_end {
    CO_OK,
    CO_TIMEOUT,
    CO_CANCELLED,
};

/* Only for a service's own endless loops (accept, the scheduler); nothing that a peer takes part in. */
#define CO_NEVER UINT64_MAX

struct co;

/* The loop of this process. threads: size of the thread pool for co_work(). Once, before anything else here.
 */
void co_init(unsigned threads);
/* After fork() on the main stack: the child's loop, with none of the parent's coroutines. */
void co_init_child(unsigned threads);
/* Runs until co_stop(), or until no coroutine is left. */
void co_run(void);
void co_stop(void);
/* Frees the loop and pooled stacks, for leak checks; every coroutine must have ended. */
void co_deinit(void);

/* Starts fn(arg) on the next turn of the loop. The name is copied (63 characters). */
struct co *co_spawn(void (*fn)(void *arg), void *arg, const char *name);
struct co *co_self(void); /* NULL outside coroutines */
const char *co_name(const struct co *co);
size_t co_count(void); /* coroutines alive */

/* Waits until co_wake(), the deadline, or cancellation. A wake that came before is not lost: it is kept,
 * once. A deadline five seconds away or more may be told a tenth of a second late, together with others. */
co_fn enum co_end co_park(uint64_t deadline, const char *label);
void co_wake(struct co *co);
co_fn enum co_end co_sleep(uint64_t deadline, const char *label);
/* Lets every other ready coroutine, and the loop, run once. */
co_fn void co_yield (void);

/* The coroutine's present and all later waits return CO_CANCELLED. */
void co_cancel(struct co *co);
bool co_is_cancelled(void); /* the running coroutine */
bool co_is_stopped(void);   /* cancelled, and not shielded: its waits end at once */
/* While shielded, waits of the running coroutine ignore cancellation (their deadlines still count): clean-up
 * that must talk or write. Nests. */
void co_shield(bool on);

/* Runs fn(arg) at once on the main stack, which is large, and returns; fn may not wait. For deep library
 * calls. */
void co_call_on_main(void (*fn)(void *arg), void *arg);

/* Gives the untouched part of the running coroutine's stack back to the system; for one that will wait long.
 */
void co_trim_stack(void);

/* One owner at a time, in order of asking. Zeroed memory is an unlocked mutex. */
struct co_mutex {
    struct co *owner;
    struct co_waiter *first;
};
co_fn enum co_end co_lock(struct co_mutex *m, uint64_t deadline, const char *label);
void co_unlock(struct co_mutex *m);

/*
 * Work that blocks (fsync, getaddrinfo, a database library) on the thread pool: fn(arg) runs there while the
 * coroutine waits. arg must be talloc memory; it becomes the job's. When the wait ends CO_OK, arg is the
 * caller's again; when it ends otherwise, the work goes on without its caller, and arg is freed when it is
 * done, in the loop's thread, with its talloc destructors (close what it holds there).
 */
co_fn enum co_end co_work(void (*fn)(void *arg), void *arg, uint64_t deadline, const char *label);
/* As co_work, for what may last seconds and depends on others (the name service): half of the threads at most
 * do such work at once, so that the disk's does not wait behind it. Who is not given a turn by the deadline
 * does not begin; arg is freed. */
co_fn enum co_end co_work_slow(void (*fn)(void *arg), void *arg, uint64_t deadline, const char *label);

/*
 * How far a loop is, for other processes: in memory that they share with it. What came to its descriptors
 * before seen_us (clock_us()) their watchers were told of, those of the slow lane (co_fd.h) excepted; what
 * these did at once, others see who have read seen_us.
 */
struct co_progress {
    atomic_uint_fast64_t seen_us;
    atomic_bool is_waiting; /* for events: until one comes seen_us stands still */
};
/* From now on this loop tells in *p how far it is; once, and for good. bell: an eventfd, which several loops
 * may have in common and nobody reads; a write to it makes loops that wait tell anew. */
void co_tell_progress(struct co_progress *p, int bell);

/* One line for each coroutine: name, label, how long it has waited, how long it may. Through log_info. */
void co_dump(void);

#endif
