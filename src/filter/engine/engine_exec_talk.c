/*
 * The talk with a filter program: its standard input is written while its three outputs are read, one
 * coroutine a pipe, so that neither side waits for the other whatever order the program works in. The caller
 * waits for the end of the process (pidfd), not for the end of its output: what it left running in the
 * background does not hold us.
 *
 * Content has CR LF at the end of each line; a Unix program is given LF, and may answer with either.
 */
#include "engine_exec_private.h"

#include "clock.h"
#include "mem.h"

#include <errno.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

enum { CHUNK = 16384, KILL_MS = 5000, PUMPS = 4 };

struct talk;

struct pump {
    struct talk *talk;
    struct co *co; /* NULL: ended */
    int *fd;
    void (*take)(struct talk *talk, struct bytes piece); /* NULL: this one writes */
};

struct talk {
    struct engine_exec_talk *t;
    struct engine_exec_child *child;
    struct co *owner;
    struct pump pumps[PUMPS];
    unsigned running;
    bool is_reaped;
    bool is_flood;
    bool has_cr;         /* the output's last byte was a CR that is not written yet */
    bool is_inside_line; /* the output's last line has no end yet */
    uint64_t output_size;
};

static void close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

/* As long as the process is not reaped, the group's number is its own. */
static void kill_group(struct talk *k)
{
    if (!k->is_reaped)
        kill(-k->child->pid, SIGKILL);
}

static void fail(struct talk *k, struct error *e)
{
    if (k->t->error == NULL)
        k->t->error = e;
    else
        error_free(&e);
    kill_group(k);
}

/* ---- what it says ---- */

/* Lines end with LF or CR LF; a CR elsewhere becomes a blank, as none may stand alone in content. */
static void add_as_content(struct talk *k, struct bytes piece, struct buf *out)
{
    for (size_t i = 0; i < piece.n; i++) {
        char c = piece.p[i];

        if (k->has_cr && c != '\n')
            buf_addc(out, ' ');
        k->has_cr = c == '\r';
        if (c == '\n')
            buf_adds(out, "\r\n");
        else if (c != '\r')
            buf_addc(out, c);
        k->is_inside_line = c != '\n';
    }
}

static void end_content(struct talk *k, struct buf *out)
{
    if (k->has_cr)
        buf_addc(out, ' ');
    if (k->is_inside_line)
        buf_adds(out, "\r\n");
    k->has_cr = k->is_inside_line = false;
}

/* Never cancelled in the middle: a spool that was left so is broken. */
static co_fn void write_output(struct talk *k, struct buf *content)
{
    struct error *e;

    co_shield(true);
    e = io_spool_write(k->t->output, buf_bytes(content));
    co_shield(false);
    buf_deinit(content);
    if (e != NULL)
        fail(k, e);
}

static void flood(struct talk *k)
{
    k->is_flood = true;
    kill_group(k);
}

static co_fn void take_output(struct talk *k, struct bytes piece)
{
    struct buf content = {0};

    k->output_size += piece.n;
    if (k->output_size > k->t->output_limit) {
        flood(k);
        return;
    }
    add_as_content(k, piece, &content);
    write_output(k, &content);
}

static void take_reply(struct talk *k, struct bytes piece)
{
    if (k->t->reply.n + piece.n > ENGINE_EXEC_REPLY_SIZE)
        flood(k);
    else
        buf_add(&k->t->reply, piece);
}

static void take_complaint(struct talk *k, struct bytes piece)
{
    size_t room = ENGINE_EXEC_ERROR_SIZE - k->t->complaints.n;

    buf_add(&k->t->complaints, bytes(piece.p, piece.n < room ? piece.n : room));
}

/* One read. False: nothing more now (*is_end_r: nor later). */
static co_fn bool read_once(struct pump *p, char *chunk, bool *is_end_r)
{
    ssize_t n = read(*p->fd, chunk, CHUNK);

    *is_end_r = n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR);
    if (n > 0)
        p->take(p->talk, bytes(chunk, (size_t)n));
    return n > 0;
}

static bool is_over(const struct talk *k)
{
    return k->is_flood || k->t->error != NULL;
}

static void end_pump(struct pump *p)
{
    p->co = NULL;
    p->talk->running--;
    co_wake(p->talk->owner);
}

static co_fn void gather(void *arg)
{
    struct pump *p = arg;
    char *chunk = mem_bytes(NULL, CHUNK);
    bool is_end = false;

    while (!is_end && !is_over(p->talk)) {
        if (io_wait_readable(*p->fd, p->talk->t->deadline, "output of a filter program") != IO_OK)
            break;
        read_once(p, chunk, &is_end);
    }
    talloc_free(chunk);
    end_pump(p);
}

/* After the process ended: what it wrote is in the pipes; who else holds them open is not waited for. */
static co_fn void drain(struct talk *k)
{
    char *chunk = mem_bytes(NULL, CHUNK);
    struct buf rest = {0};
    bool is_end;

    for (int i = 1; i < PUMPS; i++)
        while (!is_over(k) && read_once(&k->pumps[i], chunk, &is_end))
            ;
    talloc_free(chunk);
    end_content(k, &rest);
    if (!is_over(k))
        write_output(k, &rest);
    buf_deinit(&rest);
}

