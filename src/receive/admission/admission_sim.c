/* The simulation. See admission_sim.h. */
#include "admission_sim.h"

#include "admission_message.h"
#include "mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

enum { SLOTS = 20, SCAN_MS = 500, CLIENT_WAIT_MS = 30000, PATIENCE_MS = 25000, START_MS = 1000 };
enum what { TRY, DOT, END_OF_SCAN, TIME_OUT, LOSS };

struct event {
    uint64_t at;
    uint32_t client;
    uint32_t round; /* of the client's message; a later one makes the event void */
    enum what what;
};
struct client {
    struct admission_client who;
    struct admission_ticket ticket;
    uint64_t dot, began;
    uint32_t round, tries, served, scan_ms;
    bool is_waiting, is_bot;
};

/* ---- chance, the same in every run ---- */

static double chance(struct sim *sim)
{
    sim->random = sim->random * 6364136223846793005u + 1442695040888963407u;
    return (double)(sim->random >> 11) / (double)(1ull << 53);
}

static uint32_t about(struct sim *sim, uint32_t ms)
{
    return (uint32_t)(ms * (0.5 + chance(sim)));
}

/* ---- events in order of time ---- */

static void swap(struct event *a, struct event *b)
{
    struct event c = *a;

    *a = *b;
    *b = c;
}

static void later(struct sim *sim, uint64_t in_ms, uint32_t client, enum what what)
{
    size_t i = sim->events++;

    if (sim->events > sim->room) {
        sim->room = sim->room * 2 + 1024;
        sim->heap = mem_grow(sim, sim->heap, sim->room);
    }
    sim->heap[i] = (struct event){sim->now + in_ms, client, sim->clients[client].round, what};
    for (; i > 0 && sim->heap[i].at < sim->heap[(i - 1) / 2].at; i = (i - 1) / 2)
        swap(&sim->heap[i], &sim->heap[(i - 1) / 2]);
}

static struct event next_event(struct sim *sim)
{
    struct event first = sim->heap[0];
    size_t i = 0, child;

    sim->heap[0] = sim->heap[--sim->events];
    while ((child = i * 2 + 1) < sim->events) {
        if (child + 1 < sim->events && sim->heap[child + 1].at < sim->heap[child].at)
            child++;
        if (sim->heap[i].at <= sim->heap[child].at)
            break;
        swap(&sim->heap[i], &sim->heap[child]);
        i = child;
    }
    return first;
}

/* ---- the server's side ---- */

static struct admission_time time_of(const struct sim *sim)
{
    return (struct admission_time){sim->now, (uint32_t)(1700000000 + sim->now / 1000)};
}

static bool is_measured(const struct sim *sim)
{
    return sim->now >= sim->measured_from;
}

static void begin_scan(struct sim *sim, uint32_t at)
{
    struct client *c = &sim->clients[at];

    c->is_waiting = false;
    c->began = sim->now;
    c->scan_ms = sim->load->scans_differ ? about(sim, sim->scan_ms) : sim->scan_ms;
    later(sim, c->scan_ms, at, END_OF_SCAN);
}

static void hear(struct sim *sim)
{
    uint32_t place;

    while ((place = admission_mailbox_take(sim->s, 0)) != ADMISSION_NOBODY)
        begin_scan(sim, sim->client_of[place]);
}

/* ---- a client's doings ---- */

static void pause_and_retry(struct sim *sim, uint32_t at)
{
    struct client *c = &sim->clients[at];
    uint32_t ms = sim->load->pause_ms;

    c->round++;
    for (uint32_t i = 0; i < c->tries && ms < sim->load->pause_most_ms; i++)
        ms *= 2;
    c->tries++;
    later(sim, about(sim, ms < sim->load->pause_most_ms ? ms : sim->load->pause_most_ms), at, TRY);
}

static struct client *bot(struct sim *sim, uint32_t at)
{
    struct client *c = &sim->clients[at];
    uint32_t number = 1u << 24 | sim->bots++;

