/*
 * Addresses, RFC 5321 4.1.2 and RFC 6531.
 *
 * Internal form: local part without quotes, '@', domain as typed ("a b@example.com"). External form: as it
 * stands in a command or header ("\"a b\"@example.com"). Tables and the queue hold the internal form;
 * commands and logs show the external one.
 */
#ifndef MAIL_MAIL_ADDRESS_H
#define MAIL_MAIL_ADDRESS_H

#include "buf.h"
#include "bytes.h"

enum { MAIL_LOCAL_PART_LIMIT = 64 * 4, MAIL_ADDRESS_LIMIT = 1024 };

/*
 * Reads a Path: "<" [source-route ":"] mailbox ">" (the route is dropped), "<>", or, unless strict, the
 * mailbox without brackets. Bytes above 127 only when utf8. On success *internal_r is owned by ctx and
 * *rest_r is what follows the path. A NUL, a control character, or a length beyond the limits is no address.
 */
bool mail_address_parse_path(const void *ctx, struct bytes text, bool utf8, bool strict, char **internal_r,
                             struct bytes *rest_r);

/* The local part and the domain of the internal form (split at the last '@'); domain is empty when there is
 * none. */
void mail_address_split(const char *internal, struct bytes *local_r, struct bytes *domain_r);
/* The external form of the internal one, without brackets. Control characters and line ends cannot be in it.
 */
void mail_address_quote(struct buf *out, const char *internal);
char *mail_address_external(const void *ctx, const char *internal);

/* A valid domain name or address literal (RFC 5321 4.1.3), as for HELO or XFORWARD NAME. */
bool mail_address_is_hostname(struct bytes name);
bool mail_address_is_literal(struct bytes text); /* "[192.0.2.1]", "[IPv6:2001:db8::1]" */
bool mail_address_is_ip(struct bytes text);      /* the same without brackets */

#endif
