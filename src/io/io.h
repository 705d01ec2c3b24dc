/*
 * Streams: bytes to and from a peer, with buffers that exist only while they hold something.
 *
 * A stream reads what has arrived into its buffer (io_fill) and lends it (io_buffered, io_consume); it
 * gathers what is written (io_write) and sends it in one piece (io_flush, or when much has gathered). The
 * same interface stands over a socket, over memory (tests), and over TLS. How a conversation ends is an enum
 * io_end that runs up to the session loop; the stream itself decides nothing and logs nothing.
 */
#ifndef IO_IO_H
#define IO_IO_H

#include "buf.h"
#include "bytes.h"
#include "co.h"
#include "error.h"

#include <stddef.h>
#include <sys/socket.h>

enum io_end {
    IO_OK,
    IO_TIMEOUT,   /* the deadline passed */
    IO_CLOSED,    /* the peer closed its side in good order */
    IO_RESET,     /* the connection broke */
    IO_CANCELLED, /* co_cancel() */
    IO_FULL,      /* io_fill: the buffer is at its limit and nothing was consumed */
};
const char *io_end_text(enum io_end end); /* "timeout", "connection closed", ... */

enum { IO_BUFFER_LIMIT = 65536 }; /* most bytes a stream buffers, each way */

struct io_stream;

/* A stream over a connected socket, which it owns from now on (non-blocking, close-on-exec, TCP_NODELAY are
 * set). */
struct io_stream *io_stream_new(const void *ctx, int fd);
/* Closes; unsent bytes are dropped. NULLs. Also done when ctx is freed. */
void io_stream_close(struct io_stream **s);
int io_stream_fd(const struct io_stream *s); /* borrowed; -1 for memory */

/*
 * Its peer may be one of a crowd that sends a byte now and then: while io_fill waits for the rest of what the
 * peer has to say since we last wrote, and the peer sends less than 512 bytes a second, its bytes, and its
 * leaving, are looked for ten times a second only. Of a peer that takes more than two seconds a byte the
 * kernel tells only when eight have come or it left; it is looked at again after the time that four bytes
 * took, 30 seconds at most.
 */
void io_expect_trickle(struct io_stream *s, bool expects);

/* Waits until at least one more byte is buffered. */
co_fn enum io_end io_fill(struct io_stream *s, uint64_t deadline);
/* What has arrived and was not consumed; borrowed until the next io_fill. */
struct bytes io_buffered(const struct io_stream *s);
void io_consume(struct io_stream *s, size_t n);

/* Adds to what will be sent; waits only when much has gathered. `text` is copied or sent before it returns.
 */
