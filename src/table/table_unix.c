/*
 * unix:passwd.byname and unix:group.byname: the system's own users and groups, as one colon-separated line.
 *
 * The name service may ask the network, so the question is put on the thread pool while the coroutine waits.
 * Outside coroutines (start-up, the command line) it is asked in place.
 */
#include "buf.h"
#include "clock.h"
#include "log.h"
#include "mem.h"
#include "table_type.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdlib.h>

enum { ASK_LIMIT_MS = 30000, ROOM_FIRST = 4096, ROOM_LAST = 1 << 20 };

/* A question for the thread pool. The answer is malloc'ed there: talloc belongs to the loop's thread. */
struct question {
    int (*ask)(const char *name, char *room, size_t room_n, struct buf *answer);
    char *name;
    int code; /* errno; 0 with an empty answer: absent */
    struct buf answer;
};

static int ask_passwd(const char *name, char *room, size_t room_n, struct buf *answer)
{
    struct passwd pw, *found;
    int code = getpwnam_r(name, &pw, room, room_n, &found);

    if (code == 0 && found != NULL)
        buf_addf(answer, "%s:%s:%lu:%lu:%s:%s:%s", pw.pw_name, pw.pw_passwd, (unsigned long)pw.pw_uid,
                 (unsigned long)pw.pw_gid, pw.pw_gecos, pw.pw_dir, pw.pw_shell);
    return code;
}

static int ask_group(const char *name, char *room, size_t room_n, struct buf *answer)
{
    struct group gr, *found;
    int code = getgrnam_r(name, &gr, room, room_n, &found);

    if (code != 0 || found == NULL)
        return code;
    buf_addf(answer, "%s:%s:%lu:", gr.gr_name, gr.gr_passwd, (unsigned long)gr.gr_gid);
    for (char **member = gr.gr_mem; *member != NULL; member++)
        buf_addf(answer, "%s%s", member == gr.gr_mem ? "" : ",", *member);
    return code;
}

static void work(void *arg)
{
    struct question *q = arg;

    q->code = ERANGE;
    for (size_t room_n = ROOM_FIRST; q->code == ERANGE && room_n <= ROOM_LAST; room_n *= 2) {
        char *room = mem_malloc(room_n);

        q->code = q->ask(q->name, room, room_n, &q->answer);
        free(room);
    }
}

static int question_destroy(struct question *q)
{
    buf_deinit(&q->answer);
    return 0;
}

static struct error *unix_open(struct table *t, const void *ctx, const struct conf *conf, void **state_r)
{
    if (strcmp(t->name, "passwd.byname") != 0 && strcmp(t->name, "group.byname") != 0)
        return error_new(ERROR_CONF, "unknown table: need passwd.byname or group.byname");
    return NULL;
}

/* Some name services say "no such name" with these. */
static bool means_absent(int code)
{
    return code == 0 || code == ENOENT || code == ESRCH || code == EBADF || code == EPERM;
}

co_fn static enum table_end unix_find(struct table *t, const void *ctx, struct bytes key, char **value_r)
{
    struct question *q = mem_new(NULL, struct question);
    enum table_end end = TABLE_ABSENT;

    talloc_set_destructor(q, question_destroy);
    q->ask = t->name[0] == 'p' ? ask_passwd : ask_group;
    q->name = bytes_dup(q, key);
    if (co_self() == NULL)
        work(q);
    else if (co_work_slow(work, q, clock_ms() + ASK_LIMIT_MS, "user lookup") != CO_OK) {
        log_warn("table %s: no answer in %d seconds", t->spec, ASK_LIMIT_MS / 1000);
        return TABLE_FAILED; /* q is the pool's now */
    }
    if (q->answer.n > 0) {
        *value_r = mem_strdup(ctx, buf_text(&q->answer));
        end = TABLE_FOUND;
    } else if (!means_absent(q->code)) {
        log_warn("table %s: lookup of \"%s\": %s", t->spec, q->name, strerror(q->code));
        end = TABLE_FAILED;
    }
    talloc_free(q);
    return end;
}

const struct table_type table_type_unix = {
    .name = "unix",
    .folds = true,
    .open = unix_open,
    .find = unix_find,
};
