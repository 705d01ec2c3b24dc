/* Memory that is there or ends the process. See mem.h. */
#include "mem.h"

#include <stdlib.h>
#include <unistd.h>

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
    return need(talloc_vasprintf(ctx, fmt, args));
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
