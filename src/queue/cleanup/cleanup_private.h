/* Inside queue/cleanup only. */
#ifndef QUEUE_CLEANUP_CLEANUP_PRIVATE_H
#define QUEUE_CLEANUP_CLEANUP_PRIVATE_H

#include "cleanup.h"
#include "mail_header.h"
#include "rewrite.h"
#include "table.h"

struct cleanup {
    struct queue *q;
    struct rewrite *rewrite;
    struct cleanup_inspect *inspect; /* NULL: none */
    const char *myhostname;
    long hopcount_limit;
    uint64_t message_size_limit, header_size_limit, queue_minfree;
    bool always_add_headers, keep_original;
    const char **drop_headers; /* NULL-ended */
    const char *undisclosed_header;
    const char *content_filter;
    const char *empty_recipient;
    const char *delimiter;
    bool has_mappings;                     /* false: no_address_mappings */
    bool map_sender, map_rcpt;             /* canonical_classes */
    bool extend_canonical, extend_virtual; /* propagate_unmatched_extensions */
    struct table_maps canonical, sender_canonical, recipient_canonical, virtual_alias, sender_bcc,
        recipient_bcc;
    const char *always_bcc;
    size_t alias_expansion_limit, alias_recursion_limit, alias_length_limit;
    size_t duplicate_limit; /* recipients remembered at most; 0: all */
};

/* ---- cleanup_header.c: the header on its way into the queue file ---- */

struct cleanup_header {
    const struct cleanup *cleanup;
    const struct mail_envelope *envelope;
    struct mail_header_walk walk;
    void (*write)(void *arg, struct bytes text); /* may wait */
    void *arg;
    bool is_local;   /* missing headers are added */
    bool is_cut;     /* inside a field that was too long */
    bool is_written; /* the end of the header has been written */
    bool has_date, has_from, has_id, has_rcpt;
    bool is_resent, has_resent_date, has_resent_from, has_resent_id;
    long hops; /* Received fields */
    struct buf message_id, resent_id;
};
/* h is zeroed. */
void cleanup_header_init(struct cleanup_header *h, const struct cleanup *c,
                         const struct mail_envelope *envelope, bool is_local,
                         void (*write)(void *arg, struct bytes text), void *arg);
void cleanup_header_deinit(struct cleanup_header *h);
/* Header and body go to write(). */
co_fn void cleanup_header_content(struct cleanup_header *h, struct bytes piece);
co_fn void cleanup_header_end(struct cleanup_header *h);

/* ---- cleanup_map.c: one address through tables ---- */

enum cleanup_map_end {
    CLEANUP_MAP_OK,
    CLEANUP_MAP_FAILED,   /* a table cannot be read, or its entries go in circles; logged */
    CLEANUP_MAP_EXPLODED, /* an alias expands beyond limits; logged */
};
/* What a table says instead of addr: 0, 1 or more addresses in standard form; *n_r 0: nothing. extend: what
 * did not take part in the match is put in again. id is for the log. */
co_fn enum cleanup_map_end cleanup_map_find(const struct cleanup *c, const void *ctx, const char *id,
                                            const struct table_maps *maps, const char *name, const char *addr,
                                            bool extend, const char ***found_r, size_t *n_r);
/* canonical: one address for another until nothing changes. *addr is replaced. */
co_fn enum cleanup_map_end cleanup_map_canonical(const struct cleanup *c, const void *ctx, const char *id,
                                                 const struct table_maps *maps, const char *name,
                                                 const char **addr);
/* virtual aliases: one address becomes many. */
co_fn enum cleanup_map_end cleanup_map_aliases(const struct cleanup *c, const void *ctx, const char *id,
                                               const char *addr, const char ***found_r, size_t *n_r);

/* ---- cleanup_envelope.c ---- */

/*
 * Sender and recipients as they go into the queue, all owned by ctx. bcc: addresses of hooks' actions,
 * redirect: the only recipient or NULL.
 */
struct cleanup_wishes {
    const char *redirect;
    const char *filter;
    const char **bcc;
    size_t bcc_count;
};
co_fn enum cleanup_map_end cleanup_envelope(const struct cleanup *c, const void *ctx,
                                            const struct mail_client *client,
                                            const struct mail_envelope *envelope,
                                            const struct cleanup_wishes *wishes,
                                            struct queue_envelope *out_r);

#endif
