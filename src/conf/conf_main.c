/*
 * main.cf: "name = value" lines over the defaults. The last of several wins; an empty value is a value.
 */
#include "conf_own.h"
#include "mem.h"

static bool is_blank(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

const char *conf_split(struct bytes line, struct bytes *name_r, struct bytes *value_r)
{
    size_t i = 0;

    line = bytes_trim(line);
    while (i < line.n && line.p[i] != '=' && !is_blank(line.p[i]))
        i++;
    *name_r = bytes(line.p, i);
    if (i == 0)
        return "missing attribute name";
    line = bytes_trim(bytes_skip(line, i));
    if (line.n == 0 || line.p[0] != '=')
        return "missing '=' after attribute name";
    *value_r = bytes_trim(bytes_skip(line, 1));
    return NULL;
}

static void take_line(struct conf *c, struct bytes line, const char *file, unsigned at,
                      struct conf_faults *faults)
{
    struct bytes name, value;
    const char *wrong = conf_split(line, &name, &value);
    char *name_text, *value_text;
    const struct conf_entry *old;

    if (wrong != NULL) {
        conf_fault_add(faults, CONF_ERROR, file, at, "%s: \"%.*s%s\"", wrong, line.n > 60 ? 60 : (int)line.n,
                       line.p, line.n > 60 ? "..." : "");
        return;
    }
    name_text = bytes_dup(NULL, name);
    value_text = bytes_dup(NULL, value);
    HASH_FIND_STR(c->set, name_text, old);
    if (old != NULL)
        conf_fault_add(faults, CONF_WARNING, file, at, "overriding earlier entry: %s=%s (line %u has %s)",
                       name_text, value_text, old->line, old->value);
    conf_set(c, name_text, value_text, file, at);
    talloc_free(name_text);
    talloc_free(value_text);
}

void conf_main_parse(struct conf *c, struct bytes text, const char *file, struct conf_faults *faults)
{
    struct conf_lines lines;
    struct buf line = {0};
    unsigned at;

    conf_lines_init(&lines, text, file, faults);
    while (conf_lines_next(&lines, &line, &at))
        take_line(c, buf_bytes(&line), file, at, faults);
    buf_deinit(&line);
}
