/*
 * sallyport queue: list, count, show, flush, hold, release, requeue, delete.
 *
 * Runs while the scheduler runs: a message may move between being found and being changed, so each change
 * looks for it again. As root it becomes mail_owner first, so that what it writes is the mail system's.
 */
#include "tool_queue.h"
#include "clock.h"
#include "log.h"
#include "master.h"
#include "mem.h"
#include "tool.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

enum { TRIES = 5, COMMIT_MS = 60000 };

struct asked {
    struct tool *tool;
    struct queue *queue;
    bool json;
    size_t done, missing;
    uint64_t bytes;
    enum queue_place only; /* for ALL: one queue; QUEUE_PLACES: each that the operation works on */
};

/* ---- opening ---- */

static struct error *become_owner(const struct conf *conf)
{
    const char *name = conf_text(conf, "mail_owner");
    const struct passwd *pw;

    if (geteuid() != 0)
        return NULL;
    pw = getpwnam(name);
    if (pw == NULL)
        return error_new(ERROR_CONF, "mail_owner = %s: no such user", name);
    if (initgroups(name, pw->pw_gid) != 0 || setresgid(pw->pw_gid, pw->pw_gid, pw->pw_gid) != 0 ||
        setresuid(pw->pw_uid, pw->pw_uid, pw->pw_uid) != 0)
        return error_errno(errno, "become %s", name);
    return NULL;
}

static struct error *open_queue(struct tool *t, const struct conf *conf, struct queue **queue_r)
{
    const char *directory = conf_text(conf, "queue_directory");
    char *incoming = mem_printf(t->memory, "%s/incoming", directory);
    struct error *e = become_owner(conf);
    struct stat st;

    if (e != NULL)
        return e;
    if (stat(incoming, &st) != 0)
        return error_errno(errno, "no queue here: %s", incoming);
    return queue_open(t->memory,
                      &(struct queue_conf){.directory = directory,
                                           .hash_depth = (unsigned)conf_int(conf, "hash_queue_depth")},
                      queue_r);
}

/* What the tool did belongs into the mail log. Without it the tool works all the same. */
static void open_log(const struct conf *conf)
{
    const char *path = conf_text(conf, "maillog_file"), *facility = conf_text(conf, "syslog_facility");
    bool is_file = path[0] == '/' && strcmp(path, "/dev/stdout") != 0 && access(path, W_OK) == 0;
    struct error *e = log_open(is_file ? LOG_TO_FILE : LOG_TO_SYSLOG, path, facility);
    char *tag = mem_printf(NULL, "%s/postsuper", conf_text(conf, "syslog_name"));

    log_set_tag(tag);
    talloc_free(tag);
    error_free(&e);
}

/* ---- reading ---- */

/* False: it is not there (any more), or cannot be read (said). */
static bool read_message(struct asked *a, const char *id, bool lock, void *ctx, struct tool_message *m,
                         int *fd_r)
{
    struct error *e = error_new(ERROR_PERM, "%.40s: not in the queue", id);

    *m = (struct tool_message){0};
    *fd_r = -1;
    if (mail_id_is_valid(bytes_of(id)))
        for (unsigned i = 0; e != NULL && i < TRIES && queue_message_find(a->queue, id, &m->place); i++) {
            error_free(&e);
            e = queue_message_open(a->queue, m->place, id, lock, fd_r);
        }
    if (e == NULL) {
        snprintf(m->id, sizeof(m->id), "%s", id);
        e = queue_message_read(ctx, *fd_r, &m->envelope);
    }
    if (e == NULL)
        return true;
    if (*fd_r >= 0)
        close(*fd_r);
    tool_fail_error(&e);
    return false;
}

