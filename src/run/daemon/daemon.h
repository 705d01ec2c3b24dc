/*
 * The daemons: one main for each command of master.cf, and the table of profiles (daemon_profile.c) that says
 * what the SMTP servers of the chain have of hooks and sinks.
 */
#ifndef RUN_DAEMON_DAEMON_H
#define RUN_DAEMON_DAEMON_H

#include "conf.h"
#include "master.h"

/* The file of data_directory in which proxies share what they know of their endpoints (proxy_prepare). */
#define DAEMON_ENDPOINTS "proxy"

/* What master can run. */
const struct master_program *daemon_programs(size_t *n_r);
/* What all workers share, made before the first of them. */
void daemon_prepare(const struct conf *conf);
/* A worker has died: what it left in the shared memory is void. */
void daemon_died(unsigned worker);
/* Opens what a worker of this service would open (tables, lists, engines), but no socket and no queue, and
 * closes it again: for `check`, and before a reload. */
struct error *daemon_try(const struct conf_service *service);

#endif
