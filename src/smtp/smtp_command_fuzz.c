/* MAIL and RCPT over arbitrary bytes, with every extension announced and with none. */
#include "mem.h"
#include "smtp.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try_rules(struct smtp_line *line, unsigned features, bool strict)
{
    void *ctx = talloc_new(NULL);
    struct smtp_parse_rules rules = {.features = features, .strict = strict, .size_limit = 1000000};
    struct mail_envelope env = {0};
    struct mail_rcpt rcpt = {0};
    struct mail_reply why = {0};

    if (!smtp_parse_mail(ctx, line, &rules, &env, &why) && (why.code < 400 || why.text == NULL))
        abort();
    mail_reply_deinit(&why);
    if (!smtp_parse_rcpt(ctx, line, &rules, true, &rcpt, &why) && (why.code < 400 || why.text == NULL))
        abort();
    mail_reply_deinit(&why);
    talloc_free(ctx);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct smtp_line line = smtp_line_parse(bytes((const char *)data, size));

    try_rules(&line, ~0u, false);
    try_rules(&line, 0, true);
    return 0;
}
