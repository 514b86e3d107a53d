/* A file is a header and records, each of which names the checksum of the one before it, so that none can be missing,
 * moved or exchanged unnoticed. The last record seals the file. A file without a seal was being written: behind its
 * last whole record there may be the rest of a torn write, which the next writer cuts off and fetches again. */
#include "cmd/lockstep/archive_file.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <xxhash.h>

#define VERSION 1u
#define TYPE_SEAL 255u
#define READ_BYTES ((size_t)1 << 20)

static const char tmp_suffix[] = ".tmp";
static const char magic[8] = {'L', 'S', 'T', 'P', 'A', 'R', 'C', 'H'};

struct header {
    char magic[8];
    uint32_t version;
    uint32_t reserved;
    uint8_t cluster[16];
    uint64_t first_index;
    uint64_t prev_term;
    uint64_t salt; /* random: records of another file are recognised */
    uint64_t check;
};
static_assert(sizeof(struct header) == 64, "file format");

struct record {
    uint64_t check; /* of the rest of this, seeded with the header's */
    uint64_t prev;  /* `check` of the record before it, 0 in the first */
    uint64_t body;
    uint64_t index;
    uint64_t term;
    uint32_t len;
    uint8_t type;
    uint8_t zeros[3];
};
static_assert(sizeof(struct record) == 48, "file format");

static uint64_t header_check(const struct header *h)
{
    return XXH3_64bits(h, offsetof(struct header, check));
}

static uint64_t record_check(const struct record *r, uint64_t seed)
{
    return XXH3_64bits_withSeed((const uint8_t *)r + sizeof r->check, sizeof *r - sizeof r->check, seed);
}

static size_t padded(size_t len)
{
    return (len + 7) & ~(size_t)7;
}

void archive_name_format(char name[ARCHIVE_NAME_BYTES], uint64_t first_index)
{
    snprintf(name, ARCHIVE_NAME_BYTES, "entries-%016llx", (unsigned long long)first_index);
}

bool archive_name_parse(const char *name, uint64_t *first_index)
{
    char again[ARCHIVE_NAME_BYTES];
    if (strncmp(name, "entries-", 8) != 0) {
        return false;
    }
    *first_index = strtoull(name + 8, NULL, 16);
    archive_name_format(again, *first_index);
    return strcmp(name, again) == 0;
}

/* --- Reading ------------------------------------------------------------------------------------------------------ */

struct archive_reader {
    FILE *file;
    char path[PATH_MAX];
    struct header header;
    struct archive_head head;
    struct record last; /* check 0: none was read */
    uint64_t offset;
    enum archive_end end;
    bool unreadable; /* ARCHIVE_DAMAGED because it can't be read now: that says nothing about what is in it */
    uint8_t *data;
    size_t cap;
    char error[ARCHIVE_ERROR_MAX];
};

static const char *header_problem(const struct header *h)
{
    if (memcmp(h->magic, magic, sizeof magic) != 0) {
        return "it is no archive of log entries";
    }
    if (h->check != header_check(h)) {
        return "its header is damaged: take this file from a copy, or archive anew into an empty directory";
    }
    if (h->version != VERSION || h->reserved != 0) {
        return "it was written by a newer version: use that one";
    }
    return h->first_index == 0 || h->first_index == UINT64_MAX ? "its header makes no sense" : NULL;
}

struct archive_reader *archive_reader_open(const char *path, char error[ARCHIVE_ERROR_MAX])
{
    struct archive_reader *r = calloc(1, sizeof *r);
    const char *problem = "out of memory";
    if (r != NULL) {
        snprintf(r->path, sizeof r->path, "%s", path);
        r->file = fopen(path, "re");
        problem = r->file == NULL ? strerror(errno) : "it is too short for a header";
    }
    if (r != NULL && r->file != NULL && fread(&r->header, sizeof r->header, 1, r->file) == 1) {
        problem = header_problem(&r->header);
    } else if (r != NULL && r->file != NULL && ferror(r->file)) {
        problem = strerror(errno);
    }
    if (problem != NULL) {
        snprintf(error, ARCHIVE_ERROR_MAX, "%.300s: %s", path, problem);
        archive_reader_close(r);
        return NULL;
    }
    memcpy(r->head.cluster, r->header.cluster, sizeof r->head.cluster);
    r->head.first_index = r->header.first_index;
    r->head.prev_term = r->header.prev_term;
    r->head.salt = r->header.salt;
    r->offset = sizeof r->header;
    return r;
}

