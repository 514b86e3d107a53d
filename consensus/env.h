/* The seam between the deterministic core and the world: time, randomness, timers, disk and peer messages.
 *
 * The replica, the WAL and everything else in consensus/ reach the outside only through `struct env`. There are two
 * implementations: env_uv.c (libuv, real disk) and tests/sim (seeded, simulated). Knows nothing of Raft or of keys.
 * Every function is called from the loop thread that owns the env, and every callback fires on it, never from inside
 * the call that started the operation. */
#ifndef LOCKSTEP_ENV_H
#define LOCKSTEP_ENV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

/* Offsets, lengths and buffer addresses of disk requests are multiples of this (O_DIRECT). */
#define ENV_BLOCK 4096u

enum env_status {
    ENV_OK = 0,
    ENV_NOT_FOUND, /* no such file */
    ENV_EXISTS,    /* file exists already */
    ENV_NO_SPACE,  /* disk full or quota */
    ENV_IO,        /* read, write or sync failed: fail-stop for writes */
    ENV_DENIED,    /* permission, read-only file system */
    ENV_BUSY,      /* the directory is locked by another process */
    ENV_NO_MEMORY,
    ENV_CANCELED /* the env is closing */
};
/* What a system call's errno is to callers of an env; 0 is ENV_OK. For implementations. */
enum env_status env_status_of_errno(int error);

struct env;
struct env_file; /* opaque, owned by the env implementation */

/* A one-shot timer, embedded by its owner. */
struct env_timer {
    /* public */
    void *data;
    void (*cb)(struct env_timer *timer);
    /* private */
    void *impl;
};

enum env_disk_op {
    ENV_DISK_WRITE,  /* file, offset, buf, len: durable when the callback fires with ENV_OK */
    ENV_DISK_READ,   /* file, offset, buf, len: short reads past the end are zero-filled */
    ENV_DISK_CREATE, /* name, len: a zero-filled durable file of len bytes; gives `file` */
    ENV_DISK_RENAME, /* name -> name_to, durable (directory synced); an open file stays usable */
    ENV_DISK_REMOVE, /* name, durable; the file must be closed */
    /* Bulk files, for snapshots. They grow by writes that begin at or before their end, and their reads and writes run
     * beside those of other files, never in front of them. Their writes are durable only after ENV_DISK_SYNC. */
    ENV_DISK_BULK_CREATE, /* name: a new, empty one; gives `file`. A power cut may take it until it is renamed */
    ENV_DISK_BULK_OPEN,   /* name: opens an existing file as one; gives `file`, and its size as `len` */
    ENV_DISK_SYNC,        /* file: everything whose write had completed at submission is durable, with the size */
    /* No disk at all: calls `work` on a thread of its own, one at a time. It may touch only what the request's owner
     * set aside for it, and nothing of the env. */
    ENV_DISK_WORK
};

/* One asynchronous disk request, embedded by its owner, who keeps it and its buffer alive until `cb`.
 * Writes of one file run in the order submitted, and a read sees every write that had completed when the read was
 * submitted. There is no other order between requests. */
struct env_disk_req {
    /* public */
    enum env_disk_op op;
    struct env_file *file;
    uint64_t offset;
    void *buf;
    size_t len;
    const char *name;    /* borrowed until cb */
    const char *name_to; /* borrowed until cb */
    void (*work)(struct env_disk_req *req);
    void *data;
    void (*cb)(struct env_disk_req *req, enum env_status status);
    /* private */
    void *impl;
    int impl_status;
};

struct env_ops {
    /* Monotonic microseconds that go on counting in suspend (CLOCK_BOOTTIME), read afresh at each call. */
    uint64_t (*now_us)(struct env *env);
    /* Wall clock, milliseconds since 1970. May jump; only a sample for the cluster clock. */
    uint64_t (*wall_ms)(struct env *env);
    uint64_t (*random)(struct env *env);

    enum env_status (*timer_init)(struct env *env, struct env_timer *timer);
    /* Fire at `at_us` on the now_us scale or as soon as possible after it; replaces an earlier setting. */
    void (*timer_set)(struct env *env, struct env_timer *timer, uint64_t at_us);
    void (*timer_stop)(struct env *env, struct env_timer *timer);
    void (*timer_fini)(struct env *env, struct env_timer *timer);

    /* Send one peer frame (consensus/message.h) made of `n` pieces, which are copied. Best effort: a frame is dropped
     * when the peer is not connected or its send queue is at its bound; frames to one peer are never reordered within
     * a connection. Returns false if dropped. */
    bool (*send)(struct env *env, uint64_t peer_id, const struct iovec *pieces, unsigned n);

    /* Synchronous disk calls, for start-up and for the term-and-vote slots. Names are relative to the data directory.
     * `list` calls `each` for every file, in any order. `write_sync` is durable on return. */
    enum env_status (*list)(struct env *env, void (*each)(void *ctx, const char *name, uint64_t size), void *ctx);
    enum env_status (*open)(struct env *env, const char *name, struct env_file **file, uint64_t *size);
    enum env_status (*create)(struct env *env, const char *name, uint64_t size, struct env_file **file);
    enum env_status (*read_sync)(struct env *env, struct env_file *file, uint64_t offset, void *buf, size_t len);
    enum env_status (*write_sync)(struct env *env, struct env_file *file, uint64_t offset, const void *buf, size_t len);
    enum env_status (*rename_sync)(struct env *env, const char *from, const char *to);
    enum env_status (*remove_sync)(struct env *env, const char *name);
    /* Closes off the loop thread; requests in flight on the file complete first. Allowed while the env is closing. */
    void (*close)(struct env *env, struct env_file *file);
    /* Bytes free for data in the file system of the data directory. Cheap enough to call every second. */
    uint64_t (*free_bytes)(struct env *env);

    /* Start an asynchronous request. Always accepted; failures are reported through its callback. */
    void (*submit)(struct env *env, struct env_disk_req *req);

    /* One line of log text without newline. Levels: 0 error, 1 warning, 2 info, 3 debug. */
    void (*log)(struct env *env, int level, const char *text);
    /* End the process (production) or this replica (simulator): state on disk or in memory can't be trusted.
     * `advice` tells the operator what to do. Does not return to the caller's caller in production; in the simulator
     * it marks the replica as dead and returns, so callers must unwind without touching the disk or the network. */
    void (*fail_stop)(struct env *env, const char *what, const char *advice);
};

/* Implementations embed this as their first member. */
struct env {
    const struct env_ops *ops;
};

#endif
