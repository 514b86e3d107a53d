/* LOCKSTEP SNAPSHOT LIST and READ: finished snapshots, byte by byte, to whoever pulls them. A file that is being read
 * is not pruned until nobody has asked for a while, nor while a READ of it is under way, however long its client takes
 * to make room for the reply; the reader verifies what it gets (consensus/snapshot.h, receiver). */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "cmd/lockstepd/export.h"
#include "consensus/env.h"
#include "consensus/snapshot.h"

#define READ_BYTES_MAX (1024u * 1024)
#define HOLD_MS 60000u

/* Outlives its session while a request is in flight. */
struct export_file {
    struct session *session; /* NULL: it has gone */
    struct env *env;
    struct env_disk_req req;
    struct env_file *file;
    struct snapshot_use use; /* until the file is closed */
    uint64_t index, term, offset;
    size_t len;
    uint64_t size;
    void *buf;
    bool mute;
    bool in_flight;
    char name[SNAPSHOT_NAME_BYTES];
};

/* --- Holding ------------------------------------------------------------------------------------------------------ */

static void release(struct export_hold *hold)
{
    hold->until_ms = 0;
    snapshot_use_end(&hold->use);
}

void export_holds_expire(struct sessions *owner)
{
    for (unsigned i = 0; i < EXPORT_HOLDS_MAX; i++) {
        if (owner->export_holds[i].until_ms != 0 && uv_now(owner->loop) >= owner->export_holds[i].until_ms) {
            release(&owner->export_holds[i]);
        }
    }
}

/* Keep it from being pruned for a while after this READ, which holds it, too. */
static void hold(struct sessions *owner, struct snapshot_dir *dir, uint64_t index, uint64_t term)
{
    struct export_hold *place = &owner->export_holds[0];

    for (unsigned i = 0; i < EXPORT_HOLDS_MAX; i++) {
        struct export_hold *h = &owner->export_holds[i];
        if (h->until_ms != 0 && h->index == index && h->term == term) {
            h->until_ms = uv_now(owner->loop) + HOLD_MS;
            return;
        }
        place = h->until_ms < place->until_ms ? h : place; /* a free one, or the one unused for longest */
    }
    release(place);
    if (snapshot_dir_hold(dir, &place->use, index, term)) {
        place->index = index;
        place->term = term;
        place->until_ms = uv_now(owner->loop) + HOLD_MS;
    }
}

/* --- READ --------------------------------------------------------------------------------------------------------- */

static void op_free(struct export_file *op)
{
    if (op->file != NULL) {
        op->env->ops->close(op->env, op->file);
    }
    snapshot_use_end(&op->use);
    free(op->buf);
    free(op);
}

void export_file_forget(struct session *session)
{
    struct export_file *op = session->export_file;

    session->export_file = NULL;
    if (op != NULL && op->in_flight) {
        op->session = NULL; /* its callback frees it */
    } else if (op != NULL) {
        op_free(op);
    }
}

static void op_finish(struct export_file *op, enum env_status status)
{
    struct session *s = op->session;
    static const char text[] = "ERR that part of the snapshot can't be read: try again, or ask another node";

    if (s != NULL) {
        struct resp_buffer *out = conn_output(s->conn);
        s->export_file = NULL;
        if (!op->mute && status == ENV_OK) {
            resp_write_bulk(out, op->buf, op->len);
        } else if (!op->mute) {
            resp_write_error(out, text, sizeof text - 1);
        }
        op_free(op);
        session_unpause(s, SESSION_PAUSE_EXPORT);
        return;
    }
    op_free(op);
}

static void read_done_cb(struct env_disk_req *req, enum env_status status)
{
    op_finish(req->data, status);
}

