/*
 * The log, in Postfix's line shape:
 *
 *     Nov 20 19:18:47 HOST postfix/smtpd[4711]: connect from localhost[127.0.0.1]
 *
 * Lines are gathered and written together: at the latest 20 ms after the first (the event loop sees to that),
 * when many have gathered, and before the process ends. A control or 8-bit byte that is not part of valid
 * UTF-8 is written as '?': what a client sent can never start a line of its own.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include "error.h"

#include <stdbool.h>

enum log_place {
    LOG_TO_STDOUT, /* with time and host: `sallyport run`, tests */
    LOG_TO_FILE,   /* maillog_file */
    LOG_TO_SYSLOG,
};

/* path: for LOG_TO_FILE, created with mode 0644; facility: syslog's name ("mail"). Until called: standard
 * error. */
struct error *log_open(enum log_place place, const char *path, const char *facility);
/* Opens the file again under its name, after it was moved away. */
struct error *log_reopen(void);
/* "postfix/smtpd": who speaks. Copied. */
void log_set_tag(const char *tag);
void log_set_verbose(bool verbose);

void log_info(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_debug(const char *fmt, ...) __attribute__((format(printf, 1, 2)));           /* only when verbose */
void log_warn(const char *fmt, ...) __attribute__((format(printf, 1, 2)));            /* "warning: ..." */
void log_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));           /* "error: ..." */
_Noreturn void log_fatal(const char *fmt, ...) __attribute__((format(printf, 1, 2))); /* logs, exits with 1 */
_Noreturn void log_panic(const char *fmt, ...)
    __attribute__((format(printf, 1, 2))); /* a bug: logs, aborts */

/* Logs the error as a warning and frees it. */
void log_report(struct error **e);

void log_flush(void);
/* Milliseconds until the gathered lines must be written; 0: now; -1: there are none. */
int log_flush_in(void);

/* For tests: every line (without time, host and tag) goes to this function instead; NULL ends it. */
void log_capture(void (*take)(const char *line, void *arg), void *arg);

#endif
