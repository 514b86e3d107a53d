#include "cmd/lockstep/entries.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "consensus/wal_format.h"

#define SEGMENT_BYTES_MAX ((uint64_t)1 << 30)

static enum entries_state fail(struct entries *e, const char *format, ...) __attribute__((format(printf, 2, 3)));
static enum entries_state fail(struct entries *e, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(e->error, sizeof e->error, format, args);
    va_end(args);
    return ENTRIES_FAILED;
}

/* --- The log of a data directory ---------------------------------------------------------------------------------- */

void entries_open_log(struct entries *entries, struct datadir *datadir, uint64_t from)
{
    memset(entries, 0, sizeof *entries);
    entries->datadir = datadir;
    entries->next = from > wal_first(datadir->wal) ? from : wal_first(datadir->wal);
}

static enum entries_state next_of_log(struct entries *e, struct wal_entry *entry)
{
    struct wal *wal = e->datadir->wal;
    if (e->next > wal_last(wal)) {
        return ENTRIES_END;
    }
    free(e->data);
    e->data = NULL;
    size_t len = 0;
    if (wal_read_sync(wal, e->next, &e->data, &len) != WAL_OK) {
        return fail(e, "entry %" PRIu64 " can't be read back from the log", e->next);
    }
    *entry = (struct wal_entry){.index = e->next,
                                .term = wal_term_of(wal, e->next),
                                .type = wal_type_of(wal, e->next),
                                .data = e->data,
                                .len = len};
    e->next++;
    return ENTRIES_MORE;
}

/* --- One segment -------------------------------------------------------------------------------------------------- */

static bool segment_load(struct entries *e, const char *path)
{
    const struct file_env_config config = {.file = path, .mode = FILE_ENV_FROZEN};
    char error[FILE_ENV_ERROR_MAX];
    struct env_file *file = NULL;
    e->env = file_env_new(&config, error);
    if (e->env == NULL) {
        (void)fail(e, "%s", error);
        return false;
    }
    bool ok = e->env->ops->open(e->env, path, &file, &e->segment_bytes) == ENV_OK;
    ok = ok && e->segment_bytes <= SEGMENT_BYTES_MAX && e->segment_bytes >= WAL_HEADER_BYTES;
    e->segment = ok ? calloc(1, (size_t)e->segment_bytes + WAL_RECORD_BYTES) : NULL;
    ok = e->segment != NULL && e->env->ops->read_sync(e->env, file, 0, e->segment, (size_t)e->segment_bytes) == ENV_OK;
    if (file != NULL) {
        e->env->ops->close(e->env, file);
    }
    if (!ok) {
        (void)fail(e, "%s: can't be read, or is no segment of a log", path);
    }
    return ok;
}

bool entries_open_segment(struct entries *e, const char *path)
{
    struct wal_header header;
    memset(e, 0, sizeof *e);
    if (!segment_load(e, path)) {
        return false;
    }
    const enum wal_header_state state = wal_header_decode(e->segment, &header);
    if (state != WAL_HEADER_OK) {
        (void)fail(e, "%s: %s", path,
                   state == WAL_HEADER_NEWER ? "it was written by a newer version: use that one"
                                             : "its header is damaged, or nothing was written to it yet");
        return false;
    }
    e->offset = WAL_HEADER_BYTES;
    e->seq = header.first_seq - 1;
    e->chain = header.prev;
    e->generation = (uint32_t)header.generation;
    e->salt = header.salt;
    return true;
}

/* Is there an intact record of this segment behind its end? Then something before it is damaged. */
static enum entries_state judge_segment(struct entries *e)
{
    struct wal_record record;
    for (uint64_t at = e->offset; at + WAL_RECORD_BYTES <= e->segment_bytes; at += 8) {
        if (wal_record_maybe(e->segment + at, e->generation, e->salt, false) &&
            wal_record_decode(e->segment + at, &record) && record.mark > e->seq) {
            return fail(e,
                        "it is damaged at offset %" PRIu64 ": record %" PRIu64 " of the log is missing there, but was "
                        "on stable storage (durable mark %" PRIu64 ")",
                        e->offset, e->seq + 1, record.mark);
        }
    }
    return ENTRIES_END;
}

static enum entries_state next_of_segment(struct entries *e, struct wal_entry *entry)
{
    for (struct wal_record record; e->offset + WAL_RECORD_BYTES <= e->segment_bytes;) {
        const uint8_t *at = e->segment + e->offset;
        if (!wal_record_decode(at, &record) || record.generation != e->generation || record.salt != e->salt ||
            record.seq != e->seq + 1 || record.prev != e->chain ||
            record.len > e->segment_bytes - e->offset - WAL_RECORD_BYTES ||
            !wal_record_body_ok(&record, at + WAL_RECORD_BYTES)) {
            break;
        }
        e->offset += wal_record_size(record.len);
        e->seq = record.seq;
        e->chain = record.check;
        if (record.type <= WAL_CHANGE) {
            *entry = (struct wal_entry){.index = record.index,
                                        .term = record.term,
                                        .type = (enum wal_entry_type)record.type,
                                        .data = at + WAL_RECORD_BYTES,
                                        .len = record.len};
            return ENTRIES_MORE;
        }
    }
    return judge_segment(e);
}

/* --- Archives ----------------------------------------------------------------------------------------------------- */

