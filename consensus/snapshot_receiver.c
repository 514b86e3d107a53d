/* Receiving a snapshot into `snapshot-...part`.
 *
 * The happy path: OPEN (the partial file, or a new one) -> SCAN (check what an earlier attempt left, block by block) ->
 * BODY (pieces from the sender, each verified before it is taken) -> SYNC -> VERIFY (read it all back) -> RENAME ->
 * done. The partial file needs no bookkeeping of its own: blocks are chained from the header on, so whatever it holds
 * up to the first block that is not right is what was received. That is also why nothing is synced before the end.
 *
 * Two buffers: one is filled while the other one is written. Each holds what is under way on a fast path
 * (FETCH_WINDOW_MAX) and what is waiting to be written; nothing more is asked for than fits. Disk writes are whole disk
 * blocks; the rest of a buffer is carried to the beginning of the next one and written again with it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "consensus/plant.h"
#include "consensus/snapshot_internal.h"

#define BUF_BYTES (3u << 20)
/* Begin to write when this much is there. */
#define WRITE_BYTES (256u << 10)
#define SCAN_BYTES (SNAPSHOT_BLOCK_BYTES_MAX + 2 * ENV_BLOCK)

enum phase {
    PHASE_OPEN,
    PHASE_SCAN,
    PHASE_HEADER,
    PHASE_BODY,
    PHASE_SYNC,
    PHASE_VERIFY,
    PHASE_RENAME,
    PHASE_CLEANUP,
    PHASE_DONE
};

struct snapshot_receiver {
    struct env *env;
    struct snapshot_receiver_events events;
    char name[SNAPSHOT_NAME_BYTES];
    char name_part[SNAPSHOT_NAME_BYTES];
    char error[SNAPSHOT_ERROR_BYTES];
    enum phase phase;
    enum snapshot_status status;
    bool closing;
    bool keep;
    bool exists; /* the partial file */
    bool starving;
    bool complete; /* the trailer was taken */
    unsigned in_flight;
    struct env_file *file;
    struct env_disk_req control_req;
    struct env_disk_req write_req;
    bool writing;
    uint64_t size; /* of the file found */

    uint8_t *header;
    size_t header_len;
    struct snapshot_meta meta;
    struct snapshot_position next;
    struct snapshot_trailer trailer;

    uint8_t *fill; /* holds the file's bytes from fill_offset on */
    size_t fill_len;
    uint64_t fill_offset;
    uint8_t *spare;
    struct snapshot_verify *verify;
    struct snapshot_use use; /* of the finished file's name */
};

static void tick(struct snapshot_receiver *receiver);

static void receiver_free(struct snapshot_receiver *receiver)
{
    free(receiver->header);
    free(receiver->fill);
    free(receiver->spare);
    snapshot_use_end(&receiver->use);
    free(receiver);
}

static void fail(struct snapshot_receiver *receiver, enum snapshot_status status, const char *doing)
{
    if (receiver->status == SNAPSHOT_OK) {
        receiver->status = status;
        snprintf(receiver->error, sizeof receiver->error, "can't %s %s: %s", doing, receiver->name_part,
                 snapshot_status_text(status));
    }
}

/* The end of a request; false if the receiver is on its way out. */
static bool landed(struct snapshot_receiver *receiver, enum env_status status, const char *doing)
{
    receiver->in_flight--;
    if (status != ENV_OK) {
        fail(receiver, snapshot_status_of(status), doing);
    }
    if (receiver->closing || receiver->status != SNAPSHOT_OK) {
        tick(receiver);
        return false;
    }
    return true;
}

static void submit(struct snapshot_receiver *receiver, struct env_disk_req *req)
{
    req->data = receiver;
    req->file = receiver->file;
    receiver->in_flight++;
    receiver->env->ops->submit(receiver->env, req);
}

static void control(struct snapshot_receiver *receiver, enum env_disk_op op,
                    void (*cb)(struct env_disk_req *req, enum env_status status))
{
    receiver->control_req = (struct env_disk_req){.op = op, .name = receiver->name_part, .cb = cb};
    receiver->control_req.name_to = receiver->name;
    submit(receiver, &receiver->control_req);
}

