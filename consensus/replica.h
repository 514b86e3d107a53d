/* One member of one Raft group: drives the consensus core, owns the log (WAL and in-memory tail), the term-and-vote
 * slots, proposals and read confirmations. Knows nothing of keys, clients or sockets: entries are opaque bytes, peers
 * are ids, and committed entries go to an FSM vtable. An object, never a global. Loop thread only. */
#ifndef LOCKSTEP_REPLICA_H
#define LOCKSTEP_REPLICA_H

#include "consensus/env.h"

#define REPLICA_SERVERS_MAX 15u
#define REPLICA_ADDRESS_MAX 255u /* bytes of an address, without the NUL */

enum replica_status {
    REPLICA_OK = 0,
    REPLICA_NOT_LEADER, /* not executed */
    REPLICA_BUSY,       /* bytes in flight at their bound, or a transfer is under way: not executed, retry */
    REPLICA_NO_SPACE,   /* the disk's reserve is reached: not executed */
    REPLICA_TOO_BIG,    /* entry above entry_bytes_max: not executed */
    REPLICA_NO_MEMORY,
    REPLICA_FOREIGN, /* the data directory belongs to another cluster or id */
    REPLICA_CORRUPT, /* see the error text */
    REPLICA_IO,
    REPLICA_DISPUTED, /* a read: contents differ, and no majority says whose is right */
    REPLICA_CONFIG    /* a bad configuration value */
};
const char *replica_strerror(enum replica_status status);

enum replica_role {
    REPLICA_FOLLOWER,
    REPLICA_CANDIDATE,
    REPLICA_LEADER,
    REPLICA_LEARNER,
    REPLICA_DOWN,
    REPLICA_REMOVED /* from the cluster, for good */
};
const char *replica_role_name(enum replica_role role);

struct replica;

/* What happened to a proposal that replica_propose accepted. Exactly one of the two is called. */
struct proposal {
    /* public */
    void *data;
    /* The outcome can't be known here: leadership was lost after append. It may yet commit. Never called from inside
     * replica_propose. */
    void (*unknown)(struct proposal *proposal);
    /* private */
    uint64_t index;
    uint64_t term;
    struct proposal *next;
};

/* What a snapshot of the state machine shows. */
struct replica_cut {
    uint64_t revision, time_ms;
    uint64_t digest; /* replica_fsm.digest: the same on all replicas at the same index */
};

enum replica_cut_state {
    REPLICA_CUT_MORE,     /* go on */
    REPLICA_CUT_DONE,     /* the stream is complete */
    REPLICA_CUT_OVERFLOW, /* entries changed more than can be kept aside: end it, try again later */
    REPLICA_CUT_BROKEN    /* the content is not what its digest says: this node's memory or code is at fault */
};

/* The state machine's content as a stream of bytes, and back (store/snapshot.h says more of each function). At most one
 * cut and one load exist at a time; both end before the state machine does. */
struct replica_fsm_snapshots {
    void *ctx;

    /* Fix the state after the last applied entry; entries go on being applied. Costs microseconds. Gives a handle
     * (cut_end frees it); NULL: out of memory. */
    void *(*cut_begin)(void *ctx, struct replica_cut *cut);
    /* Emit about `bytes_max` of the stream, in time proportional to that (some 0.1 ms per 64 KiB). `data` is borrowed
     * until emit returns, which must not touch the state machine. */
    enum replica_cut_state (*cut_step)(void *cut, size_t bytes_max,
                                       void (*emit)(void *emit_ctx, const void *data, size_t len), void *emit_ctx);
    /* Bytes kept aside for the cut and not emitted yet. After each applied entry step until this is small. */
    size_t (*cut_pending)(const void *cut);
    void (*cut_end)(void *cut);

    /* Begin to load a stream of at most `stream_bytes` beside the live content. Gives a handle (load_install or
     * load_abort takes it); NULL: out of memory. */
    void *(*load_begin)(void *ctx, uint64_t stream_bytes);
    /* These four touch nothing but the load: any thread may call them, one at a time. */
    /* The next bytes, cut anywhere. The first call may take a while, 10 ns for each key. False: see load_error. */
    bool (*load_feed)(void *load, const void *data, size_t len);
    /* After the last byte: does a part of what load_finish has left to do, some 0.1 us for each of `budget`. True:
     * nothing is left. */
    bool (*load_settle)(void *load, uint64_t budget);
    /* Everything was fed: checks that it is complete and is what it says. False: see load_error; only load_abort may
     * follow. */
    bool (*load_finish)(void *load, struct replica_cut *cut);
    uint64_t (*load_keys)(const void *load, uint64_t *total); /* loaded, and of how many (0: not known yet) */

