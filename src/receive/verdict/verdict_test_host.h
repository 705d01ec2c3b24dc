/*
 * What the tests of the whole memory share. A test is a host: a process that prepares the shared memory, as
 * master does, and whose children are workers. All messages have one envelope and one size, and so one hint.
 */
#ifndef VERDICT_VERDICT_TEST_HOST_H
#define VERDICT_VERDICT_TEST_HOST_H

#include "verdict.h"

#include <stdio.h>
#include <sys/types.h>
#include <unistd.h>

/* Assertions run in children, which cannot longjmp into the parent's runner. */
#define CHECK(condition)                                                                                     \
    do {                                                                                                     \
        if (!(condition)) {                                                                                  \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                                  \
            _exit(1);                                                                                        \
        }                                                                                                    \
    } while (0)

extern char dir[64]; /* $data_directory */
extern struct conf *conf;
extern unsigned warnings; /* logged in this process */
extern struct steps {
    int go[2], seen[2];
} steps; /* pipes between the processes of a test */

int setup(void **state);
int teardown(void **state);

/* ---- processes ---- */

pid_t spawn(void (*fn)(void *arg), void *arg);
int end_of(pid_t pid); /* its status */
/* A host's whole life; its status. */
int host(void (*fn)(void *arg), void *arg);
/* A worker's life in this process: fn in a coroutine, until all is on disk. */
void work(unsigned id, co_fn void (*fn)(struct verdict *m, void *arg), void *arg);
void tell(int fd);
void hear(int fd);

/* ---- message n ---- */

bool may_know(struct verdict *m, unsigned n);
enum verdict_found start(struct verdict *m, unsigned n); /* checks what is remembered */
void abandon(struct verdict *m, unsigned n);
void end_elsewhere(struct verdict *m, unsigned n); /* without a word to this process, as in another worker */
co_fn void end_scan(struct verdict *m, unsigned n, int code, bool is_heard);
co_fn void keep(struct verdict *m, unsigned n);       /* its scan ends with 250, which nobody hears */
co_fn void keep_later(struct verdict *m, unsigned n); /* does not wait until it is on disk */
void heard(struct verdict *m, unsigned n);
enum verdict_found start_and_hear(struct verdict *m, unsigned n); /* what is remembered */
co_fn enum verdict_found wait_for(struct verdict *m, unsigned n, uint64_t ms);
struct verdict_snapshot numbers(void);

/* A worker that keeps messages 1 and 2. */
co_fn void keep_two(struct verdict *m, void *arg);
void keeper(void *arg);

#endif
