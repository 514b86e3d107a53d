/* Reading entries back. One read covers consecutive bytes of one segment, so it may give fewer entries than asked for;
 * the caller asks again from where it ended. Every record is verified against the map in memory (generation, index,
 * term) and by both its checksums before it is given out.
 *
 * The log may be rewritten while a read is under way: wal_append lowers the `limit` of every read in flight, and
 * entries above it are dropped on completion. The bytes themselves stay put, since the log only ever appends. */
#include <stdlib.h>
#include <string.h>

#include "consensus/wal_internal.h"

/* Dead records may lie between live ones: the span read may exceed the data given by this much. */
#define SPAN_SLACK_BYTES (64u << 10)

struct wal_read_op {
    struct wal *wal;
    struct wal_read *read; /* NULL: the owner has gone; free on completion */
    struct wal_read_op *next;
    bool in_flight;
    bool on_disk; /* in flight as a disk request, not as a timer */
    uint64_t first;
    uint64_t limit; /* last index still held */
    unsigned n;
    size_t skip; /* bytes in buf before the first record */
    uint8_t *buf;
    size_t buf_cap;
    struct wal_place *places;
    struct wal_entry *entries;
    unsigned entries_cap;
    enum wal_status early; /* result that needs no disk, given by the timer */
    struct env_timer timer;
    struct env_disk_req req;
};

/* A larger buffer than this is not kept for the next read. */
#define BUF_KEEP_BYTES (1u << 20)

static void op_free(struct wal_read_op *op)
{
    free(op->buf);
    free(op->places);
    free(op->entries);
    free(op);
}

static void op_unlink(struct wal_read_op *op)
{
    for (struct wal_read_op **at = &op->wal->reads; *at != NULL; at = &(*at)->next) {
        if (*at == op) {
            *at = op->next;
            return;
        }
    }
    assert(false);
}

static bool record_matches(const struct wal *wal, const struct wal_place *place, uint64_t index, const uint8_t *at,
                           struct wal_record *record)
{
    return wal_record_decode(at, record) && record->salt == wal->salt && record->generation == place->generation &&
           record->index == index && record->term == place->term && record->len == place->len &&
           record->type == place->type && wal_record_body_ok(record, at + WAL_RECORD_BYTES);
}

/* Verify what was read; `*n` is how many leading entries are good and still held. */
static enum wal_status verify(struct wal_read_op *op, unsigned *n)
{
    const struct wal *wal = op->wal;
    *n = 0;
    for (unsigned i = 0; i < op->n && op->first + i <= op->limit; i++) {
        const struct wal_place *place = &op->places[i];
        const uint8_t *at = op->buf + op->skip + (place->offset - op->places[0].offset);
        struct wal_record record;
        if (!record_matches(wal, place, op->first + i, at, &record)) {
            return WAL_CORRUPT;
        }
        op->entries[i] = (struct wal_entry){
            .index = record.index,
            .term = record.term,
            .type = (enum wal_entry_type)record.type,
            .data = at + WAL_RECORD_BYTES,
            .len = record.len,
        };
        ++*n;
    }
    return WAL_OK;
}

/* Ends the flight of `op`; false if nobody waits for it any more. */
static bool op_land(struct wal_read_op *op)
{
    op->in_flight = false;
    if (op->read == NULL) {
        op_unlink(op);
        op_free(op);
        return false;
    }
    return true;
}

static void read_done_cb(struct env_disk_req *req, enum env_status status)
{
    struct wal_read_op *op = req->data;
    struct wal *wal = op->wal;
    wal->in_flight--;
    bool wanted = op_land(op);
    if (wal->closing) {
        assert(!wanted);
        wal_destroy_if_done(wal);
        return;
    }
    wal_segments_prepare(wal); /* a segment may have waited for this read to be dropped */
    if (!wanted) {
        return;
    }
    unsigned n = 0;
    enum wal_status result = wal_status_of(status);
    if (result == WAL_OK) {
        result = verify(op, &n);
    }
    op->read->cb(op->read, result, op->entries, result == WAL_OK ? n : 0);
}

