/*
 * Inside access control: compiled lists, one run over them, and what the families of restrictions share.
 *
 * A restriction is a row in its family's table of words. Its function looks at the run (client, envelope, the
 * recipient in question) and ends with permit, reject, or "dunno": go on with the next one.
 */
#ifndef ACCESS_ACCESS_OWN_H
#define ACCESS_ACCESS_OWN_H

#include "access.h"
#include "co.h"
#include "table.h"
#include "table_domains.h"

/* Postfix stops at 100; a level takes some 600 bytes of a coroutine's stack, which has 64 KB for everything.
 */
enum { ACCESS_NESTING_LIMIT = 20, ACCESS_TEXT_LIMIT = 510 };

enum access_end {
    ACCESS_DUNNO,
    ACCESS_PERMIT,
    ACCESS_REJECT, /* run->reply is set */
    ACCESS_HANGUP,
};

/* ---- compiled lists ---- */

struct access_run;
struct access_step;

enum access_arg {
    ACCESS_NO_ARG,
    ACCESS_TABLE_ARG,
    ACCESS_NUMBER_ARG,
    ACCESS_NOT_HERE, /* Postfix's, not in this version */
};

struct access_word {
    const char *name;
    enum access_arg arg;
    co_fn enum access_end (*run)(struct access_run *r, const struct access_step *step);
    bool stops_relay; /* one of these must be in the relay or recipient list */
};

struct access_list {
    const char *name;
    struct access_step *at;
    size_t n;
    bool was_seen; /* by access_list_stops_relay */
};

struct access_step {
    const struct access_word *word;
    bool only_warns; /* warn_if_reject stands before it */
    struct table *table;
    uint64_t number;
    struct access_list *list; /* a restriction class */
};

/* Each ends with a row without name. */
extern const struct access_word access_generic_words[], access_client_words[], access_helo_words[],
    access_address_words[], access_destination_words[], access_words_not_here[];

enum access_place {
    ACCESS_CLIENT,
    ACCESS_HELO,
    ACCESS_SENDER,
    ACCESS_RELAY,
    ACCESS_RECIPIENT,
    ACCESS_DATA,
    ACCESS_END_OF_DATA,
    ACCESS_ETRN,
    ACCESS_PLACES,
};

/* The hook. */
struct access {
    struct mail_hook hook;
    const struct conf *conf;
    bool is_proxied, delays, relay_first, lists_rcpt, lists_sender, tells_table, trusts_routes, parents;
    const char *delimiter, *null_sender, *myorigin;
    struct table_list *mynetworks, *logs_permit;
    struct table_domains *domains;
    struct access_list lists[ACCESS_PLACES];
    struct access_list *classes;
    size_t class_count;
};

/*
 * Compiles text into *list (memory of ctx). check: the word that a bare type:table means in this list, or
 * NULL. at_run: the text came from a table: tables are not allowed in it.
 */
struct error *access_list_compile(const void *ctx, const struct access *a, const char *text,
                                  const char *check, bool at_run, struct access_list *list);
/* Refuses strangers for certain, as far as a look at the words can tell. Once, at open. */
bool access_list_stops_relay(struct access_list *list);

/* ---- one run: what is asked at one stage ---- */

struct access_deferral {
    bool is_active;
    char dsn[12];
    char *text; /* owned by who holds the struct */
};

struct access_run {
    const struct access *a;
    const struct mail_view *view;
    enum mail_stage stage;
    const char *sender;      /* NULL: not known yet */
    const char *rcpt;        /* with domain; NULL: not known, or several */
    const char *what;        /* "unknown[192.0.2.1]", in "<what>: CLASS rejected" */
    const char *class_name;  /* "Client host" */
    const char *client_what; /* NULL: nobody asked yet */
    unsigned nesting, warning;
    struct access_deferral if_permit, if_reject;
    struct mail_reply reply;
    struct mail_action *actions, **actions_end;
    bool discards, rcpt_checked, sender_checked;
};

co_fn enum access_end access_list_run(struct access_run *r, const struct access_list *list);

/* The answer "CODE DSN TEXT", or, below warn_if_reject, its log line and ACCESS_DUNNO. */
enum access_end access_reject(struct access_run *r, int code, const char *dsn, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
/* "451 4.3.5 Server configuration error"; the reason was logged. */
enum access_end access_reject_conf(struct access_run *r);
/* "451 4.3.0 <what>: Temporary lookup failure". */
enum access_end access_reject_lookup(struct access_run *r, const char *what);
enum access_end access_defer_if_permit(struct access_run *r, const char *dsn, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
enum access_end access_defer_if_reject(struct access_run *r, const char *dsn, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* ACCESS_PERMIT, with its log line when smtpd_log_access_permit_actions wants it. table: where from, or NULL.
 */
co_fn enum access_end access_permit(struct access_run *r, const char *action, const char *what,
                                    const char *class_name, const char *table);
/* "ID: WORD: STAGE from NAME[ADDR]: TEXT; from=<S> to=<R> proto=P helo=<H>". */
void access_log(struct access_run *r, const char *word, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
void access_add_action(struct access_run *r, enum mail_action_kind kind, const char *text);
/* The enhanced code that fits the class: 5.1.1 said of a sender becomes 5.1.0. Buffer of the caller. */
void access_dsn_fix(const char *dsn, const char *class_name, char out[12]);

/* ---- tables ---- */

/* What is looked up, and as what it is spoken of. */
struct access_subject {
    struct table *table;
    const char *what;
    const char *class_name;
    bool found; /* a key was in the table, DUNNO too: no further key is asked */
};
co_fn enum access_end access_table_host(struct access_run *r, struct access_subject *s, const char *name);
co_fn enum access_end access_table_addr(struct access_run *r, struct access_subject *s, const char *addr);
co_fn enum access_end access_table_mail(struct access_run *r, struct access_subject *s, const char *address);
/* What a table's value asks for. */
co_fn enum access_end access_action(struct access_run *r, const struct access_subject *s, const char *key,
                                    const char *value);

/* ---- pieces of several families ---- */

const char *access_client_what(struct access_run *r); /* "NAME[ADDR]" */
/* The unlisted checks, reject_unlisted_sender and _recipient. */
co_fn enum access_end access_unlisted_rcpt(struct access_run *r);
co_fn enum access_end access_unlisted_sender(struct access_run *r);

extern const char access_class_client[], access_class_helo[], access_class_sender[], access_class_rcpt[];

#endif
