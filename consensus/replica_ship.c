/* Sending snapshots.
 *
 * The happy path, per peer: the core has no entries for it (replica_ship_offer) -> OPENING the newest snapshot, which
 * the source keeps from being pruned -> OPEN: its header is offered, and whatever the peer asks for is sent ->
 * CATCHING_UP: the peer has installed it, and the log behind it is kept until the peer has that too.
 *
 * The peer pulls: its asks carry all there is to know, so a transfer survives lost links and leaders; a node that gets
 * an ask for a file it was never told of looks whether it has it. The window that an ask opens bounds what is under way
 * beside heartbeats. A peer that asks no more for a while is forgotten, and with it the hold on snapshot and log.
 * Memory: one piece and a header per peer, and the window in the link's queue. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "consensus/replica_internal.h"

static_assert(MESSAGE_SNAPSHOT_HEADER_MAX == SNAPSHOT_HEADER_BYTES_MAX, "a header fits a frame");
static_assert(MESSAGE_SNAPSHOT_PIECE_MAX == SNAPSHOT_PIECE_BYTES_MAX, "a piece fits a frame");

/* A peer that says nothing for so many election timeouts, and for at least that long, is given up. */
#define PATIENCE_TIMEOUTS 30u
#define PATIENCE_MIN_US 10000000u
/* A peer that refused is offered a snapshot again after that long. */
#define REFUSED_US 3000000u
/* A peer whose log is this close to the end needs no hold any more. */
#define CAUGHT_UP_ENTRIES 1024u
/* A peer that fetches a snapshot elsewhere is asked after so many election timeouts whether it still does. */
#define ELSEWHERE_TIMEOUTS 4u

enum ship_phase {
    SHIP_OPENING,
    SHIP_OPEN,
    SHIP_ELSEWHERE,   /* no file: it fetches one from another node, and will need the log behind that */
    SHIP_CATCHING_UP, /* no file: it has installed one, and needs the log behind it */
    SHIP_REFUSED      /* it does not want it: left alone for a while */
};

struct ship {
    struct ship *next;
    struct replica *replica;
    uint64_t peer;
    enum ship_phase phase;
    struct message_file file;
    struct snapshot_source *source;
    const void *header; /* of the source */
    uint32_t header_len;
    uint64_t file_bytes;
    bool asked;                      /* `ask` and `connection` are valid */
    struct message_snapshot_ask ask; /* the newest */
    uint64_t connection;
    struct snapshot_position at; /* of the piece to be sent next */
    uint64_t limit;              /* pieces that begin before this offset may be sent */
    bool reading, ended;
    uint64_t heard_us;   /* it said something, or made progress */
    uint64_t offered_us; /* 0: not yet */
    uint64_t retry_us;   /* the link was full */
    uint64_t match;      /* CATCHING_UP: it has the log up to here */
    uint64_t elsewhere;  /* index of the snapshot that it fetches from another node, 0: none */
};

static uint64_t now_of(const struct replica *r)
{
    return r->env->ops->now_us(r->env);
}

static uint64_t timeout_us(const struct replica *r)
{
    return (uint64_t)r->config.election_timeout_ms * 1000;
}

static uint64_t patience_us(const struct replica *r)
{
    const uint64_t us = timeout_us(r) * PATIENCE_TIMEOUTS;

    return us > PATIENCE_MIN_US ? us : PATIENCE_MIN_US;
}

/* When to stop waiting for it. */
static uint64_t ends_us(const struct replica *r, const struct ship *ship)
{
    return ship->heard_us + (ship->phase == SHIP_REFUSED ? REFUSED_US : patience_us(r));
}

static struct ship *ship_of(const struct replica *r, uint64_t peer)
{
    for (struct ship *ship = r->shipping.first; ship != NULL; ship = ship->next) {
        if (ship->peer == peer) {
            return ship;
        }
    }
    return NULL;
}

static bool has_file(const struct ship *ship)
{
    return ship->phase == SHIP_OPENING || ship->phase == SHIP_OPEN;
}

/* --- Life --------------------------------------------------------------------------------------------------------- */

static void close_file(struct ship *ship)
{
    if (has_file(ship)) {
        snapshot_source_close(ship->source); /* its read may be in flight: till then the file is in use */
        ship->source = NULL;
        ship->header = NULL;
        ship->reading = false;
    }
}

