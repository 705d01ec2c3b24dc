/*
 * How much a class may have before it, how much it has, and what that means for a message. Pure.
 *
 * Room is work (milliseconds of one slot) that the class's guaranteed share of the slots gets done within its
 * patience, less an average scan, a margin for what predictions are usually off, and the time for which a
 * filter that is asked has given no sign of life. What other classes leave unused makes the wait shorter than
 * that, never the room larger: so whoever was let in is answered in time even when all classes come at once.
 * A share too small for that may have two rounds of the slots, as far as all the work together stays within
 * patience.
 *
 * What a message says of its size changes no room: a large one starts earlier for it (admission_order.h), and
 * what is only claimed so far counts as a part of the room at most. So a large message fits where the queue
 * is at its level, and sizes that are made up keep nobody out.
 */
#ifndef ADMISSION_ADMISSION_ROOM_H
#define ADMISSION_ADMISSION_ROOM_H

#include "admission_layout.h"

struct admission_room {
    double mean;       /* work of a message of average size */
    double ahead;      /* complete and coming of the class */
    double room, all;  /* of the class; of the pool with this patience */
    double all_ahead;  /* of the pool, in the filter too */
    double level, low; /* `ahead` that is aimed at; below which the filter may run dry */
    double slots;      /* that the class has at present, its share of the active ones' */
    uint32_t wait_ms;  /* predicted */
    bool is_idle;      /* a slot would be free at once */
};

void admission_room_look(const struct admission_pool *p, unsigned class, uint64_t now,
                         struct admission_room *out_r);
/* What a message counts that claims this size (0: none) and is not here yet. */
uint32_t admission_room_work(const struct admission_pool *p, const struct admission_room *r, uint64_t bytes);
/* One more message of this work stays within the room. */
bool admission_room_fits(const struct admission_room *r, uint32_t work_ms);
/* Percent: the room taken by what is ahead, by clients that would come, and by what went elsewhere and would
 * be ahead too. */
uint32_t admission_room_pressure(const struct admission_room *r, double clients, double elsewhere_ms);

#endif
