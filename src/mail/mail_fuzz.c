/* Addresses and headers over arbitrary bytes: what is accepted must survive its own round trip. */
#include "mail_address.h"
#include "mail_header.h"
#include "mem.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void count(void *arg, struct bytes field, bool is_whole)
{
    *(size_t *)arg += field.n;
}

static void address(struct bytes in)
{
    void *ctx = talloc_new(NULL);
    char *internal, *again, *external;
    struct bytes rest;

    if (mail_address_parse_path(ctx, in, true, false, &internal, &rest) && internal[0] != '\0' &&
        strlen(internal) == talloc_get_size(internal) - 1) {
        external = mail_address_external(ctx, internal);
        if (!mail_address_parse_path(ctx, bytes_of(external), true, false, &again, &rest) || rest.n != 0 ||
            strcmp(internal, again) != 0)
            abort();
    }
    talloc_free(ctx);
}

/* Every byte is handed out once, however the input is cut. */
static void header(struct bytes in, size_t cut)
{
    size_t seen = 0;
    struct mail_header_walk w = {.field = count, .arg = &seen, .limit = 200};
    struct bytes held, body = bytes(NULL, 0);
    size_t end_line = 0;

    if (cut > in.n)
        cut = in.n;
    body = mail_header_walk(&w, bytes(in.p, cut), &held);
    seen += body.n + held.n;
    if (w.is_done) {
        seen += in.n - cut;
    } else {
        body = mail_header_walk(&w, bytes_skip(in, cut), &held);
        seen += body.n + held.n;
    }
    mail_header_walk_end(&w);
    if (w.has_end)
        end_line = w.held.n;
    mail_header_walk_deinit(&w);
    if (seen + end_line != in.n)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes in = bytes((const char *)data, size);

    if (size == 0)
        return 0;
    address(in);
    header(bytes_skip(in, 1), data[0]);
    mail_address_is_hostname(in);
    return 0;
}
