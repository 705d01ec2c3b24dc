/*
 * Stacks and the switch between them; known to co.c alone.
 *
 * A stack is a 64 KB mapping above a guard page. Its top holds the struct co that owns it, so an idle
 * coroutine touches one page for both. Stacks are made with makecontext() once and switched with
 * sigsetjmp()/siglongjmp(), which cost no system call; a stack that comes back to the pool is started again
 * without another makecontext(). AddressSanitizer and valgrind are told of each stack.
 */
#ifndef CO_CO_STACK_H
#define CO_CO_STACK_H

#include <setjmp.h>
#include <stdbool.h>
#include <stddef.h>

enum { CO_STACK_SIZE = 65536 };

struct co_context {
    sigjmp_buf env;
    char *low; /* lowest usable byte; NULL: the main stack */
    size_t size;
    void *fake_stack; /* AddressSanitizer's */
    unsigned valgrind_id;
};

/* Maps a stack with `top` bytes reserved at its upper end; returns where they are, or NULL (errno). */
void *co_stack_map(struct co_context *proto, size_t top);
void co_stack_unmap(struct co_context *c);

/* Starts entry(arg) on c's stack; returns when it switches back to `from`. */
void co_stack_start(struct co_context *from, struct co_context *c, void (*entry)(void *arg), void *arg);
/* Leaves `from` and goes on where `to` was left. */
void co_stack_switch(struct co_context *from, struct co_context *to);
/* Gives whole pages below the caller's frame back to the system. */
void co_stack_trim(struct co_context *c);

#endif
