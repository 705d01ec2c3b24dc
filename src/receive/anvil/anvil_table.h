/* The shared memory behind the hook: one entry a client and service. */
#ifndef ANVIL_ANVIL_TABLE_H
#define ANVIL_ANVIL_TABLE_H

#include <stdbool.h>
#include <stdint.h>

enum { ANVIL_CLIENTS = 16384, ANVIL_HOLDERS = 16 };

struct anvil_key {
    uint64_t service;
    unsigned char addr[16];
};

enum anvil_event { ANVIL_CONNECTION, ANVIL_MESSAGE, ANVIL_RECIPIENT, ANVIL_EVENTS };

struct anvil_counts {
    unsigned connections;        /* at once */
    unsigned rate[ANVIL_EVENTS]; /* in the present time unit */
};

struct anvil_table;

/* Anonymous shared memory; ends the process when there is none. */
struct anvil_table *anvil_table_new(void);
/* One more event; for ANVIL_CONNECTION also one more connection, held by the worker. False: no room for the
 * client. */
bool anvil_table_count(struct anvil_table *t, const struct anvil_key *key, unsigned worker,
                       enum anvil_event event, uint64_t unit_ms, struct anvil_counts *counts_r);
/* A connection has ended. */
void anvil_table_leave(struct anvil_table *t, const struct anvil_key *key, unsigned worker);
/* Forgets the connections that a worker of this id left behind. */
void anvil_table_forget(struct anvil_table *t, unsigned worker);

#endif