static void read_early_cb(struct env_timer *timer)
{
    struct wal_read_op *op = timer->data;
    if (op_land(op)) {
        op->read->cb(op->read, op->early, NULL, 0);
    }
}

static struct wal_read_op *op_of(struct wal *wal, struct wal_read *read)
{
    struct wal_read_op *op = read->impl;
    if (op == NULL) {
        op = calloc(1, sizeof *op);
        if (op == NULL) {
            return NULL;
        }
        op->wal = wal;
        op->read = read;
        op->timer.data = op;
        op->timer.cb = read_early_cb;
        if (wal->env->ops->timer_init(wal->env, &op->timer) != ENV_OK) {
            free(op);
            return NULL;
        }
        op->next = wal->reads;
        wal->reads = op;
        read->impl = op;
    }
    return op;
}

static bool op_entries_reserve(struct wal_read_op *op, unsigned n)
{
    if (n <= op->entries_cap) {
        return true;
    }
    struct wal_place *places = realloc(op->places, n * sizeof *places);
    if (places == NULL) {
        return false;
    }
    op->places = places;
    struct wal_entry *entries = realloc(op->entries, n * sizeof *entries);
    if (entries == NULL) {
        return false;
    }
    op->entries = entries;
    op->entries_cap = n;
    return true;
}

/* Choose the entries: consecutive in one segment, within the bounds. False: no memory. */
static bool op_plan(struct wal_read_op *op, uint64_t first, uint64_t last, size_t bytes_max, unsigned entries_max)
{
    const struct wal *wal = op->wal;
    size_t bytes = 0;
    op->n = 0;
    for (uint64_t index = first; index <= last && op->n < entries_max; index++) {
        struct wal_place place;
        wal_index_get(&wal->index, index, &place);
        if (op->n > 0) {
            uint64_t span = place.offset + WAL_RECORD_BYTES + place.len - op->places[0].offset;
            if (place.generation != op->places[0].generation || bytes + place.len > bytes_max ||
                span > 2 * (uint64_t)bytes_max + SPAN_SLACK_BYTES) {
                break;
            }
        }
        if (op->n == op->entries_cap && !op_entries_reserve(op, op->n == 0 ? 64 : op->n * 2)) {
            return false;
        }
        op->places[op->n++] = place;
        bytes += place.len;
    }
    return true;
}

static bool op_buf_reserve(struct wal_read_op *op, size_t len)
{
    if (len <= op->buf_cap && (op->buf_cap <= BUF_KEEP_BYTES || len > BUF_KEEP_BYTES)) {
        return true;
    }
    uint8_t *buf = aligned_alloc(ENV_BLOCK, len);
    if (buf == NULL) {
        return false;
    }
    free(op->buf);
    op->buf = buf;
    op->buf_cap = len;
    return true;
}

static void op_launch(struct wal_read_op *op, uint64_t first, bool on_disk)
{
    op->in_flight = true;
    op->on_disk = on_disk;
    op->first = first;
    op->limit = UINT64_MAX;
}

static void launch_early(struct wal_read_op *op, uint64_t first, enum wal_status result)
{
    struct wal *wal = op->wal;
    op->early = result;
    op_launch(op, first, false);
    wal->env->ops->timer_set(wal->env, &op->timer, wal->env->ops->now_us(wal->env));
}