static void close_file(struct snapshot_receiver *receiver)
{
    if (receiver->file != NULL) {
        receiver->env->ops->close(receiver->env, receiver->file);
        receiver->file = NULL;
    }
}

/* --- Opening ------------------------------------------------------------------------------------------------------ */

static void body_begin(struct snapshot_receiver *receiver)
{
    receiver->phase = PHASE_BODY;
    receiver->events.opened(receiver->events.ctx, &receiver->meta, &receiver->next);
}

static void header_done_cb(struct env_disk_req *req, enum env_status status)
{
    struct snapshot_receiver *receiver = req->data;
    if (landed(receiver, status, "write")) {
        receiver->fill_offset = receiver->header_len;
        body_begin(receiver);
    }
}

static void create_done_cb(struct env_disk_req *req, enum env_status status)
{
    struct snapshot_receiver *receiver = req->data;
    if (status == ENV_OK) {
        receiver->file = req->file;
        receiver->exists = true;
    }
    if (!landed(receiver, status, "create")) {
        return;
    }
    receiver->phase = PHASE_HEADER;
    receiver->write_req = (struct env_disk_req){
        .op = ENV_DISK_WRITE, .buf = receiver->header, .len = receiver->header_len, .cb = header_done_cb};
    submit(receiver, &receiver->write_req);
}

static void stale_removed_cb(struct env_disk_req *req, enum env_status status)
{
    struct snapshot_receiver *receiver = req->data;
    receiver->exists = receiver->exists && status != ENV_OK;
    if (landed(receiver, status == ENV_NOT_FOUND ? ENV_OK : status, "replace")) {
        control(receiver, ENV_DISK_BULK_CREATE, create_done_cb);
    }
}

static void scan_done_cb(struct env_disk_req *req, enum env_status status);

static void scan(struct snapshot_receiver *receiver, uint64_t offset)
{
    receiver->control_req = (struct env_disk_req){.op = ENV_DISK_READ,
                                                  .offset = offset / ENV_BLOCK * ENV_BLOCK,
                                                  .buf = receiver->fill,
                                                  .len = SCAN_BYTES,
                                                  .cb = scan_done_cb};
    submit(receiver, &receiver->control_req);
}

/* What is good in the bytes just read; they begin at or before the next block. */
static void scan_blocks(struct snapshot_receiver *receiver)
{
    size_t at = (size_t)(receiver->next.offset - receiver->control_req.offset);
    while (at + SNAPSHOT_BLOCK_HEADER_BYTES <= SCAN_BYTES) {
        struct snapshot_block block;
        if (!snapshot_block_decode(receiver->fill + at, &receiver->next, &block)) {
            return;
        }
        size_t bytes = snapshot_block_bytes(block.stored_len);
        if (at + bytes > SCAN_BYTES || receiver->next.offset + bytes > receiver->size ||
            !snapshot_block_body_ok(receiver->fill + at, &block)) {
            return;
        }
        snapshot_position_advance(&receiver->next, &block);
        at += bytes;
    }
}

static void scan_done_cb(struct env_disk_req *req, enum env_status status)
{
    struct snapshot_receiver *receiver = req->data;
    if (!landed(receiver, status, "read")) {
        return;
    }
    struct snapshot_position before = receiver->next;
    scan_blocks(receiver);
    if (receiver->next.number > before.number) {
        scan(receiver, receiver->next.offset);
        return;
    }
    /* The buffer begins with the disk block in which the next block begins: what is before that is carried on. */
    receiver->fill_offset = receiver->control_req.offset;
    receiver->fill_len = (size_t)(receiver->next.offset - receiver->fill_offset);
    body_begin(receiver);
}

static void found_header_cb(struct env_disk_req *req, enum env_status status)
{
    struct snapshot_receiver *receiver = req->data;
    if (!landed(receiver, status, "read")) {
        return;
    }
    /* A header that ends in zeros reads well though its end never reached the disk. */
    if (receiver->size >= receiver->header_len && memcmp(receiver->fill, receiver->header, receiver->header_len) == 0) {
        scan(receiver, receiver->next.offset);
        return;
    }
    close_file(receiver); /* the beginning of another file */
    control(receiver, ENV_DISK_REMOVE, stale_removed_cb);
}

