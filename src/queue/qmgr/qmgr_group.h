/* For this folder: recipients of one message by the way that they go. Pure. */
#ifndef QUEUE_QMGR_QMGR_GROUP_H
#define QUEUE_QMGR_QMGR_GROUP_H

#include <stddef.h>

/* Where one recipient goes, or why he goes nowhere. */
struct qmgr_route {
    const char *transport; /* NULL: nowhere */
    const char *nexthop;
    const char *dsn; /* nowhere: "5.1.3" or "4.3.0" */
    const char *text;
};

/* Recipients that go together: places of `at`, in order. */
struct qmgr_group_list {
    struct qmgr_group_item {
        const char *transport, *nexthop;
        size_t *at;
        size_t n;
    } * items;
    size_t n;
};
/* Groups the routes that lead somewhere by transport and next hop (domains without case). Owned by ctx; texts
 * are the routes'. Groups are in the order of their first recipient. */
struct qmgr_group_list qmgr_group(const void *ctx, const struct qmgr_route *routes, size_t n);

#endif
