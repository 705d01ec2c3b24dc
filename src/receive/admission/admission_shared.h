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

/* A new file with the records of the one that was there; NULL and *error_r when it cannot be had. */
struct admission_shared *admission_file_map(const char *data_directory, struct error **error_r);
/* Where it is. Owned by ctx. */
char *admission_file_name(const void *ctx, const char *data_directory);

struct admission_time admission_now(void);

#endif
