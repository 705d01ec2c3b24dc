/*
 * Engines of the content filter: what looks into a message that was received whole, and says what becomes of
 * it.
 *
 * An engine is opened once a worker and serves all its transactions. It is given client, envelope and
 * content, all read-only, and fills a result: let pass, answer with a reply, or discard; and beside a pass:
 * changed content, hold, redirect, send elsewhere, further recipients. Which engines run, and in which order,
 * says filter_engines. What an engine did is logged by the engine itself (engine_log), in the shape of
 * Postfix's cleanup; scan acts on the result.
 */
#ifndef FILTER_ENGINE_H
#define FILTER_ENGINE_H

#include "bytes.h"
#include "co.h"
#include "conf.h"
#include "error.h"
#include "io_spool.h"
#include "mail.h"

struct engine_input {
    void *ctx; /* memory of the transaction: for the result and for what it takes */
    const struct mail_client *client;
    const struct mail_envelope *envelope; /* with every accepted recipient */
    struct io_spool *content;             /* CR LF ends each line; nobody else reads it meanwhile */
};

enum engine_outcome {
    ENGINE_PASS,
    ENGINE_REPLY,   /* .reply, 4xx or 5xx, to the client; the message goes nowhere */
    ENGINE_DISCARD, /* the client is told that all is well; the message goes nowhere */
};

/* Zeroed memory is "pass unchanged". Texts live as long as the input's ctx. The reply is its taker's. */
struct engine_result {
    enum engine_outcome outcome;
    struct mail_reply reply;
    struct io_spool *changed;  /* the content to pass on instead, or NULL */
    const char *hold;          /* to the hold queue, and why; NULL: no */
    const char *redirect;      /* the only recipient, internal form; NULL: no */
    const char *filter;        /* send elsewhere, "transport:nexthop"; NULL: no */
    struct mail_text_list bcc; /* more recipients, internal form; array owned by the input's ctx */
};
enum { ENGINE_BCC_LIMIT = 1000 };
/* A copy of the address, once however often it is added. False: ENGINE_BCC_LIMIT different ones are there
 * already. */
bool engine_result_add_bcc(void *ctx, struct engine_result *r, const char *addr);
/* The result is this reply from now on. */
void engine_result_reply(struct engine_result *r, struct mail_reply reply);

struct engine {
    const struct engine_ops *ops;
};
struct engine_ops {
    const char *name; /* as in filter_engines */
    /* Whether the engine runs when filter_engines is empty. */
    bool (*is_wanted)(const struct conf *conf);
    /* `spool` is for changed content and outlives the engine. Faults name the parameter. */
    struct error *(*open)(const void *ctx, const struct conf *conf, const struct io_spool_conf *spool,
                          struct engine **engine_r);
    /* *out is zeroed. Trouble of the engine's own is its reply 451 4.3.0 and a log line of its own. */
    co_fn void (*scan)(struct engine *e, const struct engine_input *in, struct engine_result *out);
};

/* The registry, ended by NULL. */
extern const struct engine_ops *const engine_registry[];
extern const struct engine_ops engine_checks_ops; /* engine_checks_scan.c */
extern const struct engine_ops engine_exec_ops;   /* engine_exec.c */

/* ---- the engines of a service, in order ---- */

struct engine_set;
/* As filter_engines says. An unknown name is an ERROR_CONF that lists the known ones. Borrows conf. */
struct error *engine_set_open(const void *ctx, const struct conf *conf, struct engine_set **set_r);
size_t engine_set_count(const struct engine_set *set);
const struct io_spool_conf *engine_set_spool(const struct engine_set *set);
/*
 * Runs them. Each sees the content as the one before left it; the first that does not pass ends it. Of
 * several holds the first counts, of several redirects and filters the last, as in Postfix's tables.
 */
co_fn void engine_set_scan(struct engine_set *set, const struct engine_input *in, struct engine_result *out);

/* ---- the log ---- */

enum { ENGINE_LOG_TEXT = 200 }; /* most bytes of a header or body line in the log */

/*
 * "ID: ACTION: PART TEXT from NAME[ADDR]; from=<s> to=<r> proto=P helo=<h>: WHY", the client being the
 * original one. TEXT is cut to ENGINE_LOG_TEXT; empty text and NULL or empty `why` are left out. <r> is the
 * last recipient.
 */
void engine_log(const struct mail_client *client, const struct mail_envelope *envelope, const char *action,
                const char *part, struct bytes text, const char *why);

/* ---- texts that become replies ---- */

enum { ENGINE_REPLY_TEXT = 400 }; /* most bytes of reply text; a reply line has 512 */

/*
 * The enhanced status code at the start of the text ("4.7.1 go away"), class 4 or 5: copied to dsn, removed
 * from *text together with the blanks after it. False, and nothing changed, when there is none.
 */
bool engine_take_dsn(struct bytes *text, char dsn[12]);
/* Cut to ENGINE_REPLY_TEXT, anything but printable ASCII as '?', blanks at the ends removed. Owned by ctx. */
char *engine_clean_text(const void *ctx, struct bytes text);
/* Something that may stand in an envelope: local part, '@', domain; no blanks, controls, brackets. */
bool engine_is_address(struct bytes text);

#endif
