/* The shared memory behind the sink: one entry a message. */
#ifndef COPIES_COPIES_TABLE_H
#define COPIES_COPIES_TABLE_H

#include "mail.h"

/* Some 13 MB when all are used: 500 messages a second for four minutes, or ten times as many for half one. */
enum { COPIES_ENTRIES = 1 << 17 };

struct copies_table;
struct copies_entry;

/* Which message. */
struct copies_key {
    char ident[MAIL_ID_SIZE];
    uint64_t parties; /* a hash of sender and recipients */
};

/* A transaction's place in the table. */
struct copies_place {
    struct copies_key key;
    unsigned retry;             /* 0: no copy */
    struct copies_entry *entry; /* NULL: it has none, and nobody will know of it */
};

/* What a transaction whose data has ended is to do. */
enum copies_turn {
    COPIES_GO,       /* it is to be queued; copies_table_close() tells how that ended */
    COPIES_QUEUED,   /* an earlier one is, under this id; it has no place any more */
    COPIES_REPLACED, /* a later one has come: not to be queued */
    COPIES_WAIT,     /* an earlier one is being queued: ask again */
    COPIES_ORPHAN,   /* the same, but its worker is dead: copies_table_decide(), then ask again */
};

/* Anonymous shared memory; ends the process when there is none. */
struct copies_table *copies_table_new(void);

/* A transaction whose data begins, by this worker and under this id; `place` has key and retry. */
void copies_table_open(struct copies_table *t, struct copies_place *place, unsigned worker, const char *id);
/* Its data has ended. id_r: of COPIES_QUEUED and COPIES_ORPHAN. */
enum copies_turn copies_table_turn(struct copies_table *t, struct copies_place *place,
                                   char id_r[MAIL_ID_SIZE]);
/* What became of the orphan of this id. */
void copies_table_decide(struct copies_table *t, const struct copies_key *key, const char *id, bool is_queued,
                         uint64_t keep_ms);
/* The transaction is over: queued, and known for keep_ms, or not. Without a place: nothing. */
void copies_table_close(struct copies_table *t, struct copies_place *place, bool is_queued, uint64_t keep_ms);

/* The worker is dead: what it was receiving is gone, what it was queueing are orphans. */
void copies_table_forget(struct copies_table *t, unsigned worker);

#endif
