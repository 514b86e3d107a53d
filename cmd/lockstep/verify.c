/* `lockstep verify`: are files of a stopped node, backups and archives what was written? */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <jansson.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#include "cmd/lockstep/artifact.h"
#include "cmd/lockstep/command.h"
#include "cmd/lockstep/content.h"
#include "cmd/lockstep/entries.h"
#include "cmd/lockstep/options.h"
#include "consensus/configuration.h"
#include "consensus/replica.h"

static const char usage_text[] =
    "Usage: lockstep verify [OPTION]... PATH...\n"
    "Check files offline: every checksum, that no entry is missing, and that the content, loaded for real, has the\n"
    "digest that was noted. Nothing is changed.\n"
    "\n"
    "PATH is the data directory of a node that does not run (its state, snapshots and log, together), a backup or\n"
    "snapshot, an archive directory, or a single file of one of these.\n"
    "\n"
    "  --quick  checksums and continuity only: load no content (little memory; about as fast as the disk)\n"
    "  --json   one object: `ok`, and `files` with path, kind, result, detail of each\n"
    "  --help   show this\n"
    "\n"
    "Results: ok; torn (a write was cut short by a crash, nothing that counted is lost); gap (entries that only a "
    "later\n"
    "backup covers); absent, unreadable, in-use (by a node that runs): not looked at; unknown (not a file of Lockstep, "
    "or\n"
    "its beginning is destroyed); damaged.\n"
    "Exit codes: 0 all is ok; 1 something is damaged or unknown; 2 wrong command line; 3 torn or gap; 4 nothing "
    "damaged "
    "was\n"
    "found, but something was not looked at.\n";

/* The worst one decides the exit code. */
enum result {
    RESULT_OK,
    RESULT_TORN,
    RESULT_GAP,
    RESULT_ABSENT,
    RESULT_UNREADABLE,
    RESULT_IN_USE,
    RESULT_UNKNOWN,
    RESULT_DAMAGED
};

struct verify {
    bool quick, json;
    json_t *rows;
    enum result worst;
};

static void row(struct verify *v, enum result result, enum artifact kind, const char *path, const char *format, ...)
    __attribute__((format(printf, 5, 6)));
static void row(struct verify *v, enum result result, enum artifact kind, const char *path, const char *format, ...)
{
    static const char *const names[] = {"ok", "torn", "gap", "absent", "unreadable", "in-use", "unknown", "damaged"};
    char text[1600];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    v->worst = result > v->worst ? result : v->worst;
    if (v->json) {
        json_array_append_new(v->rows, json_pack("{s:s, s:s, s:s, s:s}", "path", path, "kind", artifact_name(kind),
                                                 "result", names[result], "detail", text));
    } else {
        printf("%-10s  %-14s  %s: %s\n", names[result], artifact_name(kind), path, text);
        (void)fflush(stdout);
    }
}

/* --- Snapshots ---------------------------------------------------------------------------------------------------- */

static bool snapshot_check(struct verify *v, struct content *content, struct env *env, const char *name,
                           const char *path)
{
    const bool good = content_read(content, env, name, v->quick ? CONTENT_BLOCKS : CONTENT_LOADED, NULL);
    if (!good) {
        row(v, RESULT_DAMAGED, ARTIFACT_SNAPSHOT, path, "%s", content->error);
        return false;
    }
    char keys[48] = "";
    if (content->store != NULL) {
        snprintf(keys, sizeof keys, ", %" PRIu64 " keys", store_keys(content->store));
    }
    row(v, RESULT_OK, ARTIFACT_SNAPSHOT, path,
        "index %" PRIu64 ", term %" PRIu64 ", revision %" PRIu64 "%s, %" PRIu64 " bytes, digest %016" PRIx64 "%s",
        content->meta.index, content->meta.term, content->meta.revision, keys, content->end.file_bytes,
        content->end.digest, v->quick ? " (as noted, not loaded)" : "");
    return true;
}

static void snapshot_file(struct verify *v, const char *path)
{
    const struct file_env_config config = {.file = path, .mode = FILE_ENV_FROZEN};
    char error[FILE_ENV_ERROR_MAX], name[SNAPSHOT_NAME_BYTES];
    struct env *env = file_env_new(&config, error);
    struct content content;
    if (env == NULL) {
        row(v, RESULT_UNREADABLE, ARTIFACT_SNAPSHOT, path, "%s", error);
        return;
    }
    snprintf(name, sizeof name, "%s", artifact_basename(path));
    (void)snapshot_check(v, &content, env, name, path);
    content_fini(&content);
    file_env_free(env);
}