    const char *(*load_error)(const void *load); /* "" if nothing is wrong; valid until the load is gone */
    /* After load_finish: put the loaded content, that of `index`, in the place of the live one. Costs microseconds and
     * can't fail; a cut that is under way goes on with the old content. Loop thread. */
    void (*load_install)(void *load, uint64_t index);
    void (*load_abort)(void *load);
};

/* The state machine. */
struct replica_fsm {
    void *ctx;
    /* Apply the committed command entry `index`. `data` is borrowed until return. `proposal` is the accepted proposal
     * of this entry if it was made here in this term and not yet failed, else NULL; it is finished by this call. */
    void (*apply)(void *ctx, uint64_t index, uint64_t term, const void *data, size_t len, struct proposal *proposal);
    /* Cluster time of the last applied entry, milliseconds since 1970. */
    uint64_t (*time_ms)(void *ctx);
    /* Digest of the content after the last applied entry. */
    uint64_t (*digest)(void *ctx);
    /* A command entry was received from the leader and is not applied yet: its keys are pending. Not called for entries
     * recovered at start or proposed here: while such wait to be applied, no read is local. Optional. */
    void (*received)(void *ctx, uint64_t index, const void *data, size_t len);
    /* Cluster time carried by a command entry (0 if it carries none): lets a leader start from its log's last time. */
    uint64_t (*entry_time_ms)(void *ctx, const void *data, size_t len);
    /* NULL: it has no snapshots; the log is kept for ever. */
    const struct replica_fsm_snapshots *snapshots;
};

/* A linearizable read waiting for confirmation, embedded by its owner. One request may stand for many reads. */
struct replica_read {
    /* public */
    void *data;
    /* REPLICA_OK: the state machine now holds everything that was acknowledged before replica_read_start: read now.
     * REPLICA_NOT_LEADER: not confirmed, nothing was read. Never called from inside replica_read_start. */
    void (*cb)(struct replica_read *read, enum replica_status status);
    /* private */
    struct replica_read *next;
    uint64_t start_us;
    uint64_t index;
};

struct replica_server {
    uint64_t id;
    char address[REPLICA_ADDRESS_MAX + 1]; /* opaque here; cmd puts "peer-host:port,client-host:port" */
    bool voter;
};

/* When snapshots are taken (replica_snapshot.c). Together with the segment size this bounds the log on disk. */
struct replica_snapshot_config {
    /* Once the log since the last snapshot is larger than this, and than that snapshot's file; 0: not for its size. */
    uint64_t log_bytes;
    uint32_t age_s; /* once the last one is older than this, if anything was applied since; 0: not for its age */
    uint64_t rate;  /* bytes of content per second, 0: as fast as it goes */
    uint64_t transfer_rate; /* bytes per second sent to other nodes, to all of them together; 0: no limit */
    uint64_t keep_bytes;    /* of the log before a snapshot, kept for followers that are behind */
    uint32_t slice_bytes;   /* of content per loop turn, default 256 KiB: well below 2 ms */
};

struct replica_config {
    uint64_t id;         /* of this node, not 0 */
    uint8_t cluster[16]; /* cluster uuid; a data directory of another one is refused */
    /* An empty data directory starts without a configuration and waits until a leader adds this node. */
    bool join;
    /* The initial configuration, the same on all nodes in the same order; used only by an empty data directory. */
    const struct replica_server *servers;
    unsigned n_servers;
    /* The next three travel in the replicated configuration; a directory with other values is refused. */
    uint32_t election_timeout_ms; /* T, 20 to 60000, default 300; elections start after T to 2T of silence */
    uint32_t heartbeat_ms;        /* default T/10, at most T/3 */
    uint32_t entry_bytes_max;     /* default 1 MiB, at most 64 MiB */
    uint64_t inflight_bytes_max;  /* proposed and not yet applied, default 16 MiB: then REPLICA_BUSY */
    uint64_t tail_bytes_max;      /* in-memory tail of applied entries kept for followers, default 8 MiB */
    uint64_t segment_bytes;       /* WAL segment, default 16 MiB */
    uint64_t space_reserve_bytes; /* client writes are refused below this much disk space, default 64 MiB */
    uint32_t rho_ppm;             /* bound on the rate error of every node's clock, 1 to 100000, default 10000 (1 %) */
    bool leases_off;              /* confirm every read by ReadIndex */
    bool grants_off;              /* only the leader reads locally */
    struct replica_snapshot_config snapshots;
    bool rebuild_off;           /* a quarantined node waits for its operator (replica_rebuild.c) */
    uint32_t clock_slew_ppm;    /* slack of the cluster clock per elapsed time, default 10000 (1 %) */
    uint32_t feature_level_max; /* highest feature level understood; 0: the binary's (consensus/feature_level.h) */
    const struct replica_fsm *fsm;
    /* Called after role, term, or leader changed. Optional. */
    void (*changed)(void *ctx);
    /* Called after the newest configuration of the log changed (replica_info). Optional. */
    void (*servers_changed)(void *ctx);
    /* Called once per turn in which the log became idle or an entry was applied: a good time to propose what waits. */
    void (*progress)(void *ctx);
    /* Called before committed entries are applied, which takes a while, after what was appended has been given to the
     * disk: send queued frames, others wait for them. Optional. */
    void (*before_apply)(void *ctx);
    void *ctx;
};

