/*
 * sallyport top: what the servers are doing now, on one screen, again and again.
 *
 * Rates are differences between two looks, so the first screen has none.
 */
#include "tool.h"
#include "tool_numbers.h"

#include "clock.h"
#include "mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { LONGEST_INTERVAL_S = 3600 };

struct look {
    struct numbers n;
    uint64_t at_ms;
};

static const char *rate(char text[24], uint64_t now, uint64_t before, const struct look *l,
                        const struct look *last)
{
    double seconds = last ? (double)(l->at_ms - last->at_ms) / 1000 : 0;

    if (seconds <= 0 || now < before)
        return "-";
    snprintf(text, 24, "%.1f", (double)(now - before) / seconds);
    return text;
}

/* ---- sessions ---- */

static const struct master_sessions *find(const struct look *l, const char *service)
{
    for (size_t i = 0; l != NULL && i < MASTER_SERVICES; i++)
        if (strcmp(l->n.sessions[i].service, service) == 0)
            return &l->n.sessions[i];
    return NULL;
}

static void show_sessions(const struct look *l, const struct look *last)
{
    printf("%-44s %9s %9s %9s %s\n", "SERVICE", "SESSIONS", "LIMIT", "NEW/S", "STRESS");
    for (size_t i = 0; i < MASTER_SERVICES; i++) {
        const struct master_sessions *s = &l->n.sessions[i], *before;
        char limit[16] = "-", text[24];

        if (s->service[0] == '\0')
            continue;
        before = find(last, s->service);
        if (s->limit > 0)
            snprintf(limit, sizeof(limit), "%u", s->limit);
        printf("%-44s %9u %9s %9s %s\n", s->service, s->used, limit,
               rate(text, s->taken, before ? before->taken : 0, l, last), s->is_stressed ? "yes" : "-");
    }
}

/* ---- filters ---- */

static uint64_t outcomes(const struct admission_pool_numbers *p)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < ADMISSION_OUTCOMES; i++)
        sum += p->outcomes[i];
    return sum;
}

static uint64_t refused(const struct admission_class_numbers *c)
{
    return c->turned[ADMISSION_FULL] + c->turned[ADMISSION_451] + c->turned[ADMISSION_421];
}

static uint64_t elsewhere(const struct admission_class_numbers *c)
{
    return c->turned[ADMISSION_CHEAP] + c->turned[ADMISSION_HOLD];
}

/* Upper end of the bucket in which `percent` of all are reached. */
static double percentile_ms(const uint64_t buckets[ADMISSION_BUCKETS], unsigned percent)
{
    uint64_t all = 0, sum = 0;
    int i;

    for (i = 0; i < ADMISSION_BUCKETS; i++)
        all += buckets[i];
    for (i = 0; i + 1 < ADMISSION_BUCKETS; i++)
        if ((sum += buckets[i]) * 100 >= all * percent)
            break;
    return all ? (double)(1ull << i) : 0;
}

static void show_class(const char *name, const struct admission_class_numbers *c)
{
    printf("  %-10s %8u %8u %8u %8u %8.1f %8.1f  %-5s %9llu %9llu %9llu %7llu %7llu\n", name, c->coming,
           c->waiting, c->running, c->in_line, c->predicted_ms / 1e3, c->waited_ms / 1e3,
           admission_step_name((enum admission_step)c->step), (unsigned long long)c->granted,
           (unsigned long long)elsewhere(c), (unsigned long long)refused(c), (unsigned long long)c->late,
           (unsigned long long)c->left);
}

/* A pool's place may be another's by now. */
static const struct admission_pool_numbers *find_pool(const struct look *l, const char *name)
{
    for (size_t i = 0; l != NULL && i < ADMISSION_POOLS; i++)
        if (strcmp(l->n.admission.pools[i].name, name) == 0)
            return &l->n.admission.pools[i];
    return NULL;
}

