/* Receiving a snapshot: one at a time.
 *
 * The happy path: OFFER from the leader -> OPENING: the partial file, or a new one -> PULLING: asks open a window, and
 * the pieces in it come in order -> CHECKING: the whole file is synced, read back and renamed -> INSTALLING
 * (replica_install.c) -> DONE to the sender.
 *
 * What was received is kept until it is of no use any more: through lost links, through restarts (the partial file says
 * itself how far it goes), and through changes of leader. The file goes on coming from whoever sent it so far, leader
 * or not; a new leader that offers another one is told to keep its log from where this one ends (REFUSED_OTHER). Only
 * if the sender is silent or the new leader's log begins later, that other file is fetched instead.
 *
 * When something gets lost a new round begins at the next piece needed. Pieces say of which round they are, so one gap
 * makes one new round; and every piece is checked against the one before it, whoever sent it. */
#include <assert.h>
#include <string.h>

#include "consensus/replica_internal.h"

/* A sender that brought nothing for so many election timeouts may be replaced by another file's. */
#define SILENT_TIMEOUTS 4u
/* Rounds in a row that brought nothing are this much apart: 1, 2, 4 ... election timeouts. */
#define QUIET_SHIFT_MAX 3u
/* While the file is checked and installed the sender is told so. */
#define KEEPALIVE_US 1000000u

static uint64_t now_of(const struct replica *r)
{
    return r->env->ops->now_us(r->env);
}

static uint64_t timeout_us(const struct replica *r)
{
    return (uint64_t)r->config.election_timeout_ms * 1000;
}

static void arm(struct replica *r)
{
    const struct fetch *f = &r->fetch;
    uint64_t at = f->asked_us + KEEPALIVE_US;

    if (f->phase == FETCH_IDLE) {
        r->env->ops->timer_stop(r->env, &r->fetch.timer);
        return;
    }
    if (f->phase == FETCH_PULLING) {
        const uint64_t since = f->heard_us > f->asked_us ? f->heard_us : f->asked_us;
        at = since + (timeout_us(r) << (f->quiet < QUIET_SHIFT_MAX ? f->quiet : QUIET_SHIFT_MAX));
    }
    r->env->ops->timer_set(r->env, &r->fetch.timer, at);
}

/* --- Asking ------------------------------------------------------------------------------------------------------- */

static void ask(struct replica *r)
{
    struct fetch *f = &r->fetch;
    struct replica_peer *peer = replica_peer_by_id(r, f->peer);
    struct message m = {.type = MESSAGE_SNAPSHOT_ASK, .term = r->core.current_term};

    f->asked_us = now_of(r);
    if (peer != NULL) {
        m.snapshot_ask = (struct message_snapshot_ask){.file = f->file, .stamp = f->asked_us, .round = f->round};
        if (f->phase == FETCH_PULLING) {
            const struct snapshot_position next = snapshot_receiver_next(f->receiver);
            m.snapshot_ask.at = (struct message_position){next.number, next.offset, next.payload, next.check};
            m.snapshot_ask.window = (uint32_t)snapshot_receiver_room(f->receiver, fetch_window_bytes(&f->window));
        }
        (void)replica_send(r, peer, &m);
    }
    arm(r);
}

/* Begin again at the next piece needed. */
static void begin_round(struct replica *r)
{
    struct fetch *f = &r->fetch;

    f->round++;
    f->broken = true;
    f->dropped = false;
    fetch_window_init(&f->window, timeout_us(r));
    ask(r);
}

static void tell(struct replica *r, struct replica_peer *peer, const uint8_t file_id[16], enum message_refusal why,
                 uint64_t index)
{
    struct message m = {.type = why == 0 ? MESSAGE_SNAPSHOT_DONE : MESSAGE_SNAPSHOT_REFUSED,
                        .term = r->core.current_term};

    if (peer == NULL) {
        return;
    }
    if (why == 0) {
        memcpy(m.snapshot_done.file_id, file_id, sizeof m.snapshot_done.file_id);
    } else {
        m.snapshot_refused = (struct message_snapshot_refused){.index = index, .why = why};
        memcpy(m.snapshot_refused.file_id, file_id, sizeof m.snapshot_refused.file_id);
    }
    (void)replica_send(r, peer, &m);
}

