/* What the tests of the whole memory share. See verdict_test_host.h. */
#include "verdict_test_host.h"

#include "clock.h"
#include "log.h"
#include "mem.h"
#include "verdict_private.h"

#include <stdlib.h>
#include <sys/wait.h>

struct steps steps;
char dir[64];
struct conf *conf;
unsigned warnings;

static void count_line(const char *line, void *arg)
{
    if (strncmp(line, "warning: ", 9) == 0)
        warnings++;
}

int setup(void **state)
{
    struct conf_faults faults = {0};

    snprintf(dir, sizeof(dir), "/tmp/verdict_test.XXXXXX");
    if (mkdtemp(dir) == NULL)
        return -1;
    conf = conf_read(NULL, NULL, &faults);
    conf_set(conf, "data_directory", dir, "test", 1);
    warnings = 0;
    log_capture(count_line, NULL);
    return 0;
}

int teardown(void **state)
{
    char command[128];

    TALLOC_FREE(conf);
    log_capture(NULL, NULL);
    snprintf(command, sizeof(command), "rm -rf %s", dir);
    return system(command);
}

/* ---- processes ---- */

pid_t spawn(void (*fn)(void *arg), void *arg)
{
    pid_t pid;

    fflush(stderr);
    pid = fork();
    if (pid == 0) {
        alarm(60);
        fn(arg);
        _exit(0);
    }
    return pid;
}

int end_of(pid_t pid)
{
    int status = -1;

    waitpid(pid, &status, 0);
    return status;
}

int host(void (*fn)(void *arg), void *arg)
{
    return end_of(spawn(fn, arg));
}

struct work {
    co_fn void (*fn)(struct verdict *m, void *arg);
    void *arg;
    struct verdict *m;
};

static co_fn void work_in_coroutine(void *arg)
{
    struct work *w = arg;

    w->fn(w->m, w->arg);
    verdict_flush(w->m, clock_ms() + 30000);
}

/* A worker's life in this process. */
void work(unsigned id, co_fn void (*fn)(struct verdict *m, void *arg), void *arg)
{
    struct work w = {.fn = fn, .arg = arg};

    verdict_prepare(conf);
    co_init(2);
    w.m = verdict_open(NULL, conf, "127.0.0.1:10025", id);
    co_spawn(work_in_coroutine, &w, "test");
    co_run();
    talloc_free(w.m);
    co_deinit();
}

/* ---- messages ---- */

static struct mail_rcpt rcpt = {.addr = "to@example.com"};
static struct mail_rcpt *rcpts[] = {&rcpt};

static struct mail_envelope envelope(void)
{
    rcpt.command = BYTES("RCPT TO:<to@example.com>");
    return (struct mail_envelope){.command = BYTES("MAIL FROM:<from@example.com> SIZE=100"),
                                  .sender = "from@example.com",
                                  .rcpts = rcpts,
                                  .rcpt_count = 1};
}

/* Message n; all have the same envelope and size, so that they share a hint. */
static char *content(unsigned n)
{
    static char text[64];

    snprintf(text, sizeof(text), "Subject: %08u\r\n\r\nx\r\n", n);
    return text;
}

static struct verdict_key key_of(struct verdict *m, unsigned n)
{
    struct mail_envelope e = envelope();
    struct verdict_digest *d = verdict_key_begin(NULL, m, &e);

    verdict_key_add(d, bytes_of(content(n)));
    return verdict_key_end(&d);
}

bool may_know(struct verdict *m, unsigned n)
{
    struct mail_envelope e = envelope();

    return verdict_may_know(m, &e, strlen(content(n)));
}

static enum verdict_found start_by(struct verdict *m, struct verdict_key *key, unsigned n)
{
    struct mail_reply reply = {0};
    enum verdict_found found = verdict_start(m, key, &reply);

    if (found == VERDICT_REMEMBERED) {
        char text[64];

        snprintf(text, sizeof(text), "Ok: queued as %u", n);
        CHECK(reply.code == 250 && strcmp(reply.dsn, "2.0.0") == 0 && strcmp(reply.text, text) == 0);
    }
    mail_reply_deinit(&reply);
    return found;
}

enum verdict_found start(struct verdict *m, unsigned n)
{
    struct verdict_key key = key_of(m, n);

    return start_by(m, &key, n);
}

enum verdict_found start_and_hear(struct verdict *m, unsigned n)
{
    struct verdict_key key = key_of(m, n);
    enum verdict_found found = start_by(m, &key, n);

    if (found == VERDICT_REMEMBERED)
        verdict_heard(m, &key);
    return found;
}

static co_fn void end_until(struct verdict *m, unsigned n, int code, bool is_heard, uint64_t deadline)
{
    struct verdict_key key = key_of(m, n);
    struct mail_reply reply =
        code == 250 ? mail_reply(250, "2.0.0", "Ok: queued as %u", n) : mail_reply(code, "", "no");

    verdict_end(m, &key, &reply, is_heard, deadline);
    mail_reply_deinit(&reply);
}

co_fn void end_scan(struct verdict *m, unsigned n, int code, bool is_heard)
{
    end_until(m, n, code, is_heard, clock_ms() + 30000);
}

co_fn void keep_later(struct verdict *m, unsigned n)
{
    end_until(m, n, 250, false, 0);
}

co_fn void keep(struct verdict *m, unsigned n)
{
    end_scan(m, n, 250, false);
}

void abandon(struct verdict *m, unsigned n)
{
    struct verdict_key key = key_of(m, n);

    verdict_abandon(m, &key);
}

void end_elsewhere(struct verdict *m, unsigned n)
{
    struct verdict_key key = key_of(m, n);

    verdict_shared_remove(m->shared, &key, m->worker, VERDICT_SCANNED);
}

void heard(struct verdict *m, unsigned n)
{
    struct verdict_key key = key_of(m, n);

    verdict_heard(m, &key);
}

co_fn enum verdict_found wait_for(struct verdict *m, unsigned n, uint64_t ms)
{
    struct verdict_key key = key_of(m, n);
    struct mail_reply reply = {0};
    enum verdict_found found = verdict_wait(m, &key, clock_ms() + ms, &reply);

    mail_reply_deinit(&reply);
    return found;
}

struct verdict_snapshot numbers(void)
{
    struct verdict_snapshot n = {0};

    CHECK(verdict_snapshot(conf, &n));
    return n;
}

void tell(int fd)
{
    CHECK(write(fd, "x", 1) == 1);
}

void hear(int fd)
{
    char c;

    CHECK(read(fd, &c, 1) == 1);
}

co_fn void keep_two(struct verdict *m, void *arg)
{
    keep(m, 1);
    keep(m, 2);
}

void keeper(void *arg)
{
    work(1, keep_two, NULL);
}
