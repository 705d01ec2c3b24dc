/* table: every type, address search, match lists, postmap's files both ways. */
#include "table.h"

#include "clock.h"
#include "co.h"
#include "log.h"
#include "mem.h"
#include "table_domains.h"
#include "table_type.h"

#include <errno.h>
#include <fcntl.h>
#include <lmdb.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <unistd.h>

#ifdef HAVE_DB
#include <db.h>

#include <cmocka.h>
#endif

static char folder[] = "/tmp/table-test-XXXXXX";
static char logged[4096];

static void take_log(const char *line, void *arg)
{
    snprintf(logged, sizeof(logged), "%s", line);
}

static const char *path_of(const char *name)
{
    static char path[4][256];
    static int turn;

    turn = (turn + 1) % 4;
    snprintf(path[turn], sizeof(path[turn]), "%s/%s", folder, name);
    return path[turn];
}

static void put_file(const char *name, const char *text)
{
    FILE *f = fopen(path_of(name), "w");

    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, strlen(text), f), strlen(text));
    assert_int_equal(fclose(f), 0);
}

/* The spec with "@name" standing for a file of the test's folder. */
static const char *spec_of(const char *spec)
{
    static char out[8192];
    const char *at = strstr(spec, ":@");

    if (at == NULL)
        return spec;
    snprintf(out, sizeof(out), "%.*s:%s", (int)(at - spec), spec, path_of(at + 2));
    return out;
}

static struct table *must_open(const char *spec)
{
    struct table *t = NULL;
    struct error *e = table_open(spec_of(spec), NULL, &t);

    if (e != NULL)
        fail_msg("%s: %s", spec, e->text);
    return t;
}

/* "-" absent, "!" failed, else the value; borrowed until the next call. */
static const char *look(struct table *t, const char *key)
{
    static char out[1024];
    char *value;
    enum table_end end = table_find(t, NULL, bytes_of(key), &value);

    if (end != TABLE_FOUND) {
        assert_null(value);
        return end == TABLE_FAILED ? "!" : "-";
    }
    snprintf(out, sizeof(out), "%s", value);
    talloc_free(value);
    return out;
}