static void open_done_cb(struct env_disk_req *req, enum env_status status)
{
    struct snapshot_receiver *receiver = req->data;
    bool missing = status == ENV_NOT_FOUND;
    if (status == ENV_OK) {
        receiver->file = req->file;
        receiver->size = req->len;
        receiver->exists = true;
    }
    if (!landed(receiver, missing ? ENV_OK : status, "open")) {
        return;
    }
    if (missing) {
        control(receiver, ENV_DISK_BULK_CREATE, create_done_cb);
        return;
    }
    receiver->phase = PHASE_SCAN;
    receiver->control_req = (struct env_disk_req){
        .op = ENV_DISK_READ, .buf = receiver->fill, .len = receiver->header_len, .cb = found_header_cb};
    submit(receiver, &receiver->control_req);
}

/* --- The body ----------------------------------------------------------------------------------------------------- */

static void write_done_cb(struct env_disk_req *req, enum env_status status)
{
    struct snapshot_receiver *receiver = req->data;
    receiver->writing = false;
    if (landed(receiver, status, "write")) {
        tick(receiver);
    }
}

/* Hand the whole disk blocks of the buffer to the disk, and go on with the other one. */
static void start_write(struct snapshot_receiver *receiver)
{
    size_t whole = receiver->fill_len / ENV_BLOCK * ENV_BLOCK;
    if (receiver->writing || whole == 0 || (whole < WRITE_BYTES && !receiver->complete)) {
        return;
    }
    uint8_t *buf = receiver->fill;
    receiver->fill = receiver->spare;
    receiver->spare = buf;
    memcpy(receiver->fill, buf + whole, receiver->fill_len - whole);
    receiver->write_req = (struct env_disk_req){
        .op = ENV_DISK_WRITE, .offset = receiver->fill_offset, .buf = buf, .len = whole, .cb = write_done_cb};
    receiver->fill_offset += whole;
    receiver->fill_len -= whole;
    receiver->writing = true;
    submit(receiver, &receiver->write_req);
}

static enum snapshot_status take_trailer(struct snapshot_receiver *receiver, const uint8_t *data)
{
    struct snapshot_trailer *trailer = &receiver->trailer;
    if (!snapshot_trailer_decode(data, trailer) || !snapshot_trailer_fits(trailer, &receiver->meta, &receiver->next)) {
        return SNAPSHOT_DAMAGED;
    }
    size_t padding = (size_t)(snapshot_trailer_offset(receiver->next.offset) - receiver->next.offset);
    if (receiver->fill_len + padding + SNAPSHOT_TRAILER_BYTES > BUF_BYTES) {
        return SNAPSHOT_BUSY;
    }
    memset(receiver->fill + receiver->fill_len, 0, padding);
    memcpy(receiver->fill + receiver->fill_len + padding, data, SNAPSHOT_TRAILER_BYTES);
    receiver->fill_len += padding + SNAPSHOT_TRAILER_BYTES;
    receiver->complete = true;
    return SNAPSHOT_OK;
}

static enum snapshot_status take_block(struct snapshot_receiver *receiver, const uint8_t *data, size_t len)
{
    struct snapshot_block block;
    if (len < SNAPSHOT_BLOCK_HEADER_BYTES || !snapshot_block_decode(data, &receiver->next, &block) ||
        snapshot_block_bytes(block.stored_len) != len || !snapshot_block_body_ok(data, &block)) {
        return SNAPSHOT_DAMAGED;
    }
    if (receiver->fill_len + len > BUF_BYTES) {
        return SNAPSHOT_BUSY;
    }
    memcpy(receiver->fill + receiver->fill_len, data, len);
    receiver->fill_len += len;
    snapshot_position_advance(&receiver->next, &block);
    return SNAPSHOT_OK;
}

