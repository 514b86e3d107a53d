/* Inside consensus/replica*.c: the replica's state. The only place besides them that may include raft.h. */
#ifndef LOCKSTEP_REPLICA_INTERNAL_H
#define LOCKSTEP_REPLICA_INTERNAL_H

#include <raft.h>

#include "consensus/cluster_clock.h"
#include "consensus/configuration.h"
#include "consensus/feature_level.h"
#include "consensus/lease.h"
#include "consensus/log_tail.h"
#include "consensus/message.h"
#include "consensus/plant.h"
#include "consensus/replica.h"
#include "consensus/replica_export.h"
#include "consensus/replica_load.h"
#include "consensus/replica_transfer.h"
#include "consensus/slots.h"
#include "consensus/snapshot.h"
#include "consensus/snapshot_turn.h"
#include "consensus/wal.h"

/* Entries in flight to one follower; the byte bound is the link's queue and inflight_bytes_max. */
#define REPLICA_ENTRIES_IN_FLIGHT 256u
/* Disk reads for followers and for apply. */
#define REPLICA_READ_BYTES (256u * 1024)
/* Entries from here on are copied one at a time, with a turn of the loop between the copies. */
#define REPLICA_LARGE_BYTES (1024u * 1024)
/* Digest history: one checkpoint every so many entries, so many kept. */
#define REPLICA_DIGEST_EVERY 64u
#define REPLICA_DIGEST_KEPT 64u
/* The leader lease ends this much before what the arithmetic allows; the core counts milliseconds. */
#define REPLICA_LEASE_SLACK_US 3000u
/* Places for peers: a removed one keeps its place while a read for it is in flight. */
#define REPLICA_PEERS_MAX (2 * REPLICA_SERVERS_MAX)
/* Followers whose link to the leader broke stand after T and as many T/REPLICA_TURNS as their turn: at most 2T. */
#define REPLICA_TURNS 10u
/* Wall-clock samples older than this many election timeouts do not count. */
#define REPLICA_SAMPLE_TIMEOUTS 3u

/* Of each peer, as the leader knows them. */
#define REPLICA_REPORTS_KEPT 16u

struct digest_point {
    uint64_t index, digest;
};

struct replica_peer {
    struct replica *replica;
    uint64_t id;
    char address[REPLICA_ADDRESS_MAX + 1];
    bool voter;
    bool connected;
    uint64_t connection; /* newest incoming connection; frames of older ones are dropped */

    /* Entries [want_next, want_last] are to be sent in order; empty when next > last. Not empty between two
     * events only while a read is under way, or a change is withheld (replica_send.c). */
    uint64_t want_next, want_last;
    struct wal_read read; /* of entries that have left memory */
    bool reading;
    uint64_t sent_us; /* last APPEND or PING */
    /* Entries up to here were given to the link since the last rejection or break, the last of them at that instant:
     * the core asks again at each heartbeat until they are confirmed, which takes a while for large ones. */
    uint64_t sent_last, sent_last_us;

    /* What the peer told the leader of this term; reset when a term begins. */
    uint64_t echo_stamp;  /* largest stamp echoed, 0: none */
    uint64_t echo_us;     /* when it arrived */
    uint64_t stamp_sent;  /* newest stamp sent */
    uint64_t lease_asked; /* newest stamp sent on an APPEND: leases rest on their echoes alone, not on those of PINGs */
    uint64_t wall_ms;     /* sample of its wall clock ... */
    uint64_t wall_us;     /* ... and when it arrived, 0: none */
    uint64_t applied;
    uint64_t rtt_us;
    uint64_t pull; /* it waits for this index to be shown; 0: none */
    /* Without a lease: an instant of the peer's, answered once a majority has echoed a later stamp than this. */
    uint64_t fresh_asked, fresh_stamp;
    uint64_t fresh_told; /* newest instant so answered, 0: none */
    struct digest_point reports[REPLICA_REPORTS_KEPT];
    unsigned report_next;
    uint64_t judged; /* newest index at which its report was compared with what a majority holds ... */
    bool differs;    /* ... and differs */
    uint64_t given;  /* it has a snapshot of this index from here: what its digests behind that are is told, 0: none */
    uint64_t denied; /* it was told to the log that it got no content in place of what it had at this index */
    struct snapshot_claim claim; /* of a turn to write a snapshot; without the id */
};