static void test_lookups(void **state)
{
    static const struct {
        const char *spec, *key, *value;
    } cases[] = {
        {"inline:{ {Key = v 2}, a=b }", "key", "v 2"},
        {"inline:{ {Key = v 2}, a=b }", "KEY", "v 2"},
        {"inline:{ {Key = v 2}, a=b }", "a", "b"},
        {"inline:{ {Key = v 2}, a=b }", "c", "-"},
        {"proxy:inline:{{x=y=z}}", "x", "y=z"},
        {"static:all", "anything", "all"},
        {"static:{ two words }", "x", "two words"},
        {"fail:x", "x", "!"},
        {"environ:x", "TABLE_TEST", "yes"},
        {"environ:x", "TABLE_TEST_NOT", "-"},
        {"texthash:@text", "one", "1"},
        {"texthash:@text", "ONE", "1"},
        {"texthash:@text", "two", "2 with\tmore   continued   again"},
        {"texthash:@text", "\"a b\"@x", "quoted"},
        {"texthash:@text", "# no", "-"},
        {"texthash:@text", "dup", "first"},
        {"regexp:{{/^a(b*)c$/ got $1 ${1}x$(1)$$}}", "abbc", "got bb bbxbb$"},
        {"regexp:{{/^a(b*)c$/ got $1}}", "ABBC", "got BB"},
        {"regexp:{{/^a(b*)c$/i got $1}}", "ABBC", "-"},
        {"regexp:{{!/^a/ not a}}", "b", "not a"},
        {"regexp:{{!/^a/ not a}}", "a", "-"},
        {"regexp:{{/(a)|(b)/ [$1][$2]}}", "b", "[][b]"},
        {"regexp:{{/a\\/b/ slash}}", "a/b", "slash"},
        {"regexp:{{/a+/x one}}", "aa", "-"},
        {"regexp:{{/a+/x one}}", "a+", "one"},
        {"regexp:{{/^b$/ one}}", "a\nb", "-"},
        {"regexp:{{/^b$/m one}}", "a\nb", "one"},
        {"pcre:{{/^(?<n>\\d+)\\.(x)?/ $1-$2}}", "12.y", "12-"},
        {"pcre:{{/^A$/ x}}", "a", "x"},
        {"pcre:{{/^A$/i x}}", "a", "-"},
        {"pcre:{{/a.b/ x}}", "a\nb", "x"},
        {"pcre:{{/a.b/s x}}", "a\nb", "-"},
        {"pcre:{{/b/A x}}", "ab", "-"},
        {"pcre:{{!/b/ $$x}}", "a", "$x"},
        {"pcre:{{(p(1)) x}}", "p1", "!bad"},
        {"pcre:@rules", "in example", "inner"},
        {"pcre:@rules", "in other", "after"},
        {"pcre:@rules", "nothing", "last"},
        {"pcre:@rules", "deep in x y", "both"},
        {"pcre:@rules", "deep in x", "after"},
        {"cidr:@nets", "192.0.2.77", "net"},
        {"cidr:@nets", "192.0.2.1", "host"},
        {"cidr:@nets", "198.51.100.200", "not lower"},
        {"cidr:@nets", "198.51.100.5", "-"},
        {"cidr:@nets", "2001:db8:0:1::5", "six"},
        {"cidr:@nets", "2001:DB8::5", "six"},
        {"cidr:@nets", "host.name", "-"},
        {"cidr:@nets", "[192.0.2.1]", "-"},
        {"cidr:@nets", "10.1.2.3", "$1 stays"},
        {"cidr:{{1.2.3.0/24 REJECT}, {0.0.0.0/0 all}}", "1.2.3.4", "REJECT"},
        {"cidr:{{1.2.3.0/24 REJECT}, {0.0.0.0/0 all}}", "1.2.4.4", "all"},
        {"unionmap:{inline:{{a=1}} static:2}", "a", "1,2"},
        {"unionmap:{inline:{{a=1}} static:2}", "b", "2"},
        {"unionmap:{inline:{{a=1}} fail:x}", "a", "!"},
        {"unionmap:{inline:{{a=1}}, inline:{{b=1}}}", "c", "-"},
        {"pipemap:{inline:{{a=b}}, inline:{{b=c d}}}", "a", "c d"},
        {"pipemap:{inline:{{a=b}}, inline:{{x=c d}}}", "a", "-"},
        {"randmap:{one}", "a", "one"},
        {"unix:passwd.byname", "root", "root:x:0:0:root:/root:/bin/bash"},
        {"unix:passwd.byname", "no.such.user", "-"},
        {"unix:group.byname", "root", "root:x:0:"},
    };

    setenv("TABLE_TEST", "yes", 1);
    put_file("text",
             "# a comment\n\none 1\ntwo  2 with\tmore \n  continued\n# between\n   again\n\"a b\"@x quoted\n"
             "dup first\nDUP second\n");
    put_file("rules", "if /in /\n/example/ inner\nif /x/\n/y/ both\nendif\n/./ after\nendif\n/./ last\n");
    put_file("nets",
             "192.0.2.1 host\n192.0.2.0/24 net\nif 198.51.100.0/24\n!198.51.100.0/25 not lower\nendif\n"
             "[2001:db8::]/32 six\n10.0.0.0/8 $1 stays\n");
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct table *t;
        struct error *e;
        const char *found;

        if (strcmp(cases[i].value, "!bad") == 0) {
            e = table_open(cases[i].spec, NULL, &t);
            assert_non_null(e);
            error_free(&e);
            continue;
        }
        t = must_open(cases[i].spec);
        found = look(t, cases[i].key);
        if (strcmp(found, cases[i].value) != 0)
            fail_msg("%s: \"%s\" gave \"%s\", not \"%s\"", cases[i].spec, cases[i].key, found,
                     cases[i].value);
    }
}

static void test_what_is_refused(void **state)
{
    static const struct {
        const char *spec, *text, *why;
    } cases[] = {
        {"nocolon", NULL, "need \"type:name\""},
        {"bogus:x", NULL, "unsupported dictionary type: bogus"},
        {"ldap:x", NULL, "\"ldap\" is not in this version"},
        {"hash:", NULL, "the name is empty"},
        {"hash:/nowhere/x", NULL, "/nowhere/x.db: No such file"},
        {"lmdb:/nowhere/x", NULL, "/nowhere/x.lmdb: No such file"},
        {"texthash:/nowhere/x", NULL, "/nowhere/x: No such file"},
        {"texthash:/", NULL, "not a file"},
        {"texthash:@t", "a b\nnovalue\n", "t:2: expected format"},
        {"texthash:@t", " a b\n", "t:1: logical line must not start with whitespace"},
        {"inline:x", NULL, "need {{name = value}"},
        {"inline:{}", NULL, "empty inline table"},
        {"inline:{ {x} }", NULL, "missing '='"},
        {"inline:{ {=x} }", NULL, "missing attribute name"},
        {"regexp:@t", "/a/ ok\n/(/ x\n", "t:2: \"(\": Unmatched"},
        {"regexp:@t", "/a/q x\n", "t:1: unknown regexp option \"q\""},
        {"regexp:@t", "/a x\n", "t:1: no closing pattern delimiter"},
        {"regexp:@t", "word x\n", "t:1: need a pattern between delimiters"},
        {"regexp:@t", "/(a)/ $2\n", "t:1: out of range replacement index \"2\""},
        {"regexp:@t", "!/(a)/ $1\n", "not allowed with a negative match"},
        {"regexp:@t", "/(a)/ $x\n", "bad replacement index"},
        {"regexp:@t", "/(a)/ ${1\n", "missing \"}\""},
        {"pcre:@t", "/(/ x\n", "t:1: error in regex at offset"},
        {"pcre:@t", "/a/z x\n", "unknown PCRE option \"z\""},
        {"pcre:@t", "if /a/\n/b/ c\n", "t:1: \"if\" has no matching \"endif\""},
        {"pcre:@t", "/b/ c\nendif\n", "t:2: \"endif\" without \"if\""},
        {"pcre:@t", "if /a/ text\nendif\n", "extra text after \"if\""},
        {"cidr:@t", "1.2.3.4/8 x\n", "t:1: non-null host address bits in \"1.2.3.4/8\"; use \"1.0.0.0/8\""},
        {"cidr:@t", "1.2.3.4/33 x\n", "bad net/mask pattern"},
        {"cidr:@t", "1.2.3 x\n", "bad address \"1.2.3\""},
        {"cidr:{}", NULL, "empty inline table"},
        {"unionmap:{}", NULL, "empty list of tables"},
        {"unionmap:{bogus:x}", NULL, "unsupported dictionary type"},
        {"unix:shadow", NULL, "need passwd.byname"},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct table *t = NULL;
        struct error *e;

        if (cases[i].text != NULL)
            put_file("t", cases[i].text);
        e = table_open(spec_of(cases[i].spec), NULL, &t);
        assert_null(t);
        if (e == NULL || strstr(e->text, cases[i].why) == NULL)
            fail_msg("%s (%zu): \"%s\", not \"%s\"", cases[i].spec, i, e ? e->text : "good", cases[i].why);
        assert_int_equal(e->kind, ERROR_CONF);
        error_free(&e);
    }
}