static void ship_free(struct ship *ship)
{
    struct ship **at = &ship->replica->shipping.first;

    while (*at != ship) {
        at = &(*at)->next;
    }
    *at = ship->next;
    close_file(ship);
    free(ship);
}

static struct ship *ship_new(struct replica *r, uint64_t peer, enum ship_phase phase)
{
    struct ship *ship = calloc(1, sizeof *ship);

    if (ship != NULL) {
        ship->replica = r;
        ship->peer = peer;
        ship->phase = phase;
        ship->heard_us = now_of(r);
        ship->next = r->shipping.first;
        r->shipping.first = ship;
    }
    return ship;
}

/* When something is due next. */
static uint64_t due_us(const struct ship *ship)
{
    struct replica *r = ship->replica;
    uint64_t at = ends_us(r, ship);

    if (replica_peer_by_id(r, ship->peer) == NULL) {
        return 0;
    }
    if (ship->phase == SHIP_CATCHING_UP) {
        const uint64_t look = now_of(r) + timeout_us(r);
        return look < at ? look : at;
    }
    if (ship->phase == SHIP_OPEN && !ship->reading && !ship->ended && ship->at.offset < ship->limit) {
        const uint64_t next = ship->retry_us > r->shipping.free_us ? ship->retry_us : r->shipping.free_us;
        at = next < at ? next : at;
    }
    return at;
}

static void arm(struct replica *r)
{
    uint64_t at = UINT64_MAX;

    for (const struct ship *ship = r->shipping.first; ship != NULL; ship = ship->next) {
        const uint64_t due = due_us(ship);
        at = due < at ? due : at;
    }
    if (at == UINT64_MAX) {
        r->env->ops->timer_stop(r->env, &r->shipping.timer);
    } else {
        r->env->ops->timer_set(r->env, &r->shipping.timer, at);
    }
}

/* --- Frames ------------------------------------------------------------------------------------------------------- */

static bool send(struct ship *ship, const struct message *m, const void *data, uint32_t len)
{
    struct replica *r = ship->replica;
    struct replica_peer *peer = replica_peer_by_id(r, ship->peer);

    return peer != NULL && replica_send_data(r, peer, m, data, len);
}

static void refuse(struct ship *ship, const struct message_file *file, enum message_refusal why)
{
    struct message m = {
        .type = MESSAGE_SNAPSHOT_REFUSED, .term = ship->replica->core.current_term, .snapshot_refused = {.why = why}};

    memcpy(m.snapshot_refused.file_id, file->id, sizeof file->id);
    (void)send(ship, &m, NULL, 0);
}

static void offer(struct ship *ship)
{
    const struct replica *r = ship->replica;
    struct message m = {.type = MESSAGE_SNAPSHOT_OFFER, .term = r->core.current_term};

    m.snapshot_offer = (struct message_snapshot_offer){.log_first = r->log_start > 0 ? r->log_start : 1,
                                                       .file_bytes = ship->file_bytes,
                                                       .header_len = ship->header_len,
                                                       .header = ship->header};
    ship->offered_us = now_of(r);
    (void)send(ship, &m, ship->header, ship->header_len);
}

/* --- The file ----------------------------------------------------------------------------------------------------- */

/* Read the next piece, if one may leave now. */
static void pump(struct ship *ship)
{
    const uint64_t now = now_of(ship->replica);

    if (ship->phase != SHIP_OPEN || ship->reading || ship->ended || ship->at.offset >= ship->limit ||
        now < ship->retry_us || now < ship->replica->shipping.free_us) {
        return;
    }
    if (snapshot_source_read(ship->source, &ship->at) == SNAPSHOT_OK) {
        ship->reading = true;
    } else {
        ship->ended = true; /* nothing is there; the peer finds out by its own */
        refuse(ship, &ship->file, MESSAGE_REFUSED_DAMAGED);
    }
}

static void taken_cb(struct replica_snapshot_request *request, enum replica_status status,
                     const struct replica_snapshot_info *info)
{
    struct replica *r = request->data;

    (void)status;
    (void)info;
    r->shipping.taking = false; /* if it failed the core asks again */
}

