/*
 * For io/ and run/master alone: the libuv loop under the coroutines, and waiting on descriptors.
 *
 * A handle's memory must outlive uv_close(): whoever embeds one frees it in the close callback.
 */
#ifndef CO_CO_UV_H
#define CO_CO_UV_H

#include "co.h"

#include <uv.h>

uv_loop_t *co_loop(void);

enum { CO_READABLE = 1, CO_WRITABLE = 2 };

/*
 * A descriptor watched for one reader and one writer. The watch stays armed between waits, so that a conversation
 * costs one epoll_ctl, and is disarmed when bytes arrive that nobody waits for.
 */
struct co_fd {
    uv_poll_t poll;
    struct co *reader;
    struct co *writer;
    int armed;          /* UV_ events asked of the loop */
    bool is_open;
    bool has_input;     /* disarmed because bytes arrived that nobody waited for */
    bool peer_left;     /* the peer closed its side or reset (UV_DISCONNECT) */
    void (*closed)(struct co_fd *);
};

void co_fd_open(struct co_fd *w, int fd);
/* Stops watching at once; calls closed(w) on a later turn, when w's memory may go. The descriptor is the caller's,
 * who may close it now. */
void co_fd_close(struct co_fd *w, void (*closed)(struct co_fd *));
/* Waits for CO_READABLE or CO_WRITABLE. */
co_fn enum co_end co_fd_wait(struct co_fd *w, int event, uint64_t deadline, const char *label);
#endif
