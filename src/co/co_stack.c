/*
 * Stacks and the switch between them. See co_stack.h.
 *
 * Compiled without _FORTIFY_SOURCE: its longjmp() refuses to go to a frame that does not lie above the
 * present one, which is what a switch of stacks does.
 */
#undef _FORTIFY_SOURCE
#include "co_stack.h"

#include <stdint.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__)
#define WITH_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define WITH_ASAN 1
#endif
#endif
#ifdef WITH_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#ifdef HAVE_VALGRIND
#include <valgrind/valgrind.h>
#endif

/* The stack that is being left or started; a switch is one thread's business. */
static struct co_context *leaving, *starting;
static void (*start_entry)(void *arg);
static void *start_arg;

void *co_stack_map(struct co_context *proto, size_t top)
{
    size_t guard = (size_t)sysconf(_SC_PAGESIZE);
    char *map = mmap(NULL, guard + CO_STACK_SIZE, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);

    if (map == MAP_FAILED)
        return NULL;
    if (mprotect(map, guard, PROT_NONE) != 0) {
        munmap(map, guard + CO_STACK_SIZE);
        return NULL;
    }
    top = (top + 63) & ~(size_t)63;
    proto->low = map + guard;
    proto->size = CO_STACK_SIZE - top;
#ifdef HAVE_VALGRIND
    proto->valgrind_id = VALGRIND_STACK_REGISTER(proto->low, proto->low + proto->size);
#endif
    return proto->low + proto->size;
}

void co_stack_unmap(struct co_context *c)
{
    size_t guard = (size_t)sysconf(_SC_PAGESIZE);

#ifdef HAVE_VALGRIND
    VALGRIND_STACK_DEREGISTER(c->valgrind_id);
#endif
#ifdef WITH_ASAN
    __asan_unpoison_memory_region(c->low, CO_STACK_SIZE);
#endif
    munmap(c->low - guard, guard + CO_STACK_SIZE);
}

static void announce_switch(struct co_context *from, const struct co_context *to)
{
    leaving = from;
#ifdef WITH_ASAN
    __sanitizer_start_switch_fiber(&from->fake_stack, to->low, to->size);
#else
    (void)to;
#endif
}

/* First thing on the new stack; learns the main stack's bounds from the sanitizer the first time. */
static void finish_switch(struct co_context *here)
{
#ifdef WITH_ASAN
    const void *low;
    size_t size;

    __sanitizer_finish_switch_fiber(here->fake_stack, &low, &size);
    if (leaving->low == NULL) {
        leaving->low = (char *)(uintptr_t)low;
        leaving->size = size;
    }
#else
    (void)here;
#endif
}

static void first_frame(void)
{
    void (*entry)(void *arg) = start_entry;
    void *arg = start_arg;

    finish_switch(starting);
    entry(arg);
    __builtin_unreachable();
}

void co_stack_start(struct co_context *from, struct co_context *c, void (*entry)(void *arg), void *arg)
{
    ucontext_t uc;

    starting = c;
    start_entry = entry;
    start_arg = arg;
    c->fake_stack = NULL;
    getcontext(&uc);
    uc.uc_stack.ss_sp = c->low;
    uc.uc_stack.ss_size = c->size;
    uc.uc_link = NULL;
    makecontext(&uc, first_frame, 0);
    if (sigsetjmp(from->env, 0) == 0) {
        announce_switch(from, c);
        setcontext(&uc);
    }
    finish_switch(from);
}

void co_stack_switch(struct co_context *from, struct co_context *to)
{
    if (sigsetjmp(from->env, 0) == 0) {
        announce_switch(from, to);
        siglongjmp(to->env, 1);
    }
    finish_switch(from);
}

void co_stack_trim(struct co_context *c)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t here = (uintptr_t)__builtin_frame_address(0);
    uintptr_t end = (here - 512) & ~(page - 1); /* below this frame and the red zone of what it calls */

    if (end > (uintptr_t)c->low)
        madvise(c->low, end - (uintptr_t)c->low, MADV_DONTNEED);
}
