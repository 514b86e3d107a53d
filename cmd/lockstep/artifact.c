#include "cmd/lockstep/artifact.h"

#include <dirent.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "cmd/lockstep/archive_file.h"
#include "consensus/snapshot.h"
#include "consensus/wal_format.h"

const char *artifact_basename(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash != NULL ? slash + 1 : path;
}

const char *artifact_name(enum artifact artifact)
{
    static const char *const names[] = {
        [ARTIFACT_NONE] = "nothing",        [ARTIFACT_UNKNOWN] = "unknown",   [ARTIFACT_DATADIR] = "data directory",
        [ARTIFACT_ARCHIVE] = "archive",     [ARTIFACT_SNAPSHOT] = "snapshot", [ARTIFACT_ENTRIES] = "entries",
        [ARTIFACT_SEGMENT] = "log segment", [ARTIFACT_SLOTS] = "state",       [ARTIFACT_NODES] = "known nodes",
    };
    return names[artifact];
}

static enum artifact directory_of(const char *path)
{
    DIR *dir = opendir(path);
    bool archive = false, node = false;
    if (dir == NULL) {
        return ARTIFACT_NONE;
    }
    for (struct dirent *d = readdir(dir); d != NULL; d = readdir(dir)) {
        uint64_t index, term;
        uint32_t generation;
        node = node || strcmp(d->d_name, "state") == 0 || strcmp(d->d_name, "unfinished") == 0 ||
               wal_name_parse(d->d_name, &generation);
        archive = archive || archive_name_parse(d->d_name, &index) || snapshot_name_parse(d->d_name, &index, &term);
    }
    (void)closedir(dir);
    return node ? ARTIFACT_DATADIR : archive ? ARTIFACT_ARCHIVE : ARTIFACT_UNKNOWN;
}

/* A file whose first bytes are damaged is still known by its name. */
static enum artifact by_name(const char *name)
{
    static const struct {
        const char *prefix;
        enum artifact artifact;
    } prefixes[] = {{"snapshot-", ARTIFACT_SNAPSHOT}, {"wal-", ARTIFACT_SEGMENT}, {"entries-", ARTIFACT_ENTRIES}};
    for (size_t i = 0; i < sizeof prefixes / sizeof prefixes[0]; i++) {
        if (strncmp(name, prefixes[i].prefix, strlen(prefixes[i].prefix)) == 0) {
            return prefixes[i].artifact;
        }
    }
    return strcmp(name, "state") == 0 ? ARTIFACT_SLOTS : strcmp(name, "nodes") == 0 ? ARTIFACT_NODES : ARTIFACT_UNKNOWN;
}

enum artifact artifact_of(const char *path)
{
    static const struct {
        char magic[9];
        enum artifact artifact;
    } magics[] = {{"LSTPSNAP", ARTIFACT_SNAPSHOT},
                  {"LSTPARCH", ARTIFACT_ENTRIES},
                  {"LSTPWAL\n", ARTIFACT_SEGMENT},
                  {"LSTPSLOT", ARTIFACT_SLOTS}};
    struct stat st;
    char first[8] = "";
    if (stat(path, &st) != 0) {
        return ARTIFACT_NONE;
    }
    if (S_ISDIR(st.st_mode)) {
        return directory_of(path);
    }
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return ARTIFACT_NONE;
    }
    const size_t n = fread(first, 1, sizeof first, file);
    (void)fclose(file);
    for (size_t i = 0; n == sizeof first && i < sizeof magics / sizeof magics[0]; i++) {
        if (memcmp(first, magics[i].magic, sizeof first) == 0) {
            return magics[i].artifact;
        }
    }
    return by_name(artifact_basename(path));
}
