/*
 * main.cf and master.cf: syntax, parameters, values.
 *
 * A parameter is declared once, in conf_params.c, with type, unit, default and one sentence. A configuration
 * is read and every fault of it is found (with file and line) before anything acts on it; so a value that a
 * service asks for is always good, and asking for a name that is not declared is a bug of ours.
 */
#ifndef CONF_CONF_H
#define CONF_CONF_H

#include "bytes.h"
#include "error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* ---- faults ---- */

enum conf_severity {
    CONF_ERROR,   /* refuses to start */
    CONF_WARNING, /* works, but not as the administrator may think */
    CONF_NOTE,    /* `check` only: served in-process, implied, ... */
};
struct conf_fault {
    enum conf_severity severity;
    char *file;
    unsigned line; /* 0: the file as a whole */
    char *text;
};
struct conf_faults {
    struct conf_fault *at; /* owned by ctx */
    size_t n;
    void *ctx;
};
void conf_fault_add(struct conf_faults *f, enum conf_severity severity, const char *file, unsigned line,
                    const char *fmt, ...) __attribute__((format(printf, 5, 6)));
bool conf_faults_has_error(const struct conf_faults *f);

/* ---- parameters ---- */

enum conf_type {
    CONF_TEXT,
    CONF_RAW_TEXT /* not expanded */,
    CONF_BOOL,
    CONF_INT,
    CONF_SIZE /* bytes */,
    CONF_TIME,
};
enum conf_state {
    CONF_IN_FORCE, /* we do what it says */
    CONF_KNOWN,    /* Postfix knows it; this version does not act on it: `check` says so when it is set */
};
struct conf_param {
    const char *name;
    enum conf_type type;
    enum conf_state state;
    char unit; /* CONF_TIME: unit of a bare number, s m h d w */
    const char
        *value; /* default, unexpanded; "" for what is found at run time (myhostname, mydomain, mynetworks) */
    long min, max;     /* max 0: none; CONF_TEXT: least length */
    const char *about; /* one sentence */
};
const struct conf_param *conf_params(size_t *n_r);          /* all, sorted by name */
const struct conf_param *conf_param_find(const char *name); /* NULL: not declared */

/* ---- a configuration ---- */

struct conf;

/* main.cf of the folder over the defaults; dir NULL: the defaults alone. Never NULL; faults tell what is
 * wrong. */
struct conf *conf_read(const void *ctx, const char *dir, struct conf_faults *faults);
/* The same values with room for overrides, as for one service of master.cf. `base` must outlive it. */
struct conf *conf_derive(const void *ctx, const struct conf *base);
/* Sets name to value, as read from file:line. Faults are found by conf_validate. */
void conf_set(struct conf *c, const char *name, const char *value, const char *file, unsigned line);
/* Checks every set value (type, range, expansion, unknown names with the nearest known one). */
void conf_validate(struct conf *c, struct conf_faults *faults);

/* Values, expanded. The name must be declared. Texts live as long as c; asking twice does the work once. */
const char *conf_text(const struct conf *c, const char *name);
bool conf_bool(const struct conf *c, const char *name);
long conf_int(const struct conf *c, const char *name);
uint64_t conf_size(const struct conf *c, const char *name); /* bytes */
uint64_t conf_time_ms(const struct conf *c, const char *name);
/* A parameter of a transport or of a service, NAME_suffix, whose default is another parameter:
 * conf_text_for(c, "slow", "_destination_concurrency_limit", "default_destination_concurrency_limit"). */
const char *conf_text_for(const struct conf *c, const char *prefix, const char *suffix, const char *fallback);
long conf_int_for(const struct conf *c, const char *prefix, const char *suffix, const char *fallback);
uint64_t conf_time_ms_for(const struct conf *c, const char *prefix, const char *suffix, const char *fallback);
/* Any text with $name in it. Unknown names are empty; a malformed text is an error. Owned by ctx. */
struct error *conf_expand(const void *ctx, const struct conf *c, const char *text, char **out_r);
/* Whether somebody set the name, in main.cf or, for a service, in its line of master.cf. */
bool conf_is_set(const struct conf *c, const char *name);
/* Where that was; false: nobody set it. */
bool conf_place(const struct conf *c, const char *name, const char **file_r, unsigned *line_r);