/* ---- what it is given ---- */

static co_fn struct error *next_chunk(struct talk *k, uint64_t *offset, char *chunk, struct bytes *text_r)
{
    struct bytes piece;
    struct error *e;
    size_t n = 0;

    co_shield(true); /* a read that is given up would lose the spool */
    e = io_spool_read(k->t->in->content, *offset, &piece);
    co_shield(false);
    if (e != NULL)
        return e;
    if (piece.n > CHUNK)
        piece.n = CHUNK;
    for (size_t i = 0; i < piece.n; i++)
        if (piece.p[i] != '\r')
            chunk[n++] = piece.p[i];
    *offset += piece.n;
    *text_r = bytes(chunk, n);
    return NULL;
}

/* False: it does not want any more (EPIPE), or time is over. */
static co_fn bool write_chunk(struct pump *p, struct bytes text)
{
    while (text.n > 0) {
        ssize_t n = write(*p->fd, text.p, text.n);

        if (n > 0)
            text = bytes_skip(text, (size_t)n);
        else if (n < 0 && errno == EAGAIN) {
            if (io_wait_writable(*p->fd, p->talk->t->deadline, "input of a filter program") != IO_OK)
                return false;
        } else if (n < 0 && errno != EINTR)
            return false;
    }
    return true;
}

static co_fn void feed(void *arg)
{
    struct pump *p = arg;
    struct talk *k = p->talk;
    uint64_t offset = 0, size = io_spool_size(k->t->in->content);
    char *chunk = mem_bytes(NULL, CHUNK);

    while (offset < size && !is_over(k) && !co_is_cancelled()) {
        struct bytes text;
        struct error *e = next_chunk(k, &offset, chunk, &text);

        if (e != NULL) {
            fail(k, e);
            break;
        }
        if (!write_chunk(p, text))
            break;
    }
    talloc_free(chunk);
    close_fd(p->fd); /* end of input */
    end_pump(p);
}

/* ---- the whole ---- */

static void start_pumps(struct talk *k)
{
    int *fds[PUMPS] = {&k->child->in, &k->child->out, &k->child->reply, &k->child->err};
    void (*takes[PUMPS])(struct talk *, struct bytes) = {NULL, take_output, take_reply, take_complaint};

    for (int i = 0; i < PUMPS; i++) {
        k->pumps[i] = (struct pump){.talk = k, .fd = fds[i], .take = takes[i]};
        k->pumps[i].co = co_spawn(takes[i] != NULL ? gather : feed, &k->pumps[i], "filter program");
        k->running++;
    }
}

static co_fn void stop_pumps(struct talk *k)
{
    for (int i = 0; i < PUMPS; i++)
        if (k->pumps[i].co != NULL)
            co_cancel(k->pumps[i].co);
    while (k->running > 0)
        co_park(CO_NEVER, "ends of a filter program's pipes"); /* cancelled: they end on the next turn */
}

/* Kills what is left of the group while the ended process still holds its number, then takes its status. */
static void reap(struct talk *k)
{
    siginfo_t info = {0};

    kill_group(k);
    if (waitid(P_PID, (id_t)k->child->pid, &info, WEXITED | WNOHANG) < 0 || info.si_pid == 0) {
        k->t->end = ENGINE_EXEC_TROUBLE;
        if (k->t->error == NULL)
            k->t->error = error_new(ERROR_TEMP, "its end cannot be seen");
        return;
    }
    k->is_reaped = true;
    k->t->end = info.si_code == CLD_EXITED ? ENGINE_EXEC_EXITED : ENGINE_EXEC_KILLED;
    k->t->status = info.si_status;
}

static co_fn void wait_for_end(struct talk *k)
{
    enum io_end end = io_wait_readable(k->child->pidfd, k->t->deadline, "end of a filter program");

    co_shield(true);
    if (end != IO_OK) {
        kill_group(k);
        io_wait_readable(k->child->pidfd, clock_ms() + KILL_MS, "death of a filter program");
    }
    reap(k);
    stop_pumps(k);
    if (end == IO_OK)
        drain(k);
    co_shield(false);
    if (k->t->error != NULL)
        k->t->end = ENGINE_EXEC_TROUBLE;
    else if (k->is_flood)
        k->t->end = ENGINE_EXEC_FLOOD;
    else if (end != IO_OK)
        k->t->end = end == IO_TIMEOUT ? ENGINE_EXEC_TIMEOUT : ENGINE_EXEC_CANCELLED;
}

co_fn void engine_exec_talk(struct engine_exec_talk *t, struct engine_exec_child *child)
{
    struct talk *k = mem_new(t->in->ctx, struct talk);

    k->t = t;
    k->child = child;
    k->owner = co_self();
    t->output = io_spool_new(t->in->ctx, t->spool);
    start_pumps(k);
    wait_for_end(k);
    engine_exec_close(child);
    talloc_free(k);
}
