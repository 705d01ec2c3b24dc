/*
 * The engine "exec": content filter software that cannot speak SMTP. filter_exec_command is run for each
 * message, without a shell, with the message on its standard input and the envelope in its environment; it
 * answers with its exit status, changed content on its standard output, and lines on descriptor 3
 * (doc/filter.md).
 *
 * The program's trouble is never the message's end: a crash, a flood, a stall, nonsense are 451 4.3.0 to the
 * client and a log line that names program, status and milliseconds. Exit status 64 to 78 speak as sysexits.h
 * has them.
 */
#include "engine_exec_private.h"

#include "clock.h"
#include "log.h"
#include "mem.h"

#include <errno.h>
#include <pwd.h>
#include <signal.h>
#include <unistd.h>

enum { COMPLAINT_LINES = 10 };

struct exec_engine {
    struct engine engine;
    const struct io_spool_conf *spool;
    struct engine_exec_program program;
    struct engine_exec_slots slots;
    uint64_t time_limit_ms;
    uint64_t output_limit;
};

/* ---- opening ---- */

/* The next word: up to a blank, or what is between { and its }. NULL at the end. */
static char *next_word(const void *ctx, const char **rest)
{
    const char *start = *rest + strspn(*rest, " \t\r\n");
    const char *p = start;
    int depth = 0;

    if (*p == '\0')
        return NULL;
    if (*p != '{') {
        p += strcspn(p, " \t\r\n");
        *rest = p;
        return bytes_dup(ctx, bytes(start, (size_t)(p - start)));
    }
    do {
        depth += *p == '{' ? 1 : *p == '}' ? -1 : 0;
        p++;
    } while (*p != '\0' && depth > 0);
    *rest = p;
    return bytes_dup(ctx, bytes_trim(bytes(start + 1, (size_t)(p - start) - (depth == 0 ? 2 : 1))));
}

static struct error *parse_command(struct exec_engine *e, const char *command)
{
    size_t n = 0;
    char *word;

    e->program.argv = mem_array(e, char *, 1);
    while ((word = next_word(e, &command)) != NULL) {
        e->program.argv = mem_grow(e, e->program.argv, n + 2);
        e->program.argv[n++] = word;
        e->program.argv[n] = NULL;
    }
    if (n == 0)
        return error_new(ERROR_CONF, "filter_exec_command is empty, and filter_engines asks for \"exec\"");
    if (e->program.argv[0][0] != '/')
        return error_new(ERROR_CONF, "filter_exec_command: \"%s\" is not an absolute path",
                         e->program.argv[0]);
    if (access(e->program.argv[0], X_OK) < 0)
        return error_new(ERROR_CONF, "filter_exec_command: %s: %s", e->program.argv[0], strerror(errno));
    return NULL;
}

/* Only root can become somebody else. That the program runs as we do must not go unsaid. */
static void warn_of_user(const struct conf *conf)
{
    const char *name = conf_text(conf, "filter_exec_user");
    struct passwd *user = *name != '\0' ? getpwnam(name) : NULL;

    if (*name != '\0' && (user == NULL || user->pw_uid != geteuid()))
        log_warn(
            "filter_exec_user = %s has no effect: this service does not run as root, so filter_exec_command "
            "runs as user id %u",
            name, (unsigned)geteuid());
}

static struct error *find_user(struct exec_engine *e, const struct conf *conf)
{
    const char *param = *conf_text(conf, "filter_exec_user") != '\0' ? "filter_exec_user" : "mail_owner";
    struct passwd *user;

    if (geteuid() != 0) {
        warn_of_user(conf);
        return NULL;
    }
    user = getpwnam(conf_text(conf, param));
    if (user == NULL)
        return error_new(ERROR_CONF, "%s: no user is named \"%s\"", param, conf_text(conf, param));
    if (user->pw_uid == 0)
        return error_new(ERROR_CONF, "%s: a filter program does not run as root", param);
    e->program.sets_user = true;
    e->program.uid = user->pw_uid;
    e->program.gid = user->pw_gid;
    return NULL;
}

static struct error *exec_open(const void *ctx, const struct conf *conf, const struct io_spool_conf *spool,
                               struct engine **engine_r)
{
    struct exec_engine *e = mem_new(ctx, struct exec_engine);
    struct error *error;

