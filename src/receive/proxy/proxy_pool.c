/* The endpoints of a parameter, and who gets the next message. See proxy_pool.h. */
#include "proxy_pool.h"

#include "clock.h"
#include "log.h"
#include "mem.h"

enum { STEP_MS = 50, STEP_LIMIT_MS = 1000 };

/* ---- targets ---- */

static int free_target(struct proxy_target *t)
{
    proxy_kept_close(t);
    if (t->entry != NULL)
        proxy_shared_drop(t->entry);
    return 0;
}

static void drop_target(struct proxy_target *t)
{
    t->is_gone = true;
    proxy_kept_close(t);
    if (t->users == 0)
        talloc_free(t);
}

static char *address_text(const void *ctx, const struct io_address *a)
{
    char host[46];

    return mem_printf(ctx, a->sa.ss_family == AF_INET6 ? "[%s]:%u" : "%s:%u", io_address_host(a, host),
                      io_address_port(a));
}

static size_t find_key(const struct proxy *p, const char *key)
{
    for (size_t i = 0; i < p->target_count; i++)
        if (strcmp(p->entries[i]->key, key) == 0)
            return i;
    return SIZE_MAX;
}

/* False: there is no room, here or among the host's endpoints. */
static bool add_target(struct proxy *p, const char *key, const char *text, const struct io_address *a,
                       const struct proxy_name *name)
{
    struct proxy_target *t;

    if (find_key(p, key) != SIZE_MAX)
        return true;
    if (p->target_count == PROXY_TARGETS)
        return false;
    t = mem_new(p, struct proxy_target);
    talloc_set_destructor(t, free_target);
    t->text = mem_strdup(t, text);
    t->address = *a;
    t->name = name;
    t->entry = proxy_shared_hold(key);
    if (t->entry == NULL) {
        talloc_free(t);
        return false;
    }
    p->entries[p->target_count] = t->entry;
    p->targets[p->target_count++] = t;
    return true;
}

static bool has_address(const struct proxy_target *t, const struct io_address *at, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (at[i].length == t->address.length && memcmp(&at[i].sa, &t->address.sa, at[i].length) == 0)
            return true;
    return false;
}

static void remove_lost(struct proxy *p, const struct proxy_name *name, const struct io_address *at, size_t n)
{
    size_t kept = 0;

    for (size_t i = 0; i < p->target_count; i++) {
        struct proxy_target *t = p->targets[i];

        if (t->name == name && !has_address(t, at, n)) {
            log_info("proxy %s: no longer an address of %s", t->text, name->endpoint.host);
            drop_target(t);
            continue;
        }
        p->entries[kept] = p->entries[i];
        p->targets[kept++] = t;
    }
    p->target_count = kept;
}

void proxy_pool_set(struct proxy *p, const struct proxy_name *name, const struct io_address *at, size_t n)
{
    remove_lost(p, name, at, n);
    for (size_t i = 0; i < n; i++) {
        char *key = address_text(NULL, &at[i]);
        char *text = n == 1 ? mem_strdup(key, name->endpoint.text)
                            : mem_printf(key, "%s[%s]:%u", name->endpoint.host,
                                         io_address_host(&at[i], (char[46]){0}), io_address_port(&at[i]));

        if (!add_target(p, key, text, &at[i], name))
            log_warn("proxy %s: more endpoints than there is room for", text);
        talloc_free(key);
    }
    proxy_pool_wake_all();
}

/* ---- what the configuration names ---- */

static struct error *add_unix(struct proxy *p, const struct io_endpoint *endpoint)
{
    struct io_address address;
    struct error *e = io_address_unix(endpoint->path, &address);
    char *key;

    if (e != NULL)
        return e;
    key = mem_printf(p, "unix:%s", endpoint->path);
    if (!add_target(p, key, endpoint->text, &address, NULL))
        e = error_new(ERROR_CONF, "%s: more endpoints than there is room for", endpoint->text);
    talloc_free(key);
    return e;
}

