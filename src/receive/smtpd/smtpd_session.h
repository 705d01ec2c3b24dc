/*
 * Inside the SMTP server's session: what its files share. Commands return their reply; the loop in
 * smtpd_session.c sends it.
 */
#ifndef SMTPD_SMTPD_SESSION_H
#define SMTPD_SMTPD_SESSION_H

#include "smtp.h"
#include "smtpd.h"
#include "table.h"

struct smtpd_conf {
    char *myhostname, *mail_name, *banner;
    uint64_t timeout_ms;         /* smtpd_timeout: a command, or the next piece of content */
    uint64_t min_data_rate;      /* bytes a second that content must come with on the whole, in chunks too */
    uint64_t message_size_limit; /* bytes; 0: none */
    size_t line_length_limit;
    long recipient_limit, recipient_overshoot_limit;
    long soft_error_limit, hard_error_limit, junk_command_limit;
    uint64_t error_sleep_ms;
    bool is_helo_required, is_vrfy_disabled, is_strict, is_soft_bounce, opens_at_mail, forbids_pipelining;
    enum smtp_bare_newline bare_newline;
    int bare_newline_code;
    struct table_list *bare_newline_exclusions;
    struct table_list *xforward_hosts;
    struct table_list *forbidden_commands;
    struct table_list *noop_commands;
    struct table_maps discard_maps; /* smtpd_discard_ehlo_keyword_address_maps */
    unsigned features;              /* that we have, without those discarded for everybody */
    unsigned discarded;
};

/* Where the first lines of a content, which are guarded, have come to. */
enum smtpd_top {
    SMTPD_TOP_BEGINS, /* a line */
    SMTPD_TOP_INSIDE, /* a "From " line */
    SMTPD_TOP_PAST,
};

/* A transaction: from MAIL until its end-of-data reply, RSET, or the session's end. One talloc context. */
struct smtpd_tx {
    struct mail_envelope envelope;
    size_t rcpt_room;
    long rcpt_refused;      /* over the recipient limit */
    struct mail_sink *sink; /* NULL: not begun */
    bool sink_is_done;      /* committed or aborted: it may not be called any more */
    bool is_content_begun;
    uint64_t content_since;          /* clock_ms() at that time */
    struct mail_reply begin_failure; /* code 0: none; else every later recipient gets it */
    struct smtp_data_decoder decoder;
    enum smtpd_top top;
    uint64_t content_size;
    bool is_too_big;
    bool is_bdat;
    struct mail_reply bdat_failure; /* code 0: none; else chunks are thrown away */
    long small_chunks;
};

enum smtpd_verb {
    SMTPD_EHLO,
    SMTPD_HELO,
    SMTPD_STARTTLS,
    SMTPD_AUTH,
    SMTPD_XFORWARD,
    SMTPD_MAIL,
    SMTPD_RCPT,
    SMTPD_DATA,
    SMTPD_BDAT,
    SMTPD_RSET,
    SMTPD_NOOP,
    SMTPD_VRFY,
    SMTPD_ETRN,
    SMTPD_HELP,
    SMTPD_QUIT,
    SMTPD_UNKNOWN,
    SMTPD_VERBS,
};

/* How a session ends, for the log. */
enum smtpd_leave {
    SMTPD_STAYS,
    SMTPD_QUITS, /* in good order: nothing more to log */
    SMTPD_LOST,  /* the client is gone */
    SMTPD_TIMED_OUT,
    SMTPD_DISMISSED, /* we end it after this reply */
    SMTPD_HUNG_UP,   /* we end it without a reply */
};

struct smtpd_session {
    const struct smtpd_profile *profile;
    const struct smtpd_conf *conf;
    struct io_stream *stream;
    struct mail_client *client;
    void **hook_states;
    size_t hooks_begun;
    struct smtpd_tx *tx;
    void *command;                /* memory of the present command: emptied after each */
    struct buf wire;              /* the reply on its way into the stream */
    struct buf content;           /* ours, then what was decoded, on its way to the sink */
    struct mail_forward *forward; /* with its texts, as long as XFORWARD is in force; else NULL */
    signed char may_xforward;     /* -1: not looked up yet */
    char next_id[MAIL_ID_SIZE];   /* of the next transaction, when something was logged before it */
    struct mail_reply denied;     /* a CONNECT verdict that stands for the whole session; code 0: none */
    unsigned features;            /* announced to this client */
    unsigned short ok[SMTPD_VERBS], total[SMTPD_VERBS];
    long errors, junk;
    bool has_told_early;  /* the log: of a client that does not wait for replies */
    enum smtpd_verb verb; /* of the present or last command */
    struct mail_presence presence;
    struct mail_receipt *receipt; /* of the last message, until it is known whether its reply was heard */
    const char *where;            /* "CONNECT", "RCPT", "DATA", "END-OF-MESSAGE": for the log */
    uint64_t where_bytes;         /* of content, when it was lost inside */
    enum smtpd_leave leave;
};

/* ---- one file per command ---- */

