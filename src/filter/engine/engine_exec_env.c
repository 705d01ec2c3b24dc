/*
 * What a filter program is told of the envelope: environment variables, and only these. Addresses reach it as
 * values here, never as arguments or through a shell, and without control characters (hardening: argument
 * injection).
 */
#include "engine_exec_private.h"
#include "mem.h"

struct env {
    char **at;
    size_t n;
    void *ctx;
};

static void add_bytes(struct env *e, const char *name, struct bytes value)
{
    char *text = mem_printf(e->ctx, "%s=%.*s", name, BYTES_FMT(value));

    for (char *p = text; *p != '\0'; p++)
        if ((unsigned char)*p < 32 || *p == 127)
            *p = '?';
    e->at = mem_grow(e->ctx, e->at, e->n + 2);
    e->at[e->n++] = text;
    e->at[e->n] = NULL;
}

static void add(struct env *e, const char *name, const char *value)
{
    if (value != NULL)
        add_bytes(e, name, bytes_of(value));
}

static void add_number(struct env *e, const char *name, uint64_t value)
{
    char text[32];

    snprintf(text, sizeof(text), "%llu", (unsigned long long)value);
    add(e, name, text);
}

/* RECIPIENT_1... always; RECIPIENTS, one a line, as long as it fits. */
static void add_recipients(struct env *e, const struct mail_envelope *envelope)
{
    struct buf all = {0};
    char name[32];

    add_number(e, "RECIPIENT_COUNT", envelope->rcpt_count);
    for (size_t i = 0; i < envelope->rcpt_count; i++) {
        const char *addr = envelope->rcpts[i]->addr;

        snprintf(name, sizeof(name), "RECIPIENT_%zu", i + 1);
        add(e, name, addr);
        if (all.n <= ENGINE_EXEC_RECIPIENTS_SIZE)
            buf_addf(&all, "%s%s", i > 0 ? "\n" : "RECIPIENTS=", e->at[e->n - 1] + strlen(name) + 1);
    }
    if (all.n > 0 && all.n <= ENGINE_EXEC_RECIPIENTS_SIZE) {
        e->at = mem_grow(e->ctx, e->at, e->n + 2);
        e->at[e->n++] = mem_strdup(e->ctx, buf_text(&all));
        e->at[e->n] = NULL;
    }
    buf_deinit(&all);
}

char **engine_exec_env(const struct engine_input *in)
{
    struct env e = {.ctx = in->ctx};
    struct mail_origin o = mail_client_origin(in->client);

    add(&e, "PATH", "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin");
    add(&e, "LC_ALL", "C");
    add(&e, "QUEUE_ID", in->envelope->id);
    add(&e, "SENDER", in->envelope->sender);
    add_recipients(&e, in->envelope);
    add(&e, "CLIENT_ADDRESS", o.addr);
    add(&e, "CLIENT_NAME", o.name);
    add(&e, "CLIENT_PORT", o.port);
    add(&e, "HELO", o.helo != NULL ? o.helo : "");
    add(&e, "PROTOCOL", o.proto);
    add_number(&e, "MESSAGE_SIZE", io_spool_size(in->content));
    add(&e, "BODY", in->envelope->body == MAIL_BODY_8BITMIME ? "8BITMIME" : "7BIT");
    add(&e, "SMTPUTF8", in->envelope->smtputf8 ? "yes" : "no");
    return e.at;
}
