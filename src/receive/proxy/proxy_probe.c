/* Whether an endpoint is there: connect, greeting, QUIT. See proxy_pool.h. */
#include "proxy_pool.h"

#include "clock.h"
#include "mem.h"

/* It outlives the pool that started it. */
struct probe {
    struct io_address address;
    struct proxy_entry *entry;
    struct proxy_rules rules;
    char *text;
};

uint64_t proxy_probe_ms(const struct proxy_rules *rules)
{
    return rules->connect_ms + rules->answer_ms;
}

enum finding { GREETS, FAILS, NOT_ASKED };

static co_fn enum finding ask(struct probe *b)
{
    uint64_t now = clock_ms();
    struct io_stream *stream;
    struct smtp_client *server;
    struct error *e = io_connect(b, &b->address, now + b->rules.connect_ms, &stream);
    bool good;

    if (e != NULL) {
        bool was_asked = !io_connect_had_no_means(e);

        error_free(&e);
        return was_asked ? FAILS : NOT_ASKED;
    }
    server = smtp_client_new(b, stream, b->text);
    good = smtp_client_greeting(server, now + proxy_probe_ms(&b->rules)) == IO_OK &&
           server->reply.code / 100 == 2;
    smtp_client_quit(&server);
    return good ? GREETS : FAILS;
}

static co_fn void run(void *arg)
{
    struct probe *b = arg;
    enum finding found = ask(b);

    if (found == GREETS)
        proxy_note_greeted(b->entry, b->text);
    else if (found == NOT_ASKED || co_is_stopped())
        proxy_note_not_asked(b->entry, &b->rules);
    else
        proxy_note_failed(b->entry, &b->rules, b->text);
    proxy_shared_drop(b->entry);
    talloc_free(b);
}

void proxy_probe_start(const struct proxy *p, const struct proxy_target *t)
{
    struct probe *b = mem_new(NULL, struct probe);

    b->address = t->address;
    b->entry = proxy_shared_hold(t->entry->key);
    b->rules = p->rules;
    b->text = mem_strdup(b, t->text);
    co_spawn(run, b, "proxy probe");
}
