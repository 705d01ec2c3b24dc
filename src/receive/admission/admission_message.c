/* Places and lists of messages. See admission_message.h. */
#include "admission_message.h"

/* ---- lists ---- */

void admission_list_init(struct admission_list *l)
{
    *l = (struct admission_list){ADMISSION_NOBODY, ADMISSION_NOBODY};
}

void admission_list_append(struct admission_shared *s, struct admission_list *l, uint32_t at)
{
    struct admission_message *m = &s->messages[at];

    m->prev = l->last;
    m->next = ADMISSION_NOBODY;
    if (l->last == ADMISSION_NOBODY)
        l->first = at;
    else
        s->messages[l->last].next = at;
    l->last = at;
}

void admission_list_remove(struct admission_shared *s, struct admission_list *l, uint32_t at)
{
    struct admission_message *m = &s->messages[at];

    if (m->prev == ADMISSION_NOBODY)
        l->first = m->next;
    else
        s->messages[m->prev].next = m->next;
    if (m->next == ADMISSION_NOBODY)
        l->last = m->prev;
    else
        s->messages[m->next].prev = m->prev;
}

/* ---- places ---- */

static void let_go_of_client(struct admission_shared *s, struct admission_message *m)
{
    if (m->client != ADMISSION_NOBODY && s->records[m->client].held > 0)
        s->records[m->client].held--;
    m->client = ADMISSION_NOBODY;
}

static uint32_t place_for_new(struct admission_shared *s)
{
    uint32_t at = s->free;

    if (at != ADMISSION_NOBODY) {
        s->free = s->messages[at].next;
        return at;
    }
    if (s->untouched < ADMISSION_MESSAGES)
        return s->untouched++;
    at = s->stale.first;
    if (at != ADMISSION_NOBODY) {
        admission_list_remove(s, &s->stale, at);
        let_go_of_client(s, &s->messages[at]);
    }
    return at;
}

uint32_t admission_message_new(struct admission_shared *s)
{
    uint32_t at = place_for_new(s);

    if (at == ADMISSION_NOBODY)
        return at;
    s->messages[at] = (struct admission_message){.generation = s->messages[at].generation + 1,
                                                 .client = ADMISSION_NOBODY,
                                                 .prev = ADMISSION_NOBODY,
                                                 .next = ADMISSION_NOBODY};
    return at;
}

void admission_message_free(struct admission_shared *s, uint32_t at)
{
    struct admission_message *m = &s->messages[at];

    let_go_of_client(s, m);
    m->state = ADMISSION_FREE;
    m->generation++;
    m->next = s->free;
    s->free = at;
}

uint32_t admission_message_find(const struct admission_shared *s, const struct admission_ticket *t)
{
    uint32_t at = t->place - 1;

    if (t->place == 0 || t->place > ADMISSION_MESSAGES || s->messages[at].generation != t->generation ||
        s->messages[at].state == ADMISSION_FREE)
        return ADMISSION_NOBODY;
    return at;
}

/* ---- mailboxes ---- */

bool admission_mailbox_put(struct admission_shared *s, uint32_t at)
{
    struct admission_mailbox *box = &s->workers[s->messages[at].worker];
    bool was_pending = box->is_pending;

    s->messages[at].next = box->first;
    box->first = at;
    box->is_pending = true;
    return !was_pending;
}

uint32_t admission_mailbox_take(struct admission_shared *s, unsigned worker)
{
    struct admission_mailbox *box = &s->workers[worker];
    uint32_t at = box->first;

    if (at == ADMISSION_NOBODY) {
        box->is_pending = false;
        return at;
    }
    box->first = s->messages[at].next;
    s->messages[at].is_told = true;
    return at;
}

void admission_mailbox_remove(struct admission_shared *s, uint32_t at)
{
    uint32_t *place = &s->workers[s->messages[at].worker].first;

    while (*place != ADMISSION_NOBODY && *place != at)
        place = &s->messages[*place].next;
    if (*place == at)
        *place = s->messages[at].next;
    s->messages[at].is_told = true;
}
