/*
 * DNS names of a pool, looked up in the background: one coroutine a name, from the first message on, as long
 * as the pool lives (and at most one look-up longer).
 */
#include "proxy_pool.h"

#include "clock.h"
#include "log.h"
#include "mem.h"

enum { RESOLVE_LIMIT_MS = 30000, RESOLVE_AGAIN_MS = 1000 };

struct proxy_resolver {
    struct proxy *proxy; /* NULL: the pool is gone */
    struct proxy_name *name;
    const char *host, *service; /* its own, since a look-up uses them to its end */
    struct co *co;
};

/* A name that is known stays as it was when its servers are silent, or deny it, for a while. */
static uint64_t take_trouble(struct proxy *p, struct proxy_name *name, struct error **e)
{
    uint64_t again = name->is_known ? p->resolve_ms : RESOLVE_AGAIN_MS;

    if (name->trouble == NULL) {
        name->trouble = mem_strdup(p, (*e)->text);
        log_warn("proxy %s: %s: %s", name->endpoint.text, (*e)->text,
                 name->is_known ? "its addresses stay as they were" : "messages wait for its addresses");
    }
    error_free(e);
    proxy_pool_wake_all();
    return again;
}

/* Returns the time until the next look-up. */
static co_fn uint64_t look_up(struct proxy_resolver *r)
{
    struct proxy_name *name = r->name;
    struct io_address *found;
    size_t n;
    struct error *e =
        r->proxy->resolve(r, r->host, r->service, AF_UNSPEC, clock_ms() + RESOLVE_LIMIT_MS, &found, &n);

    if (r->proxy == NULL) {
        error_free(&e);
        return 0;
    }
    if (e != NULL)
        return take_trouble(r->proxy, name, &e);
    TALLOC_FREE(name->trouble);
    name->is_known = true;
    proxy_pool_set(r->proxy, name, found, n);
    talloc_free(found);
    return r->proxy->resolve_ms;
}

static co_fn void run(void *arg)
{
    struct proxy_resolver *r = arg;

    while (r->proxy != NULL) {
        uint64_t wait_ms = look_up(r);

        if (r->proxy == NULL ||
            co_sleep(clock_ms() + wait_ms, "the next look-up of a filter's name") != CO_OK)
            break;
    }
    if (r->proxy != NULL)
        r->name->resolver = NULL;
    talloc_free(r);
}

void proxy_names_start(struct proxy *p)
{
    for (size_t i = 0; i < p->name_count; i++) {
        struct proxy_resolver *r;

        if (p->names[i].resolver != NULL)
            continue;
        r = p->names[i].resolver = mem_new(NULL, struct proxy_resolver);
        r->proxy = p;
        r->name = &p->names[i];
        r->host = mem_strdup(r, p->names[i].endpoint.host);
        r->service = mem_strdup(r, p->names[i].endpoint.service);
        r->co = co_spawn(run, r, "proxy name");
    }
}

void proxy_names_stop(struct proxy *p)
{
    for (size_t i = 0; i < p->name_count; i++) {
        struct proxy_resolver *r = p->names[i].resolver;

        if (r == NULL)
            continue;
        p->names[i].resolver = NULL;
        r->proxy = NULL;
        co_cancel(r->co);
    }
}
