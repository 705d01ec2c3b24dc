/* The live numbers of a running system, from the files under data_directory that its processes share. */
#ifndef RUN_TOOL_TOOL_NUMBERS_H
#define RUN_TOOL_TOOL_NUMBERS_H

#include "admission.h"
#include "conf.h"
#include "master_quota.h"
#include "proxy.h"
#include "verdict.h"

struct numbers {
    struct master_sessions sessions[MASTER_SERVICES];
    struct admission_snapshot admission; /* zero without admission */
    struct verdict_snapshot verdict;     /* zero without memory */
    struct proxy_endpoints endpoints;
};

/* Of ctx; the error when nothing runs here, and then the others are filled all the same. */
struct error *numbers_read(const void *ctx, const struct conf *conf, struct numbers *out_r);

#endif
