/* The log. See log.h. */
#include "log.h"

#include "buf.h"
#include "clock.h"
#include "format.h"
#include "mem.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <syslog.h>
#include <unistd.h>

enum { GATHER_LIMIT = 16384, GATHER_MS = 20, LINE_LIMIT = 2048 };

static struct {
    enum log_place place;
    int fd;
    char *path;
    int facility;
    bool verbose;
    char tag[128];
    char host[256];
    char speaker[448]; /* "host tag[pid]: "; "" until needed, and after a fork */
    struct buf gathered;
    uint64_t flush_at;
    void (*take)(const char *line, void *arg);
    void *take_arg;
} the_log = {.place = LOG_TO_STDOUT, .fd = STDERR_FILENO, .tag = "postfix/sallyport"};

static const struct {
    const char *name;
    int facility;
} facilities[] = {
    {"mail", LOG_MAIL},     {"daemon", LOG_DAEMON}, {"user", LOG_USER},     {"auth", LOG_AUTH},
    {"local0", LOG_LOCAL0}, {"local1", LOG_LOCAL1}, {"local2", LOG_LOCAL2}, {"local3", LOG_LOCAL3},
    {"local4", LOG_LOCAL4}, {"local5", LOG_LOCAL5}, {"local6", LOG_LOCAL6}, {"local7", LOG_LOCAL7},
    {"news", LOG_NEWS},     {"uucp", LOG_UUCP},     {"cron", LOG_CRON},     {"syslog", LOG_SYSLOG},
};

static struct error *open_file(void)
{
    int fd = open(the_log.path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY, 0644);

    if (fd < 0)
        return error_errno(errno, "open log file %s", the_log.path);
    if (the_log.fd > STDERR_FILENO)
        close(the_log.fd);
    the_log.fd = fd;
    return NULL;
}

static struct error *open_syslog(const char *facility)
{
    for (size_t i = 0; i < sizeof(facilities) / sizeof(facilities[0]); i++)
        if (strcmp(facilities[i].name, facility) == 0) {
            the_log.facility = facilities[i].facility;
            return NULL;
        }
    return error_new(ERROR_CONF, "bad facility: syslog_facility = %s", facility);
}

struct error *log_open(enum log_place place, const char *path, const char *facility)
{
    struct error *e = NULL;

    log_flush();
    if (place == LOG_TO_FILE) {
        free(the_log.path);
        the_log.path = strdup(path);
        e = open_file();
    } else if (place == LOG_TO_SYSLOG) {
        e = open_syslog(facility);
    } else {
        the_log.fd = STDOUT_FILENO;
    }
    if (e == NULL)
        the_log.place = place;
    return e;
}

struct error *log_reopen(void)
{
    log_flush();
    return the_log.place == LOG_TO_FILE ? open_file() : NULL;
}

static void forget_speaker(void)
{
    the_log.speaker[0] = '\0';
}

void log_set_tag(const char *tag)
{
    format_print(the_log.tag, sizeof(the_log.tag), "%s", tag);
    forget_speaker();
    if (the_log.place == LOG_TO_SYSLOG)
        openlog(the_log.tag, LOG_PID | LOG_NDELAY, the_log.facility);
}

void log_set_verbose(bool verbose)
{
    the_log.verbose = verbose;
}

void log_capture(void (*take)(const char *line, void *arg), void *arg)
{
    the_log.take = take;
    the_log.take_arg = arg;
}

/* C1 controls (U+0080 to U+009F) are valid UTF-8, and terminals obey them. */
static void mask_controls(char *text, size_t n)
{
    unsigned char *p = (unsigned char *)text;

    for (size_t i = bytes_print_run(bytes(text, n)); i < n; i += bytes_print_run(bytes(text + i, n - i))) {
        size_t length = bytes_utf8_length(bytes(text + i, n - i));
        bool is_c1 = length == 2 && p[i] == 0xc2 && p[i + 1] < 0xa0;

        if (length <= 1 || is_c1) {
            length = length ? length : 1;
            memset(p + i, '?', length);
        }
        i += length;
    }
}