    memcpy(c->who.key.addr, &number, sizeof(number));
    return c;
}

/* A bot is another client each time. */
static void try(struct sim *sim, uint32_t at)
{
    struct client *c = sim->clients[at].is_bot ? bot(sim, at) : &sim->clients[at];
    struct admission_news news = {0};
    struct admission_answer answer =
        admission_core_judge(sim->s, 0, 0, &c->who, 4096, time_of(sim), &c->ticket, &news);

    sim->refused += is_measured(sim) && !answer.is_admitted;
    sim->own_refused += is_measured(sim) && !answer.is_admitted && c->who.is_own;
    if (answer.is_admitted)
        later(sim, about(sim, sim->load->body_ms), at, DOT);
    else if (c->is_bot)
        later(sim, about(sim, sim->load->think_ms), at, TRY);
    else
        pause_and_retry(sim, at);
}

static void dot(struct sim *sim, uint32_t at)
{
    struct client *c = &sim->clients[at];
    struct admission_news news = {0};
    uint64_t until;
    enum admission_end end;

    c->dot = sim->now;
    end = admission_core_take(sim->s, 0, 0, 4096, UINT64_MAX, time_of(sim), &c->ticket, &until, &news);
    assert_int_not_equal(end, ADMISSION_FULL_UP);
    if (end == ADMISSION_GRANTED) {
        begin_scan(sim, at);
        return;
    }
    c->is_waiting = true;
    sim->client_of[c->ticket.place - 1] = at;
    later(sim, until - sim->now, at, TIME_OUT);
}

static bool is_down(const struct sim *sim)
{
    return is_measured(sim) && sim->now - sim->measured_from < sim->load->down_ms;
}

/* The filter has said nothing until the client had to have its reply. */
static void loss(struct sim *sim, uint32_t at)
{
    struct client *c = &sim->clients[at];
    struct admission_news news = {0};

    admission_core_give(sim->s, &c->ticket, ADMISSION_LOST, (uint32_t)(sim->now - c->began), 4096,
                        time_of(sim), &news);
    sim->lost++;
    pause_and_retry(sim, at);
}

static void end_of_scan(struct sim *sim, uint32_t at)
{
    struct client *c = &sim->clients[at];
    struct admission_news news = {0};

    if (is_down(sim)) {
        later(sim, c->ticket.deadline - sim->now, at, LOSS);
        return;
    }
    admission_core_give(sim->s, &c->ticket, ADMISSION_OK, c->scan_ms, 4096, time_of(sim), &news);
    c->round++;
    c->tries = 0;
    if (is_measured(sim)) {
        sim->done++;
        sim->busy_ms += c->scan_ms;
        c->served++;
        sim->late += sim->now - c->dot > CLIENT_WAIT_MS;
        sim->own_done += c->who.is_own;
        if (c->who.is_own && sim->now - c->dot > sim->own_longest)
            sim->own_longest = sim->now - c->dot;
    }
    later(sim, about(sim, sim->load->think_ms), at, TRY);
}

static void time_out(struct sim *sim, uint32_t at)
{
    struct client *c = &sim->clients[at];
    struct admission_news news = {0};

    if (!c->is_waiting)
        return;
    c->is_waiting = false;
    sim->thrown += is_measured(sim);
    admission_core_release(sim->s, &c->ticket, ADMISSION_LATE, time_of(sim), &news);
    pause_and_retry(sim, at);
}

static void happen(struct sim *sim, const struct event *e)
{
    static void (*const doings[])(struct sim *, uint32_t) = {try, dot, end_of_scan, time_out, loss};
    const struct admission_class_numbers *n = &sim->s->pools[0].n.classes[ADMISSION_STRANGER];

    if (e->round != sim->clients[e->client].round)
        return;
    doings[e->what](sim, e->client);
    hear(sim);
    assert_true(sim->s->pools[0].n.used <= sim->slots);
    if (!is_measured(sim))
        return;
    sim->queue_sum += n->waiting;
    sim->queue_samples++;
    if (n->waiting > sim->queue_most)
        sim->queue_most = n->waiting;
}

