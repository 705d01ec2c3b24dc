/* Mapping, lock and bells. See admission_shared.h. */
#include "admission_shared.h"

#include "clock.h"
#include "log.h"

#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

static struct {
    struct admission_shared *memory;
    int file; /* -1: none */
    int bells[ADMISSION_WORKERS];
    unsigned bell_count;
} the;

/* Ids of workers are given out from the lowest free one, so a few for each processor are enough for each live
 * worker to have its own; two that share one may hear each other's rings, and look by themselves a little
 * later. */
enum { BELLS_LEAST = 16, BELLS_A_PROCESSOR = 4 };

struct admission_time admission_now(void)
{
    return (struct admission_time){clock_ms(), (uint32_t)(clock_real_us() / 1000000)};
}

/* ---- memory ---- */

static void make_bells(void)
{
    long processors = sysconf(_SC_NPROCESSORS_CONF);

    the.bell_count = processors > 0 ? (unsigned)processors * BELLS_A_PROCESSOR : 0;
    if (the.bell_count < BELLS_LEAST)
        the.bell_count = BELLS_LEAST;
    if (the.bell_count > ADMISSION_WORKERS)
        the.bell_count = ADMISSION_WORKERS;
    for (unsigned i = 0; i < the.bell_count; i++) {
        the.bells[i] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
        if (the.bells[i] < 0)
            log_fatal("admission: %s", strerror(errno));
    }
}

void admission_prepare(const char *data_directory)
{
    struct error *e = NULL;
    struct admission_shared *s;

    if (the.memory != NULL)
        return;
    s = shared_map(sizeof(*s), "admission");
    admission_core_init(s, clock_real_us());
    shared_lock_init(&s->lock);
    e = admission_file_make(s, data_directory, &the.file);
    if (e != NULL)
        log_report(&e);
    make_bells();
    the.memory = s;
}

struct admission_shared *admission_shared(void)
{
    return the.memory;
}

int admission_file(void)
{
    return the.file;
}

/* ---- lock ---- */

/* What a worker that was killed left half done is mended by whoever comes next. */
struct admission_shared *admission_lock(void)
{
    if (shared_lock(&the.memory->lock)) {
        log_warn("admission: a process died while it changed the shared memory: mended");
        admission_core_repair(the.memory);
    }
    return the.memory;
}

void admission_unlock(void)
{
    shared_unlock(&the.memory->lock);
}

/* ---- bells ---- */

int admission_bell(unsigned worker)
{
    return the.bells[worker % the.bell_count];
}

void admission_ring(unsigned worker)
{
    uint64_t one = 1;

    if (write(admission_bell(worker), &one, sizeof(one)) < 0)
        log_debug("admission: worker %u cannot be told now: %s", worker, strerror(errno));
}

/* ---- a worker that died ---- */

void admission_forget(unsigned worker)
{
    struct admission_news news = {0};
    struct admission_shared *s;
    bool was_user, is_last;

    if (the.memory == NULL || worker >= ADMISSION_WORKERS)
        return;
    s = admission_lock();
    was_user = admission_core_is_used(s, worker);
    admission_core_forget(s, worker, admission_now(), &news);
    is_last = was_user && !admission_core_is_used(s, ADMISSION_WORKERS);
    admission_unlock();
    for (unsigned i = 0; i < ADMISSION_WORKERS; i++)
        if (admission_news_tells(&news, i))
            admission_ring(i);
    if (was_user)
        admission_save(is_last);
}
