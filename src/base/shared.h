/*
 * Memory that workers share: zeroed, mapped before the first fork, at the same address in all of them. It is
 * nameless, or a file in which other programs see what it holds. Its lock survives a worker that dies inside.
 * Indexes and counts are the user's, and so is what a dead worker left of them: each says how it mends them.
 */
#ifndef BASE_SHARED_H
#define BASE_SHARED_H

#include "error.h"

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- memory ---- */

/* Nameless. Never NULL: without memory the process ends ("no memory for WHAT"). */
void *shared_map(size_t size, const char *what);

/* How memory begins that is a file: so it is known again. */
struct shared_head {
    uint32_t magic, version;
    uint64_t size; /* of the whole */
};
/* The file of this path, made anew; begins with *head. Never NULL: without the file (logged: "PATH: WHY: WHAT
 * cannot be shown") it is nameless. */
void *shared_map_file(const char *path, const struct shared_head *head, const char *what);

/* ---- its file ---- */

/* A new file of zeros, PATH.new, open to be read and written; the caller closes it. Mode 0640, of the
 * folder's group when root makes it: others may read, none but its maker can make it shorter. Its blocks are
 * taken now, since a full disk must not be met in the middle of a store. An error leaves none. */
struct error *shared_file_make(const char *path, uint64_t size, int *fd_r);
/* PATH.new takes the place of PATH, whole or not at all; who has the old one keeps that. An error leaves the
 * old one, and no new one. */
struct error *shared_file_show(const char *path);
/* Or it is not to be shown: there is no PATH.new any more. */
void shared_file_drop(const char *path);
/* The first n bytes (of them the head), while others may be writing: each number is a true one, all together
 * nearly of one moment. An error when there is no such file (its code is ENOENT), or not one that begins with
 * *head and has its size. */
struct error *shared_file_read(const char *path, const struct shared_head *head, void *at, size_t n);

/* ---- its lock ---- */

/* In shared memory; to be held for microseconds, never across a wait. */
struct shared_lock {
    pthread_mutex_t mutex;
};

void shared_lock_init(struct shared_lock *lock);

bool shared_lock_inherit_(struct shared_lock *lock, int code);

/* True: the last owner died inside, and the caller, who owns it now, has to mend what that one may have left
 * half done. If the caller dies over that, the next one is told the same. */
static inline bool shared_lock(struct shared_lock *lock)
{
    int code = pthread_mutex_lock(&lock->mutex);

    return __builtin_expect(code != 0, 0) && shared_lock_inherit_(lock, code);
}

static inline void shared_unlock(struct shared_lock *lock)
{
    pthread_mutex_unlock(&lock->mutex);
}

#endif
