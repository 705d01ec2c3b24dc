/*
 * header_checks and friends of an after-filter or plain server: the content filter's engine (engine_checks.h)
 * plugged into cleanup, which knows no tables of that kind. Changes are made as the content passes; only the
 * header field or line that is not complete yet is held.
 */
#ifndef RUN_DAEMON_DAEMON_CHECKS_H
#define RUN_DAEMON_DAEMON_CHECKS_H

#include "cleanup.h"

/* The checks that conf names, as memory of ctx; NULL when it names none. */
struct error *daemon_checks_open(const void *ctx, const struct conf *conf,
                                 struct cleanup_inspect **inspect_r);
/* Plugs the checks that conf names into cleanup; nothing when there are none or receive_override_options says
 * so. */
struct error *daemon_checks_plug(const void *ctx, const struct conf *conf, struct cleanup *cleanup);
/* The same where engines run over the message first: nothing when the engine `checks` is one of them, as it
 * is when filter_engines is empty. */
struct error *daemon_checks_plug_beside(const void *ctx, const struct conf *conf, struct cleanup *cleanup);
/* The configuration for those engines: conf, or, when receive_override_options has no_header_body_checks, one
 * of ctx without the tables. */
const struct conf *daemon_checks_of_engines(const void *ctx, const struct conf *conf);

#endif
