/* The endpoints of the host, for a look from outside. See proxy.h. */
#include "proxy.h"

#include "clock.h"
#include "mem.h"
#include "proxy_choice.h"

static struct proxy_endpoint describe(const void *ctx, const struct proxy_entry *e, uint64_t slow_start_ms,
                                      uint64_t now)
{
    static const char *const words[] = {
        [PROXY_UP] = "up", [PROXY_STARTING] = "starting", [PROXY_EJECTED] = "ejected"};
    struct proxy_endpoint d = {.name = mem_strdup(ctx, e->key),
                               .state = words[proxy_entry_state(e, slow_start_ms, now)],
                               .messages = e->messages,
                               .bytes = e->bytes,
                               .latency_us = e->latency_us,
                               .answered = e->answered,
                               .failed = e->failed,
                               .ejections = e->ejections,
                               .reused = e->reused};

    if (e->ejected_until > now)
        d.ejected_ms = e->ejected_until - now;
    return d;
}

bool proxy_snapshot(const void *ctx, const char *path, uint64_t slow_start_ms,
                    struct proxy_endpoints *endpoints_r)
{
    struct proxy_entry *entries = mem_array(NULL, struct proxy_entry, PROXY_ENDPOINTS);
    uint64_t now = clock_ms();
    size_t n;
    bool good = proxy_shared_copy(path, entries, &n);

    *endpoints_r = (struct proxy_endpoints){.at = mem_array(ctx, struct proxy_endpoint, n)};
    for (size_t i = 0; good && i < n; i++)
        if (entries[i].users > 0 || entries[i].messages > 0)
            endpoints_r->at[endpoints_r->n++] = describe(endpoints_r->at, &entries[i], slow_start_ms, now);
    talloc_free(entries);
    return good;
}
