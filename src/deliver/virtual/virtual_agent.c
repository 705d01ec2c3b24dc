/*
 * virtual(8): where a recipient's mailbox is, whose it is, and what became of the attempt. See
 * virtual_agent.h.
 *
 * A bounce shows its text to a stranger, so texts name no file; the log's warning does.
 */
#include "virtual_agent.h"

#include "clock.h"
#include "log.h"
#include "mail_address.h"
#include "mem.h"
#include "table.h"
#include "virtual_mailbox.h"

#include <errno.h>
#include <fcntl.h>
#include <time.h>
#include <unistd.h>

enum { JOB_TIMEOUT_MS = 600 * 1000 };

struct virtual_agent {
    struct deliver_agent agent;
    const char *base, *delimiter;
    char *host; /* for maildir names: '/' and ':' escaped */
    struct table_maps mailboxes, uids, gids;
    uint64_t limit, lock_delay_ms, stale_ms;
    long lock_attempts, minimum_uid;
    unsigned locks;
    bool strict_owner, shows_orig;
};

/* One recipient on its way. */
struct attempt {
    const struct virtual_agent *agent;
    const struct deliver_request *request;
    const struct queue_rcpt *rcpt;
    const void *ctx;
    struct deliver_result *result;
};

static void give(struct attempt *t, enum deliver_status status, const char *dsn, const char *text)
{
    deliver_result_set(t->ctx, t->result, status, dsn, t->request->transport, "%s", text);
}

/* Our configuration is wrong: the mail waits until it is right, and the log says what to mend. */
static bool misconfigured(struct attempt *t, const char *why)
{
    log_warn("%s: recipient %s: %s", t->request->envelope->id, t->rcpt->addr, why);
    give(t, DELIVER_DEFERRED, "4.3.5", "mail system configuration error");
    return false;
}

static bool has_dot_dot(struct bytes path)
{
    struct bytes part;

    while (path.n > 0) {
        part = bytes_cut(&path, '/');
        if (bytes_eq(part, BYTES("..")))
            return true;
    }
    return false;
}

/* A table may build the path from the address; the address must not lead it out of the base. */
static bool check_path(struct attempt *t, const char *value)
{
    if (*value == '\0')
        return misconfigured(t, "empty path in virtual_mailbox_maps");
    if (!has_dot_dot(bytes_of(value)))
        return true;
    if (strstr(t->rcpt->addr, "..") == NULL)
        return misconfigured(t, "\"..\" in the path of virtual_mailbox_maps");
    log_warn("%s: recipient %s: the address would lead out of virtual_mailbox_base", t->request->envelope->id,
             t->rcpt->addr);
    give(t, DELIVER_BOUNCED, "5.1.3", "bad address syntax");
    return false;
}

static co_fn bool find_mailbox(struct attempt *t, char **value_r)
{
    const struct virtual_agent *a = t->agent;

    if (*a->base == '\0')
        return misconfigured(t, "virtual_mailbox_base is empty");
    switch (
        table_maps_find_address(&a->mailboxes, t->ctx, t->rcpt->addr, a->delimiter, false, value_r, NULL)) {
    case TABLE_FOUND:
        return check_path(t, *value_r);
    case TABLE_ABSENT:
        deliver_result_set(t->ctx, t->result, DELIVER_BOUNCED, "5.1.1", t->request->transport,
                           "unknown user: \"%s\"", t->rcpt->addr);
        return false;
    case TABLE_FAILED:
        break;
    }
    give(t, DELIVER_DEFERRED, "4.3.5", "mailbox table lookup failure");
    return false;
}

static co_fn bool find_id(struct attempt *t, const struct table_maps *maps, const char *param, uint64_t *id_r)
{
    char *value;

    switch (table_maps_find_address(maps, t->ctx, t->rcpt->addr, t->agent->delimiter, false, &value, NULL)) {
    case TABLE_FOUND:
        if (bytes_to_u64(bytes_of(value), UINT32_MAX - 1, id_r))
            return true;
        return misconfigured(t, mem_printf(t->ctx, "bad value \"%s\" in %s", value, param));
    case TABLE_ABSENT:
        return misconfigured(t, mem_printf(t->ctx, "not found in %s", param));
    case TABLE_FAILED:
        break;
    }
    give(t, DELIVER_DEFERRED, "4.3.5", "mailbox table lookup failure");
    return false;
}

static co_fn bool find_owner(struct attempt *t, struct virtual_job *job)
{
    uint64_t uid, gid;

    if (geteuid() != 0)
        return true;
    if (!find_id(t, &t->agent->uids, "virtual_uid_maps", &uid) ||
        !find_id(t, &t->agent->gids, "virtual_gid_maps", &gid))
        return false;
    if (uid < (uint64_t)t->agent->minimum_uid || uid == 0)
        return misconfigured(
            t, mem_printf(t->ctx, "user id %u of virtual_uid_maps is below virtual_minimum_uid = %ld",
                          (unsigned)uid, t->agent->minimum_uid));
    if (gid == 0)
        return misconfigured(t, "group id 0 in virtual_gid_maps");
    job->uid = (uid_t)uid;
    job->gid = (gid_t)gid;
    job->is_other_user = true;
    job->checks_owner = t->agent->strict_owner;
    return true;
}

