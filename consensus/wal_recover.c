/* Recovery: read every segment in order, follow the chain of records to its end, and decide whether what lies behind
 * the end is a torn tail or damage.
 *
 * The chain: each record names its predecessor's checksum and carries the next sequence number, so the log is exactly
 * the records reachable from the first. Let S be the last of them. Records found behind the end (later blocks of a
 * write reach the disk before earlier ones) are not part of the log, but they testify: each carries the highest
 * sequence number known durable when it was written, and a segment is only begun when everything in the one before it
 * is durable. Let M be the highest such mark found anywhere.
 *
 *   M <= S: nothing durable is missing. What is behind S was never acknowledged: a torn tail, and it is cut.
 *   M >  S: a record that was durable can't be read. Nothing is changed, and the start is refused.
 *
 * A record that nothing later marked is taken for torn if it is damaged. A mark follows at the latest
 * WAL_IDLE_MARK_US after the last write completed, and at a clean close.
 *
 * Cutting writes nothing by itself. The records behind the cut can't come back: the first record of this run holds a
 * random nonce, so no record written earlier names the checksum that a successor would have to name.
 *
 * What was read need not be durable yet: after a crash of the process alone the system may still hold it in memory.
 * So the blocks of all records above M are written once more before they count as durable.
 *
 * A log whose prefix was dropped begins with a later segment. What that segment's header says about the records before
 * it is taken as given, and the newest snapshot has to cover the entries that were in them: wal_config.start_index. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "consensus/wal_internal.h"

struct found {
    uint32_t generation;
    uint64_t size;
    struct env_file *file;
    bool blank; /* all zeros, or a recycled file in which nothing was written yet */
    uint64_t index_max;
    bool dead; /* a reset follows it */
};

struct recovery {
    struct wal *wal;
    char *error;
    struct found *files;
    size_t n_files;
    size_t files_cap;
    size_t n_used; /* leading files that hold a part of the log */
    bool no_memory;
    bool salt_known;

    uint8_t *buf; /* the segment being scanned */
    size_t buf_cap;
    uint32_t *offsets; /* of its records, in units of 8 bytes */
    size_t n_offsets;
    size_t offsets_cap;

    uint64_t seq; /* end of the chain */
    uint64_t chain;
    uint64_t mark;
    bool ended;        /* a segment that does not continue the chain was met */
    bool began_late;   /* segments before the first one were dropped, and no reset has followed */
    bool contradicted; /* a later segment was begun although the chain had ended before it */
    uint32_t end_generation;
    uint64_t end_offset;
    uint64_t behind_index; /* highest index among the records behind the end */
    uint64_t behind_bytes; /* of non-zero 8-byte words behind the end */

    uint8_t *tail; /* blocks of the last used segment from the first unmarked record on */
    size_t tail_cap;
    size_t tail_len;
    uint64_t tail_offset;
};

static const char advice[] =
    "Do not delete or edit the files. Remove this member from the cluster, keep the directory, and start the node with "
    "an empty directory under a fresh id; it then gets everything from its peers.";

__attribute__((format(printf, 2, 3))) static void explain(struct recovery *rec, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(rec->error, WAL_ERROR_BYTES, format, args);
    va_end(args);
}

static void list_cb(void *ctx, const char *name, uint64_t size)
{
    struct recovery *rec = ctx;
    uint32_t generation;
    if (!wal_name_parse(name, &generation)) {
        return;
    }
    if (rec->n_files == rec->files_cap) {
        size_t cap = rec->files_cap == 0 ? 16 : rec->files_cap * 2;
        struct found *files = realloc(rec->files, cap * sizeof *files);
        if (files == NULL) {
            rec->no_memory = true;
            return;
        }
        rec->files = files;
        rec->files_cap = cap;
    }
    rec->files[rec->n_files++] = (struct found){.generation = generation, .size = size};
}

static int found_compare(const void *a, const void *b)
{
    const struct found *x = a;
    const struct found *y = b;
    return x->generation < y->generation ? -1 : x->generation > y->generation;
}