/* Why this node is in quarantine; index 0: it is not. See replica_digest.c. */
struct replica_quarantine {
    uint64_t index, own, theirs;
};

/* A quarantined node makes its content anew: replica_rebuild.c. */
enum rebuild_state {
    REBUILD_NONE,     /* not in quarantine */
    REBUILD_OFF,      /* the configuration says so */
    REBUILD_GIVEN_UP, /* it was done less than REPLICA_REBUILD_AGAIN_US ago, in vain */
    REBUILD_WAITING   /* for a leader, then for its snapshot */
};

struct rebuild {
    enum rebuild_state state;
    bool stopped;      /* nothing is applied until the leader's content is here */
    uint64_t asked_us; /* 0: not yet */
    unsigned asked;    /* so many times */
    uint64_t last_us;  /* when the last one was done */
    uint64_t rebuilds; /* in this life */
};

/* What was in the log at the start and is applied again: replica_replay.c. */
struct replay {
    uint64_t last; /* of the log when it was opened, 0: nothing is left to be replayed */
    uint64_t bytes, bytes_total;
    uint64_t start_us, told_us;
    bool running;
};

/* The newest configuration entry at or below some index, as it is in the log. */
struct replica_configuration {
    uint64_t index; /* 0: none */
    void *data;     /* malloc'd, owned */
    size_t len;
};

/* How far the log had grown when an index was applied; see replica_snapshot.c. */
struct log_point {
    uint64_t index, bytes;
};
#define REPLICA_LOG_POINTS 32u

enum replica_take_state {
    TAKE_IDLE,
    TAKE_EMITTING, /* the cut is fixed, its stream goes into a file */
    TAKE_WRITING,  /* the stream is complete, the file is not */
    TAKE_WRITTEN   /* durable; waits until the log here reaches its index */
};

/* A snapshot being taken, and what decides about the next one. */
struct replica_take {
    enum replica_take_state state;
    void *cut;
    struct snapshot_writer *writer;
    uint64_t index, term, time_ms;
    uint64_t digest;
    uint64_t log_bytes; /* at the cut */
    struct replica_configuration configuration;
    uint64_t content_bytes, file_bytes;
    uint64_t start_us, slice_next_us;
    uint8_t *rest; /* emitted and not taken by the writer yet */
    size_t rest_at, rest_len;
    struct replica_snapshot_request *requests; /* that it serves */
    struct env_timer timer;

    struct replica_snapshot_request *waiting; /* for the next one */
    uint64_t retry_us;                        /* after a failure */
    uint64_t last_us;                         /* when the last one was finished, or this life began */
    uint64_t taken, failed, took_us, slice_max_us;
};

/* Whose turn it is to write a snapshot: replica_turns.c. */
struct replica_turns {
    enum snapshot_turn told; /* by the leader, or by itself */
    bool due;                /* one is, by the log's size or by age, and is not begun yet ... */
    uint64_t due_us;         /* ... since this instant */
    bool was_put_off;        /* ... and waits for another member's */
    bool unsaid;             /* one was begun, and no echo has said so yet */
    uint64_t put_off, overdue;
    /* Leader. */
    uint64_t holder; /* of the turn, 0: nobody */
    uint64_t served, own_served;
    uint64_t lead_us; /* when it began to lead */
};

/* The feature level of the configuration entry at `index`. */
struct replica_feature {
    uint64_t index;
    uint32_t level;
};

/* What a node's newest hello said. */
struct replica_supports {
    uint64_t id;
    uint32_t level;
};

/* A server that this leader has removed, and is to be told so. */
struct replica_departed {
    uint64_t id, index, until_us; /* index: of the configuration without it */
};

struct replica {
    struct env *env;
    struct replica_config config;
    struct raft core;
    bool core_open, started, dead;