static void show_pool(const struct look *l, const struct look *last, size_t i)
{
    const struct admission_pool_numbers *p = &l->n.admission.pools[i];
    const struct admission_pool_numbers *before = find_pool(last, p->name);
    char text[24];

    if (p->name[0] == '\0')
        return;
    printf("\nFILTER %s: slots %u of %u (at most %u), %.2f s a message, %s messages/s, 95 %% within %.2f s\n",
           p->name, p->used, p->limit, p->most, p->service_ms / 1e3,
           rate(text, outcomes(p), before ? outcomes(before) : 0, l, last),
           percentile_ms(p->service, 95) / 1e3);
    printf("  %-10s %8s %8s %8s %8s %8s %8s  %-5s %9s %9s %9s %7s %7s\n", "CLASS", "SENDING", "WAITING",
           "FILTER", "IN LINE", "EXPECT S", "WAITED S", "STEP", "FILTERED", "ELSEWHERE", "REFUSED", "LATE",
           "LEFT");
    for (int class = 0; class < ADMISSION_CLASSES; class ++)
        show_class(admission_class_name((enum admission_class) class), &p->classes[class]);
}

static void show_endpoints(const struct look *l)
{
    const struct proxy_endpoints *e = &l->n.endpoints;

    if (e->n == 0)
        return;
    printf("\n%-32s %-9s %6s %10s %9s %10s %8s %8s %8s\n", "ENDPOINT", "STATE", "NOW", "BYTES", "STAY MS",
           "ANSWERED", "FAILED", "EJECTED", "REUSED");
    for (size_t i = 0; i < e->n; i++)
        printf("%-32s %-9s %6llu %10llu %9.1f %10llu %8llu %8llu %8llu\n", e->at[i].name, e->at[i].state,
               (unsigned long long)e->at[i].messages, (unsigned long long)e->at[i].bytes,
               (double)e->at[i].latency_us / 1e3, (unsigned long long)e->at[i].answered,
               (unsigned long long)e->at[i].failed, (unsigned long long)e->at[i].ejections,
               (unsigned long long)e->at[i].reused);
}

static void show_memory(const struct look *l)
{
    const struct verdict_snapshot *v = &l->n.verdict;

    printf("\nVERDICT MEMORY: %llu kept, %llu scans without their client; since the start %llu kept, %llu "
           "answered "
           "from it, %llu waited for, %llu expired\n",
           (unsigned long long)v->entries, (unsigned long long)v->running, (unsigned long long)v->kept,
           (unsigned long long)v->hits, (unsigned long long)v->waits, (unsigned long long)v->expired);
}

static void show(const struct look *l, const struct look *last)
{
    show_sessions(l, last);
    for (size_t i = 0; i < ADMISSION_POOLS; i++)
        show_pool(l, last, i);
    show_endpoints(l);
    show_memory(l);
    fflush(stdout);
}

/* ---- the command ---- */

static void pause_for(double seconds)
{
    long ms = (long)(seconds * 1000);
    struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};

    nanosleep(&t, NULL);
}

static struct look *look(const void *ctx, const struct conf *conf, struct error **e)
{
    struct look *l = mem_new(ctx, struct look);

    *e = numbers_read(l, conf, &l->n);
    l->at_ms = clock_ms();
    return l;
}

static int watch(const struct conf *conf, double seconds, long times)
{
    bool is_screen = isatty(STDOUT_FILENO) && times != 1;
    struct look *last = NULL;

    for (long i = 0; times == 0 || i < times; i++) {
        struct error *e;
        struct look *now = look(NULL, conf, &e);

        if (e != NULL) {
            talloc_free(now);
            talloc_free(last);
            return tool_fail_error(&e);
        }
        if (is_screen)
            printf("\033[H\033[2J");
        else if (i > 0)
            printf("\n");
        show(now, last);
        talloc_free(last);
        last = now;
        if (times == 0 || i + 1 < times)
            pause_for(seconds);
    }
    talloc_free(last);
    return 0;
}

int tool_top(struct tool *t)
{
    double seconds = 1;
    long times = 0;
    int option;
    struct conf *conf;

    optind = 1;
    while ((option = getopt(t->argc, t->argv, "s:n:")) >= 0) {
        if (option == 's')
            seconds = strtod(optarg, NULL);
        else if (option == 'n')
            times = strtol(optarg, NULL, 10);
        if (option == '?' || !(seconds >= 0.1 && seconds <= LONGEST_INTERVAL_S) || times < 0)
            return tool_usage(t);
    }
    if (optind < t->argc)
        return tool_usage(t);
    conf = tool_conf(t, NULL);
    return conf ? watch(conf, seconds, times) : 78;
}