static bool list_one(struct asked *a, enum queue_place place, const char *id)
{
    void *ctx = talloc_new(NULL);
    struct tool_message m = {.place = place};
    struct error *e;
    int fd;

    e = queue_message_open(a->queue, place, id, false, &fd);
    if (e == NULL) {
        snprintf(m.id, sizeof(m.id), "%s", id);
        e = queue_message_read(ctx, fd, &m.envelope);
        close(fd);
    }
    if (e == NULL)
        e = queue_reasons_read(ctx, a->queue, id, &m.reasons, &m.reason_count);
    if (e != NULL && m.envelope != NULL)
        error_free(&e); /* without reasons, then */
    if (e == NULL) {
        if (!a->json && a->done == 0)
            tool_print_header();
        (a->json ? tool_print_json : tool_print_message)(&m);
        a->done++;
        a->bytes += m.envelope->content_size;
    } else if (e->code != ENOENT) { /* gone meanwhile: delivered */
        tool_fail(0, "%s", e->text);
    }
    error_free(&e);
    talloc_free(ctx);
    return true;
}

/* ---- going over the queue ---- */

struct names {
    char (*at)[MAIL_ID_SIZE];
    size_t n;
    void *ctx;
};

static bool keep_name(void *arg, const char *id, time_t mtime, uint64_t size)
{
    struct names *names = arg;

    if ((names->n & (names->n - 1)) == 0)
        names->at = mem_grow(names->ctx, names->at, names->n ? names->n * 2 : 1);
    snprintf(names->at[names->n++], MAIL_ID_SIZE, "%s", id);
    return true;
}

/* Ids first, then work: what is changed must not be met again by the scan. */
static int each_in(struct asked *a, enum queue_place place,
                   bool (*work)(struct asked *a, enum queue_place place, const char *id))
{
    struct names names = {.ctx = talloc_new(NULL)};
    struct error *e = queue_scan(a->queue, place, keep_name, &names);

    for (size_t i = 0; i < names.n; i++)
        work(a, place, names.at[i]);
    talloc_free(names.ctx);
    return e ? tool_fail_error(&e) : 0;
}

static const enum queue_place alive[] = {QUEUE_INCOMING, QUEUE_ACTIVE, QUEUE_DEFERRED, QUEUE_HOLD};
enum { ALIVE = sizeof(alive) / sizeof(alive[0]) };

static int queue_list(struct asked *a)
{
    int status = 0;

    for (size_t i = 0; i < ALIVE; i++)
        status |= each_in(a, alive[i], list_one);
    if (!a->json)
        tool_print_summary(a->done, a->bytes);
    return status;
}

static bool count_one(struct asked *a, enum queue_place place, const char *id)
{
    a->done++;
    return true;
}

static int queue_count(struct asked *a)
{
    int status = 0;

    for (enum queue_place place = 0; place < QUEUE_PLACES; place++) {
        a->done = 0;
        status |= each_in(a, place, count_one);
        printf("%s %zu\n", queue_place_name(place), a->done);
    }
    return status;
}

static int queue_show(struct asked *a, const char *id)
{
    struct tool_message m;
    struct error *e;
    int fd;

    if (!read_message(a, id, false, a->tool->memory, &m, &fd))
        return 1;
    e = tool_print_whole(&m, fd);
    close(fd);
    return e ? tool_fail_error(&e) : 0;
}

/* ---- changing ---- */

static bool finish(struct asked *a, const char *id, struct error *e, const char *what)
{
    if (e == NULL) {
        a->done++;
        log_info("%s: %s", id, what);
        return true;
    }
    if (e->code == ENOENT)
        tool_fail(0, "%s: not in the queue", id);
    else
        tool_fail(0, "%s", e->text);
    error_free(&e);
    a->missing++;
    return false;
}

static bool move_one(struct asked *a, enum queue_place from, enum queue_place to, const char *id,
                     const char *what)
{
    return finish(a, id, queue_message_move(a->queue, id, from, to, 0), what);
}

static bool hold_one(struct asked *a, enum queue_place place, const char *id)
{
    return place == QUEUE_HOLD || move_one(a, place, QUEUE_HOLD, id, "placed on hold");
}