    struct slots *slots;
    struct slots_state state;
    bool state_is_new; /* made by this start: the directory was empty */
    struct wal *wal;
    struct log_tail tail;
    uint64_t stored;      /* highest index reported to the core as persisted */
    uint64_t unannounced; /* newest entry held that fsm->received was not told of: recovered, or proposed here */
    uint64_t commit, applied;
    uint64_t exposed;      /* what may be shown: applied follows it */
    uint64_t exposed_seen; /* follower: as told by leaders */
    struct lease lease;
    struct grant grant;
    struct drift leader_drift; /* follower: of the leader's clock against ours */
    uint64_t start_us;
    uint64_t heard_us;                          /* last AppendEntries of the current leader */
    uint64_t vote_guard_us;                     /* no vote request is heard before this instant ... */
    uint64_t stand_guard_us;                    /* ... and no election started */
    uint64_t timeout_now_term;                  /* term of the last TimeoutNow taken, 0: none */
    struct env_timer send_timer;                /* large entries that wait for the next turn */
    bool large_done;                            /* this turn has copied one */
    struct env_timer lease_timer;               /* exposure, transfer */
    uint64_t lease_timer_at;                    /* what it is set for, UINT64_MAX: not set */
    uint64_t transfer_to, transfer_deadline_us; /* transfer being prepared; deadline 0: none */
    bool transfer_ready; /* no grant is out: nothing more is proposed, what is in flight finishes */
    uint64_t fresh_us;   /* replica_fresh_us */
    uint64_t fresh_next_us, fresh_next_index; /* becomes fresh_us once that index is applied */
    uint64_t pulled;                          /* newest index asked for */
    uint64_t transfers;
    int lease_told; /* enum lease_off logged last */
    uint64_t applied_term;

    /* Snapshots; unused if the state machine has none. */
    struct snapshot_dir *snapshots;
    struct replica_snapshot_info snapshot;   /* the newest: the core knows it */
    uint64_t log_start;                      /* first entry that the core still has; the WAL may have earlier ones */
    uint64_t log_hold;                       /* what a snapshot in transfer needs: above this nothing is dropped */
    uint64_t log_covered;                    /* up to here the newest snapshot lets the log go, but for holds */
    struct replica_configuration configured; /* newest one applied */
    uint64_t log_bytes;                      /* applied in this life, and the same at the newest snapshot's index */
    uint64_t log_bytes_snapshot;
    struct log_point log_points[REPLICA_LOG_POINTS];
    unsigned n_log_points;
    struct replica_take take;
    struct replica_turns turns;
    struct replica_load *load; /* at start */
    uint64_t load_told_us;
    bool loading;
    struct replay replay;

    /* From node to node: replica_transfer.h. */
    struct shipping shipping;
    uint64_t entry_wanted; /* a snapshot of this entry or a later one is wanted, 0: none; there may be no such entry */
    struct fetch fetch;
    struct install install;

    struct env_timer timer;
    struct cluster_clock clock;

    /* Apply from disk, after a restart. */
    struct wal_read apply_read;
    bool apply_reading;

    struct replica_peer peers[REPLICA_PEERS_MAX]; /* all servers of the newest configuration but this one */
    unsigned n_peers;
    unsigned n_voters;
    bool is_voter;
    struct replica_link {
        uint64_t id;
        bool connected;
    } links[REPLICA_PEERS_MAX]; /* as last told: a link may come up before its server is known here */
    unsigned n_links;
    struct replica_server servers[REPLICA_SERVERS_MAX]; /* the newest configuration */
    unsigned n_servers;
    uint64_t next_id;

    struct replica_feature features[2]; /* of the newest configuration in the log, and of the one before it */
    uint32_t feature_max;
    struct replica_supports supports[REPLICA_PEERS_MAX];
    unsigned next_support;

    struct replica_departed departed[REPLICA_SERVERS_MAX];
    unsigned n_departed;
    bool removed;            /* this node was, see replica_removed.c */
    uint64_t removed_leader; /* whom commands are passed on to, 0: nobody any more ... */
    uint64_t removed_us;     /* ... from this instant on for the grace */

