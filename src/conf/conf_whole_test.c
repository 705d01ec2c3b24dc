/* conf: the look at the whole, what is printed, and the files that we ship. */
#include "conf_test_own.h"

#include <libgen.h>

#define QMGR "qmgr unix n - n 300 1 qmgr\n"

static void test_lint(void **state)
{
#define FRONT          "smtp inet n - n - - smtpd -o smtpd_proxy_filter=127.0.0.1:10025\n"
#define SLOTS          "smtpd_proxy_options = speed_adjust\nsmtpd_proxy_concurrency_limit = 20\n"
#define FILTERED(port) "127.0.0.1:" port " inet n - n - - smtpd -o smtpd_proxy_filter=127.0.0.2:" port "\n"
#define TWIN(set)      "127.0.0.1:2 inet n - n - - smtpd -o smtpd_proxy_filter=127.0.0.1:10025 -o " set "\n"
#define NEXTHOP(o)     "127.0.0.1:1 inet n - n - - filter -o filter_nexthop=127.0.0.1:2 -o " o "\n"
#define EIGHT                                                                                                \
    FILTERED("1")                                                                                            \
    FILTERED("2")                                                                                            \
    FILTERED("3")                                                                                            \
    FILTERED("4") FILTERED("5") FILTERED("6") FILTERED("7") FILTERED("8")
    static const char front[] = FRONT;
    static const struct {
        const char *main_text, *master_text;
        enum conf_severity severity;
        const char *file; /* NULL: no warning and no error at all */
        unsigned line;
        const char *fault;
    } cases[] = {
        {"", front, 0, NULL, 0, NULL},
        {"", "127.0.0.1:10026 inet n - n - - smtpd -o smtpd_authorized_xforward_hosts=127.0.0.0/8\n", 0, NULL,
         0, NULL},
        {"", "[::1]:10026 inet n - n - - smtpd -o smtpd_authorized_xforward_hosts=127.0.0.0/8\n", 0, NULL, 0,
         NULL},
        {"inet_interfaces = loopback-only\n",
         ":10026 inet n - n - - smtpd -o smtpd_authorized_xforward_hosts=127.0.0.0/8\n", 0, NULL, 0, NULL},
        {"", ":10026 inet n - n - - smtpd -o smtpd_authorized_xforward_hosts=127.0.0.0/8\n", CONF_WARNING,
         "master.cf", 1, "can be reached from outside: write 127.0.0.1:10026"},
        {"", "192.0.2.1:10026 inet n - n - - smtpd -o smtpd_authorized_xforward_hosts=127.0.0.0/8\n",
         CONF_WARNING, "master.cf", 1, "can be reached from outside"},
        {"inet_interfaces = 127.0.0.1, 192.0.2.1\n",
         "10026 inet n - n - - smtpd -o smtpd_authorized_xforward_hosts=127.0.0.0/8\n", CONF_WARNING,
         "master.cf", 1, "can be reached from outside"},
        {"", "10025 inet n - n - - filter\n", CONF_NOTE, "master.cf", 1, "listens to other machines"},
        {"", "10026 inet n - n - - smtpd -o smtpd_recipient_restrictions=permit\n", CONF_WARNING, "master.cf",
         1, "permit every client"},
        {"", "10026 inet n - n - - smtpd -o smtpd_recipient_restrictions=reject_unauth_destination,permit\n",
         0, NULL, 0, NULL},
        {"smtpd_proxy_filter = 10025\n", front, 0, NULL, 0, NULL},
        {"smtpd_proxy_filter = 10025\n", "smtp inet n - n - - smtpd\n127.0.0.1:10026 inet n - n - - smtpd\n",
         CONF_WARNING, "main.cf", 2, "is inherited by 2 smtpd services"},
        {"", "127.0.0.1:10026 inet n - n - - smtpd -o smtpd_proxy_filter=127.0.0.1:10026\n", CONF_ERROR,
         "master.cf", 1, "mail loop: \"127.0.0.1:10026\" is its own smtpd_proxy_filter"},
        {"", "127.0.0.1:10026 inet n - n - - smtpd -o smtpd_proxy_filter=inet:10026\n", CONF_ERROR,
         "master.cf", 1, "mail loop"},
        {"", "127.0.0.1:1 inet n - n - - smtpd -o smtpd_proxy_filter=127.0.0.1\n", CONF_ERROR, "master.cf", 1,
         "smtpd_proxy_filter: \"127.0.0.1\": bad TCP port: 127.0.0.1 ([inet:][host:]port or unix:path is "
         "wanted)"},
        {"smtpd_proxy_cheap_filter = filter.test:x-y-z\n", "127.0.0.1:1 inet n - n - - smtpd\n", CONF_ERROR,
         "main.cf", 2, "smtpd_proxy_cheap_filter: \"filter.test:x-y-z\": unknown TCP service name: x-y-z"},
        {"", "127.0.0.1:1 inet n - n - - filter -o filter_nexthop=10026,inet:[::1]:\n", CONF_ERROR,
         "master.cf", 1, "filter_nexthop: \"inet:[::1]:\": missing port"},
        {"", "127.0.0.1:1 inet n - n - - smtpd -o smtpd_proxy_filter=filter.test:1,unix:/x,[::1]:2\n", 0,
         NULL, 0, NULL},
        {"", ":10026 inet n - n - - smtpd -o smtpd_proxy_filter=localhost:10026\n", CONF_ERROR, "master.cf",
         1, "mail loop"},
        {"",
         "127.0.0.1:10026 inet n - n - - smtpd -o smtpd_proxy_filter=unix:/x,127.0.0.1:10025,inet:10026\n",
         CONF_ERROR, "master.cf", 1, "mail loop"},
        {"", "127.0.0.1:10026 inet n - n - - smtpd -o smtpd_proxy_filter=127.0.0.1:10025,127.0.0.1:10027\n",
         0, NULL, 0, NULL},
        {"", "127.0.0.1:10025 inet n - n - - filter -o filter_nexthop=127.0.0.1:10025\n", CONF_ERROR,
         "master.cf", 1, "is its own filter_nexthop"},
        {"",
         "127.0.0.1:10026 inet n - n - - smtpd -o smtpd_proxy_filter=127.0.0.1:1 -o "
         "smtpd_authorized_xforward_hosts=127.0.0.1\n",
         CONF_WARNING, "master.cf", 1, "filter loop"},
        {"", "127.0.0.1:1 inet n - n - - smtpd -o smtpd_proxy_filter=direct\n", CONF_NOTE, "master.cf", 1,
         "\"127.0.0.1:1\" runs filter_engines itself"},
        {"", "127.0.0.1:1 inet n - n - - smtpd -o smtpd_proxy_filter=direct\n", CONF_WARNING, "master.cf", 1,
         "nothing to look at mail with"},
        {"smtpd_proxy_filter = direct\nfilter_engines = checks\n",
         "127.0.0.1:1 inet n - n - - smtpd -o filter_nexthop=10026\n127.0.0.1:2 inet n - n - - smtpd\n",
         CONF_WARNING, "master.cf", 1, "filter_nexthop = 10026: has no effect"},
        {"", "127.0.0.1:1 inet n - n - - smtpd -o smtpd_proxy_filter=127.0.0.1:2,direct\n", CONF_ERROR,
         "master.cf", 1, "\"direct\" stands alone"},
        {"", "127.0.0.1:1 inet n - n - - smtpd -o smtpd_proxy_filter=direct:25\n", 0, NULL, 0, NULL},
        {SLOTS "smtpd_proxy_own_patience = 50s\n", front, 0, NULL, 0, NULL},
        {SLOTS "smtpd_proxy_own_patience = 101s\n", front, CONF_WARNING, "main.cf", 4,
         "smtpd_proxy_own_patience = 101s: is cut to smtpd_proxy_timeout (100s)"},
        {SLOTS "smtpd_proxy_good_share = 30\nsmtpd_proxy_auth_share = 15\n", front, 0, NULL, 0, NULL},
        {SLOTS "smtpd_proxy_good_share = 30\n", front, CONF_WARNING, "main.cf", 4, "add up to 105 %"},
        {"smtpd_proxy_concurrency_limit = 20\n", front, CONF_WARNING, "main.cf", 2,
         "has no effect without smtpd_proxy_options = speed_adjust"},
        {"smtpd_proxy_cheap_filter = 10\n", front, CONF_WARNING, "main.cf", 2,
         "has no effect without smtpd_proxy_concurrency_limit"},
        {"smtpd_proxy_good_patience = 20s\n", front, CONF_WARNING, "main.cf", 2,
         "has no effect without smtpd_proxy_concurrency_limit"},
        {"smtpd_proxy_good_patience = 20s\n", "smtp inet n - n - - smtpd\n", 0, NULL, 0, NULL},
        {"smtpd_proxy_good_patience = 20s\nsmtpd_proxy_options = speed_adjust\n",
         FRONT "127.0.0.1:1 inet n - n - - smtpd -o smtpd_proxy_filter=127.0.0.1:2 -o "
               "smtpd_proxy_concurrency_limit=5\n",
         0, NULL, 0, NULL},
        {SLOTS "smtpd_proxy_concurrency_minimum = 4\n", front, CONF_WARNING, "main.cf", 4,
         "has no effect without smtpd_proxy_concurrency_mode = adaptive"},
        {SLOTS "smtpd_proxy_concurrency_minimum = 4\nsmtpd_proxy_concurrency_mode = adaptive\n", front, 0,
         NULL, 0, NULL},
        {"smtpd_proxy_retry_limit = 3\n", front, CONF_WARNING, "main.cf", 2,
         "has no effect without smtpd_proxy_options = speed_adjust"},
        {SLOTS "smtpd_proxy_chunking = yes\n", front, CONF_WARNING, "main.cf", 4,
         "smtpd_proxy_chunking = yes: has no effect without smtpd_proxy_connection_reuse"},
        {SLOTS
         "smtpd_proxy_chunking = yes\nsmtpd_proxy_connection_reuse = yes\nsmtpd_proxy_pipelining = no\n",
         front, CONF_WARNING, "main.cf", 4, "has no effect without smtpd_proxy_pipelining"},
        {SLOTS "smtpd_proxy_chunking = yes\nsmtpd_proxy_connection_reuse = yes\n", front, 0, NULL, 0, NULL},
        {"smtpd_proxy_chunking = no\n", front, 0, NULL, 0, NULL},
        {"smtpd_proxy_retry_limit = 3\nsmtpd_proxy_options = speed_adjust\n",
         FRONT "127.0.0.1:1 inet n - n - - filter -o filter_nexthop=127.0.0.1:2\n", 0, NULL, 0, NULL},
        {"", NEXTHOP("smtpd_proxy_retry_limit=3"), CONF_WARNING, "master.cf", 1,
         "smtpd_proxy_retry_limit = 3: has no effect in a filter with filter_nexthop"},
        {"", NEXTHOP("smtpd_proxy_chunking=yes"), CONF_WARNING, "master.cf", 1, "has no effect in a filter"},
        {"", NEXTHOP("smtpd_proxy_retry_after_dot=no"), 0, NULL, 0, NULL},
        {"", NEXTHOP("smtpd_proxy_connect_timeout=101s"), CONF_WARNING, "master.cf", 1,
         "smtpd_proxy_connect_timeout = 101s: is cut to smtpd_proxy_timeout (100s)"},
        {"smtpd_proxy_connect_timeout = 101s\n", "127.0.0.1:1 inet n - n - - filter\n", 0, NULL, 0, NULL},
        {SLOTS "smtpd_proxy_retry_time = 101s\n", front, CONF_WARNING, "main.cf", 4,
         "smtpd_proxy_retry_time = 101s: is cut to smtpd_proxy_timeout (100s)"},
        {SLOTS "smtpd_proxy_retry_time = 100s\n", front, 0, NULL, 0, NULL},
        {"smtpd_proxy_retry_time = 1h\n", "127.0.0.1:1 inet n - n - - smtpd\n", 0, NULL, 0, NULL},
        {"smtpd_proxy_ejection_time = 2m\n", front, CONF_WARNING, "main.cf", 2,
         "smtpd_proxy_ejection_time = 2m: is cut to smtpd_proxy_ejection_time_limit (60s)"},
        {"smtpd_proxy_connection_reuse = yes\nsmtpd_proxy_connection_reuse_limit = 1\n", front, CONF_WARNING,
         "main.cf", 3, "smtpd_proxy_connection_reuse_limit = 1: no connection is kept"},
        {"smtpd_proxy_connection_reuse = yes\nsmtpd_proxy_connection_reuse_limit = 2\n", front, 0, NULL, 0,
         NULL},
        {SLOTS "smtpd_proxy_verdict_memory = no\nsmtpd_proxy_verdict_lifetime = 1d\n", front, CONF_WARNING,
         "main.cf", 5, "has no effect without smtpd_proxy_verdict_memory"},
        {SLOTS, FRONT "127.0.0.1:10025 inet n - n - 19 filter\n", CONF_WARNING, "main.cf", 3,
         "smtpd_proxy_concurrency_limit = 20: the filter 127.0.0.1:10025 takes 19 at once"},
        {SLOTS, FRONT "127.0.0.1:10025 inet n - n - 20 filter\n", 0, NULL, 0, NULL},
        {SLOTS, FRONT "127.0.0.1:10025 inet n - n - 0 filter\n", 0, NULL, 0, NULL},
        {SLOTS, FRONT "127.0.0.1:10035 inet n - n - 1 filter\n", 0, NULL, 0, NULL},
        {SLOTS, "smtp inet n - n - - smtpd\n", 0, NULL, 0, NULL},
        {SLOTS, EIGHT FRONT, CONF_ERROR, "master.cf", 9, "more than 8 filters with"},
        {SLOTS, EIGHT "smtp inet n - n - - smtpd -o smtpd_proxy_filter=127.0.0.2:8\n", 0, NULL, 0, NULL},
        {SLOTS "smtpd_proxy_cheap_filter = 127.0.0.2:9\n", EIGHT, CONF_ERROR, "master.cf", 8,
         "more than 8 filters with"},
        {"", EIGHT FRONT, 0, NULL, 0, NULL},
        {SLOTS "smtpd_proxy_hold_filter = scan:[127.0.0.1]:10\nsmtpd_proxy_good_steps = full, HOLD 80\n",
         FRONT "scan unix - - n - - smtp\n", 0, NULL, 0, NULL},
        {SLOTS "smtpd_proxy_hold_filter = scan:[127.0.0.1]:10\n", FRONT "scan unix - - n - - smtp\n",
         CONF_WARNING, "main.cf", 4, "has no effect: no smtpd_proxy_*_steps has the step hold"},
        {SLOTS "smtpd_proxy_hold_filter = smtp:[127.0.0.1]:10\n", front, CONF_ERROR, "main.cf", 4,
         "(type unix)"},
        {SLOTS "smtpd_proxy_cheap_filter = 127.0.0.2:9\nsmtpd_proxy_own_steps = full, hold 80\n", front,
         CONF_WARNING, "main.cf", 4, "has no effect: no smtpd_proxy_*_steps has the step cheap"},
        {SLOTS "smtpd_proxy_cheap_filter = 127.0.0.2:9\n",
         FRONT "127.0.0.1:1 inet n - n - - smtpd -o smtpd_proxy_filter=127.0.0.2:8 -o "
               "smtpd_proxy_auth_steps=full,cheap,50\n",
         0, NULL, 0, NULL},
        {SLOTS "smtpd_proxy_cheap_filter = 127.0.0.1:9\nsmtpd_proxy_own_steps = full, cheap 80\n",
         FRONT "127.0.0.1:9 inet n - n - 19 filter\n", CONF_WARNING, "main.cf", 3,
         "smtpd_proxy_concurrency_limit = 20: the filter 127.0.0.1:9 takes 19 at once"},
        {SLOTS "smtpd_proxy_cheap_filter = 127.0.0.1:25\nsmtpd_proxy_own_steps = full, cheap 80\n", front,
         CONF_ERROR, "master.cf", 1, "\"smtp\" is its own smtpd_proxy_cheap_filter (127.0.0.1:25)"},
        {SLOTS "smtpd_proxy_concurrency_minimum = 21\nsmtpd_proxy_concurrency_mode = adaptive\n", front,
         CONF_WARNING, "main.cf", 4, "= 21: is cut to smtpd_proxy_concurrency_limit (20)"},
        {SLOTS "smtpd_proxy_timeout = 50s\n", front, CONF_WARNING, "main.cf", 4,
         "smtpd_proxy_timeout = 50s: cuts the patience of clients (100s by default)"},
        {SLOTS "smtpd_proxy_timeout = 200s\n", front, 0, NULL, 0, NULL},
        {SLOTS, FRONT TWIN("smtpd_proxy_own_patience=100s"), 0, NULL, 0, NULL},
        {SLOTS, FRONT TWIN("smtpd_proxy_own_patience=50s"), CONF_WARNING, "master.cf", 2,
         "\"smtp\" and \"127.0.0.1:2\" share the filter 127.0.0.1:10025 with another "
         "smtpd_proxy_own_patience:"},
        {SLOTS, FRONT TWIN("smtpd_proxy_stranger_steps=full"), CONF_WARNING, "master.cf", 2,
         "with another smtpd_proxy_stranger_steps: the worker that starts last sets it for both"},
        {SLOTS, FRONT TWIN("smtpd_proxy_concurrency_limit=0"), CONF_WARNING, "master.cf", 2,
         "the filter 127.0.0.1:10025 has slots for \"smtp\", and takes what \"127.0.0.1:2\" sends without "
         "one"},
        {"", FRONT TWIN("smtpd_proxy_own_share=7"), CONF_WARNING, "master.cf", 2, "has no effect without"},
        {SLOTS,
         FRONT "127.0.0.1:2 inet n - n - - smtpd -o smtpd_proxy_filter=127.0.0.1:3 -o "
               "smtpd_proxy_cheap_filter=127.0.0.1:10025 -o smtpd_proxy_own_steps=cheap,50\n",
         CONF_WARNING, "master.cf", 2,
         "127.0.0.1:10025 is smtpd_proxy_filter of \"smtp\" and smtpd_proxy_cheap_filter of \"127.0.0.1:2\""},
        {SLOTS "smtpd_proxy_cheap_filter = 127.0.0.2:9\nsmtpd_proxy_own_steps = full, cheap 80\n",
         FRONT FILTERED("1") FILTERED("2"), 0, NULL, 0, NULL},
        {SLOTS "smtpd_proxy_hold_filter = sca:[127.0.0.1]:10\n", FRONT "scan unix - - n - - smtp\n",
         CONF_ERROR, "main.cf", 4, "with a transport that is a service of master.cf"},
        {SLOTS "smtpd_proxy_hold_filter = scan\n", FRONT "scan unix - - n - - smtp\n", CONF_ERROR, "main.cf",
         4, "transport:nexthop is wanted"},
        {"smtpd_proxy_timeout = ${stress?{10}:{100}}s\n", front, CONF_WARNING, "main.cf", 2,
         "has the same value with and without stress"},
        {"smtpd_timeout = ${stress?{10}:{100}}s\n", front, 0, NULL, 0, NULL},
        {"smtpd_relay_restrictions =\n", front, CONF_ERROR, "master.cf", 1,
         "specify at least one working instance of"},
        {"smtpd_relay_restrictions =\nsmtpd_recipient_restrictions = permit_mynetworks, REJECT\n", front, 0,
         NULL, 0, NULL},
        {"smtpd_relay_restrictions = permit_mynetworks\n", "127.0.0.1:1 inet n - n - - smtpd\n", CONF_ERROR,
         "master.cf", 1, "specify at least one"},
        {"message_size_limit = 60000000\n", front, CONF_WARNING, "main.cf", 2,
         "mailbox_size_limit (51200000) is smaller than message_size_limit (60000000)"},
        {"virtual_mailbox_maps = static:x\nvirtual_mailbox_limit = 100\n", front, CONF_ERROR, "main.cf", 3,
         "virtual_mailbox_limit (100) is smaller than message_size_limit (10240000)"},
        {"mailbox_size_limit = 0\nvirtual_mailbox_limit = 0\nmessage_size_limit = 0\n", front, 0, NULL, 0,
         NULL},
        {"smtpd_sasl_auth_enable = yes\n", front, CONF_WARNING, "main.cf", 2,
         "smtpd_sasl_auth_enable = yes: Postfix has this parameter, this version does not act on it"},
        {"smtpd_sasl_auth_enable = no\nbiff = no\ncontent_filter =\n", front, 0, NULL, 0, NULL},
        {"", "127.0.0.1:1 inet n - n - - smtpd -o smtpd_tls_wrappermode=yes\n", CONF_WARNING, "master.cf", 1,
         "smtpd_tls_wrappermode = yes"},
        {"smtpd_per_request_deadline = no\n", front, CONF_WARNING, "main.cf", 2,
         "smtpd_per_request_deadline = no: each command has smtpd_timeout as a whole"},
        {"smtpd_per_request_deadline = yes\n", front, 0, NULL, 0, NULL},
        {"smtpd_forbid_bare_newline = no\n", front, CONF_WARNING, "main.cf", 2,
         "CR LF . CR LF on every listener"},
        {"smpt_destination_concurrency_limit = 2\n", front, CONF_WARNING, "main.cf", 2,
         "no service of master.cf has this name"},
        {"slow_destination_concurrency_limit = 2\n", "slow unix - - n - - smtp\n", 0, NULL, 0, NULL},
        {"", "local unix - - n - - local\n", CONF_WARNING, "master.cf", 1, "mail for it waits in the queue"},
        {"", "tlsmgr unix - - n - - tlsmgr\n", CONF_NOTE, "master.cf", 1, "needs no process here"},
        {"", "x unix - - n - - smptd\n", CONF_ERROR, "master.cf", 1,
         "unknown command \"smptd\" (did you mean smtpd?)"},
        {"mine = permit\n", "127.0.0.1:1 inet n - n - - smtpd -o unknown_thing=x\n", CONF_WARNING,
         "master.cf", 1, "unused parameter: unknown_thing=x"},
    };

    for (size_t i = 0; i < COUNT(cases); i++) {
        char *main_text = mem_printf(NULL, "compatibility_level = 3.6\n%s", cases[i].main_text);
        char *master_text = mem_printf(main_text, "%s" QMGR, cases[i].master_text);
        bool good;
        struct world w;

        world_init(&w, main_text, master_text);
        conf_lint(w.conf, &w.services, &w.faults);
        good = cases[i].file ? world_has(&w, cases[i].severity, cases[i].file, cases[i].line, cases[i].fault)
                             : w.faults.n == 0;
        if (!good) {
            world_show(&w);
            fail_msg("case %zu: %s%s", i, main_text, cases[i].master_text);
        }
        talloc_free(main_text);
        world_deinit(&w);
    }
}

