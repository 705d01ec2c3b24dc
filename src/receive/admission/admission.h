/*
 * Who may have a filter slot, and who is told at MAIL that there will be none in time.
 *
 * One place of the host decides: a memory that all forked workers map (no further process), guarded by a
 * robust mutex that is held for microseconds. A filter (the value of smtpd_proxy_filter) is a pool of slots;
 * a complete message takes one, the filter scans, the slot is given back. Who waits is served by weighted
 * turns among the classes (smtpd_proxy_*_share) and by remaining patience within a class, except that a
 * message that would otherwise be late goes first.
 *
 * At MAIL a message is judged: what is ahead of it, what other clients were let in and still send, and the
 * predicted time of its own scan must fit into the patience of its class (smtpd_proxy_*_patience) at the
 * class's guaranteed share of the slots. Else it is refused before its body crosses the wire. A client that
 * comes back and is refused again stands in line from then on: when there is room those who have stood
 * longest are called, and a called client finds a place whenever it comes back; others are let in only as far
 * as no called client needs the room, or when the filter would run dry.
 *
 * A message's way, in the session's coroutine (a ticket is zeroed memory that lives as long as the
 * transaction; release is harmless at any point and is called on every way out):
 *
 *     connection     admission_know(a, client, is_authenticated, &who)
 *     MAIL           answer = admission_judge(a, &who, size, &ticket)      see struct admission_answer
 *     end of data    end = admission_take(a, &ticket, bytes, deadline)
 *                    ADMISSION_GRANTED: connect, hand over, hear the verdict (until ticket.deadline), then
 *                    admission_give(a, &ticket, outcome, ms, bytes)
 *                    otherwise: ADMISSION_LATE, _FULL_UP: 451 4.3.2, or what ticket.step says; _LEFT: nobody
 *                    hears a reply
 *     client left    admission_leave(&ticket), from the coroutine that saw it: take returns ADMISSION_LEFT
 *     any end        admission_release(a, &ticket)
 *
 * A message that ends without verdict of the filter (release, LATE, LOST, TEMPFAIL) leaves its client the
 * place in line that it had. Nothing here waits except admission_know (a lookup) and admission_take.
 */
#ifndef ADMISSION_ADMISSION_H
#define ADMISSION_ADMISSION_H

#include "co.h"
#include "conf.h"
#include "error.h"
#include "mail.h"

enum admission_class {
    ADMISSION_OWN,  /* $mynetworks */
    ADMISSION_AUTH, /* authenticated */
    ADMISSION_GOOD, /* of good record: smtpd_proxy_good_client_* */
    ADMISSION_STRANGER,
    ADMISSION_CLASSES,
};
const char *admission_class_name(enum admission_class class); /* "own", "auth", "good", "stranger" */

/* What becomes of a message of a class for which the filter has no time: the class's present step on its
 * ladder (smtpd_proxy_*_steps). Whatever the step, a message that fits is filtered in full. As long as a
 * class stands on another step than full a worker looks twice a second whether it may come down. */
enum admission_step {
    ADMISSION_FULL,  /* single messages are turned away: to the next step if it serves them, else 451 */
    ADMISSION_CHEAP, /* another filter */
    ADMISSION_HOLD,  /* accepted, held, filtered after the queue */
    ADMISSION_451,
    ADMISSION_421, /* and the connection is closed */
    ADMISSION_STEPS,
};
const char *admission_step_name(enum admission_step step); /* "full", "cheap", "hold", "451", "421" */

enum admission_outcome {
    ADMISSION_OK,       /* the filter let it pass: counts for the client's record */
    ADMISSION_REJECT,   /* 5xx: counts against it */
    ADMISSION_TEMPFAIL, /* 4xx */
    ADMISSION_LOST,     /* no verdict: connection lost, timeout, nothing was sent */
    ADMISSION_OUTCOMES,
};

enum admission_end {
    ADMISSION_GRANTED,
    ADMISSION_LATE,      /* no slot in time for an answer by ticket.deadline */
    ADMISSION_LEFT,      /* admission_leave(), or no slot was free and the deadline had passed at the call */
    ADMISSION_CANCELLED, /* co_cancel() */
    ADMISSION_FULL_UP,   /* ADMISSION_MESSAGES wait already */
};

enum {
    ADMISSION_WORKERS = 255,                 /* ids of workers are below; this one itself is a trial */
    ADMISSION_MESSAGES = 16384,              /* most on their way at once: let in, waiting, in the filter */
    ADMISSION_POOLS = 2 * CONF_SLOT_FILTERS, /* after a reload old workers still have theirs */
    ADMISSION_BUCKETS = 22, /* of a histogram: [i] counts below 2^i ms, the last all that is longer */
    ADMISSION_NAME = 128,   /* a longer one ends with a hash */
};

