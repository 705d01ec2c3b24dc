/*
 * What a message is doing, and the sums over it: each counted where a state is entered and where it is left;
 * slots that become free; what a class is told by its room. Pure; the caller holds the lock.
 */
#ifndef ADMISSION_ADMISSION_STATE_H
#define ADMISSION_ADMISSION_STATE_H

#include "admission_core.h"
#include "admission_room.h"

struct admission_pool *admission_state_pool(struct admission_shared *s, const struct admission_message *m);
struct admission_class_numbers *admission_state_numbers(struct admission_shared *s,
                                                        const struct admission_message *m);

/* Into a state; the message is in none. */
void admission_state_come(struct admission_shared *s, uint32_t at, uint64_t now);
void admission_state_wait(struct admission_shared *s, uint32_t at);
void admission_state_run(struct admission_shared *s, uint32_t at, uint64_t now);
/* Out of the state it is in. */
void admission_state_leave(struct admission_shared *s, uint32_t at, uint64_t now);

/* The filter has answered a message, or lost it, and it had taken so long. */
void admission_state_learn(struct admission_shared *s, const struct admission_message *m,
                           enum admission_outcome outcome, uint32_t service_ms, uint64_t bytes, uint64_t now);
/* Calls those in line for whom there is room, moves the class on its ladder, and says what room there is. */
void admission_state_look(struct admission_shared *s, unsigned pool, unsigned class, uint64_t now,
                          struct admission_room *room_r, struct admission_news *news);
/* So much work of the class goes by cheap or hold. */
void admission_state_go_elsewhere(struct admission_pool *p, unsigned class, uint32_t work_ms);
/* One more in a histogram. */
void admission_state_count(uint64_t histogram[ADMISSION_BUCKETS], uint64_t ms);

#endif