static bool release_one(struct asked *a, enum queue_place place, const char *id)
{
    if (place != QUEUE_HOLD)
        return tool_fail(0, "%s: not on hold", id), a->missing++, false;
    return move_one(a, QUEUE_HOLD, QUEUE_INCOMING, id, "released from hold");
}

static bool flush_one(struct asked *a, enum queue_place place, const char *id)
{
    return place != QUEUE_DEFERRED || move_one(a, QUEUE_DEFERRED, QUEUE_INCOMING, id, "to be tried now");
}

static bool delete_one(struct asked *a, enum queue_place place, const char *id)
{
    return finish(a, id, queue_message_remove(a->queue, place, id), "removed");
}

/* ---- requeue: a copy under a new id, then the old one goes ---- */

static void only_open_rcpts(struct queue_envelope *e)
{
    size_t n = 0;

    for (size_t i = 0; i < e->rcpt_count; i++)
        if (e->rcpts[i].state == QUEUE_RCPT_TODO)
            e->rcpts[n++] = e->rcpts[i];
    e->rcpt_count = n;
}

static co_fn struct error *copy_message(struct asked *a, void *ctx, struct tool_message *m, int fd,
                                        char new_id[])
{
    uint64_t at = m->envelope->content_offset, end = at + m->envelope->content_size;
    struct queue_writer *w = queue_writer_new(ctx, a->queue);
    char *piece = mem_bytes(ctx, 65536);
    struct error *e = NULL;

    only_open_rcpts(m->envelope);
    do
        mail_id_new(m->envelope->id);
    while (!queue_id_is_free(a->queue, m->envelope->id));
    memcpy(new_id, m->envelope->id, MAIL_ID_SIZE);
    while (e == NULL && at < end) {
        ssize_t n = pread(fd, piece, end - at < 65536 ? (size_t)(end - at) : 65536, (off_t)at);

        e = n <= 0 ? error_errno(n < 0 ? errno : EIO, "read %s", m->id)
                   : queue_writer_content(w, bytes(piece, (size_t)n));
        at += n > 0 ? (uint64_t)n : 0;
    }
    if (e == NULL)
        e = queue_writer_commit(w, m->envelope, m->place == QUEUE_HOLD ? QUEUE_HOLD : QUEUE_INCOMING,
                                clock_ms() + COMMIT_MS);
    return e;
}

static bool requeue_one(struct asked *a, enum queue_place place, const char *id)
{
    void *ctx = talloc_new(NULL);
    char new_id[MAIL_ID_SIZE] = "";
    struct tool_message m;
    struct error *e;
    bool is_done;
    char *what;
    int fd;

    if (!read_message(a, id, true, ctx, &m, &fd)) {
        a->missing++;
        talloc_free(ctx);
        return false;
    }
    e = copy_message(a, ctx, &m, fd, new_id);
    if (e == NULL)
        e = queue_message_remove(a->queue, m.place, id);
    close(fd);
    what = mem_printf(ctx, "requeued as %s", new_id);
    is_done = finish(a, id, e, what);
    if (is_done)
        printf("%s: %s\n", id, what);
    talloc_free(ctx);
    return is_done;
}

/* ---- which operation, which messages ---- */

static const struct operation {
    const char *name;
    bool (*work)(struct asked *a, enum queue_place place, const char *id);
    unsigned places; /* that ALL means */
    const char *summary;
    char notify; /* tells the scheduler; 0: nothing */
} operations[] = {
    {"hold", hold_one, 1 << QUEUE_INCOMING | 1 << QUEUE_ACTIVE | 1 << QUEUE_DEFERRED, "Placed on hold", 0},
    {"release", release_one, 1 << QUEUE_HOLD, "Released from hold", 'I'},
    {"requeue", requeue_one, 1 << QUEUE_INCOMING | 1 << QUEUE_ACTIVE | 1 << QUEUE_DEFERRED | 1 << QUEUE_HOLD,
     "Requeued", 'I'},
    {"delete", delete_one, (1 << QUEUE_PLACES) - 1, "Deleted", 0},
    {"flush", flush_one, 1 << QUEUE_DEFERRED, "To be tried now", 'I'},
};

