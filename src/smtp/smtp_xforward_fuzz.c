/* XFORWARD: what is taken survives being told again, and fits its lines. */
#include "mem.h"
#include "smtp.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    void *ctx = talloc_new(NULL);
    struct bytes in = bytes((const char *)data, size), rest;
    struct mail_forward f = {0}, again = {0};
    struct mail_reply why = {0};
    struct buf out = {0};

    if (smtp_xforward_parse(ctx, in, &f, &why)) {
        smtp_xforward_format(&out, &f, 0xff);
        rest = buf_bytes(&out);
        while (rest.n > 0) {
            struct bytes line = bytes_trim(bytes_cut(&rest, '\n'));

            if (line.n > 1100 || !smtp_xforward_parse(ctx, bytes_skip(line, 9), &again, &why))
                abort();
        }
        if ((f.helo == NULL) != (again.helo == NULL) ||
            (f.helo && strncmp(f.helo, again.helo, strlen(again.helo)) != 0))
            abort();
        if (mail_forward_retry(&f) != mail_forward_retry(&again))
            abort();
    }
    mail_reply_deinit(&why);
    smtp_xforward_parse_names(in);
    buf_deinit(&out);
    talloc_free(ctx);
    return 0;
}
