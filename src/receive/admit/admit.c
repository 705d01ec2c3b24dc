/* What a worker has open for one before-filter service. See admit.h. */
#include "admit_private.h"

#include "mem.h"

struct error *admit_open(const void *ctx, const struct conf *conf, const char *filter, unsigned worker,
                         struct verdict *verdict, struct admit **admit_r)
{
    struct admit *a = mem_new(ctx, struct admit);

    a->hook.ops = &admit_hook_ops;
    a->gate.ops = &admit_gate_ops;
    a->verdict = verdict;
    *admit_r = a;
    return admission_open(a, conf, filter, worker, &a->admission);
}

void admit_set_cheap(struct admit *a, struct admit *cheap)
{
    a->cheap = cheap;
}

void admit_set_hold(struct admit *a)
{
    a->has_hold = true;
}

struct mail_hook *admit_hook(struct admit *a)
{
    return a->admission ? &a->hook : NULL;
}

struct proxy_gate *admit_gate(struct admit *a)
{
    return &a->gate;
}
