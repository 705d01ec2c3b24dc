/*
 * Waiting for a slot: a coroutine for each waiting message, and one for each worker that listens to its bell
 * as long as somebody waits, or a class that it saw there stands on another step than full. A slot that this
 * worker's own message gave back wakes the next here directly.
 */
#include "admission_own.h"

#include "admission_message.h"
#include "clock.h"
#include "io.h"
#include "log.h"
#include "mem.h"

#include <unistd.h>
#include <uthash.h>

/* A bell may be lost with a worker that died between taking note and ringing. */
enum { LOOK_MS = 500, HEARD = 32 };

struct admission_wait {
    uint32_t place;
    struct co *co;
    bool is_granted, has_left;
    UT_hash_handle hh;
};

static struct {
    struct admission_wait *waits;
    bool is_listening, is_uneasy; /* is_uneasy: a class may have to be let down from its step */
} the;

/* ---- hearing ---- */

static uint32_t collect(unsigned worker, uint32_t places[HEARD])
{
    struct admission_shared *s = admission_lock();
    uint32_t n = 0, at;

    while (n < HEARD && (at = admission_mailbox_take(s, worker)) != ADMISSION_NOBODY)
        places[n++] = at + 1;
    admission_unlock();
    return n;
}

static void wake(uint32_t place)
{
    struct admission_wait *w = NULL;

    HASH_FIND(hh, the.waits, &place, sizeof(place), w);
    if (w == NULL)
        return;
    w->is_granted = true;
    if (w->co != co_self())
        co_wake(w->co);
}

static void hear(unsigned worker)
{
    uint32_t places[HEARD], n;

    do {
        n = collect(worker, places);
        for (uint32_t i = 0; i < n; i++)
            wake(places[i]);
    } while (n == HEARD);
}

static void log_changes(const struct admission_news *news)
{
    for (unsigned i = 0; i < news->changes; i++) {
        const struct admission_change *c = &news->change[i];

        log_info("admission: clients of class %s for filter %s: step %s -> %s (pressure %u%%)",
                 admission_class_name(c->class), admission_shared()->pools[c->pool].n.name,
                 admission_step_name(c->from), admission_step_name(c->to), c->pressure);
    }
}

static void start_listening(const struct admission *a);

void admission_pass_on(const struct admission *a, const struct admission_news *news)
{
    for (unsigned word = 0; word < ADMISSION_BITS; word++)
        for (uint64_t bits = news->told[word]; bits != 0; bits &= bits - 1) {
            unsigned worker = word * 64 + (unsigned)__builtin_ctzll(bits);

            if (worker == a->worker)
                hear(worker);
            else
                admission_ring(worker);
        }
    admission_save_soon();
    log_changes(news);
    if (news->changes > 0)
        admission_be_uneasy(a);
}

/* ---- listening ---- */

/* Whoever looks also gives away what a dead worker's bell would have told of. */
static void look_after(const struct admission *a)
{
    struct admission_news news = {0};
    struct admission_shared *s = admission_lock();

    for (unsigned i = 0; i < ADMISSION_POOLS; i++)
        admission_core_grant(s, i, clock_ms(), &news);
    the.is_uneasy = the.is_uneasy && admission_core_ease(s, clock_ms(), &news);
    admission_unlock();
    admission_pass_on(a, &news);
    hear(a->worker);
}

/* `a` is a copy: its owner may be gone before the last who waits. */
static void listen_to_bell(void *arg)
{
    struct admission *a = arg;
    uint64_t rings;

    co_shield(true);
    while (the.waits != NULL || the.is_uneasy) {
        if (io_wait_readable(admission_bell(a->worker), clock_ms() + LOOK_MS, "news of filter slots") ==
                IO_OK &&
            read(admission_bell(a->worker), &rings, sizeof(rings)) < 0)
            log_debug("admission: rung for nothing");
        look_after(a);
    }
    co_shield(false);
    the.is_listening = false;
    talloc_free(a);
}

static void start_listening(const struct admission *a)
{
    struct admission *copy;

    if (the.is_listening)
        return;
    the.is_listening = true;
    copy = mem_new(NULL, struct admission);
    *copy = *a;
    co_spawn(listen_to_bell, copy, "admission");
}

void admission_be_uneasy(const struct admission *a)
{
    the.is_uneasy = true;
    start_listening(a);
}

/* ---- waiting ---- */

/* It may have been granted the moment before. */
static bool claim(struct admission_ticket *ticket)
{
    struct admission_shared *s = admission_lock();
    uint32_t at = admission_message_find(s, ticket);
    bool is_granted = at != ADMISSION_NOBODY && s->messages[at].state == ADMISSION_RUNNING;

    if (is_granted && !s->messages[at].is_told)
        admission_mailbox_remove(s, at);
    admission_unlock();
    return is_granted;
}

/* Before anything is heard: another worker may have granted it already. */
static void begin_to_wait(struct admission_wait *w, struct admission_ticket *ticket)
{
    w->place = ticket->place;
    w->co = co_self();
    ticket->wait = w;
    HASH_ADD(hh, the.waits, place, sizeof(w->place), w);
}

static co_fn enum admission_end wait_for_slot(const struct admission *a, struct admission_ticket *ticket,
                                              struct admission_wait *w, uint64_t until)
{
    enum co_end end = CO_OK;

    start_listening(a);
    while (!w->is_granted && !w->has_left && end == CO_OK)
        end = co_park(until, "a filter slot");
    HASH_DELETE(hh, the.waits, w);
    ticket->wait = NULL;
    if (w->has_left)
        return ADMISSION_LEFT;
    if (w->is_granted || (end == CO_TIMEOUT && claim(ticket)))
        return ADMISSION_GRANTED;
    return end == CO_TIMEOUT ? ADMISSION_LATE : ADMISSION_CANCELLED;
}

co_fn enum admission_end admission_take(struct admission *a, struct admission_ticket *ticket, uint64_t bytes,
                                        uint64_t deadline)
{
    struct admission_news news = {0};
    struct admission_wait w = {0};
    uint64_t until = 0;
    struct admission_shared *s = admission_lock();
    struct admission_time now = admission_now();
    enum admission_end end =
        admission_core_take(s, a->pool, a->worker, bytes, deadline, now, ticket, &until, &news);

    admission_unlock();
    if (end == ADMISSION_LATE)
        begin_to_wait(&w, ticket);
    admission_pass_on(a, &news);
    if (end != ADMISSION_LATE)
        return end;
    end = wait_for_slot(a, ticket, &w, until);
    if (end == ADMISSION_LATE && deadline <= now.ms)
        end = ADMISSION_LEFT;
    if (end != ADMISSION_GRANTED)
        admission_end(a, ticket, end);
    return end;
}

void admission_leave(struct admission_ticket *ticket)
{
    if (ticket->wait == NULL)
        return;
    ticket->wait->has_left = true;
    co_wake(ticket->wait->co);
}
