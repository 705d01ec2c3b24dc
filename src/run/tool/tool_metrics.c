/*
 * sallyport metrics: the live numbers in Prometheus' text format (version 0.0.4), for a textfile collector or
 * a scrape through inetd and the like.
 *
 * A metric is a line of a table: what it is called, and where its number is in a struct. Its samples are
 * rows: the structs that are there, each with its labels.
 */
#include "tool.h"
#include "tool_numbers.h"

#include "mem.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* ---- rows ---- */

struct row {
    const char *label, *name; /* NULL: it needs none */
    const char *class;        /* NULL: it has none */
    const void *of;
};
struct rows {
    struct row *at;
    size_t n;
};

static void add_row(struct rows *rows, struct row row)
{
    if (row.name[0] != '\0')
        rows->at[rows->n++] = row;
}

static struct rows session_rows(struct numbers *n)
{
    struct rows rows = {mem_array(n, struct row, MASTER_SERVICES), 0};

    for (struct master_sessions *s = n->sessions; s < n->sessions + MASTER_SERVICES; s++)
        add_row(&rows, (struct row){"service", s->service, NULL, s});
    return rows;
}

static struct rows filter_rows(struct numbers *n)
{
    struct admission_pool_numbers *pools = n->admission.pools;
    struct rows rows = {mem_array(n, struct row, ADMISSION_POOLS), 0};

    for (int i = 0; i < ADMISSION_POOLS; i++)
        add_row(&rows, (struct row){"filter", pools[i].name, NULL, &pools[i]});
    return rows;
}

static struct rows class_rows(struct numbers *n)
{
    struct admission_pool_numbers *pools = n->admission.pools;
    struct rows rows = {mem_array(n, struct row, ADMISSION_POOLS * ADMISSION_CLASSES), 0};

    for (int i = 0; i < ADMISSION_POOLS; i++)
        for (int c = 0; c < ADMISSION_CLASSES; c++)
            add_row(&rows, (struct row){"filter", pools[i].name,
                                        admission_class_name((enum admission_class)c), &pools[i].classes[c]});
    return rows;
}

static struct rows endpoint_rows(struct numbers *n)
{
    struct rows rows = {mem_array(n, struct row, n->endpoints.n), 0};

    for (size_t i = 0; i < n->endpoints.n; i++)
        add_row(&rows, (struct row){"endpoint", n->endpoints.at[i].name, NULL, &n->endpoints.at[i]});
    return rows;
}

/* ---- samples ---- */

static void head(const char *name, const char *type, const char *help)
{
    printf("# HELP sallyport_%s %s\n# TYPE sallyport_%s %s\n", name, help, name, type);
}

/* A label's value: backslash, quote and line feed are escaped. */
static void print_label(const char *name, const char *value)
{
    printf("%s=\"", name);
    for (; *value; value++) {
        if (*value == '\\' || *value == '"' || *value == '\n')
            putchar('\\');
        putchar(*value == '\n' ? 'n' : *value);
    }
    putchar('"');
}

/* A sample up to its number. label: one more, that tells it from others of the row; or NULL. */
static void begin_sample(const char *name, const char *part, const struct row *row, const char *label,
                         const char *value)
{
    printf("sallyport_%s%s", name, part);
    if (row->label != NULL) {
        putchar('{');
        print_label(row->label, row->name);
        if (row->class != NULL)
            printf(",class=\"%s\"", row->class);
        if (label != NULL)
            printf(",%s=\"%s\"", label, value);
        putchar('}');
    }
    putchar(' ');
}

/* ---- metrics ---- */

/* How a number is printed: as it is; 1 when it is not 0; or divided. */
enum form { PLAIN, FLAG, PERCENT = 100, MS = 1000, US = 1000000 };

struct metric {
    const char *name, *type, *help;
    size_t at, size; /* of the number in the row's struct */
    enum form form;
    const char *label; /* NULL, or what tells the `n` numbers apart that stand there side by side */
    size_t n;
    const char *(*value)(size_t i); /* of the label */
};

#define NUMBER(of, field) offsetof(struct of, field), sizeof(((struct of *)0)->field)

static uint64_t number_at(const void *p, size_t size)
{
    uint64_t number = 0;
    uint32_t small = 0;

    if (size == sizeof(number)) {
        memcpy(&number, p, size);
        return number;
    }
    if (size != sizeof(small))
        return *(const uint8_t *)p;
    memcpy(&small, p, size);
    return small;
}

static void print_number(uint64_t number, enum form form)
{
    if (form == PLAIN || form == FLAG)
        printf("%llu\n", (unsigned long long)(form == FLAG ? number > 0 : number));
    else
        printf("%.15g\n", (double)number / (double)form);
}