const struct archive_head *archive_reader_head(const struct archive_reader *reader)
{
    return &reader->head;
}

static enum archive_end damaged(struct archive_reader *r, const char *what)
{
    snprintf(r->error, sizeof r->error,
             "%.300s is damaged at offset %llu, behind entry %llu: %s. Take the file from a copy; or run `lockstep "
             "archive` again, which fetches the rest anew if the cluster still has it",
             r->path, (unsigned long long)r->offset,
             (unsigned long long)(r->last.check != 0 ? r->last.index : r->head.first_index - 1), what);
    return r->end = ARCHIVE_DAMAGED;
}

static enum archive_end unreadable(struct archive_reader *r, const char *why)
{
    snprintf(r->error, sizeof r->error, "%.300s can't be read behind offset %llu: %s", r->path,
             (unsigned long long)r->offset, why);
    r->unreadable = true;
    return r->end = ARCHIVE_DAMAGED;
}

/* Behind the end there may be nothing, or the rest of a torn write; a whole record means that something before it was
 * damaged. */
static enum archive_end judge_end(struct archive_reader *r)
{
    uint8_t *buf = malloc(READ_BYTES);
    uint64_t at = r->offset, rest = 0;
    size_t kept = 0;
    bool found = false;
    if (buf == NULL || fseeko(r->file, (off_t)at, SEEK_SET) != 0) {
        const char *why = buf == NULL ? "out of memory" : strerror(errno);
        free(buf);
        return unreadable(r, why);
    }
    for (size_t n; !found && (n = fread(buf + kept, 1, READ_BYTES - kept, r->file)) > 0;) {
        const size_t len = kept + n;
        rest += n;
        size_t i = 0;
        for (; !found && i + sizeof(struct record) <= len; i += 8) {
            struct record record;
            memcpy(&record, buf + i, sizeof record);
            found = record.check != 0 && record.check == record_check(&record, r->header.check) && at + i > r->offset;
        }
        memmove(buf, buf + i, len - i);
        kept = len - i;
        at += i;
    }
    const int error = ferror(r->file) ? errno : 0;
    free(buf);
    if (error != 0) {
        return unreadable(r, strerror(error));
    }
    if (found) {
        return damaged(r, "what follows is not the next entry, but there are whole entries behind it");
    }
    return r->end = rest > 0 ? ARCHIVE_TORN : ARCHIVE_OPEN;
}

static bool body_read(struct archive_reader *r, const struct record *record)
{
    const size_t len = padded(record->len);
    if (len > r->cap) {
        uint8_t *data = realloc(r->data, len * 2);
        if (data == NULL) {
            (void)unreadable(r, "out of memory");
            return false;
        }
        r->data = data;
        r->cap = len * 2;
    }
    if (len > 0 && fread(r->data, 1, len, r->file) != len) {
        return false;
    }
    for (size_t i = record->len; i < len; i++) {
        if (r->data[i] != 0) {
            return false;
        }
    }
    return XXH3_64bits(r->data, record->len) == record->body;
}

static bool follows(const struct archive_reader *r, const struct record *record)
{
    const bool first = r->last.check == 0;
    const uint64_t index = first ? r->head.first_index : r->last.index + 1;
    const uint64_t term = first ? r->head.prev_term : r->last.term;
    if (record->type == TYPE_SEAL) {
        return record->index + 1 == index && record->len == 0;
    }
    return record->index == index && index != UINT64_MAX && record->term >= term && record->term > 0 &&
           record->type >= WAL_COMMAND && record->type <= WAL_CHANGE;
}