/* One of `index` or more, and newer than the newest. */
static void want_snapshot(struct replica *r, uint64_t index)
{
    index = index > r->snapshot.index ? index : r->snapshot.index + 1;
    if (r->applied < index) {
        r->entry_wanted = index; /* nobody may be writing; asked again, it is taken */
    } else if (!r->shipping.taking) {
        r->shipping.request = (struct replica_snapshot_request){.data = r, .cb = taken_cb};
        r->shipping.taking = replica_snapshot_take(r, &r->shipping.request) == REPLICA_OK;
    }
}

/* The file turned out to be bad: whoever needs a snapshot needs another one. */
static void give_up_file(struct ship *ship, enum snapshot_status status, const char *error)
{
    struct replica *r = ship->replica;

    replica_log(r, 0, "a snapshot for node %llu can't be read: %s", (unsigned long long)ship->peer, error);
    refuse(ship, ship->asked ? &ship->ask.file : &ship->file,
           status == SNAPSHOT_DAMAGED ? MESSAGE_REFUSED_DAMAGED : MESSAGE_REFUSED_GONE);
    if (status == SNAPSHOT_DAMAGED) {
        snapshot_dir_mark_bad(r->snapshots, ship->file.index, ship->file.term, status);
        want_snapshot(r, 0);
    }
    ship_free(ship);
}

static bool same_place(const struct snapshot_position *a, const struct snapshot_position *b)
{
    return a->number == b->number && a->offset == b->offset && a->payload == b->payload && a->check == b->check;
}

static void piece_cb(void *ctx, enum snapshot_status status, const struct snapshot_position *at, const void *data,
                     size_t len, const struct snapshot_position *next, bool last)
{
    struct ship *ship = ctx;
    struct replica *r = ship->replica;
    struct message m = {.type = MESSAGE_SNAPSHOT_PIECE, .term = r->core.current_term};

    ship->reading = false;
    if (r->dead) {
        return;
    }
    if (!same_place(at, &ship->at)) { /* another place was asked for meanwhile */
        pump(ship);
        arm(r);
        return;
    }
    if (status != SNAPSHOT_OK) {
        give_up_file(ship, status, snapshot_source_error(ship->source));
        arm(r);
        return;
    }
    m.snapshot_piece = (struct message_snapshot_piece){.at = {at->number, at->offset, at->payload, at->check},
                                                       .stamp = ship->ask.stamp,
                                                       .round = ship->ask.round,
                                                       .len = (uint32_t)len,
                                                       .data = data};
    memcpy(m.snapshot_piece.file_id, ship->file.id, sizeof ship->file.id);
    if (!send(ship, &m, data, (uint32_t)len)) {
        ship->retry_us = now_of(r) + (uint64_t)r->config.heartbeat_ms * 1000;
        arm(r);
        return;
    }
    r->shipping.bytes_sent += len;
    if (r->config.snapshots.transfer_rate != 0) {
        r->shipping.free_us = fetch_pace(r->shipping.free_us, now_of(r), len, r->config.snapshots.transfer_rate);
    }
    ship->at = *next;
    ship->ended = last;
    pump(ship);
    arm(r);
}

/* Do what the newest ask says: a new round, or the first ask on a connection, begins where the peer is. */
static void follow_ask(struct ship *ship, bool begin)
{
    const struct message_snapshot_ask *ask = &ship->ask;
    const uint32_t window = ask->window < FETCH_WINDOW_MAX ? ask->window : FETCH_WINDOW_MAX;

    if (begin) {
        ship->at = (struct snapshot_position){ask->at.number, ask->at.offset, ask->at.payload, ask->at.check};
        ship->ended = false;
        ship->retry_us = 0;
        ship->limit = ask->at.offset + window;
    } else if (ask->at.offset + window > ship->limit) {
        ship->limit = ask->at.offset + window;
    }
    pump(ship);
}

