/*
 * The lines that a filter program writes on descriptor 3: a word, a blank, a text. All lines are read before
 * any takes effect, so an answer that is half nonsense has none.
 */
#include "engine_exec_private.h"

#include "log.h"
#include "mail_header.h"
#include "mem.h"

struct answer {
    const struct engine_input *in;
    struct engine_result *out;
    struct buf *headers;
};

static bool takes_text(struct bytes text)
{
    return true;
}

static bool takes_nothing(struct bytes text)
{
    return text.n == 0;
}

/* "host:port", or with the transport before it. */
static bool takes_endpoint(struct bytes text)
{
    if (bytes_has_iprefix(text, BYTES("smtp:")))
        text = bytes_skip(text, 5);
    return text.n > 0 && bytes_chr(text, ':') != SIZE_MAX && bytes_chr(text, ' ') == SIZE_MAX;
}

static bool takes_header(struct bytes text)
{
    for (size_t i = 0; i < text.n; i++)
        if (((unsigned char)text.p[i] < 32 && text.p[i] != '\t') || text.p[i] == 127)
            return false;
    return mail_header_name(text).n > 0;
}

/* A three-digit code at the start: taken from *text. 0: there is none; -1: one that is not 4xx or 5xx. */
static int take_code(struct bytes *text)
{
    struct bytes rest = *text;
    struct bytes word = bytes_word(&rest, " \t");
    uint64_t code;

    if (word.n != 3 || !bytes_to_u64(word, 999, &code))
        return 0;
    *text = bytes_trim(rest);
    return code >= 400 && code <= 599 ? (int)code : -1;
}

static bool takes_reply(struct bytes text)
{
    return take_code(&text) >= 0;
}

static void note(struct answer *a, const char *action, const char *why)
{
    engine_log(a->in->client, a->in->envelope, action, "content", bytes("", 0), why);
}

static void do_bcc(struct answer *a, char *text)
{
    engine_result_add_bcc(a->in->ctx, a->out, text); /* never too many: ENGINE_EXEC_REPLY_LINES */
    note(a, "bcc", text);
}

static void do_discard(struct answer *a, char *text)
{
    a->out->outcome = ENGINE_DISCARD;
    note(a, "discard", text);
}

static void do_filter(struct answer *a, char *text)
{
    bool has_transport = bytes_has_iprefix(bytes_of(text), BYTES("smtp:"));

    a->out->filter = has_transport ? text : mem_printf(a->in->ctx, "smtp:%s", text);
    note(a, "filter", a->out->filter);
}

static void do_hold(struct answer *a, char *text)
{
    a->out->hold = text;
    note(a, "hold", text);
}

static void do_info(struct answer *a, char *text)
{
    note(a, "info", text);
}

static void do_pass(struct answer *a, char *text)
{
}

static void do_prepend(struct answer *a, char *text)
{
    buf_addf(a->headers, "%s\r\n", text);
    note(a, "prepend", text);
}

static void do_redirect(struct answer *a, char *text)
{
    a->out->redirect = text;
    note(a, "redirect", text);
}

static void do_reject(struct answer *a, char *text)
{
    struct bytes rest = bytes_of(text);
    int code = take_code(&rest);
    char dsn[12] = "5.7.1";
    char *clean;

    engine_take_dsn(&rest, dsn);
    if (code == 0)
        code = dsn[0] == '4' ? 451 : 550;
    dsn[0] = (char)('0' + code / 100);
    clean = engine_clean_text(a->in->ctx, rest);
    if (*clean == '\0')
        clean = mem_strdup(a->in->ctx, "message content rejected");
    note(a, "reject", mem_printf(a->in->ctx, "%s %s", dsn, clean));
    engine_result_reply(a->out, mail_reply(code, dsn, "%s", clean));
}

static void do_warn(struct answer *a, char *text)
{
    note(a, "warning", text);
}

static const struct word {
    const char *name;
    bool (*takes)(struct bytes text);
    void (*act)(struct answer *a, char *text); /* text: owned by the input's ctx */
    bool is_final;                             /* at most one of these */
} words[] = {
    {"BCC", engine_is_address, do_bcc},
    {"DISCARD", takes_text, do_discard, true},
    {"FILTER", takes_endpoint, do_filter},
    {"HOLD", takes_text, do_hold},
    {"INFO", takes_text, do_info},
    {"PASS", takes_nothing, do_pass},
    {"PREPEND", takes_header, do_prepend},
    {"REDIRECT", engine_is_address, do_redirect},
    {"REJECT", takes_reply, do_reject, true},
    {"WARN", takes_text, do_warn},
};

static const struct word *find_word(struct bytes name)
{
    for (size_t i = 0; i < sizeof(words) / sizeof(*words); i++)
        if (bytes_ieq(name, bytes_of(words[i].name)))
            return &words[i];
    return NULL;
}

static const struct word *read_line(struct bytes *rest, struct bytes *text_r)
{
    *text_r = bytes_trim(bytes_cut(rest, '\n'));
    if (text_r->n > ENGINE_EXEC_REPLY_LINE || bytes_chr(*text_r, '\0') != SIZE_MAX)
        return NULL;
    return find_word(bytes_word(text_r, " \t"));
}

/* NULL when every line makes sense, else what is wrong. */
static const char *find_fault(struct bytes rest, struct bytes *line_r)
{
    unsigned lines = 0, finals = 0;

    while (rest.n > 0) {
        struct bytes before = rest, text;
        const struct word *word = read_line(&rest, &text);

        *line_r = bytes_trim(bytes(before.p, (size_t)(rest.p - before.p)));
        if (line_r->n == 0)
            continue;
        if (++lines > ENGINE_EXEC_REPLY_LINES)
            return "too many lines";
        if (word == NULL)
            return "not an answer";
        if (!word->takes(bytes_trim(text)))
            return "not what this word takes";
        finals += word->is_final;
        if (finals > 1)
            return "a second decision";
    }
    return NULL;
}

bool engine_exec_parse(const struct engine_input *in, struct bytes text, struct engine_result *out,
                       struct buf *headers, char **why_r)
{
    struct answer a = {in, out, headers};
    struct bytes line = {"", 0};
    const char *fault = find_fault(text, &line);

    if (fault != NULL) {
        *why_r = mem_printf(in->ctx, "%s: \"%s\"", fault, engine_clean_text(in->ctx, line));
        return false;
    }
    while (text.n > 0) {
        const struct word *word = read_line(&text, &line);

        if (word != NULL)
            word->act(&a, bytes_dup(in->ctx, bytes_trim(line)));
    }
    return true;
}
