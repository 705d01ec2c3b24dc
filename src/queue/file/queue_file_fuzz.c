/*
 * Any bytes as a queue file: read or refused, never more. Half of the inputs are given a header that fits
 * them, checksum included, so that the envelope's parser is reached.
 */
#include "mem.h"
#include "queue_private.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try(struct bytes file)
{
    int fd = memfd_create("queue", MFD_CLOEXEC);
    struct queue_envelope *env = NULL;
    struct error *e;
    struct buf again = {0};

    if (fd < 0 || write(fd, file.p, file.n) != (ssize_t)file.n)
        abort();
    e = queue_message_read(NULL, fd, &env);
    if (e == NULL) {
        for (size_t i = 0; i < env->rcpt_count; i++) {
            struct error *mark = queue_message_mark(fd, &env->rcpts[i], QUEUE_RCPT_DONE);

            if (mark != NULL)
                abort();
        }
        if (queue_format_envelope(&again, env) != NULL) /* what is read can be written */
            abort();
    }
    buf_deinit(&again);
    error_free(&e);
    talloc_free(env);
    close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes input = bytes((const char *)data, size);
    struct queue_layout layout = {.envelope_offset = QUEUE_HEADER_SIZE};
    struct buf file = {0};
    char header[QUEUE_HEADER_SIZE];

    if (size < 2)
        return 0;
    if (input.p[0] & 1) {
        try(bytes_skip(input, 1));
        return 0;
    }
    input = bytes_skip(input, 1);
    layout.envelope_size = input.n;
    layout.content_offset = QUEUE_HEADER_SIZE + input.n;
    for (struct bytes rest = input; rest.n > 0;) {
        struct bytes line = bytes_cut(&rest, '\n');

        layout.rcpt_count += line.n > 1 && (line.p[0] == 'R' || line.p[0] == 'D') && line.p[1] == ' ';
    }
    queue_format_header(header, &layout, input);
    buf_add(&file, bytes(header, sizeof(header)));
    buf_add(&file, input);
    buf_adds(&file, QUEUE_END);
    try(buf_bytes(&file));
    buf_deinit(&file);
    return 0;
}