/* Maps the shared memory, before the first fork. DIR/admission (mode 0640, of DIR's group) gets what it
 * holds: numbers soon after they change, records of clients once a minute and when the last worker has ended.
 * The records are taken over from the file that is there, if it is whole; it is replaced, never changed under
 * an older master's workers. Without a file (logged) neither outlives the memory. Again: nothing. */
void admission_prepare(const char *data_directory);
/* A worker of this id has ended or died: its slots are free, its messages are gone, the next in turn are
 * told. For master, at once. */
void admission_forget(unsigned worker);

/* The filter's pool in one worker, for all its sessions; owned by ctx. *a_r is NULL when there is nothing to
 * decide (smtpd_proxy_concurrency_limit = 0), and in a trial (worker == ADMISSION_WORKERS), which checks the
 * values and touches nothing shared. Services with the same filter share its pool; the last opened sets its
 * parameters. After co_init(). */
struct admission;
struct error *admission_open(const void *ctx, const struct conf *conf, const char *filter, unsigned worker,
                             struct admission **a_r);

/* Who a client is, as far as a session can know; by value, no need to free. */
struct admission_key {
    uint64_t pool;
    unsigned char addr[16]; /* masked: smtpd_client_ipv4_prefix_length, _ipv6_ */
};
struct admission_client {
    struct admission_key key;
    bool is_own, is_authenticated;
};
co_fn void admission_know(const struct admission *a, const struct mail_client *client, bool is_authenticated,
                          struct admission_client *who_r);

struct admission_wait;
struct admission_ticket {
    struct admission_client client;
    uint32_t place, generation; /* place 0: nothing is held */
    enum admission_class class;
    enum admission_step step; /* of the class, when last looked at */
    uint32_t patience_ms;     /* of the class, from judge on; 0: not known yet */
    uint64_t deadline;        /* from take on: when the client must have its reply (clock_ms) */
    struct admission_wait *wait;
};

struct admission_answer {
    bool is_admitted; /* the ticket holds a place; else `step` says what to do: FULL and 451 "451 4.3.2", 421
                         the same and close, CHEAP judge it for the cheap filter, HOLD take it without filter
                       */
    enum admission_step step; /* of the class; of the message, when it is not let in */
    enum admission_class class;
    uint32_t wait_ms; /* predicted, from end of data to the slot */
};
/* bytes: SIZE= of MAIL, 0: not given. */
struct admission_answer admission_judge(struct admission *a, const struct admission_client *who,
                                        uint64_t bytes, struct admission_ticket *ticket);

/* The message is complete. Waits for its slot, at most until an answer by min(deadline, now + patience) would
 * be late. Needs no place from judge: one whose body took too long has lost its place, not its message. */
co_fn enum admission_end admission_take(struct admission *a, struct admission_ticket *ticket, uint64_t bytes,
                                        uint64_t deadline);
void admission_leave(struct admission_ticket *ticket);
/* service_ms: what the filter needed, without our waiting for it. */
void admission_give(struct admission *a, struct admission_ticket *ticket, enum admission_outcome outcome,
                    uint32_t service_ms, uint64_t bytes);
void admission_release(struct admission *a, struct admission_ticket *ticket);

/* ---- numbers ---- */

struct admission_class_numbers {
    uint32_t waiting, coming, running; /* complete; let in and still being sent; in the filter */
    uint32_t in_line, called;          /* refused clients that are expected back; of them, who may come */
    uint32_t step;                     /* enum admission_step */
    uint32_t pressure;                 /* percent of what the class may have before it, clients in line too */
    uint32_t predicted_ms, waited_ms;  /* present prediction; average of what was waited */
    uint64_t admitted, preferred;      /* preferred: of them, who had been refused before and was called */
    uint64_t turned[ADMISSION_STEPS];  /* not let in: by the step that said what becomes of them */
    uint64_t granted, late, left, full_up, step_changes;
    uint64_t waits[ADMISSION_BUCKETS]; /* histogram of what was waited */
    uint64_t waits_ms;                 /* and its sum */
};
struct admission_pool_numbers {
    char name[ADMISSION_NAME]; /* "": unused */
    uint32_t used, limit, most;
    uint32_t service_ms; /* predicted, for a message of average size */
    uint64_t outcomes[ADMISSION_OUTCOMES];
    uint64_t service[ADMISSION_BUCKETS]; /* histogram of service times */
    uint64_t service_sum_ms;
    struct admission_class_numbers classes[ADMISSION_CLASSES];
};
struct admission_snapshot {
    uint64_t since_us;         /* time of day when the counters began */
    uint32_t clients, repairs; /* clients on record; how often a dead worker's unfinished change was mended */
    struct admission_pool_numbers pools[ADMISSION_POOLS];
};
/* Reads DIR/admission without disturbing anybody: each number is true, all together nearly of one moment, not
 * long ago. */
struct error *admission_snapshot(const char *data_directory, struct admission_snapshot *out_r);

#endif
