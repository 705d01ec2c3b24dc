/* Admission as a worker has it, for tests. See admission_live.h. */
#include "admission_live.h"

#include "clock.h"
#include "mem.h"
#include "table.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

char live_dir[] = "/tmp/admission-test-XXXXXX";
static void *all; /* owns what tests open */

struct admission *live_open(unsigned worker, const char *filter)
{
    struct conf_faults faults = {.ctx = all};
    struct conf *conf = conf_read(all, NULL, &faults);
    struct admission *a;

    admission_forget(worker);
    conf_set(conf, "mynetworks", "127.0.0.0/8", "test", 1);
    conf_set(conf, "smtpd_proxy_concurrency_limit", "2", "test", 2);
    conf_set(conf, "smtpd_proxy_stranger_patience", "20s", "test", 3);
    assert_null(admission_open(conf, conf, filter, worker, &a));
    assert_non_null(a);
    return a;
}

static const struct mail_client stranger = {.name = "unknown", .addr = "192.0.2.1", .family = AF_INET};

struct admission_answer live_judge(struct admission *a, struct admission_ticket *t)
{
    struct admission_client who;

    admission_know(a, &stranger, false, &who);
    return admission_judge(a, &who, 4096, t);
}

static struct admission_snapshot shown(void)
{
    struct admission_snapshot seen;

    assert_null(admission_snapshot(live_dir, &seen));
    return seen;
}

static struct admission_pool_numbers numbers_of(const struct admission_snapshot *seen, const char *filter)
{
    for (int i = 0; i < ADMISSION_POOLS; i++)
        if (strcmp(seen->pools[i].name, filter) == 0)
            return seen->pools[i];
    fail_msg("no filter %s", filter);
    return seen->pools[0];
}

struct admission_snapshot live_snapshot(void)
{
    admission_save(false);
    return shown();
}

struct admission_pool_numbers live_numbers(const char *filter)
{
    struct admission_snapshot seen = live_snapshot();

    return numbers_of(&seen, filter);
}

struct admission_pool_numbers live_shown(const char *filter)
{
    struct admission_snapshot seen = shown();

    return numbers_of(&seen, filter);
}

void live_run(void (*fn)(void *), void *arg)
{
    co_init(1);
    co_spawn(fn, arg, "test");
    co_run();
    co_deinit();
}

struct admission *live_pool;
static struct admission_ticket held[LIVE_SLOTS];
struct admission_ticket live_ticket;
enum admission_end live_end_of_wait;

void live_hold_all(void)
{
    for (int i = 0; i < LIVE_SLOTS; i++) {
        assert_true(live_judge(live_pool, &held[i]).is_admitted);
        assert_int_equal(admission_take(live_pool, &held[i], 4096, clock_ms() + LIVE_SOON_MS),
                         ADMISSION_GRANTED);
    }
}

void live_give_all(void)
{
    for (int i = 0; i < LIVE_SLOTS; i++)
        admission_give(live_pool, &held[i], ADMISSION_OK, 10, 4096);
}

void live_wait(void *arg)
{
    live_judge(live_pool, &live_ticket);
    live_end_of_wait = admission_take(live_pool, &live_ticket, 4096, clock_ms() + LIVE_SOON_MS);
}

/* ---- all of it ---- */

void live_begin(void)
{
    assert_non_null(mkdtemp(live_dir));
    all = talloc_new(NULL);
    admission_prepare(live_dir);
}

void live_end(void)
{
    unlink(admission_file_name(all, live_dir));
    rmdir(live_dir);
    table_close_all();
    talloc_free(all);
}
