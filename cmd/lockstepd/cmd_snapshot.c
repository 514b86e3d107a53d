/* LOCKSTEP SNAPSHOT: snapshots on demand. TAKE is answered when the snapshot is on stable storage of this node. */
#include <inttypes.h>
#include <stdlib.h>

#include "cmd/lockstepd/export.h"
#include "cmd/lockstepd/session.h"

/* A session that waits for its snapshot. */
struct snapshot_wait {
    struct replica_snapshot_request request; /* first */
    struct session *session;
    bool mute;
};

static void reply_failed(struct resp_buffer *out, enum replica_status status)
{
    struct call call = {.out = out};

    switch (status) {
    case REPLICA_NO_SPACE:
        call_error(&call, "NOSPACE the disk is full: no snapshot was taken");
        break;
    case REPLICA_BUSY:
        call_error(&call, "TRYAGAIN no snapshot was taken: this node is starting or stopping, or writes outran it");
        break;
    default:
        call_error(&call, "ERR no snapshot was taken: %s; the log of this node says more", replica_strerror(status));
        break;
    }
}

static void taken_cb(struct replica_snapshot_request *request, enum replica_status status,
                     const struct replica_snapshot_info *info)
{
    struct snapshot_wait *wait = request->data;
    struct session *s = wait->session;
    struct resp_buffer *out = wait->mute ? &s->owner->scratch : conn_output(s->conn);

    if (status == REPLICA_OK) {
        resp_write_array(out, 3);
        resp_write_integer(out, (int64_t)info->index);
        resp_write_integer(out, (int64_t)info->term);
        resp_write_integer(out, (int64_t)info->file_bytes);
    } else {
        reply_failed(out, status);
    }
    resp_buffer_clear(&s->owner->scratch);
    s->snapshot_wait = NULL;
    free(wait);
    session_unpause(s, SESSION_PAUSE_SNAPSHOT);
}

void snapshot_forget(struct session *session)
{
    struct snapshot_wait *wait = session->snapshot_wait;

    if (wait != NULL) {
        replica_snapshot_cancel(node_replica(session->owner->node), &wait->request);
        session->snapshot_wait = NULL;
        free(wait);
    }
}

/* Earlier commands of the connection are answered, so the reply goes straight out. */
static void snapshot_drained(struct session *s)
{
    struct snapshot_wait *wait = s->snapshot_wait;
    const enum replica_status status = replica_snapshot_take(node_replica(s->owner->node), &wait->request);

    if (status != REPLICA_OK) {
        taken_cb(&wait->request, status, NULL);
    }
}

static void run_take(struct call *call)
{
    struct session *s = call->session;
    struct snapshot_wait *wait = calloc(1, sizeof *wait);

    if (wait == NULL) {
        call_error(call, "TRYAGAIN out of memory");
        return;
    }
    wait->request.data = wait;
    wait->request.cb = taken_cb;
    wait->session = s;
    wait->mute = s->reply_mode != SESSION_REPLY_ON;
    s->snapshot_wait = wait;
    session_pause(s, SESSION_PAUSE_SNAPSHOT);
    session_when_drained(s, snapshot_drained);
}

void snapshot_run(struct call *call)
{
    if (argument_is(call->argv[2], "take") && call->argc == 3) {
        run_take(call);
    } else if (!export_file_run(call)) {
        call_error(call, "ERR usage: LOCKSTEP SNAPSHOT TAKE | LIST | READ index term offset bytes");
    }
}
