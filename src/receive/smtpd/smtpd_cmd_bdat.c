/*
 * BDAT, RFC 3030: content in chunks of told size.
 *
 * Whatever the reply will be, the chunk is read first: only so are both ends of one mind about where the next
 * command begins. A size that cannot be read ends the session for the same reason.
 */
#include "smtpd_session.h"

#include "clock.h"

enum { SMALL_CHUNK = 512, SMALL_CHUNK_LIMIT = 100, THROWN_LIMIT = 1 << 20 };

struct chunk {
    uint64_t size;
    bool is_last;
};

static bool parse(const struct smtp_line *line, struct chunk *chunk_r)
{
    struct bytes rest = line->rest;
    struct bytes size = bytes_word(&rest, " \t");
    struct bytes last = bytes_word(&rest, " \t");

    chunk_r->is_last = last.n > 0;
    return bytes_to_u64(size, INT64_MAX / 4, &chunk_r->size) && rest.n == 0 &&
           (last.n == 0 || bytes_ieq(last, BYTES("LAST")));
}

/* What stands against this chunk, before it is read. Code 0: nothing. */
static co_fn struct mail_reply admit(struct smtpd_session *s, const struct chunk *chunk)
{
    struct smtpd_tx *tx = s->tx;
    struct mail_reply r;

    if (tx == NULL || tx->envelope.rcpt_count == 0)
        return tx == NULL ? mail_reply_fixed(503, "5.5.1", "Error: need RCPT command")
                          : mail_reply_fixed(554, "5.5.1", "Error: no valid recipients");
    if (tx->bdat_failure.code != 0)
        return mail_reply(551, "5.0.0", "Discarded %llu bytes after earlier error",
                          (unsigned long long)chunk->size);
    if (chunk->size == 0 && !chunk->is_last)
        return mail_reply_fixed(551, "5.7.1", "Null BDAT request");
    if (chunk->size < SMALL_CHUNK && !chunk->is_last && ++tx->small_chunks > SMALL_CHUNK_LIMIT) {
        s->leave = SMTPD_DISMISSED;
        return mail_reply(421, "4.7.0", "%s Error: too many small chunks", s->conf->myhostname);
    }
    if (chunk->size + tx->content_size > smtpd_content_limit(s))
        return mail_reply_fixed(552, "5.3.4", "Chunk exceeds message size limit");
    if (tx->is_content_begun)
        return (struct mail_reply){0};
    r = smtpd_content_begin(s);
    if (r.code != 354)
        return r;
    mail_reply_deinit(&r);
    return r;
}

/* Until when there must be more of the chunk: one that is thrown away stands for itself, the others are one
 * content. */
static uint64_t chunk_deadline(const struct smtpd_session *s, bool is_thrown, uint64_t since,
                               uint64_t received)
{
    return is_thrown ? smtpd_content_deadline(s, since, received)
                     : smtpd_content_deadline(s, s->tx->content_since, s->tx->content_size);
}

/* Reads the chunk; passes it on unless `is_thrown`. False: the client is gone. */
static co_fn bool receive(struct smtpd_session *s, const struct chunk *chunk, bool is_thrown)
{
    uint64_t left = chunk->size, since = clock_ms();

    while (left > 0) {
        struct bytes seen = io_buffered(s->stream);

        if (seen.n == 0) {
            enum io_end end = io_fill(s->stream, chunk_deadline(s, is_thrown, since, chunk->size - left));

            if (end != IO_OK) {
                s->where_bytes = chunk->size - left;
                smtpd_stream_ended(s, end);
                return false;
            }
            continue;
        }
        if (seen.n > left)
            seen.n = (size_t)left;
        left -= seen.n;
        if (!is_thrown) {
            smtp_bdat_decode(&s->tx->decoder, seen, false, &s->content);
            smtpd_content_pass(s);
        }
        io_consume(s->stream, seen.n);
    }
    return true;
}

/* "Ok: N bytes queued as ID": Postfix's words for a message that came in chunks. */
static struct mail_reply finish(struct smtpd_session *s)
{
    static const char queued[] = "Ok: queued as ";
    struct smtpd_tx *tx = s->tx;
    struct mail_reply r, with_size;
    uint64_t size;

    smtp_bdat_decode(&tx->decoder, bytes("", 0), true, &s->content);
    smtpd_content_pass(s);
    size = tx->content_size;
    r = smtpd_content_commit(s);
    if (r.code != 250 || strncmp(r.text, queued, sizeof(queued) - 1) != 0)
        return r;
    with_size = mail_reply(250, r.dsn, "Ok: %llu bytes queued as %s", (unsigned long long)size,
                           r.text + sizeof(queued) - 1);
    mail_reply_deinit(&r);
    return with_size;
}

/* The reply to a chunk that was read and thrown away; chunks that follow it share its fate. */
static co_fn struct mail_reply refuse(struct smtpd_session *s, const struct chunk *chunk,
                                      struct mail_reply why)
{
    struct smtpd_tx *tx = s->tx;

    if (tx == NULL)
        return why;
    tx->is_bdat = true;
    if (tx->bdat_failure.code == 0)
        tx->bdat_failure = mail_reply_copy(&why);
    if (chunk->is_last)
        smtpd_tx_end(s);
    return why;
}

struct mail_reply smtpd_cmd_bdat(struct smtpd_session *s, const struct smtp_line *line)
{
    struct chunk chunk;
    struct mail_reply why;

    if (!(s->features & SMTP_CHUNKING)) {
        s->leave = SMTPD_DISMISSED;
        return mail_reply_fixed(521, "5.5.1", "Error: command not implemented");
    }
    if (!parse(line, &chunk)) {
        s->leave = SMTPD_DISMISSED;
        return mail_reply_fixed(521, "5.5.4", "Syntax: BDAT count [LAST]");
    }
    why = admit(s, &chunk);
    if (why.code != 0 && chunk.size > s->conf->message_size_limit * 2 + THROWN_LIMIT)
        s->leave = SMTPD_DISMISSED; /* not worth reading to its end */
    if (s->leave != SMTPD_STAYS)
        return why;
    if (!receive(s, &chunk, why.code != 0)) {
        mail_reply_deinit(&why);
        return why;
    }
    if (why.code != 0)
        return refuse(s, &chunk, why);
    s->tx->is_bdat = true;
    if (chunk.is_last)
        return finish(s);
    return mail_reply(250, "2.0.0", "Ok: %llu bytes", (unsigned long long)chunk.size);
}