enum snapshot_status snapshot_receiver_put(struct snapshot_receiver *receiver, const struct snapshot_position *at,
                                           const void *data, size_t len)
{
    static const char trailer_magic[4] = {'L', 'S', 'T', 'P'};
    if (receiver->phase != PHASE_BODY || receiver->complete || receiver->status != SNAPSHOT_OK ||
        memcmp(at, &receiver->next, sizeof *at) != 0) {
        return SNAPSHOT_NOT_NEXT;
    }
    bool is_trailer = len == SNAPSHOT_TRAILER_BYTES && memcmp(data, trailer_magic, sizeof trailer_magic) == 0;
    enum snapshot_status status = is_trailer ? take_trailer(receiver, data) : take_block(receiver, data, len);
    if (status == SNAPSHOT_BUSY) {
        receiver->starving = true;
    } else if (status == SNAPSHOT_OK) {
        start_write(receiver);
    }
    return status;
}

size_t snapshot_receiver_room(struct snapshot_receiver *receiver, size_t wanted)
{
    const size_t left = BUF_BYTES - receiver->fill_len;
    const size_t room = left > SNAPSHOT_PIECE_BYTES_MAX ? left - SNAPSHOT_PIECE_BYTES_MAX : 0;
    if (room >= wanted) {
        return wanted;
    }
    receiver->starving = true;
    return room;
}

struct snapshot_position snapshot_receiver_next(const struct snapshot_receiver *receiver)
{
    return receiver->next;
}

/* --- The end ------------------------------------------------------------------------------------------------------ */

static void rename_done_cb(struct env_disk_req *req, enum env_status status)
{
    struct snapshot_receiver *receiver = req->data;
    if (status == ENV_OK) {
        receiver->exists = false;
        receiver->use.writes = false;                         /* a finished one from here on, and held until close */
        if (receiver->closing && receiver->use.dir != NULL) { /* so that it is removed some day */
            (void)snapshot_dir_add(receiver->use.dir, receiver->meta.index, receiver->meta.term,
                                   receiver->trailer.end.file_bytes);
        }
    }
    receiver->phase = PHASE_CLEANUP;
    if (landed(receiver, status, "rename")) {
        tick(receiver);
    }
}

static void verify_close(struct snapshot_receiver *receiver)
{
    struct snapshot_verify *verify = receiver->verify;
    receiver->verify = NULL;
    snapshot_verify_close(verify);
}

static void verified_cb(void *ctx, enum snapshot_status status, const char *error, const struct snapshot_meta *meta,
                        const struct snapshot_end *end)
{
    struct snapshot_receiver *receiver = ctx;
    (void)meta;
    (void)end;
    if (status != SNAPSHOT_OK && receiver->status == SNAPSHOT_OK) {
        receiver->status = status;
        snprintf(receiver->error, sizeof receiver->error, "read back after it was received: %.*s",
                 (int)sizeof receiver->error - 40, error);
    }
    verify_close(receiver);
}

/* Nobody has the partial file open any more. */
static void verify_closed_cb(void *ctx)
{
    struct snapshot_receiver *receiver = ctx;
    receiver->in_flight--;
    if (receiver->closing || receiver->status != SNAPSHOT_OK) {
        tick(receiver);
        return;
    }
    receiver->phase = PHASE_RENAME;
    control(receiver, ENV_DISK_RENAME, rename_done_cb);
}

static void begin_verify(struct snapshot_receiver *receiver)
{
    const struct snapshot_verify_events events = {.done = verified_cb, .closed = verify_closed_cb, .ctx = receiver};
    receiver->phase = PHASE_VERIFY;
    enum snapshot_status result = snapshot_verify_open(receiver->env, receiver->name_part, &events, &receiver->verify);
    if (result != SNAPSHOT_OK) {
        fail(receiver, result, "verify");
        tick(receiver);
        return;
    }
    receiver->in_flight++;
}

static void sync_done_cb(struct env_disk_req *req, enum env_status status)
{
    struct snapshot_receiver *receiver = req->data;
    close_file(receiver);
    if (landed(receiver, status, "sync")) {
        begin_verify(receiver);
    }
}

static void remove_done_cb(struct env_disk_req *req, enum env_status status)
{
    struct snapshot_receiver *receiver = req->data;
    receiver->in_flight--;
    if (status != ENV_OK && status != ENV_CANCELED) {
        char text[120];
        snprintf(text, sizeof text, "snapshot: can't remove %s", receiver->name_part);
        receiver->env->ops->log(receiver->env, 1, text);
    }
    tick(receiver);
}