static void open_done_cb(struct env_disk_req *req, enum env_status status)
{
    struct export_file *op = req->data;

    if (status == ENV_OK) {
        op->file = req->file;
        op->size = req->len;
    }
    if (status != ENV_OK || op->session == NULL || op->offset >= op->size) {
        op_finish(op, status == ENV_OK ? ENV_NOT_FOUND : status);
        return;
    }
    op->len = op->size - op->offset < op->len ? (size_t)(op->size - op->offset) : op->len;
    op->req = (struct env_disk_req){.op = ENV_DISK_READ,
                                    .file = op->file,
                                    .offset = op->offset,
                                    .buf = op->buf,
                                    .len = (op->len + ENV_BLOCK - 1) / ENV_BLOCK * ENV_BLOCK,
                                    .data = op,
                                    .cb = read_done_cb};
    op->env->ops->submit(op->env, &op->req);
}

static void file_drained(struct session *s)
{
    struct export_file *op = s->export_file;

    op->in_flight = true;
    op->req = (struct env_disk_req){.op = ENV_DISK_BULK_OPEN, .name = op->name, .data = op, .cb = open_done_cb};
    op->env->ops->submit(op->env, &op->req);
}

static void read_run(struct call *call, struct snapshot_dir *dir)
{
    struct session *s = call->session;
    int64_t n[4];

    for (unsigned i = 0; i < 4; i++) {
        if (!argument_integer(call->argv[3 + i], &n[i]) || n[i] < 0) {
            call_error(call, "ERR LOCKSTEP SNAPSHOT READ index term offset bytes: these are numbers from 0");
            return;
        }
    }
    if (n[2] % ENV_BLOCK != 0 || n[3] == 0 || n[3] > READ_BYTES_MAX) {
        call_error(call, "ERR the offset must be a multiple of %u, and the number of bytes 1 to %u", ENV_BLOCK,
                   READ_BYTES_MAX);
        return;
    }
    struct export_file *op = calloc(1, sizeof *op);
    void *buf = op == NULL ? NULL : aligned_alloc(ENV_BLOCK, READ_BYTES_MAX);
    if (buf == NULL) {
        free(op);
        call_error(call, "ERR out of memory");
        return;
    }
    *op = (struct export_file){.session = s,
                               .env = node_env(s->owner->node),
                               .index = (uint64_t)n[0],
                               .term = (uint64_t)n[1],
                               .offset = (uint64_t)n[2],
                               .len = (size_t)n[3],
                               .buf = buf,
                               .mute = s->reply_mode != SESSION_REPLY_ON};
    if (!snapshot_dir_hold(dir, &op->use, op->index, op->term)) {
        op_free(op);
        call_error(call, "NOSNAPSHOT there is no snapshot of index %" PRId64 " and term %" PRId64 " here (any more)",
                   n[0], n[1]);
        return;
    }
    hold(s->owner, dir, op->index, op->term);
    snapshot_name_format(op->name, op->index, op->term, "");
    s->export_file = op;
    session_pause(s, SESSION_PAUSE_EXPORT);
    session_when_drained(s, file_drained);
}

/* --- LIST --------------------------------------------------------------------------------------------------------- */

static void list_run(struct call *call, const struct snapshot_dir *dir)
{
    unsigned n = 0;

    for (size_t i = 0; snapshot_dir_at(dir, i) != NULL; i++) {
        n += snapshot_dir_at(dir, i)->status == SNAPSHOT_OK;
    }
    resp_write_array(call->out, n);
    for (size_t i = 0; snapshot_dir_at(dir, i) != NULL; i++) {
        const struct snapshot_info *info = snapshot_dir_at(dir, i);
        if (info->status != SNAPSHOT_OK) {
            continue;
        }
        resp_write_array(call->out, 3);
        resp_write_integer(call->out, (int64_t)info->index);
        resp_write_integer(call->out, (int64_t)info->term);
        resp_write_integer(call->out, (int64_t)info->file_bytes);
    }
}

bool export_file_run(struct call *call)
{
    struct snapshot_dir *dir = replica_snapshots(node_replica(call->session->owner->node));
    const bool list = argument_is(call->argv[2], "list") && call->argc == 3;
    const bool read = argument_is(call->argv[2], "read") && call->argc == 7;

    if (!list && !read) {
        return false;
    }
    if (dir == NULL) {
        call_error(call, "ERR this node has no snapshots");
    } else if (list) {
        list_run(call, dir);
    } else {
        read_run(call, dir);
    }
    return true;
}
