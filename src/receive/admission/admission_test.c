/* A memory for tests. See admission_test.h. */
#include "admission_test.h"

#include "mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

const struct admission_settings admission_test_settings = {
    .most = 10,
    .least = 1,
    .reserve_ms = 60000,
    .good_messages = 10,
    .good_reject_percent = 5,
    .good_age = 86400,
    .half_life = 7 * 86400,
    .patience_ms = {100000, 100000, 100000, 100000},
    .share = {40, 10, 25, 25},
};

struct admission_shared *admission_test_begin(void)
{
    struct admission_shared *s = mem_new(NULL, struct admission_shared);

    admission_core_init(s, 0);
    assert_int_equal(admission_core_pool(s, "filter", 1, 0, &admission_test_settings, 1000), 0);
    return s;
}

struct admission_key admission_test_key(uint32_t n)
{
    struct admission_key k = {.pool = 1};

    memcpy(k.addr, &n, sizeof(n));
    return k;
}
