/* Recipients by next hop. See qmgr_group.h. */
#include "qmgr_group.h"

#include "mem.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

static int compare_routes(const struct qmgr_route *a, const struct qmgr_route *b)
{
    int order = strcmp(a->transport, b->transport);

    return order != 0 ? order : strcasecmp(a->nexthop, b->nexthop);
}

static int compare_places(const void *a, const void *b, void *arg)
{
    const struct qmgr_route *routes = arg;
    size_t x = *(const size_t *)a, y = *(const size_t *)b;
    int order = compare_routes(&routes[x], &routes[y]);

    return order != 0 ? order : (x > y) - (x < y);
}

static int compare_groups(const void *a, const void *b)
{
    size_t x = ((const struct qmgr_group_item *)a)->at[0], y = ((const struct qmgr_group_item *)b)->at[0];

    return (x > y) - (x < y);
}

struct qmgr_group_list qmgr_group(const void *ctx, const struct qmgr_route *routes, size_t n)
{
    size_t *places = mem_array(ctx, size_t, n), used = 0, i;
    struct qmgr_group_list list = {mem_array(ctx, struct qmgr_group_item, n), 0};
    struct qmgr_group_item *last = NULL;

    for (i = 0; i < n; i++) {
        if (routes[i].transport != NULL)
            places[used++] = i;
    }
    qsort_r(places, used, sizeof(*places), compare_places, (void *)routes);
    for (i = 0; i < used; i++) {
        if (last == NULL || compare_routes(&routes[last->at[0]], &routes[places[i]]) != 0) {
            last = &list.items[list.n++];
            last->transport = routes[places[i]].transport;
            last->nexthop = routes[places[i]].nexthop;
            last->at = &places[i];
        }
        last->n++;
    }
    qsort(list.items, list.n, sizeof(*list.items), compare_groups);
    return list;
}