static enum wal_status find_files(struct recovery *rec)
{
    struct env *env = rec->wal->env;
    enum env_status status = env->ops->list(env, list_cb, rec);
    if (status != ENV_OK) {
        explain(rec, "can't list the data directory");
        return wal_status_of(status);
    }
    if (rec->no_memory) {
        return WAL_NO_MEMORY;
    }
    if (rec->n_files > 0) {
        qsort(rec->files, rec->n_files, sizeof *rec->files, found_compare);
    }
    for (size_t i = 0; i < rec->n_files; i++) {
        uint32_t expected = rec->files[0].generation + (uint32_t)i;
        if (rec->files[i].generation != expected) {
            explain(rec,
                    "wal-%08x is missing from the data directory, but wal-%08x exists. Put the file back if it was "
                    "moved. Otherwise: %s",
                    expected, rec->files[i].generation, advice);
            return WAL_CORRUPT;
        }
    }
    return WAL_OK;
}

/* Grow a scratch buffer without keeping its content. */
static bool scratch(uint8_t **buf, size_t *cap, size_t need)
{
    if (need <= *cap) {
        return true;
    }
    uint8_t *grown = aligned_alloc(ENV_BLOCK, need);
    if (grown == NULL) {
        return false;
    }
    free(*buf);
    *buf = grown;
    *cap = need;
    return true;
}

static size_t round_block(uint64_t n)
{
    return (size_t)((n + ENV_BLOCK - 1) / ENV_BLOCK * ENV_BLOCK);
}

/* Read one file whole into rec->buf, zero-filled up to a block's end. */
static enum wal_status load(struct recovery *rec, struct found *found)
{
    struct env *env = rec->wal->env;
    char name[WAL_NAME_BYTES];
    wal_name_format(name, found->generation);
    enum env_status status = env->ops->open(env, name, &found->file, &found->size);
    if (status != ENV_OK) {
        found->file = NULL;
        explain(rec, "can't open %s", name);
        return wal_status_of(status);
    }
    if (found->size > WAL_SEGMENT_BYTES_MAX) {
        explain(rec, "%s is no segment of a log: it has %llu bytes. %s", name, (unsigned long long)found->size, advice);
        return WAL_CORRUPT;
    }
    size_t len = round_block(found->size);
    if (!scratch(&rec->buf, &rec->buf_cap, len > 0 ? len : ENV_BLOCK)) {
        return WAL_NO_MEMORY;
    }
    memset(rec->buf, 0, ENV_BLOCK);
    if (len == 0) {
        return WAL_OK;
    }
    status = env->ops->read_sync(env, found->file, 0, rec->buf, len);
    if (status != ENV_OK) {
        explain(rec, "can't read %s: the disk reports an error. %s", name, advice);
    }
    return wal_status_of(status);
}

static bool note_offset(struct recovery *rec, size_t offset)
{
    if (rec->n_offsets == rec->offsets_cap) {
        size_t cap = rec->offsets_cap == 0 ? 1024 : rec->offsets_cap * 2;
        uint32_t *offsets = realloc(rec->offsets, cap * sizeof *offsets);
        if (offsets == NULL) {
            return false;
        }
        rec->offsets = offsets;
        rec->offsets_cap = cap;
    }
    rec->offsets[rec->n_offsets++] = (uint32_t)(offset / 8);
    return true;
}

static void note_index(struct found *found, uint64_t index)
{
    if (index > found->index_max) {
        found->index_max = index;
    }
}

static enum wal_status accept_reset(struct recovery *rec, struct found *found, const struct wal_record *record,
                                    size_t offset)
{
    bool backwards = record->index + 1 < rec->wal->index.first && !rec->began_late;
    if (record->index == UINT64_MAX || backwards || record->term == 0) {
        explain(rec, "wal-%08x, offset %zu: the log begins anew behind entry %llu, which can't be. %s",
                record->generation, offset, (unsigned long long)record->index, advice);
        return WAL_CORRUPT;
    }
    note_index(found, record->index);
    for (struct found *old = rec->files; old < found; old++) {
        old->dead = true;
    }
    wal_index_reset(&rec->wal->index, record->index + 1);
    rec->wal->prev_term = record->term;
    rec->began_late = false;
    return WAL_OK;
}

