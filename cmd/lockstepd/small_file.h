/* Small text files of the data directory, replaced as a whole: after a crash there is the old text or the new one.
 * Blocking. */
#ifndef LOCKSTEP_SMALL_FILE_H
#define LOCKSTEP_SMALL_FILE_H

#include <stdbool.h>
#include <stddef.h>

/* The text of `dir`/`name` with a NUL behind it, cut off after `size` - 1 bytes. False: errno says why. */
bool small_file_read(const char *dir, const char *name, char *text, size_t size);
/* Durable once it returns true. Makes `dir` and those above it if they are missing. False: errno says why, and the old
 * text is still there. */
bool small_file_write(const char *dir, const char *name, const char *text);

#endif