    int role_seen; /* core.state at the end of the last step */
    uint64_t term_seen;
    struct replica_told {
        int role;
        uint64_t term, leader;
    } told;                    /* what the owner was told last */
    uint64_t term_start_index; /* leader: index of the first entry of this term, 0 until it exists */
    uint64_t last_stamp;       /* newest stamp given out */
    uint64_t inflight_bytes;

    struct replica_read *reads, *reads_tail; /* oldest first */
    uint64_t round_stamp;                    /* of the PING round under way, 0: none */
    uint64_t round_us;

    struct digest_point digests[REPLICA_DIGEST_KEPT];
    unsigned digest_next;
    struct replica_digest_watch *digest_watches;
    struct replica_quarantine quarantine;
    struct rebuild rebuild;
    uint64_t agreed_index;      /* leader: newest at which a majority holds what this node does */
    uint64_t dispute_index;     /* leader: digests differ there without a majority; 0: none does */
    uint64_t disputed_until_us; /* follower: the leader says so */

    bool settling, settle_again;
    uint64_t updates_with_entries; /* tells whether a step kept the entries it was given */
    uint64_t no_room;              /* APPENDs taken as heartbeats because the disk is full */

    /* Scratch for frames. */
    struct message_entry entries[MESSAGE_ENTRIES_MAX];
    struct raft_entry raft_entries[MESSAGE_ENTRIES_MAX];
    uint8_t table[MESSAGE_ENTRIES_MAX * MESSAGE_ENTRY_HEAD];
    struct iovec pieces[2 + 2 * MESSAGE_ENTRIES_MAX];

    uint64_t entries_proposed, elections, reads_confirmed, read_rounds, frames_sent, frames_dropped, frames_received;
    uint64_t digest_mismatches;
};

/* Where the data of entries in an update comes from. */
enum replica_source {
    REPLICA_FROM_FRAME,  /* borrowed from a frame: copy */
    REPLICA_FROM_CALLER, /* malloc'd: take */
};

#define REPLICA_ADVICE_REPORT "report this with the log of this node"

/* replica.c */
void replica_refresh_servers(struct replica *r);
void replica_proposals_unknown(struct replica *r, uint64_t index); /* of our entries from `index` on */
void replica_timer_cb(struct env_timer *timer);
void replica_persisted_cb(void *ctx, uint64_t index, uint64_t term);
void replica_failed_cb(void *ctx, enum env_status status);
int replica_step(struct replica *r, struct raft_event *event, enum replica_source source);
void replica_settle(struct replica *r);
void replica_fail_stop(struct replica *r, const char *what, const char *advice);
void replica_log(struct replica *r, int level, const char *format, ...) __attribute__((format(printf, 3, 4)));
struct replica_peer *replica_peer_by_id(struct replica *r, uint64_t id);
struct replica_peer *replica_peer_add(struct replica *r, uint64_t id); /* NULL: no place */
/* In quarantine: replica_digest.c. */
static inline bool replica_is_fenced(const struct replica *r)
{
    return r->quarantine.index != 0 && !PLANT(PLANT_NO_QUARANTINE);
}
static inline uint64_t replica_current_leader(const struct replica *r)
{
    if (!r->started) {
        return 0;
    }
    if (r->removed) {
        return r->removed_leader;
    }
    if (r->core.state == RAFT_LEADER) {
        return replica_is_fenced(r) ? 0 : r->config.id; /* it hands over, and executes nothing */
    }
    return r->core.state == RAFT_FOLLOWER ? r->core.follower_state.current_leader.id : 0;
}
static inline bool replica_leads(const struct replica *r)
{
    return r->started && r->core.state == RAFT_LEADER;
}

/* replica_lease.c */
uint64_t replica_received(const struct replica *r); /* own log agrees with the current leader's up to here */
void replica_lease_members(struct replica *r);
/* What to tell a peer of its newest echo, sent at its instant `newest`: an instant such that everything acknowledged
 * before it is exposed here; 0: none is certain. */
