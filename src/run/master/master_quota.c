/* The sessions of one service, counted over all its workers. See master_quota.h. */
#include "master_quota.h"

#include "clock.h"
#include "format.h"
#include "io.h"
#include "log.h"
#include "mem.h"
#include "shared.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

enum { MEASURE_MS = 50, HAS_TIME_MS = 200 };

struct page {
    char service[64]; /* "": free */
    atomic_uint limit;
    atomic_uint waiting; /* workers in master_quota_wait; too high after a kill, which only costs a wake */
    atomic_uint_fast64_t warned_ms;    /* 0: never */
    atomic_uint_fast64_t stress_ms;    /* how long stress lasts; 0: there is none */
    atomic_uint_fast64_t stress_until; /* clock_ms() */
    atomic_bool is_stressed;           /* as the log has it */
    atomic_uint workers;               /* ids that ever took a place are below */
    atomic_uint used[MASTER_WORKERS];
    atomic_ulong taken[MASTER_WORKERS]; /* each by its worker alone */
    atomic_uint busy_percent;           /* of a processor; 0: nobody has time */
    atomic_uint first;                  /* of the workers, the next ones follow it */
    atomic_bool takes[MASTER_WORKERS];
    atomic_uint_fast64_t has_time_until[MASTER_WORKERS]; /* clock_ms() */
};

struct pages {
    struct shared_head head;
    struct page at[MASTER_SERVICES];
};
static const struct shared_head head = {0x53505351, 5, sizeof(struct pages)}; /* "SPSQ" */

static struct pages *pages;

struct master_quota {
    struct page *page;
    int wake; /* eventfd, counts as a semaphore: one place, one waiter */
    /* This worker's loop, as it was measured last: */
    uint64_t measured_ms, used_ns;
    bool is_busy;
};

/* ---- where they are ---- */

static char *name_in(const char *data_directory)
{
    return mem_printf(NULL, "%s/sessions", data_directory);
}

void master_quota_prepare(const char *data_directory)
{
    char *path = name_in(data_directory);

    if (pages == NULL)
        pages = shared_map_file(path, &head, "session counters");
    talloc_free(path);
}

static struct page *take_page(const char *service)
{
    if (pages == NULL)
        pages = shared_map(sizeof(*pages), "session counters");
    for (size_t i = 0; i < MASTER_SERVICES; i++)
        if (pages->at[i].service[0] == '\0') {
            memset(&pages->at[i], 0, sizeof(pages->at[i]));
            format_print(pages->at[i].service, sizeof(pages->at[i].service), "%s", service);
            return &pages->at[i];
        }
    log_fatal("more than %d services", MASTER_SERVICES);
}

static int quota_free(struct master_quota *q)
{
    q->page->service[0] = '\0';
    master_quota_close(q);
    return 0;
}

struct master_quota *master_quota_new(const void *ctx, const char *service)
{
    struct master_quota *q = mem_new(ctx, struct master_quota);

    q->page = take_page(service);
    q->wake = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC | EFD_SEMAPHORE);
    if (q->wake < 0)
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
    unsigned workers = atomic_load(&q->page->workers), sum = 0;

    for (unsigned i = 0; i < workers && i < MASTER_WORKERS; i++) /* what `top` reads may say anything */
        sum += atomic_load_explicit(&q->page->used[i], memory_order_relaxed);
    return sum;
}

unsigned master_quota_used_by(const struct master_quota *q, unsigned worker)
{
    return atomic_load(&q->page->used[worker]);
}

/* ---- stress ---- */

void master_quota_set_stress(struct master_quota *q, uint64_t ms)
{
    atomic_store(&q->page->stress_ms, ms);
}

/* "inet smtp": without the type. */
static const char *name_of(const struct page *p)
{
    const char *blank = strchr(p->service, ' ');

    return blank ? blank + 1 : p->service;
}

/* The last place is taken, or wanted. */
static void strain(struct page *p, unsigned limit)
{
    uint64_t ms = atomic_load(&p->stress_ms);

    if (ms == 0)
        return;
    atomic_store(&p->stress_until, clock_ms() + ms);
    if (!atomic_exchange(&p->is_stressed, true))
        log_info(
            "service \"%s\" is under stress: it has all of its %u sessions; new ones get the settings of "
            "stress=yes until there has been room for %llu s",
            name_of(p), limit, (unsigned long long)ms / 1000);
}

uint64_t master_quota_stressed_until(struct master_quota *q)
{
    struct page *p = q->page;
    uint64_t until = atomic_load(&p->stress_until);

    if (!atomic_load(&p->is_stressed))
        return 0;
    if (clock_ms() < until && atomic_load(&p->stress_ms) > 0)
        return until;
    if (atomic_exchange(&p->is_stressed, false))
        log_info("service \"%s\" is no longer under stress", name_of(p));
    return 0;
}

/* ---- places ---- */

static void enter(struct page *p, unsigned worker)
{
    unsigned workers = atomic_load(&p->workers);

    while (workers <= worker && !atomic_compare_exchange_weak(&p->workers, &workers, worker + 1))
        continue;
}

