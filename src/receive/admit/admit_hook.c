/* The hook: a client is known from its first MAIL on, each message is judged. See admit.h. */
#include "admit_private.h"

#include "mem.h"

/* Who a client is to the filter, and to the cheap one. */
struct session {
    struct known {
        struct admission_client who;
        bool is_known;
    } full, cheap;
};

static struct admit *admit_of(struct mail_hook *h)
{
    return (struct admit *)((char *)h - offsetof(struct admit, hook));
}

static struct mail_verdict pass(void)
{
    return (struct mail_verdict){.kind = MAIL_PASS};
}

static struct mail_verdict begin(struct mail_hook *h, const struct mail_view *view, void **state_r)
{
    *state_r = mem_new(NULL, struct session);
    return pass();
}

static void end(struct mail_hook *h, void *state)
{
    talloc_free(state);
}

/* A ticket is given back when its transaction ends, whatever way. */
struct held {
    struct admission_ticket ticket;
    struct admission *admission;
};

static int give_back(struct held *held)
{
    admission_release(held->admission, &held->ticket);
    return 0;
}

static co_fn struct held *judge(struct admit *a, struct known *k, const struct mail_view *view,
                                struct admission_answer *answer_r)
{
    struct held *held = mem_new(view->ctx, struct held);

    held->admission = a->admission;
    talloc_set_destructor(held, give_back);
    if (!k->is_known)
        admission_know(a->admission, view->client, false, &k->who);
    k->is_known = true;
    *answer_r = admission_judge(a->admission, &k->who, view->envelope->size, &held->ticket);
    return held;
}

static struct mail_verdict go(struct held *held, enum mail_route route)
{
    return (struct mail_verdict){.kind = MAIL_PASS, .ticket = &held->ticket, .route = route};
}

static struct mail_verdict refuse(enum admission_step step)
{
    return (struct mail_verdict){
        .kind = MAIL_ANSWER,
        .reply = mail_reply_fixed(step == ADMISSION_421 ? 421 : 451, "4.3.2",
                                  "Error: server is busy, try again later"),
    };
}

/* Where a message goes that was judged: by `way`, when it is let in; else where its step says, if that is
 * open here: the ladder is the pool's, and who opened that last had his own. */
static struct mail_verdict follow(const struct admit *a, struct held *held,
                                  const struct admission_answer *answer, enum mail_route way)
{
    if (answer->is_admitted)
        return go(held, way);
    return answer->step == ADMISSION_HOLD && a->has_hold ? go(held, MAIL_BY_QUEUE) : refuse(answer->step);
}

static co_fn struct mail_verdict judge_message(struct admit *a, struct session *s,
                                               const struct mail_view *view)
{
    struct admission_answer answer;
    struct held *held = judge(a, &s->full, view, &answer);

    if (answer.is_admitted || answer.step != ADMISSION_CHEAP || a->cheap == NULL)
        return follow(a, held, &answer, MAIL_BY_FILTER);
    if (a->cheap->admission == NULL)
        return go(held, MAIL_BY_CHEAP_FILTER);
    held = judge(a->cheap, &s->cheap, view, &answer);
    return follow(a->cheap, held, &answer, MAIL_BY_CHEAP_FILTER);
}

static co_fn struct mail_verdict ask(struct mail_hook *h, void *state, enum mail_stage stage,
                                     const struct mail_view *view)
{
    return stage == MAIL_AT_MAIL ? judge_message(admit_of(h), state, view) : pass();
}

const struct mail_hook_ops admit_hook_ops = {"admission", begin, ask, end};
