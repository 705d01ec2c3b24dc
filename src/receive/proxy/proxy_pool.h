/*
 * The endpoints of one filter parameter in one worker: what they are called, where they are, and who gets
 * the next message.
 *
 * A target is one address. Addresses and unix sockets that the configuration names are targets from the
 * start; a DNS name becomes a target for each of its addresses, when it is known, and is looked up again in
 * the background. A target that is gone from the name gets no new message; it is freed when the last that it
 * has is answered. Load and health are the host's (proxy_shared.h), connections that wait for the next
 * message are the worker's.
 */
#ifndef PROXY_PROXY_POOL_H
#define PROXY_PROXY_POOL_H

#include "io_spool.h"
#include "proxy.h"
#include "proxy_choice.h"
#include "smtp.h"

enum { PROXY_TARGETS = 64 };

/* What an EHLO answer said: the same bytes say the same again. */
struct proxy_memo {
    char *text; /* NULL: none yet */
    unsigned features, xforward, changes;
    uint64_t size_limit;
    bool ignores_chunks; /* asked for one (proxy_chunk.c) it said nothing */
};

struct proxy_name;
struct proxy_target {
    struct io_address address;
    char *text; /* for the log: as it is written, with the address when there are several */
    struct proxy_entry *entry;
    const struct proxy_name *name; /* NULL: no DNS name */
    unsigned users;                /* messages of this worker */
    bool is_gone;
    struct proxy_memo memo;
    struct proxy_kept *kept; /* idle connections, the latest first */
};

/* A DNS name. */
struct proxy_name {
    struct io_endpoint endpoint;
    bool is_known;
    char *trouble; /* of the last look-up; NULL: none */
    struct proxy_resolver *resolver;
};

/* io_resolve(), or a test's. */
typedef co_fn struct error *proxy_resolve(const void *ctx, const char *host, const char *service, int family,
                                          uint64_t deadline, struct io_address **found_r, size_t *n_r);

struct proxy {
    char *ehlo, *ehlo_command;
    struct proxy_gate *gate; /* or NULL */
    uint64_t timeout_ms;     /* each command with its reply, each piece of content */
    bool is_whole;
    bool opens_at_mail; /* a streamed message's MAIL is answered before a recipient is known */
    bool pipelines;     /* smtpd_proxy_pipelining; only with a server that announces PIPELINING */
    bool chunks;        /* smtpd_proxy_chunking; only with one that announces CHUNKING, too */
    struct io_spool_conf spool;
    struct proxy_rules rules;
    uint64_t retry_ms; /* after the end of data */
    unsigned retry_limit;
    bool retries_after_dot;
    bool reuses;
    unsigned reuse_limit;
    uint64_t idle_ms;
    uint64_t resolve_ms, health_ms; /* health_ms 0: no checks */

    proxy_resolve *resolve;
    struct proxy_name *names;
    size_t name_count;
    struct proxy_target *targets[PROXY_TARGETS];
    struct proxy_entry *entries[PROXY_TARGETS]; /* theirs, in the same order */
    size_t target_count;
    struct proxy_keeper *keeper;
};

/* Takes the endpoints of a parameter: separated by commas or blanks. */
struct error *proxy_pool_open(struct proxy *p, const char *endpoints, const char *base_dir);
/* These are the addresses of the name now. */
void proxy_pool_set(struct proxy *p, const struct proxy_name *name, const struct io_address *at, size_t n);

/* What a message asks for. */
struct proxy_need {
    uint64_t bytes;
    uint64_t deadline;
    bool is_patient; /* waits for an endpoint; else one that is ejected is tried at once */
    bool has_tried;
    const struct proxy_entry *avoid; /* not this one before avoid_until; NULL: any */
    uint64_t avoid_until;
};
/* An endpoint for the message, when there is room and hope; the message counts as its work from now on.
 * NULL: the deadline passed, or no name is known. */
co_fn struct proxy_target *proxy_pool_take(struct proxy *p, const struct proxy_need *need);

enum proxy_outcome { PROXY_ANSWERED, PROXY_FAILED, PROXY_UNUSED };
struct proxy_work {
    uint64_t bytes; /* as in the need */
    uint64_t ms;    /* how long it took */
    enum proxy_outcome outcome;
    bool is_reused; /* over a kept connection */
};
/* The message is out of its hands. */
void proxy_pool_give(struct proxy *p, struct proxy_target *t, const struct proxy_work *done);
/* Another one than this is up. */
bool proxy_pool_has_other(const struct proxy *p, const struct proxy_target *t);
/* A name's first look-up is under way. */
bool proxy_pool_is_pending(const struct proxy *p);
/* Why no endpoint is known; "" when some are. */
const char *proxy_pool_trouble(const struct proxy *p);

/* An endpoint's health changed, seen by a message or a probe. text: for the log. */
void proxy_note_failed(struct proxy_entry *e, const struct proxy_rules *rules, const char *text);
void proxy_note_greeted(struct proxy_entry *e, const char *text);
/* A probe ended without having asked it. */
void proxy_note_not_asked(struct proxy_entry *e, const struct proxy_rules *rules);
/* Those that wait for an endpoint look again. */
void proxy_pool_wake_all(void);

/* ---- proxy_probe.c ---- */

/* Asks, in the background, whether it greets: connect, greeting, QUIT. Until trial_until, which the caller
 * has set, nobody else does. */
void proxy_probe_start(const struct proxy *p, const struct proxy_target *t);
/* How long one may take. */
uint64_t proxy_probe_ms(const struct proxy_rules *rules);

/* ---- proxy_names.c ---- */

/* Every name is looked up, and again every resolve_ms. */
void proxy_names_start(struct proxy *p);
void proxy_names_stop(struct proxy *p);

/* ---- proxy_keeper.c: health checks, and the end of idle connections ---- */

/* Something is due at this time. Starts the keeper if need be; it ends when nothing is due any more. */
void proxy_keeper_need(struct proxy *p, uint64_t at);
/* The pool is being freed. */
void proxy_keeper_stop(struct proxy *p);

/* ---- proxy_kept.c: connections that wait for another message ---- */

/* What a connection has shown of BDAT (proxy_chunk.c). */
enum proxy_chunks { PROXY_CHUNKS_UNASKED, PROXY_CHUNKS_TAKEN, PROXY_CHUNKS_UNKNOWN };

struct proxy_kept {
    struct proxy_kept *next;
    struct smtp_client *server;
    uint64_t until; /* when it has been idle for too long */
    unsigned used;  /* messages that it has had */
    bool is_dirty;  /* RSET must come first */
    enum proxy_chunks chunks;
};
/* The latest one that still looks alive; NULL: none. The caller's, who takes its server and frees it. */
struct proxy_kept *proxy_kept_take(struct proxy_target *t);
void proxy_kept_put(struct proxy *p, struct proxy_target *t, struct smtp_client **server, unsigned used,
                    bool is_dirty, enum proxy_chunks chunks);
/* Leaves those that have been idle for too long. */
co_fn void proxy_kept_expire(struct proxy *p, uint64_t now);
/* When the next one will have been; CO_NEVER: none. */
uint64_t proxy_kept_due(const struct proxy *p);
/* Closes all of them. */
void proxy_kept_close(struct proxy_target *t);

#endif
