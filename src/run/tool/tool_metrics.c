/*
 * sallyport metrics: the live numbers in Prometheus' text format (version 0.0.4), for a textfile collector or
 * a scrape through inetd and the like.
 */
#include "tool.h"
#include "tool_numbers.h"

#include "mem.h"

#include <stdio.h>
#include <sysexits.h>

static void head(const char *name, const char *type, const char *help)
{
    printf("# HELP sallyport_%s %s\n# TYPE sallyport_%s %s\n", name, help, name, type);
}

/* A label's value: backslash, quote and line feed are escaped. */
static void label(const char *name, const char *value)
{
    printf("%s=\"", name);
    for (; *value; value++) {
        if (*value == '\\' || *value == '"' || *value == '\n')
            putchar('\\');
        putchar(*value == '\n' ? 'n' : *value);
    }
    putchar('"');
}

/* ---- sessions ---- */

static void sample_session(const char *name, const struct master_sessions *s, unsigned long long value)
{
    printf("sallyport_%s{", name);
    label("service", s->service);
    printf("} %llu\n", value);
}

static void print_sessions(const struct numbers *n)
{
    head("sessions", "gauge", "Sessions now.");
    for (size_t i = 0; i < MASTER_SERVICES; i++)
        if (n->sessions[i].service[0] != '\0')
            sample_session("sessions", &n->sessions[i], n->sessions[i].used);
    head("sessions_limit", "gauge", "Most sessions at once (maxproc); 0: no limit.");
    for (size_t i = 0; i < MASTER_SERVICES; i++)
        if (n->sessions[i].service[0] != '\0')
            sample_session("sessions_limit", &n->sessions[i], n->sessions[i].limit);
    head("sessions_stress", "gauge", "1: new sessions get the settings of stress=yes.");
    for (size_t i = 0; i < MASTER_SERVICES; i++)
        if (n->sessions[i].service[0] != '\0')
            sample_session("sessions_stress", &n->sessions[i], n->sessions[i].is_stressed);
    head("sessions_total", "counter", "Sessions that had a place.");
    for (size_t i = 0; i < MASTER_SERVICES; i++)
        if (n->sessions[i].service[0] != '\0')
            sample_session("sessions_total", &n->sessions[i], n->sessions[i].taken);
}

/* ---- histograms ---- */

struct histogram {
    const char *name, *filter, *class; /* class: NULL when it has none */
    const uint64_t *buckets;           /* ADMISSION_BUCKETS, by powers of two of a millisecond */
    uint64_t sum_ms;
};

/* A sample of it up to the labels that say whose it is. */
static void begin_histogram(const struct histogram *h, const char *part)
{
    printf("sallyport_%s_%s{", h->name, part);
    label("filter", h->filter);
    if (h->class != NULL)
        printf(",class=\"%s\"", h->class);
}

static void print_histogram(const struct histogram *h)
{
    unsigned long long count = 0;

    for (int i = 0; i < ADMISSION_BUCKETS; i++) {
        count += h->buckets[i];
        begin_histogram(h, "bucket");
        if (i + 1 < ADMISSION_BUCKETS)
            printf(",le=\"%.10g\"} %llu\n", (double)(1ull << i) / 1e3, count);
        else
            printf(",le=\"+Inf\"} %llu\n", count);
    }
    begin_histogram(h, "sum");
    printf("} %.15g\n", (double)h->sum_ms / 1e3);
    begin_histogram(h, "count");
    printf("} %llu\n", count);
}

/* ---- classes of a filter ---- */

struct class_metric {
    const char *name, *type, *help;
    double (*value)(const struct admission_class_numbers *c);
};

static double coming(const struct admission_class_numbers *c)
{
    return c->coming;
}
static double waiting(const struct admission_class_numbers *c)
{
    return c->waiting;
}
static double running(const struct admission_class_numbers *c)
{
    return c->running;
}
static double in_line(const struct admission_class_numbers *c)
{
    return c->in_line;
}
static double step(const struct admission_class_numbers *c)
{
    return c->step;
}
static double predicted(const struct admission_class_numbers *c)
{
    return c->predicted_ms / 1e3;
}
static double waited(const struct admission_class_numbers *c)
{
    return c->waited_ms / 1e3;
}
static double admitted(const struct admission_class_numbers *c)
{
    return (double)c->admitted;
}
static double granted(const struct admission_class_numbers *c)
{
    return (double)c->granted;
}
static double late(const struct admission_class_numbers *c)
{
    return (double)c->late;
}
static double left(const struct admission_class_numbers *c)
{
    return (double)c->left;
}
static double step_changes(const struct admission_class_numbers *c)
{
    return (double)c->step_changes;
}
static double preferred(const struct admission_class_numbers *c)
{
    return (double)c->preferred;
}
static double full_up(const struct admission_class_numbers *c)
{
    return (double)c->full_up;
}
static double pressure(const struct admission_class_numbers *c)
{
    return c->pressure / 100.0;
}

