/*
 * Which endpoint gets a message, and what becomes of one that fails. Pure: entries and a clock in, a decision
 * out; the caller holds the lock.
 *
 * The one with the least work in hand is chosen: bytes, and for each message as much again as a small one
 * has, since a filter's time is never bytes alone. An endpoint that came back gets little at first
 * (slow start). One that failed is ejected: first for a short time, then each time for twice as long. When
 * all are, the one whose last failure is longest ago is tried all the same.
 */
#ifndef PROXY_PROXY_CHOICE_H
#define PROXY_PROXY_CHOICE_H

#include "proxy_shared.h"

struct proxy_rules {
    unsigned concurrency;           /* most messages of one endpoint at once; 0: no limit */
    uint64_t ejection_ms;           /* of the first failure */
    uint64_t ejection_limit_ms;     /* of the latest */
    uint64_t slow_start_ms;         /* 0: its full share at once */
    uint64_t connect_ms, answer_ms; /* for the connection, and for its greeting */
};

struct proxy_wish {
    uint64_t bytes;
    const struct proxy_entry *avoid; /* it just failed this very message; NULL: none */
    bool is_patient; /* the message can wait: an ejected endpoint is tried now and then, not by each */
};

enum { PROXY_TRIAL_STEP_MS = 50 }; /* between two tries of an ejected endpoint by patient messages */

#define PROXY_NO_CHOICE SIZE_MAX

/* An index into at[n], or PROXY_NO_CHOICE. */
size_t proxy_choose(const struct proxy_rules *rules, struct proxy_entry *const at[], size_t n,
                    const struct proxy_wish *wish, uint64_t now);

/* Its time is over and it may be asked whether it is back; nobody is asking. */
bool proxy_wants_probe(const struct proxy_entry *e, uint64_t now);

/* It refused, was silent, or said that it is closing. True: it is ejected now, and was not before. */
bool proxy_entry_failed(struct proxy_entry *e, const struct proxy_rules *rules, uint64_t now);
/* Nobody could ask it; somebody may, when a first ejection would be over. */
void proxy_entry_not_asked(struct proxy_entry *e, const struct proxy_rules *rules, uint64_t now);
/* It has greeted. True: it was ejected. */
bool proxy_entry_greeted(struct proxy_entry *e, uint64_t now);

enum proxy_state {
    PROXY_UP,
    PROXY_STARTING, /* came back, and has not its full share yet */
    PROXY_EJECTED,
};
enum proxy_state proxy_entry_state(const struct proxy_entry *e, uint64_t slow_start_ms, uint64_t now);

#endif
