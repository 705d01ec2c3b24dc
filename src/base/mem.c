/* Memory that is there or ends the process. See mem.h. */
#include "mem.h"

#include "format.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SMALL_TEXT = 256 };

static _Noreturn void out_of_memory(void)
{
    static const char text[] = "fatal: out of memory\n";

    if (write(STDERR_FILENO, text, sizeof(text) - 1) < 0)
        abort();
    abort();
}

static void *need(void *p)
{
    if (p == NULL)
        out_of_memory();
    return p;
}

void *mem_zero_(const void *ctx, size_t size, const char *name)
{
    void *p = need(_talloc_zero(ctx, size, name));

    return p;
}

void *mem_zero_with_room_(const void *ctx, size_t size, size_t room, const char *name)
{
    return memset(need(_talloc_pooled_object(ctx, size, name, 0, room)), 0, size);
}

void *mem_resize_(const void *ctx, void *old, size_t size)
{
    return need(talloc_realloc_size(ctx, old, size));
}

size_t mem_product_(size_t size, size_t count)
{
    size_t product;

    if (__builtin_mul_overflow(size, count, &product))
        out_of_memory();
    return product;
}

char *mem_bytes(const void *ctx, size_t n)
{
    return need(talloc_named_const(ctx, n, "char[]"));
}

char *mem_strdup(const void *ctx, const char *text)
{
    return need(talloc_strdup(ctx, text));
}

char *mem_vprintf(const void *ctx, const char *fmt, va_list args)
{
    char small[SMALL_TEXT], *text;
    va_list again;
    int n;

    va_copy(again, args);
    n = format_text(small, sizeof(small), fmt, args);
    if (n < 0)
        out_of_memory();
    text = mem_bytes(ctx, (size_t)n + 1);
    if (n < SMALL_TEXT)
        memcpy(text, small, (size_t)n + 1);
    else
        format_text(text, (size_t)n + 1, fmt, again);
    va_end(again);
    return text;
}

char *mem_printf(const void *ctx, const char *fmt, ...)
{
    va_list args;
    char *text;

    va_start(args, fmt);
    text = mem_vprintf(ctx, fmt, args);
    va_end(args);
    return text;
}

void *mem_malloc(size_t n)
{
    return need(malloc(n ? n : 1));
}

void *mem_realloc(void *old, size_t n)
{
    return need(realloc(old, n ? n : 1));
}