static void test_keys_that_cannot_be(void **state)
{
    struct table *t = must_open("static:x");
    struct bytes nul = BYTES("a\0b");
    char *value, *big = mem_bytes(NULL, 10000);

    memset(big, 'a', 10000);
    assert_int_equal(table_find(t, NULL, nul, &value), TABLE_ABSENT);
    t = must_open("inline:{{a=b}}");
    assert_int_equal(table_find(t, NULL, bytes(big, 10000), &value), TABLE_ABSENT);
    t = must_open("pcre:{{/^a{9000,}$/ long}}");
    assert_string_equal(look(t, bytes_dup(big, bytes(big, 10000))), "long");
    talloc_free(big);
}

static void test_same_spec_same_table(void **state)
{
    assert_ptr_equal(must_open("static:same"), must_open("proxy:static:same"));
    assert_ptr_not_equal(must_open("static:same"), must_open("static:other"));
    assert_string_equal(table_spec(must_open("proxy:static:same")), "static:same");
    assert_true(table_wants_whole_key(must_open("pcre:{{/a/ b}}")));
    assert_true(table_wants_whole_key(must_open("unionmap:{pcre:{{/a/ b}}, static:x}")));
    assert_false(table_wants_whole_key(must_open("static:same")));
}

/* A pattern that backtracks for ever on a hostile text is a failure, and a quick one. */
static void test_pcre_backtracking_is_bounded(void **state)
{
    struct table *t = must_open("pcre:{{/^(a+)+(b|c(?1))$/ x}}");

    log_capture(take_log, NULL);
    assert_string_equal(
        look(t, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"), "!");
    log_capture(NULL, NULL);
    assert_non_null(strstr(logged, "cannot be tried"));
}

/* ---- indexed files ---- */

static void build(const char *spec)
{
    struct error *e = table_build(spec_of(spec), NULL);

    if (e != NULL)
        fail_msg("%s: %s", spec, e->text);
}

static void build_and_read(const char *type)
{
    char spec[64];
    struct table *t;
    struct error *e;
    bool was_there;

    snprintf(spec, sizeof(spec), "%s:@%s", type, type);
    put_file(type, "Alpha@x.test  one two\nbeta 2\nbeta 3\n");
    log_capture(take_log, NULL);
    build(spec);
    log_capture(NULL, NULL);
    assert_non_null(strstr(logged, ":3: duplicate entry: \"beta\""));
    t = must_open(spec);
    assert_string_equal(look(t, "ALPHA@X.test"), "one two");
    assert_string_equal(look(t, "beta"), "2");
    assert_string_equal(look(t, "bet"), "-");
    assert_string_equal(look(t, ""), "-");
    assert_false(table_has_changed(t));

    put_file(type, "gamma new\nbeta 5\n");
    build(spec);
    assert_true(table_has_changed(t));
    assert_false(table_any_has_changed()); /* this kind looks after itself */
    clock_skip_ms(2000);
    assert_string_equal(look(t, "gamma"), "new");
    assert_string_equal(look(t, "alpha@x.test"), "-");
    assert_false(table_has_changed(t));

    assert_null(table_remove(spec_of(spec), "GAMMA", &was_there));
    assert_true(was_there);
    assert_null(table_remove(spec_of(spec), "GAMMA", &was_there));
    assert_false(was_there);
    assert_string_equal(look(t, "gamma"), "-");
    assert_string_equal(look(t, "beta"), "5");

    put_file(type, "good line\nbad\n");
    e = table_build(spec_of(spec), NULL);
    assert_non_null(e);
    assert_non_null(strstr(e->text, ":2: expected format"));
    error_free(&e);
    assert_string_equal(look(t, "beta"), "5"); /* the old file is still there */
    assert_string_equal(look(t, "good"), "-");
}

static void test_lmdb(void **state)
{
    build_and_read("lmdb");
}

static void test_lmdb_without_nul(void **state)
{
    MDB_val key = {.mv_data = (void *)(uintptr_t) "plain", .mv_size = 5};
    MDB_val value = {.mv_data = (void *)(uintptr_t) "no nul", .mv_size = 6};
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi dbi;

    assert_int_equal(mdb_env_create(&env), 0);
    assert_int_equal(mdb_env_open(env, path_of("plain.lmdb"), MDB_NOSUBDIR | MDB_NOLOCK, 0600), 0);
    assert_int_equal(mdb_txn_begin(env, NULL, 0, &txn), 0);
    assert_int_equal(mdb_dbi_open(txn, NULL, 0, &dbi), 0);
    assert_int_equal(mdb_put(txn, dbi, &key, &value, 0), 0);
    assert_int_equal(mdb_txn_commit(txn), 0);
    mdb_env_close(env);
    assert_string_equal(look(must_open("lmdb:@plain"), "PLAIN"), "no nul");
    assert_string_equal(look(must_open("lmdb:@plain"), "plai"), "-");
}

static void test_lmdb_long_keys(void **state)
{
    char text[700];
    struct error *e;

    memset(text, 'k', 600);
    memcpy(text + 600, " value\n", 8);
    put_file("long", text);
    e = table_build(spec_of("lmdb:@long"), NULL);
    assert_non_null(e);
    assert_non_null(strstr(e->text, "long:1: key is longer than 510 bytes"));
    error_free(&e);
    put_file("long", "a b\n");
    build("lmdb:@long");
    text[600] = '\0';
    assert_string_equal(look(must_open("lmdb:@long"), text), "-");
}

#ifdef HAVE_DB

static void test_hash(void **state)
{
    build_and_read("hash");
}

static void test_btree(void **state)
{
    build_and_read("btree");
}

/* Files of programs that write no NUL behind key and value. */
static void test_hash_without_nul(void **state)
{
    DB *db;
    DBT key = {.data = (void *)(uintptr_t) "plain", .size = 5};
    DBT value = {.data = (void *)(uintptr_t) "no nul", .size = 6};

    assert_int_equal(db_create(&db, NULL, 0), 0);
    assert_int_equal(db->open(db, NULL, path_of("plain.db"), NULL, DB_HASH, DB_CREATE, 0600), 0);
    assert_int_equal(db->put(db, NULL, &key, &value, 0), 0);
    assert_int_equal(db->close(db, 0), 0);
    assert_string_equal(look(must_open("hash:@plain"), "PLAIN"), "no nul");
    assert_string_equal(look(must_open("hash:@plain"), "plai"), "-");
}

/* Debian's postmap, where it is installed or unpacked ($POSTMAP, with $LD_LIBRARY_PATH as it needs). */
static bool postmap(const char *args)
{
    const char *program = getenv("POSTMAP") != NULL ? getenv("POSTMAP") : "/usr/sbin/postmap";
    char command[1024];

    if (access(program, X_OK) != 0)
        return false;
    put_file("main.cf", "compatibility_level = 3.6\nmyhostname = h.test\n");
    snprintf(command, sizeof(command), "cd %s && %s -c %s %s >out 2>err", folder, program, folder, args);
    assert_int_equal(system(command), 0);
    return true;
}

static void test_files_of_postmap(void **state)
{
    struct table *t;
    char text[64] = "";
    FILE *f;

    put_file("real", "Key@x.test  value one\nb v\n");
    if (!postmap("hash:real"))
        skip();
    t = must_open("hash:@real");
    assert_string_equal(look(t, "key@x.test"), "value one");
    assert_string_equal(look(t, "c"), "-");

    put_file("real", "c written in place\n"); /* postmap keeps the inode */
    postmap("hash:real");
    assert_string_equal(look(t, "c"), "written in place");
    assert_string_equal(look(t, "b"), "-");

    put_file("ours", "Our@x.test  the value\n"); /* and postmap reads ours */
    build("hash:@ours");
    assert_true(postmap("-q our@x.test hash:ours"));
    f = fopen(path_of("out"), "r");
    assert_non_null(fgets(text, sizeof(text), f));
    fclose(f);
    assert_string_equal(text, "the value\n");
}

#endif

static void test_text_tables_tell_of_change(void **state)
{
    struct table *t;

    put_file("watch", "a 1\n");
    t = must_open("texthash:@watch");
    assert_false(table_has_changed(t));
    put_file("watch", "a 22\n");
    assert_true(table_has_changed(t));
    assert_true(table_any_has_changed());
    clock_skip_ms(2000);
    assert_string_equal(look(t, "a"), "1");
}

/* ---- maps ---- */

static void test_address_search(void **state)
{
    static const char big[] = "inline:{{u+e@d.test=1}}, inline:{{u@d.test=2}, {u+e=3}, {u=4}, {@d.test=5}, "
                              "{\"a b\"@d.test=quoted}, {a c@d.test=plain}}, inline:{{owner-x+y=6}}";
    static const struct {
        const char *maps, *addr, *delimiter;
        bool is_local;
        const char *value, *extension;
    } cases[] = {
        {big, "u+e@d.test", "+", true, "1", NULL},
        {big, "U+E@D.Test", "+", true, "1", NULL},
        {big, "u+z@d.test", "+", true, "2", "+z"},
        {big, "u+e@l.test", "+", true, "3", NULL},
        {big, "u+z@l.test", "+", true, "4", "+z"},
        {big, "u+z@l.test", "+", false, NULL, NULL},
        {big, "u-z@l.test", "+-", true, "4", "-z"},
        {big, "u+z@l.test", "", true, NULL, NULL},
        {big, "nobody+x@d.test", "+", true, "5", "+x"},
        {big, "nobody@d.test", "+", true, "5", NULL},
        {big, "u", "+", true, "4", NULL},
        {big, "u+z", "+", false, "4", "+z"},
        {big, "a b@d.test", "+", false, "quoted", NULL},
        {big, "a c@d.test", "+", false, "plain", NULL},
        {big, "owner-x+y@l.test", "-+", true, "6", NULL},
        {big, "+e@d.test", "+", false, "5", NULL},
        {"", "u@d.test", "+", true, NULL, NULL},
        {"regexp:{{/^u@d\\.test$/ re}, {/^@d/ no}, {/^u$/ no}}", "u+e@d.test", "+", true, NULL, NULL},
        {"regexp:{{/^u@d\\.test$/ re}}", "u@d.test", "+", true, "re", NULL},
        {"inline:{{u@d.test=1}}, fail:x", "u@d.test", "+", true, "1", NULL},
        {"fail:x, inline:{{u@d.test=1}}", "u@d.test", "+", true, "!", NULL},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        void *ctx = talloc_new(NULL);
        struct table_maps maps = {0};
        char *value, *extension;
        enum table_end end;

        assert_null(table_maps_open(ctx, cases[i].maps, NULL, &maps));
        end = table_maps_find_address(&maps, ctx, cases[i].addr, cases[i].delimiter, cases[i].is_local,
                                      &value, &extension);
        if (cases[i].value == NULL)
            assert_int_equal(end, TABLE_ABSENT);
        else if (strcmp(cases[i].value, "!") == 0)
            assert_int_equal(end, TABLE_FAILED);
        else if (end != TABLE_FOUND || strcmp(value, cases[i].value) != 0)
            fail_msg("case %zu, %s: %s", i, cases[i].addr, end == TABLE_FOUND ? value : "not found");
        if (cases[i].extension == NULL)
            assert_null(extension);
        else
            assert_string_equal(extension, cases[i].extension);
        talloc_free(ctx);
    }
}

static void test_maps_name_the_bad_table(void **state)
{
    struct table_maps maps = {0};
    struct error *e = table_maps_open(NULL, "static:x, bogus:y", NULL, &maps);

    assert_non_null(e);
    assert_non_null(strstr(e->text, "bogus"));
    assert_int_equal(maps.n, 0);
    error_free(&e);
}

/* ---- lists ---- */

static void test_host_lists(void **state)
{
    static const struct {
        const char *items;
        bool parents;
        const char *name, *addr;
        enum table_end end;
    } cases[] = {
        {"127.0.0.0/8, 192.0.2.1 [::1]/128 2001:db8::/32", true, "unknown", "127.1.2.3", TABLE_FOUND},
        {"127.0.0.0/8, 192.0.2.1 [::1]/128 2001:db8::/32", true, "unknown", "192.0.2.1", TABLE_FOUND},
        {"127.0.0.0/8, 192.0.2.1 [::1]/128 2001:db8::/32", true, "unknown", "192.0.2.2", TABLE_ABSENT},
        {"127.0.0.0/8, 192.0.2.1 [::1]/128 2001:db8::/32", true, "unknown", "::1", TABLE_FOUND},
        {"127.0.0.0/8, 192.0.2.1 [::1]/128 2001:db8::/32", true, "unknown", "2001:db8:ffff::1", TABLE_FOUND},
        {"127.0.0.0/8, 192.0.2.1 [::1]/128 2001:db8::/32", true, "unknown", "2001:db9::1", TABLE_ABSENT},
        {"10.0.0.0/9", true, "unknown", "10.127.255.255", TABLE_FOUND},
        {"10.0.0.0/9", true, "unknown", "10.128.0.0", TABLE_ABSENT},
        {"0.0.0.0/0", true, "unknown", "10.128.0.0", TABLE_FOUND},
        {"0.0.0.0/0", true, "unknown", "::1", TABLE_ABSENT},
        {"!10.1.0.0/16, 10.0.0.0/8", true, "unknown", "10.1.2.3", TABLE_ABSENT},
        {"!10.1.0.0/16, 10.0.0.0/8", true, "unknown", "10.2.2.3", TABLE_FOUND},
        {"a.test", true, "A.TEST", "192.0.2.1", TABLE_FOUND},
        {"a.test", true, "b.a.test", "192.0.2.1", TABLE_FOUND},
        {"a.test", true, "ba.test", "192.0.2.1", TABLE_ABSENT},
        {"a.test", false, "b.a.test", "192.0.2.1", TABLE_ABSENT},
        {".a.test", false, "b.a.test", "192.0.2.1", TABLE_FOUND},
        {".a.test", false, "a.test", "192.0.2.1", TABLE_ABSENT},
        {"inline:{{192.0.2.1=x}}", false, "a.test", "192.0.2.1", TABLE_FOUND},
        {"inline:{{a.test=x}}", true, "b.a.test", "192.0.2.1", TABLE_FOUND},
        {"inline:{{a.test=x}}", false, "b.a.test", "192.0.2.1", TABLE_ABSENT},
        {"inline:{{.a.test=x}}", false, "b.a.test", "192.0.2.1", TABLE_FOUND},
        {"!inline:{{a.test=x}}, static:all", false, "a.test", "192.0.2.1", TABLE_ABSENT},
        {"cidr:{{192.0.2.0/24 x}}", false, "a.test", "192.0.2.1", TABLE_FOUND},
        {"cidr:{{192.0.2.0/24 x}}", false, "a.test", "192.0.3.1", TABLE_ABSENT},
        {"a.test, fail:x", false, "a.test", "192.0.2.1", TABLE_FOUND},
        {"fail:x, a.test", false, "a.test", "192.0.2.1", TABLE_FAILED},
        {"@", true, "in.file", "198.51.100.77", TABLE_FOUND},
        {"@", true, "in.file.test", "203.0.113.1", TABLE_FOUND},
        {"@", true, "in.file", "203.0.113.1", TABLE_ABSENT},
        {"!@, static:all", true, "in.file", "198.51.100.77", TABLE_ABSENT},
        {"", true, "a.test", "192.0.2.1", TABLE_ABSENT},
    };

    put_file("hosts", "# those\n198.51.100.0/24\n  file.test, 192.0.2.0/24\n");
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct table_list *l;
        const char *at = strchr(cases[i].items, '@');
        char *items = at == NULL ? mem_strdup(NULL, cases[i].items)
                                 : mem_printf(NULL, "%.*s%s%s", (int)(at - cases[i].items), cases[i].items,
                                              path_of("hosts"), at + 1);
        struct error *e =
            table_list_open(NULL, "mynetworks", items, TABLE_LIST_HOSTS, cases[i].parents, NULL, &l);

        if (e != NULL)
            fail_msg("case %zu: %s", i, e->text);
        if (table_list_has_host(l, cases[i].name, cases[i].addr) != cases[i].end)
            fail_msg("case %zu: %s with %s[%s]", i, items, cases[i].name, cases[i].addr);
        talloc_free(l);
        talloc_free(items);
    }
}

static void test_bad_lists(void **state)
{
    static const struct {
        const char *items, *why;
    } cases[] = {
        {"1.2.3.4/8", "mynetworks: non-null host address bits in \"1.2.3.4/8\"; use \"1.0.0.0/8\""},
        {"[2001:db8::1]/32",
         "mynetworks: non-null host address bits in \"[2001:db8::1]/32\"; use \"[2001:db8::]/32\""},
        {"1.2.3", "mynetworks: bad address \"1.2.3\""},
        {"1.2.3.0/2x", "mynetworks: bad net/mask pattern: \"1.2.3.0/2x\""},
        {"2001:db8::/129", "mynetworks: bad net/mask pattern"},
        {"!", "mynetworks: no pattern after '!'"},
        {"/nowhere/list", "mynetworks: open /nowhere/list"},
        {"bogus:/x", "mynetworks: unsupported dictionary type: bogus"},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct table_list *l;
        struct error *e =
            table_list_open(NULL, "mynetworks", cases[i].items, TABLE_LIST_HOSTS, true, NULL, &l);

        if (e == NULL || strstr(e->text, cases[i].why) == NULL)
            fail_msg("%s: %s", cases[i].items, e ? e->text : "good");
        assert_null(l);
        assert_int_equal(e->kind, ERROR_CONF);
        error_free(&e);
    }
}

static void test_name_lists(void **state)
{
    static const struct {
        enum table_list_kind kind;
        bool parents;
        const char *items, *text;
        enum table_end end;
    } cases[] = {
        {TABLE_LIST_DOMAINS, true, "a.test", "x.a.test", TABLE_FOUND},
        {TABLE_LIST_DOMAINS, false, "a.test", "x.a.test", TABLE_ABSENT},
        {TABLE_LIST_DOMAINS, true, "!b.a.test, a.test", "x.b.a.test", TABLE_ABSENT},
        {TABLE_LIST_DOMAINS, true, "inline:{{a.test=1}}", "x.y.a.test", TABLE_FOUND},
        {TABLE_LIST_DOMAINS, true, "regexp:{{/^a\\.test/ 1}}", "x.a.test", TABLE_ABSENT},
        {TABLE_LIST_TEXT, true, "a.test", "x.a.test", TABLE_ABSENT},
        {TABLE_LIST_TEXT, true, "A.test", "a.TEST", TABLE_FOUND},
        {TABLE_LIST_TEXT, true, "inline:{{a.test=1}}", "x.a.test", TABLE_ABSENT},
        {TABLE_LIST_TEXT, true, "[192.0.2.1]", "[192.0.2.1]", TABLE_FOUND},
        {TABLE_LIST_TEXT, true, "a b", "", TABLE_ABSENT},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct table_list *l;

        assert_null(table_list_open(NULL, "p", cases[i].items, cases[i].kind, cases[i].parents, NULL, &l));
        if (table_list_has(l, bytes_of(cases[i].text)) != cases[i].end)
            fail_msg("case %zu: %s with %s", i, cases[i].items, cases[i].text);
        talloc_free(l);
    }
}

/* ---- classes ---- */

static void test_domains(void **state)
{
    static const struct {
        const char *addr;
        enum table_class which;
        enum table_end end;
    } cases[] = {
        {"root@here.test", TABLE_CLASS_LOCAL, TABLE_FOUND},
        {"root+x@here.test", TABLE_CLASS_LOCAL, TABLE_FOUND},
        {"no.such@here.test", TABLE_CLASS_LOCAL, TABLE_ABSENT},
        {"no.such@HERE.test.", TABLE_CLASS_LOCAL, TABLE_ABSENT},
        {"extra@here.test", TABLE_CLASS_LOCAL, TABLE_FOUND},
        {"postmaster@here.test", TABLE_CLASS_LOCAL, TABLE_FOUND},
        {"Mailer-Daemon", TABLE_CLASS_LOCAL, TABLE_FOUND},
        {"root", TABLE_CLASS_LOCAL, TABLE_FOUND},
        {"root@[127.0.0.1]", TABLE_CLASS_LOCAL, TABLE_FOUND},
        {"nobody.x@[127.0.0.1]", TABLE_CLASS_LOCAL, TABLE_ABSENT},
        {"root@[203.0.113.9]", TABLE_CLASS_LOCAL, TABLE_FOUND},
        {"root@[203.0.113.8]", TABLE_CLASS_DEFAULT, TABLE_FOUND},
        {"a@alias.test", TABLE_CLASS_VIRTUAL_ALIAS, TABLE_FOUND},
        {"b@alias.test", TABLE_CLASS_VIRTUAL_ALIAS, TABLE_ABSENT},
        {"m@box.test", TABLE_CLASS_VIRTUAL_MAILBOX, TABLE_FOUND},
        {"n@box.test", TABLE_CLASS_VIRTUAL_MAILBOX, TABLE_ABSENT},
        {"r@relay.test", TABLE_CLASS_RELAY, TABLE_FOUND},
        {"s@relay.test", TABLE_CLASS_RELAY, TABLE_ABSENT},
        {"any@sub.relay.test", TABLE_CLASS_RELAY, TABLE_FOUND},
        {"any@elsewhere.test", TABLE_CLASS_DEFAULT, TABLE_FOUND},
    };
    static const char *const settings[][2] = {
        {"myorigin", "here.test"},
        {"mydestination", "here.test, localhost"},
        {"inet_interfaces", "loopback-only"},
        {"proxy_interfaces", "203.0.113.9"},
        {"recipient_delimiter", "+"},
        {"local_recipient_maps", "proxy:unix:passwd.byname inline:{{extra=x}}"},
        {"relay_domains", "relay.test"},
        {"relay_recipient_maps", "inline:{{r@relay.test=x}, {@sub.relay.test=x}}"},
        {"virtual_alias_domains", "alias.test"},
        {"virtual_alias_maps", "inline:{{a@alias.test=x@y}}"},
        {"virtual_mailbox_domains", "box.test"},
        {"virtual_mailbox_maps", "inline:{{m@box.test=m/}}"},
    };
    struct conf_faults faults = {0};
    struct conf *conf = conf_read(NULL, NULL, &faults);
    struct table_domains *d;
    struct error *e;

    for (size_t i = 0; i < sizeof(settings) / sizeof(settings[0]); i++)
        conf_set(conf, settings[i][0], settings[i][1], "test", 1);
    e = table_domains_open(conf, conf, &d);
    if (e != NULL)
        fail_msg("%s", e->text);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        enum table_class which;

        if (table_domains_has_user(d, cases[i].addr, &which) != cases[i].end || which != cases[i].which)
            fail_msg("%s: class %d", cases[i].addr, (int)which);
    }
    assert_true(table_domains_is_own_address(d, "127.0.0.1", false));
    assert_false(table_domains_is_own_address(d, "203.0.113.9", false));
    assert_true(table_domains_is_own_address(d, "203.0.113.9", true));
    talloc_free(conf);
}

