/* Waiting on descriptors that are no streams. See io.h. */
#include "co_fd.h"
#include "io.h"
#include "mem.h"

#include <stdlib.h>

static void free_watch(struct co_fd *w)
{
    free(w);
}

static co_fn enum io_end wait_for(int fd, int event, uint64_t deadline, const char *label)
{
    struct co_fd *w = mem_malloc(sizeof(*w));
    enum co_end end;

    co_fd_open(w, fd, event == CO_WRITABLE);
    end = co_fd_wait(w, event, deadline, label);
    co_fd_close(w, free_watch);
    return end == CO_OK ? IO_OK : end == CO_TIMEOUT ? IO_TIMEOUT : IO_CANCELLED;
}

co_fn enum io_end io_wait_readable(int fd, uint64_t deadline, const char *label)
{
    return wait_for(fd, CO_READABLE, deadline, label);
}

co_fn enum io_end io_wait_writable(int fd, uint64_t deadline, const char *label)
{
    return wait_for(fd, CO_WRITABLE, deadline, label);
}
