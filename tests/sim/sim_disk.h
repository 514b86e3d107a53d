/* The simulated disk of one node: a directory of files in memory that survives crashes of the node. Owns the files and
 * the requests in flight; knows nothing of what the bytes mean.
 *
 * The model. Requests on one file run one after the other, those on different files side by side. A request takes
 * effect, durably, at the instant it completes. A crash loses what is in flight: of a running write each 512-byte
 * sector is on its own old or new; a running create, rename or remove has happened or not (a created file may be
 * short); what waits behind a running request on its file has not begun. What was written to a bulk file and not synced
 * is on the disk or not, sector by sector. Faults: failing requests, a bound on the space, slowness, flipped bits in
 * durable data. */
#ifndef LOCKSTEP_SIM_DISK_H
#define LOCKSTEP_SIM_DISK_H

#include "consensus/env.h"
#include "tests/sim/sim_world.h"

#define SIM_SECTOR 512u

struct sim_file;
struct sim_disk_op;

struct sim_disk {
    /* public: may be changed at any time */
    uint64_t latency_us;      /* typical time of one request, 80 */
    uint64_t latency_max_us;  /* 20,000 */
    uint64_t bytes_per_us;    /* transfer, added to the latency, 500 */
    uint32_t slow_factor;     /* multiplies both, 1 */
    uint64_t capacity_bytes;  /* of all files */
    uint32_t write_error_ppm; /* probability that a write, create, rename or remove fails; such a write may be torn */
    uint32_t read_error_ppm;
    /* public, read only */
    uint64_t used_bytes;
    uint64_t writes, bytes_written, torn, errors, no_space;
    /* private */
    struct sim_world *world;
    struct sim_random random;
    struct sim_file *files;
    struct env_file *handles;
    struct sim_disk_op *name_ops; /* creates, renames, removes in flight */
    struct sim_disk_op *lost;     /* in flight when the node died */
    char stalled[96];             /* reads of this file hang, "": of none */
    void (*completed)(void *ctx, struct env_disk_req *req, enum env_status status);
    void *ctx;
};

/* `completed` is called for each submitted request, once it has taken effect. */
void sim_disk_init(struct sim_disk *disk, struct sim_world *world, struct sim_random random, uint64_t capacity_bytes,
                   void (*completed)(void *ctx, struct env_disk_req *req, enum env_status status), void *ctx);
void sim_disk_fini(struct sim_disk *disk);

void sim_disk_submit(struct sim_disk *disk, struct env_disk_req *req);
/* The node dies: requests in flight are lost or torn as the model says, and their `completed` is never called. Must
 * come before the owners of buffers free them. Handles stand for nothing from now on; their owners may still close
 * them. */
void sim_disk_crash(struct sim_disk *disk);
/* A request made by a node that is dead already: nothing happens, it is lost. */
void sim_disk_submit_dead(struct sim_disk *disk, struct env_disk_req *req);
/* After a crash: call the lost requests back with ENV_CANCELED, so that their owners can free what they keep. */
void sim_disk_cancel_lost(struct sim_disk *disk);
/* After a crash: free the handles that nobody closed. */
void sim_disk_reap(struct sim_disk *disk);

/* The synchronous calls of env.h. `dying` ones are cut short by a crash: they have happened in part or not at all. */
void sim_disk_list(struct sim_disk *disk, void (*each)(void *ctx, const char *name, uint64_t size), void *ctx);
enum env_status sim_disk_open(struct sim_disk *disk, const char *name, struct env_file **file, uint64_t *size);
enum env_status sim_disk_create(struct sim_disk *disk, const char *name, uint64_t size, struct env_file **file,
                                bool dying);
enum env_status sim_disk_read(struct sim_disk *disk, struct env_file *file, uint64_t offset, void *buf, size_t len);
enum env_status sim_disk_write(struct sim_disk *disk, struct env_file *file, uint64_t offset, const void *buf,
                               size_t len, bool dying);
enum env_status sim_disk_rename(struct sim_disk *disk, const char *from, const char *to, bool dying);
enum env_status sim_disk_remove(struct sim_disk *disk, const char *name, bool dying);
void sim_disk_close(struct sim_disk *disk, struct env_file *file);
uint64_t sim_disk_free_bytes(const struct sim_disk *disk);
/* Handles that are open and not being closed. */
unsigned sim_disk_open_handles(const struct sim_disk *disk);
unsigned sim_disk_in_flight(const struct sim_disk *disk);

/* Flip one random bit of durable, non-zero data. Gives the file's name and the offset for the log; false if there is
 * nothing to damage. */
bool sim_disk_flip(struct sim_disk *disk, char *name, size_t name_bytes, uint64_t *offset);
/* The same in the last one, by name, of the files that begin with `prefix` and have no suffix: the newest snapshot. */
bool sim_disk_flip_newest(struct sim_disk *disk, const char *prefix, char *name, size_t name_bytes, uint64_t *offset);
/* The same in the middle of the first run of `n` equal bytes in the oldest, by name, of the files that begin with
 * `prefix`: in a value of the workload, so in the payload of a record. */
bool sim_disk_flip_run(struct sim_disk *disk, const char *prefix, uint8_t byte, size_t n, char *name,
                       size_t name_bytes);
/* From now on reads of this file hang; NULL: no more, and those that hang go on. */
void sim_disk_stall(struct sim_disk *disk, const char *name);
/* Reads that hang. */
unsigned sim_disk_stalled(const struct sim_disk *disk);
bool sim_disk_has(const struct sim_disk *disk, const char *name);
/* Forget everything: the disk was replaced. */
void sim_disk_wipe(struct sim_disk *disk);

#endif
