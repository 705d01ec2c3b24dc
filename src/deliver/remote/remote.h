/* For this folder: the agent's settings, where to connect, and one conversation. */
#ifndef DELIVER_REMOTE_REMOTE_H
#define DELIVER_REMOTE_REMOTE_H

#include "remote_agent.h"
#include "smtp.h"

/* ---- settings, read once a service ---- */

struct remote_agent {
    struct deliver_agent agent;
    const char *myhostname, *helo_name;
    uint64_t connect_ms, helo_ms, xforward_ms, mail_ms, rcpt_ms, data_init_ms, data_xfer_ms, data_done_ms;
    long address_limit, session_limit; /* 0: none */
    size_t line_limit;                 /* 0: none */
    unsigned discard;                  /* enum smtp_feature bits not to use */
    int family;                        /* AF_UNSPEC, AF_INET, AF_INET6 */
    bool sends_xforward, skips_5xx_greeting;
};

/* ---- where to ---- */

struct remote_target {
    char *host;    /* without brackets */
    char *service; /* port number or name */
    bool wants_mx;
};
/* One item of a next hop. False: malformed. */
bool remote_target_parse(const void *ctx, const char *text, struct remote_target *out_r);

struct remote_host {
    char *name;
    struct io_address address;
    unsigned preference;
};
struct remote_hosts {
    struct remote_host *at;
    size_t n;
};
/* The addresses to try, in order. False: *why_r says what the recipients' result is. */
co_fn bool remote_hosts_find(const void *ctx, const struct remote_agent *a,
                             const struct remote_target *target, struct remote_hosts *hosts_r,
                             struct deliver_result *why_r);
/* Pure: cuts a list (in order of preference) before the first host that is as far away as this one itself.
 * False: nothing is left. is_me tells about each. */
bool remote_hosts_cut_loop(struct remote_hosts *hosts, const bool *is_me);

/* ---- one delivery, and one conversation of it ---- */

struct remote_delivery {
    const struct remote_agent *agent;
    const void *ctx;
    const struct deliver_request *request;
    struct deliver_result *results;
    bool *is_final;             /* this recipient is not tried elsewhere in this attempt */
    bool *is_answered;          /* has a result of its own */
    struct deliver_result site; /* the last failure of a whole server; text NULL: none yet */
    struct io_stream *stream;   /* of the conversation */
};

/* Results and what is final; the stream is taken. */
co_fn void remote_session(struct remote_delivery *d, const struct remote_host *host);

/* MAIL and RCPT (RFC 5321, 1870, 6152, 6531, 3461) without line end, with what `features` of the server
 * allow. */
void remote_format_mail(struct buf *line, const struct queue_envelope *env, unsigned features);
void remote_format_rcpt(struct buf *line, const struct queue_rcpt *rcpt, unsigned features);
/* A reply as the log and a bounce show it ("550-5.1.1 one 550 5.1.1 two"), and its enhanced code. */
char *remote_reply_text(const void *ctx, const struct smtp_client *c);
void remote_reply_dsn(const struct smtp_client *c, char dsn_r[12]);

/* The content, dots stuffed and long lines broken, up to the end of data. An error: the queue file could not
 * be read; *end_r: what became of the connection. */
co_fn struct error *remote_content_send(const struct remote_delivery *d, struct io_stream *s,
                                        enum io_end *end_r);
/* The sender, a recipient or the content's header holds 8-bit text. */
bool remote_content_needs_utf8(const struct deliver_request *request);

#endif
