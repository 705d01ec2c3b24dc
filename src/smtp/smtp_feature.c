/* Names of SMTP extensions. See smtp.h. */
#include "smtp.h"

static const struct {
    const char *name;
    unsigned feature;
} names[] = {
    {"PIPELINING", SMTP_PIPELINING},
    {"SIZE", SMTP_SIZE},
    {"VRFY", SMTP_VRFY},
    {"ETRN", SMTP_ETRN},
    {"STARTTLS", SMTP_STARTTLS},
    {"AUTH", SMTP_AUTH},
    {"XFORWARD", SMTP_XFORWARD},
    {"XCLIENT", SMTP_XCLIENT},
    {"8BITMIME", SMTP_8BITMIME},
    {"ENHANCEDSTATUSCODES", SMTP_ENHANCEDSTATUSCODES},
    {"DSN", SMTP_DSN},
    {"SMTPUTF8", SMTP_SMTPUTF8},
    {"CHUNKING", SMTP_CHUNKING},
    {"VERP", SMTP_VERP},
    {"XVERP", SMTP_VERP},
    {"REQUIRETLS", SMTP_REQUIRETLS},
    {"silent-discard", SMTP_SILENT_DISCARD},
};

static unsigned feature_of(struct bytes word)
{
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (bytes_ieq(word, bytes_of(names[i].name)))
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
