/* LOCKSTEP TRANSFER [node-id]: hand leadership to another node. Answered when it has moved, or when that has failed.
 * Only the leader can do it; another node names it. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "cmd/lockstepd/members.h"
#include "cmd/lockstepd/session.h"

#define TRANSFER_POLL_MS 2u
/* The replica gives up after two election timeouts; then a new leader may have to be elected. */
#define TRANSFER_TIMEOUTS 5u

static void transfer_reply(struct sessions *owner, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* One transfer at a time, so one session waits for it. A text that begins with OK is a status, else an error. */
static void transfer_reply(struct sessions *owner, const char *format, ...)
{
    struct session *s = owner->transfer.session;
    char text[256];
    va_list arguments;

    va_start(arguments, format);
    (void)vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    owner->transfer.session = NULL;
    (void)uv_timer_stop(&owner->transfer_timer);
    if (!s->transfer_mute && strncmp(text, "OK", 2) == 0) {
        resp_write_status(conn_output(s->conn), text);
    } else if (!s->transfer_mute) {
        resp_write_error(conn_output(s->conn), text, strlen(text));
    }
    session_unpause(s, SESSION_PAUSE_TRANSFER);
}

static void transfer_timer_cb(uv_timer_t *timer)
{
    struct sessions *owner = timer->data;
    struct replica_info info;

    replica_info(node_replica(owner->node), &info);
    const bool still = info.leader == owner->config->id && info.term == owner->transfer.term;
    if (still && info.transfer_to == 0) {
        transfer_reply(
            owner, "TRYAGAIN the transfer was given up, this node leads on: node %" PRIu64 " did not take over in time",
            owner->transfer.to);
    } else if (!still && info.leader != 0 && info.leader == owner->transfer.to) {
        transfer_reply(owner, "OK node %" PRIu64 " leads term %" PRIu64, info.leader, info.term);
    } else if (!still && info.leader != 0) {
        transfer_reply(owner, "ERR node %" PRIu64 " was elected instead of node %" PRIu64, info.leader,
                       owner->transfer.to);
    } else if (uv_now(owner->loop) >= owner->transfer.deadline_ms) {
        transfer_reply(owner, "TRYAGAIN leadership was handed over, but no new leader is known yet");
    }
}

void transfer_forget(struct session *session)
{
    struct sessions *owner = session->owner;

    if (owner->transfer.session == session) {
        owner->transfer.session = NULL;
        (void)uv_timer_stop(&owner->transfer_timer);
    }
}

/* This node does not lead: say who does. */
static void refuse_follower(struct call *call)
{
    struct node *node = call->session->owner->node;
    struct member leader;

    if (member_find(node, replica_leader(node_replica(node)), &leader)) {
        call_error(call, "ERR this node does not lead: ask node %" PRIu64 " at %s:%u", leader.id, leader.host,
                   leader.port);
    } else {
        call_error(call, "CLUSTERDOWN no leader is known: there is nothing to transfer");
    }
}

static void refuse_target(struct call *call, uint64_t to)
{
    struct member member;

    if (to == 0) {
        call_error(call, "ERR no other voter is connected: there is nobody to transfer leadership to");
    } else if (!member_find(call->session->owner->node, to, &member)) {
        call_error(call, "ERR node %" PRIu64 " is not a member of this cluster", to);
    } else if (!member.voter) {
        call_error(call, "ERR node %" PRIu64 " is not a voter: it can't lead", to);
    } else {
        call_error(call, "ERR node %" PRIu64 " is not connected to this node", to);
    }
}

/* False: refused, and answered. */
static bool transfer_begin(struct call *call, uint64_t to)
{
    struct session *s = call->session;
    struct sessions *owner = s->owner;
    struct replica *replica = node_replica(owner->node);
    struct replica_info info;

    if (owner->transfer.session != NULL) {
        call_error(call, "TRYAGAIN a transfer is under way");
        return false;
    }
    switch (replica_transfer(replica, to)) {
    case REPLICA_OK:
        break;
    case REPLICA_CONFIG:
        refuse_target(call, to);
        return false;
    case REPLICA_BUSY:
        call_error(call, "TRYAGAIN a transfer is under way");
        return false;
    default:
        call_error(call, "TRYAGAIN this leader is not ready yet");
        return false;
    }
    replica_info(replica, &info);
    owner->transfer.session = s;
    owner->transfer.to = info.transfer_to != 0 ? info.transfer_to : to;
    owner->transfer.term = info.term;
    owner->transfer.deadline_ms =
        uv_now(owner->loop) + (uint64_t)owner->config->election_timeout_ms * TRANSFER_TIMEOUTS;
    (void)uv_timer_start(&owner->transfer_timer, transfer_timer_cb, TRANSFER_POLL_MS, TRANSFER_POLL_MS);
    return true;
}

/* Earlier commands of the connection are answered, so replies go straight out. */
static void transfer_drained(struct session *s)
{
    struct sessions *owner = s->owner;
    struct call call = {.session = s, .out = s->transfer_mute ? &owner->scratch : conn_output(s->conn)};
    const uint64_t to = s->transfer_asked;
    bool begun = false;

    if (replica_leader(node_replica(owner->node)) != owner->config->id) {
        refuse_follower(&call);
    } else if (to == owner->config->id) {
        call_error(&call, "ERR node %" PRIu64 " leads already", to);
    } else {
        begun = transfer_begin(&call, to);
    }
    resp_buffer_clear(&owner->scratch);
    if (!begun) {
        session_unpause(s, SESSION_PAUSE_TRANSFER);
    }
}

void transfer_run(struct call *call)
{
    struct session *s = call->session;
    int64_t to = 0;

    if (call->argc > 3) {
        reply_wrong_arity(call->out, "lockstep|transfer");
    } else if (call->argc == 3 && (!argument_integer(call->argv[2], &to) || to <= 0)) {
        call_error(call, "ERR the node id must be a number from 1");
    } else {
        s->transfer_asked = (uint64_t)to;
        s->transfer_mute = s->reply_mode != SESSION_REPLY_ON;
        session_pause(s, SESSION_PAUSE_TRANSFER);
        session_when_drained(s, transfer_drained);
    }
}