/* --- The end ------------------------------------------------------------------------------------------------------ */

/* `keep`: what has been received may be of use yet. */
static void stop(struct replica *r, bool keep)
{
    struct fetch *f = &r->fetch;

    if (f->receiver != NULL) {
        snapshot_receiver_close(f->receiver, keep);
        f->receiver = NULL;
    }
    f->phase = FETCH_IDLE;
    arm(r);
}

void replica_fetch_installed(struct replica *r, enum message_refusal why, bool content_is_bad)
{
    struct fetch *f = &r->fetch;

    if (f->phase != FETCH_INSTALLING) {
        return;
    }
    if (content_is_bad) {
        memcpy(f->bad_id, f->file.id, sizeof f->bad_id);
    }
    tell(r, replica_peer_by_id(r, f->peer), f->file.id, why, 0);
    stop(r, false);
}

static void install(struct replica *r)
{
    struct fetch *f = &r->fetch;

    f->phase = FETCH_INSTALLING;
    ask(r); /* the sender is to wait */
    replica_install_begin(r, f->file.index, f->file.term);
}

static void done_cb(void *ctx, enum snapshot_status status, const char *error, const struct snapshot_end *end)
{
    struct replica *r = ctx;
    struct fetch *f = &r->fetch;

    if (r->dead) {
        return;
    }
    if (status != SNAPSHOT_OK) {
        replica_log(r, status == SNAPSHOT_CANCELED ? 2 : 0, "receiving a snapshot failed: %s", error);
        if (status == SNAPSHOT_NO_SPACE) {
            tell(r, replica_peer_by_id(r, f->peer), f->file.id, MESSAGE_REFUSED_NO_SPACE, 0);
        }
        stop(r, false);
        return;
    }
    if (!snapshot_dir_add(r->snapshots, f->file.index, f->file.term, end->file_bytes)) {
        replica_fail_stop(r, "out of memory", "give this node more memory");
        return;
    }
    struct snapshot_receiver *receiver = f->receiver;
    f->receiver = NULL;
    install(r);
    snapshot_receiver_close(receiver, false); /* not before: it keeps the file from being pruned */
}

/* --- Pulling ------------------------------------------------------------------------------------------------------ */

static void opened_cb(void *ctx, const struct snapshot_meta *meta, const struct snapshot_position *next)
{
    struct replica *r = ctx;
    struct fetch *f = &r->fetch;

    (void)meta;
    if (r->dead) {
        return;
    }
    f->phase = FETCH_PULLING;
    f->position = next->offset;
    f->heard_us = now_of(r);
    f->round++;
    f->dropped = false;
    f->broken = next->number > 0;
    if (f->broken) {
        replica_log(r, 2, "going on with the snapshot of index %llu at byte %llu of %llu",
                    (unsigned long long)f->file.index, (unsigned long long)next->offset,
                    (unsigned long long)f->file_bytes);
    }
    ask(r);
}

/* The disk was behind, not the link. */
static void ready_cb(void *ctx)
{
    struct replica *r = ctx;
    struct fetch *f = &r->fetch;

    if (r->dead || f->phase != FETCH_PULLING) {
        return;
    }
    f->heard_us = now_of(r);
    if (f->dropped) {
        begin_round(r);
        f->broken = false;
    } else {
        ask(r);
    }
}

static void took(struct replica *r, uint64_t connection, const struct message_snapshot_piece *piece)
{
    struct fetch *f = &r->fetch;
    const struct snapshot_position next = snapshot_receiver_next(f->receiver);

    f->heard_us = now_of(r);
    f->quiet = 0;
    f->bytes += piece->len;
    f->resumed += f->position > 0 && (f->broken || (f->connection != 0 && connection != f->connection));
    f->broken = false;
    f->connection = connection;
    if (next.offset == f->position) {
        f->phase = FETCH_CHECKING; /* it was the trailer */
        f->position = f->file_bytes;
    } else {
        f->position = next.offset;
        fetch_window_taken(&f->window, piece->len, piece->stamp, f->heard_us);
    }
    ask(r);
}

