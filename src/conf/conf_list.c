/* Items of a list: separated by blanks and commas, {...} kept together. */
#include "conf.h"
#include "mem.h"

static bool is_separator(char c)
{
    return c == ' ' || c == ',' || (c >= '\t' && c <= '\r');
}

/* The length of the item: up to a separator outside braces. */
static size_t item_length(const char *text)
{
    size_t depth = 0, i = 0;

    for (; text[i] != '\0'; i++) {
        if (text[i] == '{')
            depth++;
        else if (text[i] == '}' && depth > 0)
            depth--;
        else if (depth == 0 && is_separator(text[i]))
            break;
    }
    return i;
}

/* Whether the brace at the start is closed by the last character. */
static bool is_braced(struct bytes item)
{
    size_t depth = 0;

    if (item.n < 2 || item.p[0] != '{')
        return false;
    for (size_t i = 0; i < item.n; i++) {
        if (item.p[i] == '{')
            depth++;
        else if (item.p[i] == '}' && --depth == 0)
            return i == item.n - 1;
    }
    return false;
}

char *conf_list_next(const void *ctx, const char **rest)
{
    const char *p = *rest;
    struct bytes item;

    while (is_separator(*p))
        p++;
    if (*p == '\0') {
        *rest = p;
        return NULL;
    }
    item = bytes(p, item_length(p));
    *rest = p + item.n;
    if (is_braced(item))
        item = bytes_trim(bytes(item.p + 1, item.n - 2));
    return bytes_dup(ctx, item);
}