uint64_t replica_fresh_instant(struct replica *r, struct replica_peer *peer, uint64_t newest, uint64_t now_us);
void replica_lease_settle(struct replica *r); /* exposure, freshness, pulls, transfer */
void replica_lease_receive(struct replica *r, const struct replica_peer *peer, const struct message_append *append);
void replica_lease_watch(struct replica *r); /* log why the lease is off */
void replica_lease_timer_cb(struct env_timer *timer);
void replica_lease_info(struct replica *r, uint64_t now_us, struct replica_info *info);

/* replica_info.c */
bool replica_is_ready(const struct replica *r); /* as replica_is_leader, also in quarantine */

/* replica_change.c */
/* Gives malloc'd *data. */
enum replica_status replica_configuration_encode(const struct replica_server *servers, unsigned n,
                                                 const struct configuration_settings *settings, void **data,
                                                 size_t *len);

enum replica_status replica_change_submit(struct replica *r, const struct replica_server *servers, unsigned n,
                                          const struct configuration_settings *settings, const char **why);

/* replica_feature.c */
void replica_feature_note(struct replica *r, uint64_t index, uint32_t level); /* a configuration joins the log */
void replica_feature_truncate(struct replica *r, uint64_t index);             /* the log is cut from there on */
bool replica_feature_check(struct replica *r, uint32_t level); /* false: not understood, this node has stopped */

/* replica_removed.c */
void replica_departs(struct replica *r, uint64_t id); /* leader: it is not in the newest configuration any more */
void replica_departed_tell(struct replica *r);
void replica_removed_receive(struct replica *r, uint64_t leader, uint64_t index);
void replica_removed_timer(struct replica *r);
void replica_removed_unlinked(struct replica *r, uint64_t id);