static void work_on(struct asked *a, const struct operation *o, const char *id)
{
    enum queue_place place;

    if (!mail_id_is_valid(bytes_of(id)) || !queue_message_find(a->queue, id, &place)) {
        tool_fail(0, "%.40s: not in the queue", id);
        a->missing++;
        return;
    }
    o->work(a, place, id);
}

static void operate(struct asked *a, const struct operation *o, char **ids)
{
    if (strcmp(ids[0], "ALL") == 0)
        for (enum queue_place place = 0; place < QUEUE_PLACES; place++)
            if ((o->places & 1u << place) && (a->only == QUEUE_PLACES || a->only == place))
                each_in(a, place, o->work);
    for (size_t i = 0; strcmp(ids[0], "ALL") != 0 && ids[i] != NULL; i++)
        work_on(a, o, ids[i]);
    if (o->notify && a->done > 0)
        queue_notify(a->queue, o->notify);
    printf("%s: %zu message%s\n", o->summary, a->done, a->done == 1 ? "" : "s");
}

struct operating {
    struct asked *asked;
    const struct operation *operation;
    char **ids;
};

static void operate_in_coroutine(void *arg)
{
    struct operating *o = arg;

    operate(o->asked, o->operation, o->ids);
}

/* "ALL" alone or with a queue's name. */
static bool parse_all(struct asked *a, char **ids)
{
    a->only = QUEUE_PLACES;
    if (strcmp(ids[0], "ALL") != 0 || ids[1] == NULL)
        return true;
    for (enum queue_place place = 0; place < QUEUE_PLACES; place++)
        if (strcmp(ids[1], queue_place_name(place)) == 0)
            a->only = place;
    return a->only != QUEUE_PLACES && ids[2] == NULL;
}

static int change(struct tool *t, struct asked *a, const struct conf *conf, const struct operation *o)
{
    struct operating work = {.asked = a, .operation = o, .ids = t->argv + 2};

    if (t->argc < 3 || !parse_all(a, work.ids))
        return tool_usage(t);
    open_log(conf);
    co_init(1);
    mail_id_setup(MASTER_TOOL_ID, conf_bool(conf, "enable_long_queue_ids"));
    co_spawn(operate_in_coroutine, &work, "queue");
    co_run();
    log_flush();
    return a->missing > 0 ? 1 : 0;
}

static int ask(struct tool *t, struct asked *a, const struct conf *conf)
{
    const char *what = t->argv[1];

    if (strcmp(what, "list") == 0 && t->argc <= 3) {
        a->json = t->argc == 3 && strcmp(t->argv[2], "--json") == 0;
        return t->argc == 3 && !a->json ? tool_usage(t) : queue_list(a);
    }
    if (strcmp(what, "count") == 0 && t->argc == 2)
        return queue_count(a);
    if (strcmp(what, "show") == 0 && t->argc == 3)
        return queue_show(a, t->argv[2]);
    if (strcmp(what, "flush") == 0 && t->argc == 2)
        return queue_notify(a->queue, 'F'), 0;
    for (size_t i = 0; i < sizeof(operations) / sizeof(operations[0]); i++)
        if (strcmp(what, operations[i].name) == 0)
            return change(t, a, conf, &operations[i]);
    return tool_usage(t);
}

int tool_queue(struct tool *t)
{
    struct asked a = {.tool = t, .only = QUEUE_PLACES};
    const struct conf *conf;
    struct error *e;

    if (t->argc < 2)
        return tool_usage(t);
    conf = tool_conf(t, NULL);
    if (conf == NULL)
        return EX_CONFIG;
    e = open_queue(t, conf, &a.queue);
    return e ? tool_fail_error(&e) : ask(t, &a, conf);
}