static void test_lint_scheduler(void **state)
{
    static const char *const services[] = {"1 inet n - n - - smtpd\n2 inet n - n - - smtpd\n" QMGR,
                                           "1 inet n - n - - smtpd\n2 inet n - n - - smtpd\n"};

    for (size_t i = 0; i < COUNT(services); i++) {
        struct world w;

        world_init(&w, "compatibility_level = 3.6\n", services[i]);
        conf_lint(w.conf, &w.services, &w.faults);
        assert_int_equal(w.faults.n, i);
        assert_int_equal(world_has(&w, CONF_WARNING, "master.cf", 1, "what is queued stays there"), i);
        world_deinit(&w);
    }
}

static void test_commands(void **state)
{
    static const struct {
        const char *name;
        enum conf_command what;
    } cases[] = {
        {"smtpd", CONF_COMMAND_OURS},      {"filter", CONF_COMMAND_OURS},
        {"qmgr", CONF_COMMAND_OURS},       {"cleanup", CONF_COMMAND_OURS},
        {"virtual", CONF_COMMAND_OURS},    {"smtp", CONF_COMMAND_OURS},
        {"error", CONF_COMMAND_OURS},      {"discard", CONF_COMMAND_OURS},
        {"bounce", CONF_COMMAND_OURS},     {"anvil", CONF_COMMAND_SERVED},
        {"tlsmgr", CONF_COMMAND_SERVED},   {"trivial-rewrite", CONF_COMMAND_SERVED},
        {"flush", CONF_COMMAND_SERVED},    {"proxymap", CONF_COMMAND_SERVED},
        {"scache", CONF_COMMAND_SERVED},   {"showq", CONF_COMMAND_SERVED},
        {"postlogd", CONF_COMMAND_SERVED}, {"local", CONF_COMMAND_LATER},
        {"pipe", CONF_COMMAND_LATER},      {"lmtp", CONF_COMMAND_LATER},
        {"pickup", CONF_COMMAND_LATER},    {"verify", CONF_COMMAND_LATER},
        {"spawn", CONF_COMMAND_LATER},     {"postscreen", CONF_COMMAND_LATER},
        {"dnsblog", CONF_COMMAND_LATER},   {"tlsproxy", CONF_COMMAND_LATER},
        {"qmqpd", CONF_COMMAND_LATER},     {"nqmgr", CONF_COMMAND_LATER},
        {"oqmgr", CONF_COMMAND_LATER},     {"", CONF_COMMAND_UNKNOWN},
        {"relay", CONF_COMMAND_UNKNOWN},   {"SMTPD", CONF_COMMAND_UNKNOWN},
        {"zzz", CONF_COMMAND_UNKNOWN},
    };

    for (size_t i = 0; i < COUNT(cases); i++)
        if (conf_command(cases[i].name) != cases[i].what)
            fail_msg("%s", cases[i].name);
}

