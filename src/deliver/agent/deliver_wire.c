/* Requests and answers between scheduler and agents as attribute blocks. See deliver_wire.h. */
#include "deliver_wire.h"

#include "mem.h"

#include <inttypes.h>

static const char *const status_names[] = {"sent", "deferred", "bounced"};
static const char *const answer_names[] = {"ok", "gone", "busy", "corrupt", "trouble"};

enum { STATUS_COUNT = 3, ANSWER_COUNT = 5 };

static bool name_index(const char *name, const char *const *names, int n, int *index_r)
{
    int i;

    for (i = 0; name != NULL && i < n; i++) {
        if (strcmp(name, names[i]) == 0) {
            *index_r = i;
            return true;
        }
    }
    return false;
}

static bool get_number(const struct io_attrs *attrs, const char *name, uint64_t *out_r)
{
    const char *value = io_attr_get(attrs, name);

    return value != NULL && bytes_to_u64(bytes_of(value), INT64_MAX, out_r);
}

static bool get_flag(const struct io_attrs *attrs, const char *name)
{
    const char *value = io_attr_get(attrs, name);

    return value != NULL && strcmp(value, "yes") == 0;
}

void deliver_wire_put_request(struct buf *out, const struct deliver_request *request, enum queue_place place)
{
    struct buf list = {0};
    size_t i;

    for (i = 0; i < request->rcpt_count; i++)
        buf_addf(&list, "%s%" PRIu64, i == 0 ? "" : " ", request->rcpts[i]->offset);
    io_attr_add(out, "place", queue_place_name(place));
    io_attr_add(out, "id", request->envelope->id);
    io_attr_add(out, "transport", request->transport);
    io_attr_add(out, "nexthop", request->nexthop);
    io_attr_addf(out, "active", "%" PRIu64, request->active_us);
    io_attr_add(out, "soft_bounce", request->soft_bounce ? "yes" : "no");
    io_attr_add(out, "reasons", request->reasons != NULL ? "yes" : "no");
    io_attr_add(out, "recipients", buf_text(&list));
    io_attr_end(out);
    for (i = 0; request->reasons != NULL && i < request->rcpt_count; i++)
        deliver_wire_put_result(out, request->rcpts[i]->offset, &request->reasons[i]);
    buf_deinit(&list);
}

static bool get_offsets(const void *ctx, const char *list, struct deliver_wire_request *out_r)
{
    struct bytes rest = bytes_of(list), word;

    out_r->offsets = mem_array(ctx, uint64_t, DELIVER_RCPT_LIMIT);
    out_r->n = 0;
    while ((word = bytes_word(&rest, " ")).n > 0) {
        if (out_r->n == DELIVER_RCPT_LIMIT || !bytes_to_u64(word, INT64_MAX, &out_r->offsets[out_r->n]))
            return false;
        out_r->n++;
    }
    return out_r->n > 0;
}

static bool get_place(const char *name, enum queue_place *place_r)
{
    int place;

    for (place = 0; name != NULL && place < QUEUE_PLACES; place++) {
        if (strcmp(name, queue_place_name((enum queue_place)place)) == 0) {
            *place_r = (enum queue_place)place;
            return true;
        }
    }
    return false;
}

bool deliver_wire_get_request(const void *ctx, const struct io_attrs *attrs,
                              struct deliver_wire_request *out_r)
{
    const char *id = io_attr_get(attrs, "id");
    const char *list = io_attr_get(attrs, "recipients");

    memset(out_r, 0, sizeof(*out_r));
    out_r->transport = io_attr_get(attrs, "transport");
    out_r->nexthop = io_attr_get(attrs, "nexthop");
    if (id == NULL || list == NULL || out_r->transport == NULL || out_r->nexthop == NULL ||
        strlen(id) >= sizeof(out_r->id) || !mail_id_is_valid(bytes_of(id)) ||
        !get_place(io_attr_get(attrs, "place"), &out_r->place) ||
        !get_number(attrs, "active", &out_r->active_us))
        return false;
    strcpy(out_r->id, id);
    out_r->transport = mem_strdup(ctx, out_r->transport);
    out_r->nexthop = mem_strdup(ctx, out_r->nexthop);
    out_r->soft_bounce = get_flag(attrs, "soft_bounce");
    out_r->has_reasons = get_flag(attrs, "reasons");
    return get_offsets(ctx, list, out_r);
}

void deliver_wire_put_answer(struct buf *out, enum deliver_answer answer, const char *text)
{
    io_attr_add(out, "answer", answer_names[answer]);
    io_attr_add(out, "text", text);
    io_attr_end(out);
}

bool deliver_wire_get_answer(const struct io_attrs *attrs, enum deliver_answer *answer_r, const char **text_r)
{
    int answer;

    *text_r = io_attr_get(attrs, "text");
    if (*text_r == NULL || !name_index(io_attr_get(attrs, "answer"), answer_names, ANSWER_COUNT, &answer))
        return false;
    *answer_r = (enum deliver_answer)answer;
    return true;
}

void deliver_wire_put_result(struct buf *out, uint64_t offset, const struct deliver_result *result)
{
    io_attr_addf(out, "recipient", "%" PRIu64, offset);
    io_attr_add(out, "status", status_names[result->status]);
    io_attr_add(out, "dsn", result->dsn);
    io_attr_addf(out, "text", "%.*s", (int)DELIVER_TEXT_LIMIT, result->text != NULL ? result->text : "");
    io_attr_addf(out, "relay", "%.*s", (int)DELIVER_TEXT_LIMIT,
                 result->relay != NULL ? result->relay : "none");
    if (result->remote != NULL)
        io_attr_add(out, "remote", result->remote);
    if (result->is_site)
        io_attr_add(out, "site", "yes");
    io_attr_end(out);
}

bool deliver_wire_get_result(const void *ctx, const struct io_attrs *attrs, uint64_t *offset_r,
                             struct deliver_result *result_r)
{
    const char *dsn = io_attr_get(attrs, "dsn"), *text = io_attr_get(attrs, "text");
    const char *relay = io_attr_get(attrs, "relay"), *remote = io_attr_get(attrs, "remote");
    int status;

    memset(result_r, 0, sizeof(*result_r));
    if (dsn == NULL || text == NULL || relay == NULL || strlen(dsn) >= sizeof(result_r->dsn) ||
        !get_number(attrs, "recipient", offset_r) ||
        !name_index(io_attr_get(attrs, "status"), status_names, STATUS_COUNT, &status))
        return false;
    result_r->status = (enum deliver_status)status;
    strcpy(result_r->dsn, dsn);
    result_r->text = mem_strdup(ctx, text);
    result_r->relay = mem_strdup(ctx, relay);
    result_r->remote = remote != NULL ? mem_strdup(ctx, remote) : NULL;
    result_r->is_site = get_flag(attrs, "site");
    return true;
}
