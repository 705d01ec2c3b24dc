/*
 * The words of the trade: client, envelope, reply, verdict, hook, sink. Pure data and small vtables; nothing
 * here waits, except that the members of the two vtables, mail_hook and mail_sink, may.
 *
 * A session (receive/smtpd) knows who is asked only as hooks, and where accepted mail goes only as a sink;
 * which ones is written in one table, src/run/daemon/daemon_profile.c.
 */
#ifndef MAIL_MAIL_H
#define MAIL_MAIL_H

#include "buf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#define mail_waits /* a vtable member that may wait: call it in a coroutine */

/* ---- identity ---- */

enum { MAIL_ID_SIZE = 32 };

/*
 * One id joins every log line of a message from its MAIL command to the mailbox, names its queue file, and
 * goes to the content filter as XFORWARD IDENT. Two shapes, both of Postfix's alphabet: short
 * ("4F1C065F3A1C201", hex) and long (enable_long_queue_ids: "4fTbZq2VDcz1B", no vowels). Unique on this host
 * as long as its clock does not step back.
 */
void mail_id_setup(unsigned worker, bool is_long); /* worker: 0..255, different in every live process */
void mail_id_new(char id[MAIL_ID_SIZE]);
/* Has the shape of an id of ours, so it may name a file: 6 to 30 letters and digits. */
bool mail_id_is_valid(struct bytes id);
/* When it was given out, in seconds of Unix time, if it has one of these forms; else 0. */
uint64_t mail_id_time(struct bytes id);

/* ---- reply ---- */

/*
 * An SMTP reply, RFC 5321 4.2. Lines of text are separated by '\n'; dsn is repeated on each. With dsn "" the
 * text is another server's, verbatim after the code. A reply given to somebody is his: he sends it or calls
 * deinit.
 */
struct mail_reply {
    int code;     /* 200..599; 0: no reply at all (close without a word) */
    char dsn[12]; /* "2.1.0"; "" for none */
    const char *text;
    char *owned; /* == text when it must be freed: a buffer's memory */
};