    e->engine.ops = &engine_exec_ops;
    e->spool = spool;
    e->time_limit_ms = conf_time_ms(conf, "filter_exec_time_limit");
    e->output_limit = conf_size(conf, "filter_exec_output_limit");
    if (e->output_limit == 0)
        e->output_limit = 2 * conf_size(conf, "message_size_limit");
    if (e->output_limit == 0)
        e->output_limit = UINT64_MAX; /* no limit for messages, none for their changes */
    e->slots.limit = (unsigned)conf_int(conf, "filter_exec_process_limit");
    e->program.cpu_seconds = (unsigned)(e->time_limit_ms / 1000) + 1;
    *engine_r = &e->engine;
    signal(SIGPIPE, SIG_IGN); /* a program that does not read its input ends our write with EPIPE */
    error = parse_command(e, conf_text(conf, "filter_exec_command"));
    return error != NULL ? error : find_user(e, conf);
}

static bool exec_is_wanted(const struct conf *conf)
{
    return false; /* a program is run only where filter_engines says so */
}

/* ---- judging ---- */

struct judgement {
    struct exec_engine *e;
    const struct engine_input *in;
    struct engine_exec_talk *talk;
    struct engine_result *out;
    uint64_t started;
};

/* Our trouble, not the message's. */
static void trouble(struct judgement *j, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void trouble(struct judgement *j, const char *fmt, ...)
{
    va_list args;
    char *what;

    va_start(args, fmt);
    what = mem_vprintf(j->in->ctx, fmt, args);
    va_end(args);
    log_warn("%s: filter command %s: %s after %llu ms", j->in->envelope->id, j->e->program.argv[0], what,
             (unsigned long long)(clock_ms() - j->started));
    engine_result_reply(j->out, mail_reply_trouble());
}

/* Exit status 64 to 78, <sysexits.h>, as Postfix's pipe(8) and local(8) read them. */
static const struct {
    int status;
    const char *dsn;
} exits[] = {
    {64, "5.3.0"}, {65, "5.6.0"}, {66, "5.3.0"}, {67, "5.1.1"}, {68, "5.1.2"},
    {69, "5.3.0"}, {70, "5.3.0"}, {71, "4.3.0"}, {72, "5.3.0"}, {73, "5.2.0"},
    {74, "5.3.0"}, {75, "4.3.0"}, {76, "5.5.0"}, {77, "5.7.0"}, {78, "5.3.5"},
};

/* "x.y.z text" at the start of standard output is the reply that the program wants. */
static co_fn char *text_of_output(struct judgement *j, char dsn[12])
{
    struct bytes piece, line;
    struct error *e = io_spool_read(j->talk->output, 0, &piece);

    if (e != NULL) {
        error_free(&e);
        return NULL;
    }
    line = bytes_trim(bytes_cut(&piece, '\n'));
    return engine_take_dsn(&line, dsn) && line.n > 0 ? engine_clean_text(j->in->ctx, line) : NULL;
}

static co_fn void refuse(struct judgement *j, const char *exit_dsn)
{
    char dsn[12];
    char *text;

    snprintf(dsn, sizeof(dsn), "%s", exit_dsn);
    text = text_of_output(j, dsn);
    if (text == NULL)
        text = mem_strdup(j->in->ctx, dsn[0] == '4' ? "Error: message not accepted now, try again later"
                                                    : "Error: message content rejected");
    engine_log(j->in->client, j->in->envelope, "reject", "content", bytes("", 0),
               mem_printf(j->in->ctx, "%s %s (%s: exit status %d)", dsn, text, j->e->program.argv[0],
                          j->talk->status));
    engine_result_reply(j->out, mail_reply(dsn[0] == '4' ? 451 : 554, dsn, "%s", text));
}

static co_fn struct error *append(struct io_spool *to, struct io_spool *from)
{
    uint64_t offset = 0;

    for (;;) {
        struct bytes piece;
        struct error *e = io_spool_read(from, offset, &piece);

        if (e != NULL || piece.n == 0)
            return e;
        offset += piece.n;
        e = io_spool_write(to, piece);
        if (e != NULL)
            return e;
    }
}

/* New headers above the content, the program's or the old one. */
static co_fn struct error *prepend(struct judgement *j, const struct buf *headers)
{
    struct io_spool *spool = io_spool_new(j->in->ctx, j->e->spool);
    struct error *e = io_spool_write(spool, buf_bytes(headers));

    if (e == NULL)
        e = append(spool, j->out->changed != NULL ? j->out->changed : j->in->content);
    j->out->changed = spool;
    return e;
}

static co_fn void judge_answer(struct judgement *j)
{
    struct buf headers = {0};
    struct error *e = NULL;
    char *why;

    if (!engine_exec_parse(j->in, buf_bytes(&j->talk->reply), j->out, &headers, &why)) {
        trouble(j, "answered nonsense, %s,", why);
    } else if (j->out->outcome == ENGINE_PASS) {
        if (io_spool_size(j->talk->output) > 0)
            j->out->changed = j->talk->output;
        if (headers.n > 0)
            e = prepend(j, &headers);
    }
    if (e != NULL) {
        trouble(j, "%s", e->text);
        error_free(&e);
    }
    buf_deinit(&headers);
}

static co_fn void judge_status(struct judgement *j)
{
    if (j->talk->status == 0) {
        judge_answer(j);
        return;
    }
    for (size_t i = 0; i < sizeof(exits) / sizeof(*exits); i++) {
        if (exits[i].status == j->talk->status) {
            refuse(j, exits[i].dsn);
            return;
        }
    }
    trouble(j, "exit status %d", j->talk->status);
}

static co_fn void judge(struct judgement *j)
{
    switch (j->talk->end) {
    case ENGINE_EXEC_EXITED:
        judge_status(j);
        break;
    case ENGINE_EXEC_KILLED:
        trouble(j, "killed by signal %d", j->talk->status);
        break;
    case ENGINE_EXEC_TIMEOUT:
        trouble(j, "did not end within filter_exec_time_limit and was killed");
        break;
    case ENGINE_EXEC_CANCELLED:
        trouble(j, "killed because the session ended");
        break;
    case ENGINE_EXEC_FLOOD:
        trouble(j, "wrote more than it may (filter_exec_output_limit %llu, answers %d) and was killed",
                (unsigned long long)j->e->output_limit, ENGINE_EXEC_REPLY_SIZE);
        break;
    case ENGINE_EXEC_TROUBLE:
        trouble(j, "%s", j->talk->error->text);
        break;
    }
}

static void log_complaints(struct judgement *j)
{
    struct bytes rest = buf_bytes(&j->talk->complaints);

    for (int i = 0; i < COMPLAINT_LINES && rest.n > 0; i++) {
        struct bytes line = bytes_trim(bytes_cut(&rest, '\n'));

        if (line.n > 0)
            log_warn("%s: filter command %s says: %s", j->in->envelope->id, j->e->program.argv[0],
                     engine_clean_text(j->in->ctx, line));
    }
}

/* ---- scanning ---- */

static co_fn void run_program(struct judgement *j)
{
    struct engine_exec_child child;
    struct error *e = engine_exec_start(&j->e->program, engine_exec_env(j->in), &child);

    if (e != NULL) {
        trouble(j, "%s", e->text);
        error_free(&e);
        return;
    }
    engine_exec_talk(j->talk, &child);
    log_complaints(j);
    judge(j);
}

static co_fn void exec_scan(struct engine *engine, const struct engine_input *in, struct engine_result *out)
{
    struct exec_engine *e = (struct exec_engine *)engine;
    struct engine_exec_talk *talk = mem_new(in->ctx, struct engine_exec_talk);
    struct judgement j = {.e = e, .in = in, .talk = talk, .out = out, .started = clock_ms()};

    *talk = (struct engine_exec_talk){.in = in, .spool = e->spool, .output_limit = e->output_limit};
    talk->deadline = j.started + e->time_limit_ms;
    if (engine_exec_slots_take(&e->slots, talk->deadline) != CO_OK) {
        trouble(&j, "no turn among filter_exec_process_limit %u", e->slots.limit);
    } else {
        run_program(&j);
        engine_exec_slots_give(&e->slots);
    }
    if (talk->output != out->changed)
        talloc_free(talk->output);
    error_free(&talk->error);
    buf_deinit(&talk->reply);
    buf_deinit(&talk->complaints);
}

const struct engine_ops engine_exec_ops = {
    .name = "exec",
    .is_wanted = exec_is_wanted,
    .open = exec_open,
    .scan = exec_scan,
};
