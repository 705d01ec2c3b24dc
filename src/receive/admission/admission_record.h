/*
 * What is remembered of clients: how many messages of theirs passed the filter and how many did not, fading
 * by half-lives; over restarts too. Bounded: who has nothing on record, is in no line and has no message
 * under way makes room first, then who was seen longest ago. Pure; the caller holds the lock.
 */
#ifndef ADMISSION_ADMISSION_RECORD_H
#define ADMISSION_ADMISSION_RECORD_H

#include "admission_layout.h"

/* NOBODY: not on record. */
uint32_t admission_record_find(const struct admission_shared *s, const struct admission_key *key);
/* Found, or made; NOBODY when there is no room. real_s: seconds of the time of day. */
uint32_t admission_record_need(struct admission_shared *s, const struct admission_key *key, uint32_t real_s);
/* One more message of the client had this outcome. */
void admission_record_count(struct admission_record *r, const struct admission_settings *set,
                            enum admission_outcome outcome, uint32_t real_s);
/* Known for long enough, enough messages passed, and few were rejected. */
bool admission_record_is_good(struct admission_record *r, const struct admission_settings *set,
                              uint32_t real_s);
/* Puts a record that was read from a file into the table; false: it is not one, or there is no room. */
bool admission_record_restore(struct admission_shared *s, const struct admission_record *from,
                              uint32_t real_s);
/* Makes the chains anew from the records. */
void admission_record_rechain(struct admission_shared *s);

#endif