enum wal_status wal_read_start(struct wal *wal, struct wal_read *read, uint64_t first, uint64_t last, size_t bytes_max,
                               unsigned entries_max)
{
    assert(first >= wal->index.first);
    assert(entries_max > 0);
    struct wal_read_op *op = op_of(wal, read);
    if (op == NULL) {
        return WAL_NO_MEMORY;
    }
    if (op->in_flight) {
        return WAL_BUSY;
    }
    if (last > wal->durable) {
        last = wal->durable;
    }
    if (first > last) {
        launch_early(op, first, WAL_OK);
        return WAL_OK;
    }
    if (!op_plan(op, first, last, bytes_max, entries_max)) {
        return WAL_NO_MEMORY;
    }
    const struct wal_place *end = &op->places[op->n - 1];
    uint64_t from = op->places[0].offset / ENV_BLOCK * ENV_BLOCK;
    uint64_t to = (end->offset + wal_record_size(end->len) + ENV_BLOCK - 1) / ENV_BLOCK * ENV_BLOCK;
    if (!op_buf_reserve(op, (size_t)(to - from))) {
        return WAL_NO_MEMORY;
    }
    struct env_file *file;
    enum env_status status = wal_segment_file(wal, wal_segment_of(wal, op->places[0].generation), &file);
    if (status != ENV_OK) {
        launch_early(op, first, wal_status_of(status));
        return WAL_OK;
    }
    op->skip = (size_t)(op->places[0].offset - from);
    op->req = (struct env_disk_req){
        .op = ENV_DISK_READ,
        .file = file,
        .offset = from,
        .buf = op->buf,
        .len = (size_t)(to - from),
        .data = op,
        .cb = read_done_cb,
    };
    op_launch(op, first, true);
    wal->in_flight++;
    wal->env->ops->submit(wal->env, &op->req);
    return WAL_OK;
}

void wal_read_fini(struct wal *wal, struct wal_read *read)
{
    struct wal_read_op *op = read->impl;
    if (op == NULL) {
        return;
    }
    read->impl = NULL;
    wal->env->ops->timer_fini(wal->env, &op->timer);
    op->read = NULL;
    if (!op->in_flight || !op->on_disk) {
        op_unlink(op);
        op_free(op);
    }
}

void wal_reads_fini(struct wal *wal)
{
    struct wal_read_op *next;
    for (struct wal_read_op *op = wal->reads; op != NULL; op = next) {
        next = op->next;
        if (op->read != NULL) {
            wal_read_fini(wal, op->read);
        }
    }
}

void wal_reads_clip(struct wal *wal, uint64_t from)
{
    for (struct wal_read_op *op = wal->reads; op != NULL; op = op->next) {
        if (op->limit >= from) {
            op->limit = from - 1;
        }
    }
}

bool wal_reads_use(const struct wal *wal, uint32_t generation)
{
    for (const struct wal_read_op *op = wal->reads; op != NULL; op = op->next) {
        if (op->in_flight && op->on_disk && op->places[0].generation == generation) {
            return true;
        }
    }
    return false;
}

enum wal_status wal_read_sync(struct wal *wal, uint64_t index, void **data, size_t *len)
{
    struct wal_place place;
    assert(index >= wal->index.first);
    assert(index <= wal->durable);
    wal_index_get(&wal->index, index, &place);
    struct env_file *file;
    enum env_status status = wal_segment_file(wal, wal_segment_of(wal, place.generation), &file);
    if (status != ENV_OK) {
        return wal_status_of(status);
    }
    uint64_t from = place.offset / ENV_BLOCK * ENV_BLOCK;
    uint64_t to = (place.offset + wal_record_size(place.len) + ENV_BLOCK - 1) / ENV_BLOCK * ENV_BLOCK;
    uint8_t *buf = aligned_alloc(ENV_BLOCK, (size_t)(to - from));
    void *copy = malloc(place.len > 0 ? place.len : 1);
    enum wal_status result = WAL_NO_MEMORY;
    if (buf == NULL || copy == NULL) {
        goto err;
    }
    result = wal_status_of(wal->env->ops->read_sync(wal->env, file, from, buf, (size_t)(to - from)));
    if (result != WAL_OK) {
        goto err;
    }
    const uint8_t *at = buf + (place.offset - from);
    struct wal_record record;
    if (!record_matches(wal, &place, index, at, &record)) {
        result = WAL_CORRUPT;
        goto err;
    }
    memcpy(copy, at + WAL_RECORD_BYTES, place.len);
    free(buf);
    *data = copy;
    *len = place.len;
    return WAL_OK;
err:
    free(buf);
    free(copy);
    return result;
}