static int first_compare(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static bool archive_list(struct entries *e)
{
    DIR *dir = opendir(e->dir);
    if (dir == NULL) {
        (void)fail(e, "%.900s: %s", e->dir, strerror(errno));
        return false;
    }
    size_t cap = 0;
    bool ok = true;
    for (struct dirent *d = readdir(dir); ok && d != NULL; d = readdir(dir)) {
        uint64_t first;
        if (!archive_name_parse(d->d_name, &first)) {
            continue;
        }
        if (e->n_firsts == cap) {
            cap = cap == 0 ? 64 : cap * 2;
            uint64_t *grown = realloc(e->firsts, cap * sizeof *grown);
            ok = grown != NULL;
            e->firsts = ok ? grown : e->firsts;
        }
        if (ok) {
            e->firsts[e->n_firsts++] = first;
        }
    }
    (void)closedir(dir);
    if (e->n_firsts > 0) {
        qsort(e->firsts, e->n_firsts, sizeof *e->firsts, first_compare);
    }
    if (!ok) {
        (void)fail(e, "out of memory");
    }
    return ok;
}

bool entries_open_archive(struct entries *e, const char *dir, uint64_t from)
{
    memset(e, 0, sizeof *e);
    snprintf(e->dir, sizeof e->dir, "%s", dir);
    if (!archive_list(e)) {
        return false;
    }
    while (e->at_file + 1 < e->n_firsts && e->firsts[e->at_file + 1] <= from) {
        e->at_file++;
    }
    return true;
}

bool entries_open_archive_behind(struct entries *e, const char *dir, uint64_t from, const uint8_t cluster[16],
                                 uint64_t term)
{
    if (!entries_open_archive(e, dir, from)) {
        return false;
    }
    memcpy(e->cluster, cluster, sizeof e->cluster);
    e->cluster_known = true;
    if (e->n_firsts > 0 && e->firsts[e->at_file] == from) {
        e->next = from;
        e->term = term;
    }
    return true;
}

bool entries_open_archive_file(struct entries *e, const char *path)
{
    memset(e, 0, sizeof *e);
    e->reader = archive_reader_open(path, e->error);
    if (e->reader != NULL) {
        memcpy(e->cluster, archive_reader_head(e->reader)->cluster, sizeof e->cluster);
        e->files = 1;
    }
    return e->reader != NULL;
}

/* The next file of the archive, which must continue the one before. */
static enum entries_state next_file(struct entries *e)
{
    char path[sizeof e->dir + ARCHIVE_NAME_BYTES + 1], name[ARCHIVE_NAME_BYTES];
    archive_name_format(name, e->firsts[e->at_file]);
    snprintf(path, sizeof path, "%s/%s", e->dir, name);
    e->reader = archive_reader_open(path, e->error);
    if (e->reader == NULL) {
        return ENTRIES_FAILED;
    }
    const struct archive_head *head = archive_reader_head(e->reader);
    if (head->first_index != e->firsts[e->at_file]) {
        return fail(e, "%.900s was renamed: it begins with entry %" PRIu64, path, head->first_index);
    }
    if (e->cluster_known && memcmp(head->cluster, e->cluster, sizeof e->cluster) != 0) {
        return fail(e, "%.900s is of another cluster than what is before it: one directory for each cluster", path);
    }
    const uint64_t due = e->next;
    if (due != 0 && head->first_index < due) {
        return fail(e, "%.900s begins with entry %" PRIu64 ", which an earlier file holds too", path,
                    head->first_index);
    }
    if (due != 0 && due == head->first_index && head->prev_term != 0 && head->prev_term != e->term) {
        return fail(e, "%.900s does not continue what is before it: terms differ", path);
    }
    memcpy(e->cluster, head->cluster, sizeof e->cluster);
    e->cluster_known = true;
    e->files++;
    if (due != 0 && head->first_index > due) {
        (void)fail(e,
                   "entries %" PRIu64 " to %" PRIu64 " are missing in front of %.700s: the nodes had dropped them when "
                   "they were to be archived, or a file was lost",
                   due, head->first_index - 1, path);
        return ENTRIES_GAP;
    }
    return ENTRIES_MORE;
}

/* The reader is at its end; is there another file? */
static enum entries_state file_end(struct entries *e, enum archive_end end)
{
    const bool last = e->at_file + 1 >= e->n_firsts;
    if (end == ARCHIVE_DAMAGED) {
        return fail(e, "%s", archive_reader_error(e->reader));
    }
    if (last && end == ARCHIVE_TORN) {
        (void)fail(e,
                   "behind entry %" PRIu64 " there is the rest of a torn write; it is cut off when archiving goes on",
                   e->next - 1);
        return ENTRIES_TORN;
    }
    if (last) {
        return ENTRIES_END;
    }
    archive_reader_close(e->reader);
    e->reader = NULL;
    e->at_file++;
    return ENTRIES_MORE;
}

static enum entries_state next_of_archive(struct entries *e, struct wal_entry *entry)
{
    for (;;) {
        if (e->reader == NULL && e->at_file >= e->n_firsts) {
            return ENTRIES_END;
        }
        enum entries_state state = e->reader == NULL ? next_file(e) : ENTRIES_MORE;
        if (state != ENTRIES_MORE) {
            return state;
        }
        const enum archive_end end = archive_reader_next(e->reader, entry);
        if (end == ARCHIVE_MORE) {
            e->next = entry->index + 1;
            e->term = entry->term;
            return ENTRIES_MORE;
        }
        if (e->next == 0) {
            e->next = archive_reader_head(e->reader)->first_index;
        }
        state = file_end(e, end);
        if (state != ENTRIES_MORE) {
            return state;
        }
    }
}

enum entries_state entries_next(struct entries *entries, struct wal_entry *entry)
{
    if (entries->datadir != NULL) {
        return next_of_log(entries, entry);
    }
    return entries->segment != NULL ? next_of_segment(entries, entry) : next_of_archive(entries, entry);
}

void entries_close(struct entries *entries)
{
    archive_reader_close(entries->reader);
    free(entries->firsts);
    free(entries->data);
    free(entries->segment);
    file_env_free(entries->env);
    memset(entries, 0, sizeof *entries);
}
