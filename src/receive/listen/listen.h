/*
 * The accept loop of a worker: first stop of a message's way. Takes connections from listening descriptors,
 * tells who the client is, and runs one coroutine for each session.
 *
 * The number of sessions is limited twice: by the service's places, which all its workers share (struct
 * listen_limit), and by descriptors: when few are left, a worker stops accepting until a session ends, so
 * that those under way can still open files and connections. Clients then wait in the kernel's queue; at most
 * one a listener waits in ours, accepted but not greeted.
 */
#ifndef RECEIVE_LISTEN_LISTEN_H
#define RECEIVE_LISTEN_LISTEN_H

#include "co.h"
#include "io.h"
#include "mail.h"

/* The service's places. Members get `arg`. */
struct listen_limit {
    bool (*try_take)(void *arg);
    void (*give)(void *arg);
    co_fn enum co_end (*wait)(void *arg, uint64_t deadline); /* until try_take may succeed */
    void (*reached)(void *arg);                              /* a client has to wait */
    void *arg;
};

/* The workers of one service, which accept from the same listeners, in order: the first take the connections
 * as long as they have time. Members get `arg`. */
struct listen_order {
    bool (*is_spare)(void *arg);          /* a worker before this one takes connections and has time */
    void (*takes)(void *arg, bool takes); /* this one does, or has stopped; at each connection */
    void *arg;
};

struct listen_conf {
    const char *name; /* of the sessions' coroutines: "smtpd" gives "smtpd 192.0.2.1:4711" */
    const int *fds;   /* listening, non-blocking; listen closes them when it drains */
    size_t fd_count;
    struct listen_limit limit;
    struct listen_order order;
    bool lookup_names; /* smtpd_peername_lookup */
    /* The session; stream and client are owned by ctx, which dies when it returns. */
    co_fn void (*session)(void *arg, void *ctx, struct io_stream *stream, struct mail_client *client);
    void *arg;
};

struct listen;

/* Starts accepting. Borrows the texts and `arg` of *conf. */
struct listen *listen_start(const void *ctx, const struct listen_conf *conf);
/* Takes no new connection; sessions go on. Idempotent. */
void listen_drain(struct listen *l);
/* Drains, and cancels every session: each ends as soon as what must not be cut short is done. */
void listen_stop(struct listen *l);
/* Waits until no session is left (CO_OK). After listen_drain() only. */
co_fn enum co_end listen_wait(struct listen *l, uint64_t deadline);

size_t listen_sessions(const struct listen *l);
/* Since when there is no session (clock_ms()); 0: there is one. */
uint64_t listen_idle_since(const struct listen *l);

/* ---- who is it: name, reverse name, addresses (listen_peer.c) ---- */

struct listen_peers;
struct listen_peers *listen_peers_new(const void *ctx, bool lookup_names);
/*
 * Fills the client's address, port and names, which live as long as ctx. A name counts as verified only when
 * it leads back to the address; else it is "unknown". What was found is remembered for 60 s, for at most
 * LISTEN_PEERS addresses.
 */
co_fn void listen_peers_name(struct listen_peers *p, void *ctx, const struct io_address *peer,
                             const struct io_address *server, struct mail_client *client_r);
/* A host name that may be shown and compared: letters, digits, '-', '_' in labels, not an address. */
bool listen_name_is_valid(const char *name);

enum { LISTEN_PEERS = 10000, LISTEN_PEER_LIFE_MS = 60000, LISTEN_LOOKUP_MS = 15000 };

/* ---- the memory behind it, for the test ---- */

struct listen_peer {
    const char *name, *reverse_name;
    bool name_is_temp, reverse_is_temp;
};
/* NULL: not known, or too old. Borrowed until the next put. */
const struct listen_peer *listen_peers_get(struct listen_peers *p, const char *addr);
/* Copies. */
void listen_peers_put(struct listen_peers *p, const char *addr, const struct listen_peer *found);
size_t listen_peers_count(const struct listen_peers *p);

#endif
