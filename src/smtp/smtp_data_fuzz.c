/*
 * The DATA and BDAT codec. Whatever comes in, and wherever it is cut: content has only CR LF line ends; what
 * is encoded decodes to the same content; and the end of data occurs on the wire once, at its end.
 */
#include "clock.h"
#include "mem.h"
#include "smtp.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool good)
{
    if (!good)
        abort();
}

static void check_content(struct bytes content)
{
    for (size_t i = 0; i < content.n; i++) {
        if (content.p[i] == '\n')
            check(i > 0 && content.p[i - 1] == '\r');
        if (content.p[i] == '\r')
            check(i + 1 < content.n && content.p[i + 1] == '\n');
    }
}

static bool decode(struct bytes in, size_t cut, struct buf *out)
{
    struct smtp_data_decoder d = {0};
    size_t used;

    if (cut > in.n)
        cut = in.n;
    used = smtp_data_decode(&d, bytes(in.p, cut), out);
    if (!d.is_end) {
        check(used == cut);
        smtp_data_decode(&d, bytes_skip(in, cut), out);
    }
    return d.is_end;
}

static void check_round(struct bytes content, size_t cut, bool is_clean)
{
    struct smtp_data_encoder e = {0};
    struct io_stream *s = io_memory_new(NULL, bytes("", 0), 0);
    struct buf again = {0};
    struct bytes wire;

    if (cut > content.n)
        cut = content.n;
    smtp_data_encode(&e, s, bytes(content.p, cut), UINT64_MAX);
    smtp_data_encode(&e, s, bytes_skip(content, cut), UINT64_MAX);
    smtp_data_encode_end(&e, s, UINT64_MAX);
    io_flush(s, UINT64_MAX);
    wire = io_memory_written(s);
    check(wire.n >= 3 && memcmp(wire.p + wire.n - 3, ".\r\n", 3) == 0);
    check(wire.n == 3 || bytes_find(bytes(wire.p, wire.n - 1), BYTES("\r\n.\r\n")) == SIZE_MAX);
    check(decode(wire, cut, &again));
    check_content(buf_bytes(&again));
    if (is_clean)
        check(bytes_eq(buf_bytes(&again), content));
    buf_deinit(&again);
    io_stream_close(&s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static bool started;
    struct bytes in = bytes((const char *)data, size);
    struct buf whole = {0}, halves = {0}, chunk = {0};
    struct smtp_data_decoder d = {0};
    size_t cut = size ? data[0] : 0;

    if (!started)
        co_init(1);
    started = true;
    check(decode(in, size, &whole) == decode(in, cut, &halves));
    check(bytes_eq(buf_bytes(&whole), buf_bytes(&halves)));
    if (whole.n > 0 && whole.p[whole.n - 1] == '\n') {
        check_content(buf_bytes(&whole));
        check_round(buf_bytes(&whole), cut, true);
    }
    check_round(in, cut, false); /* not what the contract promises: still nothing is smuggled */
    smtp_bdat_decode(&d, in, true, &chunk);
    check_content(buf_bytes(&chunk));
    buf_deinit(&whole);
    buf_deinit(&halves);
    buf_deinit(&chunk);
    return 0;
}