static void print_samples(const struct metric *m, const struct row *row)
{
    const char *first = (const char *)row->of + m->at;

    for (size_t i = 0; i < (m->label != NULL ? m->n : 1); i++) {
        begin_sample(m->name, "", row, m->label, m->label != NULL ? m->value(i) : NULL);
        print_number(number_at(first + i * m->size, m->size), m->form);
    }
}

static void print_metrics(const struct metric *metrics, size_t n, const struct rows *rows)
{
    for (size_t i = 0; i < n; i++) {
        head(metrics[i].name, metrics[i].type, metrics[i].help);
        for (size_t k = 0; k < rows->n; k++)
            print_samples(&metrics[i], &rows->at[k]);
    }
}

/* ---- histograms ---- */

/* In the row's struct: ADMISSION_BUCKETS by powers of two of a millisecond, and the sum. */
struct histogram {
    const char *name, *help;
    size_t buckets, sum_ms;
};

static void print_buckets(const struct histogram *h, const struct row *row)
{
    const char *of = row->of;
    uint64_t count = 0;
    char most[32];

    for (int i = 0; i < ADMISSION_BUCKETS; i++) {
        count += number_at(of + h->buckets + (size_t)i * sizeof(count), sizeof(count));
        if (i + 1 < ADMISSION_BUCKETS)
            snprintf(most, sizeof(most), "%.10g", (double)(1ull << i) / 1e3);
        else
            snprintf(most, sizeof(most), "+Inf");
        begin_sample(h->name, "_bucket", row, "le", most);
        print_number(count, PLAIN);
    }
    begin_sample(h->name, "_sum", row, NULL, NULL);
    print_number(number_at(of + h->sum_ms, sizeof(uint64_t)), MS);
    begin_sample(h->name, "_count", row, NULL, NULL);
    print_number(count, PLAIN);
}

static void print_histogram(const struct histogram *h, const struct rows *rows)
{
    head(h->name, "histogram", h->help);
    for (size_t i = 0; i < rows->n; i++)
        print_buckets(h, &rows->at[i]);
}

/* ---- the tables ---- */

static const char *step_name(size_t i)
{
    return admission_step_name((enum admission_step)i);
}

static const char *outcome_name(size_t i)
{
    static const char *const names[ADMISSION_OUTCOMES] = {
        [ADMISSION_OK] = "passed",
        [ADMISSION_REJECT] = "rejected",
        [ADMISSION_TEMPFAIL] = "deferred",
        [ADMISSION_LOST] = "lost",
    };

    return names[i];
}

static const char *slot_name(size_t i)
{
    static const char *const names[] = {"used", "limit", "most"};

    return names[i];
}

#define AT(field) offsetof(struct admission_pool_numbers, field)
_Static_assert(AT(limit) == AT(used) + sizeof(uint32_t) && AT(most) == AT(limit) + sizeof(uint32_t),
               "the numbers of slots stand side by side");

#define SESSION(field)  NUMBER(master_sessions, field)
#define CLASS(field)    NUMBER(admission_class_numbers, field)
#define FILTER(field)   NUMBER(admission_pool_numbers, field)
#define ENDPOINT(field) NUMBER(proxy_endpoint, field)
#define VERDICT(field)  NUMBER(verdict_snapshot, field)

/* clang-format off */

static const struct metric session_metrics[] = {
    {"sessions", "gauge", "Sessions now.", SESSION(used)},
    {"sessions_limit", "gauge", "Most sessions at once (maxproc); 0: no limit.", SESSION(limit)},
    {"sessions_stress", "gauge", "1: new sessions get the settings of stress=yes.", SESSION(is_stressed)},
    {"sessions_total", "counter", "Sessions that had a place.", SESSION(taken)},
};

