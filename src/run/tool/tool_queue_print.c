/*
 * What `sallyport queue` prints. See tool_queue.h.
 *
 * Addresses and reasons came from strangers: control characters never reach the terminal, and what is no
 * UTF-8 never reaches JSON.
 */
#include "tool_queue.h"

#include "mem.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static const char *sender_of(const struct tool_message *m)
{
    return m->envelope->sender[0] ? m->envelope->sender : "MAILER-DAEMON";
}

static const char *reason_of(const struct tool_message *m, const char *rcpt)
{
    for (size_t i = 0; i < m->reason_count; i++)
        if (strcmp(m->reasons[i].rcpt, rcpt) == 0)
            return m->reasons[i].text;
    return NULL;
}

static bool is_open(const struct queue_rcpt *r)
{
    return r->state == QUEUE_RCPT_TODO;
}

/* ---- table ---- */

static void print_clean(const char *text)
{
    for (; *text; text++)
        putchar((unsigned char)*text < 32 || *text == 127 ? '?' : *text);
}

void tool_print_header(void)
{
    printf("%-17s %8s %-19s %s\n", "-Queue ID-", "--Size--", "---Arrival Time----",
           "--Sender/Recipient------");
}

void tool_print_message(const struct tool_message *m)
{
    time_t arrived = (time_t)(m->envelope->arrived_us / 1000000);
    char mark = m->place == QUEUE_ACTIVE ? '*'
                : m->place == QUEUE_HOLD ? '!'
                                         : ' ',
         when[32], id[MAIL_ID_SIZE + 1];

    strftime(when, sizeof(when), "%a %b %e %H:%M:%S", localtime(&arrived));
    snprintf(id, sizeof(id), "%s%c", m->id, mark);
    printf("%-17s %8llu %-19s  ", id, (unsigned long long)m->envelope->content_size, when);
    print_clean(sender_of(m));
    putchar('\n');
    for (size_t i = 0; i < m->envelope->rcpt_count; i++) {
        const struct queue_rcpt *r = &m->envelope->rcpts[i];
        const char *reason = reason_of(m, r->addr);

        if (!is_open(r))
            continue;
        if (reason != NULL) {
            printf("%8s(", "");
            print_clean(reason);
            puts(")");
        }
        printf("%47s ", "");
        print_clean(r->addr);
        putchar('\n');
    }
    putchar('\n');
}

void tool_print_summary(size_t messages, uint64_t size)
{
    if (messages == 0)
        puts("Mail queue is empty");
    else
        printf("-- %llu Kbytes in %zu Request%s.\n", (unsigned long long)((size + 1023) / 1024), messages,
               messages == 1 ? "" : "s");
}

/* ---- JSON ---- */

/* Bytes that are no UTF-8 show as '?'. */
static json_t *text_of(const char *text)
{
    json_t *whole = json_string(text);
    char *ascii;

    if (whole != NULL)
        return whole;
    ascii = mem_strdup(NULL, text);
    for (char *p = ascii; *p; p++)
        if ((unsigned char)*p >= 128)
            *p = '?';
    whole = json_string(ascii);
    talloc_free(ascii);
    return whole;
}

static json_t *recipients_of(const struct tool_message *m)
{
    json_t *list = json_array();

    for (size_t i = 0; i < m->envelope->rcpt_count; i++) {
        const struct queue_rcpt *r = &m->envelope->rcpts[i];
        const char *reason = reason_of(m, r->addr);
        json_t *one;

        if (!is_open(r))
            continue;
        one = json_pack("{s:o}", "address", text_of(r->addr));
        if (reason != NULL)
            json_object_set_new(one, "delay_reason", text_of(reason));
        json_array_append_new(list, one);
    }
    return list;
}

void tool_print_json(const struct tool_message *m)
{
    json_t *line =
        json_pack("{s:s, s:s, s:I, s:I, s:b, s:o, s:o}", "queue_name", queue_place_name(m->place), "queue_id",
                  m->id, "arrival_time", (json_int_t)(m->envelope->arrived_us / 1000000), "message_size",
                  (json_int_t)m->envelope->content_size, "forced_expire", 0, "sender", text_of(sender_of(m)),
                  "recipients", recipients_of(m));

    json_dumpf(line, stdout, 0);
    putchar('\n');
    json_decref(line);
}

/* ---- show ---- */

static void print_field(const char *name, const char *value)
{
    if (value == NULL)
        return;
    printf("%s: ", name);
    print_clean(value);
    putchar('\n');
}

static void print_envelope(const struct tool_message *m)
{
    const struct queue_envelope *e = m->envelope;
    time_t arrived = (time_t)(e->arrived_us / 1000000);
    char when[64];

    strftime(when, sizeof(when), "%a, %d %b %Y %H:%M:%S %z", localtime(&arrived));
    printf("*** ENVELOPE %s/%s ***\n", queue_place_name(m->place), m->id);
    print_field("arrival_time", when);
    print_field("sender", e->sender);
    print_field("envelope_id", e->envid);
    print_field("filter", e->filter);
    print_field("client_name", e->log_client_name);
    print_field("client_address", e->log_client_addr);
    print_field("helo_name", e->log_helo);
    print_field("protocol_name", e->log_proto);
    for (size_t i = 0; i < e->rcpt_count; i++) {
        print_field("original_recipient", e->rcpts[i].orig);
        print_field(is_open(&e->rcpts[i]) ? "recipient" : "done_recipient", e->rcpts[i].addr);
    }
    printf("*** MESSAGE CONTENTS %s/%s ***\n", queue_place_name(m->place), m->id);
}

struct error *tool_print_whole(const struct tool_message *m, int fd)
{
    uint64_t at = m->envelope->content_offset, end = at + m->envelope->content_size;
    char piece[8192];

    print_envelope(m);
    while (at < end) {
        size_t want = end - at < sizeof(piece) ? (size_t)(end - at) : sizeof(piece);
        ssize_t n = pread(fd, piece, want, (off_t)at);

        if (n <= 0)
            return error_errno(n < 0 ? errno : EIO, "read %s", m->id);
        fwrite(piece, 1, (size_t)n, stdout);
        at += (uint64_t)n;
    }
    return NULL;
}
