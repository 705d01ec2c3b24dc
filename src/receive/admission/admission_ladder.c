/* Steps and marks. See admission_ladder.h. */
#include "admission_ladder.h"

#include "bytes.h"

static const char *const names[ADMISSION_STEPS] = {"full", "cheap", "hold", "451", "421"};

const char *admission_step_name(enum admission_step step)
{
    return (unsigned)step < ADMISSION_STEPS ? names[step] : "unknown";
}

static bool find_step(struct bytes word, unsigned *step_r)
{
    for (*step_r = 0; *step_r < ADMISSION_STEPS; ++*step_r)
        if (bytes_ieq(word, bytes_of(names[*step_r])))
            return true;
    return false;
}

/* "80" or "80%". */
static bool parse_mark(struct bytes word, uint32_t *mark_r)
{
    uint32_t mark = 0;

    if (word.n > 0 && word.p[word.n - 1] == '%')
        word.n--;
    for (size_t i = 0; i < word.n; i++) {
        if (!ascii_is_digit(word.p[i]) || mark > ADMISSION_PRESSURE_LIMIT)
            return false;
        mark = mark * 10 + (uint32_t)(word.p[i] - '0');
    }
    *mark_r = mark;
    return mark > 0 && mark <= ADMISSION_PRESSURE_LIMIT;
}

struct error *admission_ladder_parse(const char *text, struct admission_ladder *out_r)
{
    struct bytes rest = bytes_of(text), word;
    unsigned last = ADMISSION_FULL, step;
    uint32_t mark = 0, before = 0;

    *out_r = (struct admission_ladder){0};
    while ((word = bytes_word(&rest, " \t\r\n,")).n > 0) {
        struct bytes number;

        if (!find_step(word, &step))
            return error_new(ERROR_CONF, "unknown step \"%.*s\"", BYTES_FMT(word));
        if (step == ADMISSION_FULL && last == ADMISSION_FULL)
            continue;
        if (step <= last)
            return error_new(ERROR_CONF, "step \"%s\" is out of order", names[step]);
        number = bytes_word(&rest, " \t\r\n,");
        if (!parse_mark(number, &mark) || mark <= before)
            return error_new(ERROR_CONF, "step \"%s\" needs a percentage above %u", names[step], before);
        out_r->mark[step] = mark;
        last = step;
        before = mark;
    }
    return NULL;
}

enum admission_step admission_ladder_beside(const struct admission_ladder *l, enum admission_step step)
{
    if (step != ADMISSION_FULL)
        return step;
    if (l->mark[ADMISSION_CHEAP] > 0)
        return ADMISSION_CHEAP;
    return l->mark[ADMISSION_HOLD] > 0 ? ADMISSION_HOLD : ADMISSION_FULL;
}

static enum admission_step highest(const struct admission_ladder *l, uint32_t pressure)
{
    unsigned step = ADMISSION_FULL;

    for (unsigned i = ADMISSION_FULL + 1; i < ADMISSION_STEPS; i++)
        if (l->mark[i] > 0 && pressure >= l->mark[i])
            step = i;
    return step;
}

static enum admission_step below(const struct admission_ladder *l, enum admission_step step)
{
    do
        step--;
    while (step > ADMISSION_FULL && l->mark[step] == 0);
    return step;
}

enum admission_step admission_ladder_step(const struct admission_ladder *l, enum admission_step step,
                                          uint64_t since, uint32_t pressure, uint64_t now)
{
    enum admission_step up = highest(l, pressure);

    if (up > step)
        return up;
    if (step > ADMISSION_FULL &&
        (l->mark[step] == 0 || (pressure * 4 < l->mark[step] * 3 && now - since >= ADMISSION_STEP_MS)))
        return below(l, step);
    return step;
}