static struct error *add_endpoint(struct proxy *p, const struct io_endpoint *endpoint)
{
    struct io_address address;
    struct error *e = NULL;
    uint64_t port;
    char *key;

    if (endpoint->path != NULL)
        return add_unix(p, endpoint);
    if (!bytes_to_u64(bytes_of(endpoint->service), 65535, &port) ||
        !io_address_parse(endpoint->host, (unsigned)port, &address)) {
        p->names = mem_grow(p, p->names, p->name_count + 1);
        p->names[p->name_count++] = (struct proxy_name){.endpoint = *endpoint};
        return NULL;
    }
    key = address_text(p, &address);
    if (!add_target(p, key, endpoint->text, &address, NULL))
        e = error_new(ERROR_CONF, "%s: more endpoints than there is room for", endpoint->text);
    talloc_free(key);
    return e;
}

struct error *proxy_pool_open(struct proxy *p, const char *endpoints, const char *base_dir)
{
    struct bytes rest = bytes_of(endpoints), word;
    struct error *e = NULL;

    while (e == NULL && (word = bytes_word(&rest, " \t\r\n,")).n > 0) {
        struct io_endpoint endpoint;

        e = io_endpoint_parse(p, bytes_dup(p, word), base_dir, &endpoint);
        if (e == NULL)
            e = add_endpoint(p, &endpoint);
    }
    if (e == NULL && p->target_count + p->name_count == 0)
        e = error_new(ERROR_CONF, "bad endpoint \"%s\": no port", endpoints);
    return e;
}

const char *proxy_pool_trouble(const struct proxy *p)
{
    for (size_t i = 0; p->target_count == 0 && i < p->name_count; i++)
        if (p->names[i].trouble != NULL)
            return p->names[i].trouble;
    return p->target_count == 0 ? "its addresses are not known yet" : "";
}

/* ---- who waits ---- */

struct waiter {
    struct waiter *next;
    const struct proxy *proxy;
    struct co *co;
};
static struct waiter *waiters; /* of this process, the longest first */

static co_fn void wait_for_news(const struct proxy *p, uint64_t until)
{
    struct waiter self = {.proxy = p, .co = co_self()};
    struct waiter **place = &waiters;

    while (*place != NULL)
        place = &(*place)->next;
    *place = &self;
    co_park(until, "a filter");
    for (place = &waiters; *place != &self; place = &(*place)->next)
        ;
    *place = self.next;
}

static void wake_first(const struct proxy *p)
{
    for (struct waiter *w = waiters; w != NULL; w = w->next)
        if (w->proxy == p) {
            co_wake(w->co);
            return;
        }
}

void proxy_pool_wake_all(void)
{
    for (struct waiter *w = waiters; w != NULL; w = w->next)
        co_wake(w->co);
}

/* ---- health ---- */

void proxy_note_failed(struct proxy_entry *e, const struct proxy_rules *rules, const char *text)
{
    uint64_t now = clock_ms(), until;
    bool is_news;

    proxy_shared_lock();
    is_news = proxy_entry_failed(e, rules, now);
    until = e->ejected_until;
    proxy_shared_unlock();
    if (is_news)
        log_warn("proxy %s: ejected for %llums", text, (unsigned long long)(until - now));
}

void proxy_note_greeted(struct proxy_entry *e, const char *text)
{
    bool is_news;

    if (e->ejected_until == 0 && e->trial_until == 0)
        return;
    proxy_shared_lock();
    is_news = proxy_entry_greeted(e, clock_ms());
    proxy_shared_unlock();
    if (!is_news)
        return;
    log_info("proxy %s: back", text);
    proxy_pool_wake_all();
}

void proxy_note_not_asked(struct proxy_entry *e, const struct proxy_rules *rules)
{
    proxy_shared_lock();
    proxy_entry_not_asked(e, rules, clock_ms());
    proxy_shared_unlock();
}

/* Those whose time is over: a probe costs nobody's patience. The one that has the message is asked by it, as
 * long as that does not go over a kept connection. Bits by index. */
