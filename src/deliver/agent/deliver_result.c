/* Results of a delivery and the log line of each. See deliver_agent.h. */
#include "buf.h"
#include "clock.h"
#include "deliver_agent.h"
#include "log.h"
#include "mail_address.h"
#include "mem.h"

void deliver_result_set(const void *ctx, struct deliver_result *r, enum deliver_status status,
                        const char *dsn, const char *relay, const char *fmt, ...)
{
    va_list args;

    r->status = status;
    snprintf(r->dsn, sizeof(r->dsn), "%s", dsn);
    r->relay = mem_strdup(ctx, relay);
    va_start(args, fmt);
    r->text = mem_vprintf(ctx, fmt, args);
    va_end(args);
}

/* RFC 3463 2: class "." subject "." detail, the last two of one to three digits. Returns its length or 0. */
static size_t dsn_length(const char *p)
{
    size_t n, digits;
    int part;

    if (*p != '2' && *p != '4' && *p != '5')
        return 0;
    n = 1;
    for (part = 0; part < 2; part++) {
        if (p[n++] != '.')
            return 0;
        for (digits = 0; digits < 3 && ascii_is_digit(p[n]); digits++)
            n++;
        if (digits == 0)
            return 0;
    }
    return p[n] == '\0' || ascii_is_blank(p[n]) ? n : 0;
}

bool deliver_dsn_split(const char *text, char dsn_r[12], const char **rest_r)
{
    size_t n = dsn_length(text);

    if (n == 0)
        return false;
    memcpy(dsn_r, text, n);
    dsn_r[n] = '\0';
    while (ascii_is_blank(text[n]))
        n++;
    *rest_r = text + n;
    return true;
}

/* Postfix's way of writing a delay: two significant digits, two decimals at most, no zeros at the end. */
static void add_delay(struct buf *out, uint64_t us)
{
    uint64_t hundredths = (us + 5000) / 10000, tenths = (us + 50000) / 100000;

    if (us >= 9950000)
        buf_addf(out, "%llu", (unsigned long long)((us + 500000) / 1000000));
    else if (us >= 995000 && tenths % 10 != 0)
        buf_addf(out, "%llu.%llu", (unsigned long long)(tenths / 10), (unsigned long long)(tenths % 10));
    else if (us >= 995000)
        buf_addf(out, "%llu", (unsigned long long)(tenths / 10));
    else if (hundredths % 10 != 0)
        buf_addf(out, "0.%02llu", (unsigned long long)hundredths);
    else if (hundredths != 0)
        buf_addf(out, "0.%llu", (unsigned long long)(hundredths / 10));
    else
        buf_addc(out, '0');
}

static uint64_t span(uint64_t from, uint64_t to)
{
    return to > from ? to - from : 0;
}

static void add_delays(struct buf *out, const struct deliver_request *request,
                       const struct deliver_result *result, uint64_t asked_us)
{
    uint64_t now = clock_real_us(), ready = result->connected_us ? result->connected_us : asked_us;

    if (result->status != DELIVER_SENT && result->is_site)
        ready = now; /* all of the time went into getting through to the next hop */
    buf_adds(out, ", delay=");
    add_delay(out, span(request->envelope->arrived_us, now));
    buf_adds(out, ", delays=");
    add_delay(out, span(request->envelope->arrived_us, request->active_us));
    buf_addc(out, '/');
    add_delay(out, span(request->active_us, asked_us));
    buf_addc(out, '/');
    add_delay(out, span(asked_us, ready));
    buf_addc(out, '/');
    add_delay(out, span(ready, now));
}

static const char *status_word(const struct deliver_request *request, const struct deliver_result *result)
{
    switch (result->status) {
    case DELIVER_SENT:
        return "sent";
    case DELIVER_BOUNCED:
        return request->soft_bounce ? "SOFTBOUNCE" : "bounced";
    case DELIVER_DEFERRED:
        break;
    }
    return "deferred";
}

void deliver_log(const struct deliver_request *request, const struct queue_rcpt *rcpt,
                 const struct deliver_result *result, uint64_t asked_us)
{
    struct buf line = {0};

    buf_addf(&line, "%s: to=<", request->envelope->id);
    mail_address_quote(&line, rcpt->addr);
    buf_addc(&line, '>');
    if (rcpt->orig != NULL && strcmp(rcpt->orig, rcpt->addr) != 0) {
        buf_adds(&line, ", orig_to=<");
        mail_address_quote(&line, rcpt->orig);
        buf_addc(&line, '>');
    }
    buf_addf(&line, ", relay=%s", result->relay);
    add_delays(&line, request, result, asked_us);
    buf_addf(&line, ", dsn=%s, status=%s (%s)", result->dsn, status_word(request, result), result->text);
    log_info("%s", buf_text(&line));
    buf_deinit(&line);
}
