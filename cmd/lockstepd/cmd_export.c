/* LOCKSTEP DIGEST and LOG: what operators' tools take from a node. Each is answered behind the earlier
 * commands of its connection, which is read no further until then. docs/OPERATIONS.md, sections Backup and Comparing
 * replicas. */
#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/lockstepd/export.h"
#include "consensus/log_piece.h"
#include "consensus/replica_export.h"

#define POLL_MS 1u
#define DIGEST_WAIT_MS_DEFAULT 1000
#define DIGEST_WAIT_MS_MAX 60000
#define LOG_BYTES_MAX (1024 * 1024)
/* A log that is rewritten while it is read is read again that often. */
#define LOG_ATTEMPTS 3u

struct export_wait {
    struct session *session;
    struct export_wait *next; /* sessions.exporting */
    void (*start)(struct export_wait *wait);
    bool mute;
    uint64_t index;
    /* DIGEST */
    bool watching;
    uint64_t wait_ms, deadline_ms;
    struct replica_digest_watch watch;
    /* LOG READ */
    size_t bytes;
    unsigned attempts;
    struct replica_log_read log;
};

/* --- Waiting ------------------------------------------------------------------------------------------------------ */

static struct replica *replica_of(const struct export_wait *wait)
{
    return node_replica(wait->session->owner->node);
}

void export_forget(struct session *session)
{
    struct export_wait *wait = session->export_wait;
    struct export_wait **at = &session->owner->exporting;

    if (wait == NULL) {
        return;
    }
    while (*at != wait) {
        at = &(*at)->next;
    }
    *at = wait->next;
    if (wait->watching) {
        replica_digest_unwatch(replica_of(wait), &wait->watch);
    }
    replica_log_read_cancel(&wait->log);
    session->export_wait = NULL;
    free(wait);
}

/* The answer is written, or none is wanted: go on with the session. */
static void finish(struct export_wait *wait)
{
    struct session *s = wait->session;

    export_forget(s);
    session_unpause(s, SESSION_PAUSE_EXPORT);
}

