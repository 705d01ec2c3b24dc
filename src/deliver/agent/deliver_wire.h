/* For this folder: requests and answers as attribute blocks. A request is one block, then one block a
 * recipient when it carries reasons; an answer is one block, then one block a recipient. */
#ifndef DELIVER_AGENT_DELIVER_WIRE_H
#define DELIVER_AGENT_DELIVER_WIRE_H

#include "deliver_agent.h"
#include "io_attr.h"

/* What the first block of an answer says. */
enum deliver_answer {
    DELIVER_ANSWER_OK,
    DELIVER_ANSWER_GONE, /* no such file */
    DELIVER_ANSWER_BUSY, /* locked by another */
    DELIVER_ANSWER_CORRUPT,
    DELIVER_ANSWER_TROUBLE,
};

struct deliver_wire_request {
    enum queue_place place;
    char id[MAIL_ID_SIZE];
    const char *transport, *nexthop;
    uint64_t active_us;
    bool soft_bounce, has_reasons;
    uint64_t *offsets;
    size_t n; /* 1..DELIVER_RCPT_LIMIT */
};

void deliver_wire_put_request(struct buf *out, const struct deliver_request *request, enum queue_place place);
/* False: not a request of ours. Texts owned by ctx. */
bool deliver_wire_get_request(const void *ctx, const struct io_attrs *attrs,
                              struct deliver_wire_request *out_r);
void deliver_wire_put_answer(struct buf *out, enum deliver_answer answer, const char *text);
bool deliver_wire_get_answer(const struct io_attrs *attrs, enum deliver_answer *answer_r,
                             const char **text_r);
void deliver_wire_put_result(struct buf *out, uint64_t offset, const struct deliver_result *result);
bool deliver_wire_get_result(const void *ctx, const struct io_attrs *attrs, uint64_t *offset_r,
                             struct deliver_result *result_r);

#endif
