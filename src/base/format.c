/* Formatting text. See format.h. */
#include "format.h"

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

enum { LEAST_LIMIT = 40, NUMBER_SIZE = LEAST_LIMIT + 2 };

struct out {
    char *to;
    size_t room, n; /* n: all that was to be written, also beyond room */
};

static void add(struct out *o, const char *text, size_t n)
{
    if (o->n < o->room) {
        size_t left = o->room - o->n;

        memcpy(o->to + o->n, text, n < left ? n : left);
    }
    o->n += n;
}

/* What stands between '%' and the letter. */
struct spec {
    enum { INT, LONG, LONG_LONG, SIZE } width;
    unsigned least; /* digits: %05u */
    bool is_upper;
};

static void add_number(struct out *o, uintmax_t number, unsigned base, bool is_negative, const struct spec *s)
{
    const char *digits = s->is_upper ? "0123456789ABCDEF" : "0123456789abcdef";
    char text[NUMBER_SIZE], *end = text + sizeof(text), *p = end;

    do
        *--p = digits[number % base];
    while ((number /= base) > 0);
    while ((size_t)(end - p) + is_negative < s->least)
        *--p = '0';
    if (is_negative)
        *--p = '-';
    add(o, p, (size_t)(end - p));
}

/* va_list in a struct: a pointer to it can be handed down. */
struct arguments {
    va_list list;
};

static void add_signed(struct out *o, const struct spec *s, struct arguments *a)
{
    intmax_t n = s->width == INT    ? va_arg(a->list, int)
                 : s->width == LONG ? va_arg(a->list, long)
                 : s->width == SIZE ? va_arg(a->list, ssize_t)
                                    : va_arg(a->list, long long);

    add_number(o, n < 0 ? -(uintmax_t)n : (uintmax_t)n, 10, n < 0, s);
}

static void add_unsigned(struct out *o, const struct spec *s, unsigned base, struct arguments *a)
{
    uintmax_t n = s->width == INT    ? va_arg(a->list, unsigned)
                  : s->width == LONG ? va_arg(a->list, unsigned long)
                  : s->width == SIZE ? va_arg(a->list, size_t)
                                     : va_arg(a->list, unsigned long long);

    add_number(o, n, base, false, s);
}

/* %.*s */
static bool add_part(struct out *o, struct arguments *a)
{
    int most = va_arg(a->list, int);
    const char *text = va_arg(a->list, const char *);

    if (most < 0 || text == NULL)
        return false;
    add(o, text, strnlen(text, (size_t)most));
    return true;
}

static bool add_string(struct out *o, struct arguments *a)
{
    const char *text = va_arg(a->list, const char *);

    if (text == NULL)
        return false;
    add(o, text, strlen(text));
    return true;
}

/* A zero and one or two digits, and the length. */
static struct spec read_spec(const char **p)
{
    struct spec s = {INT};

    if (**p == '0') {
        for (++*p; **p >= '0' && **p <= '9' && s.least < LEAST_LIMIT / 10; ++*p)
            s.least = s.least * 10 + (unsigned)(**p - '0');
    }
    if (**p == 'z') {
        s.width = SIZE;
        ++*p;
    }
    for (; **p == 'l' && s.width < LONG_LONG; ++*p)
        s.width = s.width == INT ? LONG : LONG_LONG;
    return s;
}

static void add_char(struct out *o, char c)
{
    if (o->n < o->room)
        o->to[o->n] = c;
    o->n++;
}

/* One conversion, p behind its '%'. False: not one of ours. */
static bool convert(struct out *o, const char **p, struct arguments *a)
{
    struct spec s;

    if (**p == 's') /* nearly all of them */
        return ++*p, add_string(o, a);
    if (strncmp(*p, ".*s", 3) == 0)
        return *p += 3, add_part(o, a);
    s = read_spec(p);
    switch (*(*p)++) {
    case 'd':
        return add_signed(o, &s, a), true;
    case 'u':
        return add_unsigned(o, &s, 10, a), true;
    case 'X':
        s.is_upper = true;
        /* fall through */
    case 'x':
        return add_unsigned(o, &s, 16, a), true;
    case 'c':
        add_char(o, (char)va_arg(a->list, int));
        return s.width == INT && s.least == 0;
    case '%':
        return add_char(o, '%'), true;
    default:
        return false;
    }
}

static bool format(struct out *o, const char *fmt, struct arguments *a)
{
    while (*fmt != '\0') {
        char c = *fmt++;

        if (c != '%')
            add_char(o, c);
        else if (!convert(o, &fmt, a))
            return false;
    }
    return true;
}

int format_text(char *to, size_t room, const char *fmt, va_list args)
{
    struct out o = {.to = to, .room = room};
    struct arguments a;
    bool is_done;

    va_copy(a.list, args);
    is_done = format(&o, fmt, &a);
    va_end(a.list);
    if (!is_done || o.n > INT_MAX)
        return vsnprintf(to, room, fmt, args);
    if (room > 0)
        to[o.n < room ? o.n : room - 1] = '\0';
    return (int)o.n;
}

int format_print(char *to, size_t room, const char *fmt, ...)
{
    va_list args;
    int n;

    va_start(args, fmt);
    n = format_text(to, room, fmt, args);
    va_end(args);
    return n;
}
