/* The scheduler's side of a delivery: asks an agent and reads its answer. See deliver_agent.h. */
#include "deliver_wire.h"
#include "mem.h"

#include <errno.h>

static struct error *agent_trouble(int code, const char *what)
{
    struct error *e = error_new(ERROR_TEMP, "%s", what);

    e->code = code;
    return e;
}

static struct error *broken(enum io_end end)
{
    struct error *e = error_new(ERROR_TEMP, "the delivery agent did not answer: %s", io_end_text(end));

    e->code = end == IO_CANCELLED ? ECANCELED : 0;
    return e;
}

static struct error *send_request(struct io_stream *s, const struct deliver_request *request,
                                  enum queue_place place, uint64_t deadline)
{
    struct buf out = {0};
    enum io_end end;

    deliver_wire_put_request(&out, request, place);
    end = io_write(s, buf_bytes(&out), deadline);
    if (end == IO_OK)
        end = io_flush(s, deadline);
    buf_deinit(&out);
    return end == IO_OK ? NULL : broken(end);
}

static struct error *read_answer(const void *ctx, struct io_stream *s, uint64_t deadline)
{
    static const int codes[] = {0, ENOENT, EWOULDBLOCK, EBADMSG, EIO};
    struct io_attrs attrs;
    enum deliver_answer answer;
    const char *text;
    enum io_end end = io_attr_read(ctx, s, deadline, &attrs);

    if (end != IO_OK)
        return broken(end);
    if (!deliver_wire_get_answer(&attrs, &answer, &text))
        return agent_trouble(0, "the delivery agent's answer is malformed");
    return answer == DELIVER_ANSWER_OK ? NULL : agent_trouble(codes[answer], text);
}

struct error *deliver_ask(const void *ctx, struct io_stream *s, const struct deliver_request *request,
                          enum queue_place place, uint64_t deadline, struct deliver_result *results)
{
    struct io_attrs attrs;
    struct error *e = send_request(s, request, place, deadline);
    enum io_end end;
    uint64_t offset;
    size_t i;

    if (e == NULL)
        e = read_answer(ctx, s, deadline);
    for (i = 0; e == NULL && i < request->rcpt_count; i++) {
        end = io_attr_read(ctx, s, deadline, &attrs);
        if (end != IO_OK)
            e = broken(end);
        else if (!deliver_wire_get_result(ctx, &attrs, &offset, &results[i]) ||
                 offset != request->rcpts[i]->offset)
            e = agent_trouble(0, "the delivery agent's answer is malformed");
    }
    return e;
}
