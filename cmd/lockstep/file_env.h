/* An env (consensus/env.h) for tools that look at files while no node runs: one directory or one file, no loop, no
 * threads, no peers. Everything blocks. Requests wait until the owner takes turns, which run them and call back.
 * Frozen, it changes nothing on disk: writes are accepted and forgotten, so that the very code with which a node would
 * recover tells what it would find. Knows nothing of what is in the files. */
#ifndef LOCKSTEP_FILE_ENV_H
#define LOCKSTEP_FILE_ENV_H

#include "consensus/env.h"

#define FILE_ENV_ERROR_MAX 512

enum file_env_mode {
    FILE_ENV_FROZEN, /* the directory exists, and is as it was afterwards */
    FILE_ENV_WRITE   /* it is made if it is missing */
};

struct file_env_config {
    const char *dir; /* NULL: only `file` */
    /* Set: every name stands for this one path, and one that ends in .part or .tmp for the path with that ending. */
    const char *file;
    enum file_env_mode mode;
    /* Data directory: nobody else may use it meanwhile. */
    bool lock;
    /* What the code above has to say, levels as in env.h; may be NULL. */
    void (*log)(void *ctx, int level, const char *text);
    void *ctx;
};

/* NULL: `error` says why and what to do, and errno is EBUSY if it is locked by somebody else. Freed by file_env_free.
 */
struct env *file_env_new(const struct file_env_config *config, char error[FILE_ENV_ERROR_MAX]);
/* Runs one waiting request or timer and calls back; sleeps if there are only timers of later. False: nothing waits. */
bool file_env_turn(struct env *env);
/* Runs what still waits, then frees. Files and timers must have been given up. */
void file_env_free(struct env *env);

#endif
