/* What copies need to know of the queue. See daemon_copies.h. */
#include "daemon_copies.h"

#include "clock.h"
#include "log.h"
#include "mem.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

enum { SYNC_MS = 60000 };

struct outlets {
    struct queue *queue;
    struct cleanup *cleanup;
};

static struct mail_sink *next(void *arg, void *ctx)
{
    return cleanup_sink(ctx, ((struct outlets *)arg)->cleanup);
}

struct sync {
    const char *directory;
    int code;
};

static void sync_queue(void *arg)
{
    struct sync *s = arg;
    int fd = open(s->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    s->code = fd < 0 || syncfs(fd) != 0 ? errno : 0;
    if (fd >= 0)
        close(fd);
}

/* The dead worker may have completed the file and not lived to sync it. */
static co_fn bool is_durable(struct queue *q, const char *id)
{
    struct sync *s = mem_new(NULL, struct sync);
    int code;

    s->directory = mem_strdup(s, queue_directory(q));
    if (co_work(sync_queue, s, clock_ms() + SYNC_MS, "the queue's disk") != CO_OK)
        return false;
    code = s->code;
    talloc_free(s);
    if (code != 0)
        log_warn("%s: sync queue: %s", id, strerror(code));
    return code == 0;
}

/* Delivered already, perhaps: the scheduler takes a complete file as soon as its writer is dead. */
static mail_waits bool is_queued(void *arg, const char *id)
{
    struct queue *q = ((struct outlets *)arg)->queue;
    enum queue_place place;

    return (queue_message_find(q, id, &place) || queue_was_taken(id)) && is_durable(q, id);
}

struct copies *daemon_copies_open(const void *ctx, const struct conf *conf, unsigned worker,
                                  struct queue *queue, struct cleanup *cleanup)
{
    struct outlets *o = mem_new(ctx, struct outlets);

    o->queue = queue;
    o->cleanup = cleanup;
    return copies_open(o, conf, worker,
                       &(struct copies_outlets){.next = next, .is_queued = is_queued, .arg = o});
}
