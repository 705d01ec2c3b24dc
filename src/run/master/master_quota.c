/* The sessions of one service, counted over all its workers. See master_quota.h. */
#include "master_quota.h"

#include "clock.h"
#include "io.h"
#include "log.h"
#include "mem.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

struct page {
    atomic_uint limit;
    atomic_uint waiting; /* workers in master_quota_wait; too high after a kill, which only costs a wake */
    atomic_uint_fast64_t warned_ms; /* 0: never */
    atomic_uint used[MASTER_WORKERS];
};

struct master_quota {
    struct page *page;
    int wake; /* eventfd, counts as a semaphore: one place, one waiter */
};

static int quota_free(struct master_quota *q)
{
    munmap(q->page, sizeof(*q->page));
    master_quota_close(q);
    return 0;
}

struct master_quota *master_quota_new(const void *ctx)
{
    struct master_quota *q = mem_new(ctx, struct master_quota);

    q->page = mmap(NULL, sizeof(*q->page), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    q->wake = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC | EFD_SEMAPHORE);
    if (q->page == MAP_FAILED || q->wake < 0)
        log_fatal("session counters: %s", strerror(errno));
    talloc_set_destructor(q, quota_free);
    return q;
}

void master_quota_close(struct master_quota *q)
{
    if (q->wake >= 0)
        close(q->wake);
    q->wake = -1;
}

void master_quota_set_limit(struct master_quota *q, unsigned limit)
{
    atomic_store(&q->page->limit, limit);
}

unsigned master_quota_limit(const struct master_quota *q)
{
    return atomic_load(&q->page->limit);
}

unsigned master_quota_used(const struct master_quota *q)
{
    unsigned sum = 0;

    for (size_t i = 0; i < MASTER_WORKERS; i++)
        sum += atomic_load_explicit(&q->page->used[i], memory_order_relaxed);
    return sum;
}

unsigned master_quota_used_by(const struct master_quota *q, unsigned worker)
{
    return atomic_load(&q->page->used[worker]);
}

/* Counted first, compared after: of two that take at once each sees the other, so the sum never passes the
 * limit. */
bool master_quota_try(struct master_quota *q, unsigned worker)
{
    unsigned limit = master_quota_limit(q);

    atomic_fetch_add(&q->page->used[worker], 1);
    atomic_thread_fence(memory_order_seq_cst);
    if (limit == 0 || master_quota_used(q) <= limit)
        return true;
    atomic_fetch_sub(&q->page->used[worker], 1);
    return false;
}

static void wake_one(struct master_quota *q)
{
    uint64_t one = 1;

    if (atomic_load(&q->page->waiting) > 0 && write(q->wake, &one, sizeof(one)) < 0)
        return; /* the counter is at its end: enough wakes are on their way */
}

void master_quota_give(struct master_quota *q, unsigned worker)
{
    atomic_fetch_sub(&q->page->used[worker], 1);
    wake_one(q);
}

void master_quota_forget(struct master_quota *q, unsigned worker)
{
    if (atomic_exchange(&q->page->used[worker], 0) > 0)
        wake_one(q);
}

co_fn enum co_end master_quota_wait(struct master_quota *q, uint64_t deadline)
{
    uint64_t until = clock_ms() + MASTER_QUOTA_RETRY_MS, taken;
    enum io_end end;

    if (until > deadline)
        until = deadline;
    atomic_fetch_add(&q->page->waiting, 1);
    end = io_wait_readable(q->wake, until, "a free session");
    atomic_fetch_sub(&q->page->waiting, 1);
    if (end == IO_CANCELLED)
        return CO_CANCELLED;
    if (end == IO_OK && read(q->wake, &taken, sizeof(taken)) < 0)
        return CO_OK; /* another worker was faster; trying again tells */
    return clock_ms() >= deadline ? CO_TIMEOUT : CO_OK;
}

bool master_quota_may_warn(struct master_quota *q)
{
    uint64_t now = clock_ms() + 1, last = atomic_load(&q->page->warned_ms);

    if (last != 0 && now - last < MASTER_QUOTA_WARN_MS)
        return false;
    return atomic_compare_exchange_strong(&q->page->warned_ms, &last, now);
}