static char *printed(const struct world *w, enum conf_print what, bool expand, const char *const *names,
                     int *unknown)
{
    char *text = NULL;
    size_t n;
    FILE *out = open_memstream(&text, &n);

    *unknown = conf_print(w->conf, what, expand, names, out);
    fclose(out);
    return text;
}

static void test_print(void **state)
{
    static const char *const three[] = {"mail_name", "biff", "relayhost", NULL};
    static const char *const strange[] = {"mail_name", "no_such", NULL};
    const struct {
        enum conf_print what;
        bool expand;
        const char *const *names;
        int unknown;
        const char *want;
    } cases[] = {
        {CONF_PRINT_SET, false, NULL, 0, "biff = no\nmail_name = $x, y\nrelayhost =\nx = z\n"},
        {CONF_PRINT_SET, true, NULL, 0, "biff = no\nmail_name = z, y\nrelayhost =\nx = z\n"},
        {CONF_PRINT_ALL, false, three, 0, "mail_name = $x, y\nbiff = no\nrelayhost =\n"},
        {CONF_PRINT_DEFAULTS, false, three, 0, "mail_name = Postfix\nbiff = yes\nrelayhost =\n"},
        {CONF_PRINT_SET, false, strange, 1, "mail_name = $x, y\n"},
    };
    struct world w;
    int unknown;
    char *text;

    world_init(&w, "x = z\nrelayhost =\nmail_name = $x,\t\n  y\nbiff = no\nunused = thing\n", NULL);
    for (size_t i = 0; i < COUNT(cases); i++) {
        text = printed(&w, cases[i].what, cases[i].expand, cases[i].names, &unknown);
        assert_string_equal(text, cases[i].want);
        assert_int_equal(unknown, cases[i].unknown);
        free(text);
    }
    text = printed(&w, CONF_PRINT_DEFAULTS, false, NULL, &unknown);
    assert_non_null(strstr(text, "\nsmtpd_timeout = ${stress?{10}:{300}}s\n"));
    assert_null(strstr(text, "\nx = "));
    free(text);
    text = printed(&w, CONF_PRINT_ALL, true, NULL, &unknown);
    assert_non_null(strstr(text, "\nsmtpd_timeout = 300s\n"));
    assert_non_null(strstr(text, "\nx = z\n"));
    assert_null(strstr(text, "\nunused = "));
    free(text);
    world_deinit(&w);
}

