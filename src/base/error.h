/*
 * Trouble here: what went wrong on our side, for the log and the administrator, never for a stranger.
 *
 * A function that can fail returns struct error *: NULL is success, else the caller owns the error and either
 * reports it (log, exit code, 451 4.3.0) or returns it with context prepended; never both. A mail outcome
 * (4xx, 5xx) is not an error but a struct mail_reply; the end of a stream is not an error but an enum io_end.
 */
#ifndef BASE_ERROR_H
#define BASE_ERROR_H

enum error_class {
    ERROR_TEMP, /* may work later: disk full, table server away */
    ERROR_PERM, /* will not work as asked */
    ERROR_CONF, /* the administrator must change the configuration */
};

struct error {
    enum error_class kind;
    int code;   /* errno when a system call failed, else 0 */
    char *text; /* one line, no newline */
};

struct error *error_new(enum error_class kind, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* "TEXT: strerror(code)"; the class is TEMP, PERM for EACCES, ENOENT and the like. */
struct error *error_errno(int code, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* "TEXT: old text"; returns the same error. NULL stays NULL. */
struct error *error_prepend(struct error *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Frees it, if it is one. */
void error_free(struct error **e);

#endif