static void cleanup(struct snapshot_receiver *receiver)
{
    if (receiver->in_flight > 0) {
        return;
    }
    close_file(receiver);
    /* An error leaves nothing behind; what a closing env or owner interrupts can be continued. */
    bool keep = receiver->status == SNAPSHOT_CANCELED || (receiver->closing && receiver->keep);
    if (receiver->exists && !keep) {
        receiver->exists = false;
        control(receiver, ENV_DISK_REMOVE, remove_done_cb);
        return;
    }
    receiver->phase = PHASE_DONE;
    if (receiver->closing) {
        receiver_free(receiver);
        return;
    }
    bool ok = receiver->status == SNAPSHOT_OK;
    receiver->events.done(receiver->events.ctx, receiver->status, ok ? NULL : receiver->error,
                          ok ? &receiver->trailer.end : NULL);
}

static void tick(struct snapshot_receiver *receiver)
{
    if (receiver->closing || receiver->status != SNAPSHOT_OK) {
        receiver->phase = PHASE_CLEANUP;
    }
    if (receiver->phase == PHASE_CLEANUP) {
        cleanup(receiver);
        return;
    }
    if (receiver->phase != PHASE_BODY) {
        return;
    }
    start_write(receiver);
    if (receiver->complete && !receiver->writing) {
        assert(receiver->fill_len == 0);
        if (PLANT(PLANT_INSTALL_UNSYNCED)) {
            close_file(receiver);
            begin_verify(receiver);
            return;
        }
        receiver->phase = PHASE_SYNC;
        control(receiver, ENV_DISK_SYNC, sync_done_cb);
        return;
    }
    if (receiver->starving && receiver->fill_len + SNAPSHOT_PIECE_BYTES_MAX < BUF_BYTES) {
        receiver->starving = false;
        receiver->events.ready(receiver->events.ctx); /* may close: nothing after this */
    }
}

/* --- Interface ---------------------------------------------------------------------------------------------------- */

enum snapshot_status snapshot_receiver_open(const struct snapshot_receiver_config *config,
                                            const struct snapshot_receiver_events *events,
                                            struct snapshot_receiver **out)
{
    const size_t header_len = config->header_len;
    struct snapshot_meta meta;
    enum snapshot_status status = snapshot_header_check(config->header, header_len, &meta);
    if (status != SNAPSHOT_OK) {
        return status;
    }
    struct snapshot_receiver *receiver = calloc(1, sizeof *receiver);
    if (receiver == NULL) {
        return SNAPSHOT_NO_MEMORY;
    }
    receiver->header = snapshot_alloc(header_len);
    receiver->fill = snapshot_alloc(BUF_BYTES);
    receiver->spare = snapshot_alloc(BUF_BYTES);
    if (receiver->header == NULL || receiver->fill == NULL || receiver->spare == NULL) {
        receiver_free(receiver);
        return SNAPSHOT_NO_MEMORY;
    }
    if (config->dir != NULL && !snapshot_dir_claim(config->dir, &receiver->use, meta.index, meta.term)) {
        receiver_free(receiver);
        return SNAPSHOT_BUSY;
    }
    receiver->env = config->env;
    receiver->events = *events;
    memcpy(receiver->header, config->header, header_len);
    receiver->header_len = header_len;
    uint64_t check;
    status = snapshot_header_decode(receiver->header, header_len, &receiver->meta, &check);
    assert(status == SNAPSHOT_OK);
    receiver->next = (struct snapshot_position){.offset = header_len, .check = check};
    snapshot_name_format(receiver->name, meta.index, meta.term, "");
    snapshot_name_format(receiver->name_part, meta.index, meta.term, ".part");
    control(receiver, ENV_DISK_BULK_OPEN, open_done_cb);
    *out = receiver;
    return SNAPSHOT_OK;
}

void snapshot_receiver_close(struct snapshot_receiver *receiver, bool keep)
{
    if (receiver == NULL) {
        return;
    }
    assert(!receiver->closing);
    receiver->closing = true;
    receiver->keep = keep;
    if (receiver->verify != NULL) {
        verify_close(receiver); /* verify_closed_cb goes on */
    } else if (receiver->phase == PHASE_DONE) {
        receiver_free(receiver);
    } else if (receiver->in_flight == 0) {
        tick(receiver);
    }
}
