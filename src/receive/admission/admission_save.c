/*
 * When the file is written: soon after a change, by one worker for all, on a thread, so that nobody waits for
 * a disk. Records, which are many and change slowly, come along once a minute. What a worker that ended had
 * not written yet master writes, and all of it when that was the last one.
 */
#include "admission_shared.h"

#include "clock.h"
#include "co.h"
#include "log.h"
#include "mem.h"

#include <string.h>

/* TAKEN_MS: longer than any disk should need; then another worker tries. */
enum { SOON_MS = 100, RECORDS_MS = 60000, TAKEN_MS = 5000 };

struct save {
    bool with_records;
    int code;
};

static void write_now(void *arg)
{
    struct save *save = arg;

    save->code = admission_file_write(admission_shared(), admission_file(), save->with_records);
}

/* Before it is written: what changes meanwhile is behind again. */
static void begin(bool with_records)
{
    struct admission_saving *saving = &admission_shared()->saving;

    atomic_store(&saving->is_behind, false);
    if (with_records)
        atomic_store(&saving->records_ms, clock_ms());
}

static void tell(int code)
{
    static bool is_told;

    if (code != 0 && !is_told)
        log_warn("admission: its file cannot be written: %s", strerror(code));
    is_told = code != 0;
}

static co_fn void save_on_thread(void)
{
    struct save *save = mem_new(NULL, struct save);

    save->with_records = clock_ms() - atomic_load(&admission_shared()->saving.records_ms) >= RECORDS_MS;
    begin(save->with_records);
    if (co_work(write_now, save, CO_NEVER, "admission's file") != CO_OK)
        return;
    tell(save->code);
    talloc_free(save);
}

static co_fn void keep_saving(void *arg)
{
    struct admission_saving *saving = &admission_shared()->saving;

    do {
        atomic_store(&saving->taken_until, clock_ms() + TAKEN_MS);
        if (co_sleep(clock_ms() + SOON_MS, "changes of admission") == CO_CANCELLED)
            break;
        save_on_thread();
    } while (atomic_load(&saving->is_behind));
    atomic_store(&saving->taken_until, 0);
    if (atomic_load(&saving->is_behind) && !co_is_cancelled())
        admission_save_soon();
}

void admission_save_soon(void)
{
    struct admission_saving *saving = &admission_shared()->saving;
    uint64_t now = clock_ms(), until;

    if (admission_file() < 0)
        return;
    if (!atomic_load(&saving->is_behind))
        atomic_store(&saving->is_behind, true);
    until = atomic_load(&saving->taken_until);
    if (now >= until && co_self() != NULL &&
        atomic_compare_exchange_strong(&saving->taken_until, &until, now + TAKEN_MS))
        co_spawn(keep_saving, NULL, "admission's file");
}

/* Also for a worker that died before it came to it. */
void admission_save(bool with_records)
{
    if (admission_file() < 0)
        return;
    begin(with_records);
    tell(admission_file_write(admission_shared(), admission_file(), with_records));
    atomic_store(&admission_shared()->saving.taken_until, 0);
}