static void opened_cb(void *ctx, const struct snapshot_meta *meta, const struct snapshot_end *end, const void *header,
                      size_t header_len)
{
    struct ship *ship = ctx;
    struct replica *r = ship->replica;

    if (r->dead) {
        return;
    }
    ship->phase = SHIP_OPEN;
    ship->header = header;
    ship->header_len = (uint32_t)header_len;
    ship->file_bytes = end->file_bytes;
    memcpy(ship->file.id, meta->file_id, sizeof ship->file.id);
    if (!ship->asked) {
        if (replica_leads(r)) {
            replica_log(r, 2, "node %llu needs the snapshot of index %llu (%llu bytes)", (unsigned long long)ship->peer,
                        (unsigned long long)ship->file.index, (unsigned long long)ship->file_bytes);
            offer(ship);
        }
    } else if (memcmp(ship->ask.file.id, ship->file.id, sizeof ship->file.id) != 0) {
        refuse(ship, &ship->ask.file, MESSAGE_REFUSED_GONE);
        ship_free(ship);
    } else {
        follow_ask(ship, true);
    }
    arm(r);
}

static void failed_cb(void *ctx, enum snapshot_status status, const char *error)
{
    struct ship *ship = ctx;
    struct replica *r = ship->replica;

    if (!r->dead) {
        give_up_file(ship, status, error);
        arm(r);
    }
}

static struct ship *ship_open(struct replica *r, uint64_t peer, uint64_t index, uint64_t term)
{
    char name[SNAPSHOT_NAME_BYTES];
    struct snapshot_source_events events = {.opened = opened_cb, .piece = piece_cb, .failed = failed_cb};
    struct ship *ship;

    if (r->snapshots == NULL) {
        return NULL;
    }
    ship = ship_new(r, peer, SHIP_OPENING);
    if (ship == NULL) {
        return NULL;
    }
    ship->file.index = index;
    ship->file.term = term;
    events.ctx = ship;
    snapshot_name_format(name, index, term, "");
    if (snapshot_source_open(r->env, r->snapshots, name, &events, &ship->source) != SNAPSHOT_OK) {
        ship_free(ship);
        return NULL;
    }
    return ship;
}

/* --- What the core and the peer say ------------------------------------------------------------------------------- */

/* Can a peer that has the snapshot of this index go on with this log? */
static bool leads_on(const struct replica *r, uint64_t index)
{
    return index >= r->log_start || index == r->snapshot.index;
}

/* The core asks for a snapshot for this peer: is the one that it was offered, or has, or gets elsewhere, not enough? */
static bool needs_another(const struct ship *ship, uint64_t now)
{
    switch (ship->phase) {
    case SHIP_OPENING:
    case SHIP_REFUSED:
        return false;
    case SHIP_ELSEWHERE:
        return now >= ship->heard_us + timeout_us(ship->replica) * ELSEWHERE_TIMEOUTS;
    default:
        return !leads_on(ship->replica, ship->file.index);
    }
}

void replica_ship_offer(struct replica *r, struct replica_peer *peer)
{
    struct ship *ship = ship_of(r, peer->id);
    const uint64_t now = now_of(r);
    const struct snapshot_info *newest;
    uint64_t elsewhere = 0;

    if (replica_is_fenced(r)) {
        return; /* whatever is wrong here must not spread */
    }
    if (ship != NULL && !needs_another(ship, now)) {
        /* An offer may have got lost; a peer that asks has it. */
        if (ship->phase == SHIP_OPEN && now >= ship->offered_us + timeout_us(r) &&
            now >= ship->heard_us + timeout_us(r)) {
            offer(ship);
        }
        return;
    }
    if (ship != NULL) {
        elsewhere = ship->elsewhere;
        ship_free(ship);
    }
    newest = r->snapshots != NULL ? snapshot_dir_newest(r->snapshots) : NULL;
    if (newest == NULL || !leads_on(r, newest->index)) {
        want_snapshot(r, 0); /* newer ones turned out to be damaged */
    } else {
        ship = ship_open(r, peer->id, newest->index, newest->term);
        if (ship != NULL) {
            ship->elsewhere = elsewhere;
        }
    }
    replica_ship_settle(r);
}

static bool same_file(const struct ship *ship, const struct message_file *file)
{
    return has_file(ship) && ship->file.index == file->index && ship->file.term == file->term &&
           (ship->phase != SHIP_OPEN || memcmp(ship->file.id, file->id, sizeof file->id) == 0);
}

