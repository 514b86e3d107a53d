/* A small env in memory for unit tests of consensus/: a disk whose requests complete when the test says so, in the
 * order the test says, and that loses, tears, fills up, fails and rots on demand. Time stands still unless it is
 * advanced. Owns the files, which outlive the crash and the reopening of what is tested. Not the simulator: no network
 * but what the test lends it, no randomness of its own beyond a seeded generator. */
#ifndef LOCKSTEP_TESTS_MEM_ENV_H
#define LOCKSTEP_TESTS_MEM_ENV_H

#include "consensus/env.h"

#define MEM_SECTOR 512u

struct mem_env;

struct mem_env *mem_env_new(uint64_t seed);
void mem_env_free(struct mem_env *mem);
struct env *mem_env_env(struct mem_env *mem);

/* Asynchronous requests that wait for completion, oldest first. */
unsigned mem_env_pending(const struct mem_env *mem);
struct env_disk_req *mem_env_pending_req(struct mem_env *mem, unsigned i);
/* Complete one: a status other than ENV_OK leaves the disk as it is. */
void mem_env_complete(struct mem_env *mem, unsigned i, enum env_status status);
/* Complete the oldest pending request of a kind; false if there is none. */
bool mem_env_complete_op(struct mem_env *mem, enum env_disk_op op, enum env_status status);
/* Complete everything, also what callbacks submit, until nothing is pending. Creations that don't fit fail. */
void mem_env_run(struct mem_env *mem);
/* Let time pass; timers that become due fire in order. */
void mem_env_advance(struct mem_env *mem, uint64_t us);

/* Power cut: of each write in flight, sector i (512 bytes) reaches the disk if `keep(ctx, i)`; other requests have not
 * happened. What a bulk file did not sync is treated like a write in flight, by its sectors in the file. Then
 * everything pending is called back with ENV_CANCELED, as are all requests until mem_env_restart. */
void mem_env_crash(struct mem_env *mem, bool (*keep)(void *ctx, size_t sector), void *ctx);
/* The power is back: open handles are void, and no fault is armed. */
void mem_env_restart(struct mem_env *mem);

/* Files: the durable content, which the test may change. NULL if there is no such file. */
uint8_t *mem_env_file(struct mem_env *mem, const char *name, size_t *size);
void mem_env_file_put(struct mem_env *mem, const char *name, const void *data, size_t size);
void mem_env_file_remove(struct mem_env *mem, const char *name);
unsigned mem_env_file_count(const struct mem_env *mem);
/* Copy all files from another one. */
void mem_env_copy_files(struct mem_env *mem, const struct mem_env *from);
/* Unclosed handles: a test ends with none. */
unsigned mem_env_open_files(const struct mem_env *mem);

/* Bytes that all files together may take; UINT64_MAX at first. */
void mem_env_capacity(struct mem_env *mem, uint64_t bytes);
/* The write_sync after `after` further ones fails with `status` and tears: only its first `sectors` sectors are
 * written. All later disk calls fail with ENV_IO until mem_env_restart. */
void mem_env_tear_sync(struct mem_env *mem, unsigned after, size_t sectors, enum env_status status);
/* read_sync and ENV_DISK_READ fail from now on (or no longer). */
void mem_env_fail_reads(struct mem_env *mem, bool fail);

/* Frames go to `send` from now on; until then they are dropped. */
void mem_env_network(struct mem_env *mem,
                     bool (*send)(void *ctx, uint64_t peer, const struct iovec *pieces, unsigned n), void *ctx);

/* What was logged last, and whether fail_stop was called. */
const char *mem_env_log(const struct mem_env *mem);
unsigned mem_env_sync_writes(const struct mem_env *mem);

#endif
