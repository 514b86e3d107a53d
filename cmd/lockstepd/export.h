/* Inside lockstepd: commands by which operators' tools take things from a node (cmd_export.c,
 * cmd_export_file.c). */
#ifndef LOCKSTEP_EXPORT_H
#define LOCKSTEP_EXPORT_H

#include "cmd/lockstepd/session.h"

/* LOCKSTEP DIGEST [index [wait-ms]] */
void export_digest_run(struct call *call);
/* LOCKSTEP LOG READ index bytes */
void export_log_run(struct call *call);
/* LOCKSTEP SNAPSHOT LIST | READ index term offset bytes. False: it is neither. */
bool export_file_run(struct call *call);

#endif
