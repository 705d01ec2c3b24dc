/* Headers, RFC 5322 2.2. See mail_header.h. */
#include "mail_header.h"

#include "clock.h"
#include "mail_address.h"

struct bytes mail_header_name(struct bytes line)
{
    size_t n = 0;
    size_t colon;

    while (n < line.n && line.p[n] > 32 && line.p[n] < 127 && line.p[n] != ':')
        n++;
    for (colon = n; colon < line.n && ascii_is_blank(line.p[colon]); colon++)
        ;
    if (n == 0 || colon >= line.n || line.p[colon] != ':')
        return bytes(line.p, 0);
    return bytes(line.p, n);
}

struct bytes mail_header_value(struct bytes header)
{
    size_t colon = bytes_chr(header, ':');

    return colon == SIZE_MAX ? bytes(header.p, 0) : bytes_trim(bytes_skip(header, colon + 1));
}

/* ---- walking ---- */

static void hand_out(struct mail_header_walk *w, bool is_whole)
{
    if (w->held.n == 0 && !(is_whole && w->is_inside))
        return;
    w->is_inside = !is_whole;
    w->is_inside_line = !is_whole && w->held.p[w->held.n - 1] != '\n';
    w->field(w->arg, buf_bytes(&w->held), is_whole);
    buf_cut(&w->held, 0);
}

enum line_kind { LINE_CONTINUES, LINE_EMPTY, LINE_FIELD, LINE_OTHER };

static enum line_kind kind_of(struct bytes line)
{
    if (ascii_is_blank(line.p[0]))
        return LINE_CONTINUES;
    if (line.p[0] == '\r' || line.p[0] == '\n')
        return LINE_EMPTY;
    return mail_header_name(line).n > 0 ? LINE_FIELD : LINE_OTHER;
}

/*
 * `held` is one logical field so far, and behind it a line that has not ended yet (from `line_start` on).
 * Whether a field is whole is known when the next line begins with something else than a blank.
 */
static struct bytes take_line(struct mail_header_walk *w, size_t line_start, bool *is_body)
{
    struct bytes line = bytes_skip(buf_bytes(&w->held), line_start);
    bool is_rest = line_start == 0 && w->is_inside_line;
    enum line_kind kind = is_rest ? LINE_CONTINUES : kind_of(line);

    *is_body = false;
    if (kind == LINE_CONTINUES && (line_start > 0 || w->is_inside)) {
        if (w->held.n >= w->limit)
            hand_out(w, false);
        return bytes(NULL, 0);
    }
    if (line_start > 0 || w->is_inside) {
        w->field(w->arg, bytes(w->held.p, line_start), true);
        w->is_inside = w->is_inside_line = false;
        buf_drop(&w->held, line_start);
        line = buf_bytes(&w->held);
    }
    if (kind == LINE_FIELD)
        return bytes(NULL, 0);
    w->is_done = true;
    w->has_end = kind == LINE_EMPTY;
    *is_body = true;
    return w->has_end ? bytes(NULL, 0) : line;
}

struct bytes mail_header_walk(struct mail_header_walk *w, struct bytes piece, struct bytes *held_r)
{
    *held_r = bytes(NULL, 0);
    while (!w->is_done && piece.n > 0) {
        size_t end = bytes_chr(piece, '\n');
        size_t n = end == SIZE_MAX ? piece.n : end + 1;
        size_t old = w->held.n;
        size_t line_start = old;
        bool is_body;

        if (old > 0 && w->held.p[old - 1] != '\n') { /* the line began in an earlier piece */
            size_t before = bytes_rchr(bytes(w->held.p, old), '\n');

            line_start = before == SIZE_MAX ? 0 : before + 1;
        }
        buf_add(&w->held, bytes(piece.p, n));
        piece = bytes_skip(piece, n);
        if (end == SIZE_MAX && w->held.n - line_start < w->limit)
            break; /* wait for the rest of the line */
        *held_r = take_line(w, line_start, &is_body);
        if (!is_body && end == SIZE_MAX)
            hand_out(w, false);
    }
    return w->is_done ? piece : bytes(NULL, 0);
}

void mail_header_walk_end(struct mail_header_walk *w)
{
    if (!w->is_done)
        hand_out(w, true);
    w->is_done = true;
}

void mail_header_walk_deinit(struct mail_header_walk *w)
{
    buf_deinit(&w->held);
}

/* ---- Received ---- */

/* What a client sent goes into a comment or a token of ours: only what cannot break either. */
static void add_clean(struct buf *out, const char *text)
{
    for (const unsigned char *p = (const unsigned char *)text; *p; p++)
        buf_addc(out,
                 *p > 32 && *p != 127 && *p != '(' && *p != ')' && *p != '\\' && *p != ';' ? (char)*p : '?');
}

static void add_address(struct buf *out, const char *addr)
{
    buf_addc(out, '[');
    if (strchr(addr, ':') != NULL && strncasecmp(addr, "IPv6:", 5) != 0)
        buf_adds(out, "IPv6:");
    add_clean(out, addr);
    buf_addc(out, ']');
}

void mail_header_received(struct buf *out, const char *myhostname, const char *mail_name,
                          const struct mail_client *client, const struct mail_envelope *envelope,
                          bool with_id)
{
    struct mail_origin origin = mail_client_origin(client);
    const char *date = clock_mail_date((time_t)(envelope->arrived_us / 1000000));

    buf_adds(out, "Received: from ");
    add_clean(out, origin.helo && origin.helo[0] ? origin.helo : origin.name);
    buf_adds(out, " (");
    add_clean(out, origin.name);
    buf_addc(out, ' ');
    add_address(out, origin.addr);
    buf_adds(out, ")\r\n\tby ");
    buf_adds(out, myhostname);
    buf_adds(out, " (");
    buf_adds(out, mail_name);
    buf_adds(out, ") with ");
    buf_adds(out, envelope->smtputf8 ? "UTF8SMTP" : client->proto);
    if (with_id) {
        buf_adds(out, " id ");
        buf_adds(out, envelope->id);
    }
    if (envelope->rcpt_count == 1) {
        buf_adds(out, "\r\n\tfor <");
        mail_address_quote(out, envelope->rcpts[0]->addr);
        buf_adds(out, ">; ");
    } else {
        buf_adds(out, ";\r\n\t");
    }
    buf_adds(out, date);
    buf_adds(out, "\r\n");
}
