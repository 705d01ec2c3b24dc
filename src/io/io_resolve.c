/*
 * Names and addresses through the system's resolver, on the thread pool. See io.h.
 *
 * getaddrinfo() and getnameinfo() honour /etc/hosts and nsswitch.conf as the administrator expects; MX
 * records come from the same resolver configuration through libresolv.
 */
#include "io.h"

#include "mem.h"

#include <arpa/nameser.h>
#include <netdb.h>
#include <netinet/in.h>
#include <resolv.h>
#include <stdlib.h>

static struct error *not_finished(enum co_end end, const char *name)
{
    return error_new(ERROR_TEMP, "%s: name lookup %s", name,
                     end == CO_TIMEOUT ? "timed out" : "was cancelled");
}

/* ---- addresses of a name ---- */

struct addresses_job {
    char *host, *service;
    struct addrinfo hints;
    struct addrinfo *found;
    int result;
};

static int free_addresses(struct addresses_job *job)
{
    if (job->found != NULL)
        freeaddrinfo(job->found);
    return 0;
}

static void look_up_addresses(void *arg)
{
    struct addresses_job *job = arg;

    job->result = getaddrinfo(job->host, job->service, &job->hints, &job->found);
}

static bool is_temporary(int result)
{
    return result == EAI_AGAIN || result == EAI_MEMORY || result == EAI_SYSTEM;
}

static void copy_addresses(const void *ctx, const struct addrinfo *list, struct io_address **found_r,
                           size_t *n_r)
{
    size_t n = 0;

    for (const struct addrinfo *a = list; a != NULL; a = a->ai_next)
        n++;
    *found_r = mem_array(ctx, struct io_address, n);
    *n_r = n;
    n = 0;
    for (const struct addrinfo *a = list; a != NULL; a = a->ai_next, n++) {
        memcpy(&(*found_r)[n].sa, a->ai_addr, a->ai_addrlen);
        (*found_r)[n].length = a->ai_addrlen;
    }
}

/* A number needs no resolver and no thread. */
static bool is_numeric(const void *ctx, const char *host, const char *service, int family,
                       struct io_address **found_r, size_t *n_r)
{
    struct io_address address;
    uint64_t port;

    if (!bytes_to_u64(bytes_of(service), 65535, &port) || !io_address_parse(host, (unsigned)port, &address))
        return false;
    if (family != AF_UNSPEC && family != address.sa.ss_family)
        return false;
    *found_r = mem_array(ctx, struct io_address, 1);
    **found_r = address;
    *n_r = 1;
    return true;
}

co_fn struct error *io_resolve(const void *ctx, const char *host, const char *service, int family,
                               uint64_t deadline, struct io_address **found_r, size_t *n_r)
{
    struct addresses_job *job;
    struct error *e = NULL;
    enum co_end end;

    *found_r = NULL;
    *n_r = 0;
    if (is_numeric(ctx, host, service, family, found_r, n_r))
        return NULL;
    job = mem_new(ctx, struct addresses_job);
    job->host = mem_strdup(job, host);
    job->service = mem_strdup(job, service);
    job->hints = (struct addrinfo){.ai_family = family, .ai_socktype = SOCK_STREAM};
    talloc_set_destructor(job, free_addresses);
    end = co_work_slow(look_up_addresses, job, deadline, "name lookup");
    if (end != CO_OK)
        return not_finished(end, host);
    if (job->result == 0)
        copy_addresses(ctx, job->found, found_r, n_r);
    else
        e = error_new(is_temporary(job->result) ? ERROR_TEMP : ERROR_PERM, "%s: %s", host,
                      gai_strerror(job->result));
    talloc_free(job);
    return e;
}

/* ---- name of an address ---- */

struct name_job {
    struct io_address address;
    char name[NI_MAXHOST];
    int result;
};

static void look_up_name(void *arg)
{
    struct name_job *job = arg;

    job->result = getnameinfo((struct sockaddr *)&job->address.sa, job->address.length, job->name,
                              sizeof(job->name), NULL, 0, NI_NAMEREQD);
}