/* ---- a run ---- */

static const struct admission_settings settings = {
    .most = SLOTS,
    .least = 1,
    .reserve_ms = 30000,
    .good_messages = 10,
    .good_reject_percent = 5,
    .good_age = 86400,
    .half_life = 7 * 86400,
    .patience_ms = {PATIENCE_MS, PATIENCE_MS, PATIENCE_MS, PATIENCE_MS},
    .share = {30, 10, 30, 30},
    .ladder = {[ADMISSION_STRANGER] = {.mark = {[ADMISSION_451] = 100}}},
};

static struct sim *start(const struct load *load)
{
    struct sim *sim = mem_new(NULL, struct sim);
    struct admission_settings set = settings;
    uint32_t honest;

    sim->load = load;
    sim->random = 42;
    sim->now = START_MS;
    sim->slots = set.most = load->slots ? load->slots : SLOTS;
    sim->scan_ms = load->scan_ms ? load->scan_ms : SCAN_MS;
    honest = (uint32_t)(load->factor * sim->slots * load->think_ms / sim->scan_ms);
    sim->n = honest * (1 + load->bots) + load->own;
    sim->s = mem_new(sim, struct admission_shared);
    sim->client_of = mem_array(sim, uint32_t, ADMISSION_MESSAGES);
    sim->clients = mem_array(sim, struct client, sim->n);
    admission_core_init(sim->s, 0);
    admission_core_pool(sim->s, "filter", 1, 0, &set, sim->now);
    for (uint32_t i = 0; i < sim->n; i++) {
        memcpy(sim->clients[i].who.key.addr, &i, sizeof(i));
        sim->clients[i].who.is_own = i >= honest * (1 + load->bots);
        sim->clients[i].is_bot = i >= honest && !sim->clients[i].who.is_own;
        later(sim, (uint64_t)(chance(sim) * load->think_ms), i, TRY);
    }
    sim->n = honest; /* who is to be served alike */
    return sim;
}

struct sim *sim_run(const struct load *load)
{
    struct sim *sim = start(load);
    uint64_t cycle = (uint64_t)sim->n * sim->scan_ms / sim->slots;

    sim->measured_from = START_MS + 60000 + cycle;
    sim->until = sim->measured_from + load->down_ms + 60000 + cycle * 8;
    while (sim->events > 0 && sim->heap[0].at < sim->until) {
        struct event e = next_event(sim);

        sim->now = e.at;
        happen(sim, &e);
    }
    return sim;
}

double sim_useful(const struct sim *sim)
{
    return (double)sim->busy_ms / sim->slots / (double)(sim->until - sim->measured_from - sim->load->down_ms);
}

double sim_fairness(const struct sim *sim)
{
    uint32_t least = UINT32_MAX;
    double sum = 0;

    for (uint32_t i = 0; i < sim->n; i++) {
        sum += sim->clients[i].served;
        if (sim->clients[i].served < least)
            least = sim->clients[i].served;
    }
    return least / (sum / sim->n);
}

void sim_report(const struct sim *sim)
{
    const struct load *l = sim->load;

    print_message(
        "%4.1fx %5u clients, pause %u-%u s%s%s: useful %.3f, least/mean %.2f, refused %llu, late %llu, "
        "thrown %llu, lost %llu, waiting %.0f (most %llu)\n",
        l->factor, sim->n, l->pause_ms / 1000, l->pause_most_ms / 1000,
        l->scans_differ ? ", unequal scans" : "", l->bots ? ", bots" : "", sim_useful(sim), sim_fairness(sim),
        (unsigned long long)sim->refused, (unsigned long long)sim->late, (unsigned long long)sim->thrown,
        (unsigned long long)sim->lost, (double)sim->queue_sum / (double)sim->queue_samples,
        (unsigned long long)sim->queue_most);
}