/* In a coroutine the name service is asked on the thread pool. */
static void ask_root(void *arg)
{
    *(bool *)arg = strncmp(look(must_open("unix:passwd.byname"), "root"), "root:", 5) == 0;
}

static void test_unix_in_coroutine(void **state)
{
    bool good = false;

    co_init(1);
    co_spawn(ask_root, &good, "ask");
    co_run();
    co_deinit();
    assert_true(good);
}

#ifdef HAVE_DB

/* While postmap holds its lock a lookup waits, and others go on meanwhile. */
static struct {
    int fd;
    bool unlocked, found_after;
} lock_scene;

static void look_while_locked(void *arg)
{
    bool good = strcmp(look(must_open("hash:@locked"), "a"), "b") == 0;

    lock_scene.found_after = good && lock_scene.unlocked;
}

static void unlock_later(void *arg)
{
    co_sleep(clock_ms() + 60, "test");
    lock_scene.unlocked = flock(lock_scene.fd, LOCK_UN) == 0;
}

static void test_lookup_waits_for_postmap(void **state)
{
    put_file("locked", "a b\n");
    build("hash:@locked");
    must_open("hash:@locked");
    lock_scene.fd = open(path_of("locked.db"), O_RDWR | O_CLOEXEC);
    assert_int_equal(flock(lock_scene.fd, LOCK_EX), 0);
    co_init(1);
    co_spawn(look_while_locked, NULL, "look");
    co_spawn(unlock_later, NULL, "unlock");
    co_run();
    co_deinit();
    close(lock_scene.fd);
    assert_true(lock_scene.found_after);
}

