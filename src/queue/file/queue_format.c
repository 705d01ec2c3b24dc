/*
 * The format of queue files: text of ours only, but read as if it were hostile, because a disk can return
 * anything and an operator can put any file there. Pure: no system calls. See queue_private.h.
 */
#include "queue_private.h"

#include "format.h"
#include "mem.h"

#include <stdlib.h>

/* Everything of the header before the checksum, which is 16 hexadecimal digits and a newline. */
enum {
    SUMMED_SIZE = QUEUE_HEADER_SIZE - 17,
    NUMBER_DIGITS = 15,
    NUMBERS = 5,
    LEAST_RCPT = sizeof("R a\t0\t\t\n") - 1
};
#define MAGIC "SALLYQ1 "
_Static_assert(sizeof(MAGIC) - 1 + NUMBERS * NUMBER_DIGITS == SUMMED_SIZE, "the numbers fill the header");

static const uint64_t SUM_START = 0xcbf29ce484222325, SUM_PRIME = 0x100000001b3; /* FNV-1a, 64 bits */

static uint64_t sum_of(uint64_t sum, struct bytes text)
{
    for (size_t i = 0; i < text.n; i++)
        sum = (sum ^ (unsigned char)text.p[i]) * SUM_PRIME;
    return sum;
}

/* Against decay and confusion, not against malice: who can write here needs no forgery. */
static uint64_t envelope_sum(struct bytes header, struct bytes envelope)
{
    uint64_t sum = sum_of(SUM_START, bytes(header.p, SUMMED_SIZE));

    while (envelope.n > 0) {
        struct bytes line = bytes_cut(&envelope, '\n');

        if (line.n > 0 && line.p[0] == QUEUE_RCPT_DONE) {
            sum = sum_of(sum, BYTES("R"));
            line = bytes_skip(line, 1);
        }
        sum = sum_of(sum_of(sum, line), BYTES("\n"));
    }
    return sum;
}

/* ---- writing ---- */

static bool is_plain(unsigned char c)
{
    return c >= 32 && c != 127 && c != '%';
}

void queue_escape(struct buf *out, const char *text)
{
    while (*text != '\0') {
        size_t n = 0;

        while (is_plain((unsigned char)text[n]))
            n++;
        buf_add(out, bytes(text, n));
        text += n;
        if (*text != '\0')
            buf_addf(out, "%%%02X", (unsigned char)*text++);
    }
}

static void put(struct buf *out, char key, const char *text)
{
    if (text == NULL)
        return;
    buf_addc(out, key);
    buf_addc(out, ' ');
    queue_escape(out, text);
    buf_addc(out, '\n');
}

/* STATE addr TAB notify TAB orcpt TAB orig; what is not given is empty. */
static void put_rcpt(struct buf *out, const struct queue_rcpt *rcpt)
{
    buf_addc(out, (char)rcpt->state);
    buf_addc(out, ' ');
    queue_escape(out, rcpt->addr);
    buf_addf(out, "\t%u\t", rcpt->notify);
    queue_escape(out, rcpt->orcpt ? rcpt->orcpt : "");
    buf_addc(out, '\t');
    queue_escape(out, rcpt->orig ? rcpt->orig : "");
    buf_addc(out, '\n');
}

const char *queue_format_envelope(struct buf *out, const struct queue_envelope *env)
{
    size_t start = out->n;

    put(out, 'I', env->id);
    buf_addf(out, "T %llu\n", (unsigned long long)env->arrived_us);
    put(out, 'S', env->sender);
    put(out, 'V', env->envid);
    buf_addf(out, "O %d %d %d\n", (int)env->ret, env->smtputf8, env->is_8bit);
    put(out, 'F', env->filter);
    put(out, 'U', env->is_unscanned ? "" : NULL);
    put(out, 'n', env->log_client_name);
    put(out, 'a', env->log_client_addr);
    put(out, 'p', env->log_client_port);
    put(out, 'h', env->log_helo);
    put(out, 'o', env->log_proto);
    put(out, 'i', env->log_ident);
    for (size_t i = 0; i < env->rcpt_count; i++) {
        const struct queue_rcpt *rcpt = &env->rcpts[i];

        if (rcpt->addr == NULL || rcpt->addr[0] == '\0')
            return "empty recipient";
        if (rcpt->state != QUEUE_RCPT_TODO && rcpt->state != QUEUE_RCPT_DONE)
            return "recipient without state";
        put_rcpt(out, rcpt);
        if (out->n - start > QUEUE_ENVELOPE_LIMIT)
            return "envelope too large";
    }
    return env->rcpt_count == 0 ? "no recipients" : NULL;
}

