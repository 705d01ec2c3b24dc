/*
 * Streams over a socket or over memory. See io.h.
 *
 * Buffers are blocks of a pool, taken when bytes are there and given back when they are gone, so an idle
 * session holds none. A descriptor is read when the loop said that something is there and the last read did
 * not take it all: a conversation of commands and replies costs one read and one write a turn, and no call
 * that finds nothing.
 */
#include "io.h"

#include "buf.h"
#include "clock.h"
#include "co_fd.h"
#include "mem.h"

#include <errno.h>
#include <linux/sockios.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

enum { BLOCK_SIZE = 8192, POOL_LIMIT = 512, READS_IN_A_ROW = 16 };
/* A trickle: fewer than TRICKLE_RATE bytes a second, for TRICKLE_MS. A crawl: more than CRAWL_MS for a byte;
 * it is looked at when CRAWL_BYTES are there, or after the time of CRAWL_LOOK bytes, CRAWL_LOOK_MS at most.
 */
enum {
    TRICKLE_MS = 1000,
    TRICKLE_RATE = 512,
    CRAWL_MS = 2000,
    CRAWL_BYTES = 8,
    CRAWL_LOOK = 4,
    CRAWL_LOOK_MS = 30000
};

/* What libuv must find until the close callback; outlives the stream. */
struct io_socket {
    struct co_fd watch;
    int fd;
};

struct io_buffer {
    char *p;
    size_t start, n, room;
};

struct io_stream {
    struct io_socket *socket; /* NULL: memory */
    struct io_buffer in, out;
    unsigned reads;        /* since the reader last waited */
    bool was_read;         /* ever: the loop tells of what has come since */
    bool is_ending;        /* what is sent now goes with the end of our side */
    bool expects_trickle;  /* io_expect_trickle */
    unsigned trickled;     /* bytes read since trickle_from, or since we wrote */
    uint64_t trickle_from; /* since when trickled is judged; 0: not yet */
    uint64_t crawl_look;   /* when a crawling peer is looked at without being asked; 0: it does not crawl */
    /* memory: */
    struct bytes input;
    size_t step;
    struct buf own;
    struct buf *written;
};

/* ---- blocks ---- */

static struct {
    char *blocks[POOL_LIMIT];
    size_t n;
} pool;

static void buffer_take(struct io_buffer *b)
{
    b->p = pool.n > 0 ? pool.blocks[--pool.n] : mem_malloc(BLOCK_SIZE);
    b->room = BLOCK_SIZE;
    b->start = b->n = 0;
}

static void buffer_give(struct io_buffer *b)
{
    if (b->p == NULL)
        return;
    if (b->room == BLOCK_SIZE && pool.n < POOL_LIMIT)
        pool.blocks[pool.n++] = b->p;
    else
        free(b->p);
    *b = (struct io_buffer){0};
}

/* Room behind the bytes: they move to the front, then the block grows up to the limit. False: full. */
static bool buffer_make_room(struct io_buffer *b)
{
    if (b->p == NULL)
        buffer_take(b);
    if (b->start > 0 && b->start + b->n == b->room) {
        memmove(b->p, b->p + b->start, b->n);
        b->start = 0;
    }
    if (b->start + b->n < b->room)
        return true;
    if (b->room >= IO_BUFFER_LIMIT)
        return false;
    b->room *= 2;
    b->p = mem_realloc(b->p, b->room);
    return true;
}

/* ---- life ---- */

static void free_socket(struct co_fd *watch)
{
    free(watch);
}

static int destroy(struct io_stream *s)
{
    if (s->socket != NULL) {
        int fd = s->socket->fd;

        co_fd_close(&s->socket->watch, free_socket);
        close(fd);
    }
    buffer_give(&s->in);
    buffer_give(&s->out);
    buf_deinit(&s->own);
    return 0;
}

struct io_stream *io_stream_new(const void *ctx, int fd)
{
    struct io_stream *s = mem_new(ctx, struct io_stream);