enum archive_end archive_reader_next(struct archive_reader *r, struct wal_entry *entry)
{
    struct record record;
    if (r->end != ARCHIVE_MORE) {
        return r->end;
    }
    if (fread(&record, sizeof record, 1, r->file) != 1 || record.check != record_check(&record, r->header.check) ||
        record.prev != r->last.check || record.len > ARCHIVE_ENTRY_BYTES_MAX || !body_read(r, &record)) {
        if (ferror(r->file)) {
            return unreadable(r, strerror(errno));
        }
        return r->unreadable ? r->end : judge_end(r);
    }
    if (!follows(r, &record)) {
        return damaged(r, "an entry does not follow the one before it, although both are intact; report this");
    }
    r->offset += sizeof record + padded(record.len);
    if (record.type == TYPE_SEAL) {
        return r->end = fgetc(r->file) == EOF ? ARCHIVE_SEALED : damaged(r, "there are bytes behind its end");
    }
    r->last = record;
    *entry = (struct wal_entry){.index = record.index,
                                .term = record.term,
                                .type = (enum wal_entry_type)record.type,
                                .data = r->data,
                                .len = record.len};
    return ARCHIVE_MORE;
}

const char *archive_reader_error(const struct archive_reader *reader)
{
    return reader->error;
}

uint64_t archive_reader_offset(const struct archive_reader *reader)
{
    return reader->offset;
}

void archive_reader_close(struct archive_reader *reader)
{
    if (reader == NULL) {
        return;
    }
    if (reader->file != NULL) {
        (void)fclose(reader->file);
    }
    free(reader->data);
    free(reader);
}

/* --- Writing ------------------------------------------------------------------------------------------------------ */

struct archive_writer {
    FILE *file;
    char path[PATH_MAX];
    uint64_t seed, prev;
    uint64_t index, term; /* of the last entry */
    uint64_t bytes;
};

static bool io_error(const struct archive_writer *w, const char *doing, char error[ARCHIVE_ERROR_MAX])
{
    snprintf(error, ARCHIVE_ERROR_MAX, "can't %s %.300s: %s", doing, w->path, strerror(errno));
    return false;
}

