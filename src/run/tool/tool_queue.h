/* Between tool_queue.c (what is asked) and tool_queue_print.c (what it looks like). */
#ifndef RUN_TOOL_TOOL_QUEUE_H
#define RUN_TOOL_TOOL_QUEUE_H

#include "queue_file.h"

/* One message as it is listed. */
struct tool_message {
    enum queue_place place;
    char id[MAIL_ID_SIZE];
    struct queue_envelope *envelope;
    struct queue_reason *reasons;
    size_t reason_count;
};

/* mailq's table: header before the first, then each, then a summary. */
void tool_print_header(void);
void tool_print_message(const struct tool_message *m);
void tool_print_summary(size_t messages, uint64_t bytes);
/* A line with the fields of `postqueue -j`. */
void tool_print_json(const struct tool_message *m);
/* `queue show`: envelope, then the content byte for byte. NULL or why the content cannot be read. */
struct error *tool_print_whole(const struct tool_message *m, int fd);

#endif