static void finish_error(struct export_wait *wait, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void finish_error(struct export_wait *wait, const char *format, ...)
{
    char text[256];
    va_list args;

    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (!wait->mute) {
        resp_write_error(conn_output(wait->session->conn), text, strlen(text));
    }
    finish(wait);
}

static void drained_cb(struct session *s)
{
    s->export_wait->start(s->export_wait);
}

static struct export_wait *wait_new(struct call *call, void (*start)(struct export_wait *wait))
{
    struct session *s = call->session;
    struct export_wait *wait = calloc(1, sizeof *wait);

    assert(s->export_wait == NULL);
    if (wait == NULL) {
        call_error(call, "ERR out of memory");
        return NULL;
    }
    wait->session = s;
    wait->start = start;
    wait->mute = s->reply_mode != SESSION_REPLY_ON;
    wait->next = s->owner->exporting;
    s->owner->exporting = wait;
    s->export_wait = wait;
    return wait;
}

static void wait_begin(struct export_wait *wait)
{
    struct session *s = wait->session;

    session_pause(s, SESSION_PAUSE_EXPORT);
    session_when_drained(s, drained_cb);
}

/* --- LOCKSTEP DIGEST ---------------------------------------------------------------------------------------------- */

static void digest_reply(struct export_wait *wait)
{
    char text[17];

    if (!wait->mute) {
        struct resp_buffer *out = conn_output(wait->session->conn);
        (void)snprintf(text, sizeof text, "%016" PRIx64, wait->watch.digest);
        resp_write_array(out, 2);
        resp_write_integer(out, (int64_t)wait->index);
        resp_write_bulk(out, text, strlen(text));
    }
    finish(wait);
}

static void timer_cb(uv_timer_t *timer)
{
    struct sessions *owner = timer->data;
    const uint64_t now_ms = uv_now(owner->loop);
    bool any = false;

    for (struct export_wait *w = owner->exporting, *next; w != NULL; w = next) {
        next = w->next;
        if (!w->watching) {
            continue;
        }
        if (w->watch.done) {
            digest_reply(w);
        } else if (now_ms >= w->deadline_ms) {
            finish_error(w,
                         "TRYAGAIN entry %" PRIu64 " was not applied within %" PRIu64 " ms: this node is at %" PRIu64,
                         w->index, w->wait_ms, replica_applied(replica_of(w)));
        } else {
            any = true;
        }
    }
    if (!any) {
        (void)uv_timer_stop(timer);
    }
}

static void timer_start(struct sessions *owner)
{
    if (!uv_is_active((uv_handle_t *)&owner->export_timer)) {
        (void)uv_timer_start(&owner->export_timer, timer_cb, POLL_MS, POLL_MS);
    }
}

static void digest_start(struct export_wait *wait)
{
    struct sessions *owner = wait->session->owner;

    if (wait->index == 0) {
        wait->index = replica_applied(replica_of(wait));
    }
    if (!replica_digest_watch(replica_of(wait), &wait->watch, wait->index)) {
        finish_error(
            wait, "PASSED entry %" PRIu64 " was applied before, and its digest is not kept: this node is at %" PRIu64,
            wait->index, replica_applied(replica_of(wait)));
        return;
    }
    if (wait->watch.done) {
        digest_reply(wait);
        return;
    }
    wait->watching = true;
    wait->deadline_ms = uv_now(owner->loop) + wait->wait_ms;
    timer_start(owner);
}

void export_digest_run(struct call *call)
{
    int64_t index = 0, wait_ms = DIGEST_WAIT_MS_DEFAULT;

    if (call->argc > 4) {
        reply_wrong_arity(call->out, "lockstep|digest");
    } else if (call->argc >= 3 && (!argument_integer(call->argv[2], &index) || index < 0)) {
        call_error(call, "ERR the index must be a number from 0 (0: the newest entry applied)");
    } else if (call->argc == 4 &&
               (!argument_integer(call->argv[3], &wait_ms) || wait_ms < 0 || wait_ms > DIGEST_WAIT_MS_MAX)) {
        call_error(call, "ERR the time to wait must be 0 to %d ms", DIGEST_WAIT_MS_MAX);
    } else {
        struct export_wait *wait = wait_new(call, digest_start);
        if (wait != NULL) {
            wait->index = (uint64_t)index;
            wait->wait_ms = (uint64_t)wait_ms;
            wait_begin(wait);
        }
    }
}

/* --- LOCKSTEP LOG READ -------------------------------------------------------------------------------------------- */

static void log_reply(struct export_wait *wait, const struct wal_entry *entries, unsigned n)
{
    uint64_t first, last;
    const size_t bytes = log_piece_bytes(entries, n);
    void *piece = wait->mute ? NULL : malloc(bytes);

    if (piece == NULL && !wait->mute) {
        finish_error(wait, "ERR out of memory");
        return;
    }
    if (!wait->mute) {
        replica_log_bounds(replica_of(wait), &first, &last);
        log_piece_encode(piece, entries, n, last);
        resp_write_bulk(conn_output(wait->session->conn), piece, bytes);
        free(piece);
    }
    finish(wait);
}

static void log_start(struct export_wait *wait);

static void log_read_cb(struct replica_log_read *read, enum replica_status status, const struct wal_entry *entries,
                        unsigned n)
{
    struct export_wait *wait = read->data;

    if (status == REPLICA_BUSY && ++wait->attempts < LOG_ATTEMPTS) {
        log_start(wait);
    } else if (status != REPLICA_OK) {
        finish_error(wait, "TRYAGAIN entry %" PRIu64 " can't be read now: try again, or ask another node", wait->index);
    } else {
        log_reply(wait, entries, n);
    }
}

static void log_start(struct export_wait *wait)
{
    uint64_t first, last;

    replica_log_bounds(replica_of(wait), &first, &last);
    if (wait->index < first) {
        finish_error(wait,
                     "LOGGONE this node's log begins with entry %" PRIu64
                     ": what is before it is only in snapshots now; take a backup and go on behind that",
                     first);
    } else if (wait->index > last) {
        log_reply(wait, NULL, 0);
    } else {
        wait->log.data = wait;
        wait->log.cb = log_read_cb;
        if (replica_log_read_start(replica_of(wait), &wait->log, wait->index, wait->bytes) != REPLICA_OK) {
            finish_error(wait, "TRYAGAIN out of memory");
        }
    }
}

void export_log_run(struct call *call)
{
    int64_t index, bytes;

    if (!argument_is(call->argv[2], "read") || call->argc != 5) {
        call_error(call, "ERR LOCKSTEP LOG READ index bytes");
    } else if (!argument_integer(call->argv[3], &index) || index <= 0) {
        call_error(call, "ERR the index must be a number from 1");
    } else if (!argument_integer(call->argv[4], &bytes) || bytes <= 0 || bytes > LOG_BYTES_MAX) {
        call_error(call, "ERR the number of bytes must be 1 to %d", LOG_BYTES_MAX);
    } else {
        struct export_wait *wait = wait_new(call, log_start);
        if (wait != NULL) {
            wait->index = (uint64_t)index;
            wait->bytes = (size_t)bytes;
            wait_begin(wait);
        }
    }
}