/* Take one verified record into the log's map. */
static enum wal_status accept(struct recovery *rec, struct found *found, const struct wal_record *record, size_t offset)
{
    struct wal *wal = rec->wal;
    struct wal_index *index = &wal->index;
    if (record->type == WAL_RECORD_MARK) {
        return WAL_OK;
    }
    if (record->type == WAL_RECORD_RESET) {
        return accept_reset(rec, found, record, offset);
    }
    if (record->type < WAL_COMMAND || record->type > WAL_CHANGE) {
        explain(rec, "wal-%08x holds a record of type %u, which this version does not know: start a newer version",
                record->generation, record->type);
        return WAL_VERSION;
    }
    if (record->index < index->first && record->index > 0 && rec->began_late) {
        /* Replaces entries that were in dropped segments. Whether the snapshot covers what is before it is judged at
         * the end: check_start. */
        wal_index_reset(index, record->index);
        wal->prev_term = 0;
    }
    if (record->index < index->first || record->index > index->last + 1 || record->term == 0 ||
        record->len > WAL_INDEX_LEN_MAX) {
        explain(rec, "wal-%08x, offset %zu: entry %llu does not follow entry %llu, although both are intact. %s",
                record->generation, offset, (unsigned long long)record->index, (unsigned long long)index->last, advice);
        return WAL_CORRUPT;
    }
    note_index(found, record->index);
    wal_index_truncate(index, record->index);
    if (!wal_index_reserve(index, record->index, 1, 1)) {
        return WAL_NO_MEMORY;
    }
    struct wal_place place = {.term = record->term,
                              .offset = offset,
                              .generation = record->generation,
                              .len = record->len,
                              .type = record->type};
    wal_index_push(index, &place);
    return WAL_OK;
}

static bool continues(const struct recovery *rec, const struct found *found, const struct wal_record *record,
                      size_t room)
{
    return record->generation == found->generation && record->salt == rec->wal->salt && record->seq == rec->seq + 1 &&
           record->prev == rec->chain && record->len <= room;
}

/* Follow the chain through a segment; `*end` is where it stops. */
static enum wal_status walk(struct recovery *rec, struct found *found, size_t *end)
{
    size_t at = WAL_HEADER_BYTES;
    rec->n_offsets = 0;
    while (at + WAL_RECORD_BYTES <= found->size) {
        struct wal_record record;
        const uint8_t *bytes = rec->buf + at;
        if (!wal_record_decode(bytes, &record) ||
            !continues(rec, found, &record, (size_t)found->size - at - WAL_RECORD_BYTES) ||
            !wal_record_body_ok(&record, bytes + WAL_RECORD_BYTES)) {
            break;
        }
        enum wal_status status = accept(rec, found, &record, at);
        if (status != WAL_OK) {
            return status;
        }
        if (!note_offset(rec, at)) {
            return WAL_NO_MEMORY;
        }
        rec->seq = record.seq;
        rec->chain = record.check;
        if (record.mark > rec->mark) {
            rec->mark = record.mark;
        }
        at += wal_record_size(record.len);
    }
    *end = at;
    return WAL_OK;
}

/* Look at what lies behind the end of the chain in this segment: intact records there testify by their marks. Gives
 * their number. Whatever is not zero before `fresh` counts as the rest of a torn write; bytes behind it may be older.
 */
static size_t search_behind(struct recovery *rec, const struct found *found, size_t from, size_t fresh)
{
    static const uint8_t zeros[8];
    size_t n = 0;
    for (size_t at = from; at + 8 <= found->size; at += 8) {
        if (memcmp(rec->buf + at, zeros, sizeof zeros) == 0) {
            continue;
        }
        rec->behind_bytes += at < fresh ? 8 : 0;
        struct wal_record record;
        if (at + WAL_RECORD_BYTES > found->size ||
            !wal_record_maybe(rec->buf + at, found->generation, rec->wal->salt, !rec->salt_known) ||
            !wal_record_decode(rec->buf + at, &record)) {
            continue;
        }
        n++;
        rec->behind_bytes += at < fresh ? 0 : 8;
        if (record.mark > rec->mark) {
            rec->mark = record.mark;
        }
        if (record.type != WAL_RECORD_MARK && record.index > rec->behind_index) {
            rec->behind_index = record.index;
        }
    }
    return n;
}