static void test_faults_are_bounded_and_told_once(void **state)
{
    struct conf_faults f = {.ctx = talloc_new(NULL)};

    conf_fault_add(&f, CONF_WARNING, "a", 1, "x");
    conf_fault_add(&f, CONF_WARNING, "a", 1, "x");
    conf_fault_add(&f, CONF_WARNING, "a", 2, "x");
    assert_int_equal(f.n, 2);
    assert_false(conf_faults_has_error(&f));
    for (unsigned i = 0; i < 2 * CONF_FAULT_LIMIT; i++)
        conf_fault_add(&f, CONF_WARNING, "b", i, "y");
    assert_int_equal(f.n, CONF_FAULT_LIMIT);
    conf_fault_add(&f, CONF_ERROR, "c", 1, "z");
    assert_true(conf_faults_has_error(&f));
    talloc_free(f.ctx);
}

/* A folder of the source tree; freed with ctx. */
static const char *source_folder(const void *ctx, const char *below)
{
    char *here = mem_strdup(ctx, __FILE__);

    return mem_printf(ctx, "%s/../../%s", dirname(here), below);
}

/* What we ship has neither an error nor a warning. */
static void test_shipped(void **state)
{
    static const struct {
        const char *folder;
        long sessions, slots; /* of the server before the filter */
    } cases[] = {{"conf", 1000, 20}, {"conf/examples/before-queue-filter", 20, 0}};

    for (size_t i = 0; i < COUNT(cases); i++) {
        struct world w = {.faults.ctx = talloc_new(NULL)};
        const char *dir = source_folder(w.faults.ctx, cases[i].folder);

        w.conf = conf_read(w.faults.ctx, dir, &w.faults);
        conf_validate(w.conf, &w.faults);
        w.services = conf_read_services(w.faults.ctx, w.conf, dir, &w.faults);
        conf_lint(w.conf, &w.services, &w.faults);
        world_show(&w);
        assert_int_equal(w.faults.n, 0);
        assert_int_equal(w.services.n, 12);
        assert_string_equal(conf_text(w.conf, "config_directory"), dir);
        assert_string_equal(w.services.at[0].command, "smtpd");
        assert_int_equal(w.services.at[0].maxproc, cases[i].sessions);
        assert_int_equal(conf_int(w.services.at[0].conf, "smtpd_proxy_concurrency_limit"), cases[i].slots);
        assert_string_equal(conf_text(w.services.at[0].conf, "smtpd_proxy_filter"), "127.0.0.1:10025");
        assert_int_equal(conf_int(w.services.at[0].conf, "smtpd_client_connection_count_limit"), 10);
        assert_string_equal(conf_text(w.services.at[1].conf, "filter_nexthop"), "127.0.0.1:10026");
        assert_string_equal(conf_text(w.services.at[2].conf, "smtpd_proxy_filter"), "");
        assert_string_equal(conf_text(w.services.at[2].conf, "smtpd_recipient_restrictions"),
                            "permit_mynetworks,reject");
        world_deinit(&w);
    }
}

static void test_missing_files(void **state)
{
    struct world w = {.faults.ctx = talloc_new(NULL)};

    w.conf = conf_read(w.faults.ctx, "/nonexistent", &w.faults);
    assert_true(world_has(&w, CONF_ERROR, "/nonexistent/main.cf", 0, "No such file or directory"));
    w.services = conf_read_services(w.faults.ctx, w.conf, "/nonexistent", &w.faults);
    assert_true(world_has(&w, CONF_ERROR, "/nonexistent/master.cf", 0, "No such file or directory"));
    assert_int_equal(w.services.n, 0);
    world_deinit(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lint),
        cmocka_unit_test(test_lint_scheduler),
        cmocka_unit_test(test_commands),
        cmocka_unit_test(test_print),
        cmocka_unit_test(test_faults_are_bounded_and_told_once),
        cmocka_unit_test(test_shipped),
        cmocka_unit_test(test_missing_files),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
