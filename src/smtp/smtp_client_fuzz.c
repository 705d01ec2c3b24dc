/* Replies of a hostile server: bounded, masked, and never a code out of range. */
#include "clock.h"
#include "mem.h"
#include "smtp.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct input {
    struct bytes text;
};

static void talk(void *arg)
{
    struct input *in = arg;
    size_t step = in->text.n ? (unsigned char)in->text.p[0] : 0;
    struct smtp_client *c = smtp_client_new(NULL, io_memory_new(NULL, in->text, step), "fuzz");
    enum io_end end = smtp_client_greeting(c, clock_ms() + 5000);

    if (end == IO_OK)
        end = smtp_client_ehlo(c, "me", clock_ms() + 5000);
    while (end == IO_OK) {
        if (c->reply.code != 0 && (c->reply.code < 200 || c->reply.code > 599))
            abort();
        for (const char *p = c->reply.text; *p; p++)
            if (*p != '\n' && !ascii_is_print((unsigned char)*p))
                abort();
        end = smtp_client_read_reply(c, clock_ms() + 5000);
    }
    smtp_client_close(&c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static bool started;
    struct input in = {bytes((const char *)data, size)};

    if (!started)
        co_init(1);
    started = true;
    co_spawn(talk, &in, "fuzz");
    co_run();
    return 0;
}
