/* Trouble on our side. See error.h. */
#include "error.h"

#include "mem.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>

static struct error *make(enum error_class kind, int code, char *text)
{
    struct error *e = mem_new(NULL, struct error);

    e->kind = kind;
    e->code = code;
    e->text = talloc_steal(e, text);
    return e;
}

struct error *error_new(enum error_class kind, const char *fmt, ...)
{
    va_list args;
    char *text;

    va_start(args, fmt);
    text = mem_vprintf(NULL, fmt, args);
    va_end(args);
    return make(kind, 0, text);
}

static enum error_class class_of(int code)
{
    switch (code) {
    case EACCES:
    case EPERM:
    case ENOENT:
    case ENOTDIR:
    case EISDIR:
    case ELOOP:
    case EROFS:
        return ERROR_PERM;
    default:
        return ERROR_TEMP;
    }
}

struct error *error_errno(int code, const char *fmt, ...)
{
    va_list args;
    char *text, *whole;
    struct error *e;

    va_start(args, fmt);
    text = mem_vprintf(NULL, fmt, args);
    va_end(args);
    whole = mem_printf(NULL, "%s: %s", text, strerror(code));
    talloc_free(text);
    e = make(class_of(code), code, whole);
    return e;
}

struct error *error_prepend(struct error *e, const char *fmt, ...)
{
    va_list args;
    char *text, *whole;

    if (e == NULL)
        return NULL;
    va_start(args, fmt);
    text = mem_vprintf(NULL, fmt, args);
    va_end(args);
    whole = mem_printf(e, "%s: %s", text, e->text);
    talloc_free(text);
    talloc_free(e->text);
    e->text = whole;
    return e;
}

void error_free(struct error **e)
{
    talloc_free(*e);
    *e = NULL;
}