struct mail_reply mail_reply(int code, const char *dsn, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* The text is a literal or outlives the reply: no allocation. */
struct mail_reply mail_reply_fixed(int code, const char *dsn, const char *text);
/* The text becomes the reply's; the buffer is empty then. */
struct mail_reply mail_reply_take(int code, const char *dsn, struct buf *text);
void mail_reply_deinit(struct mail_reply *r);
struct mail_reply mail_reply_copy(const struct mail_reply *r);
/* "250 2.1.0 Ok", for the log. '\n' shows as "??", as in Postfix's log. */
void mail_reply_show(struct buf *out, const struct mail_reply *r);
/* The same, owned by ctx. */
char *mail_reply_log(const void *ctx, const struct mail_reply *r);
static inline bool mail_reply_is_ok(const struct mail_reply *r)
{
    return r->code >= 200 && r->code < 400;
}
/* Trouble on our side, told to a stranger: "451 4.3.0 Error: queue file write error". */
struct mail_reply mail_reply_trouble(void);

/* ---- client ---- */

/* What an upstream told with XFORWARD, for logging only; NULL member: unknown ("[UNAVAILABLE]"). */
struct mail_forward {
    const char *name, *addr, *port, *helo, *ident, *proto, *source;
    const char *retry; /* "1": the message `ident` was sent before and not answered for; grows each time */
};
enum { MAIL_RETRY_LIMIT = 9999 };
/* 0: it was not sent before, or nobody says so. */
unsigned mail_forward_retry(const struct mail_forward *f);

/* Is the client still there? For whoever waits for something else on its behalf. */
struct mail_presence {
    /* It closed its side or reset the connection. */
    bool (*has_left)(const struct mail_presence *p);
    /* Calls left(arg), once, from the loop, when it leaves; at once when it has. It may not wait. NULL: no
     * more. */
    void (*watch)(const struct mail_presence *p, void (*left)(void *arg), void *arg);
};

struct mail_client {
    const char *name;         /* verified host name, or "unknown" */
    const char *reverse_name; /* name by PTR alone, or "unknown" */
    const char *addr;         /* "192.0.2.1", "2001:db8::1" */
    const char *port;
    int family;        /* AF_INET, AF_INET6, AF_UNIX */
    bool name_is_temp; /* "unknown" because DNS failed for now */
    bool reverse_is_temp;
    const char *helo;  /* NULL before HELO or EHLO */
    const char *proto; /* "SMTP" or "ESMTP" */
    const char *server_addr, *server_port;
    bool is_local;                        /* matches local_header_rewrite_clients */
    const struct mail_forward *forward;   /* NULL: no XFORWARD in force */
    const struct mail_presence *presence; /* the session's; NULL: nobody can tell */
};

/* The client that logs and queue files should speak of: what XFORWARD told, else the peer itself. */
struct mail_origin {
    const char *name, *addr, *port, *helo, *proto;
};
struct mail_origin mail_client_origin(const struct mail_client *c);

/* ---- envelope ---- */

enum mail_body { MAIL_BODY_7BIT, MAIL_BODY_8BITMIME };
enum mail_notify {
    MAIL_NOTIFY_NEVER = 1,
    MAIL_NOTIFY_SUCCESS = 2,
    MAIL_NOTIFY_FAILURE = 4,
    MAIL_NOTIFY_DELAY = 8
};
enum mail_ret { MAIL_RET_NONE, MAIL_RET_FULL, MAIL_RET_HDRS };

struct mail_rcpt {
    struct bytes command; /* "RCPT TO:<a@b> NOTIFY=NEVER", as the client typed it */
    const char *addr;     /* internal (unquoted) form, "user@domain" */
    unsigned notify;      /* enum mail_notify bits; 0: not given */
    const char *orcpt;    /* "rfc822;a@b" with xtext decoded; NULL: not given */
};

struct mail_text_list {
    const char **at;
    size_t n;
};

/* Which way a message goes when it is complete (receive/admission's ladder decides). */
enum mail_route {
    MAIL_BY_FILTER,
    MAIL_BY_CHEAP_FILTER,
    MAIL_BY_QUEUE, /* queued unscanned, filtered from there */
};
struct admission_ticket;

struct mail_envelope {
    char id[MAIL_ID_SIZE];
    struct bytes command; /* "MAIL FROM:<a@b> SIZE=1", as the client typed it */
    const char *sender;   /* internal form; "" is the null sender */
    uint64_t size;        /* SIZE=, 0: not given */
    enum mail_body body;
    bool has_body; /* BODY= was given */
    bool smtputf8;
    enum mail_ret ret;
    const char *envid;        /* xtext decoded; NULL: not given */
    uint64_t arrived_us;      /* time of day of MAIL */
    uint64_t began_us;        /* clock_us() of MAIL */
    struct mail_rcpt **rcpts; /* those that everyone accepted, in order */
    size_t rcpt_count;

    uint64_t trace_size; /* bytes of header that we put above the content as received */

    /* what hooks decided for the whole message */
    enum mail_route route;
    struct admission_ticket *ticket; /* its place before the filter; NULL: none was asked for */
    const char *hold;                /* reason, or NULL */
    bool discard;
    const char *redirect; /* the only recipient, or NULL */
    const char *filter;   /* "transport:nexthop", or NULL */
    struct mail_text_list bcc;
    struct mail_text_list prepend; /* headers to put above Received, without line end */
};

/* ---- verdict and hook ---- */

enum mail_stage {
    MAIL_AT_CONNECT,
    MAIL_AT_HELO,
    MAIL_AT_MAIL,
    MAIL_AT_RCPT,
    MAIL_AT_DATA,
    MAIL_AT_END_OF_DATA,
    MAIL_AT_VRFY,
    MAIL_AT_ETRN,
};
const char *mail_stage_name(enum mail_stage stage); /* "CONNECT", ..., "END-OF-MESSAGE" */

enum mail_action_kind {
    MAIL_DISCARD,
    MAIL_HOLD,
    MAIL_REDIRECT,
    MAIL_FILTER,
    MAIL_BCC,
    MAIL_PREPEND,
};
struct mail_action {
    enum mail_action_kind kind;
    const char *text; /* reason, address, transport:nexthop or header; NULL when none */
    struct mail_action *next;
};

enum mail_verdict_kind {
    MAIL_PASS,
    MAIL_ANSWER, /* with .reply, 4xx or 5xx; 421 and 521 end the session */
    MAIL_HANGUP, /* close without a word */
};
struct mail_verdict {
    enum mail_verdict_kind kind;
    struct mail_reply reply;
    struct mail_action *actions;     /* in order, for the whole message; memory of the view's ctx */
    enum mail_route route;           /* of the whole message, with a ticket */
    struct admission_ticket *ticket; /* NULL: nothing to say about that; memory of the view's ctx */
    bool accepts_rcpt;               /* this recipient's unlisted check is not wanted (DISCARD, postmaster) */
};

/* Read-only: what a hook may see. Members not known at a stage are NULL. */
struct mail_view {
    void *ctx; /* memory for the verdict's texts; dies with the transaction or command */
    const struct mail_client *client;
    const struct mail_envelope *envelope; /* from MAIL on; sender and parameters are set */
    const struct mail_rcpt *rcpt;         /* RCPT, VRFY */
    const char *etrn_domain;
    uint64_t content_size; /* END_OF_DATA: bytes received */
    const char *log_id;    /* for "ID: reject: ..." lines */
};

/*
 * Who is asked. One hook object serves all sessions of a worker; what it keeps for one session it hangs on
 * `state`. `begin` answers for the connection (stage CONNECT); `end` is always called once after `begin`, may
 * not wait, and frees the state. A failure inside a hook is the hook's to turn into its declared default
 * verdict. Hooks write their own log lines about what they decided, except `reject:`, which the session
 * writes.
 */
struct mail_hook {
    const struct mail_hook_ops *ops;
};
struct mail_hook_ops {
    const char *name;
    mail_waits struct mail_verdict (*begin)(struct mail_hook *h, const struct mail_view *view,
                                            void **state_r);
    mail_waits struct mail_verdict (*ask)(struct mail_hook *h, void *state, enum mail_stage stage,
                                          const struct mail_view *view);
    void (*end)(struct mail_hook *h, void *state);
};

/* ---- sink ---- */

/*
 * What became of the reply to end-of-data. The client has heard it when it goes on talking, or when its host
 * acknowledged the reply before the connection ended in good order; it has not when the connection broke. The
 * session calls settle() once, then frees the receipt, talloc memory that a sink left in mail_sink.receipt.
 * settle() may not wait.
 */
struct mail_receipt {
    void (*settle)(struct mail_receipt *r, bool was_heard);
    bool is_repeated; /* the reply will be told again until it is heard: then a client that is silent with the
                         reply on its host has heard it */
};

/*
 * Where accepted mail goes, for one transaction: begin, recipient..., content_begin, content..., commit; or
 * abort at any point. The sink is talloc memory of the transaction.
 *
 * begin         client and envelope (borrowed until commit or abort returned). 2xx, or why not.
 * recipient     2xx and the recipient is in, or the reply for it. The envelope does not hold it yet.
 * content_begin every recipient is known; 354 or why not.
 * content       a piece; the sink takes it whole. CR LF ends each line; no CR or LF stands alone; no
 * dot-stuffing. After a failure inside, pieces are swallowed and commit tells. commit        the reply to
 * end-of-data: 2xx only when the message is somebody's for good. abort         forget it; never waits long.
 * After commit or abort nothing else is called.
 */
struct mail_sink {
    const struct mail_sink_ops *ops;
    struct mail_receipt *receipt; /* after commit, when the sink wants to know what became of its reply */
};
struct mail_sink_ops {
    const char *name;
    mail_waits struct mail_reply (*begin)(struct mail_sink *s, const struct mail_client *client,
                                          const struct mail_envelope *envelope);
    mail_waits struct mail_reply (*recipient)(struct mail_sink *s, const struct mail_rcpt *rcpt);
    mail_waits struct mail_reply (*content_begin)(struct mail_sink *s);
    mail_waits void (*content)(struct mail_sink *s, struct bytes piece);
    mail_waits struct mail_reply (*commit)(struct mail_sink *s);
    mail_waits void (*abort)(struct mail_sink *s);
};

#endif