    s->socket = mem_malloc(sizeof(*s->socket));
    s->socket->fd = fd;
    co_fd_open(&s->socket->watch, fd, false);
    talloc_set_destructor(s, destroy);
    return s;
}

struct io_stream *io_memory_new(const void *ctx, struct bytes input, size_t step)
{
    struct io_stream *s = mem_new(ctx, struct io_stream);

    s->input = input;
    s->step = step ? step : SIZE_MAX;
    s->written = &s->own;
    talloc_set_destructor(s, destroy);
    return s;
}

struct bytes io_memory_written(const struct io_stream *s)
{
    return buf_bytes(s->written);
}

void io_memory_write_to(struct io_stream *s, struct buf *out)
{
    s->written = out;
}

void io_stream_close(struct io_stream **s)
{
    talloc_free(*s);
    *s = NULL;
}

int io_stream_fd(const struct io_stream *s)
{
    return s->socket ? s->socket->fd : -1;
}

const char *io_end_text(enum io_end end)
{
    static const char *const texts[] = {
        [IO_OK] = "no error",           [IO_TIMEOUT] = "timeout",     [IO_CLOSED] = "connection closed",
        [IO_RESET] = "connection lost", [IO_CANCELLED] = "cancelled", [IO_FULL] = "line too long",
    };

    return texts[end];
}

static enum io_end end_of(enum co_end end)
{
    return end == CO_OK ? IO_OK : end == CO_TIMEOUT ? IO_TIMEOUT : IO_CANCELLED;
}

/* ---- reading ---- */

static ssize_t read_memory(struct io_stream *s, char *to, size_t room)
{
    size_t n = s->input.n < s->step ? s->input.n : s->step;

    if (n > room)
        n = room;
    if (n > 0)
        memcpy(to, s->input.p, n);
    s->input = bytes_skip(s->input, n);
    return (ssize_t)n;
}

/* One read; IO_FULL here means that nothing was there. */
static enum io_end try_read(struct io_stream *s)
{
    struct io_buffer *b = &s->in;
    char *to = b->p + b->start + b->n;
    size_t room = b->room - b->start - b->n;
    ssize_t n;

    do
        n = s->socket ? recv(s->socket->fd, to, room, MSG_DONTWAIT) : read_memory(s, to, room);
    while (n < 0 && errno == EINTR);
    if (s->socket != NULL && n < (ssize_t)room)
        co_fd_drained(&s->socket->watch);
    s->was_read = true;
    if (n > 0) {
        b->n += (size_t)n;
        s->trickled += (unsigned)n;
        return IO_OK;
    }
    if (n == 0)
        return IO_CLOSED;
    return errno == EAGAIN || errno == EWOULDBLOCK ? IO_FULL : IO_RESET;
}

/* The kernel tells of so many bytes, and of the peer's end; not of fewer. */
static void set_bytes_to_tell_of(const struct io_stream *s, int n)
{
    setsockopt(s->socket->fd, SOL_SOCKET, SO_RCVLOWAT, &n, sizeof(n));
}

static void set_crawl(struct io_stream *s, uint64_t look)
{
    if ((s->crawl_look == 0) != (look == 0))
        set_bytes_to_tell_of(s, look == 0 ? 1 : CRAWL_BYTES);
    s->crawl_look = look;
}

/* `trickled` bytes came in the `passed` milliseconds until now. */
static void set_pace(struct io_stream *s, uint64_t passed, uint64_t now)
{
    uint64_t byte_ms = s->trickled > 0 ? passed / s->trickled : passed, look_ms = CRAWL_LOOK * byte_ms;

    co_fd_set_slow(&s->socket->watch, s->trickled < passed * TRICKLE_RATE / 1000);
    set_crawl(s, byte_ms < CRAWL_MS ? 0 : now + (look_ms < CRAWL_LOOK_MS ? look_ms : CRAWL_LOOK_MS));
}

