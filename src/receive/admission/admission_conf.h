/* The parameters of one pool, checked. */
#ifndef ADMISSION_ADMISSION_CONF_H
#define ADMISSION_ADMISSION_CONF_H

#include "admission_layout.h"

/* Zeroes also what lies between the members, so that two settings can be compared as memory. most == 0: no
 * admission. Patience is never more than smtpd_proxy_timeout. */
struct error *admission_conf_read(const struct conf *conf, struct admission_settings *out_r);

#endif