static const struct class_metric class_metrics[] = {
    {"admission_coming", "gauge", "Messages let in whose body is on its way.", coming},
    {"admission_waiting", "gauge", "Complete messages that wait for a slot.", waiting},
    {"admission_running", "gauge", "Messages in the filter.", running},
    {"admission_in_line", "gauge", "Refused clients that are expected back.", in_line},
    {"admission_step", "gauge", "Step of the ladder: 0 full, 1 cheap, 2 hold, 3 451, 4 421.", step},
    {"admission_predicted_wait_seconds", "gauge", "Predicted wait of the next message.", predicted},
    {"admission_average_wait_seconds", "gauge", "Moving average of the wait for a slot.", waited},
    {"admission_pressure_ratio", "gauge", "What is ahead, as a part of what the class has room for.",
     pressure},
    {"admission_admitted_total", "counter", "Messages let in at MAIL.", admitted},
    {"admission_granted_total", "counter", "Messages that had a slot.", granted},
    {"admission_preferred_total", "counter", "Of these, messages of clients that had been refused before.",
     preferred},
    {"admission_late_total", "counter", "Complete messages for which no slot came in time.", late},
    {"admission_left_total", "counter", "Messages whose client left before their turn.", left},
    {"admission_full_up_total", "counter", "Complete messages for which the table of all had no room.",
     full_up},
    {"admission_step_changes_total", "counter", "Changes of the step of the ladder.", step_changes},
};

/* A sample up to its further labels or its value. */
static void begin_class(const char *name, const struct admission_pool_numbers *p, int class)
{
    printf("sallyport_%s{", name);
    label("filter", p->name);
    printf(",class=\"%s\"", admission_class_name((enum admission_class) class));
}

static void print_class_metric(const struct numbers *n, const struct class_metric *m)
{
    head(m->name, m->type, m->help);
    for (size_t i = 0; i < ADMISSION_POOLS; i++)
        for (int c = 0; n->admission.pools[i].name[0] != '\0' && c < ADMISSION_CLASSES; c++) {
            begin_class(m->name, &n->admission.pools[i], c);
            printf("} %.15g\n", m->value(&n->admission.pools[i].classes[c]));
        }
}

static void print_turned(const struct numbers *n)
{
    head("admission_turned_total", "counter",
         "Messages not let in at MAIL, by the step: full, 451 and 421 refused them, cheap and hold took "
         "them.");
    for (size_t i = 0; i < ADMISSION_POOLS; i++)
        for (int c = 0; n->admission.pools[i].name[0] != '\0' && c < ADMISSION_CLASSES; c++)
            for (int s = 0; s < ADMISSION_STEPS; s++) {
                begin_class("admission_turned_total", &n->admission.pools[i], c);
                printf(",step=\"%s\"} %llu\n", admission_step_name((enum admission_step)s),
                       (unsigned long long)n->admission.pools[i].classes[c].turned[s]);
            }
}

static void print_waits(const struct numbers *n)
{
    head("admission_wait_seconds", "histogram", "How long complete messages waited for a slot.");
    for (size_t i = 0; i < ADMISSION_POOLS; i++)
        for (int c = 0; n->admission.pools[i].name[0] != '\0' && c < ADMISSION_CLASSES; c++) {
            const struct admission_class_numbers *of = &n->admission.pools[i].classes[c];
            const struct histogram h = {"admission_wait_seconds", n->admission.pools[i].name,
                                        admission_class_name((enum admission_class)c), of->waits,
                                        of->waits_ms};

            print_histogram(&h);
        }
}

/* ---- filters ---- */

static void print_slots(const struct numbers *n)
{
    head("filter_slots", "gauge", "Slots of a filter: used, present limit, configured maximum.");
    for (size_t i = 0; i < ADMISSION_POOLS; i++) {
        const struct admission_pool_numbers *p = &n->admission.pools[i];
        const struct {
            const char *kind;
            unsigned value;
        } slots[] = {{"used", p->used}, {"limit", p->limit}, {"most", p->most}};

        for (size_t k = 0; p->name[0] != '\0' && k < 3; k++) {
            printf("sallyport_filter_slots{");
            label("filter", p->name);
            printf(",kind=\"%s\"} %u\n", slots[k].kind, slots[k].value);
        }
    }
}

