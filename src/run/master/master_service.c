/*
 * Services across generations: taking a configuration into force, keeping each service's workers at their
 * number, letting the old ones go only when new ones answer.
 */
#include "master_private.h"

#include "clock.h"

#include <unistd.h>

enum { POOL_TOTAL = 96 }; /* pool workers of all services; twice that while a reload is under way */

const struct master_program *master_program_find(const struct master_options *o, const struct conf_service *s)
{
    for (size_t i = 0; i < o->program_count; i++)
        if (strcmp(o->programs[i].command, s->command) == 0)
            return &o->programs[i];
    return NULL;
}

static char *key_of(const void *ctx, const struct conf_service *conf)
{
    return mem_printf(ctx, "%s %s", conf->type == CONF_INET ? "inet" : "unix", conf->name);
}

static struct master_service *find(struct master *m, const char *key)
{
    struct master_service *s = m->services;

    while (s != NULL && strcmp(s->key, key) != 0)
        s = s->next;
    return s;
}

/* ---- taking a configuration ---- */

/* What a service will be, until all of them are known to be possible. */
struct plan {
    const struct conf_service *conf;
    const struct master_program *program;
    struct master_listener **listeners;
    size_t listener_count;
};

static bool wants_listeners(const struct master_program *p)
{
    return p->kind != MASTER_SINGLE;
}

static struct error *make_plans(struct master *m, void *memory, struct conf_services services,
                                struct plan *plans, size_t *n_r)
{
    struct error *e = NULL;

    for (size_t i = 0; e == NULL && i < services.n; i++) {
        struct plan *p = &plans[*n_r];

        *p = (struct plan){.conf = &services.at[i],
                           .program = master_program_find(m->options, &services.at[i])};
        if (p->program == NULL)
            continue;
        if (wants_listeners(p->program))
            e = master_listeners_of(m, memory, p->conf, &p->listeners, &p->listener_count);
        (*n_r)++;
    }
    return e;
}

/* Want exactly what the services in force use. */
static void want_present(struct master *m)
{
    for (struct master_listener *l = m->listeners; l != NULL; l = l->next)
        l->is_wanted = false;
    for (const struct master_service *s = m->services; s != NULL; s = s->next)
        for (size_t i = 0; !s->is_removed && i < s->listener_count; i++)
            s->listeners[i]->is_wanted = true;
}

static unsigned pool_size(const struct conf_service *conf, size_t pools)
{
    long n = conf_int(conf->conf, "worker_processes"), most = POOL_TOTAL / (long)pools;

    if (n == 0)
        n = sysconf(_SC_NPROCESSORS_ONLN);
    if (conf->maxproc > 0 && n > conf->maxproc)
        n = conf->maxproc;
    if (n > most)
        n = most;
    return n < 1 ? 1 : (unsigned)n;
}

/* How long stress lasts. Postfix's rule: a service that only this machine reaches has none (the after-filter
 * server would cut off the filter), nor has one with a single place. Who set `stress` himself has decided. */
static uint64_t stress_ms(const struct plan *p)
{
    const struct conf *conf = p->conf->conf;
    bool is_inside = true;

    if (p->program->kind != MASTER_POOL || p->conf->type != CONF_INET || p->conf->maxproc < 2 ||
        conf_is_set(conf, "stress"))
        return 0;
    for (size_t i = 0; i < p->listener_count; i++)
        is_inside = is_inside && master_address_is_loopback(&p->listeners[i]->address);
    return is_inside && !conf_bool(conf, "stress_loopback") ? 0 : conf_time_ms(conf, "stress_time");
}

static void apply(struct master *m, const struct plan *p, size_t pools)
{
    char *key = key_of(NULL, p->conf);
    struct master_service *s = find(m, key);

    if (s == NULL) {
        s = mem_new(m, struct master_service);
        s->key = mem_strdup(s, key);
        s->quota = master_quota_new(s, key);
        s->next = m->services;
        m->services = s;
    }
    s->conf = p->conf;
    s->program = p->program;
    s->listeners = p->listeners;
    s->listener_count = p->listener_count;
    s->is_removed = false;
    s->wanted = p->program->kind == MASTER_POOL ? pool_size(p->conf, pools) : 1;
    s->is_draining_old = p->program->kind == MASTER_POOL && s->generation != 0;
    s->generation = m->generation;
    s->backoff = (struct master_backoff){0};
    master_quota_set_limit(s->quota, (unsigned)p->conf->maxproc);
    master_quota_set_stress(s->quota, stress_ms(p));
    master_quota_set_busy_share(s->quota, (unsigned)conf_int(p->conf->conf, "worker_busy_share"));
    talloc_free(key);
}