/* May this node's content take the place of the peer's? In a dispute nobody knows whose is right. */
static bool is_right(struct replica *r, struct replica_peer *peer, const struct message_snapshot_ask *ask)
{
    bool known;
    const uint64_t digest = replica_digest_at(r, ask->at.payload, &known);

    if (known && digest != ask->at.check && peer->denied != ask->at.payload) {
        peer->denied = ask->at.payload;
        replica_log(r, 0,
                    "node %llu wants this node's content in place of its own and does not get it: at index %llu a "
                    "majority had the digest %016llx, and this node %016llx",
                    (unsigned long long)peer->id, (unsigned long long)ask->at.payload,
                    (unsigned long long)ask->at.check, (unsigned long long)digest);
    }
    return replica_is_leader(r) && r->dispute_index == 0 && (!known || digest == ask->at.check);
}

/* A quarantined peer wants content of `index` or of a later entry, although it has the log (replica_rebuild.c). */
static void offer_content(struct replica *r, struct replica_peer *peer, const struct message_snapshot_ask *ask)
{
    const uint64_t index = ask->file.index;
    struct ship *ship = ship_of(r, peer->id);

    if (r->snapshots == NULL || !is_right(r, peer, ask) ||
        index > wal_last(r->wal) + 1) { /* none is ahead of a leader */
        return;
    }
    if (ship != NULL && (ship->phase == SHIP_REFUSED || (has_file(ship) && ship->file.index >= index))) {
        if (ship->phase == SHIP_OPEN && now_of(r) >= ship->offered_us + timeout_us(r)) {
            offer(ship);
        }
        return;
    }
    if (ship != NULL) {
        ship_free(ship);
    }
    const struct snapshot_info *newest = snapshot_dir_newest(r->snapshots);
    if (newest == NULL || newest->index < index) {
        want_snapshot(r, index);
    } else {
        (void)ship_open(r, peer->id, newest->index, newest->term);
    }
    replica_ship_settle(r);
}

void replica_ship_asked(struct replica *r, struct replica_peer *peer, const struct message_snapshot_ask *ask)
{
    static const uint8_t no_id[sizeof ask->file.id];
    struct ship *ship = ship_of(r, peer->id);

    if (memcmp(ask->file.id, no_id, sizeof no_id) == 0) {
        offer_content(r, peer, ask);
        return;
    }
    if (ship != NULL && (!same_file(ship, &ask->file) || replica_is_fenced(r))) {
        ship_free(ship);
        ship = NULL;
    }
    if (ship == NULL && !replica_is_fenced(r)) {
        ship = ship_open(r, peer->id, ask->file.index, ask->file.term);
    }
    if (ship == NULL) {
        struct message m = {.type = MESSAGE_SNAPSHOT_REFUSED,
                            .term = r->core.current_term,
                            .snapshot_refused = {.why = MESSAGE_REFUSED_GONE}};
        memcpy(m.snapshot_refused.file_id, ask->file.id, sizeof ask->file.id);
        (void)replica_send(r, peer, &m);
        return;
    }
    ship->heard_us = now_of(r);
    const bool begin = !ship->asked || peer->connection != ship->connection || ask->round > ship->ask.round;
    if (begin || ask->round == ship->ask.round) {
        ship->ask = *ask;
        ship->asked = true;
        ship->connection = peer->connection;
        if (ship->phase == SHIP_OPEN) {
            follow_ask(ship, begin);
        }
    }
    replica_ship_settle(r);
}

static void end_sending(struct ship *ship, enum ship_phase phase, uint64_t index)
{
    close_file(ship);
    ship->phase = phase;
    ship->file.index = index;
    ship->elsewhere = phase == SHIP_ELSEWHERE ? index : 0;
    ship->heard_us = now_of(ship->replica);
    replica_ship_settle(ship->replica);
}

void replica_ship_done(struct replica *r, struct replica_peer *peer, const struct message_snapshot_done *done)
{
    struct ship *ship = ship_of(r, peer->id);

    if (ship == NULL || ship->phase != SHIP_OPEN || memcmp(ship->file.id, done->file_id, sizeof done->file_id) != 0) {
        return;
    }
    replica_log(r, 2, "node %llu has the snapshot of index %llu", (unsigned long long)peer->id,
                (unsigned long long)ship->file.index);
    peer->given = ship->file.index;
    end_sending(ship, SHIP_CATCHING_UP, ship->file.index);
}