/* Open the data directory (initialising an empty one), recover, start the core. `*error` is a text valid until the
 * next call that says what is wrong and what to do. On success the replica runs on env's callbacks. If there is a
 * snapshot it is being loaded then (replica_is_loading): until that is done the replica takes no part in anything, and
 * has the role REPLICA_DOWN. */
enum replica_status replica_open(struct env *env, const struct replica_config *config, struct replica **replica,
                                 const char **error) __attribute__((warn_unused_result));
/* Stop. Outstanding proposals end as unknown and reads as REPLICA_NOT_LEADER before this returns; callbacks are still
 * the caller's. The memory is freed here; the env must have no request of this replica in flight afterwards, so
 * production closes the env first-come: replica_close cancels timers and detaches its disk requests. */
void replica_close(struct replica *replica);

/* Propose one command entry: header and payload as the FSM understands them. `data` comes from malloc and is taken on
 * success only. `proposal` stays the caller's memory and must live until it is finished. */
enum replica_status replica_propose(struct replica *replica, void *data, size_t len, struct proposal *proposal)
    __attribute__((warn_unused_result));

/* Confirm leadership for reads that have arrived by now (ReadIndex, thesis section 6.4). On anything but REPLICA_OK the
 * callback won't fire. Reads started in one loop turn share one round of echoes. */
enum replica_status replica_read_start(struct replica *replica, struct replica_read *read)
    __attribute__((warn_unused_result));
/* Take back a read that has not fired. */
void replica_read_cancel(struct replica *replica, struct replica_read *read);

/* A frame (consensus/message.h) arrived from peer `from` over connection number `connection` (grows with each new
 * connection to that peer). Borrowed until return. A malformed frame returns false: drop the connection. */
bool replica_receive(struct replica *replica, uint64_t from, uint64_t connection, const void *frame, size_t len);
/* The link to a peer came up or went down. */
void replica_peer_state(struct replica *replica, uint64_t peer, bool connected);

/* End of a loop turn: flush what was appended, send what waits. */
void replica_turn_end(struct replica *replica);

/* Time for the next entry, milliseconds since 1970; never below any entry of the log (DESIGN section 5). */
uint64_t replica_cluster_time(struct replica *replica);

/* May a linearizable read that has arrived by now be answered from memory, without asking anyone? Leader: its lease
 * holds. Follower: it holds a grant. On true `*received` is the newest entry in memory: a read that touches something
 * in the entries above replica_applied has to wait until that index is applied. */
bool replica_read_local(struct replica *replica, uint64_t *received);
/* A reader on this follower waits for `index` to be applied: ask the leader to show it without waiting for a heartbeat.
 */
void replica_pull(struct replica *replica, uint64_t index);
/* This node's content is known to differ from a majority's (quarantine), or contents differ and no majority says whose
 * is right: no read of any kind may be answered from it. */
bool replica_reads_refused(struct replica *replica);
bool replica_is_quarantined(const struct replica *replica);
/* A node in quarantine is rebuilt from the leader's snapshot, but not again in so short a time. */
#define REPLICA_REBUILD_AGAIN_US 3600000000u
/* Whether it is; one that waits for its operator begins now if `on`. */
void replica_rebuild_configure(struct replica *replica, bool on);
/* An instant (now_us scale) such that everything acknowledged anywhere before it is in the state machine here; 0: none
 * is known. Its age is a measured bound on the staleness of this copy. */
uint64_t replica_fresh_us(struct replica *replica);
/* Hand leadership to `id` (0: the follower that is furthest): waits until no read grant is out and nothing is in
 * flight, for at most an election timeout. REPLICA_OK: begun; `changed` tells of the outcome. */
enum replica_status replica_transfer(struct replica *replica, uint64_t id) __attribute__((warn_unused_result));

