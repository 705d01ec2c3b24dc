/*
 * Messages under way: their places in memory, and the lists they stand in. Pure; the caller holds the lock.
 */
#ifndef ADMISSION_ADMISSION_MESSAGE_H
#define ADMISSION_ADMISSION_MESSAGE_H

#include "admission_layout.h"

/* A free place, or that of the longest stale one, with a new generation; NOBODY when there is neither. */
uint32_t admission_message_new(struct admission_shared *s);
void admission_message_free(struct admission_shared *s, uint32_t at);
/* The one that a ticket speaks of, as long as it is that one; else NOBODY. */
uint32_t admission_message_find(const struct admission_shared *s, const struct admission_ticket *t);

void admission_list_init(struct admission_list *l);
void admission_list_append(struct admission_shared *s, struct admission_list *l, uint32_t at);
void admission_list_remove(struct admission_shared *s, struct admission_list *l, uint32_t at);

/* Puts a message into its worker's mailbox; true: the worker is not under notice yet and must be told. */
bool admission_mailbox_put(struct admission_shared *s, uint32_t at);
/* Takes one out, any (NOBODY: empty) or a certain one that may be in it. */
uint32_t admission_mailbox_take(struct admission_shared *s, unsigned worker);
void admission_mailbox_remove(struct admission_shared *s, uint32_t at);

#endif
