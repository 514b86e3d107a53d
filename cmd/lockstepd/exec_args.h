/* Arguments of one command, or of one transaction, as one block of bytes: what waits in the executor and what travels
 * to the leader. Pure; knows nothing of where it goes. Layout: docs/FORMATS.md, section Forwarding. */
#ifndef LOCKSTEP_EXEC_ARGS_H
#define LOCKSTEP_EXEC_ARGS_H

#include <stdbool.h>

#include "store/store.h"

/* A block, malloc'd; `bytes` of content follow. */
struct exec_args {
    uint32_t len;
    bool transaction;
    uint8_t bytes[];
};

/* Bounds on what is decoded from another node. */
#define EXEC_ARGS_COMMANDS_MAX (1024u * 1024)
#define EXEC_ARGS_ARGC_MAX (1024u * 1024)

/* NULL: out of memory, or above 4 GiB. */
struct exec_args *exec_args_command(const struct iovec *argv, unsigned argc);
struct exec_args *exec_args_transaction(const struct store_watch *watches, unsigned n_watches,
                                        const struct store_queued *commands, unsigned n_commands);

/* What a block holds. The slices point into the block; the arrays belong to the struct and are reused. */
struct exec_view {
    const struct iovec *argv; /* a command */
    unsigned argc;
    const struct store_watch *watches; /* a transaction */
    unsigned n_watches;
    const struct store_queued *commands;
    unsigned n_commands;
    /* private */
    struct iovec *iov;
    size_t iov_capacity;
    struct store_watch *watch_array;
    size_t watch_capacity;
    struct store_queued *queued;
    size_t queued_capacity;
};
void exec_view_fini(struct exec_view *view);
/* False: malformed (every length is checked), or out of memory. */
bool exec_args_decode(const uint8_t *bytes, size_t len, bool transaction, struct exec_view *view);

#endif