static const char *stamp(void)
{
    static char text[32];
    static time_t last;
    time_t now = (time_t)(clock_real_us() / 1000000);
    struct tm tm;

    if (now != last) {
        static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";

        localtime_r(&now, &tm);
        format_print(text, sizeof(text), "%.3s %2d %02d:%02d:%02d", months + tm.tm_mon * 3, tm.tm_mday,
                     tm.tm_hour, tm.tm_min, tm.tm_sec);
        last = now;
    }
    return text;
}

static const char *speaker(void)
{
    static bool is_fork_watched;

    if (the_log.speaker[0] != '\0')
        return the_log.speaker;
    if (!is_fork_watched)
        pthread_atfork(NULL, NULL, forget_speaker);
    is_fork_watched = true;
    if (the_log.host[0] == '\0') {
        gethostname(the_log.host, sizeof(the_log.host) - 1);
        the_log.host[strcspn(the_log.host, ".")] = '\0';
    }
    format_print(the_log.speaker, sizeof(the_log.speaker), "%s %s[%d]: ", the_log.host, the_log.tag,
                 (int)getpid());
    return the_log.speaker;
}

static void gather(const char *text, size_t n)
{
    if (the_log.gathered.n == 0)
        the_log.flush_at = clock_ms() + GATHER_MS;
    buf_adds(&the_log.gathered, stamp());
    buf_addc(&the_log.gathered, ' ');
    buf_adds(&the_log.gathered, speaker());
    buf_add(&the_log.gathered, bytes(text, n));
    buf_addc(&the_log.gathered, '\n');
    if (the_log.gathered.n > GATHER_LIMIT)
        log_flush();
}

int log_flush_in(void)
{
    uint64_t now = clock_ms();

    if (the_log.gathered.n == 0)
        return -1;
    return the_log.flush_at > now ? (int)(the_log.flush_at - now) : 0;
}

void log_flush(void)
{
    size_t done = 0;

    while (done < the_log.gathered.n) {
        ssize_t n = write(the_log.fd, the_log.gathered.p + done, the_log.gathered.n - done);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break; /* a log that cannot be written must not stop the mail */
        done += (size_t)n;
    }
    buf_cut(&the_log.gathered, 0);
}

static void put(int level, const char *prefix, const char *fmt, va_list args)
    __attribute__((format(printf, 3, 0)));

static void put(int level, const char *prefix, const char *fmt, va_list args)
{
    static char line[LINE_LIMIT];
    size_t n = strlen(prefix);
    int more = format_text(line + n, sizeof(line) - n, fmt, args);

    memcpy(line, prefix, n);
    n = more < 0 ? n : n + (size_t)more;
    if (n >= sizeof(line))
        n = sizeof(line) - 1;
    mask_controls(line, n);
    if (the_log.take != NULL)
        the_log.take(line, the_log.take_arg);
    else if (the_log.place == LOG_TO_SYSLOG)
        syslog(the_log.facility | level, "%s", line);
    else
        gather(line, n);
}

#define PUT(level, prefix)                                                                                   \
    do {                                                                                                     \
        va_list args;                                                                                        \
        va_start(args, fmt);                                                                                 \
        put((level), (prefix), fmt, args);                                                                   \
        va_end(args);                                                                                        \
    } while (0)

void log_info(const char *fmt, ...)
{
    PUT(LOG_INFO, "");
}

void log_debug(const char *fmt, ...)
{
    if (the_log.verbose)
        PUT(LOG_INFO, "");
}

void log_warn(const char *fmt, ...)
{
    PUT(LOG_WARNING, "warning: ");
}

void log_error(const char *fmt, ...)
{
    PUT(LOG_ERR, "error: ");
}

void log_fatal(const char *fmt, ...)
{
    PUT(LOG_CRIT, "fatal: ");
    log_flush();
    exit(1);
}

void log_panic(const char *fmt, ...)
{
    PUT(LOG_CRIT, "panic: ");
    log_flush();
    abort();
}

void log_report(struct error **e)
{
    if (*e != NULL)
        log_warn("%s", (*e)->text);
    error_free(e);
}