/* Keep the blocks that hold records above the mark, and the last, partial block, which the next write continues. */
static bool keep_tail(struct recovery *rec, const struct wal_header *header, size_t end)
{
    size_t from = end;
    if (rec->seq > rec->mark) {
        uint64_t first = rec->mark + 1 > header->first_seq ? rec->mark + 1 : header->first_seq;
        from = (size_t)rec->offsets[first - header->first_seq] * 8;
    }
    from = from / ENV_BLOCK * ENV_BLOCK;
    size_t len = round_block(end - from);
    if (!scratch(&rec->tail, &rec->tail_cap, len > 0 ? len : ENV_BLOCK)) {
        return false;
    }
    memcpy(rec->tail, rec->buf + from, end - from);
    memset(rec->tail + (end - from), 0, len - (end - from));
    rec->tail_offset = from;
    rec->tail_len = len;
    return true;
}

/* A file that was renamed to be used again, and whose header was not written since: old bytes, of no meaning. */
static enum wal_status scan_recycled(struct recovery *rec, struct found *found, const struct wal_header *header)
{
    if (header->first_seq - 1 > rec->mark) {
        rec->mark = header->first_seq - 1;
    }
    rec->ended = true;
    found->blank = search_behind(rec, found, WAL_HEADER_BYTES, 0) == 0;
    return WAL_OK;
}

/* The first segment of a log whose prefix was dropped: go on from what its header says about the records before. */
static bool begin_late(struct recovery *rec, const struct found *found, const struct wal_header *header)
{
    if (header->first_seq == 0 || header->next_index == 0) {
        explain(rec, "wal-%08x has a header that makes no sense. %s", found->generation, advice);
        return false;
    }
    rec->began_late = true;
    rec->seq = header->first_seq - 1;
    rec->chain = header->prev;
    wal_index_reset(&rec->wal->index, header->next_index);
    return true;
}

/* A segment whose header is intact: does it continue the chain? */
static enum wal_status scan_used(struct recovery *rec, struct found *found, const struct wal_header *header)
{
    struct wal *wal = rec->wal;
    if (header->generation < found->generation && rec->n_used > 0 && header->salt == wal->salt) {
        return scan_recycled(rec, found, header);
    }
    if (header->generation != found->generation || (rec->salt_known && header->salt != wal->salt)) {
        explain(rec, "wal-%08x is a segment of another log, or was renamed (it says generation %llu). %s",
                found->generation, (unsigned long long)header->generation, advice);
        return WAL_CORRUPT;
    }
    if (found->size % ENV_BLOCK != 0) {
        explain(rec, "wal-%08x was shortened to %llu bytes. %s", found->generation, (unsigned long long)found->size,
                advice);
        return WAL_CORRUPT;
    }
    wal->salt = header->salt;
    rec->salt_known = true;
    if (found == rec->files && found->generation > 1 && !begin_late(rec, found, header)) {
        return WAL_CORRUPT;
    }
    /* Whoever began this segment had all before it on stable storage. */
    if (header->first_seq - 1 > rec->mark) {
        rec->mark = header->first_seq - 1;
    }
    if (rec->ended || header->first_seq != rec->seq + 1 || header->prev != rec->chain) {
        rec->contradicted = true;
        rec->ended = true;
        (void)search_behind(rec, found, WAL_HEADER_BYTES, 0);
        return WAL_OK;
    }
    if (header->mark > rec->mark) {
        rec->mark = header->mark;
    }
    size_t end = 0;
    enum wal_status status = walk(rec, found, &end);
    if (status != WAL_OK) {
        return status;
    }
    rec->end_generation = found->generation;
    rec->end_offset = end;
    rec->behind_bytes = 0;
    /* Every write ends with zeros up to a block's end; what follows may be a recycled file's old bytes. */
    (void)search_behind(rec, found, end, round_block(end));
    rec->n_used++;
    return keep_tail(rec, header, end) ? WAL_OK : WAL_NO_MEMORY;
}

static enum wal_status scan(struct recovery *rec, struct found *found)
{
    enum wal_status status = load(rec, found);
    if (status != WAL_OK) {
        return status;
    }
    struct wal_header header;
    switch (wal_header_decode(rec->buf, &header)) {
    case WAL_HEADER_OK:
        return scan_used(rec, found, &header);
    case WAL_HEADER_NEWER:
        explain(rec, "wal-%08x has format version %u; this version reads up to %u: start a newer version",
                found->generation, header.version, WAL_VERSION_MAX);
        return WAL_VERSION;
    case WAL_HEADER_DAMAGED:
        break;
    }
    if (found == rec->files && found->generation > 1) {
        /* Segments before it were dropped, which needs a durable header here. */
        explain(rec, "wal-%08x, the first segment of the log, has a damaged header. %s", found->generation, advice);
        return WAL_CORRUPT;
    }
    if (!rec->ended) {
        rec->ended = true;
        if (rec->n_used == 0) {
            rec->end_generation = found->generation;
        }
    }
    uint64_t before = rec->behind_bytes;
    (void)search_behind(rec, found, 0, (size_t)found->size);
    found->blank = rec->behind_bytes == before;
    return WAL_OK;
}

