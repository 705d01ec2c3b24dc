/* Fuzzer: rule files of cidr, regexp and pcre, and text tables, then a lookup in what was read. */
#include "log.h"
#include "mem.h"
#include "table_rules.h"

#include <stdlib.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void swallow(const char *line, void *arg)
{
}

static void ask(const char *type, const char *rules, const char *key)
{
    char *spec = mem_printf(NULL, "%s:{%s}", type, rules);
    struct table *t;
    struct error *e = table_open(spec, NULL, &t);
    char *value = NULL;

    error_free(&e);
    if (t != NULL)
        table_find(t, spec, bytes_of(key), &value);
    talloc_free(spec);
    table_close_all();
}

/* glibc's regcomp copies a subexpression for each of these: nested, they take all memory. The patterns are
 * the administrator's, so that is not ours to catch. */
static bool repeats_much(const uint8_t *data, size_t size)
{
    size_t n = 0;

    for (size_t i = 0; i < size; i++)
        n += data[i] != '\0' && strchr("+*?{", data[i]) != NULL;
    return n > 5;
}

static void read_file(const char *path, bool with_regexp)
{
    static const char *const types[] = {"texthash", "cidr", "pcre", "regexp"};

    for (size_t i = 0; i < (with_regexp ? 4 : 3); i++) {
        char *spec = mem_printf(NULL, "%s:%s", types[i], path);
        struct table *t;
        struct error *e = table_open(spec, NULL, &t);
        char *value = NULL;

        error_free(&e);
        if (t != NULL) {
            table_find(t, spec, BYTES("192.0.2.1"), &value);
            table_find(t, spec, BYTES("user+ext@example.com"), &value);
        }
        talloc_free(spec);
        table_close_all();
    }
}

/* The input is a file; when it begins with '{' it is inline text as well. Long patterns only cost time. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char path[] = "/tmp/table-fuzz-XXXXXX";
    static FILE *file;
    char *text;

    if (size > 600)
        return 0;
    if (file == NULL) {
        int fd = mkstemp(path);

        log_capture(swallow, NULL);
        if (fd < 0 || (file = fdopen(fd, "w")) == NULL)
            abort();
    }
    rewind(file);
    if (fwrite(data, 1, size, file) != size || fflush(file) != 0 || ftruncate(fileno(file), (off_t)size) != 0)
        abort();
    read_file(path, !repeats_much(data, size));
    text = bytes_dup(NULL, bytes((const char *)data, size));
    if (text[0] == '{') {
        ask("pcre", text, "user@example.com");
        ask("cidr", text, "2001:db8::1");
        ask("inline", text, "key");
    }
    talloc_free(text);
    return 0;
}