static char *from_line(const void *ctx, const char *sender)
{
    time_t now = (time_t)(clock_real_us() / 1000000);
    struct tm tm;
    char date[32];

    localtime_r(&now, &tm);
    strftime(date, sizeof(date), "%a %b %e %H:%M:%S %Y", &tm);
    return mem_printf(ctx, "From %s  %s", *sender ? sender : "MAILER-DAEMON", date);
}

static char *head_lines(const void *ctx, const struct attempt *t)
{
    struct buf head = {0};
    char *text;

    buf_adds(&head, "Return-Path: <");
    mail_address_quote(&head, t->request->envelope->sender);
    buf_adds(&head, ">\n");
    if (t->agent->shows_orig) {
        buf_adds(&head, "X-Original-To: ");
        mail_address_quote(&head, t->rcpt->orig ? t->rcpt->orig : t->rcpt->addr);
        buf_addc(&head, '\n');
    }
    buf_adds(&head, "Delivered-To: ");
    mail_address_quote(&head, t->rcpt->addr);
    buf_addc(&head, '\n');
    text = mem_strdup(ctx, buf_text(&head));
    buf_deinit(&head);
    return text;
}

static struct virtual_job *make_job(const struct attempt *t, const char *mailbox)
{
    const struct virtual_agent *a = t->agent;
    struct virtual_job *job = virtual_job_new(NULL);
    size_t n = strlen(mailbox);

    job->fd = fcntl(t->request->fd, F_DUPFD_CLOEXEC, 3);
    job->content_offset = t->request->envelope->content_offset;
    job->content_size = t->request->envelope->content_size;
    job->is_maildir = n > 0 && mailbox[n - 1] == '/';
    while (n > 0 && mailbox[n - 1] == '/')
        n--;
    job->path = mem_printf(job, "%s/%.*s", a->base, (int)n, mailbox);
    job->from = from_line(job, mail_address_external(job, t->request->envelope->sender));
    job->head = head_lines(job, t);
    job->delivered_to = mail_address_external(job, t->rcpt->addr);
    job->host = mem_strdup(job, a->host);
    job->limit = a->limit;
    job->locks = a->locks;
    job->stale_us = a->stale_ms * 1000;
    return job;
}

/* What an administrator or time can mend waits; the rest bounces (virtual(8) of the facts, section 5). */
static void give_failure(struct attempt *t, const struct virtual_job *job)
{
    const char *what = job->is_maildir ? "maildir" : "mailbox";
    const char *dsn = "5.2.0";

    switch (job->code) {
    case EDQUOT:
    case EFBIG:
        dsn = "5.2.2";
        break;
    case ENOSPC:
    case ENOMEM:
    case EMFILE:
    case ENFILE:
    case EROFS:
    case EIO:
        dsn = "4.3.0";
        break;
    case EAGAIN:
    case ESTALE:
    case EINTR:
    case EEXIST:
    case ENOENT:
    case EACCES:
    case EPERM:
    case EISDIR:
    case ENOTDIR:
    case ELOOP:
        dsn = "4.2.0";
        break;
    default:
        break;
    }
    log_warn("%s: %s %s: cannot %s: %s", t->request->envelope->id, what, job->path, job->step,
             strerror(job->code));
    deliver_result_set(t->ctx, t->result, *dsn == '4' ? DELIVER_DEFERRED : DELIVER_BOUNCED, dsn,
                       t->request->transport, "%s delivery failed: %s", what, strerror(job->code));
}

static void give_end(struct attempt *t, const struct virtual_job *job)
{
    switch (job->end) {
    case VIRTUAL_DELIVERED:
        give(t, DELIVER_SENT, "2.0.0", job->is_maildir ? "delivered to maildir" : "delivered to mailbox");
        return;
    case VIRTUAL_LOCKED:
        give(t, DELIVER_DEFERRED, "4.2.0", "the mailbox is locked by another program");
        return;
    case VIRTUAL_LOOP:
        deliver_result_set(t->ctx, t->result, DELIVER_BOUNCED, "5.4.6", t->request->transport,
                           "mail forwarding loop for %s", t->rcpt->addr);
        return;
    case VIRTUAL_FULL:
        give(t, DELIVER_BOUNCED, "5.2.2", "the mailbox is full");
        return;
    case VIRTUAL_NOT_OURS:
        log_warn("%s: mailbox %s is not a plain file of its owner's", t->request->envelope->id, job->path);
        give(t, DELIVER_DEFERRED, "4.2.0", "the mailbox is not owned by its recipient");
        return;
    case VIRTUAL_FAILED:
        give_failure(t, job);
        return;
    }
}