void replica_ship_refused(struct replica *r, struct replica_peer *peer, const struct message_snapshot_refused *refused)
{
    static const char *const texts[MESSAGE_REFUSALS] = {
        [MESSAGE_REFUSED_FOREIGN] = "it is of another cluster",
        [MESSAGE_REFUSED_VERSION] = "it does not understand it: run the same version on all nodes",
        [MESSAGE_REFUSED_SETTINGS] = "it runs with other timeouts: start it with the cluster's values",
        [MESSAGE_REFUSED_NO_SPACE] = "its disk is too full",
        [MESSAGE_REFUSED_CONTENT] = "its content can't be loaded there",
    };
    struct ship *ship = ship_of(r, peer->id);

    if (ship == NULL || ship->phase != SHIP_OPEN ||
        memcmp(ship->file.id, refused->file_id, sizeof refused->file_id) != 0) {
        return;
    }
    if (refused->why == MESSAGE_REFUSED_OTHER) {
        end_sending(ship, SHIP_ELSEWHERE, refused->index);
        return;
    }
    if (texts[refused->why] == NULL) {
        return; /* a sender's reason */
    }
    replica_log(r, 0, "node %llu refuses the snapshot of index %llu: %s", (unsigned long long)peer->id,
                (unsigned long long)ship->file.index, texts[refused->why]);
    if (refused->why == MESSAGE_REFUSED_CONTENT) {
        want_snapshot(r, 0); /* what is in memory here may be better than the file */
    }
    end_sending(ship, SHIP_REFUSED, ship->file.index);
}

/* --- Time --------------------------------------------------------------------------------------------------------- */

/* False: nothing is to be done for this peer any more. */
static bool still_wanted(struct ship *ship)
{
    struct replica *r = ship->replica;
    raft_index match = 0;

    if (replica_peer_by_id(r, ship->peer) == NULL) {
        return false; /* it was removed */
    }
    if (ship->phase == SHIP_CATCHING_UP) {
        if (!replica_leads(r) || raft_match_index(&r->core, ship->peer, &match) != 0) {
            return false;
        }
        if (match > ship->match) {
            ship->match = match;
            ship->heard_us = now_of(r);
        }
        if (match >= ship->file.index && match + CAUGHT_UP_ENTRIES >= wal_last(r->wal)) {
            return false;
        }
    }
    if (now_of(r) < ends_us(r, ship)) {
        return true;
    }
    if (ship->phase == SHIP_OPEN) {
        replica_log(r, 1, "node %llu asks for the snapshot of index %llu no more", (unsigned long long)ship->peer,
                    (unsigned long long)ship->file.index);
    }
    return false;
}

void replica_ship_settle(struct replica *r)
{
    uint64_t hold = UINT64_MAX;

    for (const struct ship *ship = r->shipping.first; ship != NULL; ship = ship->next) {
        if (ship->phase != SHIP_REFUSED) {
            uint64_t from = ship->match > ship->file.index ? ship->match : ship->file.index;
            from = ship->elsewhere != 0 && ship->elsewhere < from ? ship->elsewhere : from;
            hold = from - 1 < hold ? from - 1 : hold; /* the core needs the term of the entry itself, too */
        }
    }
    r->log_hold = hold;
    arm(r);
}

unsigned replica_ship_count(const struct replica *r)
{
    unsigned n = 0;

    for (const struct ship *ship = r->shipping.first; ship != NULL; ship = ship->next) {
        n += ship->phase != SHIP_REFUSED;
    }
    return n;
}

static void timer_cb(struct env_timer *timer)
{
    struct replica *r = timer->data;
    struct ship *next;

    if (r->dead) {
        return;
    }
    for (struct ship *ship = r->shipping.first; ship != NULL; ship = next) {
        next = ship->next;
        if (!still_wanted(ship)) {
            ship_free(ship);
        } else {
            pump(ship);
        }
    }
    replica_ship_settle(r);
}

bool replica_ship_init(struct replica *r)
{
    r->shipping.timer = (struct env_timer){.data = r, .cb = timer_cb};
    return r->env->ops->timer_init(r->env, &r->shipping.timer) == ENV_OK;
}

void replica_ship_fini(struct replica *r)
{
    if (r->shipping.taking) {
        replica_snapshot_cancel(r, &r->shipping.request);
    }
    while (r->shipping.first != NULL) {
        ship_free(r->shipping.first);
    }
    r->env->ops->timer_fini(r->env, &r->shipping.timer);
}