/* A service that goes keeps its counters until its last worker has ended. */
static struct error *check_room(struct master *m, const struct plan *plans, size_t n)
{
    size_t count = 0;

    for (const struct master_service *s = m->services; s != NULL; s = s->next)
        count++;
    for (size_t i = 0; i < n; i++) {
        char *key = key_of(NULL, plans[i].conf);

        count += find(m, key) == NULL;
        talloc_free(key);
    }
    return count > MASTER_SERVICES ? error_new(ERROR_CONF, "more than %d services", MASTER_SERVICES) : NULL;
}

static size_t count_pools(const struct plan *plans, size_t n)
{
    size_t pools = 0;

    for (size_t i = 0; i < n; i++)
        pools += plans[i].program->kind == MASTER_POOL;
    return pools ? pools : 1;
}

/* Workers of older generations: a pool's go on until its new ones are ready, all others drain now. */
static void drain_old(struct master *m)
{
    for (struct master_proc *p = m->procs; p != NULL; p = p->next)
        if (p->generation != m->generation && !p->service->is_draining_old)
            master_proc_drain(p);
}

struct error *master_services_take(struct master *m, void *memory, struct conf *conf,
                                   struct conf_services services)
{
    struct plan *plans = mem_array(memory, struct plan, services.n + 1);
    size_t n = 0;
    struct error *e;

    for (struct master_listener *l = m->listeners; l != NULL; l = l->next)
        l->is_wanted = false;
    e = make_plans(m, memory, services, plans, &n);
    if (e == NULL)
        e = check_room(m, plans, n);
    if (e != NULL) {
        want_present(m);
        master_listeners_sweep(m);
        return e;
    }
    for (struct master_service *s = m->services; s != NULL; s = s->next) {
        s->is_removed = true;
        s->is_draining_old = false;
    }
    m->generation++;
    m->conf = conf;
    m->services_conf = services;
    for (size_t i = 0; i < n; i++)
        apply(m, &plans[i], count_pools(plans, n));
    drain_old(m);
    master_listeners_sweep(m);
    talloc_free(m->memory);
    m->memory = memory;
    master_services_sweep(m);
    return NULL;
}

/* ---- workers ---- */

static unsigned serving(const struct master *m, const struct master_service *s)
{
    return (unsigned)master_procs_of(m, s, true);
}

bool master_service_wants_demand(const struct master *m, const struct master_service *s)
{
    return !s->is_removed && s->program->kind == MASTER_ON_DEMAND && serving(m, s) == 0 &&
           s->backoff.not_before <= clock_ms();
}

static bool wants_more(const struct master *m, const struct master_service *s)
{
    if (s->is_removed)
        return false;
    switch (s->program->kind) {
    case MASTER_POOL:
        return serving(m, s) < s->wanted;
    case MASTER_SINGLE:
        return master_procs_of(m, s, false) == 0;
    case MASTER_ON_DEMAND:
        return false;
    }
    return false;
}

uint64_t master_services_fill(struct master *m)
{
    uint64_t next = UINT64_MAX, now = clock_ms();

    for (struct master_service *s = m->services; s != NULL; s = s->next) {
        while (wants_more(m, s) && s->backoff.not_before <= now)
            master_proc_start(m, s);
        if (s->backoff.not_before > now && s->backoff.not_before < next &&
            (wants_more(m, s) || s->program->kind == MASTER_ON_DEMAND))
            next = s->backoff.not_before;
    }
    return next;
}

void master_service_was_ready(struct master *m, struct master_service *s)
{
    if (!s->is_draining_old)
        return;
    s->is_draining_old = false;
    for (struct master_proc *p = m->procs; p != NULL; p = p->next)
        if (p->service == s && p->generation != s->generation)
            master_proc_drain(p);
}

void master_services_sweep(struct master *m)
{
    for (struct master_service **at = &m->services, *s; (s = *at) != NULL;) {
        if (!s->is_removed || master_procs_of(m, s, false) > 0) {
            at = &s->next;
            continue;
        }
        *at = s->next;
        talloc_free(s);
    }
}