/* replica_open.c */
struct configuration_settings replica_own_settings(const struct replica *r);
void replica_start_core(struct replica *r);
/* The second half of opening: `snapshot` is loaded, or there is none. */
enum replica_status replica_open_log(struct replica *r, const char **error);
enum replica_status replica_open_fail(const char **error, enum replica_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* replica_load.c: see its header. replica_restore.c: the start from a snapshot. */
enum replica_status replica_restore(struct replica *r, const char **error); /* `loading` if it goes on */
void replica_restore_turn(struct replica *r);
void replica_restore_close(struct replica *r);

/* replica_replay.c */
void replica_replay_opened(struct replica *r);
void replica_replay_applied(struct replica *r, size_t len); /* the entry `applied` was */
void replica_replay_turn(struct replica *r);
void replica_replay_over(struct replica *r); /* what was to be replayed is here in another way */
void replica_replay_info(const struct replica *r, struct replica_loading_info *info);

/* replica_snapshot.c */
enum replica_status replica_snapshot_open(struct replica *r);
void replica_snapshot_close(struct replica *r);
void replica_snapshot_turn(struct replica *r);
/* The log is open, and nothing in it was applied yet. */
void replica_snapshot_log_opened(struct replica *r);
/* An entry was applied. */
void replica_snapshot_applied(struct replica *r, size_t len);
/* Give up the one that is being taken; requests wait for the next. Before a snapshot is installed: what is written is
 * of the content before it. */
void replica_snapshot_abandon(struct replica *r);
void replica_snapshot_refuse(
    struct replica *r); /* ... and those who wait for one are told: this node is in quarantine */
/* The content is now that of this snapshot, which is in the directory: remember it and its configuration, count anew.
 */
bool replica_snapshot_installed(struct replica *r, const struct snapshot_meta *meta, uint64_t file_bytes);
/* ... and tell the core, which knows no newer one; the log stays as it is. False: this node has stopped. */
bool replica_snapshot_adopt(struct replica *r, const struct snapshot_meta *meta, uint64_t file_bytes);
/* Remember a copy of a configuration entry that is applied. False: out of memory. */
bool replica_snapshot_configured(struct replica *r, uint64_t index, const void *data, size_t len);
void replica_snapshot_info(const struct replica *r, struct replica_info *info);

/* replica_turns.c */
/* Once per loop turn: shall a snapshot be begun? */
bool replica_turns_may_begin(struct replica *r, uint64_t now_us);
void replica_turns_report(struct replica *r, struct message_echo *echo);   /* what the leader has to know */
void replica_turns_told(struct replica *r, enum snapshot_turn turn);       /* by the leader */
enum snapshot_turn replica_turns_of(const struct replica *r, uint64_t id); /* leader: what to tell a member */
void replica_turns_heard(struct replica *r, struct replica_peer *peer, const struct message_echo *echo);
void replica_turns_unlinked(struct replica_peer *peer);
void replica_turns_lead_begins(struct replica *r);
void replica_turns_info(const struct replica *r, struct replica_info *info);

/* replica_send.c */
/* An empty APPEND right now, after an entry that the peer has received. */
void replica_send_heartbeat(struct replica *r, struct replica_peer *peer, uint64_t prev_index);
void replica_send_core(struct replica *r, const struct raft_message *message);
/* The commit index has grown: send what had to wait for that. */
void replica_send_withheld(struct replica *r);
void replica_send_timer_cb(struct env_timer *timer);
bool replica_send(struct replica *r, struct replica_peer *peer, const struct message *message);
/* ... followed by the message's data, which is padded. */
bool replica_send_data(struct replica *r, struct replica_peer *peer, const struct message *message, const void *data,
                       uint32_t len);
void replica_peer_forget(struct replica_peer *peer); /* drop what was to be sent */
uint64_t replica_stamp(struct replica *r);

/* replica_apply.c */
void replica_apply_more(struct replica *r);

/* replica_digest.c */
void replica_digest_note(struct replica *r);                                      /* an entry was applied */
uint64_t replica_digest_at(const struct replica *r, uint64_t index, bool *known); /* if it is a checkpoint kept */
void replica_digest_reported(struct replica *r, struct replica_peer *peer, uint64_t index, uint64_t digest);
void replica_verdict_receive(struct replica *r, const struct message_verdict *verdict);
void replica_digest_lead_begins(struct replica *r);
void replica_digest_forget_peer(struct replica_peer *peer); /* it may be another life of it */
/* The content was replaced by a peer's, that of (index, term). */
void replica_digest_forget(struct replica *r, uint64_t index, uint64_t term);
void replica_quarantine_tick(struct replica *r);

/* replica_rebuild.c */
/* In quarantine now. Gives what that means for the operator. */
const char *replica_rebuild_begin(struct replica *r);
void replica_rebuild_settle(struct replica *r);
/* Would a snapshot of this index, which the log has already, replace the content? */
bool replica_rebuild_wants(const struct replica *r, uint64_t index);
bool replica_rebuild_is_due(const struct replica *r, uint64_t index); /* ... one that was fetched */
/* Is the log where the content of (index, term) can take its place? If not yet, it soon is. */
bool replica_rebuild_may_switch(const struct replica *r, uint64_t index, uint64_t term);
/* Takes the load, that of a snapshot in the directory. False: this node has stopped. */
bool replica_rebuild_switch(struct replica *r, void *load, const struct snapshot_meta *meta, uint64_t file_bytes);
/* The content was replaced by that of (index, term): out of quarantine. */
void replica_rebuild_done(struct replica *r, uint64_t index, uint64_t term);
const char *replica_rebuild_state(const struct replica *r);

/* replica_recv.c */
/* Are these settings of a configuration the ones that this node runs with? */
bool replica_same_settings(const struct replica *r, const struct configuration_settings *settings);

/* replica_export.c */
void replica_digest_watched(struct replica *r); /* after an entry was applied, while there are watches */

/* replica_read.c */
/* The stamp that a majority of voters, this one included, has echoed or passed; UINT64_MAX for a sole voter. */
uint64_t replica_quorum_stamp(const struct replica *r);
void replica_reads_settle(struct replica *r);
void replica_reads_fail(struct replica *r);
void replica_reads_turn_end(struct replica *r);

#endif
