/* What is it that lies at a path: tells the files and directories of Lockstep apart, by their first bytes. */
#ifndef LOCKSTEP_ARTIFACT_H
#define LOCKSTEP_ARTIFACT_H

#include <stddef.h>

enum artifact {
    ARTIFACT_NONE,    /* nothing there, or it can't be read: errno */
    ARTIFACT_UNKNOWN, /* neither name nor first bytes are ours */
    ARTIFACT_DATADIR,
    ARTIFACT_ARCHIVE, /* a directory with base backups and archived entries */
    ARTIFACT_SNAPSHOT,
    ARTIFACT_ENTRIES, /* one file of an archive */
    ARTIFACT_SEGMENT,
    ARTIFACT_SLOTS,
    ARTIFACT_NODES /* which disks a node's peers had */
};

enum artifact artifact_of(const char *path);
const char *artifact_name(enum artifact artifact);
/* Where the last part of a path begins. */
const char *artifact_basename(const char *path);

#endif
