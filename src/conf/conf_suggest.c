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

void conf_nearest_begin(struct conf_nearest *n, const char *name)
{
    size_t size = strlen(name);

    *n = (struct conf_nearest){.name = name};
    if (size <= NAME_MOST)
        n->best = size / 3 < SLIPS_MOST ? (unsigned)(size / 3) + 1 : SLIPS_MOST + 1;
}

void conf_nearest_offer(struct conf_nearest *n, const char *known)
{
    size_t name_n = strlen(n->name), known_n = strlen(known);
    unsigned d;

    if (known_n > NAME_MOST || known_n >= name_n + n->best || name_n >= known_n + n->best)
        return;
    d = distance(n->name, name_n, known, known_n, n->best);
    if (d < n->best) {
        n->best = d;
        n->found = known;
    }
}

const char *conf_suggest(const char *name)
{
    size_t n;
    const struct conf_param *params = conf_params(&n);
    struct conf_nearest nearest;

    conf_nearest_begin(&nearest, name);
    for (size_t i = 0; i < n; i++)
        conf_nearest_offer(&nearest, params[i].name);
    return nearest.found;
}
