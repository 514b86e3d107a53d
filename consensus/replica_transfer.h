/* Inside consensus/replica*.c: snapshots from node to node. Three parts: replica_ship.c sends files, replica_fetch.c
 * receives one, replica_install.c puts it in the place of log and content. They share nothing but the frames and the
 * calls below. */
#ifndef LOCKSTEP_REPLICA_TRANSFER_H
#define LOCKSTEP_REPLICA_TRANSFER_H

#include "consensus/fetch_window.h"
#include "consensus/message.h"
#include "consensus/replica_load.h"
#include "consensus/snapshot.h"

struct replica;
struct replica_peer;

/* --- replica_ship.c: one struct ship per peer that is being sent a snapshot, or catches up after one ---------------
 */

struct ship;

/* What all of them share. */
struct shipping {
    struct ship *first;
    struct env_timer timer;
    uint64_t free_us; /* at the configured rate the next piece may leave at this instant */
    uint64_t bytes_sent;
    struct replica_snapshot_request request; /* there was none to send */
    bool taking;
};

bool replica_ship_init(struct replica *r);
void replica_ship_fini(struct replica *r);
/* The core has no entries for this peer any more, and says so again at each heartbeat. */
void replica_ship_offer(struct replica *r, struct replica_peer *peer);
void replica_ship_asked(struct replica *r, struct replica_peer *peer, const struct message_snapshot_ask *ask);
void replica_ship_done(struct replica *r, struct replica_peer *peer, const struct message_snapshot_done *done);
void replica_ship_refused(struct replica *r, struct replica_peer *peer, const struct message_snapshot_refused *refused);
/* Keeps r->log_hold; when anything may have changed, also the members. */
void replica_ship_settle(struct replica *r);
unsigned replica_ship_count(const struct replica *r);

/* --- replica_fetch.c ---------------------------------------------------------------------------------------------- */

enum fetch_phase {
    FETCH_IDLE,
    FETCH_OPENING,   /* the partial file is looked at */
    FETCH_PULLING,   /* pieces come */
    FETCH_CHECKING,  /* the whole file is synced and read back */
    FETCH_INSTALLING /* loaded beside the live content, then exchanged */
};

struct fetch {
    enum fetch_phase phase;
    struct message_file file;
    uint64_t peer; /* it comes from this one */
    struct snapshot_receiver *receiver;
    struct env_timer timer;
    struct fetch_window window;
    uint32_t round;
    uint32_t quiet;    /* rounds in a row that brought nothing */
    uint64_t heard_us; /* a piece was taken, or the transfer began */
    uint64_t asked_us;
    uint64_t connection; /* that the newest piece came by, 0: none yet */
    bool dropped;        /* a piece came for which there was no room */
    bool broken;         /* it has to go on after a break: the next piece taken counts as a resumption */
    uint8_t bad_id[16];  /* content of this file can't be loaded: it is not fetched again */
    /* for INFO */
    uint64_t file_bytes, position;
    uint64_t resumed, bytes, bytes_again;
};

bool replica_fetch_init(struct replica *r);
void replica_fetch_fini(struct replica *r);
void replica_fetch_offered(struct replica *r, struct replica_peer *peer, const struct message *m);
void replica_fetch_piece(struct replica *r, const struct replica_peer *peer,
                         const struct message_snapshot_piece *piece);
void replica_fetch_refused(struct replica *r, const struct replica_peer *peer,
                           const struct message_snapshot_refused *refused);
/* The link to a peer came up. */
void replica_fetch_connected(struct replica *r, const struct replica_peer *peer);
/* The log got there first? */
void replica_fetch_settle(struct replica *r);
/* replica_install.c is through with it; `why` 0: installed, or not needed any more. */
void replica_fetch_installed(struct replica *r, enum message_refusal why, bool content_is_bad);

/* --- replica_install.c -------------------------------------------------------------------------------------------- */

struct install {
    uint64_t index, term; /* of the snapshot, 0: none is being installed */
    struct replica_load *load;
    /* Loaded and waiting for a leader. */
    bool ready;
    struct replica_load_result result;
    /* The core's answer to RAFT_INSTALL_SNAPSHOT. */
    bool accepted;
    struct raft_snapshot_metadata metadata;
    uint64_t installs;
    uint64_t last_us; /* how long the last switch took */
};

/* The verified file is on stable storage and in the directory. */
void replica_install_begin(struct replica *r, uint64_t index, uint64_t term);
void replica_install_settle(struct replica *r);
/* The core wants to keep what it was told of (RAFT_UPDATE_SNAPSHOT). */
void replica_install_update(struct replica *r, const struct raft_snapshot_metadata *metadata);
void replica_install_fini(struct replica *r);
void replica_transfer_info(const struct replica *r, struct replica_info *info);
/* Is the entry (index, term) in the log, or behind it? Then a snapshot of it brings nothing. */
bool replica_holds(const struct replica *r, uint64_t index, uint64_t term);
/* 0, or why a snapshot with this header can't be this node's. */
enum message_refusal replica_judge_snapshot(const struct replica *r, const struct snapshot_meta *meta);

#endif