co_fn char *io_resolve_name(const void *ctx, const struct io_address *a, uint64_t deadline, bool *is_temp_r)
{
    struct name_job *job = mem_new(ctx, struct name_job);
    char *name = NULL;

    job->address = *a;
    *is_temp_r = true;
    if (co_work_slow(look_up_name, job, deadline, "reverse name lookup") != CO_OK)
        return NULL;
    if (job->result == 0)
        name = mem_strdup(ctx, job->name);
    *is_temp_r = is_temporary(job->result);
    talloc_free(job);
    return name;
}

/* ---- MX ---- */

enum { ANSWER_SIZE = 16384, MX_LIMIT = 100 };

struct mx_job {
    char *domain;
    unsigned char answer[ANSWER_SIZE];
    int length;
    int failure; /* h_errno */
};

static void look_up_mx(void *arg)
{
    struct mx_job *job = arg;
    struct __res_state state = {0};

    job->length = -1;
    job->failure = TRY_AGAIN;
    if (res_ninit(&state) != 0)
        return;
    job->length = res_nquery(&state, job->domain, ns_c_in, ns_t_mx, job->answer, sizeof(job->answer));
    if (job->length < 0)
        job->failure = state.res_h_errno;
    res_nclose(&state);
}

static int by_preference(const void *a, const void *b)
{
    const struct io_mx *x = a, *y = b;

    return x->preference < y->preference ? -1 : x->preference > y->preference;
}

/* RFC 5321 5.1: equal preferences are tried in random order. */
static void shuffle(struct io_mx *mx, size_t n)
{
    for (size_t i = n; i > 1; i--) {
        size_t other = (size_t)random() % i;
        struct io_mx kept = mx[i - 1];

        mx[i - 1] = mx[other];
        mx[other] = kept;
    }
}

static struct error *parse_mx(const void *ctx, const struct mx_job *job, struct io_mx **found_r, size_t *n_r)
{
    ns_msg message;
    ns_rr record;
    char host[NS_MAXDNAME];

    if (ns_initparse(job->answer, job->length < ANSWER_SIZE ? job->length : ANSWER_SIZE, &message) != 0)
        return error_new(ERROR_TEMP, "%s: malformed DNS answer", job->domain);
    *found_r = mem_array(ctx, struct io_mx, MX_LIMIT);
    for (int i = 0; i < ns_msg_count(message, ns_s_an) && *n_r < MX_LIMIT; i++) {
        if (ns_parserr(&message, ns_s_an, i, &record) != 0)
            return error_new(ERROR_TEMP, "%s: malformed DNS answer", job->domain);
        if (ns_rr_type(record) != ns_t_mx || ns_rr_rdlen(record) < 3)
            continue;
        if (dn_expand(ns_msg_base(message), ns_msg_end(message), ns_rr_rdata(record) + 2, host,
                      sizeof(host)) < 0)
            return error_new(ERROR_TEMP, "%s: malformed MX record", job->domain);
        (*found_r)[*n_r].preference = ns_get16(ns_rr_rdata(record));
        (*found_r)[*n_r].host = mem_strdup(*found_r, host[0] ? host : ".");
        ++*n_r;
    }
    shuffle(*found_r, *n_r);
    qsort(*found_r, *n_r, sizeof(**found_r), by_preference);
    return NULL;
}

co_fn struct error *io_resolve_mx(const void *ctx, const char *domain, uint64_t deadline,
                                  struct io_mx **found_r, size_t *n_r)
{
    struct mx_job *job = mem_new(ctx, struct mx_job);
    struct error *e = NULL;
    enum co_end end;

    *found_r = NULL;
    *n_r = 0;
    job->domain = mem_strdup(job, domain);
    end = co_work_slow(look_up_mx, job, deadline, "MX lookup");
    if (end != CO_OK)
        return not_finished(end, domain);
    if (job->length >= 0)
        e = parse_mx(ctx, job, found_r, n_r);
    else if (job->failure == HOST_NOT_FOUND)
        e = error_new(ERROR_PERM, "Name service error for name=%s type=MX: Host not found", domain);
    else if (job->failure != NO_DATA)
        e = error_new(ERROR_TEMP, "Name service error for name=%s type=MX: Host not found, try again",
                      domain);
    talloc_free(job);
    return e;
}