static uint64_t mark_probes(struct proxy *p, size_t chosen, uint64_t now)
{
    uint64_t marked = 0;

    for (size_t i = 0; i < p->target_count; i++) {
        struct proxy_entry *e = p->entries[i];

        if (!proxy_wants_probe(e, now) || (i == chosen && p->targets[i]->kept == NULL))
            continue;
        e->trial_until = now + proxy_probe_ms(&p->rules);
        e->trial_worker = proxy_shared_worker();
        marked |= (uint64_t)1 << i;
    }
    return marked;
}

/* ---- take and give ---- */

static struct proxy_target *try_take(struct proxy *p, const struct proxy_need *need, bool is_patient)
{
    uint64_t now = clock_ms(), probes = 0;
    struct proxy_wish wish = {.bytes = need->bytes, .is_patient = is_patient};
    struct proxy_target *t = NULL;
    size_t i;

    if (need->avoid != NULL && now < need->avoid_until)
        wish.avoid = need->avoid;
    proxy_shared_lock();
    i = proxy_choose(&p->rules, p->entries, p->target_count, &wish, now);
    if (i != PROXY_NO_CHOICE) {
        t = p->targets[i];
        proxy_entry_take(t->entry, need->bytes);
    }
    probes = mark_probes(p, i, now);
    proxy_shared_unlock();
    if (t != NULL)
        t->users++;
    for (i = 0; probes != 0; i++, probes >>= 1)
        if (probes & 1)
            proxy_probe_start(p, p->targets[i]);
    return t;
}

bool proxy_pool_has_other(const struct proxy *p, const struct proxy_target *t)
{
    for (size_t i = 0; i < p->target_count; i++)
        if (p->targets[i] != t && p->entries[i]->ejected_until == 0)
            return true;
    return false;
}

bool proxy_pool_is_pending(const struct proxy *p)
{
    for (size_t i = 0; i < p->name_count; i++)
        if (!p->names[i].is_known && p->names[i].trouble == NULL)
            return true;
    return false;
}

/* Nothing to try, and nothing that could turn up soon. */
static bool is_hopeless(const struct proxy *p)
{
    return p->target_count == 0 && !proxy_pool_is_pending(p);
}

static uint64_t next_look(const struct proxy_need *need, uint64_t now, uint64_t step)
{
    uint64_t at = now + step;

    if (need->avoid_until > now && need->avoid_until < at)
        at = need->avoid_until;
    return at < need->deadline ? at : need->deadline;
}

co_fn struct proxy_target *proxy_pool_take(struct proxy *p, const struct proxy_need *need)
{
    uint64_t step = STEP_MS;

    proxy_names_start(p);
    if (p->health_ms > 0)
        proxy_keeper_need(p, CO_NEVER);
    for (;;) {
        struct proxy_target *t = try_take(p, need, need->is_patient || proxy_pool_is_pending(p));
        uint64_t now;

        if (t != NULL || (!need->is_patient && is_hopeless(p)))
            return t;
        now = clock_ms();
        if (co_is_stopped())
            return NULL;
        if (now >= need->deadline)
            return need->has_tried ? NULL : try_take(p, need, false);
        wait_for_news(p, next_look(need, now, step));
        step = step * 2 < STEP_LIMIT_MS ? step * 2 : STEP_LIMIT_MS;
    }
}

static void count(struct proxy_entry *e, const struct proxy_work *done)
{
    uint64_t us = done->ms * 1000;

    proxy_entry_give(e, done->bytes);
    e->reused += done->is_reused;
    e->failed += done->outcome == PROXY_FAILED;
    if (done->outcome != PROXY_ANSWERED)
        return;
    e->fails = 0;
    e->answered++;
    e->latency_us = e->answered == 1 ? us : (e->latency_us * 15 + us) / 16;
}

void proxy_pool_give(struct proxy *p, struct proxy_target *t, const struct proxy_work *done)
{
    proxy_shared_lock();
    count(t->entry, done);
    proxy_shared_unlock();
    if (p->rules.concurrency > 0)
        wake_first(p);
    if (--t->users == 0 && t->is_gone)
        talloc_free(t);
}
