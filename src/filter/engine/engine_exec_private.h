/*
 * The parts of the engine "exec", between themselves: the program's environment, its process, the talk with
 * it over four pipes, and the lines that it answers on descriptor 3. engine_exec.c puts them together;
 * doc/filter.md describes what a program sees.
 */
#ifndef FILTER_ENGINE_EXEC_PRIVATE_H
#define FILTER_ENGINE_EXEC_PRIVATE_H

#include "buf.h"
#include "engine.h"

#include <sys/types.h>

/* ---- environment (engine_exec_env.c) ---- */

enum {
    ENGINE_EXEC_RECIPIENTS_SIZE = 100000
}; /* most bytes of RECIPIENTS; the kernel takes 131072 a variable */

/* "NAME=value" strings, NULL-ended, owned by the input's ctx. Control characters in values are '?'. */
char **engine_exec_env(const struct engine_input *in);

/* ---- process (engine_exec_start.c) ---- */

struct engine_exec_program {
    char **argv;    /* NULL-ended; argv[0] is an absolute path */
    bool sets_user; /* we are root: become uid and gid, without other groups */
    uid_t uid;
    gid_t gid;
    unsigned cpu_seconds; /* RLIMIT_CPU */
};

struct engine_exec_child {
    pid_t pid; /* also its process group */
    int pidfd;
    int in;              /* we write its standard input; non-blocking, as all; -1: closed */
    int out, reply, err; /* we read its descriptors 1, 3 and 2 */
};

/* The error is why it cannot be started; nothing is left behind then. */
struct error *engine_exec_start(const struct engine_exec_program *program, char **env,
                                struct engine_exec_child *child_r);
/* Closes our ends. */
void engine_exec_close(struct engine_exec_child *child);

/* ---- talk (engine_exec_talk.c) ---- */

enum {
    ENGINE_EXEC_REPLY_SIZE = 65536, /* most bytes on descriptor 3 */
    ENGINE_EXEC_ERROR_SIZE = 2048,  /* bytes of standard error that are kept for the log */
};

enum engine_exec_end {
    ENGINE_EXEC_EXITED, /* .status */
    ENGINE_EXEC_KILLED, /* .status is the signal */
    ENGINE_EXEC_TIMEOUT,
    ENGINE_EXEC_CANCELLED, /* the session is being ended */
    ENGINE_EXEC_FLOOD,     /* more output than output_limit, or than ENGINE_EXEC_REPLY_SIZE */
    ENGINE_EXEC_TROUBLE,   /* .error */
};

struct engine_exec_talk {
    /* given */
    const struct engine_input *in;
    const struct io_spool_conf *spool;
    uint64_t deadline;
    uint64_t output_limit;
    /* found */
    enum engine_exec_end end;
    int status;
    struct error *error;     /* the caller's */
    struct io_spool *output; /* standard output as content; owned by the input's ctx */
    struct buf reply;        /* descriptor 3; the caller's to deinit */
    struct buf complaints;   /* standard error; the caller's to deinit */
};

/* Gives the message, gathers the answers, and returns when the process has ended; whatever of its process
 * group is left is killed. Closes the child's pipes. */
co_fn void engine_exec_talk(struct engine_exec_talk *t, struct engine_exec_child *child);

/* ---- answer lines (engine_exec_reply.c) ---- */

enum { ENGINE_EXEC_REPLY_LINES = 1000, ENGINE_EXEC_REPLY_LINE = 4096 };

/*
 * Reads the lines of descriptor 3 into *out; header lines of PREPEND, with CR LF, are appended to `headers`.
 * Logs INFO, WARN, and what is done with the message. False: *why_r says which line makes no sense; then
 * nothing was logged and *out is not to be used.
 */
bool engine_exec_parse(const struct engine_input *in, struct bytes text, struct engine_result *out,
                       struct buf *headers, char **why_r);

/* ---- slots (engine_exec_slots.c) ---- */

/* At most `limit` programs of a worker run at a time; who asks first is served first. Zeroed memory with
 * limit set. */
struct engine_exec_slots {
    unsigned limit, used;
    struct engine_exec_waiter *first;
};
co_fn enum co_end engine_exec_slots_take(struct engine_exec_slots *s, uint64_t deadline);
void engine_exec_slots_give(struct engine_exec_slots *s);

#endif