void replica_fetch_piece(struct replica *r, const struct replica_peer *peer, const struct message_snapshot_piece *piece)
{
    struct fetch *f = &r->fetch;
    const struct snapshot_position at = {piece->at.number, piece->at.offset, piece->at.payload, piece->at.check};

    if (f->phase != FETCH_PULLING || peer->id != f->peer ||
        memcmp(piece->file_id, f->file.id, sizeof f->file.id) != 0) {
        return;
    }
    const struct snapshot_position next = snapshot_receiver_next(f->receiver);
    if (at.number < next.number) {
        f->bytes_again += piece->len;
        return;
    }
    if (at.number > next.number) {
        f->bytes_again += piece->len;
        if (piece->round == f->round) {
            begin_round(r); /* one in between got lost */
        }
        return;
    }
    switch (snapshot_receiver_put(f->receiver, &at, piece->data, piece->len)) {
    case SNAPSHOT_OK:
        took(r, peer->connection, piece);
        break;
    case SNAPSHOT_BUSY:
        f->bytes_again += piece->len; /* more than was asked for: comes again, after ready_cb */
        f->dropped = true;
        f->heard_us = now_of(r);
        break;
    default:
        f->bytes_again += piece->len; /* not what belongs there: the timer asks again */
        break;
    }
}

void replica_fetch_refused(struct replica *r, const struct replica_peer *peer,
                           const struct message_snapshot_refused *refused)
{
    struct fetch *f = &r->fetch;

    if (f->phase != FETCH_PULLING || peer->id != f->peer || memcmp(refused->file_id, f->file.id, 16) != 0 ||
        (refused->why != MESSAGE_REFUSED_GONE && refused->why != MESSAGE_REFUSED_DAMAGED)) {
        return;
    }
    replica_log(r, 1, "node %llu does not send the snapshot of index %llu any further", (unsigned long long)peer->id,
                (unsigned long long)f->file.index);
    stop(r, false); /* the leader offers another one */
}

void replica_fetch_connected(struct replica *r, const struct replica_peer *peer)
{
    if (r->fetch.phase == FETCH_PULLING && peer->id == r->fetch.peer) {
        begin_round(r);
    }
}

static void timer_cb(struct env_timer *timer)
{
    struct replica *r = timer->data;
    struct fetch *f = &r->fetch;

    if (r->dead || f->phase == FETCH_IDLE) {
        return;
    }
    if (f->phase != FETCH_PULLING) {
        ask(r);
    } else if (snapshot_receiver_room(f->receiver, 1) == 0) {
        f->heard_us = now_of(r); /* this node's disk is what is waited for */
        ask(r);
    } else {
        f->quiet++;
        begin_round(r);
    }
}

/* --- Offers ------------------------------------------------------------------------------------------------------- */

/* An earlier attempt got as far as the finished file, or this node took the same snapshot itself. */
static bool is_here(const struct replica *r, const struct message_file *file)
{
    const struct snapshot_info *info;

    for (size_t i = 0; (info = snapshot_dir_at(r->snapshots, i)) != NULL; i++) {
        if (info->index == file->index && info->term == file->term) {
            return info->status == SNAPSHOT_OK;
        }
    }
    return false;
}

static void begin(struct replica *r, const struct replica_peer *peer, const struct message_snapshot_offer *offer,
                  const struct snapshot_meta *meta)
{
    struct fetch *f = &r->fetch;
    const struct snapshot_receiver_events events = {.opened = opened_cb, .ready = ready_cb, .done = done_cb, .ctx = r};

    assert(f->phase == FETCH_IDLE);
    f->file = (struct message_file){.index = meta->index, .term = meta->term};
    memcpy(f->file.id, meta->file_id, sizeof f->file.id);
    f->peer = peer->id;
    f->file_bytes = offer->file_bytes;
    f->position = 0;
    f->connection = 0;
    f->round++;
    f->quiet = 0;
    f->heard_us = f->asked_us = now_of(r);
    fetch_window_init(&f->window, timeout_us(r));
    if (is_here(r, &f->file)) {
        install(r);
        return;
    }
    const struct snapshot_receiver_config config = {
        .env = r->env, .dir = r->snapshots, .header = offer->header, .header_len = offer->header_len};
    if (snapshot_receiver_open(&config, &events, &f->receiver) != SNAPSHOT_OK) {
        return; /* out of memory, or a file of that name is being removed: the leader offers it again */
    }
    f->phase = FETCH_OPENING;
    replica_log(r, 2, "%s: fetching the snapshot of index %llu (%llu bytes) from node %llu",
                replica_rebuild_wants(r, meta->index) ? "content is made anew" : "the log is too far behind",
                (unsigned long long)meta->index, (unsigned long long)offer->file_bytes, (unsigned long long)peer->id);
    arm(r);
}

