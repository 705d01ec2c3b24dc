/* Names of SMTP extensions. See smtp.h. */
#include "smtp.h"

static const struct {
    struct bytes name;
    unsigned feature;
} names[] = {
    {BYTES("PIPELINING"), SMTP_PIPELINING},
    {BYTES("SIZE"), SMTP_SIZE},
    {BYTES("VRFY"), SMTP_VRFY},
    {BYTES("ETRN"), SMTP_ETRN},
    {BYTES("STARTTLS"), SMTP_STARTTLS},
    {BYTES("AUTH"), SMTP_AUTH},
    {BYTES("XFORWARD"), SMTP_XFORWARD},
    {BYTES("XCLIENT"), SMTP_XCLIENT},
    {BYTES("8BITMIME"), SMTP_8BITMIME},
    {BYTES("ENHANCEDSTATUSCODES"), SMTP_ENHANCEDSTATUSCODES},
    {BYTES("DSN"), SMTP_DSN},
    {BYTES("SMTPUTF8"), SMTP_SMTPUTF8},
    {BYTES("CHUNKING"), SMTP_CHUNKING},
    {BYTES("VERP"), SMTP_VERP},
    {BYTES("XVERP"), SMTP_VERP},
    {BYTES("REQUIRETLS"), SMTP_REQUIRETLS},
    {BYTES("silent-discard"), SMTP_SILENT_DISCARD},
};

static unsigned feature_of(struct bytes word)
{
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (bytes_ieq(word, names[i].name))
            return names[i].feature;
    return 0;
}

unsigned smtp_features_parse(struct bytes list, struct bytes *unknown_r)
{
    struct bytes word;
    unsigned all = 0;

    *unknown_r = bytes(list.p, 0);
    while ((word = bytes_word(&list, " \t\r\n,")).n > 0) {
        unsigned one = feature_of(word);

        if (one == 0 && unknown_r->n == 0)
            *unknown_r = word;
        all |= one;
    }
    return all;
}