/* --- Entries ------------------------------------------------------------------------------------------------------ */

struct walk {
    uint64_t first, last, n, bytes, term;
    uint64_t replayed; /* entries applied to the content */
};

static bool entry_is_good(const struct wal_entry *entry, char why[200])
{
    struct configuration_settings settings;
    why[0] = '\0';
    if (entry->type == WAL_COMMAND) {
        const enum store_status status = store_entry_check(entry->data, entry->len);
        if (status != STORE_OK) {
            snprintf(why, 200, "entry %" PRIu64 " %s", entry->index,
                     status == STORE_VERSION ? "was written by a newer version: use that one"
                                             : "is not what a batch of commands looks like: report this");
        }
    } else if (entry->type == WAL_CHANGE &&
               !configuration_check(entry->data, entry->len, REPLICA_SERVERS_MAX, REPLICA_ADDRESS_MAX, &settings)) {
        snprintf(why, 200, "the configuration at entry %" PRIu64 " is not understood: use the version that wrote it",
                 entry->index);
    }
    return why[0] == '\0';
}

/* Go through all entries; those that follow the content, if there is one, are applied to it. `passed` is called where
 * a snapshot may be compared. False: reported. */
static bool walk_entries(struct verify *v, struct entries *entries, enum artifact kind, const char *path,
                         struct walk *walk, struct content *content,
                         bool (*passed)(void *ctx, const struct content *content), void *ctx)
{
    struct wal_entry entry;
    enum entries_state state;
    char why[200];
    while ((state = entries_next(entries, &entry)) == ENTRIES_MORE || state == ENTRIES_GAP) {
        if (state == ENTRIES_GAP) {
            row(v, RESULT_GAP, kind, path, "%s", entries->error);
            content = NULL; /* the rest hangs on a later backup */
            continue;
        }
        if (!entry_is_good(&entry, why)) {
            row(v, RESULT_DAMAGED, kind, path, "%s", why);
            return false;
        }
        walk->first = walk->n == 0 ? entry.index : walk->first;
        walk->last = entry.index;
        walk->term = entry.term;
        walk->bytes += entry.len;
        walk->n++;
        if (content == NULL || entry.index <= content->meta.index) {
            continue;
        }
        if (!content_apply(content, &entry)) {
            row(v, RESULT_DAMAGED, kind, path, "%s", content->error);
            return false;
        }
        walk->replayed++;
        if (passed != NULL && !passed(ctx, content)) {
            return false;
        }
    }
    if (state == ENTRIES_TORN) {
        row(v, RESULT_TORN, kind, path, "%s", entries->error);
    } else if (state == ENTRIES_FAILED) {
        row(v, RESULT_DAMAGED, kind, path, "%s", entries->error);
    }
    return state != ENTRIES_FAILED;
}

static void walk_row(struct verify *v, enum artifact kind, const char *path, const struct walk *walk, const char *more)
{
    if (walk->n == 0) {
        row(v, RESULT_OK, kind, path, "no entries%s", more);
    } else {
        row(v, RESULT_OK, kind, path,
            "entries %" PRIu64 " to %" PRIu64 ", %" PRIu64 " bytes of data, last term %" PRIu64 "%s", walk->first,
            walk->last, walk->bytes, walk->term, more);
    }
}

static void single_file(struct verify *v, enum artifact kind, const char *path)
{
    struct entries entries;
    struct walk walk = {0};
    const bool opened =
        kind == ARTIFACT_SEGMENT ? entries_open_segment(&entries, path) : entries_open_archive_file(&entries, path);
    if (!opened) {
        row(v, RESULT_DAMAGED, kind, path, "%s", entries.error);
    } else if (walk_entries(v, &entries, kind, path, &walk, NULL, NULL, NULL)) {
        walk_row(v, kind, path, &walk,
                 kind == ARTIFACT_SEGMENT ? "; whether more is missing behind them, only the whole directory tells"
                                          : "");
    }
    entries_close(&entries);
}

/* --- Comparing snapshots with the log ----------------------------------------------------------------------------- */

#define SNAPSHOTS_MAX 1024

struct known {
    struct {
        uint64_t index, term, digest;
    } at[SNAPSHOTS_MAX]; /* good ones, ascending */
    unsigned n, compared;
    struct verify *v;
    const char *path;
};