/* --- Membership --------------------------------------------------------------------------------------------------- */

enum replica_change_kind {
    REPLICA_ADD_LEARNER, /* it replicates the log without a vote */
    REPLICA_PROMOTE,     /* a learner that has caught up becomes a voter */
    REPLICA_DEMOTE,
    REPLICA_REMOVE,
    REPLICA_READDRESS
};
const char *replica_change_name(enum replica_change_kind kind);
/* Change the configuration by one server (`address` for ADD_LEARNER and READDRESS). REPLICA_OK: proposed; it is done
 * when replica_change_pending() is false again and replica_info() shows it. Anything else: nothing was changed and
 * `*why` (static text) says what to do. The leader itself can't be demoted or removed: transfer first. */
enum replica_status replica_change(struct replica *replica, enum replica_change_kind kind, uint64_t id,
                                   const char *address, const char **why) __attribute__((warn_unused_result));
bool replica_change_pending(const struct replica *replica);
#define REPLICA_WHY_MAX 160u
/* Raise the cluster's feature level (0: to what this binary understands). REPLICA_OK: proposed, or it is there already;
 * done as replica_change is. Anything else: `why` says what to do, REPLICA_CONFIG: which node holds it back. */
enum replica_status replica_upgrade(struct replica *replica, uint32_t level, char why[REPLICA_WHY_MAX])
    __attribute__((warn_unused_result));
/* A node's hello says which feature level it understands. */
void replica_peer_supports(struct replica *replica, uint64_t id, uint32_t level);
/* Of the newest configuration in the log. */
uint32_t replica_feature_level(const struct replica *replica);

/* A member says that this node was removed by a committed configuration (the leader may have said so already). From
 * then on it neither stands nor votes nor reads; for REPLICA_REMOVED_GRACE_MS replica_leader() still names the leader
 * it knew, as long as their link lasts, so that its clients' commands can be passed on. */
void replica_set_removed(struct replica *replica);
bool replica_is_removed(const struct replica *replica);
#define REPLICA_REMOVED_GRACE_MS 30000u

/* --- Snapshots ---------------------------------------------------------------------------------------------------- */

struct replica_snapshot_info {
    uint64_t index, term; /* of the last entry it contains, 0 if there is none */
    uint64_t file_bytes;
    uint64_t time_ms; /* cluster time of its content */
};

/* A snapshot asked for, embedded by its owner. */
struct replica_snapshot_request {
    /* public */
    void *data;
    /* REPLICA_OK: a snapshot of everything that was applied when it was asked for is on stable storage here. Otherwise
     * nothing changed: REPLICA_NO_SPACE, _IO, _NO_MEMORY; REPLICA_BUSY: writes outran it, or this node is stopping;
     * REPLICA_CORRUPT: the content in memory is damaged. Never called from inside replica_snapshot_take. */
    void (*cb)(struct replica_snapshot_request *request, enum replica_status status,
               const struct replica_snapshot_info *info);
    /* private */
    struct replica_snapshot_request *next;
};
/* On anything but REPLICA_OK the callback won't fire: REPLICA_BUSY while loading, REPLICA_CONFIG if the state machine
 * has no snapshots. */
enum replica_status replica_snapshot_take(struct replica *replica, struct replica_snapshot_request *request)
    __attribute__((warn_unused_result));
/* Take back a request that has not fired; the snapshot itself goes on. */
void replica_snapshot_cancel(struct replica *replica, struct replica_snapshot_request *request);
bool replica_snapshot_is_taken(const struct replica *replica); /* one is under way */
/* Change when snapshots are taken. */
void replica_snapshot_configure(struct replica *replica, const struct replica_snapshot_config *config);

/* The snapshots in the data directory (consensus/snapshot.h), NULL if the state machine has none. Borrowed; a reader of
 * one holds it for as long as it has it open: snapshot_dir_hold. */
struct snapshot_dir *replica_snapshots(struct replica *replica);

struct replica_loading_info {
    bool replaying;              /* the log, not a snapshot */
    uint64_t bytes, bytes_total; /* of the file, or of entries */
    uint64_t keys, keys_total;   /* 0: not known (yet) */
    uint64_t elapsed_us;
};
/* After a start: a snapshot is being loaded, or then what was in the log at the start and is known to be committed is
 * being applied, if that is much (4 MiB). A replica that replays takes part in everything but has old content. */
bool replica_is_loading(const struct replica *replica);
void replica_loading_info(const struct replica *replica, struct replica_loading_info *info);

/* --- Information -------------------------------------------------------------------------------------------------- */

