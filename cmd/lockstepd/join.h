/* How a node with an empty data directory joins a running cluster: it asks any member for the cluster's uuid and for
 * the settings that all nodes share, and keeps the answer in its data directory (file `joined`), so that it is asked
 * once. Blocking; used before the node starts. Format of the answer: docs/FORMATS.md, section Joining. */
#ifndef LOCKSTEP_JOIN_H
#define LOCKSTEP_JOIN_H

#include <stdbool.h>
#include <stddef.h>

#include "cmd/lockstepd/config.h"

#define JOIN_TEXT_MAX 512u

/* What a member answers; returns its length. */
size_t join_format(const struct config *config, const unsigned char cluster[16], char text[JOIN_TEXT_MAX]);
/* Take over an answer. False: it is malformed. */
bool join_parse(const char *text, struct config *config);
/* If the directory has joined before, or `join` is given: fill in the cluster's uuid and settings. Asks for up to
 * `patience_s` seconds. False: `error` (CONFIG_ERROR_MAX bytes) says what to do. */
bool join_prepare(struct config *config, unsigned patience_s, char *error);

#endif
