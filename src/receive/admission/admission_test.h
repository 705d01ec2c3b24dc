/* What the tests of the decisions share: a memory with one pool of ten slots, and clients by number. */
#ifndef ADMISSION_ADMISSION_TEST_H
#define ADMISSION_ADMISSION_TEST_H

#include "admission_core.h"
#include "mem.h"

enum { DAY = 86400, TODAY = 20000 * DAY };

extern const struct admission_settings admission_test_settings;
/* Freed with talloc_free. */
struct admission_shared *admission_test_begin(void);
struct admission_key admission_test_key(uint32_t n);

#endif
