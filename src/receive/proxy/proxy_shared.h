/*
 * What all workers of the host know of the endpoints: the work each has in hand, and whether it answers.
 *
 * One table in shared memory, guarded by a lock that is held for microseconds. What a worker has in hand is
 * counted under its id, so that its death takes back exactly that. An entry is held by the pools that name
 * it; one that nobody holds makes room for another when there is no other room.
 */
#ifndef PROXY_PROXY_SHARED_H
#define PROXY_PROXY_SHARED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { PROXY_ENDPOINTS = 256, PROXY_WORKERS = 256, PROXY_KEY_SIZE = 128 };

/* Of one worker. */
struct proxy_holder {
    uint32_t users;    /* pools and probes that hold the entry */
    uint32_t messages; /* in the filter now */
    uint64_t bytes;    /* of those messages */
};

/* One endpoint. Times are clock_ms(), which all processes share. */
struct proxy_entry {
    char key[PROXY_KEY_SIZE]; /* "127.0.0.1:10025", "[::1]:10025", "unix:/path"; "": free */
    uint32_t users, messages; /* the sums of the holders' */
    uint64_t bytes;
    uint64_t turn; /* when it was last chosen, in the order of choices */

    uint32_t fails;         /* since it last answered a message */
    uint64_t ejected_until; /* 0: not ejected; it stays ejected after this time until it answers again */
    uint64_t failed_at, tried_at, back_at;
    uint64_t trial_until; /* 0: no probe is under way */
    uint32_t trial_worker;
    uint64_t checked_at; /* by smtpd_proxy_health_interval */

    uint64_t answered, failed, ejections, reused; /* since the entry was made */
    uint64_t latency_us;                          /* moving average of a message's stay */
    struct proxy_holder holders[PROXY_WORKERS];
};

struct proxy_table;

/* Maps the table; once, before the first fork. path: a file where another program may look at it, NULL:
 * none. A file that cannot be made costs a warning. */
void proxy_shared_prepare(const char *path);
/* This process is the worker of this id (below PROXY_WORKERS, different in every live one). */
void proxy_shared_enter(unsigned worker);
/* The worker is gone: what it held and had in hand is taken back. */
void proxy_shared_forget(unsigned worker);
unsigned proxy_shared_worker(void);

/* The entry of an endpoint, made when there is none; NULL: no room. Each hold wants a drop. */
struct proxy_entry *proxy_shared_hold(const char *key);
void proxy_shared_drop(struct proxy_entry *e);

/* For everything that reads or changes an entry. */
void proxy_shared_lock(void);
void proxy_shared_unlock(void);

/* Under the lock: one more message in hand of this worker, or one less. */
void proxy_entry_take(struct proxy_entry *e, uint64_t bytes);
void proxy_entry_give(struct proxy_entry *e, uint64_t bytes);

/* All entries in use, for a look from outside: copied into at[PROXY_ENDPOINTS]; path as in prepare, NULL: of
 * this process. False: there is no such file, or it is not ours. */
bool proxy_shared_copy(const char *path, struct proxy_entry *at, size_t *n_r);

#endif
