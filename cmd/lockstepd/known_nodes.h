/* Which disk every other node had when this one first met it: the incarnation in its hello, kept in the data directory
 * (file `nodes`, docs/FORMATS.md) before anything else is taken from that node. Whoever comes back with another one has
 * lost its data: what it acknowledged and voted for may be gone, so it must not count under its old id. Blocking, but
 * for a file of at most a few KiB, and only when a node is met for the first time. */
#ifndef LOCKSTEP_KNOWN_NODES_H
#define LOCKSTEP_KNOWN_NODES_H

#include <stdbool.h>
#include <stdint.h>

#define KNOWN_NODES_MAX 128u
#define KNOWN_NODES_ERROR_MAX 4400u

struct known_nodes;

enum known_nodes_status {
    KNOWN_NODES_OK,
    KNOWN_NODES_OTHER,   /* it had another disk */
    KNOWN_NODES_DAMAGED, /* the file can't be trusted */
    KNOWN_NODES_IO,      /* it can't be read or written: errno */
    KNOWN_NODES_NO_MEMORY
};

/* Read the file of `dir`, which is borrowed; without one nobody is known. Not OK: `error` (KNOWN_NODES_ERROR_MAX bytes)
 * says what to do. */
enum known_nodes_status known_nodes_open(struct known_nodes **known, const char *dir, const uint8_t cluster[16],
                                         char *error);
void known_nodes_free(struct known_nodes *known);
/* A node says who it is. OK: it is as it always was, or was met for the first time and that is on stable storage. When
 * the table is full, ids for which `is_needed` is false (removed ones, whose ids are never used again) make room.
 * NO_MEMORY: there are more than KNOWN_NODES_MAX others. */
enum known_nodes_status known_nodes_meet(struct known_nodes *known, uint64_t id, uint64_t incarnation,
                                         bool (*is_needed)(void *ctx, uint64_t id), void *ctx);

#endif
