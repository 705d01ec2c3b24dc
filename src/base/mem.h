/*
 * Memory: talloc contexts that never answer "no".
 *
 * Life is a place: a session, a transaction and a command each are a talloc context, and what belongs to them
 * dies with them. Out of memory is not an outcome that code can handle halfway through a message: the process
 * says so and ends, and the queue loses nothing by it.
 */
#ifndef BASE_MEM_H
#define BASE_MEM_H

#include <stdarg.h>
#include <stddef.h>
#include <talloc.h>

/* Zeroed memory of a type, or an array of it, owned by ctx (NULL: by nobody, free with talloc_free). */
#define mem_new(ctx, type) ((type *)mem_zero_((ctx), sizeof(type), #type))
#define mem_array(ctx, type, count)                                                                          \
    ((type *)mem_zero_((ctx), mem_product_(sizeof(type), (count)), #type "[]"))
/* The array with room for count elements; the new part is not cleared. NULL array: a new one owned by ctx. */
#define mem_grow(ctx, array, count)                                                                          \
    ((__typeof__(array))mem_resize_((ctx), (array), mem_product_(sizeof(*(array)), (count))))

/* As mem_new, and with it `room` bytes from which what it owns is cut, at next to no cost; when they are used
 * up, the rest is memory like any other. All of it goes when the whole goes, and no part before. */
#define mem_new_with_room(ctx, type, room) ((type *)mem_zero_with_room_((ctx), sizeof(type), (room), #type))

void *mem_zero_(const void *ctx, size_t size, const char *name);
void *mem_zero_with_room_(const void *ctx, size_t size, size_t room, const char *name);
void *mem_resize_(const void *ctx, void *old, size_t size);
size_t mem_product_(size_t size, size_t count);

/* Uncleared bytes. */
char *mem_bytes(const void *ctx, size_t n);
char *mem_strdup(const void *ctx, const char *text);
char *mem_printf(const void *ctx, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
char *mem_vprintf(const void *ctx, const char *fmt, va_list args) __attribute__((format(printf, 2, 0)));

/* malloc and realloc that end the process rather than return NULL. */
void *mem_malloc(size_t n);
void *mem_realloc(void *old, size_t n);

#endif
