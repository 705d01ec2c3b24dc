/*
 * Who is next: the complete messages of a pool. Pure; the caller holds the lock.
 *
 * In a class, the least latest start goes first (a heap). Among classes turns are weighted by share: a turn
 * costs its class the message's work divided by its share in virtual time, and who has spent least is next; a
 * class that has waited for nothing joins at the present time, so unused turns go to the others and are not
 * saved up. A message whose latest start is at hand goes before any turn.
 */
#ifndef ADMISSION_ADMISSION_ORDER_H
#define ADMISSION_ADMISSION_ORDER_H

#include "admission_layout.h"

void admission_order_add(struct admission_shared *s, struct admission_pool *p, uint32_t message);
void admission_order_remove(struct admission_shared *s, struct admission_pool *p, uint32_t message);
/* The next in turn, taken out; NOBODY when nobody waits. */
uint32_t admission_order_next(struct admission_shared *s, struct admission_pool *p, uint64_t now);
uint32_t admission_order_waiting(const struct admission_pool *p);

#endif
