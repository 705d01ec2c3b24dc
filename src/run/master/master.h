/*
 * master: opens the listening sockets of master.cf, starts and watches the workers, never touches mail.
 *
 * A line of master.cf that we run is a service. What a service runs comes from the caller as a table of
 * programs, so that master knows nothing of mail. A worker is a forked child; between it and master is one
 * socket pair, the control channel: the worker tells that it is ready (or why not), master tells it to drain
 * or to stop, and the end of the channel tells the worker that master has died. Sessions of a service are
 * counted in a page shared by its workers (master_quota.h): maxproc is the most sessions at once of the
 * service.
 *
 * A configuration with an error never comes into force: master_run refuses it, a reload keeps the old one.
 */
#ifndef RUN_MASTER_MASTER_H
#define RUN_MASTER_MASTER_H

#include "co.h"
#include "conf.h"
#include "error.h"
#include "io.h"

#include <stdio.h>
#include <sys/types.h>

/* ---- what the caller gives ---- */

enum master_kind {
    MASTER_POOL,      /* worker_processes workers, started with master */
    MASTER_ON_DEMAND, /* one worker, started by the first connection; leaves when idle */
    MASTER_SINGLE, /* one worker without sockets of master's; a new one starts only after the old one ended */
};

struct master_worker;
struct master_program {
    const char *command; /* of master.cf */
    enum master_kind kind;
    bool may_keep_root; /* runs as root when its line says unprivileged = n */
    /* The worker's life, called in the child, before any loop exists. Returning ends the worker with status
     * 0. */
    void (*run)(const struct master_worker *w);
};

struct master_options {
    const char *dir; /* configuration folder */
    const struct master_program *programs;
    size_t program_count;
    void (*prepare)(
        const struct conf *conf); /* once, before the first fork: what all workers share. May be NULL */
    /* Opens what a worker would open, in a child that then ends: a reload that could not work is refused. May
     * be NULL */
    struct error *(*try)(const struct conf_service *service);
    void (*died)(unsigned worker); /* a worker of this id is gone: what it left there is void. May be NULL */
    bool is_foreground;            /* without maillog_file the log goes to stdout, else to syslog */
    int tell_fd;                   /* -1, or where start-up's result goes: "ok", or why not */
};

/* Runs until it is told to end; the exit status. */
int master_run(const struct master_options *options);

/* ---- what a worker sees ---- */

struct master_quota;
struct master_worker {
    const struct conf_service *service;
    struct conf_services services; /* all of master.cf */
    unsigned id;                   /* different in every live worker, below MASTER_TOOL_ID */
    const int *listeners;          /* listening descriptors, non-blocking; the worker's */
    size_t listener_count;
    struct master_quota *quota;
    int control;
};

enum master_order {
    MASTER_DRAIN, /* take no new session; end when the present ones have ended */
    MASTER_STOP,  /* end within MASTER_STOP_MS; what is being committed is finished */
};
enum { MASTER_STOP_MS = 8000, MASTER_KILL_MS = 10000 };

/* Everything is open: from now on the worker answers. */
void master_worker_ready(const struct master_worker *w);
/* It cannot work: told to whoever waits for the start, logged, the worker ends. Frees the error. */
_Noreturn void master_worker_fail(const struct master_worker *w, struct error *e);
/* The service's sessions have reached maxproc and a client waits; master says so, now and then. */
void master_worker_limit(const struct master_worker *w);
/* Waits for the next order. That master has died is MASTER_DRAIN. The dump and log orders are obeyed inside.
 */
co_fn enum master_order master_worker_wait(const struct master_worker *w);

/* ---- for the tool ---- */

/* The id of a tool that makes mail (requeue); no worker has it. */
enum { MASTER_TOOL_ID = 255 };

/* The pid of the master that runs on this queue directory; 0: none. */
pid_t master_pid(const char *queue_directory);
/* Reads and checks everything that start-up would; the configuration, owned by ctx. */
struct conf *master_conf_read(const void *ctx, const char *dir, struct conf_services *services_r,
                              struct conf_faults *faults);
/* What keeps root's workers from becoming mail_owner; NULL: nothing, or nobody is root. */
struct error *master_owner_check(const struct conf *conf);
/* The addresses an inet service listens on, resolved now (blocking). */
struct error *master_addresses(const void *ctx, const struct conf_service *service, struct io_address **at_r,
                               size_t *n_r);
/* The path of a unix service's socket. */
char *master_socket_path(const void *ctx, const struct conf_service *service);

#endif
