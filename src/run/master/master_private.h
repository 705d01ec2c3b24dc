/*
 * Inside run/master only: services, listeners, workers, and the files that share them.
 *
 * Listeners are kept by address, apart from services, so that a reload finds the open socket of an address
 * whatever the service over it is called now. Services live across reloads under their type and name; what a
 * reload replaces is the generation (the configuration they point into). A service that was removed stays
 * until its last worker has ended.
 */
#ifndef RUN_MASTER_MASTER_PRIVATE_H
#define RUN_MASTER_MASTER_PRIVATE_H

#include "master.h"
#include "master_backoff.h"
#include "master_quota.h"

#include "log.h"
#include "mem.h"

#include <signal.h>

struct master_listener {
    struct master_listener *next;
    struct io_address address;
    char *text; /* "127.0.0.1:25", or the path */
    int fd;
    bool is_wanted; /* by the configuration that is being taken into force */
};

struct master_service {
    struct master_service *next;
    char *key; /* "inet smtp" */
    const struct conf_service *conf;
    const struct master_program *program;
    struct master_listener **listeners;
    size_t listener_count;
    struct master_quota *quota;
    struct master_backoff backoff;
    unsigned generation; /* of its workers that are to serve */
    unsigned wanted;     /* workers, for MASTER_POOL */
    bool is_removed;
    bool is_draining_old; /* workers of an older generation serve until a new one is ready */
};

struct master_proc {
    struct master_proc *next;
    struct master_service *service;
    char *name; /* for the log, after the service may have gone */
    pid_t pid;
    unsigned id;
    unsigned generation;
    int control;
    uint64_t ready_ms; /* clock_ms(); 0: not yet */
    bool is_draining;
    bool has_told; /* why it failed */
};

struct master {
    const struct master_options *options;
    char *dir;
    void *memory; /* of the configuration in force */
    struct conf *conf;
    struct conf_services services_conf;
    char *queue_directory;
    struct master_listener *listeners;
    struct master_service *services;
    struct master_proc *procs;
    unsigned generation;
    uid_t uid; /* of mail_owner, when started as root */
    gid_t gid;
    char *owner; /* NULL: an ordinary user started us */
    int signals; /* signalfd */
    int pid_file;
    int tell; /* options' tell_fd until the result was told */
    bool is_starting;
    char *failure;    /* why the start failed */
    uint64_t stop_ms; /* when to kill what is left; 0: not stopping */
};

/* ---- master_listen.c ---- */

/* The listener for an address, open; NULL and *error_r. */
struct master_listener *master_listener_get(struct master *m, const struct io_address *address,
                                            const char *text, struct error **error_r);
/* Closes those that the configuration in force does not name. */
void master_listeners_sweep(struct master *m);
bool master_address_is_loopback(const struct io_address *a);
char *master_address_text(const void *ctx, const struct io_address *a);
/* Every listener of a service; array owned by ctx. */
struct error *master_listeners_of(struct master *m, const void *ctx, const struct conf_service *conf,
                                  struct master_listener ***at_r, size_t *n_r);

/* ---- master_service.c ---- */

/* Takes what was read into force, all of it or nothing. `memory` becomes m's on success. */
struct error *master_services_take(struct master *m, void *memory, struct conf *conf,
                                   struct conf_services services);
const struct master_program *master_program_find(const struct master_options *o,
                                                 const struct conf_service *s);
/* Starts the workers that are missing and may be started now. Returns when to look again (clock_ms()). */
uint64_t master_services_fill(struct master *m);
/* A connection waits on a listener of an on-demand service without a worker. */
bool master_service_wants_demand(const struct master *m, const struct master_service *s);
/* Old workers go on serving until the new generation is ready; then they drain. */
void master_service_was_ready(struct master *m, struct master_service *s);
void master_services_sweep(struct master *m);

/* ---- master_proc.c ---- */

void master_proc_start(struct master *m, struct master_service *s);
void master_proc_tell(struct master_proc *p, char order);
void master_proc_drain(struct master_proc *p);
/* Reads what the worker said on its control channel. */
void master_proc_hear(struct master *m, struct master_proc *p);
/* Collects the children that have ended. */
void master_procs_reap(struct master *m);
size_t master_procs_of(const struct master *m, const struct master_service *s, bool serving_only);

/* ---- master_child.c: in the child ---- */

_Noreturn void master_child_run(struct master *m, struct master_service *s, unsigned id, int control);

/* ---- master_trial.c ---- */

/* What would keep a worker of these services from its work; blocks for moments. */
struct error *master_trial(struct master *m, struct conf_services services);

/* ---- master_setup.c ---- */

/* Folders, owner, limits, log. */
struct error *master_setup_owner(struct master *m, const struct conf *conf);
struct error *master_setup_folders(const struct master *m, const struct conf *conf);
struct error *master_setup_log(const struct master *m, const struct conf *conf);
void master_setup_limits(void);
/* Locks pid/master.pid and writes our pid. */
struct error *master_pid_lock(struct master *m);

/* orders on the control channel, one byte each; from master */
enum { ORDER_DRAIN = 'D', ORDER_STOP = 'S', ORDER_DUMP = 'I', ORDER_LOG = 'L' };
/* and from the worker; NEWS_FAILED is followed by a text */
enum { NEWS_READY = 'R', NEWS_FAILED = 'F', NEWS_DRAINS = 'D', NEWS_LIMIT = 'M' };
enum { NEWS_SIZE = 1024 };

#endif