struct replica_peer_info {
    uint64_t id;
    bool connected;
    bool voter;
    uint64_t match;         /* leader only: verified match index */
    uint64_t echo_age_us;   /* leader only: since the last echo, UINT64_MAX if none */
    uint64_t applied;       /* as last reported */
    uint64_t rtt_us;        /* smoothed, 0 if unknown */
    uint64_t grant_left_us; /* leader only: it may read locally for at most this long */
    bool differs;           /* leader only: its content is not what a majority holds */
};

struct replica_info {
    enum replica_role role;
    uint64_t id, term, vote, leader; /* leader 0: unknown */
    uint64_t commit, exposed, applied, last, stored, first;
    uint64_t log_start; /* first entry that followers can get; `first` may be lower: whole segments are given back */
    const char *local_reads; /* "none" if reads are local here, else why not (lease.h) */
    uint64_t local_left_us;  /* ... and for how long, unless renewed */
    uint64_t transfers;
    uint64_t transfer_to;      /* leader: leadership is being handed to this node, 0: to none */
    uint64_t term_start_index; /* index of the first entry of this leader's term, 0 if not leader */
    bool ready;                /* leader whose barrier is applied */
    uint64_t inflight_bytes, tail_bytes;
    uint64_t entries_proposed, elections, reads_confirmed, read_rounds, frames_sent, frames_dropped, frames_received;
    uint64_t digest_mismatches;
    uint64_t digest_agreed; /* leader: newest index at which a majority is known to hold what this node does */
    uint64_t quarantined;   /* index at which this node's content differs from a majority's, 0: it does not */
    const char *rebuild;    /* in quarantine: what becomes of it, "none" outside */
    uint64_t rebuilds;      /* how often content was made anew from the leader's, in this life */
    uint64_t disputed;      /* leader: index at which contents differ without a majority, 0: none */
    uint64_t wal_writes, wal_bytes, wal_last_us, wal_max_us, wal_ewma_us;
    uint64_t wal_segments, wal_disk_bytes;
    struct replica_snapshot_info snapshot; /* the newest */
    bool snapshot_taking;
    uint64_t snapshot_bytes_written; /* content of the one being taken, so far */
    uint64_t snapshot_us;            /* how long the last one took, 0: none was taken in this life */
    uint64_t snapshot_slice_max_us;  /* longest work for a snapshot in one loop turn */
    uint64_t snapshots_taken, snapshots_failed;
    /* Members take turns (snapshot_turn.h): one is due and not begun yet; how often one waited for another member's,
     * and was begun out of turn, in this life. */
    bool snapshot_put_off;
    uint64_t snapshots_put_off, snapshots_overdue;
    uint64_t log_bytes_since; /* applied since the newest snapshot */
    /* Snapshots from node to node. */
    unsigned snapshot_sends;       /* peers that one is being sent to, or that catch up after one */
    const char *snapshot_fetch;    /* "none", or how far the one from another node has got */
    uint64_t snapshot_fetch_index; /* of the one being fetched or installed ... */
    uint64_t snapshot_fetch_bytes, snapshot_fetch_total; /* ... bytes of its file that are here, and of all of it */
    uint64_t snapshot_installs, snapshot_resumed;        /* installed; transfers that went on after a break */
    uint64_t snapshot_bytes_sent, snapshot_bytes_received;
    uint64_t snapshot_bytes_again; /* received in vain: they were here already, or something before them was missing */
    uint64_t snapshot_install_us;  /* how long the last switch took */
    uint64_t starts;
    uint32_t feature_level;       /* of the newest configuration ... */
    uint32_t feature_level_max;   /* ... and what this node understands */
    uint64_t next_id;             /* lowest id that was never used */
    uint64_t configuration_index; /* log index of `servers` ... */
    bool configuration_committed; /* ... and whether this node knows it to be committed */
    unsigned n_servers;
    struct replica_server servers[REPLICA_SERVERS_MAX];
    struct replica_peer_info peers[REPLICA_SERVERS_MAX]; /* same order; own entry has connected = true */
};
void replica_info(struct replica *replica, struct replica_info *info);
bool replica_is_leader(const struct replica *replica);  /* its barrier is applied, and cluster time is known */
uint64_t replica_leader(const struct replica *replica); /* 0: unknown */
uint64_t replica_term(const struct replica *replica);
uint64_t replica_applied(const struct replica *replica);
/* Of this data directory (slots.h): lets peers notice a node that lost its data. */
uint64_t replica_incarnation(const struct replica *replica);
/* True while the WAL writes or entries wait to be committed: the next batch had better fill. */
bool replica_is_busy(const struct replica *replica);

#endif
