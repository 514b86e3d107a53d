/* Which semantics of the log a binary understands. New ones are switched on by a configuration entry that raises the
 * cluster's feature level, never by a binary: so all replicas switch at the same entry. */
#ifndef LOCKSTEP_FEATURE_LEVEL_H
#define LOCKSTEP_FEATURE_LEVEL_H

#include <stdint.h>

/* The highest level that this binary understands. */
extern const uint32_t feature_level_max;

#endif