static enum wal_status scan_all(struct recovery *rec)
{
    struct env *env = rec->wal->env;
    for (size_t i = 0; i < rec->n_files; i++) {
        size_t used = rec->n_used;
        enum wal_status status = scan(rec, &rec->files[i]);
        if (status != WAL_OK) {
            return status;
        }
        if (rec->n_used > used && used > 0) {
            env->ops->close(env, rec->files[used - 1].file); /* only the last used one is written again */
            rec->files[used - 1].file = NULL;
        }
    }
    if (rec->mark <= rec->seq && !rec->contradicted) {
        return WAL_OK;
    }
    uint64_t last = rec->wal->index.last;
    char until[32] = "on";
    if (rec->behind_index > last) {
        snprintf(until, sizeof until, "to %llu", (unsigned long long)rec->behind_index);
    }
    explain(rec,
            "wal-%08x is damaged at offset %llu: entries from %llu %s, which were on stable storage, can't be read "
            "(record %llu is missing, durable mark %llu). %s",
            rec->end_generation, (unsigned long long)rec->end_offset, (unsigned long long)last + 1, until,
            (unsigned long long)rec->seq + 1, (unsigned long long)rec->mark, advice);
    return WAL_CORRUPT;
}

/* The newest snapshot and the log must meet. */
static enum wal_status check_start(struct recovery *rec)
{
    struct wal *wal = rec->wal;
    uint64_t start = wal->config.start_index;
    if (rec->n_files == 0 && start > 0 && !wal->config.restored) {
        explain(rec, "there is a snapshot up to entry %llu, but no log at all (no file wal-*). %s",
                (unsigned long long)start, advice);
        return WAL_CORRUPT;
    }
    if (wal->index.first > start + 1) {
        explain(rec,
                "entries from %llu to %llu are missing: the newest good snapshot ends with entry %llu, but the log "
                "begins with entry %llu, in wal-%08x (wal-%08x is not there). Put snapshot and log files back if they "
                "were moved. Otherwise: %s",
                (unsigned long long)start + 1, (unsigned long long)wal->index.first - 1, (unsigned long long)start,
                (unsigned long long)wal->index.first, rec->files[0].generation, rec->files[0].generation - 1, advice);
        return WAL_CORRUPT;
    }
    if (wal->index.first == start + 1 && wal->prev_term == 0) {
        wal->prev_term = wal->config.start_term;
    }
    return WAL_OK;
}

/* Files behind the log: keep the blank ones that fit as spares, remove what a torn write began. */
static enum wal_status settle_spares(struct recovery *rec)
{
    struct env *env = rec->wal->env;
    size_t keep = rec->n_used;
    size_t keep_max = keep + WAL_SPARE_SEGMENTS + rec->wal->config.recycle_max;
    while (keep < rec->n_files && keep < keep_max && rec->files[keep].blank &&
           rec->files[keep].size == rec->wal->segment_bytes) {
        keep++;
    }
    while (rec->n_files > keep) {
        struct found *found = &rec->files[rec->n_files - 1];
        char name[WAL_NAME_BYTES];
        wal_name_format(name, found->generation);
        env->ops->close(env, found->file);
        found->file = NULL;
        enum env_status status = env->ops->remove_sync(env, name);
        if (status != ENV_OK) {
            explain(rec, "can't remove the unused segment %s", name);
            return wal_status_of(status);
        }
        rec->n_files--;
    }
    return WAL_OK;
}

