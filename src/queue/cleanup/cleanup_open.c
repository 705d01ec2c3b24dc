/* What cleanup takes from the configuration, once a worker. */
#include "cleanup_private.h"

#include "mem.h"

#include <strings.h>

/* The list parameter has this word. */
static bool has_word(const struct conf *conf, const char *param, const char *word)
{
    const char *rest = conf_text(conf, param);
    void *mine = talloc_new(NULL);
    const char *item;
    bool found = false;

    while (!found && (item = conf_list_next(mine, &rest)) != NULL)
        found = strcasecmp(item, word) == 0;
    talloc_free(mine);
    return found;
}

static const char **words(const void *ctx, const char *list)
{
    const char **at = NULL;
    const char *item;
    size_t n = 0;

    do {
        item = conf_list_next(ctx, &list);
        at = mem_grow(ctx, at, n + 1);
        at[n++] = item;
    } while (item != NULL);
    return at;
}

static struct error *open_maps(struct cleanup *c, const struct conf *conf)
{
    const struct {
        const char *param;
        struct table_maps *maps;
    } all[] = {
        {"canonical_maps", &c->canonical},
        {"sender_canonical_maps", &c->sender_canonical},
        {"recipient_canonical_maps", &c->recipient_canonical},
        {"virtual_alias_maps", &c->virtual_alias},
        {"sender_bcc_maps", &c->sender_bcc},
        {"recipient_bcc_maps", &c->recipient_bcc},
    };

    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        struct error *e = table_maps_open(c, conf_text(conf, all[i].param), conf, all[i].maps);

        if (e != NULL)
            return error_prepend(e, "%s", all[i].param);
    }
    return NULL;
}

static void read_parameters(struct cleanup *c, const struct conf *conf)
{
    c->myhostname = conf_text(conf, "myhostname");
    c->hopcount_limit = conf_int(conf, "hopcount_limit");
    c->message_size_limit = conf_size(conf, "message_size_limit");
    c->header_size_limit = conf_size(conf, "header_size_limit");
    c->queue_minfree = conf_size(conf, "queue_minfree");
    c->always_add_headers = conf_bool(conf, "always_add_missing_headers");
    c->keep_original = conf_bool(conf, "enable_original_recipient");
    c->drop_headers = words(c, conf_text(conf, "message_drop_headers"));
    c->undisclosed_header = conf_text(conf, "undisclosed_recipients_header");
    c->content_filter = conf_text(conf, "content_filter");
    c->empty_recipient = conf_text(conf, "empty_address_recipient");
    c->delimiter = conf_text(conf, "recipient_delimiter");
    c->has_mappings = !has_word(conf, "receive_override_options", "no_address_mappings");
    c->map_sender = has_word(conf, "canonical_classes", "envelope_sender");
    c->map_rcpt = has_word(conf, "canonical_classes", "envelope_recipient");
    c->extend_canonical = has_word(conf, "propagate_unmatched_extensions", "canonical");
    c->extend_virtual = has_word(conf, "propagate_unmatched_extensions", "virtual");
    c->always_bcc = conf_text(conf, "always_bcc");
    c->alias_expansion_limit = (size_t)conf_int(conf, "virtual_alias_expansion_limit");
    c->alias_recursion_limit = (size_t)conf_int(conf, "virtual_alias_recursion_limit");
    c->alias_length_limit = (size_t)conf_int(conf, "virtual_alias_address_length_limit");
    c->duplicate_limit = (size_t)conf_int(conf, "duplicate_filter_limit");
}

struct error *cleanup_open(const void *ctx, const struct conf *conf, struct queue *q, struct cleanup **c_r)
{
    struct cleanup *c = mem_new(ctx, struct cleanup);
    struct error *e;

    c->q = q;
    read_parameters(c, conf);
    e = rewrite_open(c, conf, &c->rewrite);
    if (e == NULL)
        e = open_maps(c, conf);
    if (e != NULL)
        talloc_free(c);
    else
        *c_r = c;
    return e;
}