/* Tries until the mailbox is not locked; false when the wait was ended and the job is no longer ours. */
static co_fn bool run_job(struct attempt *t, struct virtual_job *job)
{
    uint64_t deadline = clock_ms() + JOB_TIMEOUT_MS;
    long tries = 0;

    for (;;) {
        if (co_work(virtual_job_run, job, deadline, "mailbox") != CO_OK)
            return false;
        if (job->end != VIRTUAL_LOCKED || ++tries >= t->agent->lock_attempts)
            return true;
        if (co_sleep(clock_ms() + t->agent->lock_delay_ms, "mailbox lock") == CO_CANCELLED)
            return true;
    }
}

static co_fn void deliver_one(struct attempt *t)
{
    struct virtual_job *job;
    char *mailbox;

    if (!find_mailbox(t, &mailbox))
        return;
    job = make_job(t, mailbox);
    if (job->fd < 0) {
        give(t, DELIVER_DEFERRED, "4.3.0", "cannot open the message");
        talloc_free(job);
        return;
    }
    if (!find_owner(t, job)) {
        talloc_free(job);
        return;
    }
    if (!run_job(t, job)) {
        give(t, DELIVER_DEFERRED, "4.3.0", "the mailbox did not take the message in time");
        return;
    }
    give_end(t, job);
    talloc_free(job);
}

static co_fn void virtual_deliver(struct deliver_agent *agent, const void *ctx,
                                  const struct deliver_request *request, struct deliver_result *results)
{
    size_t i;

    for (i = 0; i < request->rcpt_count; i++) {
        struct attempt t = {(const struct virtual_agent *)agent, request, request->rcpts[i], ctx,
                            &results[i]};

        deliver_one(&t);
    }
}

static struct error *parse_locks(const void *ctx, const char *list, unsigned *locks_r)
{
    static const struct {
        const char *name;
        unsigned bit;
    } known[] = {
        {"fcntl", VIRTUAL_LOCK_FCNTL}, {"flock", VIRTUAL_LOCK_FLOCK}, {"dotlock", VIRTUAL_LOCK_DOTLOCK}};
    const char *rest = list;
    char *word;
    size_t i;

    *locks_r = 0;
    while ((word = conf_list_next(ctx, &rest)) != NULL) {
        for (i = 0; i < 3 && strcmp(word, known[i].name) != 0; i++)
            ;
        if (i == 3)
            return error_new(ERROR_CONF, "virtual_mailbox_lock: unknown lock \"%s\"", word);
        *locks_r |= known[i].bit;
    }
    return NULL;
}

/* Readers of maildirs take ':' for the start of flags, and '/' cannot be in a name. */
static char *escape_host(const void *ctx, const char *host)
{
    struct buf out = {0};
    char *text;

    for (; *host; host++) {
        if (*host == '/')
            buf_adds(&out, "\\057");
        else if (*host == ':')
            buf_adds(&out, "\\072");
        else
            buf_addc(&out, *host);
    }
    text = mem_strdup(ctx, buf_text(&out));
    buf_deinit(&out);
    return text;
}

static struct error *open_maps(struct virtual_agent *a, const struct conf *conf)
{
    struct error *e = table_maps_open(a, conf_text(conf, "virtual_mailbox_maps"), conf, &a->mailboxes);

    if (e != NULL)
        return error_prepend(e, "virtual_mailbox_maps");
    e = table_maps_open(a, conf_text(conf, "virtual_uid_maps"), conf, &a->uids);
    if (e != NULL)
        return error_prepend(e, "virtual_uid_maps");
    return error_prepend(table_maps_open(a, conf_text(conf, "virtual_gid_maps"), conf, &a->gids),
                         "virtual_gid_maps");
}

static struct error *virtual_open(const void *ctx, const char *service, const struct conf *conf,
                                  struct deliver_agent **agent_r)
{
    struct virtual_agent *a = mem_new(ctx, struct virtual_agent);
    struct error *e = open_maps(a, conf);

    if (e == NULL)
        e = parse_locks(a, conf_text(conf, "virtual_mailbox_lock"), &a->locks);
    if (e != NULL) {
        talloc_free(a);
        return e;
    }
    a->agent.ops = &virtual_agent_ops;
    a->base = conf_text(conf, "virtual_mailbox_base");
    a->delimiter = conf_text(conf, "recipient_delimiter");
    a->host = escape_host(a, conf_text(conf, "myhostname"));
    a->limit = conf_size(conf, "virtual_mailbox_limit");
    a->minimum_uid = conf_int(conf, "virtual_minimum_uid");
    a->lock_attempts = conf_int(conf, "deliver_lock_attempts");
    a->lock_delay_ms = conf_time_ms(conf, "deliver_lock_delay");
    a->stale_ms = conf_time_ms(conf, "stale_lock_time");
    a->strict_owner = conf_bool(conf, "strict_mailbox_ownership");
    a->shows_orig = conf_bool(conf, "enable_original_recipient");
    *agent_r = &a->agent;
    return NULL;
}

const struct deliver_agent_ops virtual_agent_ops = {
    .command = "virtual",
    .open = virtual_open,
    .deliver = virtual_deliver,
};
