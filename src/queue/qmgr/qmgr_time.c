/* Back-off and expiry. See qmgr_time.h. */
#include "qmgr_time.h"

uint64_t qmgr_backoff(uint64_t arrived, uint64_t now, uint64_t min, uint64_t max)
{
    uint64_t age = now > arrived ? now - arrived : 0;

    if (age > max)
        age = max;
    return age < min ? min : age;
}

bool qmgr_is_expired(uint64_t arrived, uint64_t now, uint64_t lifetime)
{
    return lifetime == 0 || (now >= arrived && now - arrived >= lifetime);
}
