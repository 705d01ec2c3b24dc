/*
 * The memory that all workers share, its lock, and a bell for each worker (an eventfd).
 */
#ifndef ADMISSION_ADMISSION_SHARED_H
#define ADMISSION_ADMISSION_SHARED_H

#include "admission_core.h"

/* NULL before admission_prepare(). */
struct admission_shared *admission_shared(void);
/* Locked memory, mended when the last holder died. Never across a wait. */
struct admission_shared *admission_lock(void);
void admission_unlock(void);

int admission_bell(unsigned worker);
void admission_ring(unsigned worker);

/* ---- its file: admission_file.c, and when it is written: admission_save.c ---- */

/* Where it is. Owned by ctx. */
char *admission_file_name(const void *ctx, const char *data_directory);
/* Takes over the records of the file that is there, and makes a new one with what the memory holds then; open
 * to be written until the process ends. *file_r is -1 when it cannot be had. */
struct error *admission_file_make(struct admission_shared *s, const char *data_directory, int *file_r);
/* The descriptor; -1: there is no file. */
int admission_file(void);
/* Writes numbers, or numbers and records, without the lock. 0, or errno. For any thread. */
int admission_file_write(const struct admission_shared *s, int file, bool with_records);

/* The memory has changed: a worker writes it to the file, soon, on a thread. Not from outside of coroutines:
 * then with the next change. */
void admission_save_soon(void);
/* At once, by this process. */
void admission_save(bool with_records);

struct admission_time admission_now(void);

#endif