#endif

/* A file that became unreadable is told once, and the old content serves on. */
static void test_bad_new_file_keeps_the_old(void **state)
{
    struct table *t;

    put_file("keep", "a b\n");
    build("lmdb:@keep");
    t = must_open("lmdb:@keep");
    put_file("keep.new", "not a database\n");
    assert_int_equal(rename(path_of("keep.new"), path_of("keep.lmdb")), 0);
    clock_skip_ms(2000);
    log_capture(take_log, NULL);
    logged[0] = '\0';
    assert_string_equal(look(t, "a"), "b");
    assert_non_null(strstr(logged, "the old content stays in use"));
    logged[0] = '\0';
    clock_skip_ms(2000);
    assert_string_equal(look(t, "a"), "b");
    assert_string_equal(logged, "");
    log_capture(NULL, NULL);
}

static int make_folder(void **state)
{
    return mkdtemp(folder) == NULL;
}

static int remove_folder(void **state)
{
    char command[64];

    table_close_all();
    snprintf(command, sizeof(command), "rm -rf %s", folder);
    return system(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lookups),
        cmocka_unit_test(test_what_is_refused),
        cmocka_unit_test(test_keys_that_cannot_be),
        cmocka_unit_test(test_same_spec_same_table),
        cmocka_unit_test(test_pcre_backtracking_is_bounded),
        cmocka_unit_test(test_lmdb),
        cmocka_unit_test(test_lmdb_long_keys),
        cmocka_unit_test(test_lmdb_without_nul),
#ifdef HAVE_DB
        cmocka_unit_test(test_hash),
        cmocka_unit_test(test_btree),
        cmocka_unit_test(test_hash_without_nul),
        cmocka_unit_test(test_files_of_postmap),
#endif
        cmocka_unit_test(test_text_tables_tell_of_change),
        cmocka_unit_test(test_address_search),
        cmocka_unit_test(test_maps_name_the_bad_table),
        cmocka_unit_test(test_host_lists),
        cmocka_unit_test(test_bad_lists),
        cmocka_unit_test(test_name_lists),
        cmocka_unit_test(test_domains),
        cmocka_unit_test(test_unix_in_coroutine),
        cmocka_unit_test(test_bad_new_file_keeps_the_old),
#ifdef HAVE_DB
        cmocka_unit_test(test_lookup_waits_for_postmap),
#endif
    };

    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