void queue_format_header(char out[QUEUE_HEADER_SIZE], const struct queue_layout *layout,
                         struct bytes envelope)
{
    char text[QUEUE_HEADER_SIZE + 64];

    format_print(text, sizeof(text), MAGIC "%015llu%015llu%015llu%015llu%015llu",
                 (unsigned long long)layout->envelope_offset, (unsigned long long)layout->envelope_size,
                 (unsigned long long)layout->content_offset, (unsigned long long)layout->content_size,
                 (unsigned long long)layout->rcpt_count);
    format_print(text + SUMMED_SIZE, sizeof(text) - SUMMED_SIZE, "%016llx\n",
                 (unsigned long long)envelope_sum(bytes(text, SUMMED_SIZE), envelope));
    memcpy(out, text, QUEUE_HEADER_SIZE);
}

/* ---- reading ---- */

/* The two orders that are written, without gaps; numbers have 15 digits, so sums cannot overflow. */
static bool is_consistent(const struct queue_layout *l, uint64_t file_size)
{
    uint64_t end;

    if (l->envelope_size == 0 || l->envelope_size > QUEUE_ENVELOPE_LIMIT || l->rcpt_count == 0 ||
        l->rcpt_count > l->envelope_size / LEAST_RCPT)
        return false;
    if (l->envelope_offset == QUEUE_HEADER_SIZE) {
        if (l->content_offset != QUEUE_HEADER_SIZE + l->envelope_size)
            return false;
        end = l->content_offset + l->content_size;
    } else {
        if (l->content_offset != QUEUE_HEADER_SIZE ||
            l->envelope_offset != QUEUE_HEADER_SIZE + l->content_size)
            return false;
        end = l->envelope_offset + l->envelope_size;
    }
    return file_size == end + QUEUE_END_SIZE;
}