static const struct metric class_metrics[] = {
    {"admission_coming", "gauge", "Messages let in whose body is on its way.", CLASS(coming)},
    {"admission_waiting", "gauge", "Complete messages that wait for a slot.", CLASS(waiting)},
    {"admission_running", "gauge", "Messages in the filter.", CLASS(running)},
    {"admission_in_line", "gauge", "Refused clients that are expected back.", CLASS(in_line)},
    {"admission_step", "gauge", "Step of the ladder: 0 full, 1 cheap, 2 hold, 3 451, 4 421.", CLASS(step)},
    {"admission_predicted_wait_seconds", "gauge", "Predicted wait of the next message.", CLASS(predicted_ms), MS},
    {"admission_average_wait_seconds", "gauge", "Moving average of the wait for a slot.", CLASS(waited_ms), MS},
    {"admission_pressure_ratio", "gauge", "What is ahead, as a part of what the class has room for.", CLASS(pressure), PERCENT},
    {"admission_admitted_total", "counter", "Messages let in at MAIL.", CLASS(admitted)},
    {"admission_granted_total", "counter", "Messages that had a slot.", CLASS(granted)},
    {"admission_preferred_total", "counter", "Messages let in at MAIL whose client had been refused before and was called.", CLASS(preferred)},
    {"admission_late_total", "counter", "Complete messages for which no slot came in time.", CLASS(late)},
    {"admission_left_total", "counter", "Messages whose client left before their turn.", CLASS(left)},
    {"admission_full_up_total", "counter", "Complete messages for which the table of all had no room.", CLASS(full_up)},
    {"admission_step_changes_total", "counter", "Changes of the step of the ladder.", CLASS(step_changes)},
    {"admission_turned_total", "counter",
     "Messages not let in at MAIL, by the step: full, 451 and 421 refused them, cheap and hold sent them elsewhere.",
     CLASS(turned[0]), PLAIN, "step", ADMISSION_STEPS, step_name},
};

static const struct metric filter_metrics[] = {
    {"filter_slots", "gauge", "Slots of a filter: used, present limit, configured maximum.", FILTER(used), PLAIN, "kind", 3, slot_name},
    {"filter_messages_total", "counter", "Messages that had a slot, by what the filter said.", FILTER(outcomes[0]), PLAIN,
     "outcome", ADMISSION_OUTCOMES, outcome_name},
};

static const struct metric endpoint_metrics[] = {
    {"endpoint_messages", "gauge", "Messages an endpoint has now.", ENDPOINT(messages)},
    {"endpoint_bytes", "gauge", "Bytes of the messages that an endpoint has now.", ENDPOINT(bytes)},
    {"endpoint_average_stay_seconds", "gauge", "Moving average of a message's stay, connecting included.", ENDPOINT(latency_us), US},
    {"endpoint_ejected", "gauge", "1: the endpoint is left alone for now.", ENDPOINT(ejected_ms), FLAG},
    {"endpoint_answered_total", "counter", "Messages an endpoint has answered.", ENDPOINT(answered)},
    {"endpoint_failed_total", "counter", "Attempts that failed.", ENDPOINT(failed)},
    {"endpoint_ejections_total", "counter", "How often an endpoint was ejected.", ENDPOINT(ejections)},
    {"endpoint_reused_total", "counter", "Messages over a connection that had been kept.", ENDPOINT(reused)},
};

/* Of the memory of verdicts. */
static const struct metric verdict_metrics[] = {
    {"verdicts", "gauge", "Verdicts that nobody has heard.", VERDICT(entries)},
    {"verdicts_running", "gauge", "Scans under way without their client.", VERDICT(running)},
    {"verdicts_kept_total", "counter", "Verdicts kept.", VERDICT(kept)},
    {"verdicts_hits_total", "counter", "Replies given from memory.", VERDICT(hits)},
    {"verdicts_waits_total", "counter", "Copies that waited for a scan under way.", VERDICT(waits)},
    {"verdicts_expired_total", "counter", "Verdicts nobody came back for.", VERDICT(expired)},
    {"verdicts_evicted_total", "counter", "Verdicts dropped for want of room.", VERDICT(evicted)},
};

static const struct histogram wait_histogram = {
    "admission_wait_seconds", "How long complete messages waited for a slot.",
    offsetof(struct admission_class_numbers, waits), offsetof(struct admission_class_numbers, waits_ms)};
static const struct histogram service_histogram = {
    "filter_seconds", "How long the filter needs for a message.",
    offsetof(struct admission_pool_numbers, service), offsetof(struct admission_pool_numbers, service_sum_ms)};

/* clang-format on */

static void print_all(struct numbers *n)
{
    struct row memory = {.of = &n->verdict};
    struct rows sessions = session_rows(n), filters = filter_rows(n), classes = class_rows(n);
    struct rows endpoints = endpoint_rows(n), verdicts = {&memory, 1};

    print_metrics(session_metrics, COUNT(session_metrics), &sessions);
    print_metrics(class_metrics, COUNT(class_metrics), &classes);
    print_histogram(&wait_histogram, &classes);
    print_metrics(filter_metrics, COUNT(filter_metrics), &filters);
    print_histogram(&service_histogram, &filters);
    print_metrics(endpoint_metrics, COUNT(endpoint_metrics), &endpoints);
    print_metrics(verdict_metrics, COUNT(verdict_metrics), &verdicts);
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
    print_all(n);
    return 0;
}
