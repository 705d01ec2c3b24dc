/* Inside receive/admission: one pool in one worker. */
#ifndef ADMISSION_ADMISSION_OWN_H
#define ADMISSION_ADMISSION_OWN_H

#include "admission_shared.h"

struct table_list;

struct admission {
    unsigned pool, worker;
    uint64_t hash; /* of the filter's name */
    unsigned prefix4, prefix6;
    struct table_list *mynetworks;
};

/* After the lock was given back: wakes who has got a slot, here and in other workers, and logs what changed.
 */
void admission_pass_on(const struct admission *a, const struct admission_news *news);
/* A class stands on another step than full: this worker looks from now on whether it may come down. */
void admission_be_uneasy(const struct admission *a);
/* The message ends; `end` tells how its waiting ended. */
void admission_end(struct admission *a, struct admission_ticket *ticket, enum admission_end end);

#endif