const char *queue_parse_header(struct bytes header, uint64_t file_size, struct queue_layout *layout_r)
{
    uint64_t numbers[NUMBERS];
    struct bytes rest = bytes_skip(header, sizeof(MAGIC) - 1);

    if (header.n != QUEUE_HEADER_SIZE || !bytes_has_prefix(header, BYTES(MAGIC)) ||
        header.p[QUEUE_HEADER_SIZE - 1] != '\n')
        return "not a queue file";
    for (size_t i = 0; i < NUMBERS; i++, rest = bytes_skip(rest, NUMBER_DIGITS))
        if (!bytes_to_u64(bytes(rest.p, NUMBER_DIGITS), UINT64_MAX, &numbers[i]))
            return "malformed header";
    *layout_r = (struct queue_layout){numbers[0], numbers[1], numbers[2], numbers[3], numbers[4]};
    if (!is_consistent(layout_r, file_size))
        return "header and file size disagree";
    return NULL;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

bool queue_unescape(char *text)
{
    char *out = text;

    for (; *text != '\0'; text++) {
        int high, low;

        if (*text != '%') {
            if (!is_plain((unsigned char)*text))
                return false;
            *out++ = *text;
            continue;
        }
        high = hex_digit(text[1]);
        low = high < 0 ? -1 : hex_digit(text[2]);
        if (low < 0 || high * 16 + low == 0)
            return false;
        *out++ = (char)(high * 16 + low);
        text += 2;
    }
    *out = '\0';
    return true;
}

/* The text up to the separator, made a C string in place; NULL when there is none or its escapes are
 * malformed. */
static char *take_field(char **rest, char separator)
{
    char *field = *rest, *end = strchr(field, separator);

    if (end == NULL)
        return NULL;
    *end = '\0';
    *rest = end + 1;
    return queue_unescape(field) ? field : NULL;
}

static const char *parse_rcpt(char *value, struct queue_rcpt *rcpt)
{
    const char *notify;
    uint64_t bits;

    rcpt->addr = take_field(&value, '\t');
    notify = rcpt->addr ? take_field(&value, '\t') : NULL;
    rcpt->orcpt = notify ? take_field(&value, '\t') : NULL;
    rcpt->orig = value;
    if (rcpt->orcpt == NULL || !queue_unescape(value) || rcpt->addr[0] == '\0' ||
        !bytes_to_u64(bytes_of(notify), 15, &bits))
        return "malformed recipient";
    rcpt->notify = (unsigned)bits;
    if (rcpt->orcpt[0] == '\0')
        rcpt->orcpt = NULL;
    if (rcpt->orig[0] == '\0')
        rcpt->orig = NULL;
    return NULL;
}

static bool parse_options(struct queue_envelope *env, struct bytes value)
{
    uint64_t ret, utf8, is_8bit;

    if (!bytes_to_u64(bytes_cut(&value, ' '), MAIL_RET_HDRS, &ret) ||
        !bytes_to_u64(bytes_cut(&value, ' '), 1, &utf8) || !bytes_to_u64(value, 1, &is_8bit))
        return false;
    env->ret = (enum mail_ret)ret;
    env->smtputf8 = utf8;
    env->is_8bit = is_8bit;
    return true;
}

static const char **text_member(struct queue_envelope *env, char key)
{
    switch (key) {
    case 'S':
        return &env->sender;
    case 'V':
        return &env->envid;
    case 'F':
        return &env->filter;
    case 'n':
        return &env->log_client_name;
    case 'a':
        return &env->log_client_addr;
    case 'p':
        return &env->log_client_port;
    case 'h':
        return &env->log_helo;
    case 'o':
        return &env->log_proto;
    case 'i':
        return &env->log_ident;
    default:
        return NULL;
    }
}

static const char *parse_record(struct queue_envelope *env, char key, char *value)
{
    const char **member = text_member(env, key);

    if (member != NULL) {
        if (*member != NULL || !queue_unescape(value))
            return "malformed envelope";
        *member = value;
        return NULL;
    }
    if (key == 'I' && mail_id_is_valid(bytes_of(value))) {
        format_print(env->id, sizeof(env->id), "%s", value);
        return NULL;
    }
    if (key == 'T' && bytes_to_u64(bytes_of(value), UINT64_MAX, &env->arrived_us))
        return NULL;
    if (key == 'U' && *value == '\0') {
        env->is_unscanned = true;
        return NULL;
    }
    if (key == 'O' && parse_options(env, bytes_of(value)))
        return NULL;
    return "malformed envelope";
}

const char *queue_parse_envelope(struct queue_envelope *env, const struct queue_layout *layout,
                                 struct bytes header, char *text)
{
    struct bytes whole = bytes(text, layout->envelope_size), rest = whole;
    const char *why = NULL;
    char sum[18];

    format_print(sum, sizeof(sum), "%016llx\n", (unsigned long long)envelope_sum(header, whole));
    if (memcmp(header.p + SUMMED_SIZE, sum, 17) != 0 || text[whole.n - 1] != '\n' ||
        bytes_chr(whole, '\0') != SIZE_MAX)
        return "envelope damaged";
    env->rcpts = mem_array(env, struct queue_rcpt, layout->rcpt_count);
    env->content_offset = layout->content_offset;
    env->content_size = layout->content_size;
    while (rest.n > 0 && why == NULL) {
        struct bytes line = bytes_cut(&rest, '\n');
        char *p = text + (line.p - whole.p);

        if (line.n < 2 || p[1] != ' ')
            return "malformed envelope";
        p[line.n] = '\0';
        if (p[0] == QUEUE_RCPT_TODO || p[0] == QUEUE_RCPT_DONE) {
            struct queue_rcpt *rcpt = &env->rcpts[env->rcpt_count];

            if (env->rcpt_count++ == layout->rcpt_count)
                return "too many recipients";
            rcpt->state = p[0];
            rcpt->offset = layout->envelope_offset + (uint64_t)(line.p - whole.p);
            why = parse_rcpt(p + 2, rcpt);
        } else {
            why = parse_record(env, p[0], p + 2);
        }
    }
    if (why == NULL && (env->rcpt_count != layout->rcpt_count || env->sender == NULL || env->id[0] == '\0'))
        why = "incomplete envelope";
    return why;
}
