/* The known name that the administrator may have meant: the least number of typing slips away. */
#include "conf_own.h"

#define SLIPS_MOST 4
#define NAME_MOST  80

static unsigned least(unsigned a, unsigned b, unsigned c)
{
    unsigned ab = a < b ? a : b;

    return ab < c ? ab : c;
}

/* Levenshtein's distance, two neighbours swapped counting as one slip; `enough` when it is that much or more.
 * Both texts are at most NAME_MOST long. */
static unsigned distance(const char *a, size_t an, const char *b, size_t bn, unsigned enough)
{
    unsigned rows[3][NAME_MOST + 1];

    for (size_t j = 0; j <= bn; j++)
        rows[0][j] = (unsigned)j;
    for (size_t i = 1; i <= an; i++) {
        unsigned nearest, *row = rows[i % 3], *above = rows[(i + 2) % 3], *two_above = rows[(i + 1) % 3];
        row[0] = (unsigned)i;
        nearest = row[0];
        for (size_t j = 1; j <= bn; j++) {
            row[j] = least(above[j] + 1, row[j - 1] + 1, above[j - 1] + (a[i - 1] != b[j - 1]));
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
                two_above[j - 2] + 1 < row[j])
                row[j] = two_above[j - 2] + 1;
            nearest = row[j] < nearest ? row[j] : nearest;
        }
        if (nearest > enough) /* a swap looks back two rows, at most one slip less */
            return enough;
    }
    return rows[an % 3][bn];
}

const char *conf_suggest(const char *name)
{
    size_t n, name_n = strlen(name);
    const struct conf_param *params = conf_params(&n);
    unsigned best = name_n / 3 < SLIPS_MOST ? (unsigned)(name_n / 3) + 1 : SLIPS_MOST + 1;
    const char *nearest = NULL;

    if (name_n > NAME_MOST)
        return NULL;
    for (size_t i = 0; i < n; i++) {
        size_t other_n = strlen(params[i].name);
        unsigned d;

        if (other_n > NAME_MOST || other_n >= name_n + best || name_n >= other_n + best)
            continue;
        d = distance(name, name_n, params[i].name, other_n, best);
        if (d < best) {
            best = d;
            nearest = params[i].name;
        }
    }
    return nearest;
}