/* smtpd_proxy_filter of a server that looks into mail itself: filter_engines between session and queue, no
 * SMTP hop. A list of several filters cannot have this word; a host of that name is written with its port. */
#define CONF_FILTER_DIRECT "direct"

/* The next item of a list separated by blanks and commas, with {...} kept together (braces removed); NULL at
 * the end. Owned by ctx. Postfix's mystrtok with CHARS_BRACE. */
char *conf_list_next(const void *ctx, const char **rest);

/* ---- master.cf ---- */

enum conf_service_type { CONF_INET, CONF_UNIX, CONF_FIFO, CONF_PASS, CONF_UNIX_DGRAM };
struct conf_service {
    const char *name; /* "smtp", "127.0.0.1:10026", "private-name" */
    enum conf_service_type type;
    bool is_private, is_unprivileged, is_chroot;
    unsigned wakeup;     /* seconds; 0: never */
    bool wakeup_if_used; /* "N?" */
    long maxproc;        /* 0: no limit; never "-": the default is filled in */
    const char *command; /* "smtpd" */
    const char **args;   /* what is not -o, in order, NULL-ended */
    bool is_verbose;     /* -v */
    struct conf *conf;   /* main.cf with this line's -o */
    const char *file;
    unsigned line;
    /* inet: */
    const char *host; /* NULL: all inet_interfaces; without brackets */
    const char *port; /* always a number: "smtp" became "25" */
};
struct conf_services {
    struct conf_service *at;
    size_t n;
};
/* master.cf of the folder. Owned by ctx; `main_conf` must outlive it. Faults: syntax, types, duplicates, -o
 * values. */
struct conf_services conf_read_services(const void *ctx, struct conf *main_conf, const char *dir,
                                        struct conf_faults *faults);

/* ---- postconf's and check's output ---- */

enum conf_print { CONF_PRINT_ALL, CONF_PRINT_DEFAULTS /* -d */, CONF_PRINT_SET /* -n */ };
/* "name = value" lines sorted by name, to `out`. names: NULL-ended, or NULL for all. Unknown names: a warning
 * on standard error, as postconf does. Returns the number of unknown names. */
int conf_print(const struct conf *c, enum conf_print what, bool expand, const char *const *names, FILE *out);

/* The most filters of one host with smtpd_proxy_concurrency_limit. */
enum { CONF_SLOT_FILTERS = 8 };
/* Faults that need a look at the whole: an after-filter listener that strangers can reach, a filter loop,
 * sizes that contradict each other, parameters and commands that this version does not have yet. */
void conf_lint(const struct conf *main_conf, const struct conf_services *services,
               struct conf_faults *faults);

/* What a command of master.cf is to us. */
enum conf_command {
    CONF_COMMAND_OURS,    /* a daemon of this version */
    CONF_COMMAND_SERVED,  /* exists in Postfix for its process model; served in-process */
    CONF_COMMAND_LATER,   /* Postfix's; this version does not have it: mail for it waits in the queue */
    CONF_COMMAND_UNKNOWN, /* an error at start */
};
enum conf_command conf_command(const char *name);

/* ---- what was meant ---- */

/* Which of the known names is nearest to one that is not: begin, offer each, take `found` (NULL: none is
 * near). */
struct conf_nearest {
    const char *name, *found;
    unsigned best; /* slips that `found` is away; only less counts */
};
void conf_nearest_begin(struct conf_nearest *n, const char *name);
void conf_nearest_offer(struct conf_nearest *n, const char *known);

#endif