co_fn enum io_end io_write(struct io_stream *s, struct bytes text, uint64_t deadline);
co_fn enum io_end io_writef(struct io_stream *s, uint64_t deadline, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
co_fn enum io_end io_flush(struct io_stream *s, uint64_t deadline);
/* The same for what is written last: it and the end of our side leave together. */
co_fn enum io_end io_flush_end(struct io_stream *s, uint64_t deadline);
/* True when written bytes wait for io_flush. */
bool io_has_unsent(const struct io_stream *s);
/* True when the peer has closed or reset while we were busy with something else. Never waits. */
bool io_peer_left(struct io_stream *s);
/* Calls fn(arg), on the loop, once the peer has closed or reset; at once when it has already. fn may not
 * wait. NULL: no more. */
void io_on_left(struct io_stream *s, void (*fn)(void *arg), void *arg);
/* True when the peer's host has acknowledged all that was sent: only a host whose program can still read
 * does. */
bool io_was_taken(const struct io_stream *s);
/* True when bytes are in the kernel's buffer or ours: the peer spoke before it was asked. Never waits. Once
 * the stream was read it is what the loop has seen, at its last turn. */
bool io_has_input(struct io_stream *s);

/* For tests: reads come from `input`, at most `step` bytes a time (0: all at once); what is written gathers
 * and can be looked at. At the end of input the peer "closes". */
struct io_stream *io_memory_new(const void *ctx, struct bytes input, size_t step);
struct bytes io_memory_written(const struct io_stream *s);
/* What is written goes to *out (a struct buf), which outlives the stream. */
void io_memory_write_to(struct io_stream *s, struct buf *out);

/* ---- addresses and connections ---- */

struct io_address {
    struct sockaddr_storage sa;
    socklen_t length;
};

/* "192.0.2.1", "2001:db8::1" (no brackets, no zone), or "" for a unix socket. */
const char *io_address_host(const struct io_address *a, char text[46]);
unsigned io_address_port(const struct io_address *a);
/* A numeric address and a port; false when host is not numeric. */
bool io_address_parse(const char *host, unsigned port, struct io_address *out_r);
struct error *io_address_unix(const char *path, struct io_address *out_r);

/*
 * Every address of a host name, on the thread pool (/etc/hosts and DNS, as the system is set up). `service`
 * is a port number or a name ("smtp"). family: AF_UNSPEC, AF_INET or AF_INET6. *found_r: array owned by ctx.
 * ERROR_TEMP: try again later; ERROR_PERM: no such host.
 */
co_fn struct error *io_resolve(const void *ctx, const char *host, const char *service, int family,
                               uint64_t deadline, struct io_address **found_r, size_t *n_r);
/* The name of an address as its owner says (PTR), or NULL with *is_temp_r telling whether later may differ.
 */
co_fn char *io_resolve_name(const void *ctx, const struct io_address *a, uint64_t deadline, bool *is_temp_r);

struct io_mx {
    unsigned preference;
    char *host; /* "." is null MX, RFC 7505 */
};
/* MX records in order of preference, equal ones shuffled. No MX: *n_r == 0 without error. */
co_fn struct error *io_resolve_mx(const void *ctx, const char *domain, uint64_t deadline,
                                  struct io_mx **found_r, size_t *n_r);

/* Connects; *stream_r is owned by ctx. The error's text is the reason alone ("Connection refused",
 * "timeout"). */
co_fn struct error *io_connect(const void *ctx, const struct io_address *a, uint64_t deadline,
                               struct io_stream **stream_r);
/* Its error says nothing of the server: this process, or its host, had no descriptor or memory for it. */
bool io_connect_had_no_means(const struct error *e);

/*
 * "inet:host:port", "host:port", "[v6]:port", ":port", "port", "unix:path": the forms of smtpd_proxy_filter
 * and friends, parsed once. The prefix is matched without case; no host means localhost; a relative path of a
 * unix socket lies under base_dir.
 */
struct io_endpoint {
    char *text;    /* as written, for the log */
    char *host;    /* NULL: unix */
    char *service; /* port number or name */
    char *path;    /* unix */
};
struct error *io_endpoint_parse(const void *ctx, const char *text, const char *base_dir,
                                struct io_endpoint *out_r);
/* Resolves if need be and connects to the first address that answers. */
co_fn struct error *io_endpoint_connect(const void *ctx, const struct io_endpoint *to, uint64_t deadline,
                                        struct io_stream **stream_r);

/* Listens. unix: removes a stale socket first, mode 0666. Returns the descriptor, or -1 and *error_r. */
int io_listen(const struct io_address *a, int backlog, struct error **error_r);
/* Waits for a connection on a listening descriptor, which other processes may wait on too: a connection wakes
 * one of them. *fd_r is the caller's. IO_RESET: transient (the client left, no descriptors): try again;
 * *errno_r tells. */
struct io_listener;
struct io_listener *io_listener_new(const void *ctx, int fd); /* fd stays the caller's */
co_fn enum io_end io_accept(struct io_listener *l, uint64_t deadline, int *fd_r, struct io_address *peer_r,
                            int *errno_r);
/* Does not wait; false when there is none. For who was told of connections and will not wait for more. */
bool io_accept_now(struct io_listener *l, int *fd_r, struct io_address *peer_r);
/* Before not calling io_accept for a while: connections wake the others only. */
void io_listener_pause(struct io_listener *l);
/* How many connections wait to be accepted (TCP; else 0). */
unsigned io_listener_waiting(const struct io_listener *l);
void io_listener_close(struct io_listener **l);

/* Waits until a descriptor that is not a stream (pipe, eventfd, signalfd) is readable. fd stays the caller's.
 */
co_fn enum io_end io_wait_readable(int fd, uint64_t deadline, const char *label);
co_fn enum io_end io_wait_writable(int fd, uint64_t deadline, const char *label);

#endif
