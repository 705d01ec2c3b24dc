/* One pool in one worker: who a client is, and the way of a message except its waiting. See admission.h. */
#include "admission_own.h"

#include "admission_conf.h"
#include "log.h"
#include "mem.h"
#include "table.h"

#include <arpa/inet.h>
#include <unistd.h>

/* ---- who ---- */

static void mask(unsigned char *addr, unsigned bits, unsigned size)
{
    for (unsigned i = 0; i < size; i++) {
        unsigned keep = bits >= i * 8 + 8 ? 8 : bits > i * 8 ? bits - i * 8 : 0;

        addr[i] &= (unsigned char)(0xff00 >> keep);
    }
}

co_fn void admission_know(const struct admission *a, const struct mail_client *client, bool is_authenticated,
                          struct admission_client *who_r)
{
    *who_r = (struct admission_client){.key.pool = a->hash, .is_authenticated = is_authenticated};
    if (inet_pton(AF_INET, client->addr, who_r->key.addr) == 1)
        mask(who_r->key.addr, a->prefix4, 4);
    else if (inet_pton(AF_INET6, client->addr, who_r->key.addr) == 1)
        mask(who_r->key.addr, a->prefix6, 16);
    who_r->is_own = client->family == AF_UNIX ||
                    table_list_has_host(a->mynetworks, client->name, client->addr) == TABLE_FOUND;
}

/* ---- a message. The time is asked for under the lock: so it is never before one that is stored ---- */

struct admission_answer admission_judge(struct admission *a, const struct admission_client *who,
                                        uint64_t bytes, struct admission_ticket *ticket)
{
    struct admission_news news = {0};
    struct admission_shared *s = admission_lock();
    struct admission_answer answer =
        admission_core_judge(s, a->pool, a->worker, who, bytes, admission_now(), ticket, &news);

    admission_unlock();
    admission_pass_on(a, &news);
    if (answer.step != ADMISSION_FULL)
        admission_be_uneasy(a);
    return answer;
}

void admission_give(struct admission *a, struct admission_ticket *ticket, enum admission_outcome outcome,
                    uint32_t service_ms, uint64_t bytes)
{
    struct admission_news news = {0};
    struct admission_shared *s = admission_lock();

    admission_core_give(s, ticket, outcome, service_ms, bytes, admission_now(), &news);
    admission_unlock();
    admission_pass_on(a, &news);
}

void admission_end(struct admission *a, struct admission_ticket *ticket, enum admission_end end)
{
    struct admission_news news = {0};
    struct admission_shared *s = admission_lock();

    admission_core_release(s, ticket, end, admission_now(), &news);
    admission_unlock();
    admission_pass_on(a, &news);
}

void admission_release(struct admission *a, struct admission_ticket *ticket)
{
    if (ticket->place != 0)
        admission_end(a, ticket, ADMISSION_CANCELLED);
}

/* ---- open ---- */

static uint64_t hash_of(const char *text)
{
    uint64_t hash = 14695981039346656037u;

    for (; *text; text++)
        hash = (hash ^ (unsigned char)*text) * 1099511628211u;
    return hash;
}

/* What a worker of the same id left behind ends before the first pool of its successor opens. */
static void forget_predecessor(unsigned worker)
{
    static pid_t opened;

    if (opened != getpid())
        admission_forget(worker);
    opened = getpid();
}

/* Who moved its classes may be gone. */
static bool is_pool_uneasy(const struct admission_pool *p)
{
    for (unsigned i = 0; i < ADMISSION_CLASSES; i++)
        if (p->n.classes[i].step != ADMISSION_FULL)
            return true;
    return false;
}

static struct error *join_pool(struct admission *a, const char *filter, const struct admission_settings *set)
{
    struct admission_shared *s;
    bool is_uneasy;

    forget_predecessor(a->worker);
    s = admission_lock();
    a->pool = admission_core_pool(s, filter, a->hash, a->worker, set, admission_now().ms);
    is_uneasy = a->pool < ADMISSION_POOLS && is_pool_uneasy(&s->pools[a->pool]);
    admission_unlock();
    admission_save(false);
    if (a->pool == ADMISSION_POOLS)
        return error_new(ERROR_CONF,
                         "more than %d filters with smtpd_proxy_concurrency_limit, those that workers of an "
                         "older configuration still have included",
                         ADMISSION_POOLS);
    if (is_uneasy)
        admission_be_uneasy(a);
    return NULL;
}

struct error *admission_open(const void *ctx, const struct conf *conf, const char *filter, unsigned worker,
                             struct admission **a_r)
{
    struct admission *a = mem_new(ctx, struct admission);
    struct admission_settings set;
    struct error *e = admission_conf_read(conf, &set);

    *a_r = NULL;
    a->worker = worker;
    a->hash = hash_of(filter);
    a->prefix4 = (unsigned)conf_int(conf, "smtpd_client_ipv4_prefix_length");
    a->prefix6 = (unsigned)conf_int(conf, "smtpd_client_ipv6_prefix_length");
    if (e == NULL)
        e = table_list_open_param(a, "mynetworks", TABLE_LIST_HOSTS, conf, &a->mynetworks);
    if (e != NULL || set.most == 0 || worker >= ADMISSION_WORKERS)
        return e;
    if (admission_shared() == NULL)
        log_panic("admission: opened before it was prepared");
    *a_r = a;
    return join_pool(a, filter, &set);
}