/* Counted first, compared after: of two that take at once each sees the other, so the sum never passes the
 * limit. */
bool master_quota_try(struct master_quota *q, unsigned worker)
{
    unsigned limit = master_quota_limit(q), used;

    enter(q->page, worker);
    atomic_fetch_add(&q->page->used[worker], 1);
    atomic_thread_fence(memory_order_seq_cst);
    used = limit == 0 ? 0 : master_quota_used(q);
    if (limit > 0 && used >= limit)
        strain(q->page, limit);
    if (used <= limit) {
        atomic_fetch_add_explicit(&q->page->taken[worker], 1, memory_order_relaxed);
        return true;
    }
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

static void stop_taking(struct page *p, unsigned worker)
{
    atomic_store(&p->takes[worker], false);
    atomic_store(&p->has_time_until[worker], 0);
}

void master_quota_forget(struct master_quota *q, unsigned worker)
{
    stop_taking(q->page, worker);
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

/* ---- whose are the connections ---- */

void master_quota_set_busy_share(struct master_quota *q, unsigned percent)
{
    atomic_store(&q->page->busy_percent, percent);
}

static uint64_t used_by_thread_ns(void)
{
    struct timespec used;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
    return (uint64_t)used.tv_sec * 1000000000 + (uint64_t)used.tv_nsec;
}

static void measure(struct master_quota *q, uint64_t now)
{
    uint64_t passed = now - q->measured_ms, used;

    if (passed < MEASURE_MS)
        return;
    used = used_by_thread_ns();
    q->is_busy = used - q->used_ns >= passed * 10000 * atomic_load(&q->page->busy_percent);
    q->measured_ms = now;
    q->used_ns = used;
}

/* The one with the fewest sessions. */
static unsigned least(const struct page *p, unsigned worker)
{
    unsigned workers = atomic_load(&p->workers), found = worker;

    for (unsigned i = 0; i < workers; i++)
        if (atomic_load(&p->takes[i]) && atomic_load(&p->used[i]) < atomic_load(&p->used[found]))
            found = i;
    return found;
}

/* Who finds nobody in the first place takes it; who has it leaves it when it is far ahead. */
static void see_to_first(struct page *p, unsigned worker)
{
    unsigned first = atomic_load(&p->first), next;

    if (!atomic_load(&p->takes[first]))
        atomic_store(&p->first, worker);
    if (first != worker)
        return;
    next = least(p, worker);
    if (atomic_load(&p->used[worker]) >= atomic_load(&p->used[next]) + MASTER_QUOTA_AHEAD)
        atomic_store(&p->first, next);
}

void master_quota_takes(struct master_quota *q, unsigned worker, bool takes)
{
    struct page *p = q->page;
    uint64_t now = clock_ms();

    if (!takes) {
        stop_taking(p, worker);
        return;
    }
    enter(p, worker);
    measure(q, now);
    atomic_store(&p->takes[worker], true);
    atomic_store(&p->has_time_until[worker], q->is_busy ? 0 : now + HAS_TIME_MS);
    see_to_first(p, worker);
}

static unsigned rank(const struct page *p, unsigned worker)
{
    return (worker - atomic_load(&p->first)) % MASTER_WORKERS;
}

bool master_quota_is_spare(const struct master_quota *q, unsigned worker)
{
    const struct page *p = q->page;
    unsigned workers = atomic_load(&p->workers), own = rank(p, worker);
    uint64_t now = clock_ms();

    for (unsigned i = 0; i < workers; i++)
        if (atomic_load(&p->has_time_until[i]) > now && rank(p, i) < own)
            return true;
    return false;
}

bool master_quota_may_warn(struct master_quota *q)
{
    uint64_t now = clock_ms() + 1, last = atomic_load(&q->page->warned_ms);

    if (last != 0 && now - last < MASTER_QUOTA_WARN_MS)
        return false;
    return atomic_compare_exchange_strong(&q->page->warned_ms, &last, now);
}

/* ---- for `top` ---- */

static void read_page(const struct page *p, struct master_sessions *out)
{
    struct master_quota q = {.page = (struct page *)(uintptr_t)p};

    *out = (struct master_sessions){.limit = master_quota_limit(&q),
                                    .used = master_quota_used(&q),
                                    .is_stressed = atomic_load(&p->is_stressed) &&
                                                   clock_ms() < atomic_load(&p->stress_until)};
    memcpy(out->service, p->service, sizeof(out->service) - 1);
    for (size_t i = 0; i < MASTER_WORKERS; i++)
        out->taken += atomic_load_explicit(&p->taken[i], memory_order_relaxed);
}

struct error *master_quota_snapshot(const char *data_directory, struct master_sessions out_r[MASTER_SERVICES])
{
    char *path = name_in(data_directory);
    struct pages *there = mem_new(NULL, struct pages);
    struct error *e = shared_file_read(path, &head, there, sizeof(*there));

    for (size_t i = 0; e == NULL && i < MASTER_SERVICES; i++)
        read_page(&there->at[i], &out_r[i]);
    talloc_free(there);
    talloc_free(path);
    return e;
}