struct mail_reply smtpd_cmd_ehlo(struct smtpd_session *s, const struct smtp_line *line);
struct mail_reply smtpd_cmd_helo(struct smtpd_session *s, const struct smtp_line *line);
struct mail_reply smtpd_cmd_auth(struct smtpd_session *s, const struct smtp_line *line);
struct mail_reply smtpd_cmd_xforward(struct smtpd_session *s, const struct smtp_line *line);
struct mail_reply smtpd_cmd_mail(struct smtpd_session *s, const struct smtp_line *line);
struct mail_reply smtpd_cmd_rcpt(struct smtpd_session *s, const struct smtp_line *line);
struct mail_reply smtpd_cmd_data(struct smtpd_session *s, const struct smtp_line *line);
struct mail_reply smtpd_cmd_bdat(struct smtpd_session *s, const struct smtp_line *line);
struct mail_reply smtpd_cmd_rset(struct smtpd_session *s, const struct smtp_line *line);
struct mail_reply smtpd_cmd_noop(struct smtpd_session *s, const struct smtp_line *line);
struct mail_reply smtpd_cmd_vrfy(struct smtpd_session *s, const struct smtp_line *line);
struct mail_reply smtpd_cmd_help(struct smtpd_session *s, const struct smtp_line *line);
struct mail_reply smtpd_cmd_quit(struct smtpd_session *s, const struct smtp_line *line);

/* ---- smtpd_command.c ---- */

enum smtpd_verb smtpd_command_verb(struct bytes word);
const char *smtpd_command_name(enum smtpd_verb v); /* in log lines and on the wire */
const char *smtpd_command_stat(enum smtpd_verb v); /* in the disconnect line */
/* The reply to the command, of s->verb. */
co_fn struct mail_reply smtpd_command_run(struct smtpd_session *s, const struct smtp_line *line);
/*
 * RFC 2920: a client that sends on without waiting where it must wait, for the greeting first of all, speaks
 * as if nobody listened. Asked where it must. True: it is sent away, with *why_r. Enforced for all: a filter
 * or a smuggler behind an honest client is the case this is for.
 */
bool smtpd_command_is_out_of_step(struct smtpd_session *s, struct mail_reply *why_r);

/* ---- smtpd_session.c ---- */

/* Puts a reply into the stream (soft_bounce, error counting, transcript) and frees it. False: the client is
 * gone. */
co_fn bool smtpd_send(struct smtpd_session *s, struct mail_reply *r);
co_fn bool smtpd_flush(struct smtpd_session *s);
/* The end of a read or write: what the session does about it. */
void smtpd_stream_ended(struct smtpd_session *s, enum io_end end);
/* The id for log lines now: the transaction's, or the one the next transaction will have. */
const char *smtpd_log_id(struct smtpd_session *s);
/* "name[address]". */
char *smtpd_client_text(struct smtpd_session *s);
/* May this client use XFORWARD? Looked up once a session. */
co_fn bool smtpd_may_xforward(struct smtpd_session *s);

/* ---- smtpd_gate.c: asking the hooks ---- */

/* True: everyone passes. False: *why_r is the reply to send (code 0: hang up without one). */
co_fn bool smtpd_gate_connect(struct smtpd_session *s, struct mail_reply *why_r);
co_fn bool smtpd_gate(struct smtpd_session *s, enum mail_stage stage, const struct mail_rcpt *rcpt,
                      struct mail_reply *why_r);
/* The `reject:` line of a refusal that no hook made. */
void smtpd_gate_log_reject(struct smtpd_session *s, enum mail_stage stage, const struct mail_reply *why);
void smtpd_gate_end(struct smtpd_session *s);

/* ---- smtpd_receipt.c: is the client there, and has it heard? ---- */

void smtpd_presence_begin(struct smtpd_session *s);
/* After commit. */
void smtpd_receipt_take(struct smtpd_session *s, struct mail_sink *sink);
/* next: how the read after the reply to end-of-data, or the sending of it, ended. Without a receipt: nothing.
 */
co_fn void smtpd_receipt_settle(struct smtpd_session *s, enum io_end next);
/* The reply was sent a while ago, and nothing came since. */
void smtpd_receipt_settle_silent(struct smtpd_session *s);

/* ---- smtpd_tx.c: the transaction ---- */

struct smtpd_tx *smtpd_tx_new(struct smtpd_session *s);
/* Opens the sink unless it is open; the reply when that failed, code 0 otherwise. */
co_fn struct mail_reply smtpd_tx_open_sink(struct smtpd_session *s);
/* Asks the sink for one more recipient, which joins the envelope when the answer is 2xx. */
co_fn struct mail_reply smtpd_tx_add_rcpt(struct smtpd_session *s, const struct mail_rcpt *rcpt);
/* The one place where a transaction ends; aborts the sink if it was not committed. Without one: nothing. */
co_fn void smtpd_tx_end(struct smtpd_session *s);

/* ---- smtpd_content.c: content on its way to the sink, the same for DATA and BDAT ---- */

/* Hooks at DATA, the sink's content_begin, the headers we add. 354, or why not. */
co_fn struct mail_reply smtpd_content_begin(struct smtpd_session *s);
/* What s->content holds goes to the sink, counted; what smtpd_content_guard_top makes wait stays. */
co_fn void smtpd_content_pass(struct smtpd_session *s);
/* End of data: hooks, then commit. The transaction is over when it returns. */
co_fn struct mail_reply smtpd_content_commit(struct smtpd_session *s);
/* Until when content must have come: grows with what has come, at the least rate allowed. */
uint64_t smtpd_content_deadline(const struct smtpd_session *s, uint64_t since, uint64_t received);
/* Most bytes of content now; UINT64_MAX: no limit. A message that another server of the chain passed on has
 * that server's headers on top of what its client was allowed. */
uint64_t smtpd_content_limit(const struct smtpd_session *s);
/* True when more was sent after the limit than anybody will read: the session must end. */
bool smtpd_content_is_endless(const struct smtpd_session *s);

/* ---- smtpd_content_top.c: the first lines of a content ---- */

/* Guards them in s->content. How many bytes at its end must wait for what follows. */
size_t smtpd_content_guard_top(struct smtpd_session *s);

#endif
