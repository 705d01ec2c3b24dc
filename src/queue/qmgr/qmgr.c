/*
 * The scheduler's frame: settings, the lock that makes it the only one, the doorbell, and its coroutines. See
 * qmgr.h.
 */
#include "qmgr.h"

#include "clock.h"
#include "log.h"
#include "mem.h"
#include "qmgr_state.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <utlist.h>

enum { LOCK_TRIES = 600, LOCK_PAUSE_MS = 100, END_TIMEOUT_MS = 10 * 1000 };

/* ---- coroutines ---- */

static void run_task(void *arg)
{
    struct qmgr_task *task = arg;
    struct qmgr *q = task->qmgr;

    if (!co_is_cancelled())
        task->run(q, task->arg);
    DL_DELETE(q->tasks, task);
    talloc_free(task);
    if (q->tasks == NULL && q->feeder != NULL)
        co_wake(q->feeder);
}

void qmgr_spawn(struct qmgr *q, void (*run)(struct qmgr *q, void *arg), void *arg, const char *name)
{
    struct qmgr_task *task = mem_new(q, struct qmgr_task);

    task->qmgr = q;
    task->run = run;
    task->arg = arg;
    DL_APPEND(q->tasks, task);
    task->co = co_spawn(run_task, task, name);
}

void qmgr_wake(struct qmgr *q)
{
    co_wake(q->feeder);
}

static bool is_busy(const struct qmgr *q)
{
    return q->tasks != NULL || q->scans > 0;
}

/* What was under way is found in active by the next scheduler. */
static co_fn void end_tasks(struct qmgr *q)
{
    uint64_t deadline = clock_ms() + END_TIMEOUT_MS;
    struct qmgr_task *task;

    co_shield(true);
    DL_FOREACH (q->tasks, task) {
        co_cancel(task->co);
    }
    while (is_busy(q) && co_park(deadline, "deliveries to end") == CO_OK)
        ;
    co_shield(false);
}

/* ---- the doorbell ---- */

static void heed(struct qmgr *q, char what)
{
    switch (what) {
    case 'W':
    case 'I':
        q->wants[0] = true;
        break;
    case 'F':
        log_info("flush: all deferred mail is tried now");
        q->wants[0] = q->wants[1] = q->wants_flush = true;
        qmgr_transport_revive_all(q);
        break;
    default:
        break; /* the socket is open to every local user */
    }
}

static co_fn void listen_to_doorbell(struct qmgr *q, void *arg)
{
    char words[64];
    ssize_t n, i;

    while (!co_is_cancelled()) {
        if (io_wait_readable(q->doorbell, CO_NEVER, "doorbell") != IO_OK)
            return;
        while ((n = recv(q->doorbell, words, sizeof(words), MSG_DONTWAIT)) >= 0) {
            for (i = 0; i < n; i++)
                heed(q, words[i]);
        }
        qmgr_wake(q);
    }
}

static struct error *hang_doorbell(struct qmgr *q)
{
    char *dir = mem_printf(q, "%s/public", queue_directory(q->queue));
    char *path = mem_printf(q, "%s/qmgr", dir);
    struct io_address address;
    struct error *e = io_address_unix(path, &address);

    if (e != NULL)
        return e;
    if (mkdir(dir, 0755) != 0 && errno != EEXIST)
        return error_errno(errno, "make %s", dir);
    q->doorbell = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (q->doorbell < 0)
        return error_errno(errno, "socket");
    unlink(path);
    if (bind(q->doorbell, (const struct sockaddr *)&address.sa, address.length) != 0 ||
        chmod(path, 0666) != 0)
        return error_errno(errno, "listen on %s", path);
    return NULL;
}

/* ---- settings ---- */

static void read_settings(struct qmgr *q)
{
    const struct conf *conf = q->conf;

    q->run_delay_ms = conf_time_ms(conf, "queue_run_delay");
    q->transport_retry_ms = conf_time_ms(conf, "transport_retry_time");
    q->agent_timeout_ms = conf_time_ms(conf, "daemon_timeout");
    q->min_backoff = conf_time_ms(conf, "minimal_backoff_time") / 1000;
    q->max_backoff = conf_time_ms(conf, "maximal_backoff_time") / 1000;
    q->dead_ms = q->min_backoff * 1000;
    q->lifetime = conf_time_ms(conf, "maximal_queue_lifetime") / 1000;
    q->bounce_lifetime = conf_time_ms(conf, "bounce_queue_lifetime") / 1000;
    q->message_limit = (size_t)conf_int(conf, "qmgr_message_active_limit");
    q->rcpt_limit = (size_t)conf_int(conf, "qmgr_message_recipient_limit");
    q->soft_bounce = conf_bool(conf, "soft_bounce");
    q->defer_transports = conf_text(conf, "defer_transports");
}

/* Two schedulers of one queue would deliver everything twice. The lock goes with the process. */
static co_fn struct error *lock_queue(struct qmgr *q)
{
    char *path = mem_printf(q, "%s/%s", queue_directory(q->queue), queue_place_name(QUEUE_ACTIVE));
    int tries;

    q->lock = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (q->lock < 0)
        return error_errno(errno, "open %s", path);
    for (tries = 0; flock(q->lock, LOCK_EX | LOCK_NB) != 0; tries++) {
        if (errno != EWOULDBLOCK && errno != EINTR)
            return error_errno(errno, "lock %s", path);
        if (tries == 0)
            log_info("waiting for the present scheduler of this queue to end");
        if (tries == LOCK_TRIES ||
            co_sleep(clock_ms() + LOCK_PAUSE_MS, "the other scheduler") == CO_CANCELLED)
            return error_new(ERROR_TEMP, "%s: another scheduler has this queue", path);
    }
    return NULL;
}

static int close_descriptors(struct qmgr *q)
{
    if (q->doorbell >= 0)
        close(q->doorbell);
    if (q->lock >= 0)
        close(q->lock);
    return 0;
}

static co_fn struct error *begin(struct qmgr *q)
{
    struct error *e = rewrite_open(q, q->conf, &q->rewrite);

    if (e == NULL)
        e = lock_queue(q);
    if (e == NULL)
        e = hang_doorbell(q);
    return e != NULL ? e : queue_recover(q->queue);
}

static void forget_tables(struct qmgr *q)
{
    struct qmgr_transport *t, *next;

    HASH_ITER (hh, q->transports, t, next) {
        HASH_CLEAR(hh, t->destinations);
    }
    HASH_CLEAR(hh, q->transports);
    HASH_CLEAR(hh, q->messages);
}

struct error *qmgr_run(const struct conf *conf, const struct conf_services *services, struct queue *queue)
{
    struct qmgr *q = mem_new(NULL, struct qmgr);
    struct error *e;

    q->conf = conf;
    q->services = services;
    q->queue = queue;
    q->feeder = co_self();
    q->doorbell = q->lock = -1;
    talloc_set_destructor(q, close_descriptors);
    read_settings(q);
    e = begin(q);
    if (e == NULL) {
        qmgr_spawn(q, listen_to_doorbell, NULL, "doorbell");
        qmgr_feed(q);
        end_tasks(q);
    }
    if (is_busy(q))
        return e; /* one of them hangs in the disk; the process ends, its memory with it */
    forget_tables(q);
    talloc_free(q);
    return e;
}