/* A peer that crawls is judged by what it sent when it was looked at. */
static bool is_too_early(const struct io_stream *s, uint64_t now)
{
    return s->crawl_look != 0 ? s->trickled == 0 : now - s->trickle_from < TRICKLE_MS;
}

/* The reader is about to wait. */
static void judge_pace(struct io_stream *s)
{
    uint64_t now;

    if (s->trickle_from == 0 && s->trickled == 0)
        return;
    now = clock_ms();
    if (s->trickle_from != 0 && is_too_early(s, now))
        return;
    if (s->trickle_from != 0)
        set_pace(s, now - s->trickle_from, now);
    s->trickle_from = now;
    s->trickled = 0;
}

/* The peer has said what it had to say, or is no longer waited for. */
static void forget_pace(struct io_stream *s)
{
    s->trickle_from = s->trickled = 0;
    if (s->socket == NULL)
        return;
    set_crawl(s, 0);
    co_fd_set_slow(&s->socket->watch, false);
}

void io_expect_trickle(struct io_stream *s, bool expects)
{
    s->expects_trickle = expects && s->socket != NULL;
    if (!s->expects_trickle)
        forget_pace(s);
}

static bool has_unread(const struct io_stream *s)
{
    int n = 0;

    return ioctl(s->socket->fd, FIONREAD, &n) == 0 && n > 0;
}

/* IO_OK: something may be there. A crawling peer's bytes are there although nobody told; a look that finds
 * none says nothing new about its pace. */
static co_fn enum io_end wait_for_input(struct io_stream *s, uint64_t deadline)
{
    enum co_end end;

    do {
        uint64_t look = s->crawl_look;

        end = co_fd_wait(&s->socket->watch, CO_READABLE, look != 0 && look < deadline ? look : deadline,
                         "input");
        if (look == 0 || end != CO_TIMEOUT)
            return end_of(end);
        if (has_unread(s))
            return IO_OK;
        s->crawl_look = clock_ms() + CRAWL_LOOK_MS;
    } while (clock_ms() < deadline);
    return IO_TIMEOUT;
}

co_fn enum io_end io_fill(struct io_stream *s, uint64_t deadline)
{
    enum io_end end = IO_FULL;

    if (s->socket != NULL &&
        ++s->reads > READS_IN_A_ROW) { /* a peer that sends faster than we read is not alone */
        s->reads = 0;
        co_yield ();
    }
    while (end == IO_FULL) {
        if (s->socket != NULL && !s->socket->watch.can_read) {
            s->reads = 0;
            if (s->in.n == 0)
                buffer_give(&s->in); /* nothing to keep while we wait */
            if (s->expects_trickle)
                judge_pace(s);
            end = wait_for_input(s, deadline);
            if (end != IO_OK)
                return end;
        }
        if (!buffer_make_room(&s->in))
            return IO_FULL;
        end = try_read(s);
    }
    return end;
}

struct bytes io_buffered(const struct io_stream *s)
{
    return s->in.p ? bytes(s->in.p + s->in.start, s->in.n) : bytes("", 0);
}

void io_consume(struct io_stream *s, size_t n)
{
    s->in.start += n;
    s->in.n -= n;
    if (s->in.n == 0)
        s->in.start = 0;
}

/* ---- writing ---- */

static ssize_t send_some(const struct io_stream *s, struct bytes first, struct bytes second)
{
    int flags = MSG_DONTWAIT | MSG_NOSIGNAL | (s->is_ending ? MSG_MORE : 0);
    struct iovec pieces[2] = {{(char *)(uintptr_t)first.p, first.n}, {(char *)(uintptr_t)second.p, second.n}};
    struct msghdr message = {.msg_iov = pieces, .msg_iovlen = 2};

    if (second.n == 0)
        return send(s->socket->fd, first.p, first.n, flags);
    if (first.n == 0)
        return send(s->socket->fd, second.p, second.n, flags);
    return sendmsg(s->socket->fd, &message, flags);
}

