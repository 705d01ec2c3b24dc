/*
 * The sink of the content filter service: scan -> next sink (proxy to the after-filter server, or cleanup).
 *
 * Transparent until the end of data: MAIL and each recipient go to the next sink at once, so the client gets
 * the after-filter server's own answers; the content is kept. At commit the engines (filter_engines) look at
 * it, and the message goes on unchanged, with changed content or recipients, somewhere else, into the hold
 * queue, or nowhere. What goes nowhere aborts the next sink unfinished. doc/filter.md has the outcomes in a
 * table.
 */
#ifndef FILTER_SCAN_H
#define FILTER_SCAN_H

#include "error.h"
#include "mail.h"

struct conf;
struct scan;

/*
 * Where mail can go, so that scan knows neither proxy nor cleanup. Each makes a sink that nobody has begun,
 * as memory of ctx; NULL: there is no such way here (logged by scan, the client gets 451 4.3.0).
 */
struct scan_outlets {
    struct mail_sink *(*next)(void *arg, void *ctx);
    /* FILTER transport:nexthop. nexthop is "host:port" or "[v6]:port", the port always there. */
    struct mail_sink *(*elsewhere)(void *arg, void *ctx, const char *nexthop);
    /* Takes the message into the hold queue; the envelope's `hold` is the reason. */
    struct mail_sink *(*quarantine)(void *arg, void *ctx);
    void *arg;
};

/* Opens the engines that conf names, once a worker. Copies *outlets; borrows conf. */
struct error *scan_open(void *ctx, const struct conf *conf, const struct scan_outlets *outlets,
                        struct scan **scan_r);
/* A sink for one transaction, memory of ctx. */
struct mail_sink *scan_sink(void *ctx, struct scan *scan);

#endif
