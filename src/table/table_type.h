/*
 * Inside the table library: what a table type is, and the readers that several types share.
 *
 * A type is one vtable in the registry (table.c). `open` makes the type's own state as a child of ctx; `find`
 * gets a key that is NUL-terminated, holds no NUL before that, and is folded when the type folds. A type
 * whose state may be remade while lookups go on (`refreshes`) never waits between reading t->state and its
 * last use of it.
 */
#ifndef TABLE_TABLE_TYPE_H
#define TABLE_TABLE_TYPE_H

#include "table.h"

#include <stdio.h>
#include <sys/stat.h>
#include <uthash.h>

/* The file behind a table, as it was when it was read. path NULL: there is none. */
struct table_file {
    char *path;
    dev_t dev;
    ino_t ino;
    off_t size;
    struct timespec mtime;
};
void table_file_note(struct table_file *f, const void *ctx, const char *path, const struct stat *st);
bool table_file_differs(const struct table_file *f, const struct stat *st);

struct table {
    const struct table_type *type;
    char *spec;
    char *name;             /* without "type:" */
    void *state;            /* the type's own */
    struct table_file file; /* set by open */
    uint64_t look_ms;       /* when the file is to be compared next */
    bool is_pattern;        /* only the whole key is asked; from the type, or set by open */
    UT_hash_handle hh;
};

/* Writes a new indexed file. put: *is_new_r is false when the key was there; the first value stays. */
struct table_writer {
    struct error *(*put)(struct table_writer *w, const char *key, const char *value, bool *is_new_r);
    struct error *(*finish)(struct table_writer *w); /* everything is in the file; freeing w closes it */
};

struct table_type {
    const char *name;
    bool is_pattern;
    bool folds;         /* keys are lower case */
    bool refreshes;     /* opened anew when the file changes */
    const char *suffix; /* of the indexed file, ".db" */
    struct error *(*open)(struct table *t, const void *ctx, const struct conf *conf, void **state_r);
    co_fn enum table_end (*find)(struct table *t, const void *ctx, struct bytes key, char **value_r);
    int (*fd)(const void *state); /* indexed types: to lock */
    /* Indexed types: creates path, which must not exist, for a source of that many bytes. */
    struct error *(*create)(const void *ctx, const char *path, uint64_t source_size,
                            struct table_writer **w_r);
    struct error *(*remove)(const char *path, const char *key, bool *was_there_r);
};

extern const struct table_type table_type_inline, table_type_texthash, table_type_static, table_type_environ,
    table_type_fail, table_type_regexp, table_type_pcre, table_type_cidr, table_type_unionmap,
    table_type_pipemap, table_type_randmap, table_type_unix, table_type_lmdb;
#ifdef HAVE_DB
extern const struct table_type table_type_hash, table_type_btree;
#endif
const struct table_type *table_type_find(struct bytes name);

/* Remakes the state of a type that refreshes, if its file is another one now. A file that cannot be opened is
 * logged and the old state stays. */
void table_refresh(struct table *t);

/* ---- locks on indexed files, as Postfix's postmap takes them (flock) ---- */

/*
 * Takes the shared lock on the table's file, and opens the table anew when the file is not what was read.
 * Waits while postmap writes, at most some seconds. false: not to be had (logged). After true t->state is
 * current until the next wait.
 */
co_fn bool table_lock_current(struct table *t);
void table_unlock(struct table *t);

/* ---- logical lines of a file ---- */

enum { TABLE_LINE_LIMIT = 1 << 20 };

struct table_lines {
    FILE *file;
    const char *name; /* for messages */
    unsigned number;  /* where the last line began */
    struct stat st;
    /* private */
    char *line, *ahead;
    size_t line_room, ahead_room, line_n;
    ssize_t ahead_n;
    unsigned ahead_number;
};
struct error *table_lines_open(const void *ctx, const char *path, struct table_lines **lines_r);
/* The same over memory, for inline text and tests; text must outlive it. */
struct table_lines *table_lines_of(const void *ctx, const char *name, struct bytes text);
/* *line_r: the next line without its end, borrowed until the next call; NULL at the end of the file. */
struct error *table_lines_next(struct table_lines *l, char **line_r);
/* Splits "key whitespace value"; blanks in "quotes" belong to the key. Cuts the line in place. */
struct error *table_lines_split(const struct table_lines *l, char *line, char **key_r, char **value_r);

/* ---- key and value in memory ---- */

struct table_memory;
struct table_memory *table_memory_new(const void *ctx);
/* false: the key is there already and keeps its value. The key is folded. */
bool table_memory_add(struct table_memory *m, const char *key, const char *value);
const char *table_memory_get(const struct table_memory *m, struct bytes key);

/* ---- numeric addresses and nets ---- */

struct table_net {
    int family;
    unsigned char bits[16];
    unsigned mask; /* number of leading bits that count */
};
/* "192.0.2.1", "2001:db8::1", each also in [brackets]. */
bool table_addr_parse(const char *text, struct table_net *out_r);
/* "net/mask", "[net]/mask" or an address. The error has no prefix. */
struct error *table_net_parse(const char *text, struct table_net *out_r);
bool table_net_has(const struct table_net *net, const struct table_net *addr);

/* The inside of "{...}", or NULL when text has not that form. */
char *table_unbrace(const void *ctx, const char *text);

#endif