/* Sends both pieces, waiting as long as it takes within the deadline. */
static co_fn enum io_end send_all(struct io_stream *s, struct bytes first, struct bytes second,
                                  uint64_t deadline)
{
    while (first.n + second.n > 0) {
        ssize_t n = send_some(s, first, second);
        size_t of_first;

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
            enum io_end end;

            co_fd_clogged(&s->socket->watch);
            end = end_of(co_fd_wait(&s->socket->watch, CO_WRITABLE, deadline, "room for output"));
            if (end != IO_OK)
                return end;
            continue;
        }
        if (n < 0)
            return IO_RESET;
        of_first = (size_t)n < first.n ? (size_t)n : first.n;
        first = bytes_skip(first, of_first);
        second = bytes_skip(second, (size_t)n - of_first);
    }
    return IO_OK;
}

/* What has gathered and `text` behind it. */
static co_fn enum io_end push(struct io_stream *s, struct bytes text, uint64_t deadline)
{
    struct bytes gathered = bytes(s->out.p, s->out.n);
    enum io_end end = IO_OK;

    if (s->socket != NULL) {
        forget_pace(s);
        end = send_all(s, gathered, text, deadline);
    } else {
        buf_add(s->written, gathered);
        buf_add(s->written, text);
    }
    buffer_give(&s->out);
    return end;
}

co_fn enum io_end io_write(struct io_stream *s, struct bytes text, uint64_t deadline)
{
    if (text.n == 0)
        return IO_OK;
    if (s->out.p == NULL)
        buffer_take(&s->out);
    if (text.n > s->out.room - s->out.n)
        return push(s, text, deadline);
    memcpy(s->out.p + s->out.n, text.p, text.n);
    s->out.n += text.n;
    return IO_OK;
}

co_fn enum io_end io_writef(struct io_stream *s, uint64_t deadline, const char *fmt, ...)
{
    va_list args;
    char *text;
    enum io_end end;

    va_start(args, fmt);
    text = mem_vprintf(NULL, fmt, args);
    va_end(args);
    end = io_write(s, bytes_of(text), deadline);
    talloc_free(text);
    return end;
}

co_fn enum io_end io_flush(struct io_stream *s, uint64_t deadline)
{
    return s->out.n > 0 ? push(s, bytes(NULL, 0), deadline) : IO_OK;
}

co_fn enum io_end io_flush_end(struct io_stream *s, uint64_t deadline)
{
    enum io_end end;

    s->is_ending = true;
    end = io_flush(s, deadline);
    if (end == IO_OK && s->socket != NULL)
        shutdown(s->socket->fd, SHUT_WR);
    return end;
}

bool io_has_unsent(const struct io_stream *s)
{
    return s->out.n > 0;
}

/* ---- looking without waiting ---- */

bool io_peer_left(struct io_stream *s)
{
    forget_pace(s);
    return s->socket ? s->socket->watch.peer_left : s->input.n == 0;
}

void io_on_left(struct io_stream *s, void (*fn)(void *arg), void *arg)
{
    if (fn != NULL && io_peer_left(s)) {
        fn(arg);
        return;
    }
    if (s->socket == NULL)
        return;
    s->socket->watch.on_left = fn;
    s->socket->watch.on_left_arg = arg;
}

bool io_was_taken(const struct io_stream *s)
{
    int waiting = 0;

    if (s->socket == NULL)
        return true;
    return ioctl(s->socket->fd, SIOCOUTQ, &waiting) == 0 && waiting == 0;
}

bool io_has_input(struct io_stream *s)
{
    if (s->in.n > 0)
        return true;
    if (s->socket == NULL)
        return s->input.n > 0;
    if (s->was_read && !s->socket->watch.can_read)
        return false;
    return has_unread(s);
}
