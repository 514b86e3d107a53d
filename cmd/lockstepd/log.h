/* The log file: one line per event, "2026-01-31T12:00:00.123Z info node=1 term=4 text". Owns the file descriptor; knows
 * nothing of who writes. Loop thread only (a line is one write(2), so lines of several processes do not mix). */
#ifndef LOCKSTEP_LOG_H
#define LOCKSTEP_LOG_H

#include <stdbool.h>
#include <stdint.h>

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARNING, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

#define LOG_LINE_MAX 2048u /* bytes of a line; longer ones are cut */

struct log;

/* `path` NULL: stderr. Lines above `level` are dropped. NULL with errno if the file can't be opened for appending. */
struct log *log_new(const char *path, int level, uint64_t node_id);
void log_free(struct log *log);
/* Open the file again under its name (after a rotation). On failure the old file stays open and false is returned. */
bool log_reopen(struct log *log);
void log_set_level(struct log *log, int level);
/* One line; control characters in `text` become spaces. `log` NULL: stderr, level info, node 0. */
void log_write(struct log *log, int level, uint64_t term, const char *text);
const char *log_level_name(int level);

#endif