static int known_compare(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* The log led to the same content as a snapshot's? */
static bool passed_cb(void *ctx, const struct content *content)
{
    struct known *known = ctx;
    for (unsigned i = 0; i < known->n; i++) {
        if (known->at[i].index != content->meta.index) {
            continue;
        }
        if (known->at[i].digest != store_digest(content->store)) {
            row(known->v, RESULT_DAMAGED, ARTIFACT_SNAPSHOT, known->path,
                "the snapshot up to entry %" PRIu64 " has digest %016" PRIx64 ", but the log leads to %016" PRIx64
                " there: one of the two was written with damaged memory; rebuild this node from its peers",
                content->meta.index, known->at[i].digest, store_digest(content->store));
            return false;
        }
        known->compared++;
    }
    return true;
}

static void known_add(struct known *known, const struct content *content)
{
    if (known->n < SNAPSHOTS_MAX) {
        known->at[known->n].index = content->meta.index;
        known->at[known->n].term = content->meta.term;
        known->at[known->n].digest = content->end.digest;
        known->n++;
    }
}

/* Load the oldest good snapshot from which the entries go on, or begin with nothing. False: no replay. */
static bool replay_base(struct verify *v, struct content *content, struct env *env, const struct known *known,
                        uint64_t first)
{
    char name[SNAPSHOT_NAME_BYTES];
    if (v->quick) {
        return false;
    }
    if (first == 1) {
        return content_empty(content);
    }
    for (unsigned i = 0; i < known->n; i++) {
        if (known->at[i].index + 1 < first) {
            continue;
        }
        snapshot_name_format(name, known->at[i].index, known->at[i].term, "");
        return content_read(content, env, name, CONTENT_LOADED, NULL);
    }
    return false;
}

/* Walk through entries with replay, and tell. */
static void replayed_walk(struct verify *v, struct entries *entries, enum artifact kind, const char *path,
                          struct env *env, struct known *known, uint64_t first)
{
    struct content content = {0};
    struct walk walk = {0};
    char more[200] = "";
    const bool replay = replay_base(v, &content, env, known, first);
    const uint64_t from = content.meta.index;
    if (walk_entries(v, entries, kind, path, &walk, replay ? &content : NULL, passed_cb, known)) {
        if (replay) {
            snprintf(more, sizeof more,
                     "; replayed from %" PRIu64 ": revision %" PRIu64 ", digest %016" PRIx64 " (%u snapshots compared)",
                     from, store_revision(content.store), store_digest(content.store), known->compared);
        }
        walk_row(v, kind, path, &walk, more);
    }
    content_fini(&content);
}

/* --- Directories -------------------------------------------------------------------------------------------------- */

static const char *join(char out[4200], const char *dir, const char *name)
{
    snprintf(out, 4200, "%.4000s/%s", dir, name);
    return out;
}

static void slots_row(struct verify *v, const struct datadir *d, const char *path)
{
    char file[4200];
    (void)join(file, path, "state");
    if (d->slots_status != SLOTS_OK) {
        row(v, RESULT_DAMAGED, ARTIFACT_SLOTS, file, "%s", d->slots_error);
        return;
    }
    /* A slot that is repaired from the other one is told of in the notes. */
    if (d->notes[0] != '\0') {
        row(v, RESULT_DAMAGED, ARTIFACT_SLOTS, file, "%.*s", (int)strcspn(d->notes, "\n"), d->notes);
        return;
    }
    row(v, RESULT_OK, ARTIFACT_SLOTS, file, "node %" PRIu64 ", term %" PRIu64 ", vote %" PRIu64 ", %" PRIu64 " starts",
        d->state.id, d->state.term, d->state.vote, d->state.starts);
}

/* The list of the other nodes' disks (docs/FORMATS.md, section Known nodes): the checksum in its last line. */
static void nodes_row(struct verify *v, const char *file)
{
    char text[16384];
    uint64_t sum;
    FILE *f = fopen(file, "re");
    if (f == NULL) {
        if (errno != ENOENT) {
            row(v, RESULT_UNREADABLE, ARTIFACT_NODES, file, "%s", strerror(errno));
        }
        return; /* none were met yet */
    }
    text[fread(text, 1, sizeof text - 1, f)] = '\0';
    (void)fclose(f);
    const char *end = strstr(text, "\nend ");
    if (end == NULL || sscanf(end, "\nend %16" SCNx64, &sum) != 1 ||
        XXH3_64bits(text, (size_t)(end + 1 - text)) != sum) {
        row(v, RESULT_DAMAGED, ARTIFACT_NODES, file,
            "its checksum is wrong: no node starts with it. If no other node has lost its data since this one last "
            "ran, remove the file; otherwise let this node join under a fresh id with an empty directory");
        return;
    }
    unsigned n = 0;
    for (const char *at = text; (at = strstr(at, "\nnode ")) != NULL; at++) {
        n++;
    }
    row(v, RESULT_OK, ARTIFACT_NODES, file, "%u nodes", n);
}

/* All snapshots, oldest first. */
static void snapshots_rows(struct verify *v, struct datadir *d, const char *path, struct known *known)
{
    size_t n = 0;
    while (snapshot_dir_at(d->snapshots, n) != NULL) {
        n++;
    }
    for (size_t i = n; i-- > 0;) {
        const struct snapshot_info *info = snapshot_dir_at(d->snapshots, i);
        char name[SNAPSHOT_NAME_BYTES], file[4200];
        struct content content;
        snapshot_name_format(name, info->index, info->term, "");
        if (snapshot_check(v, &content, d->env, name, join(file, path, name))) {
            known_add(known, &content);
            if (d->slots_status == SLOTS_OK &&
                memcmp(content.meta.cluster, d->state.cluster, sizeof d->state.cluster) != 0) {
                row(v, RESULT_DAMAGED, ARTIFACT_SNAPSHOT, file, "it is of another cluster than the file `state`");
            }
        }
        content_fini(&content);
    }
}

static void log_rows(struct verify *v, struct datadir *d, const char *path, struct known *known)
{
    char error[DATADIR_ERROR_MAX], file[4200];
    const bool fresh = d->slots_status == SLOTS_EMPTY || (d->slots_status == SLOTS_OK && d->state.starts == 0);
    const uint64_t index = known->n > 0 ? known->at[known->n - 1].index : 0;
    const uint64_t term = known->n > 0 ? known->at[known->n - 1].term : 0;
    (void)join(file, path, "wal-*");
    if (d->wal_files == 0 && fresh) {
        row(v, RESULT_OK, ARTIFACT_SEGMENT, file, "none: nothing was logged here yet");
        return;
    }
    d->notes[0] = '\0';
    if (datadir_open_wal(d, index, term, error) != WAL_OK) {
        row(v, RESULT_DAMAGED, ARTIFACT_SEGMENT, file, "%s", error);
        return;
    }
    if (d->notes[0] != '\0') {
        row(v, RESULT_OK, ARTIFACT_SEGMENT, file, "note: %.*s", (int)strcspn(d->notes, "\n"), d->notes);
    }
    if (d->slots_status == SLOTS_OK && wal_last(d->wal) >= wal_first(d->wal) &&
        wal_term_of(d->wal, wal_last(d->wal)) > d->state.term) {
        row(v, RESULT_DAMAGED, ARTIFACT_SEGMENT, file,
            "the last term %" PRIu64 " is above that of the file `state`, %" PRIu64
            ": the file is older than the log; let this node join under a fresh id with an empty directory",
            wal_term_of(d->wal, wal_last(d->wal)), d->state.term);
    }
    struct entries entries;
    entries_open_log(&entries, d, 0);
    replayed_walk(v, &entries, ARTIFACT_SEGMENT, file, d->env, known, wal_first(d->wal));
    entries_close(&entries);
}

static void data_directory(struct verify *v, const char *path)
{
    struct datadir d = {0};
    char error[DATADIR_ERROR_MAX] = "out of memory", file[4200];
    struct known *known = calloc(1, sizeof *known);
    if (known == NULL || !datadir_open(&d, path, error)) {
        row(v, d.in_use ? RESULT_IN_USE : RESULT_UNREADABLE, ARTIFACT_DATADIR, path, "%s", error);
        free(known);
        return;
    }
    known->v = v;
    known->path = path;
    if (access(join(file, path, "unfinished"), F_OK) == 0) {
        row(v, RESULT_DAMAGED, ARTIFACT_DATADIR, path,
            "`lockstep restore` or `recover` did not finish: remove the directory and run it again");
    }
    slots_row(v, &d, path);
    nodes_row(v, join(file, path, "nodes"));
    snapshots_rows(v, &d, path, known);
    log_rows(v, &d, path, known);
    datadir_close(&d);
    free(known);
}

struct archive_list {
    struct verify *v;
    struct known *known;
    struct env *env;
    const char *path;
};

static void archive_base_cb(void *ctx, const char *name, uint64_t size)
{
    struct archive_list *list = ctx;
    uint64_t index, term;
    char file[4200];
    struct content content;
    (void)size;
    if (!snapshot_name_parse(name, &index, &term)) {
        return;
    }
    if (snapshot_check(list->v, &content, list->env, name, join(file, list->path, name))) {
        known_add(list->known, &content);
    }
    content_fini(&content);
}

static void archive_directory(struct verify *v, const char *path)
{
    const struct file_env_config config = {.dir = path, .mode = FILE_ENV_FROZEN};
    char error[FILE_ENV_ERROR_MAX];
    struct known *known = calloc(1, sizeof *known);
    struct env *env = file_env_new(&config, error);
    struct entries entries = {0};
    if (known == NULL || env == NULL) {
        row(v, RESULT_UNREADABLE, ARTIFACT_ARCHIVE, path, "%s", known == NULL ? "out of memory" : error);
    } else {
        struct archive_list list = {v, known, env, path};
        known->v = v;
        known->path = path;
        (void)env->ops->list(env, archive_base_cb, &list);
        qsort(known->at, known->n, sizeof known->at[0], known_compare);
        if (known->n == 0) {
            row(v, RESULT_DAMAGED, ARTIFACT_ARCHIVE, path,
                "it has no good base backup: nothing can be restored from it; run `lockstep archive` on it again");
        }
        if (!entries_open_archive(&entries, path, 0)) {
            row(v, RESULT_DAMAGED, ARTIFACT_ENTRIES, path, "%s", entries.error);
        } else if (entries.n_firsts > 0) {
            replayed_walk(v, &entries, ARTIFACT_ENTRIES, path, env, known, entries.firsts[0]);
        }
        entries_close(&entries);
    }
    file_env_free(env);
    free(known);
}

/* --- The command -------------------------------------------------------------------------------------------------- */

/* Slots are read through the directory they lie in. */
static void slots_file(struct verify *v, const char *path)
{
    char dir[4096];
    struct datadir d;
    char error[DATADIR_ERROR_MAX];
    const size_t len = (size_t)(artifact_basename(path) - path);
    snprintf(dir, sizeof dir, "%.*s", len > 1 ? (int)len - 1 : (int)len, path);
    if (strcmp(artifact_basename(path), "state") != 0) {
        row(v, RESULT_DAMAGED, ARTIFACT_SLOTS, path, "it was renamed: such a file is called `state`");
    } else if (!datadir_open(&d, len > 0 ? dir : ".", error)) {
        row(v, d.in_use ? RESULT_IN_USE : RESULT_UNREADABLE, ARTIFACT_SLOTS, path, "%s", error);
    } else {
        slots_row(v, &d, len > 0 ? dir : ".");
        datadir_close(&d);
    }
}

static void verify_path(struct verify *v, const char *path)
{
    const enum artifact kind = artifact_of(path);
    switch (kind) {
    case ARTIFACT_NONE:
        row(v, errno == ENOENT || errno == ENOTDIR ? RESULT_ABSENT : RESULT_UNREADABLE, kind, path, "%s",
            strerror(errno));
        break;
    case ARTIFACT_UNKNOWN:
        row(v, RESULT_UNKNOWN, kind, path,
            "neither name nor first bytes are those of Lockstep: it is something else, or its beginning is destroyed");
        break;
    case ARTIFACT_DATADIR:
        data_directory(v, path);
        break;
    case ARTIFACT_ARCHIVE:
        archive_directory(v, path);
        break;
    case ARTIFACT_SNAPSHOT:
        snapshot_file(v, path);
        break;
    case ARTIFACT_ENTRIES:
    case ARTIFACT_SEGMENT:
        single_file(v, kind, path);
        break;
    case ARTIFACT_SLOTS:
        slots_file(v, path);
        break;
    case ARTIFACT_NODES:
        nodes_row(v, path);
        break;
    }
}

int command_verify(int argc, char **argv)
{
    struct verify v = {0};
    const struct option_rule rules[] = {
        {.name = "quick", .flag = &v.quick}, {.name = "json", .flag = &v.json}, {.name = NULL}};
    const struct command_line line = {
        .usage = usage_text, .rules = rules, .operands = "PATH", .operands_min = 1, .operands_max = INT_MAX};
    const int code = options_read(&line, argc, argv);

    if (code != OPTIONS_OK) {
        return code;
    }
    v.rows = json_array();
    for (int i = optind; i < argc; i++) {
        verify_path(&v, argv[i]);
    }
    if (v.json) {
        json_t *root = json_pack("{s:b, s:O}", "ok", v.worst == RESULT_OK, "files", v.rows);
        json_dumpf(root, stdout, JSON_INDENT(2));
        putchar('\n');
        json_decref(root);
    }
    json_decref(v.rows);
    return v.worst == RESULT_OK        ? EXIT_OK
           : v.worst >= RESULT_UNKNOWN ? EXIT_FAILED
           : v.worst >= RESULT_ABSENT  ? EXIT_NOT_LOOKED
                                       : EXIT_PARTLY;
}
