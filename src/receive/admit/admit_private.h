/* Inside receive/admit. */
#ifndef ADMIT_ADMIT_PRIVATE_H
#define ADMIT_ADMIT_PRIVATE_H

#include "admission.h"
#include "admit.h"
#include "verdict.h"

struct admit {
    struct mail_hook hook;
    struct proxy_gate gate;
    struct admission *admission; /* NULL: no slots to give */
    struct admit *cheap;         /* or NULL */
    bool has_hold;               /* MAIL_BY_QUEUE is open */
    struct verdict *verdict;     /* or NULL */
};

extern const struct mail_hook_ops admit_hook_ops;
extern const struct proxy_gate_ops admit_gate_ops;

/* One message at the gate; memory of the transaction. */
struct passage {
    struct admit *admit;
    struct proxy_passage *outer;
    struct admission_ticket *ticket; /* NULL without admission */
    uint64_t entered_ms;
    bool is_watching; /* the client's presence */
    bool came_late;   /* its client had closed its side already: a free slot or none */
    struct mail_receipt *receipt;

    /* ---- admit_memory.c ---- */
    struct verdict_copy *copy; /* in hand; NULL: the memory is off, or knows the message */
    struct verdict_key key;
    bool has_key;
    bool is_abandoned;       /* told to the memory: the client has left while the filter works */
    bool is_abandoning;      /* a coroutine computes the key for that */
    struct co *leaver;       /* waits for it */
    struct io_spool *reader; /* for it, where the filter's reading would be in its way; else NULL */
};

/* Content begins to come. Does not wait. */
void admit_memory_begin(struct passage *p);
/* By the key, or the content: whether it is answered from memory, or by a scan that is under way without its
 * client. True: *reply_r is the answer. */
co_fn bool admit_memory_recall(struct passage *p, struct mail_reply *reply_r);
/* The same for a message that is to be filtered. False: *reply_r is the answer. */
co_fn bool admit_memory_enter(struct passage *p, struct mail_reply *reply_r);
/* The client has left while the filter works: copies that come now wait. From the loop; does not wait. */
void admit_memory_left(struct passage *p);
/* The filter has spoken: kept unless the client hears it. */
co_fn void admit_memory_leave(struct passage *p, const struct mail_reply *reply, bool is_verdict);

#endif
