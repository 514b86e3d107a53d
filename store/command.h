/* Inside store/: commands by the number that stands for them in entries (docs/FORMATS.md, section Entry). */
#ifndef LOCKSTEP_COMMAND_H
#define LOCKSTEP_COMMAND_H

#include "store/store.h"

#define COMMAND_NUMBERS 256u

/* NULL: no such number. */
const struct store_command *command_by_number(unsigned number);
/* 0: not a command. */
unsigned command_number(const struct store_command *command);
/* By any case of its name, together with its number. */
const struct store_command *command_find(const char *name, size_t len, unsigned *number);

#endif