static bool dir_sync(const char *path)
{
    char dir[PATH_MAX];
    snprintf(dir, sizeof dir, "%s", path);
    char *slash = strrchr(dir, '/');
    if (slash != NULL) {
        *slash = '\0';
    }
    const int fd = open(slash != NULL ? dir : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    const bool ok = fd >= 0 && fsync(fd) == 0;
    if (fd >= 0) {
        (void)close(fd);
    }
    return ok;
}

static struct archive_writer *writer_new(const char *dir, uint64_t first_index)
{
    struct archive_writer *w = calloc(1, sizeof *w);
    char name[ARCHIVE_NAME_BYTES];
    archive_name_format(name, first_index);
    if (w != NULL && snprintf(w->path, sizeof w->path, "%s/%s", dir, name) >= (int)sizeof w->path) {
        free(w);
        return NULL;
    }
    return w;
}

/* The file gets its name once the header is on stable storage: one without would end the archive for ever. */
static bool file_begin(struct archive_writer *w, const struct header *h)
{
    char fresh[PATH_MAX + sizeof tmp_suffix];
    snprintf(fresh, sizeof fresh, "%s%s", w->path, tmp_suffix);
    if (access(w->path, F_OK) == 0) {
        errno = EEXIST;
        return false;
    }
    w->file = fopen(fresh, "we");
    if (w->file == NULL) {
        return false;
    }
    if (fwrite(h, sizeof *h, 1, w->file) == 1 && fflush(w->file) == 0 && fdatasync(fileno(w->file)) == 0 &&
        rename(fresh, w->path) == 0) {
        return dir_sync(w->path);
    }
    const int why = errno;
    (void)unlink(fresh);
    errno = why;
    return false;
}

struct archive_writer *archive_writer_create(const char *dir, const struct archive_head *head,
                                             char error[ARCHIVE_ERROR_MAX])
{
    struct archive_writer *w = writer_new(dir, head->first_index);
    struct header h = {
        .version = VERSION, .first_index = head->first_index, .prev_term = head->prev_term, .salt = head->salt};
    snprintf(error, ARCHIVE_ERROR_MAX, "out of memory, or the path is too long");
    if (w == NULL) {
        return NULL;
    }
    memcpy(h.magic, magic, sizeof h.magic);
    memcpy(h.cluster, head->cluster, sizeof h.cluster);
    if (h.salt == 0 && getentropy(&h.salt, sizeof h.salt) != 0) {
        h.salt = head->first_index;
    }
    h.check = header_check(&h);
    w->seed = h.check;
    w->index = head->first_index - 1;
    w->term = head->prev_term;
    w->bytes = sizeof h;
    if (!file_begin(w, &h)) {
        (void)io_error(w, "create", error);
        char ignored[ARCHIVE_ERROR_MAX];
        (void)archive_writer_close(w, false, ignored);
        return NULL;
    }
    return w;
}

struct archive_writer *archive_writer_resume(const char *dir, uint64_t first_index, uint64_t *next_index,
                                             uint64_t *last_term, char error[ARCHIVE_ERROR_MAX])
{
    struct archive_writer *w = writer_new(dir, first_index);
    struct wal_entry entry;
    snprintf(error, ARCHIVE_ERROR_MAX, "out of memory, or the path is too long");
    struct archive_reader *r = w != NULL ? archive_reader_open(w->path, error) : NULL;
    if (r == NULL) {
        free(w);
        return NULL;
    }
    while (archive_reader_next(r, &entry) == ARCHIVE_MORE) {
    }
    const bool any = r->last.check != 0;
    w->seed = r->header.check;
    w->prev = r->last.check;
    w->index = *next_index = any ? r->last.index : first_index - 1;
    (*next_index)++;
    w->term = *last_term = any ? r->last.term : r->head.prev_term;
    w->bytes = r->offset;
    const bool sealed = r->end == ARCHIVE_SEALED;
    const bool failed = r->unreadable; /* nothing is cut off because of that */
    snprintf(error, ARCHIVE_ERROR_MAX, "%s", failed ? r->error : "");
    archive_reader_close(r);
    if (sealed || failed) {
        free(w);
        return NULL;
    }
    w->file = fopen(w->path, "r+e");
    if (w->file == NULL || ftruncate(fileno(w->file), (off_t)w->bytes) != 0 || fsync(fileno(w->file)) != 0 ||
        fseeko(w->file, 0, SEEK_END) != 0) {
        (void)io_error(w, "go on with", error);
        (void)archive_writer_close(w, false, error);
        return NULL;
    }
    return w;
}

static bool record_write(struct archive_writer *w, struct record *record, const void *data)
{
    static const uint8_t zeros[8];
    record->prev = w->prev;
    record->body = XXH3_64bits(data, record->len);
    record->check = record_check(record, w->seed);
    const size_t padding = padded(record->len) - record->len;
    if (fwrite(record, sizeof *record, 1, w->file) != 1 ||
        (record->len > 0 && fwrite(data, record->len, 1, w->file) != 1) ||
        (padding > 0 && fwrite(zeros, padding, 1, w->file) != 1)) {
        return false;
    }
    w->prev = record->check;
    w->bytes += sizeof *record + record->len + padding;
    return true;
}

bool archive_writer_add(struct archive_writer *w, const struct wal_entry *entry, char error[ARCHIVE_ERROR_MAX])
{
    struct record record = {
        .index = entry->index, .term = entry->term, .len = (uint32_t)entry->len, .type = (uint8_t)entry->type};
    if (entry->index != w->index + 1 || entry->term < w->term || entry->len > ARCHIVE_ENTRY_BYTES_MAX) {
        snprintf(error, ARCHIVE_ERROR_MAX,
                 "entry %llu of term %llu does not follow entry %llu of term %llu: the node is of another cluster",
                 (unsigned long long)entry->index, (unsigned long long)entry->term, (unsigned long long)w->index,
                 (unsigned long long)w->term);
        return false;
    }
    if (!record_write(w, &record, entry->data)) {
        return io_error(w, "write to", error);
    }
    w->index = entry->index;
    w->term = entry->term;
    return true;
}

bool archive_writer_sync(struct archive_writer *w, char error[ARCHIVE_ERROR_MAX])
{
    return (fflush(w->file) == 0 && fdatasync(fileno(w->file)) == 0) || io_error(w, "sync", error);
}

uint64_t archive_writer_bytes(const struct archive_writer *writer)
{
    return writer->bytes;
}

bool archive_writer_close(struct archive_writer *w, bool seal, char error[ARCHIVE_ERROR_MAX])
{
    bool ok = w->file != NULL;
    if (ok && seal) {
        struct record record = {.index = w->index, .term = w->term, .type = TYPE_SEAL};
        ok = record_write(w, &record, NULL) || io_error(w, "write to", error);
        ok = ok && archive_writer_sync(w, error);
    }
    if (w->file != NULL && fclose(w->file) != 0) {
        ok = io_error(w, "close", error);
    }
    free(w);
    return ok;
}