static bool is_silent(struct replica *r)
{
    const struct fetch *f = &r->fetch;
    const struct replica_peer *peer = replica_peer_by_id(r, f->peer);

    return peer == NULL || !peer->connected || now_of(r) >= f->heard_us + timeout_us(r) * SILENT_TIMEOUTS;
}

/* A transfer is under way. False: it was given up for the one that is offered now. */
static bool goes_on(struct replica *r, struct replica_peer *peer, const struct message_snapshot_offer *offer,
                    const struct snapshot_meta *meta)
{
    struct fetch *f = &r->fetch;
    const bool same = memcmp(meta->file_id, f->file.id, sizeof f->file.id) == 0;

    if (same) {
        if (f->peer != peer->id && f->phase == FETCH_PULLING && is_silent(r)) {
            f->peer = peer->id; /* the same file from another node */
            f->quiet = 0;
            begin_round(r);
        }
        return true;
    }
    const bool of_use = f->file.index >= offer->log_first || f->file.index == meta->index;
    if (f->phase == FETCH_PULLING && (!of_use || is_silent(r))) {
        stop(r, false);
        return false;
    }
    if (of_use) {
        tell(r, peer, meta->file_id, MESSAGE_REFUSED_OTHER, f->file.index);
    }
    return true; /* if it is of no use, it soon ends, and the leader offers its own again */
}

void replica_fetch_offered(struct replica *r, struct replica_peer *peer, const struct message *m)
{
    const struct message_snapshot_offer *offer = &m->snapshot_offer;
    struct snapshot_meta meta;

    if (r->config.fsm->snapshots == NULL || r->core.state != RAFT_FOLLOWER || r->core.current_term != m->term ||
        r->core.follower_state.current_leader.id != peer->id) {
        return;
    }
    if (snapshot_header_check(offer->header, offer->header_len, &meta) != SNAPSHOT_OK) {
        replica_log(r, 0, "the snapshot that node %llu offers is not understood: run the same version on all nodes",
                    (unsigned long long)peer->id);
        return;
    }
    enum message_refusal why = replica_judge_snapshot(r, &meta);
    if (why == 0 && memcmp(meta.file_id, r->fetch.bad_id, sizeof meta.file_id) == 0) {
        why = MESSAGE_REFUSED_CONTENT;
    }
    if (why == 0 && r->env->ops->free_bytes(r->env) < offer->file_bytes + r->config.space_reserve_bytes) {
        why = MESSAGE_REFUSED_NO_SPACE;
    }
    if (why != 0) {
        tell(r, peer, meta.file_id, why, 0);
    } else if (replica_holds(r, meta.index, meta.term) && !replica_rebuild_wants(r, meta.index)) {
        tell(r, peer, meta.file_id, 0, 0);
    } else if (r->fetch.phase == FETCH_IDLE || !goes_on(r, peer, offer, &meta)) {
        begin(r, peer, offer, &meta);
    }
}

void replica_fetch_settle(struct replica *r)
{
    struct fetch *f = &r->fetch;

    if (f->phase != FETCH_IDLE && f->phase != FETCH_INSTALLING && replica_holds(r, f->file.index, f->file.term) &&
        !replica_rebuild_wants(r, f->file.index)) {
        tell(r, replica_peer_by_id(r, f->peer), f->file.id, 0, 0);
        stop(r, false);
    }
}

bool replica_fetch_init(struct replica *r)
{
    r->fetch.timer = (struct env_timer){.data = r, .cb = timer_cb};
    return r->env->ops->timer_init(r->env, &r->fetch.timer) == ENV_OK;
}

void replica_fetch_fini(struct replica *r)
{
    if (r->fetch.receiver != NULL) {
        snapshot_receiver_close(r->fetch.receiver, true);
    }
    r->env->ops->timer_fini(r->env, &r->fetch.timer);
}