static void print_service_times(const struct numbers *n)
{
    head("filter_seconds", "histogram", "How long the filter needs for a message.");
    for (size_t i = 0; i < ADMISSION_POOLS; i++) {
        const struct admission_pool_numbers *p = &n->admission.pools[i];
        const struct histogram h = {"filter_seconds", p->name, NULL, p->service, p->service_sum_ms};

        if (p->name[0] != '\0')
            print_histogram(&h);
    }
}

static void print_outcomes(const struct numbers *n)
{
    static const char *const names[ADMISSION_OUTCOMES] = {
        [ADMISSION_OK] = "passed",
        [ADMISSION_REJECT] = "rejected",
        [ADMISSION_TEMPFAIL] = "deferred",
        [ADMISSION_LOST] = "lost",
    };

    head("filter_messages_total", "counter", "Messages that had a slot, by what the filter said.");
    for (size_t i = 0; i < ADMISSION_POOLS; i++)
        for (size_t k = 0; n->admission.pools[i].name[0] != '\0' && k < ADMISSION_OUTCOMES; k++) {
            printf("sallyport_filter_messages_total{");
            label("filter", n->admission.pools[i].name);
            printf(",outcome=\"%s\"} %llu\n", names[k],
                   (unsigned long long)n->admission.pools[i].outcomes[k]);
        }
}

static void print_endpoint(const char *name, const struct proxy_endpoint *e, unsigned long long value)
{
    printf("sallyport_%s{", name);
    label("endpoint", e->name);
    printf("} %llu\n", value);
}

static void print_endpoints(const struct proxy_endpoints *all)
{
    head("endpoint_messages", "gauge", "Messages an endpoint has now.");
    for (size_t i = 0; i < all->n; i++)
        print_endpoint("endpoint_messages", &all->at[i], all->at[i].messages);
    head("endpoint_ejected", "gauge", "1: the endpoint is left alone for now.");
    for (size_t i = 0; i < all->n; i++)
        print_endpoint("endpoint_ejected", &all->at[i], all->at[i].ejected_ms > 0);
    head("endpoint_answered_total", "counter", "Messages an endpoint has answered.");
    for (size_t i = 0; i < all->n; i++)
        print_endpoint("endpoint_answered_total", &all->at[i], all->at[i].answered);
    head("endpoint_failed_total", "counter", "Attempts that failed.");
    for (size_t i = 0; i < all->n; i++)
        print_endpoint("endpoint_failed_total", &all->at[i], all->at[i].failed);
}

/* ---- memory of verdicts ---- */

static void print_memory(const struct verdict_snapshot *v)
{
    const struct {
        const char *name, *type, *help;
        unsigned long long value;
    } all[] = {
        {"verdicts", "gauge", "Verdicts that nobody has heard.", v->entries},
        {"verdicts_running", "gauge", "Scans under way without their client.", v->running},
        {"verdicts_kept_total", "counter", "Verdicts kept.", v->kept},
        {"verdicts_hits_total", "counter", "Replies given from memory.", v->hits},
        {"verdicts_waits_total", "counter", "Copies that waited for a scan under way.", v->waits},
        {"verdicts_expired_total", "counter", "Verdicts nobody came back for.", v->expired},
        {"verdicts_evicted_total", "counter", "Verdicts dropped for want of room.", v->evicted},
    };

    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        head(all[i].name, all[i].type, all[i].help);
        printf("sallyport_%s %llu\n", all[i].name, all[i].value);
    }
}

int tool_metrics(struct tool *t)
{
    struct conf *conf = tool_conf(t, NULL);
    struct numbers *n = mem_new(t->memory, struct numbers);
    struct error *e = conf ? numbers_read(n, conf, n) : NULL;

    if (conf == NULL)
        return EX_CONFIG;
    if (e != NULL)
        return tool_fail_error(&e);
    print_sessions(n);
    for (size_t i = 0; i < sizeof(class_metrics) / sizeof(class_metrics[0]); i++)
        print_class_metric(n, &class_metrics[i]);
    print_turned(n);
    print_waits(n);
    print_slots(n);
    print_outcomes(n);
    print_service_times(n);
    print_endpoints(&n->endpoints);
    print_memory(&n->verdict);
    return 0;
}
