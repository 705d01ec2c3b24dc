/*
 * The top of a content that gets our headers above it.
 *
 * Its first line is a header. "From " lines, which mailbox converters leave there, would end the header, and
 * in a mailbox begin another message: each becomes a header of its own, as with Postfix. A line that begins
 * with a blank would continue our last header: an empty line parts them.
 */
#include "smtpd_session.h"

enum { QUOTE_LIMIT = 100 }; /* bytes of ">>>..." that wait for their "From " */

/* "From " lines that mailbox converters leave, quoted as a mailbox quotes them or not. */
static struct bytes unquoted(struct bytes line)
{
    while (line.n > 0 && line.p[0] == '>')
        line = bytes_skip(line, 1);
    return line;
}

static bool is_from_line(struct bytes line)
{
    return bytes_has_prefix(unquoted(line), BYTES("From "));
}

/* The beginning of a line that is too short to tell. */
static bool may_be_from_line(struct bytes line)
{
    return line.n < QUOTE_LIMIT && bytes_has_prefix(BYTES("From "), unquoted(line));
}

static struct bytes first_line(struct bytes text)
{
    size_t at = bytes_chr(text, '\n');

    return bytes(text.p, at == SIZE_MAX ? text.n : at + 1);
}

/* What goes before a line of the top, or part of one. */
static const char *guard_of(struct smtpd_tx *tx, struct bytes line)
{
    bool begins = tx->top == SMTPD_TOP_BEGINS, is_from = begins && is_from_line(line);

    if (begins && !is_from)
        tx->top = SMTPD_TOP_PAST;
    else
        tx->top = line.p[line.n - 1] == '\n' ? SMTPD_TOP_BEGINS : SMTPD_TOP_INSIDE;
    if (is_from)
        return "X-Mailbox-Line: ";
    return tx->top == SMTPD_TOP_PAST && ascii_is_blank(line.p[0]) ? "\r\n" : "";
}

static bool is_plain(struct bytes text)
{
    return !ascii_is_blank(text.p[0]) && !is_from_line(text) && !may_be_from_line(text);
}

/* The text with its guards; how many bytes at its end wait for more. */
static size_t add_guards(struct smtpd_tx *tx, struct bytes text, struct buf *out)
{
    while (text.n > 0 && tx->top != SMTPD_TOP_PAST) {
        struct bytes line = first_line(text);

        if (tx->top == SMTPD_TOP_BEGINS && !tx->decoder.is_end && may_be_from_line(line))
            break;
        buf_adds(out, guard_of(tx, line));
        buf_add(out, line);
        text = bytes_skip(text, line.n);
    }
    buf_add(out, text);
    return tx->top == SMTPD_TOP_PAST ? 0 : text.n;
}

size_t smtpd_content_guard_top(struct smtpd_session *s)
{
    struct smtpd_tx *tx = s->tx;
    struct bytes text = buf_bytes(&s->content);
    struct buf guarded = {0};
    size_t waiting;

    if (text.n == 0 || tx->top == SMTPD_TOP_PAST)
        return 0;
    if (tx->top == SMTPD_TOP_BEGINS && is_plain(text)) {
        tx->top = SMTPD_TOP_PAST;
        return 0;
    }
    waiting = add_guards(tx, text, &guarded);
    buf_deinit(&s->content);
    s->content = guarded;
    return waiting;
}