static enum wal_status first_segment(struct recovery *rec)
{
    struct wal *wal = rec->wal;
    char name[WAL_NAME_BYTES];
    struct wal_segment *segment = wal_segments_push(wal, 1, wal->segment_bytes);
    wal_name_format(name, 1);
    enum env_status status = wal->env->ops->create(wal->env, name, segment->size, &segment->file);
    if (status != ENV_OK) {
        segment->file = NULL;
        explain(rec, "can't create the first log segment, %s, of %llu bytes%s", name, (unsigned long long)segment->size,
                status == ENV_NO_SPACE ? ": the disk is full" : "");
        return wal_status_of(status);
    }
    segment->state = WAL_SEGMENT_READY;
    return WAL_OK;
}

static enum wal_status adopt_files(struct recovery *rec)
{
    struct wal *wal = rec->wal;
    if (!wal_segments_reserve(wal, rec->n_files + 1 + WAL_SPARE_SEGMENTS)) {
        return WAL_NO_MEMORY;
    }
    if (rec->n_files == 0) {
        enum wal_status status = first_segment(rec);
        if (status != WAL_OK) {
            return status;
        }
    }
    for (size_t i = 0; i < rec->n_files; i++) {
        struct found *found = &rec->files[i];
        struct wal_segment *segment = wal_segments_push(wal, found->generation, found->size / ENV_BLOCK * ENV_BLOCK);
        segment->state = WAL_SEGMENT_READY;
        segment->file = found->file;
        found->file = NULL;
        segment->used = i < rec->n_used ? segment->size : 0;
        segment->index_max = found->index_max;
        segment->dead = found->dead;
    }
    for (size_t i = 0; i < wal->n_segments; i++) {
        wal->disk_bytes += wal->segments[i].size;
    }
    wal->n_ready = wal->n_segments;
    wal->current = rec->n_used > 0 ? rec->n_used - 1 : 0;
    if (rec->n_used > 0) {
        wal->segments[wal->current].used = rec->end_offset;
    }
    wal->writing_generation = wal->segments[wal->current].generation;
    wal->durable_generation = rec->n_used > 0 ? wal->writing_generation : 0;
    return WAL_OK;
}

/* Make durable what was read above the mark, and set the state from which wal_append goes on. */
static enum wal_status resume(struct recovery *rec)
{
    struct wal *wal = rec->wal;
    struct env *env = wal->env;
    if (rec->behind_bytes > 0) {
        char text[160];
        snprintf(text, sizeof text, "wal: cut a torn tail behind wal-%08x offset %llu; the log ends at entry %llu",
                 rec->end_generation, (unsigned long long)rec->end_offset, (unsigned long long)wal->index.last);
        env->ops->log(env, 1, text);
    }
    if (rec->seq > rec->mark) {
        struct wal_segment *segment = &wal->segments[wal->current];
        enum env_status status = env->ops->write_sync(env, segment->file, rec->tail_offset, rec->tail, rec->tail_len);
        if (status != ENV_OK) {
            explain(rec, "can't write to wal-%08x", segment->generation);
            return wal_status_of(status);
        }
    }
    wal->seq = rec->seq;
    wal->durable_seq = rec->seq;
    wal->chain = rec->chain;
    wal->durable = wal->index.last;
    if (rec->n_used > 0) {
        wal->last_block_used = (size_t)(rec->end_offset % ENV_BLOCK);
        size_t start = (size_t)(rec->end_offset / ENV_BLOCK * ENV_BLOCK - rec->tail_offset);
        memcpy(wal->last_block, rec->tail + start, wal->last_block_used);
    }
    if (!rec->salt_known) {
        wal->salt = (uint32_t)env->ops->random(env);
    }
    return WAL_OK;
}

enum wal_status wal_recover(struct wal *wal, char error[WAL_ERROR_BYTES])
{
    struct recovery rec = {.wal = wal, .error = error};
    enum wal_status status = find_files(&rec);
    if (status == WAL_OK) {
        status = scan_all(&rec);
    }
    if (status == WAL_OK) {
        status = check_start(&rec);
    }
    if (status == WAL_OK) {
        status = settle_spares(&rec);
    }
    if (status == WAL_OK) {
        status = adopt_files(&rec);
    }
    if (status == WAL_OK) {
        status = resume(&rec);
    }
    for (size_t i = 0; i < rec.n_files; i++) {
        if (rec.files[i].file != NULL) {
            wal->env->ops->close(wal->env, rec.files[i].file);
        }
    }
    free(rec.files);
    free(rec.buf);
    free(rec.offsets);
    free(rec.tail);
    return status;
}
